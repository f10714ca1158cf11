//! Definitions that come, change and go, and what becomes of their objects.

use super::controllers::{controlled, definition, until};
use super::{Rig, value_of};
use crate::contract::Object;
use crate::crd::{FINALIZER, status};
use crate::decode::FieldValidation;
use crate::registry::Context;
use crate::registry::options::{DeleteOptions, ListOptions};
use crate::registry::{Body, PatchKind, Target, View};
use crate::resource::Part;
use bytes::Bytes;
use serde_json::{Value, json};

const API: &str = "apiextensions.k8s.io/v1";
const KIND: &str = "CustomResourceDefinition";
const NAME: &str = "widgets.example.com";

fn of_definition(rig: &Rig) -> Target {
    rig.target(API, KIND, "", NAME)
}

fn widget(rig: &Rig, version: &str, name: &str) -> Target {
    rig.target(&format!("example.com/{version}"), "Widget", "default", name)
}

fn is_served(rig: &Rig, version: &str) -> bool {
    rig.registry.resources().find("example.com", version, "widgets").is_some()
}

/// A definition whose one version has this schema of `spec`.
async fn served(rig: &Rig, spec: Value) {
    let mut made = definition("widgets", "example.com", "Widget");
    made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = spec;
    rig.create(API, KIND, "", made).await.unwrap();
    until("served", async || is_served(rig, "v1")).await;
}

/// Replaces an object, as often as somebody else was faster.
async fn change(rig: &Rig, target: &Target, make: impl Fn(&mut Object)) -> Object {
    loop {
        let mut object = rig.get(target).await.unwrap();
        make(&mut object);
        match rig.update(target, &object).await {
            Err(refused) if refused.code == 409 => {}
            changed => return changed.unwrap(),
        }
    }
}

#[tokio::test]
async fn a_definition_that_was_replaced_keeps_its_objects_to_their_end() {
    let (rig, _running) = controlled().await;
    served(&rig, json!({"type": "object"})).await;
    let made = change(&rig, &of_definition(&rig), |made| {
        made.metadata_mut().remove("finalizers");
    })
    .await;
    assert_eq!(made.finalizers().count(), 0);
    let held = json!({"metadata": {"name": "held", "finalizers": ["a.io/b"]}});
    rig.create("example.com/v1", "Widget", "default", held).await.unwrap();

    rig.delete(&of_definition(&rig), &DeleteOptions::default()).await.unwrap();
    let ending = rig.get(&of_definition(&rig)).await.unwrap();
    assert!(ending.is_terminating() && ending.finalizers().any(|name| name == FINALIZER));
    until("the object is told to end", async || {
        rig.get(&widget(&rig, "v1", "held")).await.is_ok_and(|held| held.is_terminating())
    })
    .await;
    let refused =
        rig.create("example.com/v1", "Widget", "default", json!({"metadata": {"name": "late"}})).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code, 403);
    let wanted = "widgets.example.com \"late\" is forbidden: create not allowed while custom resource definition is terminating";
    assert_eq!(refused.message, wanted);

    change(&rig, &widget(&rig, "v1", "held"), |held| {
        held.metadata_mut().remove("finalizers");
    })
    .await;
    until("gone", async || rig.get(&of_definition(&rig)).await.is_err()).await;
    assert!(rig.registry.every(NAME, None).unwrap().is_empty());
}

#[tokio::test]
async fn a_watch_ends_with_the_definition_and_after_its_objects() {
    let (rig, _running) = controlled().await;
    served(&rig, json!({"type": "object"})).await;
    let widgets = widget(&rig, "v1", "");
    rig.create("example.com/v1", "Widget", "default", json!({"metadata": {"name": "a"}})).await.unwrap();
    let options = ListOptions { watch: true, ..ListOptions::default() };
    let mut watching = rig.registry.watch(&rig.context, &widgets, &options, View::Full).await.unwrap();
    let mut maps = rig.registry.watch(&rig.context, &rig.map(""), &options, View::Full).await.unwrap();
    let kind_of = |frame: Bytes| serde_json::from_slice::<Value>(&frame).unwrap()["type"].clone();
    assert_eq!(kind_of(watching.next().await.unwrap()), "ADDED");
    // Another definition that comes is nothing to it.
    rig.create(API, KIND, "", definition("gadgets", "example.com", "Gadget")).await.unwrap();
    until("another is served", async || {
        rig.registry.resources().find("example.com", "v1", "gadgets").is_some()
    })
    .await;
    rig.delete(&of_definition(&rig), &DeleteOptions::default()).await.unwrap();
    let mut kinds = Vec::new();
    while let Some(frame) = watching.next().await {
        kinds.push(kind_of(frame));
    }
    assert_eq!(kinds.last(), Some(&json!("DELETED")), "{kinds:?}");
    assert!(!is_served(&rig, "v1"));
    // One that begins too late ends at once; those of others go on.
    let mut late = rig.registry.watch(&rig.context, &widgets, &options, View::Full).await.unwrap();
    assert!(late.next().await.is_none());
    rig.create_map("m", json!({})).await;
    assert_eq!(kind_of(maps.next().await.unwrap()), "ADDED");
}

