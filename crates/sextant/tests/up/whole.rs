//! Ordinary objects run, run on whatever is killed, and leave nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod, Service};
use kernel::nft::Family;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use oci_image::archive::{Content, Part, build};
use oci_image::contract::{Compression, ContainerConfig};
use oci_image::store::Store;
use rustix::process::Signal;
use serde_json::json;

use super::{Machine, PATIENCE, PROGRAMS, gone, kill};

pub(crate) const IMAGE: &str = "docker.io/library/web:1";

#[tokio::test]
async fn a_deployment_is_served_and_outlives_each_program() {
    let machine = Machine::new();
    make_image(&machine);
    machine.up(&["--node-name", "here"]);
    let client = client(&machine).await;
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let made = deployments.create(&PostParams::default(), &deployment()).await;
    made.unwrap();
    let service = services.create(&PostParams::default(), &service()).await.unwrap();
    let address = format!("{}:80", service.spec.unwrap().cluster_ip.unwrap());
    available(&machine, &client, 2).await;
    let hello = get(&machine, &address).await;
    assert!(hello.contains("hello ") && hello.contains("this is web-"), "{hello}");

    // Pods are told where the API is, and it is there.
    let api = TcpStream::connect_timeout(&"10.96.0.1:443".parse().unwrap(), Duration::from_secs(30));
    assert!(api.is_ok(), "{api:?}");

    let containers = running(&client).await;
    assert_eq!(containers.len(), 2, "{containers:?}");
    for name in PROGRAMS.into_iter().chain(["up"]) {
        let before = machine.wait(|_| true);
        kill(before[name], Signal::KILL);
        if name == "up" {
            gone(before[name]);
            machine.up(&["--node-name", "here"]);
        }
        machine.wait(|pids| pids[name] != before[name]);
        get(&machine, &address).await;
    }
    // What was killed has found everything: one more pod, and the others as they were.
    let scaled = Patch::Merge(json!({"spec": {"replicas": 3}}));
    deployments.patch_scale("web", &PatchParams::default(), &scaled).await.unwrap();
    available(&machine, &client, 3).await;
    let after = running(&client).await;
    assert!(after.len() == 3 && after.is_superset(&containers), "{containers:?} {after:?}");

    let down = machine.ask(&["down"]);
    assert!(down.status.success(), "{down:?}");
    assert_eq!(left(&machine), [""; 0]);

    machine.up(&["--node-name", "here"]);
    available(&machine, &client, 3).await;
    get(&machine, &address).await;
    assert!(running(&client).await.is_disjoint(&after));
}

fn deployment() -> Deployment {
    let container = json!({
        "name": "web", "image": IMAGE, "imagePullPolicy": "Never", "command": ["/bin/sextant-demo-app", "serve"],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    });
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}});
    let spec = json!({"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template});
    serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap()
}

fn service() -> Service {
    let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]});
    serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap()
}

pub(crate) async fn client(machine: &Machine) -> Client {
    let kubeconfig = Kubeconfig::read_from(machine.data().join("kubeconfig")).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Waits until so many replicas are available, and no more are there.
async fn available(machine: &Machine, client: &Client, count: i32) {
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let begun = Instant::now();
    loop {
        // A killed server is asked again.
        if let Ok(deployment) = deployments.get("web").await
            && let Some(status) = deployment.status
            && status.available_replicas == Some(count)
            && status.replicas == Some(count)
            && status.observed_generation == deployment.metadata.generation
            // After a restart of everything it is said before it is looked at.
            && running(client).await.len() == usize::try_from(count).unwrap()
        {
            return;
        }
        if begun.elapsed() > PATIENCE {
            panic!("not {count} replicas\n{}\n{}", told(client).await, machine.all_words());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The ids of containers that run in pods that are ready. Of pods that `down` has ended they are others, and count as started again.
async fn running(client: &Client) -> BTreeSet<String> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let Ok(pods) = pods.list(&ListParams::default()).await else { return BTreeSet::new() };
    let pods = pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let statuses = pods.filter_map(|pod| pod.status?.container_statuses).flatten();
    let ready = statuses.filter(|one| one.ready);
    ready.filter_map(|one| one.container_id).collect()
}

pub(super) async fn told(client: &Client) -> String {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let events: Api<Event> = Api::default_namespaced(client.clone());
    let pods = pods.list(&ListParams::default()).await.map(|list| json!(list.items).to_string());
    let events = events.list(&ListParams::default()).await;
    let events = events.map(|list| list.items.into_iter().filter_map(|one| one.message).collect::<Vec<_>>());
    format!("{pods:?}\n{events:?}")
}

/// What is answered at an address, once something is.
pub(super) async fn get(machine: &Machine, address: &str) -> String {
    let ask = || -> std::io::Result<String> {
        let mut server = TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(5))?;
        server.set_read_timeout(Some(Duration::from_secs(5)))?;
        server.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        server.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let begun = Instant::now();
    loop {
        match ask() {
            Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => return answer,
            other => assert!(begun.elapsed() < PATIENCE, "{other:?}\n{}", machine.all_words()),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What pods and programs have left in this network, on this machine and in their folders.
pub(crate) fn left(machine: &Machine) -> Vec<String> {
    let folder = machine.folder.path().display().to_string();
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let mut left: Vec<String> =
        mounts.lines().filter(|line| line.contains(&folder)).map(str::to_owned).collect();
    let links = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let links = links.lines().skip(2).filter_map(|line| line.split(':').next());
    left.extend(links.map(str::trim).filter(|name| *name != "lo").map(str::to_owned));
    let routes = fs::read_to_string("/proc/thread-self/net/fib_trie").unwrap();
    left.extend(routes.lines().filter(|line| line.contains("10.96.")).map(str::to_owned));
    for name in ["agent/pods", "cri/pods", "cri/containers"] {
        let entries = fs::read_dir(machine.data().join(name)).into_iter().flatten().flatten();
        left.extend(entries.map(|entry| entry.path().display().to_string()));
    }
    let name = testkit::instance_name(&fs::canonicalize(machine.folder.path().join("run")).unwrap());
    for root in ["memory", "cpuacct", "."] {
        let group = format!("/sys/fs/cgroup/{root}/{name}-agent");
        left.extend(fs::exists(&group).unwrap().then_some(group));
    }
    let mut socket = kernel::netlink::Socket::open(kernel::netlink::Protocol::Netfilter).unwrap();
    for family in [Family::Inet, Family::Ip, Family::Ip6] {
        left.extend(kernel::nft::tables(&mut socket, family).unwrap());
    }
    left
}

/// An image of the demo's program: the one that is tested.
pub(crate) fn make_image(machine: &Machine) {
    let store = Store::open(machine.data().join("images")).unwrap();
    let program = fs::canonicalize(env!("CARGO_BIN_EXE_sextant")).unwrap();
    let part = |path: &str, content, mode| Part { path: path.to_owned(), content, mode };
    let parts = [part("bin/sextant-demo-app", Content::File(program), 0o755)];
    build(&store, IMAGE, &parts, ContainerConfig::default(), Compression::None).unwrap();
}
