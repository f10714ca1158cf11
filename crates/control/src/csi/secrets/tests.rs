use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

fn claim() -> PersistentVolumeClaim {
    serde_json::from_value(json!({"metadata": {
        "name": "data", "namespace": "shop", "uid": "0123", "annotations": {"example.com/key": "blue"},
    }}))
    .unwrap()
}

fn asked(parameters: &[(&str, &str)]) -> Result<Option<Reference>, String> {
    let class = StorageClass { parameters: Some(map(parameters)), ..Default::default() };
    of_claim(Use::NodeStage, &class, "pvc-0123", &claim())
}

fn place(namespace: &str, name: &str) -> Result<Option<Reference>, String> {
    Ok(Some(Reference { namespace: namespace.into(), name: name.into() }))
}

const NAME: &str = "csi.storage.k8s.io/node-stage-secret-name";
const NAMESPACE: &str = "csi.storage.k8s.io/node-stage-secret-namespace";

#[test]
fn templates_are_filled_in() {
    assert_eq!(asked(&[]), Ok(None));
    assert_eq!(asked(&[(NAME, "key"), (NAMESPACE, "keys")]), place("keys", "key"));
    assert_eq!(
        asked(&[(NAME, "${pvc.namespace}.${pvc.name}.${pv.name}"), (NAMESPACE, "${pvc.namespace}")]),
        place("shop", "shop.data.pvc-0123")
    );
    assert_eq!(
        asked(&[(NAME, "k-${pvc.annotations['example.com/key']}"), (NAMESPACE, "keys")]),
        place("keys", "k-blue")
    );
}

#[test]
fn a_secret_for_everything_is_the_last_choice() {
    let all = [("csi.storage.k8s.io/secret-name", "all"), ("csi.storage.k8s.io/secret-namespace", "keys")];
    assert_eq!(asked(&all), place("keys", "all"));
    assert_eq!(asked(&[all[0], all[1], (NAME, "one"), (NAMESPACE, "keys")]), place("keys", "one"));
    assert_eq!(
        asked(&[("csiNodeStageSecretName", "old"), ("csiNodeStageSecretNamespace", "keys")]),
        place("keys", "old")
    );
}

#[test]
fn what_is_wrong_is_named() {
    let cases: [(&[(&str, &str)], &str); 7] = [
        (&[(NAME, "key")], "both are needed"),
        (&[(NAME, ""), (NAMESPACE, "keys")], "both are needed"),
        (&[(NAME, "key"), (NAMESPACE, "${pvc.name}")], "nothing is ${pvc.name} here"),
        (
            &[(NAME, "${pvc.annotations['none']}"), (NAMESPACE, "keys")],
            "nothing is ${pvc.annotations['none']}",
        ),
        (&[(NAME, "${pvc.name"), (NAMESPACE, "keys")], "without an end"),
        (&[(NAME, "Key"), (NAMESPACE, "keys")], "\"Key\" is no valid secret name"),
        (&[(NAME, "a"), (NAMESPACE, "b"), ("csiNodeStageSecretName", "c")], "leave out the second"),
    ];
    for (parameters, words) in cases {
        let error = asked(parameters).unwrap_err();
        assert!(error.contains(words), "{parameters:?}: {error}");
    }
}

fn named(name: &str, namespace: &str) -> BTreeMap<String, String> {
    map(&[
        ("csi.storage.k8s.io/snapshotter-secret-name", name),
        ("csi.storage.k8s.io/snapshotter-secret-namespace", namespace),
    ])
}

#[test]
fn snapshots_fill_in_templates_of_their_own() {
    let find = |name: &str, namespace: &str| {
        let parameters = named(name, namespace);
        of_content(Use::Snapshotter, Some(&parameters), "snapcontent-1", Some(("team", "nightly")))
    };
    assert_eq!(find("key", "system"), place("system", "key"));
    assert_eq!(
        find("${volumesnapshot.name}-${volumesnapshotcontent.name}", "${volumesnapshot.namespace}"),
        place("team", "nightly-snapcontent-1")
    );
    // Users name snapshots: they must not reach into namespaces by that.
    assert!(find("key", "${volumesnapshot.name}").unwrap_err().contains("nothing is ${volumesnapshot.name}"));
    for (name, namespace) in [
        ("${pvc.name}", "system"),
        ("${volumegroupsnapshot.name}", "system"),
        ("${volumesnapshot.name", "system"),
        ("Key", "system"),
        ("key", "a.b"),
        ("", "system"),
    ] {
        assert!(find(name, namespace).is_err(), "{name:?} {namespace:?}");
    }
}

#[test]
fn a_class_of_snapshots_says_nothing_for_all_uses_and_nothing_is_guessed() {
    let find = |of: Use, parameters: &BTreeMap<String, String>| of_content(of, Some(parameters), "c", None);
    assert_eq!(of_content(Use::Snapshotter, None, "c", None), Ok(None));
    assert_eq!(find(Use::Snapshotter, &map(&[("a", "b")])), Ok(None));
    let all = [("csi.storage.k8s.io/secret-name", "all"), ("csi.storage.k8s.io/secret-namespace", "keys")];
    assert_eq!(find(Use::Snapshotter, &map(&all)), Ok(None));
    // Another use's is not taken, and what is not known yet is not guessed.
    assert_eq!(find(Use::SnapshotterList, &named("a", "b")), Ok(None));
    assert!(find(Use::Snapshotter, &named("${volumesnapshot.name}", "b")).is_err());
}

#[test]
fn only_the_drivers_parameters_reach_the_driver() {
    let mut parameters = named("a", "b");
    parameters.insert("pool".into(), "fast".into());
    assert_eq!(own_parameters(Some(&parameters), is_of_snapshots), Ok(map(&[("pool", "fast")])));
    assert_eq!(own_parameters(None, is_of_snapshots), Ok(map(&[])));
    // What a class of the other kind may say is not known to this one.
    assert!(own_parameters(Some(&parameters), is_of_volumes).is_err());
    let all = map(&[
        ("csi.storage.k8s.io/secret-name", "a"),
        ("csi.storage.k8s.io/node-stage-secret-namespace", "b"),
    ]);
    assert_eq!(own_parameters(Some(&all), is_of_volumes), Ok(map(&[])));
    assert!(own_parameters(Some(&all), is_of_snapshots).is_err());
    parameters.insert("csi.storage.k8s.io/fstype".into(), "ext4".into());
    let error = own_parameters(Some(&parameters), is_of_snapshots).unwrap_err();
    assert!(error.contains("csi.storage.k8s.io/fstype"), "{error}");
}
