//! Any bytes as a `config.json`: no panic, short messages, and what is accepted survives the round trip.

use oci_runtime::contract::{parse, validate, warnings};

pub fn run(bytes: &[u8]) {
    let spec = match parse(bytes) {
        Ok(spec) => spec,
        Err(error) => {
            assert!(error.field().chars().count() <= 256);
            return;
        }
    };
    if let Err(error) = validate(&spec) {
        assert!(!error.field().is_empty());
    }
    let _ = warnings(&spec);
    let written = serde_json::to_vec(&spec).expect("a configuration is JSON");
    assert_eq!(parse(&written).expect("it was written by us"), spec);
}
