//! `sextant services --announce` and `sextant announce` beside `sextant api`: clients reach load balancers by addresses that nodes answer
//! for, whichever node or process is lost. Root.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../control/admit.rs"]
mod admit;
#[path = "../../../announce/tests/lan/mod.rs"]
mod lan;
mod nodes;
#[path = "../control/rig.rs"]
mod rig;
mod stand;
mod ways;

use std::net::IpAddr;
use std::time::Instant;

use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use admit::admit_to;
use k8s_openapi::api::core::v1::{Node, Service};
use lan::mac;
use stand::{FOUR, SIX, Stand};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn clients_reach_a_load_balancer_by_the_addresses_that_a_node_answers_for() {
    let mut stand = Stand::new(1, 2).await;
    stand.services(0).await;
    stand.expose("web", &[0], json!({})).await;
    let begun = Instant::now();
    stand.assign("web", &[FOUR, SIX]).await;
    println!("{FOUR} is answered for {:?} after its status was sent", stand.lan.answered(ip(FOUR)) - begun);
    for (address, other, last) in [(FOUR, "192.0.2.2", "192.0.2.3"), (SIX, "2001:db8::2", "2001:db8::3")] {
        stand.lan.until(ip(address), |answer| answer == Some(mac(0)));
        // Who has come is seen as who he is.
        for (client, seen) in [(1, other), (2, last)] {
            let words = format!("node-0 {seen}");
            stand.until_told(client, address, |told| told == Some(words.as_str())).await;
        }
        let words = format!("address {address} is answered for on link e0 by node node-0");
        stand.rig.event("web", "Announced", &words).await;
        // What no service has there is refused at once, and what one has is not.
        stand.until_refused(1, address, 81).await;
        stand.until_told(1, address, |told| told.is_some()).await;
    }

    // Not everybody may come.
    let ranges = ["192.0.2.3/32", "2001:db8::3/128"];
    stand.change("web", json!({"spec": {"loadBalancerSourceRanges": ranges}})).await;
    for address in [FOUR, SIX] {
        stand.until_told(1, address, |told| told.is_none()).await;
        stand.until_told(2, address, |told| told.is_some()).await;
    }
    stand.change("web", json!({"spec": {"loadBalancerSourceRanges": null}})).await;
    stand.until_told(1, FOUR, |told| told.is_some()).await;

    // The process is killed: the table works for who knows the way, and the next one answers again.
    stand.rig.kill("services-0");
    stand.until_told(1, FOUR, |told| told.is_some()).await;
    assert_eq!(stand.lan.asks(ip(FOUR)), None);
    stand.again(0, "services-0");
    for address in [FOUR, SIX] {
        stand.lan.until(ip(address), |answer| answer == Some(mac(0)));
        stand.until_told(1, address, |told| told.is_some()).await;
    }

    // A node that is excluded takes no part.
    let nodes: Api<Node> = Api::all(stand.rig.client.clone());
    let excluded = |value| {
        let labels = json!({"node.kubernetes.io/exclude-from-external-load-balancers": value});
        Patch::Merge(json!({"metadata": {"labels": labels}}))
    };
    nodes.patch("node-0", &PatchParams::default(), &excluded(json!(""))).await.unwrap();
    stand.lan.until(ip(FOUR), |answer| answer.is_none());
    nodes.patch("node-0", &PatchParams::default(), &excluded(json!(null))).await.unwrap();
    stand.lan.until(ip(FOUR), |answer| answer == Some(mac(0)));

    // What is of no pool, of another's class, or gone.
    stand.assign("web", &["192.0.2.13", SIX]).await;
    stand.lan.until(ip(FOUR), |answer| answer.is_none());
    assert_eq!(stand.lan.asks(ip("192.0.2.13")), None);
    stand.expose("classy", &[0], json!({"loadBalancerClass": "example.com/mine"})).await;
    stand.assign("classy", &["192.0.2.79"]).await;
    stand.expose("ours", &[0], json!({"loadBalancerClass": "metal.sextant.dev/announce"})).await;
    stand.assign("ours", &["192.0.2.80"]).await;
    stand.lan.until(ip("192.0.2.80"), |answer| answer == Some(mac(0)));
    assert_eq!(stand.lan.asks(ip("192.0.2.79")), None);
    let services: Api<Service> = stand.rig.objects_of("");
    services.delete("web", &DeleteParams::default()).await.unwrap();
    stand.lan.until(ip(SIX), |answer| answer.is_none());
    stand.until_told(1, SIX, |told| told.is_none()).await;

    // Nothing is left after its end.
    assert_eq!(stand.rig.end("services-0"), Some(0), "{}", stand.rig.words("services-0"));
    assert_eq!(stand.lan.asks(ip("192.0.2.80")), None);
    stand.start(0, "remove", &["services", "--remove"]);
    assert_eq!(stand.rig.wait("remove").await, Some(0), "{}", stand.rig.words("remove"));
    assert_eq!(stand.tables(0), "");
}

