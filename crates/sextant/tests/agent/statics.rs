//! Pods of the node's own files.

use std::fs;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;

use cri::caller::Client;
use cri::contract::v1::{Container, ContainerState, ListContainersRequest};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};

use crate::Test;
use crate::rig::{IMAGE, NODE, Rig, condition, container, first, with};

pub(crate) const TESTS: &[Test] = &[
    ("pods_of_files_run_and_are_mirrored", |rig| Box::pin(mirrored(rig))),
    ("pods_of_files_run_without_an_api_server", |rig| Box::pin(alone(rig))),
    ("a_pod_of_a_file_waits_for_the_node_that_it_wants", |rig| Box::pin(waits(rig))),
    ("a_pod_whose_file_went_while_no_agent_was_there_ends_without_an_api_server", |rig| Box::pin(went(rig))),
];

/// A whole file, at once.
fn put(folder: &Path, name: &str, text: &str) {
    let half = folder.join(format!(".{name}"));
    fs::write(&half, text).unwrap();
    fs::rename(half, folder.join(name)).unwrap();
}

async fn mirrored(rig: &Rig) {
    let folder = rig.path("manifests");
    fs::create_dir(&folder).unwrap();
    rig.kill("agent");
    rig.agent_with(&["--pod-manifest-path", &folder.display().to_string()]);
    let yaml = |word: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  labels: {{app: web}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  \
             - name: main\n    image: {IMAGE}\n    imagePullPolicy: IfNotPresent\n    command: [probe, say, {word}, then, sleep]\n"
        )
    };
    put(&folder, "web.yaml", &yaml("one"));
    let name = format!("web-{NODE}");
    let shown = async || rig.pods().get_opt(&name).await.unwrap();
    let ready = async || {
        let pod = shown().await?;
        (condition(&json!(pod.status), "Ready") == "True").then_some(pod)
    };
    let pod = rig.until("there is a mirror, and it is ready", ready).await;
    let metadata = json!(pod.metadata);
    let annotations = &metadata["annotations"];
    assert_eq!(annotations["kubernetes.io/config.source"], "file");
    assert_eq!(annotations["kubernetes.io/config.mirror"], annotations["kubernetes.io/config.hash"]);
    assert!(annotations["kubernetes.io/config.seen"].is_string(), "{metadata}");
    assert_eq!(
        (&metadata["labels"]["app"], &metadata["ownerReferences"][0]["kind"]),
        (&json!("web"), &json!("Node"))
    );
    rig.log_has(&name, "main", "one").await;
    let id = |pod: &Value| first(&pod["status"]).container_id;
    let had = id(&json!(pod));
    // Its end is nothing to the pod, and another comes.
    let preconditions = Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None });
    rig.pods().delete(&name, &DeleteParams { preconditions, ..DeleteParams::default() }).await.unwrap();
    let again = async || ready().await.filter(|other| other.metadata.uid != pod.metadata.uid);
    let other = rig.until("there is another mirror", again).await;
    assert_eq!(id(&json!(other)), had);
    // An agent that starts goes on with it.
    rig.kill("agent");
    rig.agent_with(&["--pod-manifest-path", &folder.display().to_string()]);
    put(&folder, "web.yaml", &yaml("two"));
    let changed = async || ready().await.filter(|pod| id(&json!(pod)) != had);
    let pod = rig.until("there is the pod of the other file", changed).await;
    assert_ne!(
        json!(pod.metadata)["annotations"]["kubernetes.io/config.hash"],
        annotations["kubernetes.io/config.hash"]
    );
    rig.log_has(&name, "main", "two").await;
    fs::remove_file(folder.join("web.yaml")).unwrap();
    rig.gone(&name).await;
    rig.kill("agent");
    rig.agent();
}

async fn alone(rig: &Rig) {
    let (folder, out) = (rig.path("alone"), rig.path("alone-out"));
    fs::create_dir(&folder).unwrap();
    fs::create_dir(&out).unwrap();
    let mounts = json!({"volumeMounts": [{"name": "out", "mountPath": "/out"}]});
    let ends = |name: &str, end: &str| {
        let said = format!("/out/{name}");
        let words = ["write", &said, "text", "then", "trap", "TERM", "then", "write", end, "x"];
        with(container(name, &words), mounts.clone())
    };
    let hook =
        json!({"lifecycle": {"preStop": {"exec": {"command": ["probe", "write", "/out/1-hook", "x"]}}}});
    let main = with(ends("said", "/out/2-main"), hook);
    let beside = with(ends("beside", "/out/3-beside"), json!({"restartPolicy": "Always"}));
    let spec = json!({"containers": [main], "initContainers": [beside],
        "volumes": [{"name": "out", "hostPath": {"path": out}}]});
    put(
        &folder,
        "alone.json",
        &json!({"kind": "Pod", "metadata": {"name": "alone"}, "spec": spec}).to_string(),
    );
    rig.kill("agent");
    nowhere(rig, &folder);
    // The agent has a hook for what has been started: a container says that it runs before the runtime does.
    let runs = async || {
        (running(rig, "alone").await == 2 && ["said", "beside"].iter().all(|name| out.join(name).exists()))
            .then_some(())
    };
    rig.until("the pod runs", runs).await;
    fs::remove_file(folder.join("alone.json")).unwrap();
    let logs = || fs::read_dir(rig.path("logs")).unwrap().count();
    rig.until("nothing is left of it", async || (logs() == 0).then_some(())).await;
    // As any pod ends that is deleted: its hook, itself, and what runs beside it.
    let ended = ["1-hook", "2-main", "3-beside"].map(|name| {
        fs::metadata(out.join(name)).unwrap_or_else(|error| panic!("{name}: {error}")).modified().unwrap()
    });
    assert!(ended.is_sorted(), "{ended:?}");
    rig.kill("agent");
    rig.agent();
}

