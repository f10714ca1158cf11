//! Any text as a size that a claim or a snapshot names: no panic, as many bytes as the API server reads, and what is written can be read.

use api::contract::quantity::Quantity;
use client::quantity;

pub fn run(text: &str) {
    let Ok(asked) = serde_json::from_value(text.into()) else { return };
    let Some(bytes) = quantity::bytes(&asked) else { return };
    assert_eq!(quantity::bytes(&quantity::of(bytes)), Some(bytes));
    let server = Quantity::parse(text.trim()).expect("the server reads it, too");
    // A binary one ends at -(2^63 - 1) there.
    assert_eq!(bytes.max(-i64::MAX), server.value().max(-i64::MAX), "{text:?}");
}
