//! What is wrong with a definition, in Kubernetes' words.

use super::version::{deprecation, parts};
use crate::contract::field::{ErrorKind, FieldError, FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::base::{Fields, check};
use serde_json::{Map, Value};

/// A new definition.
pub(super) fn create(object: &Object) -> FieldErrors {
    let spec = object.spec();
    let mut errors = own(spec, None);
    errors.extend(status(object));
    errors.extend(approval(object, None));
    errors.extend(preserve(object, None));
    errors
}

/// An updated one.
pub(super) fn update(object: &Object, old: &Object) -> FieldErrors {
    let (spec, before) = (object.spec(), old.spec());
    let mut errors = own(spec, before);
    let at = Path::new("spec");
    let field = |spec: Option<&Map<String, Value>>, path: &[&str]| {
        path.iter().try_fold(Value::from(spec?.clone()), |value, name| value.get(*name).cloned())
    };
    let mut fixed: Vec<(&[&str], Path)> = Vec::new();
    if super::status::is_established(old) {
        fixed.push((&["scope"], at.child("scope")));
        fixed.push((&["names", "kind"], at.child("names").child("kind")));
    }
    fixed.push((&["group"], at.child("group")));
    fixed.push((&["names", "plural"], at.child("names").child("plural")));
    for (path, at) in fixed {
        check::immutable(&mut errors, &at, field(spec, path).as_ref(), field(before, path).as_ref());
    }
    errors.extend(status(object));
    errors.extend(approval(object, Some(old)));
    errors.extend(preserve(object, Some(old)));
    errors
}

fn own(spec: Option<&Map<String, Value>>, before: Option<&Map<String, Value>>) -> FieldErrors {
    let at = Path::new("spec");
    let mut errors = group(spec, &at);
    let scope = spec.text("scope");
    if scope.is_empty() {
        errors.push(FieldError::required(&at.child("scope"), ""));
    } else {
        check::one_of(&mut errors, &at.child("scope"), scope, &["Cluster", "Namespaced"]);
    }
    let versions = spec.list("versions");
    let versions_at = at.child("versions");
    for (index, version) in versions.iter().enumerate() {
        if !version.field("schema").has("openAPIV3Schema") {
            let at = versions_at.index(index).child("schema").child("openAPIV3Schema");
            errors.push(FieldError::required(&at, ""));
        }
    }
    for (index, version) in versions.iter().enumerate() {
        errors.extend(self::version(version, versions, before, &versions_at.index(index)));
    }
    versions_together(versions, &versions_at, &mut errors);
    let first = versions.first();
    let wrong = first.map(|first| names::dns1035_label(first.text("name"), false)).unwrap_or_default();
    if !wrong.is_empty() && !first.text("name").is_empty() {
        errors.push(FieldError::invalid(&at.child("version"), first.text("name"), wrong.join(",")));
    }
    required_names(Fields::map(spec, "names"), &at.child("names"), &mut errors);
    errors.extend(name_errors(Fields::map(spec, "names"), &at.child("names")));
    if let Some(first) = first {
        errors.extend(parts(first, before, &at, |field| is_shared(versions, field), true));
    }
    errors.extend(conversion(spec.field("conversion"), &at.child("conversion")));
    errors
}

fn group(spec: Option<&Map<String, Value>>, at: &Path) -> FieldErrors {
    let (group, at) = (spec.text("group"), at.child("group"));
    if group.is_empty() {
        return vec![FieldError::required(&at, "")];
    }
    let wrong = names::dns_subdomain(group, false);
    if !wrong.is_empty() {
        return vec![FieldError::invalid(&at, group, wrong.join(","))];
    }
    if !group.contains('.') {
        return vec![FieldError::invalid(&at, group, "should be a domain with at least one dot")];
    }
    Vec::new()
}

fn versions_together(versions: &[Value], at: &Path, errors: &mut FieldErrors) {
    let wrong = |detail: &str| FieldError {
        kind: ErrorKind::Invalid,
        field: at.as_str().to_owned(),
        shown: Some(internal(versions)),
        detail: detail.to_owned(),
    };
    let unique = (1..versions.len()).all(|index| {
        versions[..index].iter().all(|version| version.text("name") != versions[index].text("name"))
    });
    if !unique {
        errors.push(wrong("must contain unique version names"));
    }
    if versions.iter().filter(|version| version.is("storage")).count() != 1 {
        errors.push(wrong("must have exactly one version marked as storage version"));
    }
}

/// Versions as Kubernetes keeps them within itself, in its order of fields; what all versions share stands elsewhere.
fn internal(versions: &[Value]) -> String {
    let field = |value: Option<&Value>| value.map_or("null".to_owned(), crate::contract::field::go_json);
    let one = |version: &Value| {
        let own = |name: &str| if is_shared(versions, name) { None } else { version.field(name) };
        format!(
            "{{\"Name\":{},\"Served\":{},\"Storage\":{},\"Deprecated\":{},\"DeprecationWarning\":{},\"Schema\":{},\
             \"Subresources\":{},\"AdditionalPrinterColumns\":{},\"SelectableFields\":{}}}",
            crate::contract::field::go_json(&version.text("name").into()),
            version.is("served"),
            version.is("storage"),
            version.is("deprecated"),
            field(version.field("deprecationWarning")),
            field(own("schema")),
            field(own("subresources")),
            field(own("additionalPrinterColumns")),
            field(own("selectableFields")),
        )
    };
    format!("[{}]", versions.iter().map(one).collect::<Vec<_>>().join(","))
}

/// Whether all versions say the same: Kubernetes keeps that once, which shows in the paths of errors.
fn is_shared(versions: &[Value], field: &str) -> bool {
    versions.windows(2).all(|pair| pair[0].field(field) == pair[1].field(field))
}

fn version(
    version: &Value,
    versions: &[Value],
    before: Option<&Map<String, Value>>,
    at: &Path,
) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let name = version.text("name");
    let wrong = names::dns1035_label(name, false);
    if !wrong.is_empty() {
        errors.push(FieldError::invalid(&at.child("name"), name, wrong.join(",")));
    }
    deprecation(version, &at.child("deprecationWarning"), &mut errors);
    errors.extend(parts(version, before, at, |field| !is_shared(versions, field), false));
    errors
}

