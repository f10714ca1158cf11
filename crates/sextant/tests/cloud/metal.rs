//! `--cloud-provider metal`: machines without a cloud.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpi::contract::{Node, Service};
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::admit::admit;
use crate::kills::chance;
use crate::rig::Rig;
use crate::site::{
    NEW, change, event, expose, has_taint, node_is, nodes, nothing_was_forbidden, say_ready, service_is,
    withdraw,
};

/// An API server, and the controllers with provider metal and this file, with more options.
pub(crate) async fn start(file: Option<&str>, more: &[&str]) -> Rig {
    let mut rig = Rig::bare().await;
    admit(&rig).await;
    let (kubeconfig, path) = (rig.path("kubeconfig"), rig.path("metal.yaml"));
    let mut words = vec!["--kubeconfig", kubeconfig.to_str().unwrap(), "--cloud-provider", "metal"];
    words.extend(["--node-monitor-period", "200ms", "--node-status-update-frequency", "1s"]);
    if let Some(text) = file {
        write(&rig, text);
        words.extend(["--cloud-config", path.to_str().unwrap()]);
    }
    rig.control(&[&words, more].concat());
    rig.words_have("control", "has cloud provider metal").await;
    rig
}

/// The file, at once as it is to be.
pub(crate) fn write(rig: &Rig, text: &str) {
    std::fs::write(rig.path("new.yaml"), text).unwrap();
    std::fs::rename(rig.path("new.yaml"), rig.path("metal.yaml")).unwrap();
}

/// A node as its kubelet makes it, with this address.
pub(crate) async fn join(rig: &Rig, name: &str, address: &str) {
    let taint = json!({"key": NEW, "value": "true", "effect": "NoSchedule"});
    rig.make::<Node>(json!({"metadata": {"name": name}, "spec": {"taints": [taint]}})).await;
    say_address(rig, name, address).await;
    say_ready(rig, name, "True").await;
}

