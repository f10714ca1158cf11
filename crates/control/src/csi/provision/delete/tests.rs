//! What is deleted, and whether anybody has it still.

use std::sync::{Arc, Mutex};

use kube::Config;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

fn volume(phase: &str, policy: &str, metadata: Value) -> PersistentVolume {
    serde_json::from_value(json!({
        "metadata": metadata,
        "spec": {"persistentVolumeReclaimPolicy": policy, "csi": {"driver": "csi.example.com", "volumeHandle": "v"},
            "claimRef": {"namespace": "shop", "name": "data", "uid": "1"}},
        "status": {"phase": phase},
    }))
    .unwrap()
}

#[test]
fn only_what_is_released_and_to_be_deleted_is_deleted() {
    let held = json!({"finalizers": [names::VOLUME]});
    assert!(is_due(&volume("Released", "Delete", held.clone())));
    assert!(is_due(&volume("Released", "Delete", json!({}))));
    assert!(!is_due(&volume("Bound", "Delete", held.clone())));
    let mut free = volume("Released", "Delete", held.clone());
    if let Some(claim) = &mut free.spec.as_mut().unwrap().claim_ref {
        claim.uid = None;
    }
    assert!(!is_due(&free), "it is kept for another claim by now");
    free.spec.as_mut().unwrap().claim_ref = None;
    assert!(!is_due(&free), "it is free by now");
    assert!(!is_due(&volume("Available", "Delete", held.clone())));
    assert!(!is_due(&volume("Released", "Retain", held)));
    let done = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
    assert!(!is_due(&volume("Released", "Delete", done)));
    let going = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [names::VOLUME]});
    assert!(is_due(&volume("Released", "Delete", going)));
}

#[test]
fn a_volume_is_its_makers_or_its_drivers() {
    let made = json!({"annotations": {names::PROVISIONED_BY: "other.example.com"}});
    assert_eq!(driver_of(&volume("Bound", "Delete", made)), Some("other.example.com"));
    assert_eq!(driver_of(&volume("Bound", "Delete", json!({}))), Some("csi.example.com"));
}

/// Attachments, listed as they are; who watches them is told nothing.
type Listed = Arc<Mutex<Vec<Value>>>;

/// An API server that has them.
async fn server(listed: &Listed) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let listed = listed.clone();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(answer(connection, listed.clone()));
        }
    });
    Client::try_from(Config::new(url.parse().unwrap())).unwrap()
}

async fn answer(connection: TcpStream, listed: Listed) {
    let mut connection = BufReader::new(connection);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if connection.read_line(&mut head).await.is_ok_and(|read| read > 0) {
                continue;
            }
            return;
        }
        if head.lines().next().is_some_and(|line| line.contains("watch=")) {
            return std::future::pending().await;
        }
        let items = listed.lock().unwrap().clone();
        let list = json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachmentList",
            "metadata": {"resourceVersion": "1"}, "items": items})
        .to_string();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length";
        let text = format!("{head}: {}\r\n\r\n{list}", list.len());
        connection.write_all(text.as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn a_cache_that_is_behind_has_no_attached_volume_deleted() {
    let listed = Listed::default();
    let client = server(&listed).await;
    let attachments = Cache::start(&client);
    attachments.filled().await;
    assert_eq!(is_detached(&attachments, &client, "v1").await, Ok(()));
    let spec = json!({"attacher": "block.example.com", "nodeName": "n1",
        "source": {"persistentVolumeName": "v1"}});
    listed.lock().unwrap().push(json!({"metadata": {"name": "a1"}, "spec": spec}));
    assert!(attachments.all().is_empty());
    let told = is_detached(&attachments, &client, "v1").await.unwrap_err();
    assert!(told.contains("still attached to node n1"), "{told}");
    assert_eq!(is_detached(&attachments, &client, "v2").await, Ok(()));
}