#[tokio::test]
async fn nothing_comes_back_in_a_definition_made_anew() {
    let (rig, _running) = controlled().await;
    served(&rig, json!({"type": "object"})).await;
    rig.create(
        "example.com/v1",
        "Widget",
        "default",
        json!({"metadata": {"name": "old", "finalizers": ["a.io/b"]}}),
    )
    .await
    .unwrap();
    rig.delete(&of_definition(&rig), &DeleteOptions::default()).await.unwrap();
    // Whoever takes the finalizer away lets the definition go before its time.
    change(&rig, &of_definition(&rig), |made| {
        made.metadata_mut().remove("finalizers");
    })
    .await;
    until("gone", async || rig.get(&of_definition(&rig)).await.is_err()).await;
    until("not served", async || !is_served(&rig, "v1")).await;
    until("nothing is left", async || rig.registry.every(NAME, None).unwrap().is_empty()).await;
    served(&rig, json!({"type": "object"})).await;
    let list = rig.list(&widget(&rig, "v1", ""), &ListOptions::default()).await.unwrap();
    assert_eq!(super::names(&list), [""; 0]);
}

#[tokio::test]
async fn defaults_that_come_later_are_seen_when_objects_are_read() {
    let (rig, _running) = controlled().await;
    served(&rig, json!({"type": "object", "properties": {"color": {"type": "string"}}})).await;
    rig.create(
        "example.com/v1",
        "Widget",
        "default",
        json!({"metadata": {"name": "w"}, "spec": {"color": "red"}}),
    )
    .await
    .unwrap();
    change(&rig, &of_definition(&rig), |made| {
        made.0["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = json!({
            "type": "object",
            "properties": {"color": {"type": "string"}, "replicas": {"type": "integer", "default": 1}},
        });
    })
    .await;
    until("defaulted", async || {
        rig.get(&widget(&rig, "v1", "w"))
            .await
            .is_ok_and(|held| held.at(&["spec", "replicas"]) == Some(&json!(1)))
    })
    .await;
    let list = rig.list(&widget(&rig, "v1", ""), &ListOptions::default()).await.unwrap();
    assert_eq!(list["items"][0]["spec"], json!({"color": "red", "replicas": 1}));
    let options = ListOptions { watch: true, ..ListOptions::default() };
    let target = widget(&rig, "v1", "");
    let mut watch = rig.registry.watch(&rig.context, &target, &options, View::Full).await.unwrap();
    let frame: Value = serde_json::from_slice(&watch.next().await.unwrap()).unwrap();
    assert_eq!(frame["object"]["spec"]["replicas"], 1);
}

#[tokio::test]
async fn objects_of_an_older_storage_version_are_told_in_the_one_that_is_asked() {
    let (rig, _running) = controlled().await;
    served(&rig, json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}))
        .await;
    rig.create(
        "example.com/v1",
        "Widget",
        "default",
        json!({"metadata": {"name": "w"}, "spec": {"a": "1", "b": "2"}}),
    )
    .await
    .unwrap();
    change(&rig, &of_definition(&rig), |made| {
        let mut second = made.0["spec"]["versions"][0].clone();
        second["name"] = "v2".into();
        second["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"] =
            json!({"a": {"type": "string"}});
        made.0["spec"]["versions"][0]["storage"] = false.into();
        made.0["spec"]["versions"].as_array_mut().unwrap().push(second);
    })
    .await;
    until("served", async || is_served(&rig, "v2")).await;
    let held = rig.get(&widget(&rig, "v2", "w")).await.unwrap();
    assert_eq!((held.api_version(), &held.0["spec"]), ("example.com/v2", &json!({"a": "1"})));
    let patch = Bytes::from_static(b"{\"metadata\":{\"labels\":{\"x\":\"y\"}}}");
    let target = widget(&rig, "v2", "w");
    let answer =
        rig.registry.patch(&rig.context, &target, Part::Main, PatchKind::Merge, patch, View::Full).await;
    assert_eq!(value_of(&answer.unwrap())["apiVersion"], "example.com/v2");
    let held = rig.get(&widget(&rig, "v1", "w")).await.unwrap();
    assert_eq!(held.api_version(), "example.com/v1");
}

