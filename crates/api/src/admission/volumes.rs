//! Claims get the default storage class; claims and volumes are held while they are used.

use super::{Admission, Operation, Request};
use crate::contract::{Object, Result};
use crate::registry::BoxFuture;
use serde_json::Value;

const CLASSES: &str = "storageclasses.storage.k8s.io";
const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
const DEFAULT_BETA: &str = "storageclass.beta.kubernetes.io/is-default-class";
const CLASS_BETA: &str = "volume.beta.kubernetes.io/storage-class";

/// What Kubernetes calls DefaultStorageClass.
pub(super) struct DefaultClass;

impl Admission for DefaultClass {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.is(Operation::Create, "persistentvolumeclaims")
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(classed(request)))
    }
}

fn classed(request: &mut Request<'_>) -> Result<()> {
    let Some(claim) = &mut request.object else { return Ok(()) };
    let asked = claim.at(&["spec", "storageClassName"]).is_some_and(|value| !value.is_null())
        || claim.strings("annotations").is_some_and(|map| map.contains_key(CLASS_BETA));
    if asked {
        return Ok(());
    }
    let is_default = |class: &Object| {
        let annotation =
            |key| class.strings("annotations").and_then(|map| map.get(key)) == Some(&"true".into());
        annotation(DEFAULT) || annotation(DEFAULT_BETA)
    };
    let classes = request.registry.every(CLASSES, None)?;
    // Of several the newest, and of those of one second the first by name.
    let newest = classes.iter().filter(|class| is_default(class)).min_by_key(|class| {
        let created = class.text(&["metadata", "creationTimestamp"]);
        (std::cmp::Reverse(created), class.name())
    });
    if let Some(class) = newest {
        claim.make(&["spec"]).insert("storageClassName".to_owned(), class.name().into());
    }
    Ok(())
}

/// What Kubernetes calls StorageObjectInUseProtection.
pub(super) struct InUse;

impl Admission for InUse {
    fn handles(&self, request: &Request<'_>) -> bool {
        ["persistentvolumeclaims", "persistentvolumes", "volumeattributesclasses.storage.k8s.io"]
            .into_iter()
            .any(|kind| request.is(Operation::Create, kind))
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<()>> {
        let finalizer = match request.kind() {
            "persistentvolumeclaims" => "kubernetes.io/pvc-protection",
            "persistentvolumes" => "kubernetes.io/pv-protection",
            _ => "kubernetes.io/vac-protection",
        };
        if let Some(object) = &mut request.object
            && !object.finalizers().any(|held| held == finalizer)
        {
            let list = object.metadata_mut().entry("finalizers").or_insert_with(|| Value::Array(Vec::new()));
            if let Some(list) = list.as_array_mut() {
                list.push(finalizer.into());
            }
        }
        Box::pin(std::future::ready(Ok(())))
    }
}
