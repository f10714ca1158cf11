//! Volumes of pods: one source each, of a type that is there, well formed.

pub(in crate::kinds::core) mod cloud;
mod files;
mod projected;

use crate::contract::field::{FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Errors, Fields};
use crate::kinds::core::claim;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

pub(in crate::kinds::core) use cloud::{iscsi, one_colon_too_long};
pub(super) use files::descending;
pub(in crate::kinds::core) use files::{host_path, no_backsteps};
pub use projected::signer_name;

/// The volumes of a pod that are well formed, by name.
pub(super) type Volumes<'a> = Vec<(&'a str, &'a Map<String, Value>)>;

const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// What a source is checked against beside itself.
pub(super) struct Owner<'a> {
    /// The volume's name.
    pub name: &'a str,
    /// The pod's name; empty of a template.
    pub pod: &'a str,
    /// Whether it is a pod and no template.
    pub is_pod: bool,
}

/// What is wrong with the volumes of a pod; the well-formed ones are added to `volumes`.
pub(super) fn check<'a>(
    errors: &mut FieldErrors,
    path: &Path,
    spec: &'a Map<String, Value>,
    pod: &str,
    is_pod: bool,
    volumes: &mut Volumes<'a>,
) {
    let list = spec.list("volumes");
    let claims: BTreeSet<String> = list
        .iter()
        .filter(|volume| !pod.is_empty() && volume.has("ephemeral"))
        .map(|volume| format!("{pod}-{}", volume.text("name")))
        .collect();
    for (index, volume) in list.iter().enumerate() {
        let Some(volume) = volume.as_object() else { continue };
        let at = path.index(index);
        let name = volume.text("name");
        let before = errors.len();
        source(errors, &at, volume, &Owner { name, pod, is_pod });
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else {
            errors.malformed(&at, "name", name, names::dns_label(name, false));
        }
        if volumes.iter().any(|(other, _)| *other == name) {
            errors.duplicate(&at.child("name"), name);
        }
        if errors.len() == before {
            volumes.push((name, volume));
        }
        let claim = volume.field("persistentVolumeClaim").text("claimName");
        if volume.has("persistentVolumeClaim") && claims.contains(claim) {
            let rule = "must not reference a PVC that gets created for an ephemeral volume";
            errors.invalid(&at.child("persistentVolumeClaim").child("claimName"), claim, rule);
        }
    }
}

