//! `sextant control --mesh-definitions`: SMI's kinds are there where nobody has made them, and what others have made stays.

use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use smi::contract::CRDS;

use crate::objects::{self, resource};
use crate::rig::Rig;

/// Where a definition says that it was made by the control plane, and as which.
const MARK: &str = "mesh.sextant.dev/definitions";
/// The one that somebody else has made.
const THEIRS: &str = "trafficsplits.split.smi-spec.io";
/// The first and the last that are looked at.
const FIRST: &str = "httproutegroups.specs.smi-spec.io";
const LAST: &str = "udproutes.specs.smi-spec.io";

fn definitions(rig: &Rig) -> Api<DynamicObject> {
    let kind =
        resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions");
    Api::all_with(rig.client.clone(), &kind)
}

/// What a definition is marked with, and its short names; nothing where it is not there.
async fn made(rig: &Rig, name: &str) -> Option<(Option<String>, Value)> {
    let definition = definitions(rig).get_opt(name).await.ok()??;
    let mark = definition.metadata.annotations.and_then(|mut all| all.remove(MARK));
    Some((mark, definition.data["spec"]["names"]["shortNames"].clone()))
}

#[tokio::test]
async fn definitions_are_made_where_there_are_none_and_those_of_others_stay() {
    let mut rig = Rig::bare().await;
    let theirs = CRDS.iter().find(|crd| crd.name == THEIRS).unwrap();
    let mut theirs: DynamicObject = serde_json::from_value(theirs.to_json().unwrap()).unwrap();
    theirs.data["spec"]["names"]["shortNames"] = json!(["theirs"]);
    definitions(&rig).create(&PostParams::default(), &theirs).await.unwrap();
    let at = format!("unix:{}", rig.path("mesh.sock").display());
    rig.control(&["--mesh", &at, "--mesh-definitions"]);
    let ours = |short: &str| Some((Some("1".to_owned()), json!([short])));
    rig.until("the last is made", async |rig| (made(rig, LAST).await == ours("ur")).then_some(())).await;
    for crd in CRDS.iter().filter(|crd| crd.name != THEIRS) {
        let mark = made(&rig, crd.name).await.and_then(|(mark, _)| mark);
        assert_eq!(mark.as_deref(), Some("1"), "{}", crd.name);
    }
    assert_eq!(made(&rig, THEIRS).await, Some((None, json!(["theirs"]))));
    // They are served, and what is theirs is told of as everything else: a split whose Service is not there.
    let split = json!({"apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit", "metadata": {"name": "web"},
        "spec": {"service": "nowhere", "backends": [{"service": "web-v1", "weight": 1}]}});
    let split: DynamicObject = serde_json::from_value(split).unwrap();
    let make = async |rig: &Rig| objects::splits(rig).create(&PostParams::default(), &split).await.ok();
    rig.until("a TrafficSplit can be made", make).await;
    rig.event("web", "NotFound", "nowhere").await;

    // One of a newer version of the program, and one of an older.
    for (name, mark) in [(FIRST, "2"), (LAST, "0")] {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {MARK: mark}},
            "spec": {"names": {"shortNames": ["other"]}}}));
        definitions(&rig).patch(name, &PatchParams::default(), &patch).await.unwrap();
    }
    assert_eq!(rig.end("control"), Some(0), "{}", rig.words("control"));
    rig.again("control");
    rig.until("the older one is renewed", async |rig| (made(rig, LAST).await == ours("ur")).then_some(()))
        .await;
    assert_eq!(made(&rig, FIRST).await, Some((Some("2".into()), json!(["other"]))));
    assert_eq!(made(&rig, THEIRS).await, Some((None, json!(["theirs"]))));
    assert!(!rig.words("control").contains("cannot make definition"), "{}", rig.words("control"));
}