fn required_names(names: Option<&Map<String, Value>>, at: &Path, errors: &mut FieldErrors) {
    for name in ["plural", "singular", "kind", "listKind"] {
        if names.text(name).is_empty() {
            errors.push(FieldError::required(&at.child(name), ""));
        }
    }
}

/// What is wrong with names that are there.
fn name_errors(names: Option<&Map<String, Value>>, at: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for name in ["plural", "singular", "kind", "listKind"] {
        let value = names.text(name);
        let mixed = matches!(name, "kind" | "listKind");
        let lower = if mixed { value.to_lowercase() } else { value.to_owned() };
        let wrong = names::dns1035_label(&lower, false);
        if value.is_empty() || wrong.is_empty() {
            continue;
        }
        let before = if mixed { "may have mixed case, but should otherwise match: " } else { "" };
        errors.push(FieldError::invalid(&at.child(name), value, format!("{before}{}", wrong.join(","))));
    }
    errors.extend(labels(names, "shortNames", at));
    let kind = names.text("kind");
    if !kind.is_empty() && kind == names.text("listKind") {
        let detail = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(&at.child("listKind"), kind, detail));
    }
    errors.extend(labels(names, "categories", at));
    errors
}

fn labels(names: Option<&Map<String, Value>>, field: &str, at: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, label) in names.texts(field).enumerate() {
        let wrong = names::dns1035_label(label, false);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(&at.child(field).index(index), label, wrong.join(",")));
        }
    }
    errors
}

