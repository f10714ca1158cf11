//! Pods of the node's own files.

use std::fs;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;

use cri::caller::Client;
use cri::contract::v1::{Container, ContainerState, ListContainersRequest, StopContainerRequest};
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
    ("a_pod_of_a_file_has_its_port_once_the_other_has_ended", |rig| Box::pin(ports(rig))),
    ("a_pod_of_a_file_has_its_port_once_the_other_has_ended_by_itself", |rig| Box::pin(ends(rig))),
    ("a_pod_of_a_file_that_runs_is_looked_after_where_it_cannot_be_written_down", |rig| Box::pin(noted(rig))),
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
    running_ids(rig, pod).await.len()
}

/// Their ids.
async fn running_ids(rig: &Rig, pod: &str) -> Vec<String> {
    let cri = Client::connect(&rig.path("run/cri.sock")).await.unwrap();
    let all = cri.list_containers(ListContainersRequest::default()).await.unwrap().containers;
    let is_of =
        |one: &&Container| one.labels.get("io.kubernetes.pod.name").is_some_and(|name| name.starts_with(pod));
    let run = all.iter().filter(is_of).filter(|one| one.state() == ContainerState::ContainerRunning);
    run.map(|one| one.id.clone()).collect()
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
    let waits = format!(
        "sextant agent: pod default/picky-{NODE} waits: Predicate NodeAffinity failed: node(s) didn't match Pod's node \
         affinity/selector; node {NODE} is not registered yet\n"
    );
    rig.until("it is told", async || rig.words("agent").contains(&waits).then_some(())).await;
    assert_eq!(running(rig, "picky-").await, 0);
    let api = rig.config.cluster_url.authority().unwrap().to_string();
    std::thread::spawn(move || relay(&near, &api));
    let name = format!("picky-{NODE}");
    let is_ready = async || {
        let status = json!(rig.pods().get_opt(&name).await.unwrap()?.status);
        (condition(&status, "Ready") == "True").then_some(())
    };
    rig.until("the node is known, and has what the pod wants", is_ready).await;
    assert_eq!(rig.words("agent").matches(&waits).count(), 1, "once");
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

/// Of two that want one port of the node the first has it; the other has it after that.
async fn ports(rig: &Rig) {
    let folder = rig.path("ports");
    fs::create_dir(&folder).unwrap();
    let main =
        with(container("main", &["sleep"]), json!({"ports": [{"containerPort": 80, "hostPort": 8099}]}));
    let spec = json!({"containers": [main], "terminationGracePeriodSeconds": 0});
    for name in ["port-a", "port-b"] {
        put(&folder, name, &json!({"metadata": {"name": name}, "spec": spec}).to_string());
    }
    let status = async |name: &str| {
        let pod = rig.pods().get_opt(&format!("{name}-{NODE}")).await.unwrap();
        json!(pod.and_then(|pod| pod.status))
    };
    let runs = async |name: &str| (condition(&status(name).await, "Ready") == "True").then_some(());
    let is_refused = async |name: &str| (status(name).await["reason"] == "NodePorts").then_some(());
    let manifests = folder.display().to_string();
    rig.kill("agent");
    rig.agent_with(&["--pod-manifest-path", &manifests]);
    rig.until("the first one runs", async || runs("port-a").await).await;
    rig.until("the other one is refused", async || is_refused("port-b").await).await;
    // A file that changes is another pod, and has its port before who was refused.
    let hash = async || {
        let pod = rig.pods().get_opt(&format!("port-a-{NODE}")).await.unwrap();
        json!(pod.map(|pod| pod.metadata))["annotations"]["kubernetes.io/config.hash"].clone()
    };
    let before = hash().await;
    let changed = json!({"metadata": {"name": "port-a", "labels": {"again": "yes"}}, "spec": spec});
    put(&folder, "port-a", &changed.to_string());
    let again = async || {
        let now = hash().await;
        if now.is_null() || now == before { None } else { runs("port-a").await }
    };
    rig.until("the one in its place runs", again).await;
    rig.until("the other one is refused still", async || is_refused("port-b").await).await;
    assert_eq!(running(rig, "port-").await, 1);
    // The next agent knows whose it is, also where another file comes first.
    rig.kill("agent");
    put(&folder, "port-0", &json!({"metadata": {"name": "port-0"}, "spec": spec}).to_string());
    rig.agent_with(&["--pod-manifest-path", &manifests]);
    rig.until("one that came later is refused", async || is_refused("port-0").await).await;
    assert_eq!((running(rig, "port-a-").await, running(rig, "port-").await), (1, 1));
    fs::remove_file(folder.join("port-a")).unwrap();
    // In the order in which this agent has seen them.
    rig.until("the next one runs", async || runs("port-0").await).await;
    fs::remove_file(folder.join("port-0")).unwrap();
    rig.until("the last one runs", async || runs("port-b").await).await;
    let last = status("port-b").await;
    assert!(last["phase"] == "Running" && last["reason"].is_null() && last["message"].is_null(), "{last}");
    rig.kill("agent");
    rig.agent();
}

/// Where the first one ends by itself the other has the port, whether or not there is an API server that is told of the end.
async fn ends(rig: &Rig) {
    let cri = Client::connect(&rig.path("run/cri.sock")).await.unwrap();
    for (round, port) in [("ends-told", 8097), ("ends-alone", 8098)] {
        let (first, other) = (format!("{round}-a"), format!("{round}-b"));
        let folder = rig.path(round);
        fs::create_dir(&folder).unwrap();
        for (name, words) in [(&first, &["trap", "TERM", "then", "exit", "0"][..]), (&other, &["sleep"][..])]
        {
            let ports = json!({"ports": [{"containerPort": 80, "hostPort": port}]});
            let spec = json!({"containers": [with(container("main", words), ports)], "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 0});
            put(&folder, name, &json!({"metadata": {"name": name}, "spec": spec}).to_string());
        }
        rig.kill("agent");
        if round == "ends-told" {
            rig.agent_with(&["--pod-manifest-path", &folder.display().to_string()]);
            let is_refused = async || {
                let pod = rig.pods().get_opt(&format!("{other}-{NODE}")).await.unwrap();
                (json!(pod?.status)["reason"] == "NodePorts").then_some(())
            };
            rig.until("the other one is refused", is_refused).await;
        } else {
            nowhere(rig, &folder);
        }
        let id = rig.until("the first one runs", async || running_ids(rig, &first).await.pop()).await;
        assert_eq!(running(rig, &other).await, 0);
        // Nobody starts it again: it comes to its end, and its file is there.
        cri.stop_container(StopContainerRequest { container_id: id, timeout: 5 }).await.unwrap();
        let runs = async || (running(rig, &other).await == 1).then_some(());
        rig.until("the other one runs", runs).await;
        assert_eq!(running(rig, &first).await, 0);
        rig.kill("agent");
        rig.agent();
        rig.until("both are gone", async || (running(rig, round).await == 0).then_some(())).await;
    }
}

async fn noted(rig: &Rig) {
    let folder = rig.path("noted");
    fs::create_dir(&folder).unwrap();
    let spec = json!({"containers": [container("main", &["trap", "TERM", "then", "exit", "0"])],
        "terminationGracePeriodSeconds": 1});
    let text = json!({"metadata": {"name": "noted"}, "spec": spec}).to_string();
    put(&folder, "noted", &text);
    let ids = async || {
        let cri = Client::connect(&rig.path("run/cri.sock")).await.unwrap();
        let all = cri.list_containers(ListContainersRequest::default()).await.unwrap().containers;
        let runs = all.into_iter().filter(|one| one.state() == ContainerState::ContainerRunning);
        runs.filter(|one| one.labels["io.kubernetes.pod.name"].starts_with("noted-"))
            .map(|one| (one.id, one.labels["io.kubernetes.pod.uid"].clone()))
            .next()
    };
    rig.kill("agent");
    nowhere(rig, &folder);
    let (first, uid) = rig.until("it runs", ids).await;
    rig.kill("agent");
    // Where its record would be written there is something else.
    let place = rig.path("data/agent/pods").join(&uid);
    let obstacle = place.join("static.new");
    fs::remove_file(place.join("static.json")).unwrap();
    fs::create_dir(&obstacle).unwrap();
    nowhere(rig, &folder);
    let told = |count: usize| {
        move || async move {
            let words = format!("cannot write {}", rig.path("data/agent/pods").display());
            (rig.words("agent").matches(&words).count() == count).then_some(())
        }
    };
    rig.until("it is told", told(1)).await;
    let cri = Client::connect(&rig.path("run/cri.sock")).await.unwrap();
    cri.stop_container(StopContainerRequest { container_id: first.clone(), timeout: 5 }).await.unwrap();
    let again = async || ids().await.filter(|(id, _)| *id != first);
    rig.until("it is started again", again).await;
    // One of which nothing runs does not begin.
    fs::remove_file(folder.join("noted")).unwrap();
    rig.until("it is gone", async || (!place.exists()).then_some(())).await;
    fs::create_dir_all(&obstacle).unwrap();
    put(&folder, "noted", &text);
    rig.until("it is told again", told(2)).await;
    assert_eq!(ids().await, None);
    fs::remove_dir(&obstacle).unwrap();
    rig.until("it runs once it is written down", ids).await;
    assert!(place.join("static.json").exists());
    rig.kill("agent");
    rig.agent();
}