async fn say_address(rig: &Rig, name: &str, address: &str) {
    let addresses =
        json!([{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]);
    let patch = Patch::Merge(json!({"status": {"addresses": addresses}}));
    nodes(rig).patch_status(name, &PatchParams::default(), &patch).await.unwrap();
}

/// The addresses of a service, as everybody sees them.
fn addresses(service: &Value) -> Vec<&str> {
    let all = service["status"]["loadBalancer"]["ingress"].as_array();
    all.into_iter().flatten().filter_map(|one| one["ip"].as_str()).collect()
}

async fn has(rig: &Rig, name: &str, wanted: &[&str]) {
    service_is(rig, name, &format!("has {wanted:?}"), |service| addresses(service) == wanted).await;
}

#[tokio::test]
async fn services_get_addresses_of_pools_until_there_are_none() {
    let two = "pools: [{name: lab, addresses: [192.0.2.7-192.0.2.8]}]";
    let rig = start(Some(two), &[]).await;
    join(&rig, "node-1", "10.0.0.1").await;
    let node = node_is(&rig, "node-1", "initialized", |node| !has_taint(node, NEW)).await;
    assert_eq!(node["spec"]["providerID"], "metal://node-1");
    assert_eq!(node["status"]["addresses"][0]["address"], "10.0.0.1", "as its kubelet has said");
    expose(&rig, "a").await;
    has(&rig, "a", &["192.0.2.7"]).await;
    service_is(&rig, "a", "marked", |a| a["status"]["loadBalancer"]["ingress"][0]["ipMode"] == "VIP").await;
    expose(&rig, "b").await;
    has(&rig, "b", &["192.0.2.8"]).await;
    event(&rig, "b", "EnsuredLoadBalancer", "Ensured load balancer").await;

    // The third waits, and is told for what.
    expose(&rig, "c").await;
    let words = "pool lab has 2 of them, and 2 are given out; add addresses to a pool, or delete a service";
    event(&rig, "c", "SyncLoadBalancerFailed", words).await;
    withdraw(&rig, "a").await;
    has(&rig, "c", &["192.0.2.7"]).await;

    // A file that takes away what is given out is not taken; another that adds some is.
    write(&rig, "pools: [{name: other, addresses: [198.51.100.0/24]}]");
    expose(&rig, "d").await;
    event(&rig, "d", "SyncLoadBalancerFailed", "pool lab has 2 of them").await;
    rig.words_have("control", "addresses that services have are of no pool there (default/b has 192.0.2.8")
        .await;
    write(&rig, "pools: [{name: lab, addresses: [192.0.2.7-192.0.2.9]}]");
    has(&rig, "d", &["192.0.2.9"]).await;

    // One that is not of type LoadBalancer any more gives it back; what a service asks for it gets.
    change(&rig, "b", json!({"spec": {"type": "ClusterIP"}})).await;
    has(&rig, "b", &[]).await;
    change(&rig, "d", json!({"metadata": {"annotations": {"metal.sextant.dev/addresses": "192.0.2.8"}}}))
        .await;
    has(&rig, "d", &["192.0.2.8"]).await;
    change(&rig, "b", json!({"spec": {"type": "LoadBalancer", "loadBalancerIP": "203.0.113.1"}})).await;
    event(
        &rig,
        "b",
        "SyncLoadBalancerFailed",
        "203.0.113.1: it is of no pool; ask for one of 192.0.2.7-192.0.2.9",
    )
    .await;
    change(&rig, "b", json!({"spec": {"loadBalancerIP": null}})).await;
    has(&rig, "b", &["192.0.2.9"]).await;
    nothing_was_forbidden(&rig);
}

#[tokio::test]
async fn without_pools_services_have_the_nodes_addresses() {
    let rig = start(None, &[]).await;
    join(&rig, "node-1", "10.0.0.1").await;
    expose(&rig, "a").await;
    has(&rig, "a", &["10.0.0.1"]).await;
    join(&rig, "node-2", "10.0.0.2").await;
    has(&rig, "a", &["10.0.0.1", "10.0.0.2"]).await;
    say_address(&rig, "node-1", "10.0.0.7").await;
    has(&rig, "a", &["10.0.0.2", "10.0.0.7"]).await;
    expose(&rig, "b").await;
    event(&rig, "b", "SyncLoadBalancerFailed", "port 80/TCP of 10.0.0.2 is that of service default/a").await;
    withdraw(&rig, "a").await;
    has(&rig, "b", &["10.0.0.2", "10.0.0.7"]).await;
    nothing_was_forbidden(&rig);
}

/// As controllers do that are started with them.
#[tokio::test]
async fn pools_that_come_give_addresses_to_services_that_have_the_nodes() {
    let rig = start(Some("{}"), &[]).await;
    join(&rig, "node-1", "10.0.0.1").await;
    join(&rig, "control", "10.0.0.9").await;
    let excluded =
        json!({"metadata": {"labels": {"node.kubernetes.io/exclude-from-external-load-balancers": ""}}});
    nodes(&rig).patch("control", &PatchParams::default(), &Patch::Merge(excluded)).await.unwrap();
    expose(&rig, "a").await;
    has(&rig, "a", &["10.0.0.1"]).await;
    expose(&rig, "b").await;
    event(&rig, "b", "SyncLoadBalancerFailed", "port 80/TCP of 10.0.0.1 is that of service default/a").await;
    // Nothing but the file changes. The address of a node that load balancers are not led to is given to nobody.
    write(&rig, "pools: [{name: lab, addresses: [10.0.0.9-10.0.0.11]}]");
    service_is(&rig, "a", "of the pool", |a| {
        addresses(a).iter().all(|one| ["10.0.0.10", "10.0.0.11"].contains(one))
    })
    .await;
    service_is(&rig, "b", "of the pool", |b| addresses(b).len() == 1).await;
    let given = given_out(&rig).await;
    let given: BTreeSet<&str> = given.values().map(String::as_str).collect();
    assert_eq!(given, ["10.0.0.10", "10.0.0.11"].into());
    // What waits for more is given them as they come.
    expose(&rig, "c").await;
    event(&rig, "c", "SyncLoadBalancerFailed", "pool lab has 3 of them, and 2 are given out").await;
    write(&rig, "pools: [{name: lab, addresses: [10.0.0.9-10.0.0.12]}]");
    has(&rig, "c", &["10.0.0.12"]).await;
    nothing_was_forbidden(&rig);
}

#[tokio::test]
async fn a_service_that_no_pool_is_for_follows_the_nodes() {
    let mut rig = start(Some("{}"), &[]).await;
    join(&rig, "node-1", "192.0.2.1").await;
    expose(&rig, "a").await;
    has(&rig, "a", &["192.0.2.1"]).await;
    write(&rig, "pools: [{name: lab, addresses: [10.0.0.0/24], namespaces: [shop]}]");
    // Once the file is in use, who has no address gets none.
    expose(&rig, "b").await;
    event(&rig, "b", "SyncLoadBalancerFailed", "no pool is for it").await;
    join(&rig, "node-2", "192.0.2.2").await;
    has(&rig, "a", &["192.0.2.1", "192.0.2.2"]).await;
    rig.kill("control");
    say_address(&rig, "node-1", "192.0.2.7").await;
    rig.again("control");
    has(&rig, "a", &["192.0.2.2", "192.0.2.7"]).await;
    say_address(&rig, "node-2", "192.0.2.8").await;
    has(&rig, "a", &["192.0.2.7", "192.0.2.8"]).await;
    write(&rig, "pools: [{name: lab, addresses: [10.0.0.0/24], namespaces: [default]}]");
    service_is(&rig, "a", "of the pool", |a| addresses(a).iter().all(|one| one.starts_with("10.0.0."))).await;
    service_is(&rig, "b", "of the pool", |b| addresses(b).len() == 1).await;
    nothing_was_forbidden(&rig);
}

#[tokio::test]
async fn nodes_are_the_machines_of_the_inventory() {
    let file = "instances: [{name: node-1, id: rack/1, type: r640, zone: z1, region: r1, labels: {example.com/disk: nvme},
        addresses: [{type: InternalIP, address: 10.0.0.9}]}, {name: node-2, shutdown: true}]";
    let mut rig = start(Some(file), &[]).await;
    for (name, address) in [("node-1", "10.0.0.1"), ("node-2", "10.0.0.2"), ("node-3", "10.0.0.3")] {
        join(&rig, name, address).await;
    }
    let node = node_is(&rig, "node-1", "as the file says", |node| {
        !has_taint(node, NEW) && node["status"]["addresses"][0]["address"] == "10.0.0.9"
    })
    .await;
    assert_eq!(node["spec"]["providerID"], "metal://rack/1");
    for (key, value) in [
        ("node.kubernetes.io/instance-type", "r640"),
        ("topology.kubernetes.io/zone", "z1"),
        ("topology.kubernetes.io/region", "r1"),
        ("example.com/disk", "nvme"),
    ] {
        assert_eq!(node["metadata"]["labels"][key], value, "{key}");
    }
    // What is switched off is not scheduled to; what the file never had waits, and is not deleted.
    node_is(&rig, "node-2", "initialized", |node| !has_taint(node, NEW)).await;
    for name in ["node-1", "node-2", "node-3"] {
        say_ready(&rig, name, "Unknown").await;
    }
    node_is(&rig, "node-2", "stopped", |node| has_taint(node, "node.cloudprovider.kubernetes.io/shutdown"))
        .await;
    rig.words_have("control", "the inventory never had it; add it to instances").await;
    assert!(has_taint(&node_is(&rig, "node-3", "there", |_| true).await, NEW));
    event(&rig, "node-3", "SyncNodeFailed", "the inventory does not have node node-3; add it to instances")
        .await;
    event(&rig, "node-3", "InstanceCheckFailed", "the inventory never had it").await;
    // It is ready again while nobody looks: who is started next knows what was told, and tells that it is over.
    rig.kill("control");
    say_ready(&rig, "node-3", "True").await;
    rig.again("control");
    event(&rig, "node-3", "InstanceChecked", "Node is ready").await;
    say_ready(&rig, "node-3", "Unknown").await;
    // A broken file deletes nobody, and one without a machine its node.
    write(&rig, "instances: []");
    rig.words_have("control", "is an inventory of no machine").await;
    write(&rig, "instances: [{name: node-1, id: rack/1}, {name: node-3}]");
    rig.until("node-2 is deleted", async |rig| {
        nodes(rig).get_opt("node-2").await.unwrap().is_none().then_some(())
    })
    .await;
    node_is(&rig, "node-1", "there", |_| true).await;
    say_ready(&rig, "node-3", "True").await;
    node_is(&rig, "node-3", "initialized", |node| node["spec"]["providerID"] == "metal://node-3").await;
    nothing_was_forbidden(&rig);
}

