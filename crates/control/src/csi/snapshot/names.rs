//! What the snapshotter has agreed on with the rest of Kubernetes: finalizers, annotations, names, parameters of classes.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

/// On a claim that a snapshot is being cut of.
pub(super) const CLAIM_IS_SOURCE: &str = "snapshot.storage.kubernetes.io/pvc-as-source-protection";
/// On a VolumeSnapshot: volumes may be made of it.
pub(super) const SNAPSHOT_IS_SOURCE: &str =
    "snapshot.storage.kubernetes.io/volumesnapshot-as-source-protection";
/// On a VolumeSnapshot whose content goes with it.
pub(super) const SNAPSHOT_IS_BOUND: &str = "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection";
/// On a VolumeSnapshot that goes with its group.
pub(super) const SNAPSHOT_IN_GROUP: &str =
    "snapshot.storage.kubernetes.io/volumesnapshot-in-group-protection";
/// On a VolumeSnapshotContent: the snapshot is there.
pub(super) const CONTENT_IS_BOUND: &str =
    "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection";
/// On a VolumeGroupSnapshot.
pub(super) const GROUP_IS_BOUND: &str =
    "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-bound-protection";
/// On a VolumeGroupSnapshotContent.
pub(super) const GROUP_CONTENT_IS_BOUND: &str =
    "groupsnapshot.storage.kubernetes.io/volumegroupsnapshotcontent-bound-protection";

/// On a class: it is the default one of its driver.
pub(super) const IS_DEFAULT: &str = "snapshot.storage.kubernetes.io/is-default-class";
/// The same for groups.
pub(super) const GROUP_IS_DEFAULT: &str = "groupsnapshot.storage.kubernetes.io/is-default-class";
/// On a content: whether the driver has cut the snapshot is not known.
pub(super) const BEING_CREATED: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-created";
/// The same for groups.
pub(super) const GROUP_BEING_CREATED: &str =
    "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-being-created";
/// On a content: its VolumeSnapshot is going, so it may.
pub(super) const BEING_DELETED: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-deleted";
/// The same for groups.
pub(super) const GROUP_BEING_DELETED: &str =
    "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-being-deleted";
/// On a content: it is a member of the group with this handle, and not cut alone.
pub(super) const GROUP_HANDLE: &str = "groupsnapshot.storage.k8s.io/volumeGroupSnapshotHandle";
/// On a content: the secret to create and delete it with, its name and its namespace.
pub(super) const SECRET: [&str; 2] = [
    "snapshot.storage.kubernetes.io/deletion-secret-name",
    "snapshot.storage.kubernetes.io/deletion-secret-namespace",
];
/// The same for groups.
pub(super) const GROUP_SECRET: [&str; 2] = [
    "groupsnapshot.storage.kubernetes.io/deletion-secret-name",
    "groupsnapshot.storage.kubernetes.io/deletion-secret-namespace",
];
/// A content's label: the node of its volume, where drivers are on each node.
pub(super) const MANAGED_BY: &str = "snapshot.storage.kubernetes.io/managed-by";

/// What parameters begin with that are not for the driver.
const PREFIX: &str = "csi.storage.k8s.io/";

/// What a secret is for, as parameters of classes call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Snapshotter,
    SnapshotterList,
    GroupSnapshotter,
    GroupSnapshotterGet,
}

impl Use {
    const ALL: [Self; 4] =
        [Self::Snapshotter, Self::SnapshotterList, Self::GroupSnapshotter, Self::GroupSnapshotterGet];

    fn name(self) -> &'static str {
        match self {
            Self::Snapshotter => "snapshotter",
            Self::SnapshotterList => "snapshotter-list",
            Self::GroupSnapshotter => "group-snapshotter",
            Self::GroupSnapshotterGet => "group-snapshotter-get",
        }
    }

    fn keys(self) -> [String; 2] {
        let name = self.name();
        [format!("{PREFIX}{name}-secret-name"), format!("{PREFIX}{name}-secret-namespace")]
    }

    /// What templates call the snapshot.
    fn kind(self) -> &'static str {
        match self {
            Self::Snapshotter | Self::SnapshotterList => "volumesnapshot",
            Self::GroupSnapshotter | Self::GroupSnapshotterGet => "volumegroupsnapshot",
        }
    }
}

/// A secret's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SecretPlace {
    pub(super) name: String,
    pub(super) namespace: String,
}

