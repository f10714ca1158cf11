//! The fuzz target of this crate over its seeds, and over seeds that were changed: what the fuzzer does for longer.

#![allow(unreachable_pub, reason = "what a target runs is public to the program that all targets are")]

use std::path::Path;

use meshwire::contract::v1::{FollowRequest, SignRequest, Update};
use meshwire::contract::{Gathering, Validate};
use proptest::prelude::*;
use prost::Message as _;

#[path = "../../../fuzz/fuzz_targets/mesh_update.rs"]
mod update;

fn seed(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/mesh_update").join(name);
    std::fs::read(&path).expect("it can be read")
}

const SEEDS: [&str; 5] = ["whole", "change", "part", "follow", "sign"];

proptest! {
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
