//! Two nodes.

use std::time::Instant;

use serde_json::json;

use crate::ip;
use crate::lan::mac;
use crate::stand::{FOUR, SIX, Stand};

#[tokio::test]
async fn another_node_takes_over_from_who_is_cut_off_killed_or_has_no_endpoint() {
    let mut stand = Stand::new(2, 1).await;
    stand.services(0).await;
    stand.services(1).await;
    stand.expose("web", &[0, 1], json!({"externalTrafficPolicy": "Local"})).await;
    stand.assign("web", &[FOUR, SIX]).await;
    for address in [FOUR, SIX] {
        stand.until_told(2, address, |told| told.is_some()).await;
    }
    // Once both are heard it is node-1's, by the hash of name and address.
    let (at, other, first) = (1, 0, mac(1));
    stand.lan.until(ip(FOUR), |answer| answer == Some(first));
    let [of_first, of_other] = [at, other].map(|at| format!("node-{at} "));
    stand.until_told(2, FOUR, |told| told.is_some_and(|told| told.starts_with(&of_first))).await;

    // A cable is pulled.
    stand.lan.plug(at, false);
    let begun = Instant::now();
    stand.until_told(2, FOUR, |told| told.is_some_and(|told| told.starts_with(&of_other))).await;
    println!("a client is served by the other node {:?} after the cable was pulled", begun.elapsed());
    stand.until_told(2, SIX, |told| told.is_some_and(|told| told.starts_with(&of_other))).await;
    stand.lan.plug(at, true);
    stand.lan.until(ip(FOUR), |answer| answer == Some(first));
    stand.until_told(2, FOUR, |told| told.is_some_and(|told| told.starts_with(&of_first))).await;

    // The process is killed, and comes back.
    let process = format!("services-{at}");
    stand.rig.kill(&process);
    let begun = Instant::now();
    stand.lan.until(ip(FOUR), |answer| answer == Some(mac(other)));
    println!("the other node answers {:?} after the process was killed", begun.elapsed());
    stand.until_told(2, FOUR, |told| told.is_some_and(|told| told.starts_with(&of_other))).await;
    stand.again(at, &process);
    stand.lan.until(ip(FOUR), |answer| answer == Some(first));

    // It is told to end: nobody waits.
    assert_eq!(stand.rig.end(&process), Some(0));
    let begun = Instant::now();
    stand.lan.until(ip(FOUR), |answer| answer == Some(mac(other)));
    println!("the other node answers {:?} after the process has left", begun.elapsed());
    stand.again(at, &process);
    stand.lan.until(ip(FOUR), |answer| answer == Some(first));

    // With its endpoints goes the address.
    stand.move_to("web", &[other]).await;
    stand.lan.until(ip(FOUR), |answer| answer == Some(mac(other)));
    stand.until_told(2, FOUR, |told| told.is_some_and(|told| told.starts_with(&of_other))).await;
    stand.move_to("web", &[]).await;
    stand.lan.until(ip(FOUR), |answer| answer.is_none());
    stand.rig.event("web", "Announced", &format!("node node-{other}")).await;
}
