//! An expression and on the line after it the value that it is about: reading, checking and evaluating end, without a panic.

use serde_json::Value;

pub fn run(bytes: &[u8]) {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let Ok(source) = std::str::from_utf8(lines.next().unwrap_or_default()) else { return };
    let own = serde_json::from_slice::<Value>(lines.next().unwrap_or_default()).unwrap_or(Value::Null);
    let first = api::cel::evaluate(source, &own);
    assert_eq!(first, api::cel::evaluate(source, &own), "the same expression has the same value");
}