/// What a node says of the way to its pods, or others say of it.
fn reason(node: &Value) -> Option<&str> {
    let conditions = node["status"]["conditions"].as_array()?;
    conditions.iter().find(|one| one["type"] == "NetworkUnavailable")?["reason"].as_str()
}

#[tokio::test]
async fn a_node_has_routes_when_it_says_so() {
    let more =
        ["--cluster-cidr", "10.64.0.0/16", "--allocate-node-cidrs", "--route-reconciliation-period", "200ms"];
    let mut rig = start(Some("nodeRoutes: true"), &more).await;
    for (name, address) in [("node-1", "10.0.0.1"), ("node-2", "10.0.0.2")] {
        join(&rig, name, address).await;
        node_is(&rig, name, "without routes", |node| reason(node) == Some("NoRouteCreated")).await;
        event(
            &rig,
            name,
            "FailedToCreateRoute",
            "does not say that it has routes to the pods of other nodes",
        )
        .await;
    }
    // As the process on the node says it.
    let made =
        json!({"type": "NetworkUnavailable", "status": "False", "reason": "RouteCreated", "message": "made"});
    let made = Patch::Strategic(json!({"status": {"conditions": [made]}}));
    nodes(&rig).patch_status("node-1", &PatchParams::default(), &made).await.unwrap();
    rig.kill("control");
    rig.again("control");
    // Who is started next says so, too.
    let gone = Patch::Strategic(
        json!({"status": {"conditions": [{"type": "NetworkUnavailable", "$patch": "delete"}]}}),
    );
    nodes(&rig).patch_status("node-2", &PatchParams::default(), &gone).await.unwrap();
    node_is(&rig, "node-2", "without routes", |node| reason(node) == Some("NoRouteCreated")).await;
    // Routes are wanted no longer: nobody waits for them, and what a node has said it has said.
    write(&rig, "{}");
    node_is(&rig, "node-2", "waiting for nothing", |node| reason(node).is_none()).await;
    node_is(&rig, "node-1", "as it says", |node| reason(node) == Some("RouteCreated")).await;
    write(&rig, "nodeRoutes: true");
    node_is(&rig, "node-2", "without routes", |node| reason(node) == Some("NoRouteCreated")).await;
    node_is(&rig, "node-1", "as it says", |node| reason(node) == Some("RouteCreated")).await;
    nothing_was_forbidden(&rig);
}

