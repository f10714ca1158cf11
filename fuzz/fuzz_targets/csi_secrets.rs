//! Any class's parameters and any names to fill in: no panic; a secret's place is made of names that objects can have, its namespace
//! is not for who names objects to choose, and what is Kubernetes' own does not reach a driver.
//!
//! Lines: a template for the name, one for the namespace, a user's name for an object, the object's namespace, an annotation, and
//! other parameters.

use std::collections::BTreeMap;

use control::csi::secrets::{Of, PREFIX, Use, own_parameters, reference};

pub fn run(text: &str) {
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let templates = [line(), line()];
    let (name, namespace, noted) = (line(), line(), line());
    for (of, key) in [(Use::NodeStage, "node-stage-"), (Use::GroupSnapshotter, "group-snapshotter-")] {
        let keys = ["name", "namespace"].map(|end| format!("{PREFIX}{key}secret-{end}"));
        let parameters = keys.into_iter().zip(templates.map(str::to_owned)).collect();
        let place = |name: &str, noted: &str| {
            let annotations = BTreeMap::from([("key".to_owned(), noted.to_owned())]);
            let object = match of {
                Use::NodeStage => Of::Claim { volume: "pvc-1", namespace, name, annotations: &annotations },
                _ => Of::Snapshot {
                    kind: "volumegroupsnapshot",
                    content: "groupsnapcontent-1",
                    snapshot: Some((namespace, name)),
                },
            };
            reference(of, Some(&parameters), &object).ok().flatten()
        };
        let Some(found) = place(name, noted) else { continue };
        assert!(is_name(&found.name, 253, ".") && is_name(&found.namespace, 63, ""), "{found:?}");
        assert!(found.name == templates[0] || templates[0].contains("${"), "{found:?}");
        if let Some(other) = place("somebody", "else") {
            assert_eq!(other.namespace, found.namespace, "chosen by {name:?} and {noted:?}");
        }
    }
    let parameters = lines.filter_map(|line| line.split_once('='));
    let parameters = parameters.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    if let Ok(own) = own_parameters(Some(&parameters), |key| key == "known") {
        let theirs = |key: &str| !key.starts_with(PREFIX);
        assert!(own.keys().all(|key| theirs(key)));
        assert!(
            parameters.iter().filter(|(key, _)| theirs(key)).all(|(key, value)| own.get(key) == Some(value))
        );
        assert!(parameters.keys().all(|key| theirs(key) || key.ends_with("/known")));
    }
}

fn is_name(text: &str, longest: usize, also: &str) -> bool {
    let is_in = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || also.contains(c);
    (1..=longest).contains(&text.len()) && text.chars().all(is_in)
}
