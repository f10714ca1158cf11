use super::*;
use serde_json::json;

fn content(version: &str) -> Resource {
    let mut all = resources().into_iter();
    all.find(|one| one.names.kind == "VolumeGroupSnapshotContent" && one.names.version == version).unwrap()
}

#[test]
fn versions_share_their_objects_and_show_what_they_know() {
    let object = |version: &str, list: &str| {
        let value = json!({
            "apiVersion": format!("{GROUPS}/{version}"), "kind": "VolumeGroupSnapshotContent",
            "metadata": {"name": "a"}, "status": {"readyToUse": true, list: [{"volumeHandle": "h"}]},
        });
        Object::from_value(value).unwrap()
    };
    let names: Vec<_> = ["v1", "v1beta2", "v1beta1"].map(|version| content(version).stored_as).into();
    assert!(names.iter().all(|name| *name == names[0]));

    let kept = content("v1").strategy.to_stored(object("v1", LIST)).unwrap();
    assert_eq!(kept, object("v1beta2", LIST));
    assert_eq!(content("v1").strategy.from_stored(kept.clone()).unwrap(), object("v1", LIST));
    let old = content("v1beta1").strategy.from_stored(kept).unwrap();
    assert_eq!(
        (old.api_version(), old.0["status"].clone()),
        ("groupsnapshot.storage.k8s.io/v1beta1", json!({"readyToUse": true}))
    );
}

#[test]
fn the_oldest_version_is_deprecated() {
    let text = "groupsnapshot.storage.k8s.io/v1beta1 VolumeGroupSnapshotContent is deprecated; use \
                groupsnapshot.storage.k8s.io/v1 VolumeGroupSnapshotContent";
    assert_eq!(content("v1beta1").strategy.deprecation(), Some(text));
    assert_eq!(content("v1").strategy.deprecation(), None);
}
