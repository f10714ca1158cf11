//! An object from a body: its kind, its fields, and the status where it is refused.

use super::errors::{Errors, Outcome};
use super::gvk::Gvk;
use super::scan::{Begin, Scan, Scanner};
use super::typed::Decoder;
use super::{Decoded, Expected, FieldValidation, Media, yaml, zero};
use crate::contract::field::{FieldError, FieldErrors, Path, quoted};
use crate::contract::{Object, Result, Status};
use crate::schema::{Schema, builtin};
use serde_json::{Map, Value};
use std::borrow::Cow;

pub(super) fn read(
    body: &[u8],
    media: Media,
    expected: &Expected<'_>,
    validation: FieldValidation,
) -> Result<Decoded> {
    let refusal = Refusal { body, expected: Gvk::expected(expected) };
    let (json, duplicates) = as_json(body, media).map_err(|cause| refusal.unrecognized(&cause))?;
    let reading = Reading { json: &json, strict: validation != FieldValidation::Ignore, refusal: &refusal };
    let custom = expected.schema.node().name.is_none();
    let (object, told) = if custom { reading.custom()? } else { reading.typed(expected.schema)? };

    let warnings = match validation {
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Warn => duplicates.into_iter().chain(told).collect(),
        FieldValidation::Strict => {
            let of_yaml = (!duplicates.is_empty())
                .then(|| format!("yaml: unmarshal errors:\n  {}", duplicates.join("\n  ")));
            let all: Vec<String> = of_yaml.into_iter().chain(told).collect();
            if !all.is_empty() {
                let cause = format!("strict decoding error: {}", all.join(", "));
                return Err(refusal.unhandled(&refusal.expected, &cause));
            }
            all
        }
    };
    Ok(Decoded { object, warnings })
}

/// The body as JSON, and the keys that YAML had twice.
fn as_json(body: &[u8], media: Media) -> std::result::Result<(Cow<'_, [u8]>, Vec<String>), String> {
    if media == Media::Json {
        return Ok((Cow::Borrowed(body), Vec::new()));
    }
    let document = yaml::read(yaml_text(body)?)?;
    let json = serde_json::to_vec(&document.value).map_err(|cause| cause.to_string())?;
    Ok((Cow::Owned(json), document.duplicates))
}

pub(super) fn yaml_text(body: &[u8]) -> std::result::Result<&str, String> {
    str::from_utf8(body).map_err(|_| "yaml: invalid leading UTF-8 octet".to_owned())
}

struct Reading<'a> {
    json: &'a [u8],
    strict: bool,
    refusal: &'a Refusal<'a>,
}

impl Reading<'_> {
    /// An object of a built-in kind, and its unknown and duplicate fields.
    fn typed(&self, schema: Schema<'_>) -> Result<(Object, Vec<String>)> {
        let expected = &self.refusal.expected;
        let (value, said, outcome) = self.decode(|decoder| {
            let mut value = Value::Null;
            match decoder.scanner.begin()? {
                Begin::Object | Begin::Null => decoder.value(schema, &mut value)?,
                begin => {
                    decoder.errors.no_object(begin);
                    decoder.scanner.skip()?;
                }
            }
            Ok(value)
        })?;
        let gvk = self.refusal.gvk(&said, &outcome)?.or(expected);
        if gvk != *expected {
            return Err(self.another(&gvk));
        }
        let told = self.refusal.told(outcome, &gvk)?;
        let mut value = if value.is_object() { value } else { Value::Object(Map::new()) };
        zero::settle(&mut value, schema);
        Ok((self.refusal.named(value), told))
    }

    /// Why an object of another kind or version is refused.
    fn another(&self, gvk: &Gvk) -> Status {
        let expected = &self.refusal.expected;
        if gvk.version.is_empty() {
            let body = String::from_utf8_lossy(self.refusal.body);
            return self.refusal.unhandled(gvk, &format!("Object 'apiVersion' is missing in '{body}'"));
        }
        if gvk.version == "__internal" && gvk.kind == expected.kind {
            return self.refusal.other_version(gvk);
        }
        let Some(schema) = gvk.schema() else {
            let (kind, version) = (quoted(&gvk.kind), quoted(&gvk.api_version()));
            let cause = format!(
                "no kind {kind} is registered for version {version} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
            );
            return self.refusal.unhandled(gvk, &cause);
        };
        // Kubernetes reads it as what it says that it is, before it finds that this is not what was asked for.
        let decoded = self.decode(|decoder| {
            let mut value = Value::Null;
            decoder.value(schema, &mut value).map(|()| value)
        });
        if let Ok((_, _, Outcome::Wrong(cause))) = decoded {
            return self.refusal.unhandled(gvk, &cause);
        }
        if gvk.kind == expected.kind && gvk.internal_package() == expected.internal_package() {
            return self.refusal.other_version(gvk);
        }
        let cause = format!(
            "converting ({}.{}) to ({}.{}): unknown conversion",
            gvk.version,
            gvk.kind,
            expected.internal_package(),
            expected.kind
        );
        self.refusal.unhandled(gvk, &cause)
    }

    /// A custom resource, and its duplicate fields and the unknown ones of its metadata.
    fn custom(&self) -> Result<(Object, Vec<String>)> {
        let expected = &self.refusal.expected;
        let (value, said, outcome) = self.decode(|decoder| match decoder.scanner.begin()? {
            Begin::Object | Begin::Null => decoder.untyped(),
            begin => {
                decoder.errors.no_object(begin);
                decoder.scanner.any()
            }
        })?;
        let gvk = self.refusal.gvk(&said, &outcome)?;
        if gvk.kind.is_empty() {
            let body = String::from_utf8_lossy(self.refusal.body);
            return Err(self.refusal.unrecognized(&format!("Object 'Kind' is missing in '{body}'")));
        }
        let mut told = self.refusal.told(outcome, &gvk)?;
        let mut object = Object::from_value(value).unwrap_or_default();
        let metadata = object.0.remove("metadata").unwrap_or_default();
        let (metadata, of_metadata) = self.metadata(&metadata, &gvk)?;
        told.extend(of_metadata);
        object.0.insert("metadata".to_owned(), metadata);
        if (&gvk.group, &gvk.version) != (&expected.group, &expected.version) {
            return Err(self.refusal.other_version(&gvk));
        }
        if gvk.kind != expected.kind {
            let cause = format!("must be {}", expected.kind);
            let errors: FieldErrors = vec![FieldError::invalid(&Path::new("kind"), gvk.kind.as_str(), cause)];
            return Err(Status::invalid(&gvk.group, &gvk.kind, object.name(), &errors));
        }
        Ok((self.refusal.named(object.into_value()), told))
    }

    /// The metadata of a custom resource is of the same type as anybody's.
    fn metadata(&self, value: &Value, gvk: &Gvk) -> Result<(Value, Vec<String>)> {
        let (value, told) =
            metadata(value, "metadata").map_err(|cause| self.refusal.unhandled(gvk, &cause))?;
        Ok((value, if self.strict { told } else { Vec::new() }))
    }

    fn decode<'s>(
        &self,
        read: impl FnOnce(&mut Decoder<'_, 's>) -> Scan<Value>,
    ) -> Result<(Value, [String; 2], Outcome)> {
        let errors = Errors::new(self.strict);
        let mut decoder = Decoder { scanner: Scanner::new(self.json), errors };
        let value =
            read(&mut decoder).and_then(|value| decoder.scanner.end().map(|()| value)).map_err(|syntax| {
                self.refusal
                    .unrecognized(&format!("couldn't get version/kind; json parse error: {}", syntax.0))
            })?;
        let said = std::mem::take(&mut decoder.errors.said);
        Ok((value, said, decoder.errors.outcome()))
    }
}

