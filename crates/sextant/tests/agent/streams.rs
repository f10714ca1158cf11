//! The agent's own server: behind the API server, and for whom that lets in.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::client::ConfigExt as _;
use kube::{Client, Config};
use serde_json::json;
use streaming::client::{Command, PortForward, Protocol, Target};
use streaming::remote_command::{Exit, Requested};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;

use crate::Test;
use crate::rig::{NODE, Rig, container};

pub(crate) const TESTS: &[Test] = &[
    ("commands_and_ports_of_a_pod_are_reached_through_the_api_server", |rig| Box::pin(streams(rig))),
    ("the_agents_server_lets_in_whom_the_api_server_says", |rig| Box::pin(server(rig))),
];

fn target(rig: &Rig, path: &str) -> Target {
    let mut tls = rig.config.rustls_client_config().unwrap();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let url = format!("{}api/v1/namespaces/default/pods/{path}", rig.config.cluster_url);
    Target::parse(&url).unwrap().with_tls(Arc::new(tls))
}

async fn streams(rig: &Rig) {
    rig.pod("streams", json!({"containers": [container("main", &["serve", "8080", "hi"])]})).await;
    rig.ready("streams").await;
    let wish = Requested::new(false, true, true, false).unwrap();
    let path = "streams/exec?container=main&stdout=true&stderr=true&command=probe&command=say&command=a+word\
                &command=then&command=exit&command=7";
    for protocol in [Protocol::Spdy, Protocol::WebSocket] {
        let command = Command::start(&target(rig, path), wish, protocol).await.unwrap();
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let exit = command.run(tokio::io::empty(), &mut out, &mut errors, mpsc::channel(1).1).await.unwrap();
        assert_eq!((exit, String::from_utf8(out).unwrap().as_str()), (Exit(7), "a word\n"), "{protocol:?}");
    }
    let forward =
        PortForward::start(&target(rig, "streams/portforward?ports=8080"), Protocol::Spdy).await.unwrap();
    let mut port = forward.connect(8080).await.unwrap();
    let mut answer = [0; 2];
    port.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"hi");
}

async fn server(rig: &Rig) {
    let node =
        kube::Api::<k8s_openapi::api::core::v1::Node>::all(rig.client.clone()).get(NODE).await.unwrap();
    let port = &json!(node.status)["daemonEndpoints"]["kubeletEndpoint"]["Port"];
    let mut stranger = Config::new(format!("https://127.0.0.1:{port}").parse().unwrap());
    stranger.accept_invalid_certs = true;
    let ask = async |config: &Config, path: &str| {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        Client::try_from(config.clone()).unwrap().request_text(request).await
    };
    let refused = |asked: kube::Result<String>| match asked {
        Err(kube::Error::Api(status)) => status.code,
        asked => panic!("{asked:?}"),
    };
    assert_eq!(refused(ask(&stranger, "/healthz").await), 401, "it has neither certificate nor token");
    tokens(rig, &stranger, ask, refused).await;
    let mut master = stranger;
    master.auth_info = rig.config.auth_info.clone();
    assert_eq!(ask(&master, "/healthz").await.unwrap(), "ok");
    assert!(ask(&master, "/pods").await.unwrap().contains("\"items\""));
    assert!(ask(&master, "/metrics").await.unwrap().contains("kubelet_running_pods"));
    assert!(ask(&master, "/nothing").await.is_err());
}

/// Who has a token may what the API server says.
async fn tokens(
    rig: &Rig,
    stranger: &Config,
    ask: impl AsyncFn(&Config, &str) -> kube::Result<String>,
    refused: impl Fn(kube::Result<String>) -> u16,
) {
    let with = |token: &str| {
        let mut config = stranger.clone();
        config.auth_info.token = Some(token.to_owned().into());
        config
    };
    assert_eq!(refused(ask(&with("nobodys"), "/metrics").await), 401);
    rig.make::<ServiceAccount>(json!({"metadata": {"name": "monitor"}})).await;
    let accounts = kube::Api::<ServiceAccount>::namespaced(rig.client.clone(), "default");
    let token =
        accounts.create_token_request("monitor", &PostParams::default(), &TokenRequest::default()).await;
    let monitor = with(&token.unwrap().status.unwrap().token.unwrap());
    assert_eq!(refused(ask(&monitor, "/metrics").await), 403);
    let make = async |path: &str, object: serde_json::Value| {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/{path}");
        let request = http::Request::post(path).header("content-type", "application/json");
        rig.client.request_text(request.body(object.to_string().into_bytes()).unwrap()).await.unwrap();
    };
    let rule = json!({"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]});
    make("clusterroles", json!({"metadata": {"name": "monitor"}, "rules": [rule]})).await;
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "monitor"});
    let subject = json!({"kind": "ServiceAccount", "name": "monitor", "namespace": "default"});
    make(
        "clusterrolebindings",
        json!({"metadata": {"name": "monitor"}, "roleRef": role, "subjects": [subject]}),
    )
    .await;
    rig.until("the role is known", async || ask(&monitor, "/metrics").await.ok()).await;
    assert!(ask(&monitor, "/metrics/probes").await.is_ok());
    // What the API server has said is known for a while: it is not asked for each reading.
    rig.until("it is not asked again", async || {
        let reviews = async || {
            let text = rig
                .client
                .request_text(http::Request::get("/metrics").body(Vec::new()).unwrap())
                .await
                .unwrap();
            let mut sums = BTreeMap::new();
            for line in text.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
                let Some((resource, _)) =
                    line.split_once("resource=\"").and_then(|(_, rest)| rest.split_once('"'))
                else {
                    continue;
                };
                if matches!(resource, "tokenreviews" | "subjectaccessreviews") {
                    let count: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
                    *sums.entry(resource.to_owned()).or_insert(0.0) += count;
                }
            }
            sums
        };
        let before = reviews().await;
        // Both were asked for, and are counted once they are answered.
        if before.len() < 2 {
            return None;
        }
        for _ in 0..5 {
            ask(&monitor, "/metrics").await.unwrap();
        }
        (reviews().await == before).then_some(())
    })
    .await;
    // The path is unescaped before it is judged.
    for path in
        ["/pods", "/stats/summary", "/exec/default/streams/main?command=x", "/%65xec/default/streams/main"]
    {
        assert_eq!(refused(ask(&monitor, path).await), 403, "{path}");
    }
}
