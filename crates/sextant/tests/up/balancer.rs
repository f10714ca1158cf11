//! Services of type LoadBalancer, reached from another host: a network namespace at the other end of a link.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use testkit::netns::{Netns, addresses, join};

use super::whole::{IMAGE, client, left, make_image, told};
use super::{Machine, PATIENCE};

/// The machine's address on the link, and the other host's.
const ENDS: [&str; 2] = ["192.0.2.1/24", "192.0.2.2/24"];
/// What the pool has.
const OWN: &str = "192.0.2.77";

/// Another host, at the other end of the machine's link `e0`.
struct Host(Netns);

impl Host {
    fn new() -> Self {
        let [here, there] = ENDS;
        let host = Netns::new();
        join("e0", &host, ("e0", None), &[there]);
        addresses("e0", &[here]);
        Self(host)
    }

    /// What it is told at port 80 of an address, if anything.
    fn ask(&self, address: &str) -> Option<String> {
        let ask = || -> std::io::Result<String> {
            let wait = Duration::from_secs(5);
            let mut stream = TcpStream::connect_timeout(&format!("{address}:80").parse().unwrap(), wait)?;
            stream.set_read_timeout(Some(wait))?;
            stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        self.0.run(ask).ok().filter(|answer| answer.starts_with("HTTP/1.1 200 "))
    }

    /// Waits until it reaches the pod there.
    async fn reaches(&self, machine: &Machine, client: &Client, address: &str) {
        let begun = Instant::now();
        loop {
            if self.ask(address).is_some_and(|answer| answer.contains("this is web")) {
                return;
            }
            if begun.elapsed() > PATIENCE {
                panic!("{address} is not reached\n{}\n{}", told(client).await, machine.all_words());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Waits until the service has this address, and no other.
async fn has(machine: &Machine, services: &Api<Service>, address: &str) {
    let begun = Instant::now();
    loop {
        let service = services.get("web").await.map(|service| serde_json::to_value(service).unwrap());
        let ingress =
            service.as_ref().map_or(&Value::Null, |service| &service["status"]["loadBalancer"]["ingress"]);
        if ingress.as_array().is_some_and(|all| all.len() == 1 && all[0]["ip"] == address) {
            return;
        }
        if begun.elapsed() > PATIENCE {
            panic!("it has not {address}: {service:?}\n{}", machine.all_words());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn another_host_reaches_a_load_balancer_by_the_nodes_address_and_by_one_of_a_pool() {
    let machine = Machine::new();
    let host = Host::new();
    make_image(&machine);
    let here = ["--node-name", "here", "--node-ip", "192.0.2.1"];
    machine.up(&here);
    let client = client(&machine).await;
    let (pods, services): (Api<Pod>, Api<Service>) =
        (Api::default_namespaced(client.clone()), Api::default_namespaced(client.clone()));
    let container = json!({"name": "web", "image": IMAGE, "imagePullPolicy": "Never", "command": ["/bin/sextant-demo-app", "serve"]});
    let spec = json!({"containers": [container], "terminationGracePeriodSeconds": 1});
    let pod = json!({"metadata": {"name": "web", "labels": {"app": "web"}}, "spec": spec});
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let spec = json!({"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]});
    let service = json!({"metadata": {"name": "web"}, "spec": spec});
    services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
    // Without pools it is the node's address.
    has(&machine, &services, "192.0.2.1").await;
    host.reaches(&machine, &client, "192.0.2.1").await;
    assert_eq!(host.ask(OWN), None);
    // Not everybody may come.
    let ranges = |ranges: Value| Patch::Merge(json!({"spec": {"loadBalancerSourceRanges": ranges}}));
    services.patch("web", &PatchParams::default(), &ranges(json!(["198.51.100.0/24"]))).await.unwrap();
    let begun = Instant::now();
    while host.ask("192.0.2.1").is_some() {
        assert!(begun.elapsed() < PATIENCE, "{}", machine.all_words());
    }
    services.patch("web", &PatchParams::default(), &ranges(json!(null))).await.unwrap();
    host.reaches(&machine, &client, "192.0.2.1").await;
    let down = machine.ask(&["down"]);
    assert!(down.status.success(), "{down:?}");

    // What is wrong with the file is told before anything runs.
    let wrong = machine.file("wrong.yaml", "pools: [{name: lan, addresses: [192.0.2.9-192.0.2.1]}]");
    let words = machine.refuses(&["up", "-d", "--cloud-config", &wrong]);
    assert!(words.contains("goes backwards") && words.contains("wrong.yaml"), "{words}");
    assert!(machine.status().0.is_empty());
    // With a pool it has an address of its own, for which the machine answers; the node's leads nowhere any more.
    let file = machine.file("cloud.yaml", &format!("pools: [{{name: lan, addresses: [{OWN}]}}]"));
    machine.up(&[&here[..], &["--cloud-config", &file]].concat());
    has(&machine, &services, OWN).await;
    host.reaches(&machine, &client, OWN).await;
    assert_eq!(host.ask("192.0.2.1"), None);
    let status = machine.says(&["cloud", "status"]);
    let line =
        status.lines().find(|line| line.starts_with("default/web")).unwrap_or_else(|| panic!("{status}"));
    assert!(line.contains(OWN) && line.contains("ready"), "{line}");
    services.delete("web", &Default::default()).await.unwrap();
    let begun = Instant::now();
    while host.ask(OWN).is_some() {
        assert!(begun.elapsed() < PATIENCE, "{}", machine.all_words());
    }
    let down = machine.ask(&["down"]);
    assert!(down.status.success(), "{down:?}");
    assert_eq!(left(&machine), ["e0"], "the test's own");
}
