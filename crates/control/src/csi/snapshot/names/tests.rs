use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

fn named(name: &str, namespace: &str) -> BTreeMap<String, String> {
    map(&[
        ("csi.storage.k8s.io/snapshotter-secret-name", name),
        ("csi.storage.k8s.io/snapshotter-secret-namespace", namespace),
    ])
}

#[test]
fn secrets_are_named_by_templates() {
    let find = |name: &str, namespace: &str| {
        secret(&named(name, namespace), Use::Snapshotter, "snapcontent-1", Some(("team", "nightly")))
    };
    let place = |name: &str, namespace: &str| {
        Ok(Some(SecretPlace { name: name.into(), namespace: namespace.into() }))
    };
    assert_eq!(find("key", "system"), place("key", "system"));
    assert_eq!(
        find("${volumesnapshot.name}-${volumesnapshotcontent.name}", "${volumesnapshot.namespace}"),
        place("nightly-snapcontent-1", "team")
    );
    // Users name snapshots: they must not reach into namespaces by that.
    assert!(
        find("key", "${volumesnapshot.name}").unwrap_err().contains("${volumesnapshot.name} is not known")
    );
    assert!(find("${pvc.name}", "system").is_err());
    assert!(find("${volumesnapshot.name", "system").is_err());
    assert!(find("Key", "system").unwrap_err().contains("no name"));
    assert!(find("key", "a.b").is_err());
    assert!(find("", "system").unwrap_err().contains("both are needed"));
    assert_eq!(secret(&map(&[("a", "b")]), Use::Snapshotter, "c", None), Ok(None));
    // Another use's is not taken, and what is not known yet is not guessed.
    assert_eq!(secret(&named("a", "b"), Use::SnapshotterList, "c", None), Ok(None));
    assert!(secret(&named("${volumesnapshot.name}", "b"), Use::Snapshotter, "c", None).is_err());
}

#[test]
fn only_the_drivers_parameters_reach_the_driver() {
    let mut parameters = named("a", "b");
    parameters.insert("pool".into(), "fast".into());
    assert_eq!(for_driver(&parameters), Ok(map(&[("pool", "fast")])));
    parameters.insert("csi.storage.k8s.io/fstype".into(), "ext4".into());
    assert!(for_driver(&parameters).unwrap_err().contains("csi.storage.k8s.io/fstype"));
}

#[test]
fn names_come_from_uids() {
    assert_eq!(content("12-34"), "snapcontent-12-34");
    assert_eq!(snapshot("12-34"), "snapshot-12-34");
    let [one, its_content] = member("12-34", "volume");
    // As `printf 12-34volume | sha256sum` has it.
    let digits = "15db1d2b49a5f6c2b4cf2755ceb26a6266a34143e42d744ad866e58b5d7e9ba5";
    assert_eq!([&one, &its_content], [&format!("snapshot-{digits}"), &format!("snapcontent-{digits}")]);
    assert_ne!(member("12-34", "other")[0], one);
}

#[test]
fn sizes_are_quantities() {
    for (bytes, text) in
        [(0, "0"), (1, "1"), (1 << 20, "1Mi"), (1025 << 10, "1025Ki"), (5 << 30, "5Gi"), (1000, "1000")]
    {
        assert_eq!(quantity(bytes), text);
    }
}
