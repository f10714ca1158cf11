use k8s_openapi::api::storage::v1::{VolumeAttachmentStatus, VolumeError};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::patches::{replaced, with_finalizer, without_finalizer};
use super::*;

#[test]
fn finalizers_are_named_as_by_the_sidecar() {
    assert_eq!(finalizer("csi.sextant.dev"), "external-attacher/csi-sextant-dev");
    assert_eq!(finalizer("a/b_c-"), "external-attacher/a-b-c-X");
}

#[test]
fn finalizers_come_and_go_alone() {
    let metadata = ObjectMeta {
        resource_version: Some("7".into()),
        finalizers: Some(vec!["other".into()]),
        ..ObjectMeta::default()
    };
    let added = with_finalizer(&metadata, "mine").unwrap();
    assert_eq!(added, json!({ "resourceVersion": "7", "finalizers": ["other", "mine"] }));
    assert_eq!(with_finalizer(&metadata, "other"), None);
    let taken = without_finalizer(&metadata, "other").unwrap();
    assert_eq!(taken, json!({ "resourceVersion": "7", "finalizers": [] }));
    assert_eq!(without_finalizer(&metadata, "mine"), None);
}

#[test]
fn a_publish_context_replaces_the_one_before() {
    let map = |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), "v".to_owned())).collect();
    let patch = replaced(Some(&map(&["a", "b"])), map(&["b", "c"]));
    assert_eq!(patch, json!({ "a": null, "b": "v", "c": "v" }));
    assert_eq!(replaced(Some(&map(&["a"])), map(&[])), Value::Null);
}

#[test]
fn a_failure_that_was_written_down_is_no_reason_to_look_again() {
    let attachment = |version: &str, attached, error: Option<&str>| {
        let error = error.map(|message| VolumeError { message: Some(message.into()), ..Default::default() });
        VolumeAttachment {
            metadata: ObjectMeta { resource_version: Some(version.into()), ..ObjectMeta::default() },
            status: Some(VolumeAttachmentStatus { attached, attach_error: error, ..Default::default() }),
            ..VolumeAttachment::default()
        }
    };
    let old = attachment("1", false, None);
    assert!(differs_in_errors_only(&old, &attachment("2", false, Some("no"))));
    assert!(!differs_in_errors_only(&old, &attachment("2", true, Some("no"))));
    assert!(!differs_in_errors_only(&old, &attachment("1", false, None)));
}
