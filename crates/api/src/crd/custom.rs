//! The rules of custom resources of one version.

use super::printer::Printer;
use super::ratchet::Old;
use super::rules::Rules;
use super::schema::Props;
use super::{arena, coerce, jsonpath::JsonPath, lists, meta, prune, values};
use crate::contract::field::{ErrorKind, FieldError, FieldErrors, Path};
use crate::contract::{Object, Result, names};
use crate::kinds::base::Fields;
use crate::resource::{Column, Part, Scale, Strategy};
use crate::schema::{Arena, Schema};
use serde_json::Value;

/// Custom resources of one version.
pub(super) struct Custom {
    api_version: String,
    kind: String,
    openapi: Value,
    props: Props,
    arena: Arena,
    root: u32,
    rules: Option<Rules>,
    printer: Printer,
    parts: &'static [Part],
    scale: Option<Scale>,
    selectable: Vec<(String, Option<JsonPath>)>,
    deprecation: Option<String>,
    /// How an object of this version begins as it is kept.
    head: String,
    /// Whether the schema has defaults.
    defaults: bool,
    /// Whether the schema has resources within resources.
    embeds: bool,
}

impl Custom {
    /// The rules of a version (one of `spec.versions`).
    pub(super) fn new(group: &str, kind: &str, version: &Value) -> Custom {
        let api_version = format!("{group}/{}", version.text("name"));
        let openapi = version
            .field("schema")
            .field("openAPIV3Schema")
            .cloned()
            .unwrap_or_else(|| serde_json::json!({}));
        let props = Props::read(&openapi);
        let mut arena = Arena::default();
        let root = arena::add(&mut arena, &props, true);
        let subresources = version.field("subresources");
        let scale = subresources.field("scale");
        let parts: &'static [Part] = match (subresources.has("status"), scale.is_some()) {
            (true, true) => &[Part::Status, Part::Scale],
            (true, false) => &[Part::Status],
            (false, true) => &[Part::Scale],
            (false, false) => &[],
        };
        let selectable = |field: &Value| {
            let path = field.text("jsonPath");
            (path.trim_start_matches('.').to_owned(), JsonPath::parse(path))
        };
        let deprecation = version.is("deprecated").then(|| match version.maybe("deprecationWarning") {
            Some(warning) => warning.to_owned(),
            None => format!("{api_version} {kind} is deprecated"),
        });
        let head =
            format!("{{\"kind\":{},\"apiVersion\":{},", Value::from(kind), Value::from(api_version.as_str()));
        Custom {
            head,
            defaults: props.any(&|props| props.default.is_some()),
            embeds: props.any(&|props| props.embedded),
            kind: kind.to_owned(),
            rules: Rules::compile(&props, true),
            printer: Printer::new(version.list("additionalPrinterColumns")),
            parts,
            scale: scale.map(|scale| Scale {
                spec_replicas: scale.text("specReplicasPath").to_owned().into(),
                status_replicas: scale.text("statusReplicasPath").to_owned().into(),
                selector: scale.text("labelSelectorPath").to_owned().into(),
            }),
            selectable: version.list("selectableFields").iter().map(selectable).collect(),
            deprecation,
            api_version,
            openapi,
            props,
            arena,
            root,
        }
    }

    fn has_status(&self) -> bool {
        self.parts.contains(&Part::Status)
    }

    fn type_errors(&self, object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        for (name, wanted) in [("kind", &self.kind), ("apiVersion", &self.api_version)] {
            let found = object.text(&[name]);
            if found != wanted {
                errors.push(FieldError::invalid(&Path::new(name), found, format!("must be {wanted}")));
            }
        }
        errors
    }

    /// What the schema says, and what it says of lists and embedded resources; then the rules, if nothing is in their way.
    fn errors(&self, object: &Object, old: Option<&Object>, part: Part) -> FieldErrors {
        let errors = self.type_errors(object);
        if !errors.is_empty() {
            return errors;
        }
        let value = Value::Object(object.0.clone());
        let before = old.map(|old| Value::Object(old.0.clone()));
        let seen = before.as_ref().map_or(Old::NONE, Old::root);
        let root = Path::root();
        let mut errors = match part {
            Part::Status => self.status_errors(&value, seen),
            _ => values::validate(&self.props, &value, &root, seen),
        };
        errors.extend(self.scale_errors(object, part));
        errors.extend(meta::validate(&self.props, &value, &root, false));
        let was_wrong =
            before.as_ref().is_some_and(|old| !lists::validate(&self.props, old, &root).is_empty());
        if !was_wrong {
            errors.extend(lists::validate(&self.props, &value, &root));
        }
        if let Some(rules) = &self.rules {
            if errors.iter().any(|error| BLOCKING.contains(&error.kind)) {
                let detail = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
                errors.push(FieldError::invalid(&root, Value::Null, detail));
            } else {
                errors.extend(rules.validate(&self.props, &value, &root, seen));
            }
        }
        for error in errors.iter_mut().filter(|error| error.field.is_empty()) {
            // So Kubernetes writes the path of the object itself.
            "<nil>".clone_into(&mut error.field);
        }
        errors
    }

    fn status_errors(&self, value: &Value, seen: Old<'_>) -> FieldErrors {
        match (value.get("status"), self.props.properties.get("status")) {
            (Some(status), Some(props)) => {
                values::validate(props, status, &Path::new("status"), seen.key("status"))
            }
            _ => FieldErrors::new(),
        }
    }

    fn scale_errors(&self, object: &Object, part: Part) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let Some(scale) = &self.scale else { return errors };
        let spec = (part != Part::Status).then_some(&scale.spec_replicas);
        for path in spec.into_iter().chain([&scale.status_replicas]) {
            let names: Vec<&str> = path.trim_start_matches('.').split('.').collect();
            let at = Path::new(path);
            match object.at(&names) {
                None => {}
                Some(value) => match value.as_i64() {
                    Some(..0) => errors.push(FieldError::invalid(
                        &at,
                        value.clone(),
                        "should be a non-negative integer",
                    )),
                    Some(number) if number > i64::from(i32::MAX) => {
                        let detail = format!("should be less than or equal to {}", i32::MAX);
                        errors.push(FieldError::invalid(&at, number, detail));
                    }
                    Some(_) => {}
                    None => {
                        let found = if value.is_string() { "string" } else { go_type(value) };
                        let shown =
                            if let Value::String(text) = value { text.clone() } else { value.to_string() };
                        let detail = format!(
                            ".{} accessor error: {shown} is of the type {found}, expected int64",
                            names.join(".")
                        );
                        errors.push(FieldError::invalid(&at, 0, detail));
                    }
                },
            }
        }
        errors
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        _ => "<nil>",
    }
}

