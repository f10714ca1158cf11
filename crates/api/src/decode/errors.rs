//! What is wrong with a body, in the order and the words of Go's decoder.
//!
//! The first error of a value that decodes itself (a time, a quantity) ends Go's decoding: it is told before any mismatch
//! of types, of which the first is told. Unknown and duplicate fields are told if nothing else is wrong, all of them up to
//! a hundred, and of the path of each no more than a kilobyte: keys may be as long as bodies.

use super::scan::{Begin, Scanner};
use crate::schema::{Schema, Shape};
use std::borrow::Cow;
use std::fmt::Write as _;

/// What Go calls the two fields that are looked for first.
const TYPE_META: &str =
    r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;

/// As many unknown and duplicate fields are told.
pub(crate) const MOST_TOLD: usize = 100;
/// Bytes of a path that are told. The keys of labels and annotations have 317 at most.
const LONGEST: usize = 1024;

/// As much of a path or a key as is told.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}

enum Step<'b, 's> {
    Field(&'s str),
    Key(Cow<'b, str>),
    Item(usize),
}

/// Where the decoder is.
#[derive(Clone, Copy)]
pub(super) struct Place<'s> {
    owner: Option<&'s str>,
    fields: usize,
    steps: usize,
}

impl Place<'_> {
    pub(super) fn is_top(self) -> bool {
        self.steps == 0
    }
}

/// Where the decoder is and what it found.
#[derive(Default)]
pub(super) struct Errors<'b, 's> {
    /// Whether unknown and duplicate fields are looked for.
    strict: bool,
    /// The Go struct that the innermost field is of, and the fields on the way to it.
    owner: Option<&'s str>,
    fields: Vec<&'s str>,
    steps: Vec<Step<'b, 's>>,
    /// `apiVersion` and `kind`.
    pub(super) said: [String; 2],
    meta: Option<String>,
    fatal: Option<String>,
    saved: Option<String>,
    told: Vec<String>,
}

/// What came of a body that is well formed.
pub(super) enum Outcome {
    /// `apiVersion` or `kind` is no string.
    Meta(String),
    /// A value is not what it has to be.
    Wrong(String),
    /// The object can be used, but for these unknown and duplicate fields.
    Told(Vec<String>),
}

impl<'b, 's> Errors<'b, 's> {
    pub(super) fn new(strict: bool) -> Self {
        Errors { strict, ..Errors::default() }
    }

    pub(super) fn outcome(self) -> Outcome {
        if let Some(cause) = self.meta {
            return Outcome::Meta(cause);
        }
        match self.fatal.or(self.saved) {
            Some(cause) => Outcome::Wrong(cause),
            None => Outcome::Told(self.told),
        }
    }

    /// The unknown and duplicate fields, whatever else is wrong.
    pub(super) fn into_told(self) -> Vec<String> {
        self.told
    }

