//! `/scale`: how many replicas there are and are to be (`autoscaling/v1`).

use super::change::{decoded_as, manager, own, owned};
use super::patch::{Sent, merged, only_once, shown, strictly, told as told_of};
use super::target::{Answer, Body, PatchKind, Target, View};
use super::{Context, Registry, document, meta, view};
use crate::contract::field::{FieldError, Path};
use crate::contract::selector::LabelSelector;
use crate::contract::{Object, Result, Status};
use crate::decode::{self, Expected};
use crate::kinds::base::table;
use crate::merge::managed;
use crate::resource::{Part, Resource};
use crate::schema;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

const SCHEMA: &str = "io.k8s.api.autoscaling.v1.Scale";

impl Registry {
    pub(super) async fn update_scale(
        &self,
        context: &Context,
        target: &Target,
        body: Body,
        form: View,
    ) -> Result<Answer> {
        let mut scale = decoded_as(context, body, "autoscaling/v1", "Scale", SCHEMA)?;
        meta::says_name(&scale, target)?;
        meta::in_namespace(&mut scale, target)?;
        meta::with_name(&mut scale, target)?;
        let resource = &target.resource;
        let make = |live: Option<&Object>| {
            let live = live.ok_or_else(|| target.not_found())?;
            let mut new = scaled(live, &scale, resource)?;
            own(context, resource, Part::Scale, Some(live), &mut new);
            Ok(new)
        };
        self.rescale(context, target, &make, form).await
    }

    pub(super) async fn patch_scale(
        &self,
        context: &Context,
        target: &Target,
        kind: PatchKind,
        (patch, twice): Sent<'_>,
        form: View,
    ) -> Result<Answer> {
        let resource = &target.resource;
        let make = |live: Option<&Object>| {
            let live = live.ok_or_else(|| target.not_found())?;
            if kind == PatchKind::Apply {
                return applied(context, resource, live, patch).and_then(|new| {
                    only_once(context, twice)?;
                    Ok(new)
                });
            }
            let before = of(live, resource)?;
            let patched = merged(kind, &before.into_value(), patch, resource)?;
            let shown = shown(kind, patch, &patched);
            let Some(mut scale) = Object::from_value(patched) else {
                return Err(Status::bad_request("the patch leaves no object"));
            };
            let told = told_of(context, kind, patch, twice);
            strictly(context, &told, &shown, || conform(context, &mut scale))?;
            let mut new = scaled(live, &scale, resource)?;
            own(context, resource, Part::Scale, Some(live), &mut new);
            Ok(new)
        };
        self.rescale(context, target, &make, form).await
    }

    async fn rescale(
        &self,
        context: &Context,
        target: &Target,
        make: super::change::Make<'_>,
        form: View,
    ) -> Result<Answer> {
        let (code, changed) = self.change(context, target, Part::Scale, false, "", make).await?;
        Ok(Answer { code, json: told(&of(&changed, &target.resource)?, form) })
    }
}

/// The scale of an object.
pub(crate) fn of(object: &Object, resource: &Resource) -> Result<Object> {
    let paths = resource.strategy.scale().ok_or_else(|| Status::internal("the resource has no scale"))?;
    let mut metadata = Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.at(&["metadata", field]) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    let count = |path: &str| object.at(&steps(path)).and_then(Value::as_i64);
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {},
        "status": {"replicas": count(&paths.status_replicas).unwrap_or(0)},
    });
    if let Some(replicas) = count(&paths.spec_replicas).filter(|replicas| *replicas != 0) {
        scale["spec"]["replicas"] = replicas.into();
    }
    let selector = selector(object.at(&steps(&paths.selector)))?;
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    Ok(Object::from_value(scale).expect("written as an object above"))
}

