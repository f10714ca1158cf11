//! What a real kube-apiserver answered to requests good and bad, asked of ours (`recorded.json` says by which one, and what
//! was there before).
//!
//! Answers have to be equal but for generated names, uids, times and versions. Those that are not are in
//! `differences.rs`, each with its reason; a difference that is not there, and one there that is none, fail the test.

#![allow(clippy::unwrap_used, reason = "a test")]

mod compare;
mod differences;
mod rig;

use serde_json::Value;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_those_of_kubernetes() {
    let recorded: Value = serde_json::from_str(include_str!("recorded.json")).unwrap();
    let rig = rig::Rig::start().await;
    let mut different = Vec::new();
    let cases = recorded["cases"].as_array().unwrap();
    for case in cases {
        let what = case["what"].as_str().unwrap();
        let answer = rig.ask(&case["request"]).await;
        if let Some(difference) = compare::difference(case, &answer) {
            different.push((what, difference));
        }
    }
    let known = |what: &str| differences::KNOWN.iter().find(|(known, _)| *known == what).map(|(_, why)| *why);
    println!("{} of {} answers are equal", cases.len() - different.len(), cases.len());
    for (what, difference) in &different {
        let reason = known(what).unwrap_or("NOT EXPECTED");
        println!("\n{what}\n  {difference}\n  reason: {reason}");
    }
    let news: Vec<&str> =
        different.iter().map(|(what, _)| *what).filter(|what| known(what).is_none()).collect();
    let gone: Vec<&str> = differences::KNOWN
        .iter()
        .map(|(what, _)| *what)
        .filter(|known| !different.iter().any(|(what, _)| what == known))
        .collect();
    assert!(news.is_empty(), "answers that differ: {news:#?}");
    assert!(gone.is_empty(), "differences that are none any more: {gone:#?}");
}
