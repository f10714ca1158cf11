//! Classes' parameters: what of them is the driver's, and the secrets that they name, by templates that an object fills in.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt as _;
use serde_json::{Value, json};

/// Parameters that begin with this are for Kubernetes, not for the driver.
pub const PREFIX: &str = "csi.storage.k8s.io/";

/// What a secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// To make a volume, and to delete it.
    Provision,
    /// To attach it.
    ControllerPublish,
    /// To mount it for a node.
    NodeStage,
    /// To mount it for a pod.
    NodePublish,
    /// To expand it.
    ControllerExpand,
    /// To expand what a node has mounted.
    NodeExpand,
    /// To modify it.
    ControllerModify,
    /// To cut a snapshot, and to delete it.
    Snapshotter,
    /// To ask for a snapshot that was there before.
    SnapshotterList,
    /// To cut a group of snapshots, and to delete it.
    GroupSnapshotter,
    /// To ask for a group that was there before.
    GroupSnapshotterGet,
}

impl Use {
    /// Those that classes of storage name.
    const OF_VOLUMES: [Self; 7] = [
        Self::Provision,
        Self::ControllerPublish,
        Self::NodeStage,
        Self::NodePublish,
        Self::ControllerExpand,
        Self::NodeExpand,
        Self::ControllerModify,
    ];
    /// Those that classes of snapshots and of groups name.
    const OF_SNAPSHOTS: [Self; 4] =
        [Self::Snapshotter, Self::SnapshotterList, Self::GroupSnapshotter, Self::GroupSnapshotterGet];

    /// As it is called in parameters, and as it was before parameters had a prefix.
    fn keys(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Provision => ("provisioner-", Some("csiProvisionerSecret")),
            Self::ControllerPublish => ("controller-publish-", Some("csiControllerPublishSecret")),
            Self::NodeStage => ("node-stage-", Some("csiNodeStageSecret")),
            Self::NodePublish => ("node-publish-", Some("csiNodePublishSecret")),
            Self::ControllerExpand => ("controller-expand-", None),
            Self::NodeExpand => ("node-expand-", None),
            Self::ControllerModify => ("controller-modify-", None),
            Self::Snapshotter => ("snapshotter-", None),
            Self::SnapshotterList => ("snapshotter-list-", None),
            Self::GroupSnapshotter => ("group-snapshotter-", None),
            Self::GroupSnapshotterGet => ("group-snapshotter-get-", None),
        }
    }
}

/// Whether a parameter of a storage class names a secret, its prefix left out.
pub(super) fn is_of_volumes(key: &str) -> bool {
    names_secret(key, "") || Use::OF_VOLUMES.iter().any(|of| names_secret(key, of.keys().0))
}

/// The same of a class of snapshots.
pub(super) fn is_of_snapshots(key: &str) -> bool {
    Use::OF_SNAPSHOTS.iter().any(|of| names_secret(key, of.keys().0))
}

fn names_secret(key: &str, of: &str) -> bool {
    key.strip_prefix(of).is_some_and(|end| matches!(end, "secret-name" | "secret-namespace"))
}

/// What a class says to the driver, without what it says to Kubernetes. `is_known`: of a parameter without its prefix, whether it is one
/// of those.
///
/// # Errors
/// One with the prefix is not known.
pub fn own_parameters(
    parameters: Option<&BTreeMap<String, String>>,
    is_known: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, String>, String> {
    let mut own = BTreeMap::new();
    for (key, value) in parameters.into_iter().flatten() {
        match key.strip_prefix(PREFIX) {
            None => drop(own.insert(key.clone(), value.clone())),
            Some(rest) if is_known(rest) => {}
            Some(_) => return Err(format!("the class's parameter {key:?} is none that Kubernetes knows")),
        }
    }
    Ok(own)
}

/// A secret's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Reference {
    /// As objects have it.
    pub(super) fn json(&self) -> Value {
        json!({"name": self.name, "namespace": self.namespace})
    }
}

/// What fills in templates.
#[derive(Clone, Copy, Debug)]
pub enum Of<'a> {
    /// A claim and the volume that it gets. A class says for all uses what it says of none.
    Claim {
        /// The volume's name.
        volume: &'a str,
        /// The claim's namespace.
        namespace: &'a str,
        /// The claim's name.
        name: &'a str,
        /// Its annotations.
        annotations: &'a BTreeMap<String, String>,
    },
    /// A content, and the snapshot that it is of (its namespace and its name) where that is known.
    Snapshot {
        /// What templates call it: `volumesnapshot` or `volumegroupsnapshot`.
        kind: &'a str,
        /// The content's name.
        content: &'a str,
        /// The snapshot's namespace and name.
        snapshot: Option<(&'a str, &'a str)>,
    },
}

