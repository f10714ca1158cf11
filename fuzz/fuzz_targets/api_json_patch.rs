//! JSON patches that fit: the bytes choose operations, paths of few names and values, so that most operations find what they
//! are about. No panic; what comes of a patch is no deeper than a body may be, and tests as itself.

use api::merge::json_patch;
use serde_json::{Value, json};

/// Bodies may be so deep.
const DEEP: usize = 100;

struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn next(&mut self) -> usize {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(first)
    }

    fn of<'t>(&mut self, all: &[&'t str]) -> &'t str {
        all[self.next() % all.len()]
    }

    fn path(&mut self) -> String {
        let names = ["a", "b", "0", "1", "-", "~0", "~1", "", "01", "é"];
        let mut path = String::new();
        for _ in 0..self.next() % 6 {
            path.push('/');
            path.push_str(self.of(&names));
        }
        path
    }

    fn value(&mut self) -> Value {
        match self.next() % 8 {
            0 => Value::Null,
            1 => json!(self.next()),
            2 => json!({}),
            3 => json!([]),
            4 => json!({"a": [{"b": {}}], "b": [], "~": 1, "/": 2}),
            5 => json!([[0, 1], {"a": {"a": {}}}]),
            6 => nested(self.next() % (DEEP + 20)),
            _ => json!("x".repeat(self.next() * 16)),
        }
    }
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(
        json!(1),
        |inner, level| if level.is_multiple_of(2) { json!([inner]) } else { json!({"a": inner}) },
    )
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

pub fn run(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let mut document =
        json!({"a": {"a": [], "b": {"a": [1, {"b": 2}]}}, "b": [0, {"a": 1}, [2]], "~": {}, "/": []});
    let mut patch = Vec::new();
    while !choices.0.is_empty() && patch.len() < 64 {
        let mut operation = json!({
            "op": choices.of(&["add", "remove", "replace", "move", "copy", "test", "copy", "add", "none"]),
            "path": choices.path(),
        });
        match operation["op"].as_str() {
            Some("move" | "copy") => operation["from"] = choices.path().into(),
            Some("remove") => {}
            _ => operation["value"] = choices.value(),
        }
        // One at a time, so that one that does not fit does not stop the rest.
        let single = json!([operation.clone()]);
        if let Ok(next) = json_patch::apply(&document, &single) {
            assert!(depth(&next) <= DEEP, "{operation}");
            let tested =
                json_patch::apply(&next, &json!([{"op": "test", "path": "", "value": next.clone()}]));
            assert!(tested.is_ok_and(|tested| tested == next), "{operation}");
            // What a copy makes is copied again: the server does so from request to request only.
            if next.to_string().len() < 1 << 16 {
                document = next;
                patch.push(operation);
            }
        }
    }
    let begun = json!({"a": {"a": [], "b": {"a": [1, {"b": 2}]}}, "b": [0, {"a": 1}, [2]], "~": {}, "/": []});
    if let Ok(whole) = json_patch::apply(&begun, &Value::Array(patch)) {
        assert_eq!(whole, document, "at once it is the same as one by one");
    }
}
