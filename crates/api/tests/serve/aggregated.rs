//! Groups that others serve: a service behind the front proxy, and a handler in the process.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::aggregation::{Content, Handler};
use api::contract::{Result, Status};
use api::registry::BoxFuture;
use api::resource::Asker;
use api::serve::Instance;
use api::store::{Document, Expect, Key, Write};
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::Client;
use crate::other::{Issuing, Other, SERVED};
use crate::rig::{CONFIG_MAPS, config_map};
use crate::whole::{client, start, until};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const OURS: &str = "/apis/apiregistration.k8s.io/v1/apiservices/v1.sea.example";
const FISH: &str = "/apis/sea.example/v1/namespaces/default/fish";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/sea/endpointslices";

/// Waits until an APIService says why it is available or not.
async fn condition(client: &Client, path: &str, reason: &str) -> Value {
    let mut last = Value::Null;
    for _ in 0..9000 {
        let object = client.get(path).await.json();
        last = object["status"]["conditions"][0].clone();
        if last["reason"] == reason {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{path}: never {reason}, but {last}");
}

/// Says that the service is at an address. On loopback nobody else may say so.
async fn locate(instance: &Instance, port: u16) {
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": "fish-1", "namespace": "sea", "resourceVersion": "", "uid": "of-fish-1",
            "labels": {"kubernetes.io/service-name": "fish"},
        },
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    let json = slice.to_string();
    let revision_at = json.find("\"resourceVersion\":\"\"").unwrap() + "\"resourceVersion\":\"".len();
    let key = Key {
        resource: "endpointslices.discovery.k8s.io".to_owned(),
        namespace: "sea".to_owned(),
        name: "fish-1".to_owned(),
    };
    let value = Some(Document { json: json.into_bytes(), revision_at });
    instance.registry().store().commit(vec![Write { key, expect: Expect::Any, value }]).await.unwrap();
}

fn api_service(bundle: &str) -> Value {
    json!({
        "metadata": {"name": "v1.sea.example"},
        "spec": {
            "group": "sea.example", "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 10,
            "service": {"namespace": "sea", "name": "fish"}, "caBundle": bundle,
        },
    })
}

/// A service that serves a group, seen by the server.
async fn served(instance: &Instance, admin: &Client) -> (Other, Issuing) {
    let map = admin.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication").await;
    let map = map.json();
    assert_eq!(map["data"]["requestheader-allowed-names"], "[\"front-proxy-client\"]");
    assert!(map["data"]["client-ca-file"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    let issuing = Issuing::new();
    let clients = map["data"]["requestheader-client-ca-file"].as_str().unwrap();
    let other = Other::start(&issuing, "fish.sea.svc", clients).await;

    let made = admin.post(SERVICES, &api_service(&issuing.bundle())).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let why = condition(admin, OURS, "ServiceNotFound").await;
    assert_eq!(
        (&why["status"], &why["message"]),
        (&json!("False"), &json!("service/fish in \"sea\" is not present"))
    );
    let refused = admin.get(FISH).await;
    assert_eq!((refused.status.as_u16(), refused.text()), (503, "service unavailable\n"));

    admin.post("/api/v1/namespaces", &json!({"metadata": {"name": "sea"}})).await;
    let service = json!({"metadata": {"name": "fish"}, "spec": {"ports": [{"name": "https", "port": 443}]}});
    until(admin, "/api/v1/namespaces/sea/serviceaccounts/default", 200).await;
    assert_eq!(admin.post("/api/v1/namespaces/sea/services", &service).await.status, 201);
    condition(admin, OURS, "EndpointsNotFound").await;
    locate(instance, other.address.port()).await;
    condition(admin, OURS, "Passed").await;
    (other, issuing)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_serves_a_group() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &["h2", "http/1.1"]);
    let (other, issuing) = served(&instance, &admin).await;
    let port = other.address.port();

    told_by_discovery(&admin, "Current").await;
    handed_on_as_the_one_who_asks(&admin).await;
    let mut watch = admin.watch(&format!("{FISH}?watch=1")).await;
    assert_eq!(watch.next().await.unwrap()["object"]["metadata"]["name"], "nemo");
    other.more.notify_one();
    assert_eq!(watch.next().await.unwrap()["object"]["metadata"]["name"], "dory");
    assert!(watch.next().await.is_none());
    upgrades(&client(&instance, true, &["http/1.1"])).await;

    let nobody = client(&instance, false, &[]).get(FISH).await;
    assert_eq!(nobody.status, 403, "{}", nobody.text());
    assert!(nobody.text().contains("cannot list resource \\\"fish\\\" in API group \\\"sea.example\\\""));

    // What it keeps in a namespace goes with that.
    let namespaces = "/api/v1/namespaces";
    for name in ["doomed", "doomed-too"] {
        admin.post(namespaces, &json!({"metadata": {"name": name}})).await;
    }
    admin.delete("/api/v1/namespaces/doomed").await;
    until(&admin, "/api/v1/namespaces/doomed", 404).await;
    let wanted = "system:serviceaccount:kube-system:namespace-controller DELETE \
                  /apis/sea.example/v1/namespaces/doomed/fish";
    assert!(other.asked.lock().unwrap().iter().any(|line| line == wanted));

    // Another authority: whoever answers there is not the one.
    let merge = admin.with("content-type", "application/merge-patch+json");
    let distrust = json!({"spec": {"caBundle": Issuing::new().bundle()}}).to_string();
    assert_eq!(merge.send(Method::PATCH, OURS, distrust).await.status, 200);
    let why = condition(&admin, OURS, "FailedDiscoveryCheck").await;
    let message = why["message"].as_str().unwrap();
    assert!(message.starts_with("failing or missing response from https://127.0.0.1:"), "{message}");
    assert!(message.ends_with("x509: certificate signed by unknown authority"), "{message}");
    told_by_discovery(&admin, "Stale").await;
    let blind = json!({"spec": {"caBundle": null, "insecureSkipTLSVerify": true}}).to_string();
    assert_eq!(merge.send(Method::PATCH, OURS, blind).await.status, 200);
    condition(&admin, OURS, "Passed").await;
    assert_eq!(admin.get(FISH).await.status, 200);
    let trust = json!({"spec": {"caBundle": issuing.bundle(), "insecureSkipTLSVerify": null}}).to_string();
    assert_eq!(merge.send(Method::PATCH, OURS, trust).await.status, 200);
    condition(&admin, OURS, "Passed").await;

    other.stop().await;
    let gone = admin.get(FISH).await;
    // It may have been asked meanwhile whether it is there.
    let refused =
        format!("error trying to reach service: dial tcp 127.0.0.1:{port}: connect: connection refused\n");
    let is_told = gone.text() == refused || gone.text() == "service unavailable\n";
    assert!(gone.status == 503 && is_told, "{}", gone.text());
    admin.delete(&format!("{SLICES}/fish-1")).await;
    condition(&admin, OURS, "EndpointsNotFound").await;
    assert_eq!(admin.get(SERVED).await.text(), "service unavailable\n");
    // What cannot be asked may keep something there.
    admin.delete("/api/v1/namespaces/doomed-too").await;
    let ending = || async { admin.get("/api/v1/namespaces/doomed-too").await.text().to_owned() };
    for _ in 0..9000 {
        if ending().await.contains("sea.example/v1: stale GroupVersion discovery") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(ending().await.contains("Discovery failed for some groups, 1 failing"), "{}", ending().await);
    admin.delete(OURS).await;
    until(&admin, SERVED, 404).await;
    until(&admin, "/api/v1/namespaces/doomed-too", 404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_answers_what_is_no_list_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &["h2"]);
    let (other, issuing) = served(&instance, &admin).await;
    other.is_odd.store(true, Ordering::SeqCst);
    // Asked what it keeps in a namespace.
    admin.post("/api/v1/namespaces", &json!({"metadata": {"name": "doomed"}})).await;
    admin.delete("/api/v1/namespaces/doomed").await;
    until(&admin, "/api/v1/namespaces/doomed", 404).await;
    // Asked what it serves: it is there.
    let merge = admin.with("content-type", "application/merge-patch+json");
    for (bundle, reason) in [(Issuing::new().bundle(), "FailedDiscoveryCheck"), (issuing.bundle(), "Passed")]
    {
        let patch = json!({"spec": {"caBundle": bundle}}).to_string();
        assert_eq!(merge.send(Method::PATCH, OURS, patch).await.status, 200);
        condition(&admin, OURS, reason).await;
    }
    assert_eq!(admin.get(SERVED).await.json(), json!([]), "who asks is told what it says");
}

async fn told_by_discovery(admin: &Client, freshness: &str) {
    let groups = admin.get("/apis").await.json();
    let groups: Vec<&str> =
        groups["groups"].as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect();
    let at = |name: &str| groups.iter().position(|group| *group == name).unwrap();
    // Its priority is above that of definitions and below that of what is built in.
    assert!(at("sea.example") > at("discovery.k8s.io"), "{groups:?}");
    assert!(at("sea.example") < at("snapshot.storage.k8s.io"), "{groups:?}");
    let group = admin.get("/apis/sea.example").await.json();
    assert_eq!(group["preferredVersion"], json!({"groupVersion": "sea.example/v1", "version": "v1"}));
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let all = admin.with("accept", aggregated).get("/apis").await.json();
    let all = all["items"].as_array().unwrap();
    let found = all.iter().find(|group| group["metadata"]["name"] == "sea.example").unwrap();
    assert_eq!(
        found["versions"],
        json!([{
            "version": "v1", "freshness": freshness,
            "resources": [{
                "resource": "fish", "singularResource": "fish", "scope": "Namespaced",
                "responseKind": {"group": "sea.example", "version": "v1", "kind": "Fish"},
                "verbs": ["create", "deletecollection", "get", "list", "watch"],
            }],
        }])
    );
    if freshness == "Current" {
        assert_eq!(admin.get(SERVED).await.json()["resources"][0]["name"], "fish");
        let paths = admin.get("/").await.json();
        let paths = paths["paths"].as_array().unwrap();
        assert!(paths.contains(&json!("/apis/sea.example")) && paths.contains(&json!(SERVED)), "{paths:?}");
        let index = admin.get("/openapi/v3").await.json();
        let url = index["paths"]["apis/sea.example/v1"]["serverRelativeURL"].as_str().unwrap();
        assert_eq!(url, "/openapi/v3/apis/sea.example/v1?hash=F15B");
        assert_ne!(index["paths"]["apis/apps/v1"]["serverRelativeURL"], "/openapi/v3/apis/apps/v1?hash=BAD");
        assert_eq!(admin.get(url).await.json()["uri"], url);
    }
}

async fn handed_on_as_the_one_who_asks(admin: &Client) {
    let jane = admin
        .with("impersonate-user", "jane")
        .with("impersonate-group", "system:masters")
        .with("impersonate-extra-example.com%2fteam", "blue")
        .with("x-remote-user", "root")
        .with("x-remote-extra-forged", "yes")
        .with("content-type", "application/json")
        .with("x-more", "kept");
    let answered =
        jane.send(Method::POST, &format!("{FISH}?dryRun=All&x=a%20b"), "{\"name\":\"nemo\"}").await;
    assert_eq!(answered.status, 201, "{}", answered.text());
    assert_eq!(answered.header("x-of-the-other"), "yes");
    let seen = answered.json();
    assert_eq!(seen["peer"], "front-proxy-client");
    assert_eq!((&seen["method"], &seen["body"]), (&json!("POST"), &json!("{\"name\":\"nemo\"}")));
    assert_eq!(seen["uri"], format!("{FISH}?dryRun=All&x=a%20b"));
    let told = |name: &str| -> Vec<&str> {
        let headers = seen["headers"].as_array().unwrap().iter();
        headers.filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap()).collect()
    };
    assert_eq!(told("x-remote-user"), ["jane"]);
    assert_eq!(told("x-remote-group"), ["system:masters", "system:authenticated"]);
    assert_eq!(told("x-remote-extra-example.com%2fteam"), ["blue"]);
    assert_eq!((told("x-more"), told("host")), (vec!["kept"], vec!["fish.sea.svc"]));
    for forgotten in ["authorization", "impersonate-user", "impersonate-group", "x-remote-extra-forged"] {
        assert_eq!(told(forgotten), [""; 0], "{forgotten}");
    }
}

/// A connection is carried both ways once both ends speak another protocol.
async fn upgrades(admin: &Client) {
    let admin = admin.with("connection", "Upgrade").with("upgrade", "SPDY/3.1");
    let mut response = admin.start(admin.request(Method::POST, &format!("{FISH}/nemo/talk"), "")).await;
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["upgrade"], "SPDY/3.1");
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let said = vec![7; 300_000];
    let mut heard = vec![0; said.len()];
    let (mut read, mut write) = tokio::io::split(&mut stream);
    let (sent, received) = tokio::join!(write.write_all(&said), read.read_exact(&mut heard));
    sent.unwrap();
    received.unwrap();
    assert_eq!(heard, said);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_service_leaves_undone_holds_nothing_here() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &["http/1.1"]);
    let (other, _issuing) = served(&instance, &admin).await;

    // What comes with a GET is not sent on, and not waited for.
    let answered = admin.send(Method::GET, &format!("{FISH}?timeout=30s"), "ignored").await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    assert_eq!(answered.json()["body"], "");

    let mut response = admin.start(admin.request(Method::GET, &format!("{FISH}/breaks"), "")).await;
    let first = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "half");
    other.more.notify_one();
    assert!(response.into_body().collect().await.is_err(), "a part looks like all of it");

    // All that one user may send at a time, to a service that never answers.
    let mut waiting = tokio::task::JoinSet::new();
    for length in [3 << 20, 3 << 20, 3 << 20, 3 << 20, 3 << 20, (1 << 20) - 6 * 4096 - 100] {
        let admin = admin.clone();
        let path = format!("{FISH}/hangs?timeout=2s");
        waiting.spawn(async move { admin.send(Method::POST, &path, "x".repeat(length)).await.status });
    }
    // On a busy machine one may be late before it has sent everything.
    while waiting.join_next().await.is_some() {}
    assert!(other.asked.lock().unwrap().iter().any(|line| line.ends_with("/hangs")));
    let mut last = 0;
    for _ in 0..9000 {
        let made = admin.post(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("a", "1")).await;
        last = made.status.as_u16();
        if last == 201 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("what was handed on is still held: {last}");
}