impl Of<'_> {
    /// What a token stands for in a namespace: nothing that a user chooses but the namespace that he is in already.
    fn namespace(&self, token: &str) -> Option<String> {
        let found = match *self {
            Self::Claim { volume, namespace, .. } => match token {
                "pv.name" => volume,
                "pvc.namespace" => namespace,
                _ => return None,
            },
            Self::Snapshot { kind, content, snapshot } => match token.strip_prefix(kind)? {
                "content.name" => content,
                ".namespace" => snapshot?.0,
                _ => return None,
            },
        };
        Some(found.to_owned())
    }

    /// What it stands for in a secret's name.
    fn name(&self, token: &str) -> Option<String> {
        let found = match *self {
            Self::Claim { name, .. } if token == "pvc.name" => Some(name),
            Self::Claim { annotations, .. } => {
                let key = token.strip_prefix("pvc.annotations['").and_then(|rest| rest.strip_suffix("']"));
                key.and_then(|key| annotations.get(key)).map(String::as_str)
            }
            Self::Snapshot { kind, snapshot, .. } => {
                let is_name = token.strip_prefix(kind) == Some(".name");
                snapshot.filter(|_| is_name).map(|(_, name)| name)
            }
        };
        found.map(str::to_owned).or_else(|| self.namespace(token))
    }
}

/// The secret that a class names for a use, or for all that it says nothing else of.
///
/// # Errors
/// Half of it is said, or it is said twice; a template names what is not known; what comes out is no name.
pub fn reference(
    of: Use,
    parameters: Option<&BTreeMap<String, String>>,
    object: &Of<'_>,
) -> Result<Option<Reference>, String> {
    let Some(parameters) = parameters else { return Ok(None) };
    let (key, old) = of.keys();
    let found = match (templates(parameters, key, old)?, object) {
        (None, Of::Claim { .. }) => templates(parameters, "", None)?,
        (found, _) => found,
    };
    let Some((name, namespace)) = found else { return Ok(None) };
    let filled_namespace = filled(namespace, |token| object.namespace(token))?;
    let namespace = checked("namespace", namespace, filled_namespace, is_label)?;
    let filled_name = filled(name, |token| object.name(token))?;
    let name = checked("secret name", name, filled_name, is_subdomain)?;
    Ok(Some(Reference { namespace, name }))
}

/// The secret that a storage class names for a use, its templates filled in for a claim and its volume.
///
/// # Errors
/// As with [`reference`].
pub(super) fn of_claim(
    of: Use,
    class: &StorageClass,
    volume: &str,
    claim: &PersistentVolumeClaim,
) -> Result<Option<Reference>, String> {
    let namespace = claim.namespace().unwrap_or_default();
    let (name, annotations) = (claim.name_any(), claim.annotations());
    let object = Of::Claim { volume, namespace: &namespace, name: &name, annotations };
    reference(of, class.parameters.as_ref(), &object)
}

/// The secret that a class of snapshots names for a use, its templates filled in for a content, and for the snapshot (its namespace and
/// its name) where that is known.
///
/// # Errors
/// As with [`reference`].
pub(super) fn of_content(
    of: Use,
    parameters: Option<&BTreeMap<String, String>>,
    content: &str,
    snapshot: Option<(&str, &str)>,
) -> Result<Option<Reference>, String> {
    let is_group = matches!(of, Use::GroupSnapshotter | Use::GroupSnapshotterGet);
    let kind = if is_group { "volumegroupsnapshot" } else { "volumesnapshot" };
    reference(of, parameters, &Of::Snapshot { kind, content, snapshot })
}

/// Templates of the name and the namespace.
fn templates<'a>(
    parameters: &'a BTreeMap<String, String>,
    key: &str,
    old: Option<&str>,
) -> Result<Option<(&'a str, &'a str)>, String> {
    let one = |end: &str, old_end: &str| {
        let key = format!("{PREFIX}{key}secret-{end}");
        let new = parameters.get(&key);
        let old_key = old.map(|old| format!("{old}{old_end}"));
        match (new, old_key.as_ref().and_then(|key| parameters.get(key))) {
            (Some(_), Some(_)) => Err(format!(
                "the class names the same secret by both {key:?} and {:?}: leave out the second",
                old_key.unwrap_or_default()
            )),
            (new, old) => Ok(new.or(old)),
        }
    };
    match (one("name", "Name")?, one("namespace", "Namespace")?) {
        (None, None) => Ok(None),
        (Some(name), Some(namespace)) if !name.is_empty() && !namespace.is_empty() => {
            Ok(Some((name, namespace)))
        }
        _ => {
            let key = format!("{PREFIX}{key}secret-");
            Err(format!("the class has one of \"{key}name\" and \"{key}namespace\" only: both are needed"))
        }
    }
}

/// A template with what its `${...}` stand for.
fn filled(template: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("${") {
        let (token, end) = after
            .split_once('}')
            .ok_or_else(|| format!("the class's template {template:?} has a ${{ without an end"))?;
        let value = value(token)
            .ok_or_else(|| format!("nothing is ${{{token}}} here, of the class's template {template:?}"))?;
        out.push_str(before);
        out.push_str(&value);
        rest = end;
    }
    out.push_str(rest);
    Ok(out)
}

fn checked(what: &str, template: &str, text: String, is: fn(&str) -> bool) -> Result<String, String> {
    match is(&text) {
        true => Ok(text),
        false if text == template => Err(format!("{text:?} is no valid {what}")),
        false => Err(format!("{text:?}, of the class's template {template:?}, is no valid {what}")),
    }
}

/// A part of an object's name, but for its length.
fn is_part(text: &str) -> bool {
    let inside = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    !text.is_empty() && text.bytes().all(inside) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_part(text)
}

/// Parts may be longer than labels.
fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_part)
}

#[cfg(test)]
mod tests;