    pub(super) fn place(&self) -> Place<'s> {
        Place { owner: self.owner, fields: self.fields.len(), steps: self.steps.len() }
    }

    pub(super) fn return_to(&mut self, place: Place<'s>) {
        self.owner = place.owner;
        self.fields.truncate(place.fields);
        self.steps.truncate(place.steps);
    }

    pub(super) fn go_to_field(&mut self, owner: Option<&'s str>, within: Option<&'s str>, name: &'s str) {
        self.owner = owner;
        self.fields.extend(within);
        self.fields.push(name);
        self.steps.push(Step::Field(name));
    }

    pub(super) fn go_to_key(&mut self, key: Cow<'b, str>) {
        self.steps.push(Step::Key(key));
    }

    pub(super) fn go_to_item(&mut self, at: usize) {
        self.steps.push(Step::Item(at));
    }

    /// Kubernetes looks for `apiVersion` and `kind` before anything else, whatever their case: here the value of `key` at
    /// the top comes next.
    pub(super) fn type_meta(&mut self, key: &str, begin: Begin, scanner: &Scanner<'_>) {
        for (at, field) in ["apiVersion", "kind"].into_iter().enumerate() {
            if !key.eq_ignore_ascii_case(field) {
                continue;
            }
            match begin {
                Begin::Null => {}
                // Malformed, it is told when it is read.
                Begin::String => self.said[at] = scanner.clone().string().unwrap_or_default().into_owned(),
                begin => {
                    let what = begin.words();
                    self.meta.get_or_insert_with(|| {
                        format!("json: cannot unmarshal {what} into Go struct field .{field} of type string")
                    });
                }
            }
        }
    }

    /// The whole body is no object.
    pub(super) fn no_object(&mut self, begin: Begin) {
        let what = begin.words();
        self.meta = Some(format!("json: cannot unmarshal {what} into Go value of type {TYPE_META}"));
    }

    /// Begins below the field `name`, of which only unknown and duplicate fields are told.
    pub(super) fn begin_below(&mut self, name: &'s str) {
        self.steps.push(Step::Field(name));
    }

    pub(super) fn mismatch(&mut self, what: &str, schema: Schema<'_>) {
        if self.saved.is_none() {
            self.saved = Some(self.mismatch_text(what, &go_type(schema)));
        }
    }

    pub(super) fn mismatch_of(&mut self, what: &str, go: &str) {
        if self.saved.is_none() {
            self.saved = Some(self.mismatch_text(what, go));
        }
    }

    pub(super) fn saved(&mut self, cause: String) {
        self.saved.get_or_insert(cause);
    }

    pub(super) fn fatal(&mut self, cause: String) {
        self.fatal.get_or_insert(cause);
    }

    pub(super) fn fatal_mismatch(&mut self, what: &str, go: &str) {
        if self.fatal.is_none() {
            self.fatal = Some(self.mismatch_text(what, go));
        }
    }

    pub(super) fn duplicate(&mut self, name: &str) {
        self.tell("duplicate", name);
    }

    pub(super) fn unknown(&mut self, name: &str) {
        self.tell("unknown", name);
    }

    /// Goes into a value that decodes itself with Go's own decoder, which is not strict.
    pub(super) fn mute(&mut self) -> (bool, Option<String>) {
        (std::mem::take(&mut self.strict), self.saved.take())
    }

    /// Leaves it: its mismatch ends the decoding.
    pub(super) fn unmute(&mut self, (strict, saved): (bool, Option<String>)) {
        self.strict = strict;
        if let Some(cause) = std::mem::replace(&mut self.saved, saved) {
            self.fatal.get_or_insert(cause);
        }
    }

    fn tell(&mut self, what: &str, name: &str) {
        if !self.strict || self.told.len() >= MOST_TOLD {
            return;
        }
        let mut path = String::new();
        for step in &self.steps {
            if path.len() >= LONGEST {
                break;
            }
            match step {
                Step::Item(at) => write!(path, "[{at}]").expect("a string takes what is written"),
                Step::Field(name) => join(&mut path, name),
                Step::Key(key) => join(&mut path, key),
            }
        }
        join(&mut path, name);
        let text = format!("{what} field {}", crate::contract::field::quoted(cut(&path)));
        if !self.told.contains(&text) {
            self.told.push(text);
        }
    }

    fn mismatch_text(&self, what: &str, go: &str) -> String {
        match self.owner {
            Some(owner) => {
                let path = self.fields.join(".");
                format!("json: cannot unmarshal {what} into Go struct field {owner}.{path} of type {go}")
            }
            None => format!("json: cannot unmarshal {what} into Go value of type {go}"),
        }
    }
}

fn join(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(cut(name));
}

/// The Go type of what a schema describes.
fn go_type(schema: Schema<'_>) -> String {
    let node = schema.node();
    if let Some(go) = &node.go {
        return go.to_string();
    }
    if let Some(name) = &node.name {
        let mut parts = name.rsplit('.');
        let (last, package) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        return format!("{package}.{last}");
    }
    let below = || schema.items().map_or_else(|| "interface {}".to_owned(), go_type);
    match node.shape {
        Shape::List => format!("[]{}", below()),
        Shape::Map => format!("map[string]{}", below()),
        Shape::Bytes => "[]uint8".to_owned(),
        Shape::Int32 => "int32".to_owned(),
        Shape::Int64 => "int64".to_owned(),
        Shape::Number => "float64".to_owned(),
        Shape::Boolean => "bool".to_owned(),
        _ => "string".to_owned(),
    }
}
