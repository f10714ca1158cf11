//! Field selectors: `status.phase!=Running,metadata.name=x`.

use crate::contract::{Result, Status};
use std::fmt;

/// One condition of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// The field, such as `spec.nodeName`.
    pub field: String,
    /// Whether the field has to have the value (`=`, `==`) or not (`!=`).
    pub equal: bool,
    /// The value, without escapes.
    pub value: String,
}

/// Conditions on fields, all of which have to hold. Whether a kind knows the fields is the caller's question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// The conditions; none match everything.
    pub requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// Reads `field=value,field!=value`; `\`, `,` and `=` are escaped by a backslash in values.
    ///
    /// # Errors
    /// 400 with the words of Kubernetes' parser.
    pub fn parse(text: &str) -> Result<FieldSelector> {
        let mut terms = terms(text);
        // In this order Kubernetes looks at them, so it is the first bad one of this order that is told.
        terms.sort_unstable();
        let mut requirements = Vec::with_capacity(terms.len());
        for term in terms.into_iter().filter(|term| !term.is_empty()) {
            let Some((field, equal, value)) = split(term) else {
                return Err(Status::bad_request(format!(
                    "invalid selector: '{text}'; can't understand '{term}'"
                )));
            };
            let value = unescape(value).map_err(Status::bad_request)?;
            requirements.push(FieldRequirement { field: field.to_owned(), equal, value });
        }
        Ok(FieldSelector { requirements })
    }

    /// Whether it matches whatever there is.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether all conditions hold of the values that `value_of` returns (empty where a field is not set).
    pub fn matches(&self, mut value_of: impl FnMut(&str) -> String) -> bool {
        self.requirements.iter().all(|wish| (value_of(&wish.field) == wish.value) == wish.equal)
    }

    /// The one value that `field` has to have, if the selector says so.
    #[must_use]
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.requirements.iter().find(|wish| wish.equal && wish.field == field).map(|wish| &*wish.value)
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, wish) in self.requirements.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}{}", wish.field, if wish.equal { "=" } else { "!=" })?;
            for character in wish.value.chars() {
                if matches!(character, '\\' | ',' | '=') {
                    f.write_str("\\")?;
                }
                write!(f, "{character}")?;
            }
        }
        Ok(())
    }
}

/// The parts between commas that no backslash precedes.
fn terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// A term at its first operator: field, whether equal, value as written.
fn split(term: &str) -> Option<(&str, bool, &str)> {
    for (at, byte) in term.bytes().enumerate() {
        let rest = &term.as_bytes()[at..];
        let (length, equal) = match byte {
            b'!' if rest.starts_with(b"!=") => (2, false),
            b'=' if rest.starts_with(b"==") => (2, true),
            b'=' => (1, true),
            _ => continue,
        };
        return Some((&term[..at], equal, &term[at + length..]));
    }
    None
}

fn unescape(value: &str) -> std::result::Result<String, String> {
    let mut out = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(literal @ ('\\' | ',' | '=')) => out.push(literal),
                Some(other) => {
                    return Err(format!("invalid field selector: invalid escape sequence: \\{other}"));
                }
                None => return Err("invalid field selector: invalid escape sequence: \\".to_owned()),
            },
            // Kubernetes prints the character's number.
            ',' | '=' => {
                let code = u32::from(character);
                return Err(format!("invalid field selector: unescaped character in value: {code}"));
            }
            other => out.push(other),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_kubectl_writes() {
        let selector = FieldSelector::parse(r"status.phase!=Running,metadata.name==a\,b\=c").unwrap();
        assert_eq!(selector.to_string(), r"metadata.name=a\,b\=c,status.phase!=Running");
        assert_eq!(selector.exact("metadata.name"), Some("a,b=c"));
        assert_eq!(selector.exact("status.phase"), None);
        assert!(
            selector.matches(|field| if field == "status.phase" { "Failed" } else { "a,b=c" }.to_owned())
        );
        assert!(!selector.matches(|_| "Running".to_owned()));
        assert!(FieldSelector::parse("").unwrap().is_everything());
        assert!(FieldSelector::parse(",,").unwrap().is_everything());
    }

    #[test]
    fn errors_are_kubernetes_own() {
        let told = |text: &str| FieldSelector::parse(text).unwrap_err().message;
        assert_eq!(told("a=b,c"), "invalid selector: 'a=b,c'; can't understand 'c'");
        assert_eq!(told("a=b=c"), "invalid field selector: unescaped character in value: 61");
        assert_eq!(told(r"a=\x"), r"invalid field selector: invalid escape sequence: \x");
        assert_eq!(told(r"a=b\"), r"invalid field selector: invalid escape sequence: \");
        assert_eq!(FieldSelector::parse("x").unwrap_err().code, 400);
    }
}
