//! `nodeRoutes: true`: each node has routes to the pods of the others.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use kernel::namespace::in_netns;
use kernel::netlink::{Batch, Protocol, Route, Socket, owned_routes};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::admit::admit_to;
use crate::rig::Rig;
use crate::stand::Stand;

/// What other nodes have to the pods of the first one, of the second, and of the third.
const TO: [[(&str, &str); 2]; 3] = [
    [("10.64.0.0/24", "192.0.2.1"), ("fd64::/64", "2001:db8::1")],
    [("10.64.1.0/24", "192.0.2.2"), ("fd64:0:0:1::/64", "2001:db8::2")],
    [("10.64.2.0/24", "192.0.2.3"), ("fd64:0:0:2::/64", "2001:db8::3")],
];

fn nodes(rig: &Rig) -> Api<Node> {
    Api::all(rig.client.clone())
}

impl Stand {
    /// Gives a node what its pods and itself are reached by.
    async fn describe(&self, at: usize) {
        let (name, [four, six]) = (format!("node-{at}"), TO[at]);
        let spec = json!({"spec": {"podCIDR": four.0, "podCIDRs": [four.0, six.0]}});
        let api = nodes(&self.rig);
        api.patch(&name, &PatchParams::default(), &Patch::Merge(spec)).await.unwrap();
        let address = |kind: &str, address: &str| json!({"type": kind, "address": address});
        let addresses =
            [address("InternalIP", four.1), address("InternalIP", six.1), address("Hostname", &name)];
        let status = Patch::Merge(json!({"status": {"addresses": addresses}}));
        api.patch_status(&name, &PatchParams::default(), &status).await.unwrap();
    }

    /// The routes of a node with this protocol.
    fn ways(&self, at: usize, protocol: u8) -> BTreeMap<String, String> {
        in_netns(&self.lan.hosts[at], || {
            let found = owned_routes(&mut Socket::open(Protocol::Route)?, |one| one.is_way_of(protocol))?;
            let way = |route: Route| Some((route.destination.to_string(), route.gateway?.to_string()));
            Ok(found.into_iter().filter_map(|one| way(one.route)).collect())
        })
        .unwrap()
    }

    /// Waits until a node has routes of ours to the pods of these, and none else.
    async fn until_ways(&self, at: usize, to: &[usize]) {
        let net = |text: &str| text.parse::<kernel::netlink::IpNet>().unwrap().to_string();
        let wanted: BTreeMap<String, String> =
            to.iter().flat_map(|at| TO[*at]).map(|(to, gateway)| (net(to), gateway.to_owned())).collect();
        let has = async |_: &Rig| (self.ways(at, routes::PROTOCOL) == wanted).then_some(());
        self.rig.until(&format!("node-{at} has routes to the pods of {to:?}"), has).await;
    }

    /// Waits until it says of itself whether it has them: status and reason of the condition.
    async fn until_said(&self, at: usize, said: Option<(&str, &str)>) {
        let name = format!("node-{at}");
        let says = async |rig: &Rig| {
            let node = serde_json::to_value(nodes(rig).get(&name).await.ok()?).ok()?;
            let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let found = conditions.iter().find(|one| one["type"] == "NetworkUnavailable");
            let found = found.and_then(|one| Some((one["status"].as_str()?, one["reason"].as_str()?)));
            (found == said).then_some(())
        };
        self.rig.until(&format!("{name} says {said:?}"), says).await;
    }

    fn reroute(&self, at: usize, make: impl FnOnce(&mut Batch) + Send) {
        in_netns(&self.lan.hosts[at], || {
            let mut batch = Batch::new();
            make(&mut batch);
            Socket::open(Protocol::Route)?.run(&batch)
        })
        .unwrap();
    }

    fn write(&self, text: &str) {
        std::fs::write(self.file(), text).unwrap();
    }
}

fn route((to, gateway): (&str, &str)) -> Route {
    Route { gateway: Some(gateway.parse().unwrap()), ..Route::to(to.parse().unwrap()) }
}

const MADE: Option<(&str, &str)> = Some(("False", "RouteCreated"));

