//! Reading of JSON that says where it is, and goes on after what is wrong.

use serde_json::{Map, Value};

use super::finding::{Finding, Reason};
use super::meta::is_name;

/// So many findings an object may have; who has more will hear of the rest when these are mended.
pub(crate) const MOST: usize = 32;
/// So many characters of a value are repeated.
const LONG: usize = 80;

/// As much of a text as a finding repeats.
pub(crate) fn cut(text: &str) -> String {
    let mut cut: String = text.chars().take(LONG).collect();
    if cut.len() < text.len() {
        cut.push_str("...");
    }
    cut
}

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Notes(Vec<Finding>);

impl Notes {
    pub(crate) fn say(
        &mut self,
        reason: Reason,
        field: impl Into<String>,
        value: impl AsRef<str>,
        advice: impl Into<String>,
    ) {
        if self.0.len() < MOST {
            let value = cut(value.as_ref());
            self.0.push(Finding { reason, field: field.into(), value, advice: advice.into() });
        }
    }

    pub(super) fn done(self) -> Vec<Finding> {
        self.0
    }
}

/// A value, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Field<'v> {
    pub(super) value: &'v Value,
    pub(super) path: String,
}

impl<'v> Field<'v> {
    fn wrong(&self, is: &str, notes: &mut Notes) {
        let advice = format!("is not {is} and was left out; write {is} here");
        notes.say(Reason::InvalidValue, &self.path, self.value.to_string(), advice);
    }

    pub(super) fn text(&self, notes: &mut Notes) -> Option<&'v str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.wrong("a text", notes);
        }
        text
    }

    /// A port; as a text, too, since manifests that quote them are about.
    pub(super) fn port(&self, notes: &mut Notes) -> Option<u16> {
        let number = match self.value {
            Value::String(text) => {
                let port = text.parse::<u16>().ok();
                if port.is_some() {
                    notes.say(
                        Reason::Tolerated,
                        &self.path,
                        format!("{text:?}"),
                        "was read as the number it spells",
                    );
                }
                port
            }
            other => other.as_u64().and_then(|number| u16::try_from(number).ok()),
        };
        let port = number.filter(|port| *port != 0);
        if port.is_none() {
            self.wrong("a port of 1 to 65535", notes);
        }
        port
    }

    pub(super) fn part(&self, notes: &mut Notes) -> Option<Part<'v>> {
        match self.value {
            Value::Object(map) => Some(Part { map, path: self.path.clone() }),
            _ => {
                self.wrong("an object", notes);
                None
            }
        }
    }

    pub(super) fn items(&self, notes: &mut Notes) -> Vec<Field<'v>> {
        match self.value {
            Value::Array(items) => {
                let field = |(n, value)| Field { value, path: format!("{}[{n}]", self.path) };
                items.iter().enumerate().map(field).collect()
            }
            _ => {
                self.wrong("a list", notes);
                Vec::new()
            }
        }
    }
}

/// An object, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Part<'v> {
    pub(super) map: &'v Map<String, Value>,
    pub(super) path: String,
}

impl<'v> Part<'v> {
    /// All of it; nothing of what is no object.
    pub(super) fn whole(value: &'v Value) -> Option<Self> {
        Some(Self { map: value.as_object()?, path: String::new() })
    }

    pub(super) fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A field; `null` is as good as none.
    pub(super) fn get(&self, name: &str) -> Option<Field<'v>> {
        let value = self.map.get(name).filter(|value| !value.is_null())?;
        Some(Field { value, path: self.at(name) })
    }

    pub(super) fn text(&self, name: &str, notes: &mut Notes) -> Option<&'v str> {
        self.get(name)?.text(notes)
    }

    pub(super) fn port(&self, name: &str, notes: &mut Notes) -> Option<u16> {
        self.get(name)?.port(notes)
    }

    pub(super) fn part(&self, name: &str, notes: &mut Notes) -> Option<Self> {
        self.get(name)?.part(notes)
    }

    pub(super) fn list(&self, name: &str, notes: &mut Notes) -> Vec<Field<'v>> {
        self.get(name).map(|field| field.items(notes)).unwrap_or_default()
    }

    /// A text that must be there.
    pub(super) fn required(&self, name: &str, notes: &mut Notes) -> Option<&'v str> {
        if self.get(name).is_none() {
            notes.say(Reason::Missing, self.at(name), "", "must be there; what it belongs to was left out");
        }
        self.text(name, notes)
    }

    /// The name of another object, which must be there.
    pub(super) fn name(&self, name: &str, notes: &mut Notes) -> Option<String> {
        let text = self.required(name, notes)?;
        self.checked(name, text, notes)
    }

    /// The name of another object, or nothing. What is there and no name makes it an error.
    pub(super) fn optional_name(&self, name: &str, notes: &mut Notes) -> Result<Option<String>, ()> {
        match self.get(name) {
            None => Ok(None),
            Some(field) if field.value.as_str() == Some("") => Ok(None),
            Some(field) => {
                let text = field.text(notes).ok_or(())?;
                self.checked(name, text, notes).map(Some).ok_or(())
            }
        }
    }

    fn checked(&self, name: &str, text: &str, notes: &mut Notes) -> Option<String> {
        if is_name(text) {
            return Some(text.to_owned());
        }
        let advice = "no object can have this name; lower case letters, digits, '-' and '.' may be in it";
        notes.say(Reason::InvalidValue, self.at(name), format!("{text:?}"), advice);
        None
    }

    /// Says which fields are none of these, where they do nothing.
    pub(super) fn only(&self, known: &[&str], notes: &mut Notes) {
        self.others(known, Reason::Ignored, "is not known here and does nothing", notes);
    }

    /// Whether all fields are some of these. Where one is not, the whole may have been meant to say less, so that it must not be taken
    /// without it: `instead` tells what is done.
    #[must_use]
    pub(super) fn understood(&self, known: &[&str], instead: &str, notes: &mut Notes) -> bool {
        self.others(known, Reason::InvalidValue, &format!("is not known here, and {instead}"), notes)
    }

    fn others(&self, known: &[&str], reason: Reason, what: &str, notes: &mut Notes) -> bool {
        let mut none = true;
        for (name, value) in self.map.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
            none = false;
            let advice = format!("{what}; known are {}", known.join(", "));
            // A name is as long as somebody makes it, and may be empty.
            let name = if name.is_empty() { "\"\"" } else { &cut(name) };
            notes.say(reason, self.at(name), value.to_string(), advice);
        }
        none
    }
}