/// The answer to a body of a custom resource.
async fn sent(rig: &Rig, validation: FieldValidation, object: Value) -> Result<Value, String> {
    let context = Context { validation, ..rig.context.clone() };
    let target = widget(rig, "v1", "");
    let body = Body::Bytes(Bytes::from(object.to_string()), crate::decode::Media::Json);
    match rig.registry.create(&context, &target, body, View::Full).await {
        Ok(answer) => Ok(value_of(&answer)),
        Err(refused) => Err(format!("{} {}", refused.code, refused.message)),
    }
}

#[tokio::test]
async fn metadata_of_custom_resources_and_of_those_within_them_has_its_type() {
    let (rig, _running) = controlled().await;
    let embedded = json!({
        "type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true,
    });
    served(
        &rig,
        json!({"type": "object", "properties": {"e": embedded, "l": {"type": "array", "items": embedded}}}),
    )
    .await;
    let object = |metadata: Value, spec: Value| json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": metadata, "spec": spec});
    let within = |metadata: Value| json!({"e": {"apiVersion": "v1", "kind": "X", "metadata": metadata}});
    const BEFORE: &str = "400 Widget in version \"v1\" cannot be handled as a Widget: ";
    // As kube-apiserver 1.36.2 answers.
    for (metadata, spec, wanted) in [
        (
            json!({"name": "w", "labels": {"a": 5}}),
            json!({}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string",
        ),
        (
            json!({"name": "w", "annotations": "x"}),
            json!({}),
            "json: cannot unmarshal string into Go struct field ObjectMeta.annotations of type map[string]string",
        ),
        (
            json!({"name": "w", "finalizers": "x"}),
            json!({}),
            "json: cannot unmarshal string into Go struct field ObjectMeta.finalizers of type []string",
        ),
        (json!("x"), json!({}), "json: cannot unmarshal string into Go value of type v1.ObjectMeta"),
        (
            json!({"name": "w"}),
            within(json!({"labels": {"a": 5}})),
            "spec.e.metadata: Invalid value: {\"labels\":{\"a\":5}}: json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string",
        ),
        (
            json!({"name": "w"}),
            within(json!("str")),
            "spec.e.metadata: Invalid value: \"str\": json: cannot unmarshal string into Go value of type v1.ObjectMeta",
        ),
        (
            json!({"name": "w"}),
            json!({"e": {"apiVersion": 5, "kind": "X"}}),
            "spec.e.apiVersion: Invalid value: 5: must be a string",
        ),
        (
            json!({"name": "w"}),
            json!({"l": [{"apiVersion": "v1", "kind": null}]}),
            "spec.l[0].kind: Invalid value: null: must be a string",
        ),
        (
            json!({"name": "w", "foo": 1}),
            json!({"zz": 1}),
            "strict decoding error: unknown field \"metadata.foo\", unknown field \"spec.zz\"",
        ),
        (
            json!({"name": "w"}),
            within(json!({"name": "n", "foo": 1})),
            "strict decoding error: unknown field \"spec.e.metadata.foo\"",
        ),
    ] {
        let told = sent(&rig, FieldValidation::Strict, object(metadata, spec)).await.unwrap_err();
        assert_eq!(told, format!("{BEFORE}{wanted}"));
    }
    let kept = sent(
        &rig,
        FieldValidation::Warn,
        object(
            json!({"name": "w", "foo": 1}),
            within(json!({"name": "n", "foo": 1, "creationTimestamp": null})),
        ),
    );
    let kept = kept.await.unwrap();
    assert_eq!(kept["spec"]["e"]["metadata"], json!({"name": "n"}));
    assert_eq!(kept["metadata"].get("foo"), None);
}

#[tokio::test]
async fn definitions_are_served_again_after_a_start_and_those_that_end_go_on_ending() {
    let rig = Rig::new().await;
    rig.create(API, KIND, "", definition("widgets", "example.com", "Widget")).await.unwrap();
    // As it was left by a server that had established it and begun to delete it.
    let client = crate::registry::client::Client::new(rig.registry.clone(), "test");
    let established = |live: &Object| {
        let mut changed = live.clone();
        status::settle(&mut changed, &[], "2026-01-01T00:00:00Z");
        Ok(changed)
    };
    client.change(&of_definition(&rig), established).await.unwrap();
    rig.delete(&of_definition(&rig), &DeleteOptions::default()).await.unwrap();
    assert!(rig.get(&of_definition(&rig)).await.unwrap().is_terminating());
    let _running =
        crate::controllers::Controllers::start(&rig.registry, crate::controllers::Settings::default())
            .await
            .unwrap();
    until("gone", async || rig.get(&of_definition(&rig)).await.is_err()).await;
}
