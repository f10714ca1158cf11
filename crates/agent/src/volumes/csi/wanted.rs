//! One volume of a driver as a pod wants it, from the objects that say so, and what the driver is told of it.

use std::collections::BTreeMap;

use csi::caller::{Driver, access_mode};
use csi::contract::v1::VolumeCapability;
use csi::contract::v1::node_service_capability::rpc::Type as NodeCall;
use csi::contract::v1::volume_capability::access_mode::Mode;
use csi::contract::v1::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use k8s_openapi::api::core::v1::{CSIVolumeSource, PersistentVolume, Pod, Secret, SecretReference};
use k8s_openapi::api::storage::v1::CSIDriver;
use kube::{Api, Client};

use super::record::{Id, hex};
use crate::names::Key;

/// What a pod wants of a driver.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The volume's name in the pod.
    pub(crate) volume: String,
    /// What it is called in paths and messages: the PersistentVolume's name, or the one in the pod.
    pub(crate) name: String,
    /// Which volume.
    pub(crate) id: Id,
    /// Whether it is made for the pod, and goes with it.
    pub(crate) ephemeral: bool,
    /// Whether it is a block device.
    pub(crate) block: bool,
    /// Whether nobody may write to it.
    pub(crate) read_only: bool,
    /// How many bytes its object says it has.
    pub(crate) bytes: Option<i64>,
    fs_type: String,
    flags: Vec<String>,
    modes: Vec<String>,
    attributes: BTreeMap<String, String>,
    /// For staging, for publishing, for growing.
    secrets: [Option<SecretReference>; 3],
}

/// What a secret is given for.
#[derive(Clone, Copy, Debug)]
pub(super) enum For {
    Stage,
    Publish,
    Expand,
}

impl Wanted {
    /// A PersistentVolume of a driver.
    pub(crate) fn of_volume(volume: &str, from: &PersistentVolume, read_only: bool) -> Option<Self> {
        let spec = from.spec.as_ref()?;
        let source = spec.csi.as_ref()?;
        Some(Self {
            volume: volume.to_owned(),
            name: from.metadata.name.clone().unwrap_or_default(),
            id: Id { driver: source.driver.clone(), handle: source.volume_handle.clone() },
            ephemeral: false,
            block: spec.volume_mode.as_deref() == Some("Block"),
            read_only,
            bytes: spec
                .capacity
                .as_ref()
                .and_then(|all| all.get("storage"))
                .and_then(client::quantity::bytes),
            fs_type: source.fs_type.clone().unwrap_or_default(),
            flags: spec.mount_options.clone().unwrap_or_default(),
            modes: spec.access_modes.clone().unwrap_or_default(),
            attributes: source.volume_attributes.clone().unwrap_or_default(),
            secrets: [
                source.node_stage_secret_ref.clone(),
                source.node_publish_secret_ref.clone(),
                source.node_expand_secret_ref.clone(),
            ],
        })
    }

    /// A volume that the pod's own spec describes.
    pub(crate) fn inline(key: &Key, volume: &str, source: &CSIVolumeSource) -> Self {
        // As kubelets call it.
        let handle = format!("csi-{}", hex(&format!("{}{volume}", key.uid)));
        let secret = source.node_publish_secret_ref.as_ref().map(|secret| SecretReference {
            name: Some(secret.name.clone()),
            namespace: Some(key.name.namespace.clone()),
        });
        Self {
            volume: volume.to_owned(),
            name: volume.to_owned(),
            id: Id { driver: source.driver.clone(), handle },
            ephemeral: true,
            block: false,
            read_only: source.read_only == Some(true),
            bytes: None,
            fs_type: source.fs_type.clone().unwrap_or_default(),
            flags: Vec::new(),
            modes: vec!["ReadWriteOnce".into()],
            attributes: source.volume_attributes.clone().unwrap_or_default(),
            secrets: [None, secret, None],
        }
    }

