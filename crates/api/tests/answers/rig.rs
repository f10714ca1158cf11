//! A server with what the recorded one had, and who asks it.

use api::admission;
use api::auth::Access;
use api::controllers::{self, Controllers};
use api::registry::client::Client;
use api::registry::{Registry, Settings};
use api::resource::Asker;
use api::serve::{Server, Setup};
use api::store::{self, Store};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// A running server.
pub(crate) struct Rig {
    address: SocketAddr,
    _server: Server,
    _controllers: Controllers,
    _folder: tempfile::TempDir,
}

/// What it answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) warnings: Vec<String>,
    /// JSON, or the text as a string.
    pub(crate) body: Value,
}

impl Rig {
    /// Starts a server, and puts into it what the recording's `setup` says.
    pub(crate) async fn start() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store"), store::Options::default()).unwrap();
        let registry =
            Registry::new(store, api::kinds::builtin(), admission::builtin(None), Settings::default());
        let controllers = Controllers::start(&registry, controllers::Settings::default()).await.unwrap();
        let server = Server::start(Setup {
            registry: registry.clone(),
            access: Access::trusting(Asker { user: "system:admin".to_owned(), ..Asker::default() }),
            authority: None,
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            listen_ahead: Vec::new(),
            node: None,
            audit: None,
        })
        .await
        .unwrap();
        let rig = Rig {
            address: server.addresses()[0],
            _server: server,
            _controllers: controllers,
            _folder: folder,
        };
        rig.fill(&registry).await;
        rig
    }

    async fn fill(&self, registry: &Registry) {
        let template = json!({
            "metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "busybox"}]},
        });
        let objects = [
            ("/api/v1", "configmaps", json!({"metadata": {"name": "cm1"}, "data": {"a": "1"}})),
            (
                "/api/v1",
                "configmaps",
                json!({"metadata": {"name": "frozen"}, "data": {"a": "1"}, "immutable": true}),
            ),
            (
                "/apis/apps/v1",
                "deployments",
                json!({"metadata": {"name": "d1"}, "spec": {
                    "replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template,
                }}),
            ),
            (
                "/api/v1",
                "services",
                json!({"metadata": {"name": "s1"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}),
            ),
            (
                "/api/v1",
                "pods",
                json!({"metadata": {"name": "live"}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}}),
            ),
        ];
        for (root, plural, object) in objects {
            let request = json!({
                "method": "POST", "path": format!("{root}/namespaces/default/{plural}"),
                "contentType": "application/json", "body": object,
            });
            let answer = self.ask(&request).await;
            assert_eq!(answer.status, 201, "{plural}: {}", answer.body);
        }
        self.schedule(registry).await;
    }

    /// The pod of the recording had a node, whose kubelet had told its status.
    async fn schedule(&self, registry: &Registry) {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": "live"},
            "target": {"kind": "Node", "name": "base"},
        });
        let request = json!({
            "method": "POST", "path": "/api/v1/namespaces/default/pods/live/binding",
            "contentType": "application/json", "body": binding,
        });
        assert_eq!(self.ask(&request).await.status, 201);
        let recorded: Value = serde_json::from_str(include_str!("recorded.json")).unwrap();
        let seen = recorded["cases"].as_array().unwrap().iter().find_map(|case| {
            let is_pod = case["what"] == "change a running pod's image (allowed)";
            is_pod.then(|| case["answer"]["status"].clone())
        });
        let client = Client::new(registry.clone(), "kubelet");
        let target = client.target("v1", "Pod", "default", "live").unwrap();
        let mut pod = client.get(&target).unwrap();
        let mut seen = seen.unwrap();
        // A kubelet leaves the time as it is at which the binding said that the pod has a node.
        let scheduled = pod.at(&["status", "conditions"]).and_then(Value::as_array).unwrap();
        let since = scheduled.iter().find(|held| held["type"] == "PodScheduled").unwrap();
        let since = since["lastTransitionTime"].clone();
        let told = seen["conditions"].as_array_mut().unwrap();
        let told = told.iter_mut().find(|held| held["type"] == "PodScheduled").unwrap();
        told["lastTransitionTime"] = since;
        pod.0.insert("status".to_owned(), seen);
        client.update(&target, api::resource::Part::Status, pod).await.unwrap();
        // Managers of one second are told in another order, and the recorded ones were seconds apart.
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }

    /// Sends a request as it was recorded.
    pub(crate) async fn ask(&self, request: &Value) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut builder = Request::builder()
            .method(request["method"].as_str().unwrap())
            .uri(request["path"].as_str().unwrap())
            .header("host", self.address.to_string())
            .header("user-agent", "Python-urllib/3.13");
        for (header, field) in [("content-type", "contentType"), ("accept", "accept")] {
            if let Some(value) = request[field].as_str() {
                builder = builder.header(header, value);
            }
        }
        let body = match &request["body"] {
            Value::Null => Bytes::new(),
            Value::String(text) => Bytes::from(text.clone()),
            other => Bytes::from(other.to_string()),
        };
        let response = sender.send_request(builder.body(Full::new(body)).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        connection.abort();
        let warnings = head.headers.get_all("warning").iter().map(|value| value.to_str().unwrap().to_owned());
        Answer {
            status: head.status.as_u16(),
            warnings: warnings.collect(),
            body: serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned())),
        }
    }
}
