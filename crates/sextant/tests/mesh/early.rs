//! Pods that the mesh is told of before their first container starts: what that does first is a connection, and it is captured.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cni::caller::Caller;
use cni::contract::{Attachment, Code, NetworkList};
use cri::caller::Client;
use cri::contract::v1::{
    PodSandboxConfig, PodSandboxMetadata, RemovePodSandboxRequest, RunPodSandboxRequest,
    StopPodSandboxRequest,
};
use kernel::namespace::in_netns;
use ledger::Transient;
use serde_json::{Value, json};
use testkit::instance_name;
use testkit::netns::addresses;
use testkit::whoami::{ask, connect, serve};

use crate::objects::{self, WEB};
use crate::people::said;
use crate::rig::{PATIENCE, Rig};
use crate::{Pods, cluster, until};

/// A network whose plugins are `loopback` and ours.
fn chain(rig: &Rig, required: bool) -> NetworkList {
    let socket = rig.path("run").join(cni::mesh::SOCKET);
    let plugins =
        json!([{"type": "loopback"}, {"type": "sextant-mesh", "socket": socket, "required": required}]);
    let list = json!({"cniVersion": "1.1.0", "name": "pods", "plugins": plugins});
    NetworkList::from_value(list).unwrap()
}

/// What a runtime attaches.
fn attachment(sandbox: &str, pod: &str, netns: &Path) -> Attachment {
    let mut attachment = Attachment::new(sandbox, "lo", Some(netns.to_owned())).unwrap();
    let args = [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", "default"),
        ("K8S_POD_NAME", pod),
        ("K8S_POD_INFRA_CONTAINER_ID", sandbox),
        ("K8S_POD_UID", "7e1f"),
    ];
    attachment.args = args.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    attachment
}

fn caller(rig: &Rig) -> Caller {
    Caller::new(cni::plugin::builtins(), rig.path("cni-cache"))
}

#[tokio::test]
async fn the_first_connection_of_a_pod_in_the_chain_is_captured_though_the_api_tells_of_it_later() {
    let (mut rig, runtime) = cluster([1, 0]).await;
    let pods = Pods::new(4);
    let paths: Vec<PathBuf> = (0..4).map(|pod| pods.pin(pod, &rig)).collect();
    let (caller, list) = (caller(&rig), chain(&rig, true));
    caller.status(&list).unwrap();
    let member = attachment("s0", "member", &paths[0]);
    let adding = {
        let (caller, list, member) = (caller.clone(), list.clone(), member.clone());
        tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            // As a kubelet does: it tries again.
            while let Err(error) = caller.add(&list, &member, &mut Transient::new()) {
                assert_eq!(error.code, Code::TryAgain, "{error}");
                assert!(began.elapsed() < PATIENCE, "{error}");
            }
        })
    };
    // Most probably it is told before the API has the pod; nothing here depends on that.
    tokio::time::sleep(Duration::from_millis(300)).await;
    objects::pod(&rig, "member", true).await;
    adding.await.unwrap();
    // What its first container does.
    assert_eq!(pods.asks(0), "v1");
    let status = said(&mut rig, "status", &["mesh", "status", "-o", "json"]).await;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["connections"], &status["requests"]), (&1.into(), &1.into()), "{status:#}");
    assert_eq!(status["pods"][0]["pod"], "default/member");
    caller.check(&list, &member).unwrap();

    // Who is no member is left alone, and starts.
    objects::pod(&rig, "outside", false).await;
    let outside = attachment("s1", "outside", &paths[1]);
    let begun = Instant::now();
    while let Err(error) = caller.add(&list, &outside, &mut Transient::new()) {
        assert_eq!(error.code, Code::TryAgain, "{error}");
        assert!(begun.elapsed() < PATIENCE, "{error}");
    }
    assert_eq!((pods.asks(1), pods.tables(1)), ("direct".into(), vec![]));

    // The runtime does not list the sandbox yet: it stays captured when it is looked for.
    objects::pod(&rig, "other", true).await;
    runtime.add("s2", "other", &paths[2]);
    rig.words_have("mesh", "serves pod default/other").await;
    assert_eq!(pods.asks(0), "v1");
    assert!(!rig.words("mesh").contains("default/member no more"), "{}", rig.words("mesh"));
    // It does not come to be.
    caller.del(&list, &member, &mut Transient::new()).unwrap();
    kernel::namespace::unpin(&paths[0]).unwrap();
    rig.words_have("mesh", "serves pod default/member no more").await;

    // Without the mesh a pod starts, unless the mesh is required.
    rig.kill("mesh");
    let again = attachment("s3", "member", &paths[3]);
    let refused = caller.add(&list, &again, &mut Transient::new()).unwrap_err();
    assert_eq!(refused.code, Code::TryAgain);
    assert!(refused.to_string().contains(cni::mesh::SOCKET), "{refused}");
    assert_eq!(caller.status(&list).unwrap_err().code, Code::NotAvailable);
    let list = chain(&rig, false);
    caller.status(&list).unwrap();
    caller.add(&list, &again, &mut Transient::new()).unwrap();
    assert_eq!(pods.asks(3), "direct");
    // The next one finds it, as the runtime lists it.
    runtime.add("s3", "member", &paths[3]);
    rig.again("mesh");
    until(&rig, "the pod is served", || pods.asks(3) == "v1").await;
    assert_eq!(rig.end("mesh"), Some(0), "{}", rig.words("mesh"));
    assert!(!rig.path("run").join(cni::mesh::SOCKET).exists());
}

