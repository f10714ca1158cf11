//! What is asked inside of pods, as far as no agent of a node is needed for the answer.

use std::sync::Arc;
use std::time::Duration;

use api::contract::{Object, Result};
use api::serve::{Later, LogOptions, Node, Upgrade};
use hyper::Request;
use hyper::body::Incoming;
use serde_json::json;
use streaming::remote_command::Answer;
use tokio::sync::{Semaphore, mpsc};

use crate::rig::Rig;

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn what_cannot_be_meant_is_refused_before_a_node_is_looked_for() {
    let rig = Rig::start().await;
    let pod = json!({"metadata": {"name": "lp"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    assert_eq!(rig.client.post(PODS, &pod).await.status, 201);
    for (query, code, message) in [
        (
            "tailLines=-1",
            422,
            "PodLogOptions \"lp\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "limitBytes=0",
            422,
            "PodLogOptions \"lp\" is invalid: limitBytes: Invalid value: 0: must be greater than 0",
        ),
        (
            "sinceSeconds=0",
            422,
            "PodLogOptions \"lp\" is invalid: sinceSeconds: Invalid value: 0: must be greater than 0",
        ),
        ("container=nope", 400, "container nope is not valid for pod lp"),
    ] {
        let refused = rig.client.get(&format!("{PODS}/lp/log?{query}")).await;
        assert_eq!(refused.refusal(), (code, message.to_owned()), "{query}");
    }
    assert_eq!(rig.client.get(&format!("{PODS}/lp/log?tailLines=0")).await.status, 200);
    let exec = |container: &str| format!("{PODS}/lp/exec?command=ls&container={container}");
    for (container, message) in
        [("nope", "container nope is not valid for pod lp"), ("c", "pod lp does not have a host assigned")]
    {
        let refused = rig.client.get(&exec(container)).await;
        assert_eq!(refused.refusal(), (400, message.to_owned()));
    }
}

#[tokio::test]
async fn verbs_are_told_that_there_are() {
    let rig = Rig::start().await;
    let list = rig.client.get("/api/v1").await.json();
    let told = |name: &str| {
        let mut resources = list["resources"].as_array().unwrap().iter();
        resources.find(|resource| resource["name"] == name).unwrap().clone()
    };
    let verbs = ["create", "delete", "get", "list", "patch", "update", "watch"];
    assert_eq!(told("namespaces")["verbs"], json!(verbs));
    let statuses = told("componentstatuses");
    assert_eq!((&statuses["verbs"], statuses.get("storageVersionHash")), (&json!(["get", "list"]), None));
    assert_eq!(rig.client.delete("/api/v1/namespaces").await.status, 405);
}

/// Has nothing to say, ever, and looks at nobody; counts who asks and who has gone.
#[derive(Clone)]
struct Silent {
    asked: Arc<Semaphore>,
    gone: Arc<Semaphore>,
}

/// Counts when it is dropped.
struct Going(Arc<Semaphore>);

impl Drop for Going {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

impl Node for Silent {
    fn upgrade<'a>(&'a self, _: &'a Object, _: Upgrade, _: Request<Incoming>) -> Later<'a, Result<Answer>> {
        Box::pin(std::future::pending())
    }

    fn log<'a>(
        &'a self,
        _: &'a Object,
        _: LogOptions,
        lines: mpsc::Sender<bytes::Bytes>,
    ) -> Later<'a, Result<()>> {
        Box::pin(async move {
            let _going = (Going(Arc::clone(&self.gone)), lines);
            self.asked.add_permits(1);
            std::future::pending().await
        })
    }
}

#[tokio::test]
async fn a_node_that_says_nothing_is_left_when_nobody_listens() {
    let count = || Arc::new(Semaphore::new(0));
    let node = Silent { asked: count(), gone: count() };
    let rig = Rig::over(Arc::new(node.clone())).await;
    let spec = json!({"nodeName": "n", "containers": [{"name": "c", "image": "i"}]});
    let pod = json!({"metadata": {"name": "p"}, "spec": spec});
    assert_eq!(rig.client.post(PODS, &pod).await.status, 201);
    let client = rig.client.clone();
    let listening =
        tokio::spawn(async move { client.get(&format!("{PODS}/p/log?follow=true")).await.status });
    let soon = Duration::from_secs(60);
    drop(tokio::time::timeout(soon, node.asked.acquire()).await.expect("it is asked"));
    assert_eq!(node.gone.available_permits(), 0);
    listening.abort();
    drop(tokio::time::timeout(soon, node.gone.acquire()).await.expect("it is left"));
}
