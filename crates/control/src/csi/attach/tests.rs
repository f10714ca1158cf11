use k8s_openapi::api::storage::v1::{VolumeAttachmentStatus, VolumeError};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::patches::replaced;
use super::*;

#[test]
fn finalizers_are_named_as_by_the_sidecar() {
    assert_eq!(finalizer("csi.sextant.dev"), "external-attacher/csi-sextant-dev");
    assert_eq!(finalizer("a/b_c-"), "external-attacher/a-b-c-X");
}

#[test]
fn a_publish_context_replaces_the_one_before() {
    let map = |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), "v".to_owned())).collect();
    let patch = replaced(Some(&map(&["a", "b"])), map(&["b", "c"]));
    assert_eq!(patch, json!({ "a": null, "b": "v", "c": "v" }));
    assert_eq!(replaced(Some(&map(&["a"])), map(&[])), Value::Null);
}

#[test]
fn what_was_written_down_of_a_failure_is_no_reason_to_look_again() {
    let attachment = |version: &str, attached, error: Option<&str>| {
        let error = error.map(|message| VolumeError { message: Some(message.into()), ..Default::default() });
        VolumeAttachment {
            metadata: ObjectMeta { resource_version: Some(version.into()), ..ObjectMeta::default() },
            status: Some(VolumeAttachmentStatus { attached, attach_error: error, ..Default::default() }),
            ..VolumeAttachment::default()
        }
    };
    let old = attachment("1", false, None);
    assert!(is_nothing_new(&old, &attachment("2", false, Some("no"))));
    let mut held = attachment("2", false, None);
    held.metadata.finalizers = Some(vec![finalizer("csi.sextant.dev")]);
    assert!(is_nothing_new(&old, &held));
    assert!(!is_nothing_new(&old, &attachment("2", true, Some("no"))));
    assert!(!is_nothing_new(&old, &attachment("1", false, None)));
}
