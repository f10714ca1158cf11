//! The store on disks that fail, and that lose their power.

mod disk;
mod faults;
mod power;

use super::{Document, Expect, Key, Write};

/// An object with a text of so many bytes.
fn put(name: u64, expect: Expect, text: u64, size: usize) -> Write {
    let json = format!(r#"{{"metadata":{{"resourceVersion":""}},"text":{text},"pad":"{:size$}"}}"#, "");
    let revision_at = json.find(r#""""#).unwrap() + 1;
    Write { key: key(name), expect, value: Some(Document { json: json.into(), revision_at }) }
}

fn key(name: u64) -> Key {
    Key { resource: "pods".into(), namespace: "a".into(), name: format!("n{name}") }
}

/// The text of an object.
fn text(json: &[u8]) -> u64 {
    let value: serde_json::Value = serde_json::from_slice(json).unwrap();
    value["text"].as_u64().unwrap()
}
