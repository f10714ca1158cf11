//! What a schema has to be: structural, and no more than Kubernetes understands.

use super::schema::Props;
use crate::contract::field::{FieldError, FieldErrors, Path};

/// Where in a schema a node stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What keeps the schema from being structural, sorted by text.
pub(super) fn validate(props: &Props, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    node(props, Level::Root, path, &mut errors);
    complete(props, path, &mut errors);
    errors.sort_by_key(ToString::to_string);
    errors
}

fn node(props: &Props, level: Level, path: &Path, errors: &mut FieldErrors) {
    if props.type_ == "array" && props.items.is_none() && !props.items_list {
        errors.push(FieldError::required(&path.child("items"), "must be specified"));
    }
    if let Some(items) = &props.items {
        node(items, Level::Item, &path.child("items"), errors);
    }
    for (name, schema) in &props.properties {
        node(schema, Level::Field, &path.child("properties").key(name), errors);
    }
    let additional = path.child("additionalProperties");
    if props.additional.is_some() && level == Level::Root {
        errors.push(FieldError::forbidden(&additional, "must not be used at the root"));
    }
    if let Some(values) = props.values() {
        node(values, Level::Field, &additional, errors);
    }
    extensions(props, path, errors);
    let first_is_pattern = props.all_of.first().is_some_and(|first| is_int_or_string(&first.any_of));
    junctors(props, is_int_or_string(&props.any_of), first_is_pattern, path, errors);
    type_(props, level, path, errors);
    if props.embedded && props.additional.is_some() {
        errors.push(FieldError::forbidden(
            &additional,
            "must not be used if x-kubernetes-embedded-resource is set",
        ));
    }
    if level == Level::Root && !props.type_.is_empty() && props.type_ != "object" {
        errors.push(FieldError::invalid(
            &path.child("type"),
            props.type_.as_str(),
            "must be object at the root",
        ));
    }
    metadata(props, level, path, errors);
    if props.embedded && !props.preserves() && props.properties.is_empty() {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&path.child("properties"), detail));
    }
}

fn extensions(props: &Props, path: &Path, errors: &mut FieldErrors) {
    let mut wrong = |name: &str| {
        let detail = "must be false if x-kubernetes-int-or-string is true";
        errors.push(FieldError::invalid(&path.child(name), true, detail));
    };
    if props.int_or_string && props.preserves() {
        wrong("x-kubernetes-preserve-unknown-fields");
    }
    if props.int_or_string && props.embedded {
        wrong("x-kubernetes-embedded-resource");
    }
}

fn type_(props: &Props, level: Level, path: &Path, errors: &mut FieldErrors) {
    let at = path.child("type");
    if props.embedded && props.type_ != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if props.type_.is_empty() {
            FieldError::required(&at, detail)
        } else {
            FieldError::invalid(&at, props.type_.as_str(), detail)
        });
    } else if props.type_.is_empty() && !props.int_or_string && !props.preserves() {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(&at, detail));
    }
}

fn metadata(props: &Props, level: Level, path: &Path, errors: &mut FieldErrors) {
    let resource = level == Level::Root || props.embedded;
    for name in ["kind", "apiVersion"] {
        if let Some(schema) = props.properties.get(name).filter(|schema| resource && schema.type_ != "string")
        {
            let at = path.child("properties").key(name).child("type");
            errors.push(FieldError::invalid(&at, schema.type_.as_str(), "must be string"));
        }
    }
    let Some(schema) = props.properties.get("metadata") else { return };
    let at = path.child("properties").key("metadata");
    if resource && schema.type_ != "object" {
        errors.push(FieldError::invalid(&at.child("type"), schema.type_.as_str(), "must be object"));
    }
    if level == Level::Root && !is_bare_metadata(schema) {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(&at, detail));
    }
}

/// Whether the schema of the root's metadata says nothing but of `name` and `generateName`.
fn is_bare_metadata(props: &Props) -> bool {
    let names = props.properties.keys().all(|name| name == "name" || name == "generateName");
    names
        && !(props.nullable || props.title || props.description || props.int_or_string || props.embedded)
        && props.items.is_none()
        && props.additional.is_none()
        && props.preserve.is_none()
        && props.list_type.is_none()
        && props.map_type.is_none()
        && props.rules.is_empty()
        && props.required.is_empty()
        && props.enum_.is_empty()
        && props.all_of.is_empty()
        && props.any_of.is_empty()
        && props.one_of.is_empty()
        && props.not.is_none()
        && props.max_properties.is_none()
        && props.min_properties.is_none()
        && props.pattern.is_empty()
        && props.format.is_empty()
}

