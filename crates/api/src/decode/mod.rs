//! Bodies of requests: JSON or YAML, read by a schema, refused in the words of Kubernetes.
//!
//! It never fills in defaults and never looks at what values mean. An object that it returns has the types of its schema
//! and no other fields; zero values vanish or appear as in what Kubernetes sends ([`settle`]).
//!
//! A body is read once. What is malformed is told before everything else, then (see [`errors`]) what has the wrong type,
//! then what is unknown or there twice.

mod base64;
mod errors;
mod gvk;
mod object;
mod scan;
#[cfg(test)]
mod tests;
mod time;
mod typed;
mod untyped;
mod weight;
mod yaml;
mod zero;

use crate::contract::{Object, Result, Status};
use crate::schema::Schema;
pub(crate) use errors::{MOST_TOLD, cut};
pub(crate) use scan::MOST_DEEP;
use serde_json::Value;
pub(crate) use weight::too_many_values;
pub(crate) use zero::is_zero;

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
}

/// What is done about fields that the schema does not have, and about those that are there twice (`fieldValidation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped.
    Ignore,
    /// They are dropped and told.
    #[default]
    Warn,
    /// The request is refused.
    Strict,
}

/// What a body has to be.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// `apps/v1`; what the body says where it says nothing.
    pub api_version: &'a str,
    /// `Deployment`.
    pub kind: &'a str,
    /// Its fields. A schema whose node has no name is that of a custom resource: only `apiVersion`, `kind` and `metadata`
    /// are looked at, and the rest is taken as it is, for its definition to prune and to check.
    pub schema: Schema<'a>,
}

/// What a body said.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object; `apiVersion` and `kind` are those that were expected.
    pub object: Object,
    /// For `Warning:` headers.
    pub warnings: Vec<String>,
}

/// Reads an object.
///
/// # Errors
/// 400, with Kubernetes' message, where the body is no object of that kind; 422 where a custom resource has another kind.
pub fn object(
    body: &[u8],
    media: Media,
    expected: &Expected<'_>,
    validation: FieldValidation,
) -> Result<Decoded> {
    if media == Media::Json {
        weight::check(body)?;
    }
    object::read(body, media, expected, validation)
}

/// Reads a value without a schema: a patch. Of a field that is there twice the last one counts.
///
/// # Errors
/// 400 where it is not well formed; the message is the cause alone.
pub fn value(body: &[u8], media: Media) -> Result<Value> {
    if media == Media::Json {
        weight::check(body)?;
    }
    let read = match media {
        Media::Json => {
            let mut scanner = scan::Scanner::new(body);
            scanner.any().and_then(|value| scanner.end().map(|()| value)).map_err(|syntax| syntax.0)
        }
        Media::Yaml => object::yaml_text(body).and_then(yaml::read).map(|document| document.value),
    };
    read.map_err(Status::bad_request)
}

/// Reads a patch as [`value()`] does, and with it what it has twice, unless nobody wants to know: `duplicate field
/// "data.a"`, or of YAML `line 3: key "a" already set in map`.
///
/// # Errors
/// As of [`value()`].
pub fn patch(body: &[u8], media: Media, validation: FieldValidation) -> Result<(Value, Vec<String>)> {
    match media {
        Media::Json => {
            weight::check(body)?;
            let strict = validation != FieldValidation::Ignore;
            object::untyped(body, strict).map_err(|syntax| Status::bad_request(syntax.0))
        }
        Media::Yaml => {
            let document = object::yaml_text(body).and_then(yaml::read).map_err(Status::bad_request)?;
            Ok((document.value, document.duplicates))
        }
    }
}

/// Checks what a patch made of an object as if it had been read from a body, and [`settle`]s it; returns warnings.
///
/// # Errors
/// As of [`object()`].
pub fn conform(
    object: &mut Object,
    expected: &Expected<'_>,
    validation: FieldValidation,
) -> Result<Vec<String>> {
    let json = serde_json::to_vec(&object.0).map_err(Status::internal)?;
    let decoded = object::read(&json, Media::Json, expected, validation)?;
    *object = decoded.object;
    Ok(decoded.warnings)
}

/// Reads the metadata of a resource within a custom resource by its type; `path` says where it stands. Returns it as
/// [`settle`] leaves it, and what was unknown in it or there twice, as messages.
///
/// # Errors
/// What is not of its type, in the words of Go's decoder.
pub(crate) fn metadata(value: &Value, path: &str) -> std::result::Result<(Value, Vec<String>), String> {
    object::metadata(value, path)
}

/// Makes an object of a built-in kind as Kubernetes would send it: fields that are zero vanish, and those appear that
/// are always there (`status: {}`). Whoever takes fields away or puts some in calls it before the object is kept. Custom
/// resources stay as they are.
pub fn settle(object: &mut Object, schema: Schema<'_>) {
    if schema.node().name.is_some() {
        let mut value = Value::Object(std::mem::take(&mut object.0));
        zero::settle(&mut value, schema);
        if let Value::Object(map) = value {
            object.0 = map;
        }
    }
}
