//! Requests and volumes, from claims and classes as people write them.

use csi::contract::v1::volume_capability::access_mode::Mode;
use csi::contract::v1::volume_capability::{AccessType, MountVolume};
use csi::contract::v1::{Topology, Volume, VolumeContentSource};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};

use super::request;
use super::volume::{Making, check, object};
use crate::csi::secrets::Reference;

fn claim(spec: Value) -> PersistentVolumeClaim {
    let metadata = json!({"name": "data", "namespace": "shop", "uid": "0123-4567", "resourceVersion": "42"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

fn plain() -> PersistentVolumeClaim {
    claim(json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}))
}

fn class(rest: Value) -> StorageClass {
    let mut class = json!({"metadata": {"name": "fast"}, "provisioner": "csi.example.com"});
    class.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    serde_json::from_value(class).unwrap()
}

fn modes(names: &[&str], multi_writer: bool) -> Vec<i32> {
    let made = request::capabilities(&claim(json!({"accessModes": names})), &class(json!({})), multi_writer)
        .unwrap();
    made.iter().map(|capability| capability.access_mode.unwrap().mode).collect()
}

#[test]
fn a_request_says_what_claim_and_class_say() {
    let class = class(json!({
        "parameters": {
            "pool": "ssd",
            "csi.storage.k8s.io/fstype": "xfs",
            "csi.storage.k8s.io/provisioner-secret-name": "key",
            "csi.storage.k8s.io/provisioner-secret-namespace": "keys",
        },
        "mountOptions": ["noatime"],
    }));
    let claim = claim(json!({
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}, "limits": {"storage": "2Gi"}},
    }));
    let made = request::create(&claim, &class, false).unwrap();
    assert_eq!(made.name, "pvc-0123-4567");
    let range = made.capacity_range.unwrap();
    assert_eq!((range.required_bytes, range.limit_bytes), (1 << 30, 2 << 30));
    let parameters: Vec<(&str, &str)> =
        made.parameters.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(
        parameters,
        [
            ("csi.storage.k8s.io/pv/name", "pvc-0123-4567"),
            ("csi.storage.k8s.io/pvc/name", "data"),
            ("csi.storage.k8s.io/pvc/namespace", "shop"),
            ("pool", "ssd"),
        ]
    );
    let flags =
        MountVolume { fs_type: "xfs".into(), mount_flags: vec!["noatime".into()], ..Default::default() };
    assert_eq!(made.volume_capabilities[0].access_type, Some(AccessType::Mount(flags)));
}

#[test]
fn access_modes_are_the_drivers() {
    let all = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];
    let few = [
        Mode::SingleNodeWriter,
        Mode::MultiNodeReaderOnly,
        Mode::MultiNodeMultiWriter,
        Mode::SingleNodeWriter,
    ];
    assert_eq!(modes(&all, false), few.map(i32::from));
    let more = [
        Mode::SingleNodeMultiWriter,
        Mode::MultiNodeReaderOnly,
        Mode::MultiNodeMultiWriter,
        Mode::SingleNodeSingleWriter,
    ];
    assert_eq!(modes(&all, true), more.map(i32::from));
    let odd = claim(json!({"accessModes": ["Sometimes"]}));
    assert!(request::capabilities(&odd, &class(json!({})), false).unwrap_err().contains("Sometimes"));
}

#[test]
fn what_cannot_be_asked_for_is_named() {
    let refused =
        |claim: PersistentVolumeClaim, rest: Value| request::create(&claim, &class(rest), false).unwrap_err();
    let unknown = json!({"parameters": {"csi.storage.k8s.io/speed": "9"}});
    assert!(refused(plain(), unknown).contains("csi.storage.k8s.io/speed"));
    let twice = json!({"parameters": {"fsType": "ext4", "csi.storage.k8s.io/fstype": "xfs"}});
    assert!(refused(plain(), twice).contains("twice"));
    let selector = claim(json!({"accessModes": ["ReadWriteOnce"], "selector": {"matchLabels": {"a": "b"}}}));
    assert!(refused(selector, json!({})).contains("spec.selector"));
    let size = claim(json!({"resources": {"requests": {"storage": "lots"}}}));
    assert!(refused(size, json!({})).contains("\"lots\" is no size"));
}

fn made(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    volume: &Volume,
    has_topology: bool,
) -> PersistentVolume {
    let request = request::create(claim, class, false).unwrap();
    let secret = Reference { namespace: "keys".into(), name: "key".into() };
    let making = Making {
        claim,
        class,
        request: &request,
        secret: Some(&secret),
        identity: "here".into(),
        has_topology,
    };
    serde_json::from_value(object(&making, volume).unwrap()).unwrap()
}

