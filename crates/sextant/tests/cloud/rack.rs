//! The provider that docs/write-a-provider.md goes through, as a program's user has it: examined, at work, and with the objects of
//! `examples/cloud`.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use kube::config::Kubeconfig;
use serde_json::{Value, json};

use crate::rig::Rig;
use crate::site::{NEW, expose, has_taint, node_is, nodes, say_ready, service_is, withdraw};

#[allow(dead_code, reason = "the program's main is not called here")]
#[path = "../../../cpi/examples/rack.rs"]
mod example;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/cloud/control.yaml");

/// A rack with a machine for `node-1`, and its provider at `cloud.sock`.
fn furnish(rig: &Rig) {
    let dir = rig.path("rack");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("machines"), "node-1 4711 large row-1 10.0.0.1 on\nend\n").unwrap();
    std::fs::write(dir.join("pool"), "192.0.2.10\n").unwrap();
    serve(&dir, &rig.path("cloud.sock"));
}

/// Serves as long as the test runs.
fn serve(dir: &Path, socket: &Path) {
    let (provider, socket) = (Arc::new(example::Rack::at(dir)), socket.to_owned());
    let (ready, serves) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let never = std::future::pending();
        runtime.block_on(cpi::plugin::serve(provider, &socket, never, || ready.send(()).unwrap())).unwrap();
    });
    serves.recv().unwrap();
}

/// What a command of this machine comes to.
pub(crate) fn sextant(rig: &Rig, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sextant"));
    command.arg("--data-dir").arg(rig.path("data")).arg("--run-dir").arg(rig.path("run")).args(args);
    command.env_remove("KUBECONFIG").stdin(Stdio::null()).output().unwrap()
}

/// What it says, where it succeeds.
pub(crate) fn says(rig: &Rig, args: &[&str]) -> String {
    let output = sextant(rig, args);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {words}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_provider_of_the_page_is_right_and_works() {
    let rig = Rig::bare().await;
    furnish(&rig);
    let endpoint = format!("unix://{}", rig.path("cloud.sock").display());
    let findings = says(&rig, &["check", "cpi", &endpoint, "--node", "node-1=10.0.0.1"]);
    assert!(findings.contains("made again it is the same") && !findings.contains("WRONG"), "{findings}");
    assert_eq!(std::fs::read_dir(rig.path("rack/balancers")).unwrap().count(), 0, "it is taken away");
    // What is half written says nothing of anybody, and nothing but that.
    std::fs::write(rig.path("rack/machines"), "node-1 4711 lar").unwrap();
    let output = sextant(&rig, &["check", "cpi", &endpoint, "--node", "node-1=10.0.0.1"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("does not end with `end`"), "{said}");
}

/// The service account's token, in a kubeconfig.
pub(crate) async fn log_in(rig: &Rig) {
    let accounts: Api<ServiceAccount> = rig.objects_of("sextant-cloud");
    let wish: TokenRequest = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
    let token = accounts.create_token_request("sextant-cloud", &PostParams::default(), &wish).await.unwrap();
    let admin = Kubeconfig::read_from(rig.path("data/api/kubeconfig")).unwrap();
    let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "clusters": admin.clusters,
        "users": [{"name": "cloud", "user": {"token": token.status.unwrap().token}}],
        "contexts": [{"name": "cloud", "context": {"cluster": admin.clusters[0].name, "user": "cloud",
            "namespace": "sextant-cloud"}}],
        "current-context": "cloud"});
    std::fs::write(rig.path("kubeconfig"), kubeconfig.to_string()).unwrap();
}

/// What the deployment's container of controllers runs, on this machine: with its socket, and a port that is free.
async fn command(rig: &Rig) -> Vec<String> {
    let deployments: Api<Deployment> = rig.objects_of("sextant-cloud");
    let object = serde_json::to_value(deployments.get("sextant-cloud").await.unwrap()).unwrap();
    let pod = &object["spec"]["template"]["spec"];
    assert_eq!(pod["hostNetwork"], true);
    let tolerated: Vec<&Value> =
        pod["tolerations"].as_array().unwrap().iter().map(|toleration| &toleration["key"]).collect();
    assert!(tolerated.contains(&&json!(NEW)), "{tolerated:?}");
    let args = pod["containers"][0]["args"].as_array().unwrap();
    let socket = format!("--cloud-provider=unix://{}", rig.path("cloud.sock").display());
    let ours = |arg: &str| match arg {
        "--cloud-provider=unix:///run/cloud/cloud.sock" => socket.clone(),
        "--metrics-listen=127.0.0.1:10258" => "--metrics-listen=127.0.0.1:0".into(),
        arg => arg.into(),
    };
    let args: Vec<String> = args.iter().map(|arg| ours(arg.as_str().unwrap())).collect();
    assert!(args.contains(&socket) && args.contains(&"--leader-elect".into()), "{args:?}");
    args
}

#[tokio::test]
async fn the_objects_of_the_example_run_it_and_have_the_rights() {
    let mut rig = Rig::bare().await;
    furnish(&rig);
    let applied = says(&rig, &["apply", "-f", EXAMPLE]);
    assert!(applied.contains("deployment.apps/sextant-cloud created"), "{applied}");
    log_in(&rig).await;
    let kubeconfig = rig.path("kubeconfig").display().to_string();
    let args = [command(&rig).await, vec!["--kubeconfig".into(), kubeconfig]].concat();
    rig.spawn("control", &args.iter().map(String::as_str).collect::<Vec<_>>());
    rig.words_have("control", "has cloud provider rack").await;

    let taint = json!({"key": NEW, "value": "true", "effect": "NoSchedule"});
    rig.make::<cpi::contract::Node>(json!({"metadata": {"name": "node-1"}, "spec": {"taints": [taint]}}))
        .await;
    say_ready(&rig, "node-1", "True").await;
    let node = node_is(&rig, "node-1", "initialized", |node| {
        !has_taint(node, NEW) && node["status"]["addresses"].is_array() && node["spec"]["podCIDR"].is_string()
    })
    .await;
    assert_eq!(node["spec"]["providerID"], "rack://4711");
    assert_eq!(node["metadata"]["labels"]["topology.kubernetes.io/zone"], "row-1");
    expose(&rig, "web").await;
    service_is(&rig, "web", "reachable", |web| {
        web["status"]["loadBalancer"]["ingress"][0]["ip"] == "192.0.2.10"
    })
    .await;
    // The pool has one address.
    expose(&rig, "late").await;
    crate::site::event(&rig, "late", "SyncLoadBalancerFailed", "no address is left for late").await;
    withdraw(&rig, "web").await;
    service_is(&rig, "late", "reachable", |late| {
        late["status"]["loadBalancer"]["ingress"][0]["ip"] == "192.0.2.10"
    })
    .await;
    // Its machine is gone from the file, and it is not ready: so its node goes, too.
    std::fs::write(rig.path("rack/machines"), "end\n").unwrap();
    say_ready(&rig, "node-1", "Unknown").await;
    rig.until("node-1 is gone", async |rig| nodes(rig).get_opt("node-1").await.ok()?.is_none().then_some(()))
        .await;
    crate::site::nothing_was_forbidden(&rig);
    assert!(!rig.words("control").contains("cannot watch"), "{}", rig.words("control"));
}
