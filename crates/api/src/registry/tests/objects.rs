//! One object: it is made, changed and deleted.

use super::*;
use crate::contract::Reason;
use crate::registry::options::Preconditions;

#[tokio::test]
async fn a_new_object_gets_what_the_server_gives() {
    let rig = Rig::new().await;
    let made = rig.create_map("x", json!({"uid": "mine", "generation": 7})).await;
    assert_eq!((made.api_version(), made.kind(), made.namespace()), ("v1", "ConfigMap", "default"));
    assert_eq!(made.uid().len(), 36);
    assert!(!made.text(&["metadata", "creationTimestamp"]).is_empty() && !made.resource_version().is_empty());
    assert_eq!(rig.get(&rig.map("x")).await.unwrap(), made);
}

#[tokio::test]
async fn a_name_is_made_of_generate_name() {
    let rig = Rig::new().await;
    let object = json!({"metadata": {"generateName": "x-"}});
    let made = rig.create("v1", "ConfigMap", "default", object).await.unwrap();
    let suffix = made.name().strip_prefix("x-").unwrap();
    assert_eq!(suffix.len(), 5);
    assert!(suffix.chars().all(|character| "bcdfghjklmnpqrstvwxz2456789".contains(character)));
}

#[tokio::test]
async fn what_is_there_is_not_made_again() {
    let rig = Rig::new().await;
    rig.create_map("x", json!({})).await;
    let again = rig.create("v1", "ConfigMap", "default", json!({"metadata": {"name": "x"}})).await;
    assert_eq!(again.unwrap_err().message, "configmaps \"x\" already exists");
}

#[tokio::test]
async fn a_dry_run_answers_and_keeps_nothing() {
    let mut rig = Rig::new().await;
    rig.context.dry_run = true;
    let made = rig.create_map("x", json!({})).await;
    assert!(made.resource_version().is_empty() && !made.uid().is_empty());
    assert_eq!(rig.get(&rig.map("x")).await.unwrap_err().reason, Reason::NotFound);
}

#[tokio::test]
async fn nothing_is_made_in_a_namespace_that_is_not_there_or_another_one() {
    let rig = Rig::new().await;
    let object = json!({"metadata": {"name": "x"}});
    let refused = rig.create("v1", "ConfigMap", "nope", object).await.unwrap_err();
    assert_eq!((refused.code, refused.message.as_str()), (404, "namespaces \"nope\" not found"));
    let object = json!({"metadata": {"name": "x", "namespace": "other"}});
    let refused = rig.create("v1", "ConfigMap", "default", object).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (400, "the namespace of the provided object does not match the namespace sent on the request")
    );
}

#[tokio::test]
async fn an_update_of_an_older_version_is_a_conflict_and_one_without_a_version_is_not() {
    let rig = Rig::new().await;
    let made = rig.create_map("x", json!({})).await;
    let mut changed = made.clone();
    changed.make(&["data"]).insert("a".to_owned(), "2".into());
    let after = rig.update(&rig.map("x"), &changed).await.unwrap();
    assert_ne!(after.resource_version(), made.resource_version());
    assert_eq!(after.uid(), made.uid());
    let refused = rig.update(&rig.map("x"), &changed).await.unwrap_err();
    assert_eq!(
        refused.message,
        "Operation cannot be fulfilled on configmaps \"x\": the object has been modified; please apply your changes \
         to the latest version and try again"
    );
    changed.metadata_mut().remove("resourceVersion");
    changed.make(&["data"]).insert("a".to_owned(), "3".into());
    let after = rig.update(&rig.map("x"), &changed).await.unwrap();
    assert_eq!(after.text(&["data", "a"]), "3");
    changed.metadata_mut().insert("resourceVersion".to_owned(), "abc".into());
    let refused = rig.update(&rig.map("x"), &changed).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.reason, refused.message.as_str()),
        (500, Reason::Unknown, "strconv.ParseUint: parsing \"abc\": invalid syntax")
    );
}

#[tokio::test]
async fn an_update_that_changes_nothing_is_none() {
    let rig = Rig::new().await;
    let made = rig.create_map("x", json!({})).await;
    let revision = rig.registry.store().revision();
    assert_eq!(rig.update(&rig.map("x"), &made).await.unwrap(), made);
    assert_eq!(rig.registry.store().revision(), revision);
}

#[tokio::test]
async fn a_finalizer_holds_a_deleted_object_until_it_is_taken_off() {
    let rig = Rig::new().await;
    rig.create_map("x", json!({"finalizers": ["example.com/held"]})).await;
    rig.delete(&rig.map("x"), &DeleteOptions::default()).await.unwrap();
    let mut held = rig.get(&rig.map("x")).await.unwrap();
    assert!(held.is_terminating());
    assert_eq!(held.at(&["metadata", "deletionGracePeriodSeconds"]), Some(&json!(0)));
    let refused = rig.create("v1", "ConfigMap", "default", json!({"metadata": {"name": "x"}})).await;
    assert_eq!(refused.unwrap_err().message, "object is being deleted: configmaps \"x\" already exists");
    held.metadata_mut().remove("finalizers");
    rig.update(&rig.map("x"), &held).await.unwrap();
    assert_eq!(rig.get(&rig.map("x")).await.unwrap_err().code, 404);
}

#[tokio::test]
async fn a_deletion_answers_a_status_and_looks_at_its_preconditions() {
    let rig = Rig::new().await;
    let made = rig.create_map("x", json!({})).await;
    let preconditions = Preconditions { uid: Some("nope".to_owned()), version: None };
    let options = DeleteOptions { preconditions, ..DeleteOptions::default() };
    let refused = rig.delete(&rig.map("x"), &options).await.unwrap_err();
    assert_eq!(
        refused.message,
        format!(
            "Operation cannot be fulfilled on ConfigMap \"x\": the UID in the precondition (nope) does not match the \
             UID in record ({}). The object might have been deleted and then recreated",
            made.uid()
        )
    );
    let answer = rig.delete(&rig.map("x"), &DeleteOptions::default()).await.unwrap();
    assert_eq!(
        answer,
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {"name": "x", "kind": "configmaps", "uid": made.uid()},
        })
    );
}

#[tokio::test]
async fn some_namespaces_are_not_deleted() {
    let rig = Rig::new().await;
    let target = rig.target("v1", "Namespace", "", "default");
    let refused = rig.delete(&target, &DeleteOptions::default()).await.unwrap_err();
    assert_eq!(refused.message, "namespaces \"default\" is forbidden: this namespace may not be deleted");
}

#[tokio::test]
async fn many_writers_of_one_object_lose_nothing() {
    let rig = Rig::new().await;
    rig.create_map("x", json!({})).await;
    let client = crate::registry::client::Client::new(rig.registry.clone(), "counter");
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let (client, target) = (client.clone(), rig.map("x"));
        tasks.spawn(async move {
            for turn in 0..5 {
                let add = |live: &Object| {
                    let mut changed = live.clone();
                    changed.make(&["data"]).insert(format!("{writer}-{turn}"), "x".into());
                    Ok(changed)
                };
                client.change(&target, add).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let data = rig.get(&rig.map("x")).await.unwrap();
    assert_eq!(data.at(&["data"]).unwrap().as_object().unwrap().len(), 41);
}