/// Errors after which rules would only repeat them.
const BLOCKING: [ErrorKind; 5] = [
    ErrorKind::NotSupported,
    ErrorKind::Required,
    ErrorKind::TooLong,
    ErrorKind::TooMany,
    ErrorKind::TypeInvalid,
];

impl Strategy for Custom {
    fn schema(&self) -> Schema<'_> {
        self.arena.schema(self.root)
    }

    fn openapi(&self) -> Option<Value> {
        Some(self.openapi.clone())
    }

    fn prune(&self, object: &mut Object) -> Option<Vec<String>> {
        let mut value = Value::Object(std::mem::take(&mut object.0));
        let mut dropped = Vec::new();
        prune::whole_numbers(&mut value);
        prune::prune(&mut value, &self.props, true, "", &mut dropped);
        if let Value::Object(map) = value {
            object.0 = map;
        }
        if let Some(metadata) = object.0.get_mut("metadata") {
            arena::prune_metadata(metadata, "metadata", &mut dropped);
        }
        dropped.sort();
        Some(dropped)
    }

    fn default(&self, object: &mut Object) {
        let mut value = Value::Object(std::mem::take(&mut object.0));
        prune::prune_nulls(&mut value, &self.props);
        prune::default(&mut value, &self.props);
        if let Value::Object(map) = value {
            object.0 = map;
        }
    }

    fn prepare_create(&self, object: &mut Object) {
        if self.has_status() {
            object.0.remove("status");
        }
    }

    fn prepare_update(&self, part: Part, object: &mut Object, old: &Object) {
        if part == Part::Status {
            let status = object.0.remove("status");
            let managed = object.remove(&["metadata", "managedFields"]);
            object.0.clone_from(&old.0);
            object.0.remove("status");
            object.0.extend(status.map(|status| ("status".to_owned(), status)));
            object.remove(&["metadata", "managedFields"]);
            object.metadata_mut().extend(managed.map(|managed| ("managedFields".to_owned(), managed)));
        } else if self.has_status() {
            match old.0.get("status") {
                Some(status) => drop(object.0.insert("status".to_owned(), status.clone())),
                None => drop(object.0.remove("status")),
            }
        }
    }

    fn validate(&self, object: &Object) -> FieldErrors {
        self.errors(object, None, Part::Main)
    }

    fn validate_update(&self, part: Part, object: &Object, old: &Object) -> FieldErrors {
        self.errors(object, Some(old), part)
    }

    fn name_errors(&self, name: &str, prefix: bool) -> Vec<String> {
        names::dns_subdomain(name, prefix)
    }

    fn deprecation(&self) -> Option<&str> {
        self.deprecation.as_deref()
    }

    fn warnings(&self, object: &Object, old: Option<&Object>) -> Vec<String> {
        let mut warnings: Vec<String> = Vec::new();
        let mut added: Vec<&str> = object
            .finalizers()
            .filter(|name| old.is_none_or(|old| !old.finalizers().any(|known| known == *name)))
            .collect();
        added.sort_unstable();
        for name in added.into_iter().filter(|name| !name.contains('/')) {
            if matches!(name, names::ORPHAN | names::FOREGROUND | "kubernetes") {
                continue;
            }
            let path = if name.contains('.') { " including a path (/)" } else { "" };
            let quoted = crate::contract::field::quoted(name);
            warnings.push(format!(
                "metadata.finalizers: {quoted}: prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer writers"
            ));
        }
        warnings
    }

    fn parts(&self) -> &[Part] {
        self.parts
    }

    fn scale(&self) -> Option<Scale> {
        self.scale.clone()
    }

    fn columns(&self) -> Vec<Column> {
        self.printer.columns()
    }

    fn row(&self, object: &Object, now: i64) -> Vec<Value> {
        self.printer.row(object, now)
    }

    fn selectable_names(&self) -> Vec<String> {
        self.selectable.iter().map(|(name, _)| name.clone()).collect()
    }

    fn selected(&self, object: &Object, field: &str) -> String {
        let path = self.selectable.iter().find(|(name, _)| name == field).and_then(|(_, path)| path.as_ref());
        let value = Value::Object(object.0.clone());
        match path.map(|path| path.find(&value)).and_then(|found| found.first().copied()) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        }
    }

    fn is_told_as_kept(&self, json: &[u8]) -> bool {
        !self.defaults && json.starts_with(self.head.as_bytes())
    }

    fn coerce(&self, object: &mut Object) -> std::result::Result<Vec<String>, String> {
        if !self.embeds {
            return Ok(Vec::new());
        }
        let mut value = Value::Object(std::mem::take(&mut object.0));
        let mut told = Vec::new();
        let coerced = coerce::coerce(&mut value, &self.props, &Path::root(), &mut told);
        if let Value::Object(map) = value {
            object.0 = map;
        }
        told.sort();
        coerced.map(|()| told)
    }

    fn from_stored(&self, mut object: Object) -> Result<Object> {
        if object.api_version() != self.api_version {
            object.0.insert("apiVersion".to_owned(), self.api_version.as_str().into());
            self.prune(&mut object);
        }
        self.default(&mut object);
        Ok(object)
    }

    fn to_stored(&self, object: Object) -> Result<Object> {
        Ok(object)
    }
}