/// The object with the replicas and the version of a scale.
pub(crate) fn scaled(live: &Object, scale: &Object, resource: &Resource) -> Result<Object> {
    let paths = resource.strategy.scale().ok_or_else(|| Status::internal("the resource has no scale"))?;
    let replicas = scale.at(&["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(0);
    if replicas < 0 {
        let path = Path::new("spec").child("replicas");
        let errors = vec![FieldError::invalid(&path, replicas, "must be greater than or equal to 0")];
        return Err(Status::invalid("autoscaling", "Scale", live.name(), &errors));
    }
    let mut new = live.clone();
    let steps = steps(&paths.spec_replicas);
    if let Some((last, above)) = steps.split_last() {
        new.make(above).insert((*last).to_owned(), replicas.into());
    }
    let version = scale.resource_version();
    if !version.is_empty() {
        new.metadata_mut().insert("resourceVersion".to_owned(), version.into());
    }
    Ok(new)
}

/// A server-side apply of a scale: an apply of the replicas alone.
fn applied(context: &Context, resource: &Resource, live: &Object, config: &Value) -> Result<Object> {
    let paths = resource.strategy.scale().ok_or_else(|| Status::internal("the resource has no scale"))?;
    let mut scale = Object::from_value(config.clone())
        .ok_or_else(|| Status::bad_request("the body of an apply is no object"))?;
    conform(context, &mut scale)?;
    scaled(live, &scale, resource)?;
    let mut map = Map::new();
    map.insert("kind".to_owned(), resource.names.kind.as_ref().into());
    map.insert("apiVersion".to_owned(), resource.names.api_version().into());
    let mut whole = Object(map);
    for field in ["name", "namespace"] {
        if let Some(value) = live.at(&["metadata", field]) {
            whole.metadata_mut().insert(field.to_owned(), value.clone());
        }
    }
    let steps = steps(&paths.spec_replicas);
    if let (Some((last, above)), Some(replicas)) = (steps.split_last(), scale.at(&["spec", "replicas"])) {
        whole.make(above).insert((*last).to_owned(), replicas.clone());
    }
    let manager = manager(context, resource, Part::Scale, managed::Operation::Apply);
    let schema = resource.strategy.schema();
    managed::apply(Some(live), &whole, schema, &manager, context.force, owned(resource, Part::Scale))
}

/// Checks what came of a patch as if it had been sent as a whole.
fn conform(context: &Context, scale: &mut Object) -> Result<()> {
    let schema = schema::builtin(SCHEMA);
    let schema = schema.ok_or_else(|| Status::internal(format!("there is no schema of {SCHEMA}")))?;
    let expected = Expected { api_version: "autoscaling/v1", kind: "Scale", schema };
    context.warnings.extend(decode::conform(scale, &expected, context.validation)?);
    Ok(())
}

/// A scale in the form that was asked for.
pub(super) fn told(scale: &Object, form: View) -> Bytes {
    match form {
        View::Full => document::json(scale),
        View::Metadata(meta) => view::metadata(scale, meta).into(),
        View::Table(include, meta) => {
            let count = |path: &[&str]| scale.at(path).and_then(Value::as_i64).unwrap_or(0);
            let cells = vec![
                scale.name().into(),
                count(&["spec", "replicas"]).into(),
                count(&["status", "replicas"]).into(),
                table::age_of(scale, Timestamp::now().as_second()),
            ];
            view::tabled(scale, &columns(), cells, (include, meta)).into()
        }
    }
}

/// The columns of a table of scales.
fn columns() -> Value {
    let number = |name: &str, description: &str| json!({"name": name, "type": "integer", "format": "", "description": description, "priority": 0});
    json!([
        {"name": "Name", "type": "string", "format": "name", "description": view::NAME, "priority": 0},
        number("Desired", "replicas is the desired number of instances for the scaled object."),
        number("Available", "replicas is the actual number of observed instances of the scaled object."),
        {"name": "Age", "type": "string", "format": "", "description": view::CREATED, "priority": 0},
    ])
}

fn steps(path: &str) -> Vec<&str> {
    path.split('.').filter(|step| !step.is_empty()).collect()
}

/// A selector as text, which is what clients of scales take.
fn selector(value: Option<&Value>) -> Result<String> {
    Ok(match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(map))
            if map.contains_key("matchLabels") || map.contains_key("matchExpressions") =>
        {
            LabelSelector::from_object(&Value::Object(map.clone()))?.to_string()
        }
        Some(Value::Object(map)) => LabelSelector::from_labels(map).to_string(),
        _ => String::new(),
    })
}