#[test]
fn a_volume_tells_all_of_the_answer() {
    let class = class(json!({
        "reclaimPolicy": "Retain",
        "mountOptions": ["noatime"],
        "parameters": {
            "fstype": "ext4",
            "csi.storage.k8s.io/node-stage-secret-name": "${pvc.name}",
            "csi.storage.k8s.io/node-stage-secret-namespace": "${pvc.namespace}",
        },
    }));
    let volume = Volume {
        capacity_bytes: 3 << 30,
        volume_id: "v-1".into(),
        volume_context: [("shape".to_owned(), "round".to_owned())].into(),
        accessible_topology: vec![Topology { segments: [("zone".to_owned(), "a".to_owned())].into() }],
        ..Default::default()
    };
    let object = made(&plain(), &class, &volume, true);
    let annotations = object.metadata.annotations.unwrap();
    assert_eq!(annotations["pv.kubernetes.io/provisioned-by"], "csi.example.com");
    assert_eq!(annotations["volume.kubernetes.io/provisioner-deletion-secret-name"], "key");
    assert_eq!(annotations["volume.kubernetes.io/provisioner-deletion-secret-namespace"], "keys");
    assert_eq!(object.metadata.finalizers.unwrap(), ["external-provisioner.volume.kubernetes.io/finalizer"]);
    let spec = object.spec.unwrap();
    assert_eq!(spec.capacity.unwrap()["storage"].0, "3Gi");
    assert_eq!(spec.persistent_volume_reclaim_policy.unwrap(), "Retain");
    assert_eq!(spec.mount_options.unwrap(), ["noatime"]);
    assert!(spec.node_affinity.is_some());
    let claim_ref = spec.claim_ref.unwrap();
    assert_eq!((claim_ref.name.as_deref(), claim_ref.uid.as_deref()), (Some("data"), Some("0123-4567")));
    let csi = spec.csi.unwrap();
    assert_eq!((csi.driver.as_str(), csi.volume_handle.as_str()), ("csi.example.com", "v-1"));
    assert_eq!(csi.fs_type.as_deref(), Some("ext4"));
    let attributes = csi.volume_attributes.unwrap();
    assert_eq!(attributes["shape"], "round");
    assert_eq!(attributes["storage.kubernetes.io/csiProvisionerIdentity"], "here");
    let stage = csi.node_stage_secret_ref.unwrap();
    assert_eq!((stage.namespace.as_deref(), stage.name.as_deref()), (Some("shop"), Some("data")));
    assert_eq!(csi.node_publish_secret_ref, None);
}

#[test]
fn a_volume_without_a_size_has_the_claims_and_a_block_device_no_file_system() {
    let claim = claim(json!({
        "accessModes": ["ReadWriteOnce"], "volumeMode": "Block", "resources": {"requests": {"storage": "1Gi"}},
    }));
    let volume = Volume {
        volume_id: "v".into(),
        accessible_topology: vec![Topology { segments: [("zone".to_owned(), "a".to_owned())].into() }],
        ..Default::default()
    };
    let object = made(&claim, &class(json!({"parameters": {"fstype": "ext4"}})), &volume, false);
    let spec = object.spec.unwrap();
    assert_eq!(spec.capacity.unwrap()["storage"].0, "1Gi");
    assert_eq!(spec.volume_mode.as_deref(), Some("Block"));
    assert_eq!(spec.csi.unwrap().fs_type, None);
    assert_eq!(spec.node_affinity, None, "the driver does not know of topology");
    assert_eq!(spec.persistent_volume_reclaim_policy.as_deref(), Some("Delete"));
}

#[test]
fn an_answer_that_is_not_what_was_asked_for_is_refused() {
    let mut request = request::create(&plain(), &class(json!({})), false).unwrap();
    let volume = |bytes| Volume { volume_id: "v".into(), capacity_bytes: bytes, ..Default::default() };
    assert_eq!(check(&request, &volume(1 << 30)), Ok(()));
    assert_eq!(check(&request, &volume(0)), Ok(()));
    assert!(check(&request, &volume(1 << 29)).unwrap_err().contains("536870912"));
    assert!(check(&request, &Volume::default()).unwrap_err().contains("without an id"));
    request.volume_content_source = Some(VolumeContentSource::default());
    assert!(check(&request, &volume(1 << 30)).unwrap_err().contains("begin with"));
}
