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
    /// How Go writes it, a word of [`PRESENCES`]; empty where the rule of the shape holds.
    pub(crate) presence: String,
    /// The structs that Go embeds the field in, joined by dots.
    pub(crate) within: Option<String>,
    /// The Go type, as errors name it, where the rule of the shape does not give it.
    pub(crate) go: Option<String>,
    /// What values the items of a list or the values of a map take, where they are few.
    pub(crate) below: Option<Value>,
    /// It is not required, though the crate says so.
    pub(crate) optional: bool,
    /// It is required, though the crate does not say so, or it is the metadata of an object.
    pub(crate) required: bool,
    /// Of a type: it has `apiVersion` and `kind` by Go's `TypeMeta`.
    pub(crate) typed: bool,
    /// Members of the published schema: `default`, `enum`, `x-kubernetes-*`.
    pub(crate) members: Map<String, Value>,
}

/// In the order of `schema::builtin`.
pub(crate) const PRESENCES: [&str; 5] = ["keep", "omit", "always", "nonzero", "null"];

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
        facts.same_types(".groupsnapshot.v1beta2.", ".groupsnapshot.v1.");
        facts
    }

    /// Tells the types of one version in another, which has the same.
    fn same_types(&mut self, version: &str, other: &str) {
        let of_version = self.further.iter().filter(|(name, _)| name.contains(version));
        let further: Vec<_> = of_version
            .map(|(name, definition)| {
                let told = definition.to_string().replace(version, other);
                (name.replace(version, other), serde_json::from_str(&told).expect("it was JSON"))
            })
            .collect();
        self.further.extend(further);
    }

    pub(crate) fn field(&self, kind: &str, field: &str) -> Option<&Field> {
        self.fields.get(&(kind.to_owned(), field.to_owned()))
    }

    /// What becomes of the zero value of a field of `kind`: what is written, or else the rule of its schema.
    pub(crate) fn presence(&self, kind: &str, field: &str, schema: &Value, required: bool) -> &str {
        if let Some(known) = self.field(kind, field)
            && !known.presence.is_empty()
        {
            return &known.presence;
        }
        let typed = self.field(kind, "").is_some_and(|known| known.typed);
        if required || (typed && field == "metadata") {
            return "always";
        }
        match schema["type"].as_str() {
            Some("integer" | "boolean" | "number") | None => "keep",
            _ => "omit",
        }
    }

    /// The fields of `kind` that are required though the crate does not say so.
    pub(crate) fn required<'f>(&'f self, kind: &'f str) -> impl Iterator<Item = &'f str> {
        self.fields
            .iter()
            .filter(move |((of, _), known)| of == kind && known.required)
            .map(|((_, field), _)| field.as_str())
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
        // A tilde stands for a space.
        let list = || argument.split(',').map(|word| Value::from(word.replace('~', " "))).collect::<Value>();
        let mut put = |name: &str, value: Value| {
            self.members.insert(name.to_owned(), value);
        };
        match word {
            word if PRESENCES.contains(&word) => word.clone_into(&mut self.presence),
            "go" => self.go = Some(argument.to_owned()),
            "in" => self.within = Some(argument.to_owned()),
            "typed" => self.typed = true,
            "set" => put("x-kubernetes-list-type", "set".into()),
            "atomic" => put("x-kubernetes-list-type", "atomic".into()),
            "map" => {
                put("x-kubernetes-list-type", "map".into());
                put("x-kubernetes-list-map-keys", list());
            }
            "whole" => put("x-kubernetes-map-type", "atomic".into()),
            "granular" => put("x-kubernetes-map-type", "granular".into()),
            "strategy" => put("x-kubernetes-patch-strategy", argument.into()),
            "key" => put("x-kubernetes-patch-merge-key", argument.into()),
            "enum" => put("enum", list()),
            "items" | "values" => self.below = Some(list()),
            "optional" => self.optional = true,
            "required" => self.required = true,
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