/// Counts, and says who asked.
struct Meter;

impl Handler for Meter {
    fn resources(&self) -> Vec<Value> {
        vec![
            json!({"name": "nodes", "singularName": "", "namespaced": false, "kind": "NodeMetrics", "verbs": ["get"]}),
        ]
    }

    fn answer<'a>(
        &'a self,
        asker: &'a Asker,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'a, Result<http::Response<Content>>> {
        Box::pin(async move {
            if request.uri().path().ends_with("/none") {
                return Err(Status::not_found("metrics.k8s.io", "nodes", "none"));
            }
            let told = json!({"asker": asker.user, "path": request.uri().path()}).to_string();
            Ok(http::Response::new(Content::Whole(told.into())))
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_in_the_process_serves_a_group() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &[]);
    instance.registry().aggregation().serve("metrics.k8s.io", "v1beta1", Arc::new(Meter));
    const NODES: &str = "/apis/metrics.k8s.io/v1beta1/nodes";
    until(&admin, &format!("{NODES}/a"), 200).await;
    let told = admin.get(&format!("{NODES}/a")).await.json();
    assert_eq!(told, json!({"asker": "kubernetes-admin", "path": "/apis/metrics.k8s.io/v1beta1/nodes/a"}));
    assert_eq!(
        admin.get(&format!("{NODES}/none")).await.refusal(),
        (404, "nodes.metrics.k8s.io \"none\" not found".to_owned())
    );
    assert_eq!(client(&instance, false, &[]).get(NODES).await.status, 403);
    let list = admin.get("/apis/metrics.k8s.io/v1beta1").await.json();
    assert_eq!(
        (&list["kind"], &list["resources"][0]["kind"]),
        (&json!("APIResourceList"), &json!("NodeMetrics"))
    );
    let groups = admin.get("/apis").await;
    assert!(groups.text().contains("metrics.k8s.io/v1beta1"));
    let service = format!("{SERVICES}/v1beta1.metrics.k8s.io");
    until(&admin, &service, 200).await;
    assert_eq!(condition(&admin, &service, "Local").await["status"], "True");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_service_is_there_for_each_group_version() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &[]);
    let apps = format!("{SERVICES}/v1.apps");
    until(&admin, &apps, 200).await;
    let told = admin.get(&apps).await.json();
    let spec =
        json!({"group": "apps", "version": "v1", "groupPriorityMinimum": 17800, "versionPriority": 15});
    assert_eq!((&told["spec"], &told["status"]["conditions"][0]["reason"]), (&spec, &json!("Local")));
    assert_eq!(told["metadata"]["labels"], json!({"kube-aggregator.kubernetes.io/automanaged": "onstart"}));
    // Who takes it away or says something else is not heard for long.
    admin.delete(&apps).await;
    until(&admin, &apps, 200).await;
    let merge = admin.with("content-type", "application/merge-patch+json");
    let elsewhere = json!({"spec": {"service": {"namespace": "default", "name": "kubernetes"}}}).to_string();
    assert_eq!(merge.send(Method::PATCH, &apps, elsewhere).await.status, 200);
    assert_eq!(admin.get("/apis/apps/v1/deployments").await.status, 200);
    for _ in 0..9000 {
        if admin.get(&apps).await.json()["spec"] == spec {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(admin.get(&apps).await.json()["spec"], spec);
    assert_eq!(admin.get(&format!("{SERVICES}/v1.apiregistration.k8s.io")).await.status, 404);

    let definition = json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Cluster", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}},
            }],
        },
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(admin.post(definitions, &definition).await.status, 201);
    let custom = format!("{SERVICES}/v1.example.com");
    until(&admin, &custom, 200).await;
    assert_eq!(admin.get(&custom).await.json()["spec"]["groupPriorityMinimum"], 1000);
    admin.delete(&format!("{definitions}/widgets.example.com")).await;
    until(&admin, &custom, 404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_have_addresses_that_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &[]);
    const NETWORKING: &str = "/apis/networking.k8s.io/v1";
    let range = admin.get(&format!("{NETWORKING}/servicecidrs/kubernetes")).await.json();
    assert_eq!(range["spec"], json!({"cidrs": ["10.96.0.0/16"]}));
    assert_eq!(range["status"]["conditions"][0]["status"], "True");
    let own = format!("{NETWORKING}/ipaddresses/10.96.0.1");
    until(&admin, &own, 200).await;
    assert_eq!(
        admin.get(&own).await.json()["spec"],
        json!({"parentRef": {"resource": "services", "namespace": "default", "name": "kubernetes"}})
    );
    let services = "/api/v1/namespaces/default/services";
    let made =
        admin.post(services, &json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})).await;
    let address = made.json()["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let address = format!("{NETWORKING}/ipaddresses/{address}");
    until(&admin, &address, 200).await;
    admin.delete(&format!("{services}/s")).await;
    until(&admin, &address, 404).await;
    assert_eq!(admin.get(&own).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_a_deprecated_version_are_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &[]);
    let told = admin.get("/api/v1/namespaces/default/endpoints").await;
    let warning = "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"";
    assert_eq!((told.status.as_u16(), told.header("warning")), (200, warning));
    assert_eq!(admin.get("/api/v1/namespaces/default/services").await.header("warning"), "");
}
