//! A kubelet is asked for the logs of a pod and for connections to it.

use std::time::Duration;

use http::Method;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::Client;
use crate::other::{Issuing, Other};
use crate::whole::{client, start, until};

const POD: &str = "/api/v1/namespaces/default/pods/p";

/// A node whose kubelet serves on loopback, and a pod that it runs.
async fn run(admin: &Client, port: u16) {
    assert_eq!(admin.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).await.status, 201);
    let status = json!({"status": {
        "addresses": [{"type": "Hostname", "address": "nowhere"}, {"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }});
    let merge = admin.with("content-type", "application/merge-patch+json");
    let told = merge.send(Method::PATCH, "/api/v1/nodes/n/status", status.to_string()).await;
    assert_eq!(told.status, 200, "{}", told.text());
    until(admin, "/api/v1/namespaces/default/serviceaccounts/default", 200).await;
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]},
    });
    let made = admin.post("/api/v1/namespaces/default/pods", &pod).await;
    assert_eq!(made.status, 201, "{}", made.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_is_asked_by_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &["http/1.1"]);
    // It takes certificates of this server's authority alone; its own is signed by somebody else.
    let clients = std::fs::read_to_string(dir.path().join("pki/ca.crt")).unwrap();
    let kubelet = Other::start(&Issuing::new(), "n", &clients).await;
    let port = kubelet.address.port();
    run(&admin, port).await;

    let log = admin.get(&format!("{POD}/log?tailLines=3&timestamps=true")).await;
    assert_eq!((log.status.as_u16(), log.header("content-type")), (200, "text/plain"));
    let seen = log.json();
    assert_eq!(seen["peer"], "kube-apiserver-kubelet-client");
    assert_eq!(seen["uri"], "/containerLogs/default/p/c?timestamps=true&tailLines=3");

    // Who asks for no upgrade is answered by the kubelet, too.
    let told = admin.with("cookie", "x").with("x-stream-protocol-version", "v4.channel.k8s.io");
    let told = told.send(Method::POST, &format!("{POD}/exec?command=a+%26b&stdout=true"), "").await;
    let seen = told.json();
    assert_eq!(seen["uri"], "/exec/default/p/c?output=1&command=a%20%26b");
    let names: Vec<&Value> = seen["headers"].as_array().unwrap().iter().map(|pair| &pair[0]).collect();
    assert!(names.contains(&&json!("x-stream-protocol-version")), "{names:?}");
    assert!(!names.contains(&&json!("cookie")) && !names.contains(&&json!("authorization")), "{names:?}");

    let speaking = admin.with("connection", "Upgrade").with("upgrade", "SPDY/3.1");
    for (asked, at_kubelet) in [
        ("exec?command=sh&stdin=true", "/exec/default/p/c"),
        ("attach?stdin=true", "/attach/default/p/c"),
        ("portforward", "/portForward/default/p"),
    ] {
        let request = speaking.request(Method::POST, &format!("{POD}/{asked}"), "");
        let mut response = speaking.start(request).await;
        assert_eq!(response.status(), 101, "{asked}");
        let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
        stream.write_all(b"said").await.unwrap();
        let mut heard = [0; 4];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"said", "{asked}");
        let last = kubelet.asked.lock().unwrap().last().cloned();
        assert_eq!(last, Some(format!(" POST {at_kubelet}")));
    }

    kubelet.stop().await;
    let (status, message) = admin.get(&format!("{POD}/log")).await.refusal();
    let cause = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    let url = format!("https://127.0.0.1:{port}/containerLogs/default/p/c");
    assert_eq!((status, message), (500, format!("Internal error occurred: Get \"{url}\": {cause}")));
    let (status, message) = speaking.send(Method::POST, &format!("{POD}/exec?command=x"), "").await.refusal();
    assert_eq!((status, message), (500, format!("Internal error occurred: error dialing backend: {cause}")));
}

/// No test should hang where a log does.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), work).await.expect("this hangs")
}

/// Waits until a line is in what the kubelet saw.
async fn seen(kubelet: &Other, wanted: &str) {
    for _ in 0..9000 {
        if kubelet.asked.lock().unwrap().iter().any(|line| line == wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never {wanted}, but {:?}", kubelet.asked.lock().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_log_is_given_up_when_nobody_reads_it_and_when_the_server_stops() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &["http/1.1"]);
    let clients = std::fs::read_to_string(dir.path().join("pki/ca.crt")).unwrap();
    let kubelet = Other::start(&Issuing::new(), "n", &clients).await;
    run(&admin, kubelet.address.port()).await;
    let path = "/containerLogs/default/p/c?follow=true";

    let request = admin.request(Method::GET, &format!("{POD}/log?follow=true"), "");
    let mut response = admin.start(request).await;
    let first = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "word\n");
    drop(response);
    seen(&kubelet, &format!("gone {path}")).await;

    let silent = || {
        let admin = admin.clone();
        let request = admin.request(Method::GET, &format!("{POD}/log?follow=true&tailLines=0"), "");
        tokio::spawn(async move { admin.start(request).await.status().as_u16() })
    };
    let asked = " GET /containerLogs/default/p/c".to_owned();
    let asked_times = |times: usize| {
        let (kubelet, asked) = (&kubelet, &asked);
        in_time(async move {
            while kubelet.asked.lock().unwrap().iter().filter(|line| *line == asked).count() < times {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    };
    let waiting = silent();
    asked_times(2).await;
    waiting.abort();
    seen(&kubelet, &format!("gone {path}&tailLines=0")).await;

    let waiting = silent();
    asked_times(3).await;
    let stopped = instance.stop(Duration::from_secs(600));
    in_time(stopped).await;
    assert_eq!(waiting.await.unwrap(), 503);
}
