//! LimitRange and ResourceQuota.

use super::pod::defaults::round_up;
use super::pod::{container_resource_name, resources::quantity};
use super::resource_names::{self, amount};
use crate::contract::Object;
use crate::contract::field::{FieldErrors, Path};
use crate::contract::names;
use crate::contract::quantity::{Form, Quantity};
use crate::kinds::base::{Defaults, Errors, Fields, Kind, check, table};
use crate::resource::{Column, Part};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

pub(super) fn range() -> Kind {
    Kind::new("", "v1", "LimitRange", "limitranges", "io.k8s.api.core.v1.LimitRange")
        .short(&["limits"])
        .without_generation()
        .default(default_range)
        .validate(validate_range)
        .table(
            || vec![table::name(), table::column("Created At", "date", "ObjectMeta.creationTimestamp")],
            |object, _| vec![object.name().into(), object.text(&["metadata", "creationTimestamp"]).into()],
        )
}

fn default_range(object: &mut Object) {
    for limit in object.make(&["spec"]).each("limits") {
        if limit.text("type") == "Container" {
            let (most, least) = (limit.map("max").cloned(), limit.map("min").cloned());
            if let Some(own) = limit.inside("default") {
                most.into_iter().flatten().for_each(|(name, value)| own.fill(&name, value));
            }
            let own = limit.map("default").cloned();
            if let Some(request) = limit.inside("defaultRequest") {
                let all = own.into_iter().flatten().chain(least.into_iter().flatten());
                all.for_each(|(name, value)| request.fill(&name, value));
            }
        }
        for field in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            if let Some(list) = limit.within(field) {
                round_up(list);
            }
            limit.drop_empty(field);
        }
    }
}

fn validate_range(object: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut types = BTreeSet::new();
    for (index, limit) in object.spec().list("limits").iter().enumerate() {
        let at = Path::new("spec").child("limits").index(index);
        let kind = limit.text("type");
        let found = names::qualified_name(kind);
        if found.is_empty()
            && !kind.contains('/')
            && !matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim")
        {
            errors.invalid(&at.child("type"), kind, "must be a standard limit type or fully qualified");
        }
        errors.malformed(&at, "type", kind, found);
        if !types.insert(kind) {
            errors.duplicate(&at.child("type"), kind);
        }
        limit_names(&mut errors, &at, limit, kind);
        compare(&mut errors, &at, limit, kind);
    }
    errors
}

