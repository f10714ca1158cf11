//! A request as webhooks and expressions see it: `AdmissionRequest` of `admission.k8s.io/v1`.

use super::matching::operation;
use super::{Operation, Request};
use crate::contract::{Object, Result, Status};
use crate::decode::{self, Expected, FieldValidation};
use crate::registry::{scale_of, scaled};
use crate::resource::Resource;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// A request, and its objects in the version in which somebody asked for them.
pub(super) struct Shown {
    /// The request without its objects.
    pub(super) request: Value,
    pub(super) object: Option<Value>,
    pub(super) old: Option<Value>,
}

/// The request in the version of `resource`, which is one of its own resource's.
pub(super) fn shown(request: &Request<'_>, resource: &Arc<Resource>) -> Result<Shown> {
    let object = |object: Option<&Object>| -> Result<Option<Value>> {
        object.map(|object| told(request, resource, object).map(Object::into_value)).transpose()
    };
    Ok(Shown {
        request: asked(request, resource),
        object: object(request.object.as_ref())?,
        old: object(request.old)?,
    })
}

fn asked(request: &Request<'_>, resource: &Resource) -> Value {
    let kind = |resource: &Resource| {
        let (api_version, kind) = match request.shown_as {
            Some((api_version, kind)) => (api_version.to_owned(), kind.to_owned()),
            None if request.subresource == "scale" => ("autoscaling/v1".to_owned(), "Scale".to_owned()),
            None => (resource.names.api_version(), resource.names.kind.to_string()),
        };
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        json!({"group": group, "version": version, "kind": kind})
    };
    let named = |resource: &Resource| {
        let names = &resource.names;
        json!({"group": names.group, "version": names.version, "resource": names.plural})
    };
    let own = &request.target.resource;
    let mut asked = json!({
        "kind": kind(resource),
        "resource": named(resource),
        "requestKind": kind(own),
        "requestResource": named(own),
        "operation": operation(request.operation),
        "userInfo": request.context.asker.to_value(),
        "dryRun": request.context.dry_run,
        "options": options(request),
    });
    let mut name = request.target.name.as_str();
    if name.is_empty() {
        name = request.object.as_ref().map_or("", |object| object.name());
    }
    // A namespace is within itself.
    let namespace = if request.kind() == "namespaces" { name } else { request.target.namespace.as_str() };
    for (field, text) in [
        ("name", name),
        ("namespace", namespace),
        ("subResource", request.subresource),
        ("requestSubResource", request.subresource),
    ] {
        if !text.is_empty() {
            asked[field] = text.into();
        }
    }
    asked
}

fn options(request: &Request<'_>) -> Value {
    let kind = match request.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if request.context.dry_run {
        options["dryRun"] = json!(["All"]);
    }
    options
}

fn told(request: &Request<'_>, resource: &Arc<Resource>, object: &Object) -> Result<Object> {
    let own = &request.target.resource;
    if request.shown_as.is_some() {
        return Ok(object.clone());
    }
    if request.subresource == "scale" {
        return scale_of(object, own);
    }
    converted(own, resource, object.clone())
}

/// An object of one version of a resource in another.
fn converted(from: &Arc<Resource>, to: &Arc<Resource>, object: Object) -> Result<Object> {
    if Arc::ptr_eq(from, to) || from.names.api_version() == to.names.api_version() {
        return Ok(object);
    }
    let kept = |resource: &Resource| resource.names.api_version() == resource.storage_version;
    let mut object = object;
    if !kept(from) {
        object = from.strategy.to_stored(object)?;
        object.0.insert("apiVersion".to_owned(), from.storage_version.as_ref().into());
    }
    if !kept(to) {
        object = to.strategy.from_stored(object)?;
    }
    object.0.insert("apiVersion".to_owned(), to.names.api_version().into());
    Ok(object)
}

/// Puts what a webhook or a policy made of the shown object into the request; true when it is another.
pub(super) fn put_back(request: &mut Request<'_>, resource: &Arc<Resource>, patched: Value) -> Result<bool> {
    let Some(before) = request.object.take() else { return Ok(false) };
    let no_object = || Status::internal("the patch leaves no object");
    let patched = Object::from_value(patched).ok_or_else(no_object)?;
    let own = &request.target.resource;
    let new = if request.shown_as.is_some() {
        patched
    } else if request.subresource == "scale" {
        scaled(&before, &patched, own)?
    } else {
        let mut object = patched;
        conform(resource, &mut object)?;
        resource.strategy.default(&mut object);
        converted(resource, own, object)?
    };
    let changed = new != before;
    request.object = Some(new);
    Ok(changed)
}

/// Drops what the schema does not know; what has the wrong type is an error of who patched.
fn conform(resource: &Resource, object: &mut Object) -> Result<()> {
    if resource.is_custom() {
        resource.strategy.prune(object);
        return Ok(());
    }
    let api_version = resource.names.api_version();
    let expected = Expected {
        api_version: &api_version,
        kind: &resource.names.kind,
        schema: resource.strategy.schema(),
    };
    match decode::conform(object, &expected, FieldValidation::Ignore) {
        Ok(_) => Ok(()),
        Err(status) => {
            let text = status.message.split_once(" cannot be handled as a ").map_or("", |(_, rest)| rest);
            Err(Status::internal(text.split_once(": ").map_or(status.message.as_str(), |(_, cause)| cause)))
        }
    }
}

/// The namespace of a request, as expressions see it; none of what is in none.
pub(super) fn namespace(request: &Request<'_>) -> Result<Option<Value>> {
    let name = &request.target.namespace;
    if name.is_empty() || request.kind() == "namespaces" {
        return Ok(None);
    }
    let Some(namespace) = request.registry.peek("namespaces", "", name)? else {
        return Err(Status::not_found("", "namespaces", name));
    };
    let mut told = Map::new();
    for field in ["metadata", "spec", "status"] {
        if let Some(value) = namespace.0.get(field) {
            told.insert(field.to_owned(), value.clone());
        }
    }
    Ok(Some(Value::Object(told)))
}
