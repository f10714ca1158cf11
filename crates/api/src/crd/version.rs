//! What is wrong with one version of a definition: its schema, subresources, columns and selectable fields.

use super::schema::Props;
use super::{defaulted, fieldpath, openapi, structural};
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::kinds::base::Fields;
use serde_json::{Map, Value};

/// The most fields that a version may make selectable.
const SELECTABLE: usize = 8;
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] =
    ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
/// What may stand beside `properties` at the root where the status is a subresource; the messages list it so.
const ROOT: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength \
                    Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example \
                    XPreserveUnknownFields XValidations]";

/// What is wrong with the schema, subresources, columns and selectable fields of a version, as far as `here` says that they
/// are told at `at`: with the version, or (`shared`) with the definition.
pub(super) fn parts(
    version: &Value,
    before: Option<&Map<String, Value>>,
    at: &Path,
    here: impl Fn(&str) -> bool,
    shared: bool,
) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let unchanged = before.is_some_and(|before| {
        let name = version.text("name");
        let found = before.list("versions").iter().find(|old| old.text("name") == name);
        found.is_some_and(|old| old.field("schema") == version.field("schema"))
    });
    let schema = version.field("schema").field("openAPIV3Schema");
    let props = schema.map(Props::read);
    let subresources = version.field("subresources");
    let schema_at = at.child(if shared { "validation" } else { "schema" }).child("openAPIV3Schema");
    if let (Some(json), Some(props), true) = (schema, &props, here("schema")) {
        errors.extend(self::schema(json, props, subresources.has("status"), &schema_at, unchanged));
    }
    if here("subresources") {
        errors.extend(scale(subresources.field("scale"), &at.child("subresources")));
    }
    if here("additionalPrinterColumns") {
        for (index, column) in version.list("additionalPrinterColumns").iter().enumerate() {
            errors.extend(self::column(column, &at.child("additionalPrinterColumns").index(index)));
        }
    }
    let selectable = version.list("selectableFields");
    if let Some(props) = props.filter(|_| !selectable.is_empty() && here("selectableFields")) {
        errors.extend(self::selectable(selectable, &props, &at.child("selectableFields")));
    }
    errors
}

pub(super) fn deprecation(version: &Value, at: &Path, errors: &mut FieldErrors) {
    let Some(warning) = version.maybe("deprecationWarning") else { return };
    let mut wrong = |detail: String| errors.push(FieldError::invalid(at, warning, detail));
    if !version.is("deprecated") {
        wrong("can only be set for deprecated versions".to_owned());
        return;
    }
    if warning.len() > 256 {
        wrong("must be <= 256 characters long".to_owned());
    }
    if warning.is_empty() {
        wrong("must not be an empty string".to_owned());
    }
    if let Some((index, _)) = warning.char_indices().find(|(_, character)| character.is_control()) {
        let rule = "must only contain printable UTF-8 characters; non-printable character found at index";
        wrong(format!("{rule} {index}"));
    }
}

fn schema(json: &Value, props: &Props, status: bool, at: &Path, unchanged: bool) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if status {
        root(json, props, at, &mut errors);
    }
    if props.nullable {
        errors.push(FieldError::forbidden(&at.child("nullable"), "nullable cannot be true at the root"));
    }
    let found = structural::validate(props, at);
    let found = if found.is_empty() { defaulted::validate(props, at) } else { found };
    let sound = found.is_empty();
    errors.extend(found);
    errors.extend(openapi::validate(props, at, sound, unchanged));
    errors
}

/// With a status subresource the root says little beside its fields, so that the status can be judged alone.
fn root(json: &Value, props: &Props, at: &Path, errors: &mut FieldErrors) {
    if props.type_ != "object" && !props.type_.is_empty() {
        let detail = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.push(FieldError::invalid(&at.child("type"), props.type_.as_str(), detail));
        return;
    }
    let beside = [
        "enum",
        "maxProperties",
        "minProperties",
        "allOf",
        "oneOf",
        "anyOf",
        "not",
        "additionalProperties",
        "default",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
        "nullable",
    ];
    if beside.iter().any(|name| json.has(name) && json.field(name) != Some(&Value::Bool(false))) {
        let detail = format!(
            "only {ROOT} fields are allowed at the root of the schema if the status subresource is enabled"
        );
        errors.push(FieldError::invalid(at, json.clone(), detail));
    }
}

fn simple_path(path: &str, at: &Path) -> Option<FieldError> {
    (!path.starts_with('.'))
        .then(|| FieldError::invalid(at, path, "must be a simple json path starting with ."))
}

fn scale(scale: Option<&Value>, at: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if scale.is_none() {
        return errors;
    }
    for (name, below) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        let (path, at) = (scale.text(name), at.child("scale").child(name));
        if path.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else if let Some(error) = simple_path(path, &at) {
            errors.push(error);
        } else if !path.starts_with(below) {
            let detail = format!("should be a json path under {}", below.trim_end_matches('.'));
            errors.push(FieldError::invalid(&at, path, detail));
        }
    }
    let (path, at) = (scale.text("labelSelectorPath"), at.child("scale").child("labelSelectorPath"));
    if path.is_empty() {
    } else if let Some(error) = simple_path(path, &at) {
        errors.push(error);
    } else if !path.starts_with(".spec.") && !path.starts_with(".status.") {
        let detail = "should be a json path under either .spec or .status";
        errors.push(FieldError::invalid(&at, path, detail));
    }
    errors
}

fn column(column: &Value, at: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if column.text("name").is_empty() {
        errors.push(FieldError::required(&at.child("name"), ""));
    }
    let (kind, list) = (column.text("type"), COLUMN_TYPES.join(","));
    if kind.is_empty() {
        errors.push(FieldError::required(&at.child("type"), format!("must be one of {list}")));
    } else if !COLUMN_TYPES.contains(&kind) {
        errors.push(FieldError::invalid(&at.child("type"), kind, format!("must be one of {list}")));
    }
    let format = column.text("format");
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        let detail = format!("must be one of {}", COLUMN_FORMATS.join(","));
        errors.push(FieldError::invalid(&at.child("format"), format, detail));
    }
    let (path, at) = (column.text("jsonPath"), at.child("JSONPath"));
    if path.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        errors.extend(simple_path(path, &at));
    }
    errors
}

fn selectable(fields: &[Value], props: &Props, at: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut seen: Vec<String> = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let (path, at) = (field.text("jsonPath"), at.index(index).child("jsonPath"));
        if path.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        let found = match fieldpath::find(path, props, false) {
            Ok(found) => found,
            Err(cause) => {
                errors.push(FieldError::invalid(&at, path, format!("is an invalid path: {cause}")));
                continue;
            }
        };
        if found.path == "metadata" || found.path.starts_with("metadata.") {
            errors.push(FieldError::invalid(&at, path, "must not point to fields in metadata"));
        }
        if !matches!(found.props.type_.as_str(), "string" | "boolean" | "integer") {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(FieldError::invalid(&at, path, detail));
        }
        if seen.contains(&found.path) {
            errors.push(FieldError::duplicate(&at, path));
        } else {
            seen.push(found.path);
        }
    }
    if seen.len() > SELECTABLE {
        errors.push(FieldError::too_many(at, seen.len(), SELECTABLE));
    }
    errors
}