fn conversion(conversion: Option<&Value>, at: &Path) -> FieldErrors {
    let Some(conversion) = conversion else { return FieldErrors::new() };
    let strategy_at = at.child("strategy");
    let mut errors = FieldErrors::new();
    match conversion.text("strategy") {
        "" => errors.push(FieldError::required(&strategy_at, "")),
        "None" => {
            let webhook = conversion.field("webhook");
            let detail = "should not be set when strategy is not set to Webhook";
            if webhook.has("clientConfig") {
                errors.push(FieldError::forbidden(&at.child("webhookClientConfig"), detail));
            }
            if !webhook.list("conversionReviewVersions").is_empty() {
                errors.push(FieldError::forbidden(&at.child("conversionReviewVersions"), detail));
            }
        }
        "Webhook" => {
            let detail = "conversion by a webhook is not served here: serve one version, or versions that differ in nothing but their name";
            errors.push(FieldError::forbidden(&strategy_at, detail));
        }
        other => errors.push(FieldError::not_supported(&strategy_at, other, &["None", "Webhook"])),
    }
    errors
}

/// What is wrong with an updated status.
pub(super) fn accepted(object: &Object) -> FieldErrors {
    name_errors(Fields::map(object.status(), "acceptedNames"), &Path::new("status").child("acceptedNames"))
}

fn status(object: &Object) -> FieldErrors {
    let status = object.status();
    let mut errors = accepted(object);
    let at = Path::new("status").child("storedVersions");
    let stored: Vec<&str> = status.texts("storedVersions").collect();
    let shown = || Value::from(stored.clone());
    if stored.is_empty() {
        errors.push(FieldError::invalid(&at, Value::Null, "must have at least one stored version"));
        return errors;
    }
    let versions = object.spec().list("versions");
    for (index, version) in versions.iter().enumerate().filter(|(_, version)| version.is("storage")) {
        let name = version.text("name");
        let earlier = versions[..index].iter().any(|earlier| earlier.text("name") == name);
        if earlier || !stored.contains(&name) {
            let detail = format!("must have the storage version {name}");
            errors.push(FieldError::invalid(&at, shown(), detail));
        }
    }
    for (index, name) in stored.iter().enumerate() {
        if !versions.iter().any(|version| version.text("name") == *name) {
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a \
                 storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.push(FieldError::invalid(&at.index(index), *name, detail));
        }
    }
    errors
}

/// Groups of the Kubernetes community need its approval.
fn approval(object: &Object, old: Option<&Object>) -> FieldErrors {
    const KEY: &str = "api-approved.kubernetes.io";
    let group = object.text(&["spec", "group"]);
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|own| group == *own || group.strip_suffix(own).is_some_and(|rest| rest.ends_with('.')));
    let value = |object: &Object| {
        object.strings("annotations").and_then(|map| map.get(KEY)).and_then(Value::as_str).map(str::to_owned)
    };
    if !protected {
        return FieldErrors::new();
    }
    let at = Path::new("metadata").child("annotations").key(KEY);
    let state = |text: Option<String>| match text.as_deref() {
        None | Some("") => 0,
        Some(text) if text.starts_with("unapproved") => 1,
        Some(text) if is_absolute(text) => 2,
        Some(_) => 3,
    };
    let own = value(object);
    if old.is_some_and(|old| state(value(old)) == state(own.clone())) {
        return FieldErrors::new();
    }
    match (state(own.clone()), own) {
        (0, _) => {
            let detail = format!(
                "protected groups must have approval annotation {}, see https://github.com/kubernetes/enhancements/pull/1111",
                crate::contract::field::quoted(KEY)
            );
            vec![FieldError::required(&at, detail)]
        }
        (3, own) => {
            let own = own.unwrap_or_default();
            let detail = format!(
                "protected groups must have approval annotation {} with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111",
                crate::contract::field::quoted(KEY)
            );
            vec![FieldError::invalid(&at, own, detail)]
        }
        _ => FieldErrors::new(),
    }
}

fn is_absolute(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty())
}

fn preserve(object: &Object, old: Option<&Object>) -> FieldErrors {
    let set = |object: &Object| {
        object.at(&["spec", "preserveUnknownFields"]).and_then(Value::as_bool) == Some(true)
    };
    if old.is_some_and(set) || !set(object) {
        return FieldErrors::new();
    }
    let at = Path::new("spec").child("preserveUnknownFields");
    let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
    vec![FieldError::invalid(&at, true, detail)]
}
