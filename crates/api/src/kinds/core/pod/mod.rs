//! Pod, and the templates of pods that other kinds have.

mod affinity;
mod annotations;
mod containers;
pub(super) mod defaults;
mod env;
mod files;
mod image;
mod mounts;
mod prepare;
mod print;
mod probes;
pub(in crate::kinds) mod qos;
mod resize;
pub(super) mod resources;
mod security;
mod spec;
mod status;
mod update;
pub(super) mod volumes;
mod warnings;
mod windows;

use super::scheduling;
use crate::contract::Object;
use crate::contract::field::{FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Errors, Fields, Kind};
use crate::resource::Part;
use serde_json::{Map, Value};

pub use defaults::spec as default_spec;
pub use volumes::{driver_name, signer_name};

pub(super) fn kind() -> Kind {
    Kind::new("", "v1", "Pod", "pods", "io.k8s.api.core.v1.Pod")
        .short(&["po"])
        .categories(&["all"])
        .parts(&[Part::Status, Part::EphemeralContainers, Part::Resize])
        .status_keeps(&["ownerReferences"])
        .default(defaults::pod)
        .prepare_create(prepare::create)
        .prepare_update(prepare::update)
        .validate(validate)
        .validate_update(|part, new, old| match part {
            Part::Status => status::check(new, old),
            Part::EphemeralContainers => update::ephemeral(new, old),
            Part::Resize => resize::check(new, old),
            _ => update::check(new, old),
        })
        .early_warnings(annotations::warnings)
        .warnings(|object, old| if old.is_none() { warnings::pod(object) } else { Vec::new() })
        .table(print::columns, print::row)
        .selectable(&[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ])
        .selected(selected)
}

fn selected(object: &Object, field: &str) -> String {
    match field {
        "spec.hostNetwork" => object.spec().is("hostNetwork").to_string(),
        "status.podIP" | "status.podIPs" => {
            object.status().list("podIPs").first().map_or("", |ip| ip.text("ip")).to_owned()
        }
        _ => object.text(&field.split('.').collect::<Vec<_>>()).to_owned(),
    }
}

/// All containers of a spec with their paths, in the order in which Kubernetes walks them.
fn all_containers<'a>(path: &Path, spec: &'a Map<String, Value>) -> impl Iterator<Item = (Path, &'a Value)> {
    let lists = ["initContainers", "containers", "ephemeralContainers"].into_iter();
    lists.flat_map(move |field| {
        let path = path.child(field);
        spec.list(field).iter().enumerate().map(move |(index, container)| (path.index(index), container))
    })
}

/// What is wrong with metadata and spec of a new or updated pod alike.
fn metadata_and_spec(object: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let empty = Map::new();
    let spec = object.spec().unwrap_or(&empty);
    let path = Path::new("spec");
    let at = Path::new("metadata").child("annotations");
    annotations::check(&mut errors, &at, object.strings("annotations"), spec);
    spec::check(&mut errors, &path, spec, object.0.map("metadata"));
    if spec.text("serviceAccountName").is_empty() {
        account_tokens(&mut errors, &path, spec);
    }
    for field in ["containers", "initContainers"] {
        for (index, container) in spec.list(field).iter().enumerate() {
            containers::image_padding(&mut errors, &path.child(field).index(index), container);
        }
    }
    errors
}

/// Tokens of a service account need one.
fn account_tokens(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>) {
    for (index, volume) in spec.list("volumes").iter().enumerate() {
        for (source_index, source) in volume.field("projected").list("sources").iter().enumerate() {
            if source.has("serviceAccountToken") {
                let at = path
                    .child("volumes")
                    .index(index)
                    .child("projected")
                    .child("sources")
                    .index(source_index);
                let rule = "must not be specified when serviceAccountName is not set";
                errors.forbidden(&at.child("serviceAccountToken"), rule);
            }
        }
    }
}

fn validate(object: &Object) -> FieldErrors {
    let mut errors = metadata_and_spec(object);
    let path = Path::new("spec");
    let Some(spec) = object.spec() else { return errors };
    if !spec.list("ephemeralContainers").is_empty() {
        errors.forbidden(&path.child("ephemeralContainers"), "cannot be set on create");
    }
    if !spec.text("nodeName").is_empty() && !spec.list("schedulingGates").is_empty() {
        let rule = "cannot be set until all schedulingGates have been cleared";
        errors.forbidden(&path.child("nodeName"), rule);
    }
    annotations::check_match(&mut errors, &path, object, spec);
    errors
}

/// What is wrong with a template of pods (`metadata` and `spec`) at `path`.
#[must_use]
pub fn validate_template(template: &Value, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let metadata = template.field("metadata");
    let empty = Map::new();
    let spec = template.map("spec").unwrap_or(&empty);
    if let Some(labels) = metadata.and_then(|all| all.map("labels")) {
        errors.extend(names::labels_errors(&path.child("labels"), labels));
    }
    if let Some(map) = metadata.and_then(|all| all.map("annotations")) {
        let at = path.child("annotations");
        errors.extend(names::annotations_errors(&at, map));
        annotations::check(&mut errors, &at, Some(map), spec);
    }
    let spec_path = path.child("spec");
    spec::check(&mut errors, &spec_path, spec, None);
    let object = Object(Map::from_iter([(
        "metadata".to_owned(),
        metadata.cloned().unwrap_or_else(|| Map::new().into()),
    )]));
    annotations::check_match(&mut errors, &spec_path, &object, spec);
    if !spec.list("ephemeralContainers").is_empty() {
        let rule = "ephemeral containers not allowed in pod template";
        errors.forbidden(&spec_path.child("ephemeralContainers"), rule);
    }
    errors
}

/// Warnings about a template of pods at `path`.
#[must_use]
pub fn template_warnings(template: &Value, path: &Path) -> Vec<String> {
    warnings::template(template, path)
}

pub(super) use warnings::node_term as node_term_warnings;

/// What is wrong with tolerations.
pub fn tolerations(errors: &mut FieldErrors, list: &[Value], path: &Path) {
    scheduling::tolerations(errors, path, list);
}

/// What is wrong with what a runtime adds to each pod.
pub fn overhead(errors: &mut FieldErrors, overhead: &Map<String, Value>, path: &Path) {
    resources::check_overhead(errors, path, overhead);
}

/// What is wrong with the name of a resource of containers.
pub fn container_resource_name(errors: &mut FieldErrors, name: &str, path: &Path) {
    resources::container_name(errors, path, name);
}

#[cfg(test)]
mod tests;