#[tokio::test]
async fn a_service_gets_its_address_from_the_provider_and_is_reached_by_it() {
    let mut stand = Stand::new(1, 1).await;
    let file = stand.file();
    std::fs::write(&file, format!("pools: [{{name: lan, addresses: [{FOUR}]}}]")).unwrap();
    stand.services(0).await;
    stand.rig.control(&["--cloud-provider", "metal", "--cloud-config", &file]);
    stand.rig.words_have("control", "has cloud provider metal").await;
    let begun = Instant::now();
    stand.expose("web", &[0], json!({})).await;
    println!("{FOUR} is answered for {:?} after its service was sent", stand.lan.answered(ip(FOUR)) - begun);
    stand.until_told(1, FOUR, |told| told == Some("node-0 192.0.2.2")).await;
    // Both processes are lost, and come back: nothing is given out anew, and it is answered for as before.
    stand.rig.kill("control");
    stand.rig.kill("services-0");
    stand.rig.again("control");
    stand.again(0, "services-0");
    stand.lan.until(ip(FOUR), |answer| answer == Some(mac(0)));
    stand.expose("late", &[0], json!({})).await;
    stand.rig.event("late", "SyncLoadBalancerFailed", "pool").await;
    let services: Api<Service> = stand.rig.objects_of("");
    // The next one has it as soon as the first gives it back.
    services.delete("web", &DeleteParams::default()).await.unwrap();
    let has_it = async |_: &rig::Rig| {
        let ingress = services.get("late").await.ok()?.status?.load_balancer?.ingress?;
        ingress.iter().any(|one| one.ip.as_deref() == Some(FOUR)).then_some(())
    };
    stand.rig.until("late has the address", has_it).await;
    stand.lan.until(ip(FOUR), |answer| answer == Some(mac(0)));
    stand.until_told(1, FOUR, |told| told == Some("node-0 192.0.2.2")).await;
    services.delete("late", &DeleteParams::default()).await.unwrap();
    stand.lan.until(ip(FOUR), |answer| answer.is_none());
}

#[tokio::test]
async fn an_address_that_a_foreign_host_has_is_left_to_it_and_people_are_told() {
    let mut stand = Stand::new(1, 3).await;
    stand.lan.own(1, ip("192.0.2.78"), true);
    stand.services(0).await;
    stand.expose("web", &[0], json!({})).await;
    stand.assign("web", &["192.0.2.78", FOUR]).await;
    let words = "host 02:00:00:00:00:01, which is no node of this cluster, has it";
    stand.rig.event("web", "AnnounceContested", words).await;
    stand.lan.until(ip("192.0.2.78"), |answer| answer == Some(mac(1)));
    stand.lan.until(ip(FOUR), |answer| answer == Some(mac(0)));
}

#[tokio::test]
async fn beside_another_proxy_addresses_are_answered_for_and_nothing_else_is_done() {
    let mut stand = Stand::new(1, 1).await;
    let file = stand.file();
    stand.start(0, "wrong", &["announce", "/nowhere/cloud.yaml"]);
    assert_eq!(stand.rig.wait("wrong").await, Some(1));
    assert!(
        stand.rig.words("wrong").contains("cannot read /nowhere/cloud.yaml"),
        "{}",
        stand.rig.words("wrong")
    );
    stand.expose("web", &[0], json!({})).await;
    stand.assign("web", &[FOUR, SIX]).await;
    // With the rights of the example, and no others.
    admit_to(&stand.rig, "announce.yaml", "sextant-announce").await;
    let kubeconfig = stand.rig.path("kubeconfig").to_str().unwrap().to_owned();
    let words = ["announce", &file, "--node", "node-0", "--kubeconfig", &kubeconfig];
    stand.start(0, "announce", &words);
    for address in [FOUR, SIX] {
        stand.lan.until(ip(address), |answer| answer == Some(mac(0)));
    }
    stand.rig.event("web", "Announced", SIX).await;
    assert_eq!(stand.tables(0), "");
    // The file may change while it runs; one that is wrong changes nothing.
    std::fs::write(&file, "pools: [{name: lan, addresses: [192.0.2.1-192.0.2.0]}]").unwrap();
    stand.rig.words_have("announce", "goes backwards").await;
    stand.lan.until(ip(FOUR), |answer| answer == Some(mac(0)));
    std::fs::write(&file, "pools: [{name: lan, addresses: ['2001:db8::77']}]").unwrap();
    stand.lan.until(ip(FOUR), |answer| answer.is_none());
    stand.lan.until(ip(SIX), |answer| answer == Some(mac(0)));
    // A link that there is not.
    std::fs::write(&file, "pools: [{name: lan, addresses: ['2001:db8::77'], links: [e7]}]").unwrap();
    stand.rig.event("web", "AnnounceFailed", "no link that is up is for it; see the links of pool lan").await;
    assert_eq!(stand.lan.asks(ip(SIX)), None);
    std::fs::write(&file, "pools: [{name: lan, addresses: ['2001:db8::77'], links: [e0, e7]}]").unwrap();
    stand.lan.until(ip(SIX), |answer| answer == Some(mac(0)));
    assert_eq!(stand.rig.end("announce"), Some(0), "{}", stand.rig.words("announce"));
    assert_eq!(stand.lan.asks(ip(SIX)), None);
    assert!(!stand.rig.words("announce").contains("forbidden"), "{}", stand.rig.words("announce"));
}
