//! The options of requests, out of query parameters or bodies, and what is wrong with them.

mod delete;
mod list;
mod write;

pub use delete::{DeleteOptions, Preconditions, Propagation};
pub use list::{ListOptions, VersionMatch};
pub use write::{Verb, WriteOptions};

use crate::contract::field::FieldErrors;
use crate::contract::{Result, Status};

/// The parameters of a query, decoded, in the order in which they came.
pub type Query = [(String, String)];

/// The first value of a parameter.
fn first<'a>(query: &'a Query, name: &str) -> Option<&'a str> {
    query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// A flag: there and neither `0` nor `false`.
fn flag(query: &Query, name: &str) -> Option<bool> {
    first(query, name).map(|value| !matches!(value, "0" | "false"))
}

/// A number, in the words of Go's `strconv` where it is none.
fn number(query: &Query, name: &str) -> Result<Option<i64>> {
    let Some(text) = first(query, name) else { return Ok(None) };
    let cause = match text.strip_prefix('+').unwrap_or(text).parse::<i64>() {
        Ok(number) => return Ok(Some(number)),
        Err(error) => match error.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        },
    };
    let text = crate::contract::field::quoted(text);
    Err(Status::bad_request(format!("strconv.ParseInt: parsing {text}: {cause}")))
}

/// All of `errors` as the refusal of options of `kind`.
fn checked<T>(options: T, kind: &str, errors: &FieldErrors) -> Result<T> {
    if errors.is_empty() { Ok(options) } else { Err(Status::invalid("meta.k8s.io", kind, "", errors)) }
}