#[tokio::test]
async fn nodes_have_routes_to_the_pods_of_others_whatever_becomes_of_them() {
    let mut stand = Stand::new(3, 0).await;
    stand.write("nodeRoutes: true");
    for at in [0, 1] {
        stand.describe(at).await;
        stand.services(at).await;
    }
    stand.until_ways(0, &[1]).await;
    stand.until_ways(1, &[0]).await;
    stand.until_said(0, MADE).await;
    stand.until_said(1, MADE).await;

    // A node comes to have pods; what somebody takes away is made again; what nobody wants goes.
    stand.describe(2).await;
    stand.until_ways(0, &[1, 2]).await;
    for way in TO[1] {
        stand.reroute(0, |batch| batch.delete_route(&route(way)));
        stand.until_ways(0, &[1, 2]).await;
    }
    // The condition, too.
    let taken = json!({"status": {"conditions": [{"type": "NetworkUnavailable", "status": "True",
        "reason": "NoRouteCreated", "message": "as the controllers say of who has said nothing"}]}});
    let api = nodes(&stand.rig);
    api.patch_status("node-0", &PatchParams::default(), &Patch::Strategic(taken)).await.unwrap();
    stand.until_said(0, MADE).await;

    // The process is killed, and its routes stay; the next one follows what has changed meanwhile.
    stand.rig.kill("services-0");
    stand.until_ways(1, &[0, 2]).await;
    api.delete("node-2", &DeleteParams::default()).await.unwrap();
    stand.until_ways(1, &[0]).await;
    stand.until_ways(0, &[1, 2]).await;
    stand.reroute(0, |batch| batch.delete_route(&route(TO[1][0])));
    stand.reroute(0, |batch| batch.add_route_of(&route(("10.64.77.0/24", "192.0.2.2")), routes::PROTOCOL));
    stand.again(0, "services-0");
    stand.until_ways(0, &[1]).await;

    // Somebody else's route to the same range holds, and people are told.
    let foreign = route((TO[1][0].0, "192.0.2.77"));
    stand.reroute(0, |batch| batch.replace_route(&foreign));
    let words = "no route leads to 10.64.1.0/24, the pods of node node-1: this machine has another's route to it via 192.0.2.77";
    stand.rig.event("node-0", "RouteForeign", words).await;
    assert_eq!(stand.ways(0, routes::PROTOCOL).len(), 1, "that of IPv6 is no matter of this");
    assert_eq!(stand.ways(0, 3)["10.64.1.0/24"], "192.0.2.77");
    stand.until_said(0, MADE).await;
    stand.reroute(0, |batch| batch.delete_route(&foreign));
    stand.until_ways(0, &[1]).await;
    stand.rig.event("node-0", "RoutesMade", "routes lead to the pods of all other nodes").await;

    // They are wanted no longer: nothing is left, neither of them nor of what was said.
    stand.write("{}");
    for at in [0, 1] {
        stand.until_ways(at, &[]).await;
        stand.until_said(at, None).await;
    }
    // And once more, until the machine is given up.
    stand.write("nodeRoutes: true");
    stand.until_ways(0, &[1]).await;
    stand.until_ways(1, &[0]).await;
    stand.until_said(0, MADE).await;
    assert_eq!(stand.rig.end("services-0"), Some(0), "{}", stand.rig.words("services-0"));
    stand.until_ways(0, &[1]).await;
    stand.start(0, "remove", &["services", "--remove"]);
    assert_eq!(stand.rig.wait("remove").await, Some(0), "{}", stand.rig.words("remove"));
    assert_eq!(stand.ways(0, routes::PROTOCOL), BTreeMap::new());
    // On the other node `--announce` is left out.
    assert_eq!(stand.rig.end("services-1"), Some(0), "{}", stand.rig.words("services-1"));
    stand.until_ways(1, &[0]).await;
    stand.start(1, "without", &["services", "--node", "node-1", "--no-dns"]);
    stand.rig.words_have("without", "all Services are reached").await;
    assert_eq!(stand.ways(1, routes::PROTOCOL), BTreeMap::new());
}

#[tokio::test]
async fn beside_another_proxy_routes_are_kept_with_the_rights_of_the_example() {
    let mut stand = Stand::new(2, 0).await;
    admit_to(&stand.rig, "announce.yaml", "sextant-announce").await;
    stand.write("nodeRoutes: true");
    stand.describe(0).await;
    stand.describe(1).await;
    let (file, kubeconfig) = (stand.file(), stand.rig.path("kubeconfig").to_str().unwrap().to_owned());
    let words = ["announce", &file, "--node", "node-0", "--kubeconfig", &kubeconfig];
    stand.start(0, "announce", &words);
    stand.until_ways(0, &[1]).await;
    stand.until_said(0, MADE).await;
    // Another kind of trouble: a network of pods with the machines in it.
    let wide: Value = json!({"metadata": {"name": "wide"}, "spec": {"podCIDR": "192.0.2.0/24", "podCIDRs": ["192.0.2.0/24"]}});
    stand.rig.make::<Node>(wide).await;
    stand.rig.event("node-0", "RouteFailed", "the range has address 192.0.2.1 of a machine in it").await;
    stand.until_said(0, MADE).await;
    stand.until_ways(0, &[1]).await;
    assert_eq!(stand.rig.end("announce"), Some(0), "{}", stand.rig.words("announce"));
    stand.until_ways(0, &[1]).await;
    stand.start(0, "remove", &["announce", "--remove"]);
    assert_eq!(stand.rig.wait("remove").await, Some(0), "{}", stand.rig.words("remove"));
    assert!(stand.rig.words("remove").contains("2 routes to other nodes' pods are taken away"));
    stand.until_ways(0, &[]).await;
    assert!(!stand.rig.words("announce").contains("forbidden"), "{}", stand.rig.words("announce"));
}