/// Who has which address, by what everybody sees; nobody has one twice.
async fn given_out(rig: &Rig) -> BTreeMap<String, String> {
    let all = rig.objects_of::<Service>("").list(&ListParams::default()).await.unwrap();
    let (mut given, mut seen) = (BTreeMap::new(), BTreeSet::new());
    for service in all {
        let value = serde_json::to_value(&service).unwrap();
        for address in addresses(&value) {
            assert!(seen.insert(address.to_owned()), "two have {address}: {value}");
            given.insert(service.name_any(), address.to_owned());
        }
    }
    given
}

#[tokio::test]
async fn whenever_the_controllers_are_killed_no_address_is_given_twice_or_lost() {
    const MANY: usize = 50;
    // As many addresses as services: one that is lost is missed.
    let file = format!("pools: [{{name: lab, addresses: [192.0.2.1-192.0.2.{MANY}]}}]");
    let mut rig = start(Some(&file), &["--concurrent-service-syncs", "4"]).await;
    join(&rig, "node-1", "10.0.0.1").await;
    let mut chance = chance();
    for number in 0..MANY {
        expose(&rig, &format!("web-{number}")).await;
        if chance().is_multiple_of(8) {
            tokio::time::sleep(Duration::from_millis(chance() % 150)).await;
            rig.kill("control");
            given_out(&rig).await;
            rig.again("control");
        }
    }
    rig.until("each has one", async |rig| (given_out(rig).await.len() == MANY).then_some(())).await;
    let before = given_out(&rig).await;
    // Some go, others come, and the controllers are killed meanwhile; who stays keeps what it has.
    for number in 0..MANY / 5 {
        withdraw(&rig, &format!("web-{number}")).await;
        expose(&rig, &format!("new-{number}")).await;
        if chance().is_multiple_of(3) {
            rig.kill("control");
            rig.again("control");
        }
    }
    rig.until("each has one again", async |rig| (given_out(rig).await.len() == MANY).then_some(())).await;
    let after = given_out(&rig).await;
    for number in MANY / 5..MANY {
        let name = format!("web-{number}");
        assert_eq!(after[&name], before[&name], "{name}");
    }
    nothing_was_forbidden(&rig);
}

#[tokio::test]
async fn a_file_that_is_wrong_is_told_before_anything_works() {
    let mut rig = Rig::bare().await;
    write(&rig, "pools: [{name: lab, addresses: [10.0.0.9-10.0.0.1]}]");
    let (kubeconfig, path) = (rig.path("data/api/kubeconfig"), rig.path("metal.yaml"));
    let (kubeconfig, path) = (kubeconfig.to_str().unwrap().to_owned(), path.to_str().unwrap().to_owned());
    let backwards = "pools[0].addresses[0]: \"10.0.0.9-10.0.0.1\" goes backwards; write 10.0.0.1-10.0.0.9";
    // That there is no cluster either is no reason not to say it.
    for (provider, kubeconfig, words) in [
        ("metal", "/nowhere", backwards),
        ("metal", kubeconfig.as_str(), backwards),
        ("unix:///nowhere.sock", kubeconfig.as_str(), "a provider behind a socket reads its own files"),
    ] {
        rig.control(&["--kubeconfig", kubeconfig, "--cloud-provider", provider, "--cloud-config", &path]);
        assert_eq!(rig.wait("control").await, Some(1), "{provider}");
        assert!(rig.words("control").contains(words), "{}", rig.words("control"));
    }
}
