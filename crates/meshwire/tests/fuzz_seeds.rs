//! The fuzz targets of this crate over its seeds, and over seeds that were changed: what the fuzzer does for longer.

#![allow(unreachable_pub, reason = "what a target runs is public to the program that all targets are")]

use std::path::Path;

use meshwire::contract::v1::{FollowRequest, ReportRequest, SignRequest, Update};
use meshwire::contract::{Gathering, Validate, flows};
use proptest::prelude::*;
use prost::Message as _;

#[path = "../../../fuzz/fuzz_targets/mesh_metrics.rs"]
mod metrics;
#[path = "../../../fuzz/fuzz_targets/mesh_update.rs"]
mod update;

fn seed(name: &str) -> Vec<u8> {
    seed_of("mesh_update", name)
}

fn seed_of(target: &str, name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target).join(name);
    std::fs::read(&path).expect("it can be read")
}

const SEEDS: [&str; 5] = ["whole", "change", "part", "follow", "sign"];
const REPORTS: [&str; 4] = ["report", "nobody", "disorder", "empty"];

proptest! {
    #[test]
    fn reports_are_taken_or_refused(
        which in 0..REPORTS.len(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let mut bytes = seed_of("mesh_metrics", REPORTS[which]);
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        metrics::run(&bytes);
    }

    #[test]
    fn messages_are_taken_or_refused(
        which in 0..SEEDS.len(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let mut bytes = seed(SEEDS[which]);
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        update::run(&bytes);
    }
}

#[test]
fn seeds_are_what_they_are_for() {
    SEEDS.iter().for_each(|name| update::run(&seed(name)));
    let update = |name: &str| Update::decode(&*seed(name)).expect("it is an update");
    let whole = Gathering::default().take(update("whole")).expect("it can be read").expect("it is whole");
    assert!(whole.whole && whole.delta.set.len() == 1 && whole.roots.is_some());
    let change = Gathering::default().take(update("change")).expect("it can be read").expect("it is whole");
    assert_eq!(change.delta.removed.len(), 1);
    assert_eq!(Gathering::default().take(update("part")).expect("it can be read"), None);
    FollowRequest::decode(&*seed("follow")).expect("it is a request").validate().expect("it is valid");
    SignRequest::decode(&*seed("sign")).expect("it is a request").validate().expect("it is valid");
}

#[test]
fn reports_are_what_they_are_for() {
    REPORTS.iter().for_each(|name| metrics::run(&seed_of("mesh_metrics", name)));
    let report = |name: &str| ReportRequest::decode(&*seed_of("mesh_metrics", name)).expect("it is a report");
    for (name, count) in [("report", 2), ("nobody", 1), ("empty", 0)] {
        report(name).validate().expect("it is valid");
        assert_eq!(flows::flows(report(name)).len(), count, "{name}");
    }
    let refused = report("disorder").validate().expect_err("its parts are in no order");
    assert_eq!(refused.field.as_deref(), Some("flows[0].latencies"));
    let (_, requests) = flows::flows(report("report")).remove(0);
    assert_eq!((requests.successes, requests.failures, requests.latency.count()), (90, 2, 92));
}
