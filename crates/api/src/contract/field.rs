//! What is wrong with which field: paths and errors with the wording of Kubernetes' `field` package.

use serde_json::Value;
use std::fmt;

/// A path into an object, as messages write it: `spec.containers[0].resources.limits[cpu]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// The path of a field at the top.
    #[must_use]
    pub fn new(name: &str) -> Path {
        Path(name.to_owned())
    }

    /// The empty path: the object itself.
    #[must_use]
    pub fn root() -> Path {
        Path::default()
    }

    /// The field `name` of what this path names.
    #[must_use]
    pub fn child(&self, name: &str) -> Path {
        if self.0.is_empty() { Path(name.to_owned()) } else { Path(format!("{}.{name}", self.0)) }
    }

    /// Item `index` of the list that this path names.
    #[must_use]
    pub fn index(&self, index: usize) -> Path {
        Path(format!("{}[{index}]", self.0))
    }

    /// The value under `key` in the map that this path names.
    #[must_use]
    pub fn key(&self, key: &str) -> Path {
        Path(format!("{}[{key}]", self.0))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What kind of error it is; its text is the first part of the message, its reason goes into the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The field has to be there.
    Required,
    /// The value is not well formed.
    Invalid,
    /// The value is not one of those there are.
    NotSupported,
    /// The value is there twice.
    Duplicate,
    /// What the value names is not there.
    NotFound,
    /// The field may not be set, or not be changed.
    Forbidden,
    /// The value is longer than allowed.
    TooLong,
    /// The list is longer than allowed.
    TooMany,
    /// The list is shorter than required.
    TooFew,
    /// The value is of another type.
    TypeInvalid,
    /// Something that is not the client's fault.
    Internal,
}

impl ErrorKind {
    /// The words of the message.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            ErrorKind::Required => "Required value",
            ErrorKind::Invalid | ErrorKind::TypeInvalid => "Invalid value",
            ErrorKind::NotSupported => "Unsupported value",
            ErrorKind::Duplicate => "Duplicate value",
            ErrorKind::NotFound => "Not found",
            ErrorKind::Forbidden => "Forbidden",
            ErrorKind::TooLong => "Too long",
            ErrorKind::TooMany => "Too many",
            ErrorKind::TooFew => "Too few",
            ErrorKind::Internal => "Internal error",
        }
    }

    /// `reason` of the cause.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            ErrorKind::Required => "FieldValueRequired",
            ErrorKind::Invalid => "FieldValueInvalid",
            ErrorKind::NotSupported => "FieldValueNotSupported",
            ErrorKind::Duplicate => "FieldValueDuplicate",
            ErrorKind::NotFound => "FieldValueNotFound",
            ErrorKind::Forbidden => "FieldValueForbidden",
            ErrorKind::TooLong => "FieldValueTooLong",
            ErrorKind::TooMany => "FieldValueTooMany",
            ErrorKind::TooFew => "FieldValueTooFew",
            ErrorKind::TypeInvalid => "FieldValueTypeInvalid",
            ErrorKind::Internal => "InternalError",
        }
    }
}

/// One error of one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// Which kind.
    pub kind: ErrorKind,
    /// Where.
    pub field: String,
    /// The value as the message shows it, where it does: strings quoted, the rest as JSON.
    pub shown: Option<String>,
    /// The rest of the message; may be empty.
    pub detail: String,
}

/// What validation found, in the order in which it looked.
pub type FieldErrors = Vec<FieldError>;

impl FieldError {
    fn of(kind: ErrorKind, path: &Path, shown: Option<String>, detail: impl Into<String>) -> FieldError {
        FieldError { kind, field: path.as_str().to_owned(), shown, detail: detail.into() }
    }

    /// The field has to be there.
    #[must_use]
    pub fn required(path: &Path, detail: impl Into<String>) -> FieldError {
        FieldError::of(ErrorKind::Required, path, None, detail)
    }

    /// The value is not well formed.
    #[must_use]
    pub fn invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> FieldError {
        FieldError::of(ErrorKind::Invalid, path, Some(shown(&value.into())), detail)
    }

    /// The value is of another type than the field.
    #[must_use]
    pub fn type_invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> FieldError {
        FieldError::of(ErrorKind::TypeInvalid, path, Some(shown(&value.into())), detail)
    }

    /// The value is none of `supported`, which are listed in the order given.
    #[must_use]
    pub fn not_supported(path: &Path, value: impl Into<Value>, supported: &[&str]) -> FieldError {
        let list: Vec<String> = supported.iter().map(|value| quoted(value)).collect();
        let detail =
            if list.is_empty() { String::new() } else { format!("supported values: {}", list.join(", ")) };
        FieldError::of(ErrorKind::NotSupported, path, Some(shown(&value.into())), detail)
    }

    /// The value is there twice.
    #[must_use]
    pub fn duplicate(path: &Path, value: impl Into<Value>) -> FieldError {
        FieldError::of(ErrorKind::Duplicate, path, Some(shown(&value.into())), "")
    }

    /// What the value names is not there.
    #[must_use]
    pub fn not_found(path: &Path, value: impl Into<Value>) -> FieldError {
        FieldError::of(ErrorKind::NotFound, path, Some(shown(&value.into())), "")
    }

    /// The field may not be set, or not be changed.
    #[must_use]
    pub fn forbidden(path: &Path, detail: impl Into<String>) -> FieldError {
        FieldError::of(ErrorKind::Forbidden, path, None, detail)
    }

    /// The text is longer than `most` bytes.
    #[must_use]
    pub fn too_long(path: &Path, most: usize) -> FieldError {
        FieldError::of(ErrorKind::TooLong, path, None, format!("may not be more than {most} bytes"))
    }

    /// The list has `count` items and may have `most`.
    #[must_use]
    pub fn too_many(path: &Path, count: usize, most: usize) -> FieldError {
        let items = if most == 1 { "item" } else { "items" };
        let detail = format!("must have at most {most} {items}");
        FieldError::of(ErrorKind::TooMany, path, Some(count.to_string()), detail)
    }

    /// Something that is not the client's fault.
    #[must_use]
    pub fn internal(path: &Path, cause: impl Into<String>) -> FieldError {
        FieldError::of(ErrorKind::Internal, path, None, cause)
    }

    /// The message without the field, as a cause has it.
    #[must_use]
    pub fn body(&self) -> String {
        let mut body = self.kind.words().to_owned();
        if let Some(shown) = &self.shown {
            body.push_str(": ");
            body.push_str(shown);
        }
        if !self.detail.is_empty() {
            body.push_str(": ");
            body.push_str(&self.detail);
        }
        body
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.body())
        } else {
            write!(f, "{}: {}", self.field, self.body())
        }
    }
}

/// A text in double quotes, with Go's escapes (`%q`).
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            character if character.is_control() => {
                let code = u32::from(character);
                let escaped = if code < 0x80 { format!("\\x{code:02x}") } else { format!("\\u{code:04x}") };
                out.push_str(&escaped);
            }
            character => out.push(character),
        }
    }
    out.push('"');
    out
}

/// A value as Go writes its JSON: what HTML would take for markup is escaped.
#[must_use]
pub fn go_json(value: &Value) -> String {
    let json = value.to_string();
    let is_escaped = |character: char| matches!(character, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
    if !json.contains(is_escaped) {
        return json;
    }
    let mut out = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if is_escaped(character) {
            out.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            out.push(character);
        }
    }
    out
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}
