//! Values as messages show them where Kubernetes writes its own types rather than the wire's: under the names that the
//! fields have in Go and in their order there, absent ones as `null`.

use super::base::Fields;
use crate::contract::field::{ErrorKind, FieldError, Path};
use serde_json::Value;

/// A struct of Go, field by field.
pub(super) struct Shown(String);

impl Shown {
    /// Without fields yet.
    pub(super) fn new() -> Shown {
        Shown("{".to_owned())
    }

    /// A field that is as on the wire; `null` where it is absent.
    pub(super) fn field(self, name: &str, value: Option<&Value>) -> Shown {
        let value = value.map_or_else(|| "null".to_owned(), Value::to_string);
        self.raw(name, &value)
    }

    /// A string; empty where it is absent.
    pub(super) fn text(self, name: &str, value: &str) -> Shown {
        self.raw(name, &Value::from(value).to_string())
    }

    /// A field that is written already.
    pub(super) fn raw(mut self, name: &str, value: &str) -> Shown {
        let comma = if self.0.len() > 1 { "," } else { "" };
        self.0.push_str(&format!("{comma}\"{name}\":{value}"));
        self
    }

    /// The whole.
    pub(super) fn end(self) -> String {
        self.0 + "}"
    }
}

/// A list of values that are written already; `null` where it is empty.
pub(super) fn list(items: &[String]) -> String {
    if items.is_empty() { "null".to_owned() } else { format!("[{}]", items.join(",")) }
}

/// A label selector, whose fields have an order.
pub(super) fn selector(selector: Option<&Value>) -> String {
    let Some(selector) = selector.filter(|selector| !selector.is_null()) else { return "null".to_owned() };
    let mut shown = Shown::new();
    for name in ["matchLabels", "matchExpressions"] {
        let empty =
            selector.map(name).is_none_or(serde_json::Map::is_empty) && selector.list(name).is_empty();
        if !empty {
            shown = shown.field(name, selector.field(name));
        }
    }
    shown.end()
}

/// A value that is not well formed, shown as told.
pub(super) fn invalid(path: &Path, shown: String, detail: impl Into<String>) -> FieldError {
    of(ErrorKind::Invalid, path, Some(shown), detail.into())
}

/// The same without showing it.
pub(super) fn omitted(path: &Path, detail: impl Into<String>) -> FieldError {
    of(ErrorKind::Invalid, path, None, detail.into())
}

/// A value that is none of `supported`, shown as told.
pub(super) fn not_supported(path: &Path, shown: String, supported: &[&str]) -> FieldError {
    let mut error = FieldError::not_supported(path, Value::Null, supported);
    error.shown = Some(shown);
    error
}

fn of(kind: ErrorKind, path: &Path, shown: Option<String>, detail: String) -> FieldError {
    FieldError { kind, field: path.as_str().to_owned(), shown, detail }
}
