//! The fuzz targets of this crate over their seeds, and over seeds that were cut, joined and changed: what the fuzzer does for longer.

#![allow(unreachable_pub, reason = "what a target runs is public to the program that all targets are")]

use std::path::Path;

use proptest::prelude::*;

#[path = "../../../fuzz/fuzz_targets/smi_delta.rs"]
mod delta;
#[path = "../../../fuzz/fuzz_targets/smi_objects.rs"]
mod objects;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let entries = std::fs::read_dir(&folder).expect("it has seeds");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths.iter().map(|path| std::fs::read(path).expect("it can be read")).collect()
}

/// What is done to a seed: at which place, what, with which byte or word.
type Edit = (prop::sample::Index, u8, u8);

const WORDS: &[&str] = &[
    "null",
    "[]",
    "{}",
    "-1",
    "1e9",
    "\"\"",
    "\"(\"",
    "true",
    "0",
    "65536",
    "\"*\"",
    "\"a/b\"",
    "[null]",
    "\"\\u0000\"",
];

fn edited(mut seed: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for (place, what, byte) in edits {
        if seed.is_empty() {
            return seed;
        }
        let at = place.index(seed.len());
        match what % 4 {
            0 => seed[at] = *byte,
            1 => {
                seed.remove(at);
            }
            // A value that may still be JSON, in place of the next one.
            _ => {
                let word = WORDS[usize::from(*byte) % WORDS.len()];
                let Some(start) = seed[at..].iter().position(|byte| *byte == b':').map(|n| at + n + 1) else {
                    continue;
                };
                let mut values =
                    serde_json::Deserializer::from_slice(&seed[start..]).into_iter::<serde_json::Value>();
                let Some(Ok(_)) = values.next() else { continue };
                let end = start + values.byte_offset();
                seed.splice(start..end, word.bytes());
            }
        }
    }
    seed
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    prop::collection::vec(any::<Edit>(), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn objects_are_read_or_refused(seed in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(), edits in edits()) {
        let seeds = seeds("smi_objects");
        let mut input = edited(seeds[seed.index(seeds.len())].clone(), &edits);
        input.extend(&seeds[other.index(seeds.len())]);
        objects::run(&String::from_utf8_lossy(&input));
    }

    #[test]
    fn deltas_are_taken_or_refused(seed in any::<prop::sample::Index>(), edits in edits()) {
        let seeds = seeds("smi_delta");
        delta::run(&edited(seeds[seed.index(seeds.len())].clone(), &edits));
    }
}

#[test]
fn seeds_are_what_they_are_for() {
    for seed in seeds("smi_objects") {
        let text = String::from_utf8(seed).expect("it is text");
        for line in text.lines() {
            let mut value: serde_json::Value = serde_json::from_str(line).expect("it is JSON");
            value["metadata"] = serde_json::json!({"name": "a", "namespace": "a"});
            smi::contract::read(&value).expect("it is an object");
        }
        objects::run(&text);
    }
    for seed in seeds("smi_delta") {
        let delta: smi::model::Delta = serde_json::from_slice(&seed).expect("it is a delta");
        assert!(!delta.is_empty());
        delta::run(&seed);
    }
}