/// An agent with these files, and with an API server that is not there.
fn nowhere(rig: &Rig, folder: &Path) {
    elsewhere(rig, folder, "127.0.0.1:1");
}

/// An agent with these files, which looks for the API server at another address.
fn elsewhere(rig: &Rig, folder: &Path, address: &str) {
    let known = fs::read_to_string(rig.path("data/api/kubeconfig")).unwrap();
    let url = rig.config.cluster_url.to_string();
    let elsewhere = known.replace(url.trim_end_matches('/'), &format!("https://{address}"));
    assert_ne!(known, elsewhere, "{url}");
    let kubeconfig = rig.path("elsewhere.kubeconfig");
    fs::write(&kubeconfig, elsewhere).unwrap();
    let (manifests, kubeconfig) = (folder.display().to_string(), kubeconfig.display().to_string());
    rig.agent_with(&["--pod-manifest-path", &manifests, "--kubeconfig", &kubeconfig]);
}

/// How many containers of pods whose names begin so run.
pub(crate) async fn running(rig: &Rig, pod: &str) -> usize {
    let cri = Client::connect(&rig.path("run/cri.sock")).await.unwrap();
    let all = cri.list_containers(ListContainersRequest::default()).await.unwrap().containers;
    let is_of =
        |one: &&Container| one.labels.get("io.kubernetes.pod.name").is_some_and(|name| name.starts_with(pod));
    all.iter().filter(is_of).filter(|one| one.state() == ContainerState::ContainerRunning).count()
}

async fn waits(rig: &Rig) {
    let nodes: Api<Node> = Api::all(rig.client.clone());
    let label = async |value: Value| {
        let patch = Patch::Merge(json!({"metadata": {"labels": {"room": value}}}));
        nodes.patch(NODE, &PatchParams::default(), &patch).await.unwrap();
    };
    label(json!("big")).await;
    let folder = rig.path("waits");
    fs::create_dir(&folder).unwrap();
    let spec = json!({"containers": [container("main", &["sleep"])], "terminationGracePeriodSeconds": 0});
    for (name, more) in [("any", json!({})), ("picky", json!({"nodeSelector": {"room": "big"}}))] {
        let spec = with(spec.clone(), more);
        put(&folder, name, &json!({"metadata": {"name": name}, "spec": spec}).to_string());
    }
    rig.kill("agent");
    // Who comes is heard later.
    let near = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere(rig, &folder, &near.local_addr().unwrap().to_string());
    rig.until("the other one runs", async || (running(rig, "any-").await == 1).then_some(())).await;
    assert_eq!(running(rig, "picky-").await, 0);
    let api = rig.config.cluster_url.authority().unwrap().to_string();
    std::thread::spawn(move || relay(&near, &api));
    let name = format!("picky-{NODE}");
    let is_ready = async || {
        let status = json!(rig.pods().get_opt(&name).await.unwrap()?.status);
        (condition(&status, "Ready") == "True").then_some(())
    };
    rig.until("the node is known, and has what the pod wants", is_ready).await;
    label(Value::Null).await;
    rig.kill("agent");
    rig.agent();
    let is_over = async || (running(rig, "any-").await + running(rig, "picky-").await == 0).then_some(());
    rig.until("both end", is_over).await;
}

/// Hands on what comes to who listens elsewhere, and the answers.
fn relay(listener: &TcpListener, to: &str) {
    while let Ok((near, _)) = listener.accept() {
        let Ok(far) = TcpStream::connect(to) else { continue };
        for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = (to.shutdown(Shutdown::Write), from.shutdown(Shutdown::Read));
            });
        }
    }
}

async fn went(rig: &Rig) {
    let (folder, out) = (rig.path("went"), rig.path("went-out"));
    fs::create_dir(&folder).unwrap();
    fs::create_dir(&out).unwrap();
    let hook = json!({"preStop": {"exec": {"command": ["probe", "write", "/out/hook", "x"]}}});
    let mounts = json!([{"name": "out", "mountPath": "/out"}]);
    let words = ["write", "/out/said", "x", "then", "trap", "TERM", "then", "write", "/out/end", "x"];
    let main = with(container("main", &words), json!({"lifecycle": hook, "volumeMounts": mounts}));
    let spec = json!({"containers": [main], "volumes": [{"name": "out", "hostPath": {"path": out}}]});
    for name in ["went", "stays"] {
        put(&folder, name, &json!({"metadata": {"name": name}, "spec": spec}).to_string());
    }
    rig.kill("agent");
    nowhere(rig, &folder);
    let run = async || (running(rig, "went").await + running(rig, "stays").await == 2).then_some(());
    rig.until("both run", run).await;
    rig.until("it has begun", async || out.join("said").exists().then_some(())).await;
    rig.kill("agent");
    fs::remove_file(folder.join("went")).unwrap();
    // Somebody writes the other one, and has not done.
    fs::write(folder.join("stays"), "metadata: {name: [").unwrap();
    nowhere(rig, &folder);
    let logs = || {
        let all = fs::read_dir(rig.path("logs")).unwrap();
        all.filter(|one| one.as_ref().unwrap().file_name().to_string_lossy().contains("_went-")).count()
    };
    rig.until("nothing is left of it", async || (logs() == 0).then_some(())).await;
    assert!(out.join("hook").exists() && out.join("end").exists(), "its hook and its signal came");
    assert_eq!(running(rig, "stays").await, 1);
    // One that is told of no files ends what there was of them.
    rig.kill("agent");
    rig.agent();
    rig.until("the other one ends", async || (running(rig, "stays").await == 0).then_some(())).await;
}