/// Whether the alternatives are an integer and a string and nothing else: the one way in which a type may be named there.
fn is_int_or_string(any_of: &[Props]) -> bool {
    let bare = |props: &Props, type_: &str| *props == Props { type_: type_.to_owned(), ..Props::default() };
    matches!(any_of, [first, second] if bare(first, "integer") && bare(second, "string"))
}

/// `allOf`, `anyOf`, `oneOf`, `not` and the pattern of a node.
fn junctors(props: &Props, skip_any: bool, skip_first: bool, path: &Path, errors: &mut FieldErrors) {
    let lists = [("anyOf", &props.any_of), ("allOf", &props.all_of), ("oneOf", &props.one_of)];
    for (name, list) in lists {
        if name == "anyOf" && skip_any {
            continue;
        }
        for (index, schema) in list.iter().enumerate() {
            let skip = name == "allOf" && index == 0 && skip_first;
            nested(schema, skip, &path.child(name).index(index), errors);
        }
    }
    if let Some(not) = &props.not {
        nested(not, false, &path.child("not"), errors);
    }
    if let Some(error) = props.pattern.error() {
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        errors.push(FieldError::invalid(&path.child("pattern"), props.pattern.as_str(), detail));
    }
}

/// A node below a junctor: it may restrict values, and say nothing else.
fn nested(props: &Props, skip_any: bool, path: &Path, errors: &mut FieldErrors) {
    junctors(props, skip_any, false, path, errors);
    if let Some(items) = &props.items {
        nested(items, false, &path.child("items"), errors);
    }
    for (name, schema) in &props.properties {
        nested(schema, false, &path.child("properties").key(name), errors);
    }
    let says = [
        (!props.type_.is_empty(), "type", "must be empty to be structural"),
        (props.additional.is_some(), "additionalProperties", "must be undefined to be structural"),
        (props.default.is_some(), "default", "must be undefined to be structural"),
        (props.title, "title", "must be empty to be structural"),
        (props.description, "description", "must be empty to be structural"),
        (props.nullable, "nullable", "must be false to be structural"),
        (props.preserves(), "x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        (props.embedded, "x-kubernetes-embedded-resource", "must be false to be structural"),
        (props.int_or_string, "x-kubernetes-int-or-string", "must be false to be structural"),
        (!props.list_keys.is_empty(), "x-kubernetes-list-map-keys", "must be empty to be structural"),
        (props.list_type.is_some(), "x-kubernetes-list-type", "must be undefined to be structural"),
        (props.map_type.is_some(), "x-kubernetes-map-type", "must be undefined to be structural"),
        (!props.rules.is_empty(), "x-kubernetes-validations", "must be empty to be structural"),
    ];
    for (_, name, detail) in says.into_iter().filter(|(said, ..)| *said) {
        errors.push(FieldError::forbidden(&path.child(name), detail));
    }
    if props.properties.contains_key("metadata") {
        let detail = "must not be specified in a nested context";
        errors.push(FieldError::forbidden(&path.child("properties").key("metadata"), detail));
    }
}

/// Every field and list that a junctor of the root speaks of has to be declared outside of it too.
fn complete(props: &Props, path: &Path, errors: &mut FieldErrors) {
    for (name, list) in [("allOf", &props.all_of), ("anyOf", &props.any_of), ("oneOf", &props.one_of)] {
        for (index, schema) in list.iter().enumerate() {
            declared(schema, props, path, &path.child(name).index(index), errors);
        }
    }
    if let Some(not) = &props.not {
        declared(not, props, path, &path.child("not"), errors);
    }
}

fn declared(nested: &Props, props: &Props, at: &Path, path: &Path, errors: &mut FieldErrors) {
    for (name, list) in [("allOf", &nested.all_of), ("anyOf", &nested.any_of), ("oneOf", &nested.one_of)] {
        for (index, schema) in list.iter().enumerate() {
            declared(schema, props, at, &path.child(name).index(index), errors);
        }
    }
    if let Some(not) = &nested.not {
        declared(not, props, at, &path.child("not"), errors);
    }
    if let Some(items) = &nested.items {
        match &props.items {
            Some(outer) => declared(items, outer, &at.child("items"), &path.child("items"), errors),
            None => {
                let detail = format!("because it is defined in {}", path.child("items"));
                errors.push(FieldError::required(&at.child("items"), detail));
            }
        }
    }
    for (name, schema) in &nested.properties {
        let inner = path.child("properties").key(name);
        match props.properties.get(name) {
            Some(outer) => declared(schema, outer, &at.child("properties").key(name), &inner, errors),
            None => {
                let detail = format!("because it is defined in {inner}");
                errors.push(FieldError::required(&at.child("properties").key(name), detail));
            }
        }
    }
}
