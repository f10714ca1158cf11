//! Objects of a Kubernetes API server, this instance's or any other's, as the command line asks for them.
//!
//! Nothing here knows a kind by heart that discovery tells of: what a kind is called, where its objects are and how a list of them is
//! shown is the server's word.

mod age;
pub(crate) mod apply;
mod call;
pub(crate) mod documents;
mod kinds;
mod labels;
mod named;
pub(crate) mod pod;
pub(crate) mod ready;
mod server;

pub(crate) use age::{age, asked_to_end};
pub(crate) use call::{Call, JSON, Refused, TABLE};
pub(crate) use kinds::{Kind, Kinds};
pub(crate) use labels::selector;
pub(crate) use named::{Named, named};
pub(crate) use server::Server;

use serde_json::Value;

/// As it may stand on a terminal, in one line: what others have written must not move the cursor, or colour what stands behind.
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{1b}' => out.push_str("^["),
            c if c.is_control() && c != '\t' => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// What is at a JSON pointer, as text; nothing where there is none.
pub(crate) fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// What is at a JSON pointer, as a list; an empty one where there is none.
pub(crate) fn list<'v>(object: &'v Value, pointer: &str) -> &'v [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What is at a JSON pointer, as a number; 0 where there is none, as Kubernetes has it.
pub(crate) fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

/// The condition of this type.
pub(crate) fn condition<'v>(object: &'v Value, kind: &str) -> Option<&'v Value> {
    list(object, "/status/conditions").iter().find(|one| text(one, "/type") == kind)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_others_have_written_moves_no_cursor() {
        assert_eq!(super::shown("a\tb\u{1b}[2J\nc\rd\u{9b}ü"), "a\tb^[[2J\\nc\\rd\\u{9b}ü");
    }
}