/// The secret that a class names for a use, its templates filled in for a content, and for the snapshot (namespace and name) where
/// that is known.
///
/// # Errors
/// Half of it is said, a template names what is not known, or what comes out is no name.
pub(super) fn secret(
    parameters: &BTreeMap<String, String>,
    of: Use,
    content: &str,
    snapshot: Option<(&str, &str)>,
) -> Result<Option<SecretPlace>, String> {
    let [name_key, namespace_key] = of.keys();
    let (name, namespace) = match (parameters.get(&name_key), parameters.get(&namespace_key)) {
        (None, None) => return Ok(None),
        (Some(name), Some(namespace)) if !name.is_empty() && !namespace.is_empty() => (name, namespace),
        _ => return Err(format!("parameters {name_key} and {namespace_key} of the class: both are needed")),
    };
    let kind = of.kind();
    let mut known = BTreeMap::from([(format!("{kind}content.name"), content)]);
    if let Some((namespace, _)) = snapshot {
        known.insert(format!("{kind}.namespace"), namespace);
    }
    let namespace = filled_in(namespace, &known, &namespace_key)?;
    // A user names the snapshot, and must not choose another's namespace by it.
    if let Some((_, name)) = snapshot {
        known.insert(format!("{kind}.name"), name);
    }
    let name = filled_in(name, &known, &name_key)?;
    for (value, key, may) in [(&namespace, &namespace_key, ""), (&name, &name_key, ".")] {
        if !is_name(value, may) {
            return Err(format!(
                "parameter {key} of the class gives {value:?}, which is no name of an object"
            ));
        }
    }
    Ok(Some(SecretPlace { name, namespace }))
}

fn filled_in(template: &str, known: &BTreeMap<String, &str>, key: &str) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), template);
    while let Some((before, after)) = rest.split_once("${") {
        let Some((token, after)) = after.split_once('}') else {
            return Err(format!("parameter {key} of the class, {template:?}: a ${{ without its }}"));
        };
        let value = known.get(token).ok_or_else(|| {
            let all: Vec<&str> = known.keys().map(String::as_str).collect();
            format!("parameter {key} of the class: ${{{token}}} is not known here, only {}", all.join(", "))
        })?;
        out.push_str(before);
        out.push_str(value);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn is_name(text: &str, may: &str) -> bool {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let is_in = |c: char| is_end(Some(c)) || c == '-' || may.contains(c);
    text.len() <= 253 && is_end(text.chars().next()) && is_end(text.chars().last()) && text.chars().all(is_in)
}

/// What of a class's parameters is the driver's.
///
/// # Errors
/// One with the prefix of Kubernetes' own is not known.
pub(super) fn for_driver(parameters: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
    let known: Vec<String> = Use::ALL.into_iter().flat_map(Use::keys).collect();
    let mut kept = BTreeMap::new();
    for (key, value) in parameters {
        if !key.starts_with(PREFIX) {
            kept.insert(key.clone(), value.clone());
        } else if !known.contains(key) {
            return Err(format!(
                "parameter {key} of the class is not known; what begins with {PREFIX} is not the driver's"
            ));
        }
    }
    Ok(kept)
}

/// The content of a VolumeSnapshot of a claim.
pub(super) fn content(snapshot_uid: &str) -> String {
    format!("snapcontent-{snapshot_uid}")
}

/// What its snapshot is called to the driver.
pub(super) fn snapshot(snapshot_uid: &str) -> String {
    format!("snapshot-{snapshot_uid}")
}

/// The content of a VolumeGroupSnapshot of claims.
pub(super) fn group_content(group_uid: &str) -> String {
    format!("groupsnapcontent-{group_uid}")
}

/// What its group is called to the driver.
pub(super) fn group(group_uid: &str) -> String {
    format!("groupsnapshot-{group_uid}")
}

/// The VolumeSnapshot and the content of a group's member.
pub(super) fn member(group_uid: &str, volume_handle: &str) -> [String; 2] {
    let digest = Sha256::new().chain_update(group_uid).chain_update(volume_handle).finalize();
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    [format!("snapshot-{digits}"), format!("snapcontent-{digits}")]
}

/// So many bytes as a quantity: in the largest binary unit of which they are a whole number.
pub(super) fn quantity(bytes: i64) -> String {
    let (mut count, mut unit) = (bytes, "");
    for name in ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"] {
        if count == 0 || count % 1024 != 0 {
            break;
        }
        (count, unit) = (count / 1024, name);
    }
    format!("{count}{unit}")
}

#[cfg(test)]
mod tests;