/// What a node leaves on the machine, processes included, if the test ends early.
struct Cgroups(String);

impl Drop for Cgroups {
    fn drop(&mut self) {
        let _gone = kernel::cgroup::destroy(Path::new(&self.0));
    }
}

/// A pod as a kubelet asks for it.
fn sandbox(name: &str) -> RunPodSandboxRequest {
    let metadata =
        PodSandboxMetadata { name: name.into(), namespace: "default".into(), uid: "7e1f".into(), attempt: 0 };
    let config =
        PodSandboxConfig { metadata: Some(metadata), hostname: name.into(), ..PodSandboxConfig::default() };
    RunPodSandboxRequest { config: Some(config), ..RunPodSandboxRequest::default() }
}

/// How often a node has gone on without an answer of the mesh.
fn unanswered(rig: &Rig) -> usize {
    rig.words("node").matches("cannot ask the mesh at").count()
}

/// A sandbox that is no more.
async fn end(client: &Client, pod_sandbox_id: String) {
    let request = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
    client.stop_pod_sandbox(request).await.unwrap();
    client.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await.unwrap();
}

#[tokio::test]
async fn a_node_that_tells_the_mesh_has_its_pods_captured_when_it_answers() {
    let mut rig = Rig::bare().await;
    std::fs::create_dir_all(rig.path("run")).unwrap();
    let _cgroups = Cgroups(instance_name(&std::fs::canonicalize(rig.path("run")).unwrap()));
    objects::define(&rig).await;
    objects::services(&rig, [1, 0]).await;
    objects::pod(&rig, "member", true).await;
    // Its backends, and what answers for the Service itself, are on the node.
    addresses("lo", &["10.55.0.3/32", "10.55.0.4/32", "10.96.1.1/32"]);
    for (who, at) in [("v1", "10.55.0.3:8080"), ("v2", "10.55.0.4:8080"), ("direct", "10.96.1.1:80")] {
        serve(who, std::net::TcpListener::bind(at).unwrap());
    }
    rig.spawn("node", &["node", "--builtin-network=always", "--mesh-pods"]);
    rig.words_have("node", "serves CRI on").await;
    let cri = rig.path("run/cri.sock");
    rig.spawn("mesh", &["mesh", "--node", "node-1", "--cri", cri.to_str().unwrap()]);
    rig.words_have("mesh", "Services and routes are known").await;

    let client = Client::connect(&cri).await.unwrap().with_deadline(PATIENCE);
    let began = Instant::now();
    let pod_sandbox_id = loop {
        let before = unanswered(&rig);
        let pod_sandbox_id = client.run_pod_sandbox(sandbox("member")).await.unwrap().pod_sandbox_id;
        if unanswered(&rig) == before {
            break pod_sandbox_id;
        }
        // A node waits for the mesh as long as a pod may wait, which is too short where a machine does much else.
        assert!(began.elapsed() < PATIENCE, "{}{}", rig.words("mesh"), rig.words("node"));
        end(&client, pod_sandbox_id).await;
    };
    let netns = File::open(rig.path("run/netns").join(&pod_sandbox_id)).unwrap();
    // What a container's program does first.
    let who = in_netns(&netns, || Ok(ask(&mut connect((WEB, 80))).who)).unwrap();
    assert_eq!(who, "v1", "{}{}", rig.words("mesh"), rig.words("node"));
    let words = rig.words("mesh");
    assert!(words.contains("serves pod default/member before its first container"), "{words}");
    let status = said(&mut rig, "status", &["mesh", "status", "-o", "json"]).await;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["connections"], &status["requests"]), (&1.into(), &1.into()), "{status:#}");

    // It goes as any pod does.
    client.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() }).await.unwrap();
    rig.words_have("mesh", "serves pod default/member no more").await;
    client.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await.unwrap();
    // A pod of whom the mesh is not told by the API starts, and one without the mesh.
    let unknown = client.run_pod_sandbox(sandbox("unknown")).await.unwrap().pod_sandbox_id;
    rig.words_have("node", "default/unknown: if it is in the mesh").await;
    assert_eq!(rig.end("mesh"), Some(0), "{}", rig.words("mesh"));
    let before = unanswered(&rig);
    let alone = client.run_pod_sandbox(sandbox("alone")).await.unwrap().pod_sandbox_id;
    until(&rig, "the node says that nobody answers", || unanswered(&rig) > before).await;
    for pod_sandbox_id in [unknown, alone] {
        end(&client, pod_sandbox_id).await;
    }
    drop(client);
    assert_eq!(rig.end("node"), Some(0), "{}", rig.words("node"));
}