/// Reads a value as it is, and tells the fields that are there twice where it is to be `strict`.
pub(super) fn untyped(json: &[u8], strict: bool) -> Scan<(Value, Vec<String>)> {
    let mut decoder = Decoder { scanner: Scanner::new(json), errors: Errors::new(strict) };
    let value = decoder.untyped()?;
    decoder.scanner.end()?;
    Ok((value, decoder.errors.into_told()))
}

/// Reads metadata by its type; `path` says where it stands.
pub(super) fn metadata(value: &Value, path: &str) -> std::result::Result<(Value, Vec<String>), String> {
    let schema = builtin("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
        .ok_or_else(|| "the schema of metadata is missing".to_owned())?;
    let json = serde_json::to_vec(value).map_err(|cause| cause.to_string())?;
    let mut decoder = Decoder { scanner: Scanner::new(&json), errors: Errors::new(true) };
    decoder.errors.begin_below(path);
    let mut read = Value::Null;
    decoder.value(schema, &mut read).map_err(|syntax| syntax.0.to_string())?;
    let told = match decoder.errors.outcome() {
        Outcome::Wrong(cause) | Outcome::Meta(cause) => return Err(cause),
        Outcome::Told(told) => told,
    };
    let mut read = if read.is_object() { read } else { Value::Object(Map::new()) };
    zero::settle(&mut read, schema);
    Ok((read, told))
}

/// Makes the statuses of what cannot be read.
struct Refusal<'a> {
    body: &'a [u8],
    expected: Gvk,
}

impl Refusal<'_> {
    /// The kind that the body says, where it can be said.
    fn gvk(&self, [api_version, kind]: &[String; 2], outcome: &Outcome) -> Result<Gvk> {
        if let Outcome::Meta(cause) = outcome {
            return Err(self.unrecognized(&format!("couldn't get version/kind; json parse error: {cause}")));
        }
        Gvk::of(api_version, kind).map_err(|cause| self.unrecognized(&cause))
    }

    fn told(&self, outcome: Outcome, gvk: &Gvk) -> Result<Vec<String>> {
        match outcome {
            Outcome::Told(told) => Ok(told),
            Outcome::Wrong(cause) | Outcome::Meta(cause) => Err(self.unhandled(gvk, &cause)),
        }
    }

    /// The object with the names that were expected.
    fn named(&self, value: Value) -> Object {
        let mut object = Object::from_value(value).unwrap_or_default();
        object.0.insert("apiVersion".to_owned(), self.expected.api_version().into());
        object.0.insert("kind".to_owned(), self.expected.kind.as_str().into());
        object
    }

    fn unhandled(&self, gvk: &Gvk, cause: &str) -> Status {
        let version = quoted(&gvk.version);
        let kind = &self.expected.kind;
        Status::bad_request(format!(
            "{} in version {version} cannot be handled as a {kind}: {cause}",
            gvk.kind
        ))
    }

    fn other_version(&self, gvk: &Gvk) -> Status {
        Status::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({})",
            gvk.api_version(),
            self.expected.api_version()
        ))
    }

    fn unrecognized(&self, cause: &str) -> Status {
        let (kind, summary) = (&self.expected.kind, summary(self.body));
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {cause} ({summary})"
        ))
    }
}

/// The first bytes of a body.
fn summary(body: &[u8]) -> String {
    const MOST: usize = 30;
    if body.is_empty() {
        return "<empty>".to_owned();
    }
    let shown = &body[..body.len().min(MOST)];
    let more = if body.len() > MOST { " ..." } else { "" };
    if body[0] == b'{' {
        return format!("{}{more}", String::from_utf8_lossy(shown));
    }
    let digits: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
    digits + more
}