type SourceCheck = fn(&mut FieldErrors, &Path, &Value, &Owner<'_>);

/// Each type of source in Kubernetes' order: its field, what a second source is called, what its own fields are below,
/// and its check.
const SOURCES: &[(&str, &str, &str, SourceCheck)] = &[
    ("emptyDir", "emptyDir", "emptyDir", |errors, at, source, _| empty_dir(errors, at, source)),
    ("hostPath", "hostPath", "hostPath", |errors, at, source, _| host_path(errors, at, source)),
    ("gitRepo", "gitRepo", "gitRepo", |errors, at, source, _| {
        errors.needs(at, source, "repository");
        descending(errors, &at.child("directory"), source.text("directory"));
    }),
    ("gcePersistentDisk", "gcePersistentDisk", "persistentDisk", |errors, at, source, _| {
        cloud::gce(errors, at, source);
    }),
    ("awsElasticBlockStore", "awsElasticBlockStore", "awsElasticBlockStore", |errors, at, source, _| {
        cloud::aws(errors, at, source);
    }),
    ("secret", "secret", "secret", |errors, at, source, _| files::keys(errors, at, source, "secretName")),
    ("nfs", "nfs", "nfs", |errors, at, source, _| cloud::nfs(errors, at, source)),
    ("iscsi", "iscsi", "iscsi", |errors, at, source, _| {
        iscsi(errors, at, source, "must be valid format starting with iqn, eui, or naa");
    }),
    ("glusterfs", "glusterfs", "glusterfs", |errors, at, source, _| cloud::glusterfs(errors, at, source)),
    ("flocker", "flocker", "flocker", |errors, at, source, _| cloud::flocker(errors, at, source)),
    ("persistentVolumeClaim", "persistentVolumeClaim", "persistentVolumeClaim", |errors, at, source, _| {
        errors.needs(at, source, "claimName");
    }),
    ("rbd", "rbd", "rbd", |errors, at, source, _| cloud::rbd(errors, at, source)),
    ("cinder", "cinder", "cinder", |errors, at, source, _| cloud::cinder(errors, at, source)),
    ("cephfs", "cephFS", "cephfs", |errors, at, source, _| cloud::cephfs(errors, at, source)),
    ("quobyte", "quobyte", "quobyte", |errors, at, source, _| cloud::quobyte(errors, at, source)),
    ("downwardAPI", "downwarAPI", "downwardAPI", |errors, at, source, _| files::downward(errors, at, source)),
    ("fc", "fc", "fc", |errors, at, source, _| cloud::fc(errors, at, source)),
    ("flexVolume", "flexVolume", "flexVolume", |errors, at, source, _| cloud::flex(errors, at, source)),
    ("configMap", "configMap", "configMap", |errors, at, source, _| files::keys(errors, at, source, "name")),
    ("azureFile", "azureFile", "azureFile", |errors, at, source, _| cloud::azure_file(errors, at, source)),
    ("vsphereVolume", "vsphereVolume", "vsphereVolume", |errors, at, source, _| {
        errors.needs(at, source, "volumePath");
    }),
    ("photonPersistentDisk", "photonPersistentDisk", "photonPersistentDisk", |errors, at, source, _| {
        errors.needs(at, source, "pdID");
    }),
    ("portworxVolume", "portworxVolume", "portworxVolume", |errors, at, source, _| {
        errors.needs(at, source, "volumeID");
    }),
    ("azureDisk", "azureDisk", "azureDisk", |errors, at, source, _| cloud::azure_disk(errors, at, source)),
    ("storageos", "storageos", "storageos", |errors, at, source, _| cloud::storage_os(errors, at, source)),
    ("projected", "projected", "projected", |errors, at, source, _| projected::check(errors, at, source)),
    ("scaleIO", "scaleIO", "scaleIO", |errors, at, source, _| cloud::scale_io(errors, at, source)),
    ("csi", "csi", "csi", |errors, at, source, _| csi(errors, at, source)),
    ("ephemeral", "ephemeral", "ephemeral", |errors, at, source, _| ephemeral(errors, at, source)),
    ("image", "image", "image", image),
];

fn source(errors: &mut FieldErrors, at: &Path, volume: &Map<String, Value>, owner: &Owner<'_>) {
    let mut found = false;
    for (field, second, below, check) in SOURCES {
        let Some(source) = volume.field(field) else { continue };
        if found {
            errors.forbidden(&at.child(second), "may not specify more than 1 volume type");
        } else {
            found = true;
            check(errors, &at.child(below), source, owner);
            if *field == "ephemeral" && !owner.pod.is_empty() && !owner.name.is_empty() {
                claim_name(errors, at, owner);
            }
        }
        if *field == "iscsi" && one_colon_too_long(owner.name, source) {
            errors.invalid(&at.child("name"), owner.name, cloud::ISCSI_TOO_LONG);
        }
    }
    if !found {
        errors.required(at, "must specify a volume type");
    }
}

/// The claim of an ephemeral volume is named after pod and volume.
fn claim_name(errors: &mut FieldErrors, at: &Path, owner: &Owner<'_>) {
    let claim = format!("{}-{}", owner.pod, owner.name);
    let details = names::dns_subdomain(&claim, false);
    let details = details.into_iter().map(|detail| format!("PVC name {claim:?}: {detail}")).collect();
    errors.malformed(at, "name", owner.name, details);
}

fn empty_dir(errors: &mut FieldErrors, at: &Path, source: &Value) {
    let limit = source.field("sizeLimit").and_then(super::resources::quantity);
    if limit.is_some_and(|limit| limit.is_negative()) {
        errors.forbidden(&at.child("sizeLimit"), "SizeLimit field must be a valid resource quantity");
    }
}

fn csi(errors: &mut FieldErrors, at: &Path, source: &Value) {
    driver_name(errors, &at.child("driver"), source.text("driver"));
    if let Some(secret) = source.field("nodePublishSecretRef") {
        let name = secret.text("name");
        if name.is_empty() {
            errors.required(&at.child("nodePublishSecretRef").child("name"), "");
        } else {
            errors.malformed(at, "name", name, names::dns_subdomain(name, false));
        }
    }
}

/// The name of a CSI driver: a DNS subdomain of at most 63 bytes in which case does not matter.
pub fn driver_name(errors: &mut FieldErrors, path: &Path, name: &str) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    if name.len() > 63 {
        errors.push(crate::contract::field::FieldError::too_long(path, 63));
    }
    for detail in names::dns_subdomain(&name.to_lowercase(), false) {
        errors.invalid(path, name, detail);
    }
}

fn ephemeral(errors: &mut FieldErrors, at: &Path, source: &Value) {
    let at = at.child("volumeClaimTemplate");
    let Some(template) = source.map("volumeClaimTemplate") else {
        errors.required(&at, "");
        return;
    };
    claim::template(errors, &at, template);
}

fn image(errors: &mut FieldErrors, at: &Path, source: &Value, owner: &Owner<'_>) {
    if owner.is_pod {
        errors.needs(at, source, "reference");
    }
    errors.choice(at, source, "pullPolicy", super::containers::PULL_POLICIES, true);
}
