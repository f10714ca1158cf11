//! What the types' crate does not say, from text files.
//!
//! A line without indent names a type; below it, one line for each field: its name, and words. See
//! `src/schema/facts/README.md` for the words.

use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// What is known of one field.
#[derive(Clone, Debug, Default)]
pub(crate) struct Field {
    /// How Go writes it: `keep`, `omit`, `always` or `nonzero`; empty where the rule of the shape holds.
    pub(crate) presence: String,
    /// The Go type, as errors name it, where the rule of the shape does not give it.
    pub(crate) go: Option<String>,
    /// Members of the published schema: `default`, `enum`, `x-kubernetes-*`.
    pub(crate) members: Map<String, Value>,
}

/// All there is.
#[derive(Default)]
pub(crate) struct Facts {
    /// By type and field; of a type itself by the empty field name.
    fields: HashMap<(String, String), Field>,
    /// Definitions of types that the crate does not know.
    pub(crate) further: Map<String, Value>,
}

impl Facts {
    pub(crate) fn read(folder: &Path) -> Facts {
        let mut facts = Facts::default();
        let mut paths: Vec<_> = fs::read_dir(folder)
            .expect("the facts are there")
            .map(|entry| entry.expect("it is there").path())
            .collect();
        paths.sort();
        for path in paths {
            let text = || fs::read_to_string(&path).expect("the facts are text");
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("txt") => facts.lines(&text()),
                Some("json") => {
                    let value: Map<String, Value> = serde_json::from_str(&text())
                        .unwrap_or_else(|cause| panic!("cannot read {}: {cause}", path.display()));
                    facts.further.extend(value);
                }
                _ => {}
            }
        }
        facts
    }

    pub(crate) fn field(&self, kind: &str, field: &str) -> Option<&Field> {
        self.fields.get(&(kind.to_owned(), field.to_owned()))
    }

    fn lines(&mut self, text: &str) {
        let mut kind = "";
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            let mut words = line.split_ascii_whitespace();
            let first = words.next().expect("the line is not empty");
            let name = if line.starts_with(' ') {
                first
            } else {
                kind = first;
                ""
            };
            let mut field = Field::default();
            words.for_each(|word| field.learn(word));
            self.fields.insert((kind.to_owned(), name.to_owned()), field);
        }
    }
}

impl Field {
    fn learn(&mut self, word: &str) {
        let (word, argument) = word.split_once('=').unwrap_or((word, ""));
        let list = || Value::from(argument.split(',').collect::<Vec<_>>());
        let mut put = |name: &str, value: Value| {
            self.members.insert(name.to_owned(), value);
        };
        match word {
            "keep" | "omit" | "always" | "nonzero" => word.clone_into(&mut self.presence),
            "go" => self.go = Some(argument.to_owned()),
            "set" => put("x-kubernetes-list-type", "set".into()),
            "atomic" => put("x-kubernetes-list-type", "atomic".into()),
            "map" => {
                put("x-kubernetes-list-type", "map".into());
                put("x-kubernetes-list-map-keys", list());
            }
            "whole" => put("x-kubernetes-map-type", "atomic".into()),
            "strategy" => put("x-kubernetes-patch-strategy", argument.into()),
            "key" => put("x-kubernetes-patch-merge-key", argument.into()),
            "enum" => put("enum", list()),
            "default" => {
                put(
                    "default",
                    serde_json::from_str(argument).unwrap_or_else(|_| panic!("no JSON: {argument}")),
                );
            }
            "unions" => {
                put("x-kubernetes-unions", serde_json::from_str(argument).expect("unions are JSON"));
            }
            other => panic!("no word of the facts: {other}"),
        }
    }
}