fn limit_names(errors: &mut FieldErrors, at: &Path, limit: &Value, kind: &str) {
    for field in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let is_default = matches!(field, "default" | "defaultRequest");
        if field == "maxLimitRequestRatio" && kind == "PersistentVolumeClaim" {
            let bounded = ["min", "max"].iter().any(|bound| limit.field(bound).has("storage"));
            if !bounded {
                let rule = "either minimum or maximum storage value is required, but neither was provided";
                errors.required(&at.child("limits"), rule);
            }
        }
        if is_default && kind == "Pod" {
            if limit.entries(field).next().is_some() {
                errors.forbidden(&at.child(field), "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (name, _) in limit.entries(field) {
            let at = at.child(field).key(name);
            match kind {
                "Pod" | "Container" => container_resource_name(errors, name, &at),
                _ => resource_names::any_name(errors, &at, name),
            }
        }
    }
}

/// The bounds of each resource do not contradict each other.
fn compare(errors: &mut FieldErrors, at: &Path, limit: &Value, kind: &str) {
    let pod = kind == "Pod";
    let fields = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
    let keys: BTreeSet<&str> =
        fields.iter().flat_map(|field| limit.entries(field).map(|(name, _)| name)).collect();
    for key in keys {
        let of = |field: &str| {
            let skipped = pod && field.starts_with("default");
            limit.field(field).field(key).filter(|_| !skipped).and_then(quantity)
        };
        let (least, most) = (of("min"), of("max"));
        let (default, request, ratio) = (of("default"), of("defaultRequest"), of("maxLimitRequestRatio"));
        let mut above = |one: &Option<Quantity>,
                         other: &Option<Quantity>,
                         field: &str,
                         shown: &Quantity,
                         names: (&str, &str)| {
            if let (Some(one), Some(other)) = (one, other)
                && one > other
            {
                let rule = format!("{} value {one} is greater than {} value {other}", names.0, names.1);
                errors.invalid(&at.child(field).key(key), shown.to_string(), rule);
            }
        };
        let none = Quantity::default();
        let shown = |value: &Option<Quantity>| value.clone().unwrap_or_else(|| none.clone());
        above(&least, &most, "min", &shown(&least), ("min", "max"));
        above(&least, &request, "defaultRequest", &shown(&request), ("min", "default request"));
        above(&request, &most, "defaultRequest", &shown(&request), ("default request", "max"));
        above(&request, &default, "defaultRequest", &shown(&request), ("default request", "default limit"));
        above(&least, &default, "default", &shown(&least), ("min", "default"));
        above(&default, &most, "default", &shown(&most), ("default", "max"));
        if let Some(ratio) = &ratio {
            ratios(errors, &at.child("maxLimitRequestRatio").key(key), ratio, least.as_ref(), most.as_ref());
        }
        if let (Some(default), Some(request), false) =
            (&default, &request, resource_names::can_overcommit(key))
            && default != request
        {
            let rule =
                format!("default value {default} must equal to defaultRequest value {request} in {key}");
            errors.invalid(&at.child("defaultRequest").key(key), request.to_string(), rule);
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the ratio of two amounts is a floating point number to Kubernetes"
)]
fn ratios(
    errors: &mut FieldErrors,
    at: &Path,
    ratio: &Quantity,
    least: Option<&Quantity>,
    most: Option<&Quantity>,
) {
    if *ratio < Quantity::of(1, Form::Decimal) {
        errors.invalid(at, ratio.to_string(), format!("ratio {ratio} is less than 1"));
    }
    if let (Some(least), Some(most)) = (least, most) {
        let bound = most.milli_value() as f64 / least.milli_value() as f64;
        if ratio.milli_value() as f64 / 1000.0 > bound {
            let rule = format!("ratio {ratio} is greater than max/min = {bound:.6}");
            errors.invalid(at, ratio.to_string(), rule);
        }
    }
}

pub(super) fn quota() -> Kind {
    Kind::new("", "v1", "ResourceQuota", "resourcequotas", "io.k8s.api.core.v1.ResourceQuota")
        .short(&["quota"])
        .without_generation()
        .parts(&[Part::Status])
        .default(|object| {
            if let Some(hard) = object.make(&["spec"]).within("hard") {
                round_up(hard);
            }
            if let Some(status) = object.0.within("status") {
                for field in ["hard", "used"] {
                    if let Some(list) = status.within(field) {
                        round_up(list);
                    }
                }
            }
        })
        .validate(validate_quota)
        .validate_update(update_quota)
        .table(columns, row)
}

fn hard(errors: &mut FieldErrors, path: &Path, owner: Option<&Map<String, Value>>, field: &str) {
    for (name, value) in owner.entries(field) {
        let at = path.child(field).key(name);
        resource_names::any_name(errors, &at, name);
        if !name.contains('/') && !resource_names::is_of_quota(name) {
            errors.invalid(&at, name, "must be a standard resource for quota");
        }
        if let Some(value) = quantity(value) {
            amount(errors, &at, name, &value);
        }
    }
}

fn validate_quota(object: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("spec");
    let empty = Map::new();
    let spec = object.spec().unwrap_or(&empty);
    hard(&mut errors, &path, Some(spec), "hard");
    scopes(&mut errors, &path.child("scopes"), spec);
    selector(&mut errors, &path.child("scopeSelector").child("matchExpressions"), spec);
    errors
}

/// Whether a scope can limit a resource.
fn applies(scope: &str, resource: &str) -> bool {
    let compute = ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"]
        .contains(&resource);
    match scope {
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => resource == "pods" || compute,
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

fn is_scope(scope: &str) -> bool {
    const ALL: &[&str] = &[
        "Terminating",
        "NotTerminating",
        "BestEffort",
        "NotBestEffort",
        "PriorityClass",
        "VolumeAttributesClass",
        "CrossNamespacePodAffinity",
    ];
    ALL.contains(&scope)
}

fn scopes(errors: &mut FieldErrors, at: &Path, spec: &Map<String, Value>) {
    let list = spec.list("scopes");
    for scope in spec.texts("scopes") {
        if !is_scope(scope) {
            errors.invalid(at, list.to_vec(), "unsupported scope");
        }
        for _ in unsupported(spec, scope) {
            errors.invalid(at, list.to_vec(), "unsupported scope applied to resource");
        }
    }
    conflicts(errors, at, spec, &spec.texts("scopes").collect());
}

fn unsupported<'a>(spec: &'a Map<String, Value>, scope: &'a str) -> impl Iterator<Item = &'a str> {
    let names = spec.entries("hard").map(|(name, _)| name);
    names.filter(move |name| resource_names::is_of_quota(name) && !applies(scope, name))
}

fn conflicts(errors: &mut FieldErrors, at: &Path, spec: &Map<String, Value>, seen: &BTreeSet<&str>) {
    for (one, other) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        if seen.contains(one) && seen.contains(other) {
            let list = spec.field("scopes").cloned().unwrap_or(Value::Null);
            errors.invalid(at, list, "conflicting scopes");
        }
    }
}

fn selector(errors: &mut FieldErrors, at: &Path, spec: &Map<String, Value>) {
    let Some(selector) = spec.field("scopeSelector") else { return };
    let mut seen = BTreeSet::new();
    for requirement in selector.list("matchExpressions") {
        let (scope, operator) = (requirement.text("scopeName"), requirement.text("operator"));
        if !is_scope(scope) {
            errors.invalid(&at.child("scopeName"), scope, "unsupported scope");
        }
        for _ in unsupported(spec, scope) {
            let rule = "unsupported scope applied to resource";
            errors.invalid_inside(at, "ScopeSelector", selector, rule);
        }
        let exists_only = is_scope(scope) && !matches!(scope, "PriorityClass" | "VolumeAttributesClass");
        if exists_only && operator != "Exists" {
            let rule = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                        ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                        ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.invalid(&at.child("operator"), operator, rule);
        }
        let values = requirement.list("values");
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let rule = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.required(&at.child("values"), rule);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let rule = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.invalid(&at.child("values"), values.to_vec(), rule);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.invalid(&at.child("operator"), operator, "not a valid selector operator"),
        }
        seen.insert(scope);
    }
    conflicts(errors, at, spec, &seen);
}

fn update_quota(part: Part, new: &Object, old: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if part == Part::Status {
        for field in ["hard", "used"] {
            hard(&mut errors, &Path::new("status"), new.status(), field);
        }
        return errors;
    }
    errors.extend(validate_quota(new));
    let of =
        |object: &Object| -> BTreeSet<String> { object.spec().texts("scopes").map(str::to_owned).collect() };
    if of(new) != of(old) {
        let list = new.spec().field("scopes").cloned().unwrap_or(Value::Null);
        errors.invalid(&Path::new("spec").child("scopes"), list, check::IMMUTABLE);
    }
    errors
}

fn columns() -> Vec<Column> {
    let request = "Request represents a minimum amount of cpu/memory that a container may consume.";
    let limit = "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the \
                 node.";
    vec![
        table::name(),
        table::column("Request", "string", request),
        table::column("Limit", "string", limit),
        table::age(),
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (name, most) in object.status().entries("hard") {
        let used = object.status().field("used").field(name).and_then(quantity).unwrap_or_default();
        let text = format!("{name}: {used}/{}", quantity(most).unwrap_or_default());
        if name.starts_with("limits.") { limits.push(text) } else { requests.push(text) }
    }
    vec![
        object.name().into(),
        requests.join(", ").into(),
        limits.join(", ").into(),
        table::age_of(object, now),
    ]
}