    /// What its mount point is called in its place.
    pub(super) fn point(&self) -> &'static str {
        if self.block { "dev" } else { "mount" }
    }

    /// Of several access modes a node's driver is told the first, as kubelets do it.
    fn mode(&self, several: bool) -> Result<Mode, String> {
        access_mode(self.modes.get(..1).unwrap_or(&["ReadWriteOnce".into()]), several)
    }

    /// How it is used. The group is told to drivers that apply it themselves.
    pub(super) fn capability(&self, driver: &Driver, group: Option<i64>) -> Result<VolumeCapability, String> {
        let mode = self.mode(driver.serves_node(NodeCall::SingleNodeMultiWriter))?;
        let group = group.filter(|_| driver.serves_node(NodeCall::VolumeMountGroup));
        let access = if self.block {
            AccessType::Block(BlockVolume {})
        } else {
            AccessType::Mount(MountVolume {
                fs_type: self.fs_type.clone(),
                mount_flags: self.flags.clone(),
                volume_mount_group: group.map(|group| group.to_string()).unwrap_or_default(),
            })
        };
        Ok(VolumeCapability {
            access_mode: Some(AccessMode { mode: mode.into() }),
            access_type: Some(access),
        })
    }

    /// What the volume's maker said of it, and of the pod where the driver wants to know.
    pub(super) fn context(&self, pod: &Pod, object: Option<&CSIDriver>) -> BTreeMap<String, String> {
        let mut context = self.attributes.clone();
        if object.is_some_and(|object| object.spec.pod_info_on_mount == Some(true)) {
            let meta = &pod.metadata;
            let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
            let told = [
                ("pod.name", meta.name.clone().unwrap_or_default()),
                ("pod.namespace", meta.namespace.clone().unwrap_or_default()),
                ("pod.uid", meta.uid.clone().unwrap_or_default()),
                ("serviceAccount.name", account.unwrap_or_default()),
                ("ephemeral", self.ephemeral.to_string()),
            ];
            context.extend(told.map(|(name, value)| (format!("csi.storage.k8s.io/{name}"), value)));
        }
        context
    }

    /// What was told when the volume was made, and nothing of a pod: a stage is for all pods.
    pub(super) fn attributes(&self) -> &BTreeMap<String, String> {
        &self.attributes
    }

    /// Whether the agent gives the files to the pod's group, as the driver's object has it.
    pub(super) fn is_shared(&self, driver: &Driver, object: Option<&CSIDriver>) -> bool {
        if self.block || self.read_only || driver.serves_node(NodeCall::VolumeMountGroup) {
            return false;
        }
        match object.and_then(|object| object.spec.fs_group_policy.as_deref()) {
            Some("None") => false,
            Some("File") => true,
            _ => {
                let is_once = |mode: &String| matches!(mode.as_str(), "ReadWriteOnce" | "ReadWriteOncePod");
                !self.fs_type.is_empty() && self.modes.iter().any(is_once)
            }
        }
    }

    /// What the driver is given in secret.
    pub(super) async fn secrets(
        &self,
        client: &Client,
        what: For,
    ) -> Result<BTreeMap<String, String>, String> {
        let [stage, publish, expand] = &self.secrets;
        let named = match what {
            For::Stage => stage,
            For::Publish => publish,
            For::Expand => expand,
        };
        let Some(named) = named else { return Ok(BTreeMap::new()) };
        let name = named.name.clone().unwrap_or_default();
        let namespace = named.namespace.clone().unwrap_or_default();
        let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
        let failed = |why: &str| format!("failed to get secret {namespace}/{name}: {why}");
        let secret = api.get(&name).await.map_err(|error| failed(&client::causes(&error)))?;
        let mut values = BTreeMap::new();
        for (key, value) in secret.data.unwrap_or_default() {
            let value = String::from_utf8(value.0)
                .map_err(|_| failed(&format!("the value of {key} is not UTF-8")))?;
            values.insert(key, value);
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_volume_is_what_its_object_says() {
        let from: PersistentVolume = serde_json::from_value(json!({
            "metadata": {"name": "pvc-1"},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "volumeMode": "Block",
                "csi": {"driver": "d", "volumeHandle": "h", "volumeAttributes": {"a": "b"}},
            },
        }))
        .unwrap();
        let wanted = Wanted::of_volume("data", &from, true).unwrap();
        assert_eq!((wanted.name.as_str(), wanted.volume.as_str(), wanted.point()), ("pvc-1", "data", "dev"));
        assert_eq!((wanted.bytes, wanted.read_only, wanted.ephemeral), (Some(1 << 30), true, false));
        let other: PersistentVolume =
            serde_json::from_value(json!({"spec": {"local": {"path": "/x"}}})).unwrap();
        assert!(Wanted::of_volume("data", &other, false).is_none());
    }

    #[test]
    fn of_several_access_modes_the_first_is_told() {
        let mode = |modes: &[&str]| {
            let spec = json!({"accessModes": modes, "csi": {"driver": "d", "volumeHandle": "h"}});
            let from = serde_json::from_value(json!({"spec": spec})).unwrap();
            Wanted::of_volume("data", &from, false).unwrap().mode(false)
        };
        assert_eq!(mode(&["ReadWriteOnce", "ReadOnlyMany"]), Ok(Mode::SingleNodeWriter));
        assert_eq!(mode(&["ReadOnlyMany", "ReadWriteOnce"]), Ok(Mode::MultiNodeReaderOnly));
        assert_eq!(mode(&[]), Ok(Mode::SingleNodeWriter));
        assert!(mode(&["Other"]).is_err());
    }

    #[test]
    fn a_driver_is_told_of_the_pod_where_it_wants_to_be() {
        let key = Key { name: client::cache::Name::new("shop", "db-0"), uid: "u".into() };
        let source =
            serde_json::from_value(json!({"driver": "d", "volumeAttributes": {"size": "1Gi"}})).unwrap();
        let wanted = Wanted::inline(&key, "v", &source);
        assert_eq!(wanted.id.handle, format!("csi-{}", hex("uv")));
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "db-0", "namespace": "shop", "uid": "u"},
            "spec": {"containers": [], "serviceAccountName": "db"},
        }))
        .unwrap();
        assert_eq!(wanted.context(&pod, None), [("size".into(), "1Gi".into())].into());
        let object: CSIDriver =
            serde_json::from_value(json!({"metadata": {}, "spec": {"podInfoOnMount": true}})).unwrap();
        let told = wanted.context(&pod, Some(&object));
        assert_eq!(told.len(), 6);
        assert_eq!(told["csi.storage.k8s.io/ephemeral"], "true");
        assert_eq!(told["csi.storage.k8s.io/serviceAccount.name"], "db");
    }
}
