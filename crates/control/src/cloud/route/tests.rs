//! The situations of Kubernetes' own tests of this controller (route_controller_test.go), by their names there.

mod looks;

use cpi::contract::{Cidr, Node, Route};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::plan::{Plan, is_news, plan, said};

fn node(name: &str, ip: &str, ranges: &[&str]) -> Node {
    serde_json::from_value(
        json!({"metadata": {"name": name, "uid": format!("uid-{name}")}, "spec": {"podCIDRs": ranges},
        "status": {"addresses": [{"type": "InternalIP", "address": ip}]}}),
    )
    .unwrap()
}

fn route(name: &str, node: &str, to: &str) -> Route {
    Route { name: name.into(), target_node: node.into(), destination_cidr: to.into(), ..Route::default() }
}

fn at(mut route: Route, ip: &str) -> Route {
    route.enable_node_addresses = true;
    route.target_node_addresses =
        serde_json::from_value(json!([{"type": "InternalIP", "address": ip}])).unwrap();
    route
}

fn planned(nodes: &[Node], routes: &[Route], clusters: &[&str]) -> Plan {
    let clusters: Vec<Cidr> = clusters.iter().map(|text| text.parse().unwrap()).collect();
    plan(nodes, routes, &clusters)
}

fn created(plan: &Plan) -> Vec<(&str, &str)> {
    plan.create
        .iter()
        .map(|(_, route)| (route.target_node.as_str(), route.destination_cidr.as_str()))
        .collect()
}

fn deleted(plan: &Plan) -> Vec<&str> {
    plan.delete.iter().map(|route| route.name.as_str()).collect()
}

const ONE: &[&str] = &["10.120.0.0/16"];
const TWO: &[&str] = &["10.120.0.0/16", "a00:100::/24"];

/// TestIsResponsibleForRoute.
#[test]
fn routes_outside_of_the_clusters_ranges_are_left_alone() {
    for (cluster, to, is_ours) in [
        ("10.244.0.0/16", "10.244.0.0/24", true),
        ("10.244.0.0/16", "10.10.0.0/24", false),
        ("10.244.0.0/14", "10.244.0.0/24", true),
        ("10.244.0.0/14", "10.249.0.0/24", false),
        ("10.244.0.0/16", "10.244.0.0/12", false),
        ("10.0.0.0/8", "11.0.0.0/8", false),
        ("2001:db8::/32", "2001:db8:1::/48", true),
        ("2001:db8::/32", "fd00::/48", false),
        ("10.244.0.0/16", "nonsense", false),
    ] {
        let plan = planned(&[], &[route("r", "gone", to)], &[cluster]);
        assert_eq!(!plan.delete.is_empty(), is_ours, "{to} in {cluster}");
    }
}

#[test]
fn single_cidr_2_nodes_and_no_routes() {
    let nodes = [
        node("node-1", "192.168.0.1", &["10.120.0.0/24"]),
        node("node-2", "192.168.0.2", &["10.120.1.0/24"]),
    ];
    let plan = planned(&nodes, &[], ONE);
    assert_eq!(created(&plan), [("node-1", "10.120.0.0/24"), ("node-2", "10.120.1.0/24")]);
    assert_eq!(plan.create[0].0, "uid-node-1", "the hint");
    assert_eq!(plan.create[0].1.target_node_addresses[0].address, "192.168.0.1");
    assert_eq!(plan.nodes["node-1"], Some(false));
}

#[test]
fn single_cidr_2_nodes_and_routes_created_one_created_too_many() {
    let nodes = [
        node("node-1", "192.168.0.1", &["10.120.0.0/24"]),
        node("node-2", "192.168.0.2", &["10.120.1.0/24"]),
    ];
    let mut routes = vec![route("r1", "node-1", "10.120.0.0/24"), route("r2", "node-2", "10.120.1.0/24")];
    let plan = planned(&nodes, &routes, ONE);
    assert!(plan.create.is_empty() && plan.delete.is_empty(), "{plan:?}");
    assert_eq!(plan.nodes["node-2"], Some(true));
    let plan = planned(&nodes, &routes[..1], ONE);
    assert_eq!((created(&plan), plan.nodes["node-1"]), (vec![("node-2", "10.120.1.0/24")], Some(true)));
    routes.push(route("r3", "node-2", "10.120.2.0/24"));
    routes.push(route("r4", "node-3", "10.120.3.0/24"));
    routes.push(route("r5", "", "10.120.4.0/24"));
    let plan = planned(&nodes, &routes, ONE);
    assert_eq!((deleted(&plan), created(&plan)), (vec!["r3", "r4", "r5"], vec![]));
}

#[test]
fn single_cidr_2_nodes_and_2_routes_with_1_incorrect() {
    let nodes = [
        node("node-1", "192.168.0.1", &["10.120.0.0/24"]),
        node("node-2", "192.168.0.2", &["10.120.1.0/24"]),
    ];
    let routes = [route("r1", "node-1", "10.120.0.0/24"), route("r2", "node-2", "10.120.2.0/24")];
    let plan = planned(&nodes, &routes, ONE);
    assert_eq!((deleted(&plan), created(&plan)), (vec!["r2"], vec![("node-2", "10.120.1.0/24")]));
}

#[test]
fn single_cidr_2_nodes_and_one_node_without_cidr_assigned() {
    let nodes = [node("node-1", "192.168.0.1", &["10.120.0.0/24"]), node("node-2", "192.168.0.2", &[])];
    let plan = planned(&nodes, &[], ONE);
    assert_eq!(created(&plan), [("node-1", "10.120.0.0/24")]);
    assert!(!plan.nodes.contains_key("node-2"), "nothing is said of a node without ranges and routes");
    let plan = planned(&nodes, &[route("r", "node-2", "10.120.1.0/24")], ONE);
    assert_eq!((plan.nodes["node-2"], deleted(&plan)), (None, vec!["r"]), "it had one");
}

#[test]
fn an_extra_blackhole_route_in_our_range_and_not() {
    let nodes = [node("node-1", "192.168.0.1", &["10.120.0.0/24"])];
    let hole = |name: &str, to: &str| Route { blackhole: true, ..route(name, "", to) };
    let routes = [
        route("r1", "node-1", "10.120.0.0/24"),
        hole("ours", "10.120.2.0/24"),
        hole("theirs", "10.1.2.0/24"),
    ];
    assert_eq!(deleted(&planned(&nodes, &routes, ONE)), ["ours"]);
}

#[test]
fn node_ips_changed_so_routes_should_be_updated() {
    let nodes = [
        node("node-1", "192.168.0.9", &["10.120.0.0/24"]),
        node("node-2", "192.168.0.2", &["10.120.1.0/24"]),
    ];
    let routes = [
        at(route("r1", "node-1", "10.120.0.0/24"), "192.168.0.1"),
        at(route("r2", "node-2", "10.120.1.0/24"), "192.168.0.2"),
    ];
    let plan = planned(&nodes, &routes, ONE);
    assert_eq!((deleted(&plan), created(&plan)), (vec!["r1"], vec![("node-1", "10.120.0.0/24")]));
    assert!(plan.in_turn, "the old one must go first");
    // "routes have no TargetNodeAddresses at the beginning"
    let plain = [route("r1", "node-1", "10.120.0.0/24"), route("r2", "node-2", "10.120.1.0/24")];
    let plan = planned(&nodes, &plain, ONE);
    assert!(plan.create.is_empty() && plan.delete.is_empty() && !plan.in_turn);
}

#[test]
fn ranges_are_the_same_however_they_are_written() {
    let nodes = [node("node-1", "192.168.0.1", &["10.120.0.0/24", "a00:100::/64"])];
    let routes = [route("r1", "node-1", "10.120.0.7/24"), route("r2", "node-1", "0A00:0100:0:0::/64")];
    let plan = planned(&nodes, &routes, &["10.120.0.0/16", "a00::/8"]);
    assert!(plan.create.is_empty() && plan.delete.is_empty(), "{plan:?}");
    assert_eq!(plan.nodes["node-1"], Some(true));
}

/// The way to a node's pods leads nowhere since its instance was made anew.
#[test]
fn a_blackhole_of_a_nodes_range_is_made_anew() {
    let nodes = [node("node-1", "192.168.0.1", &["10.120.0.0/24"])];
    for owner in ["node-1", ""] {
        let hole = Route { blackhole: true, ..route("hole", owner, "10.120.0.0/24") };
        let plan = planned(&nodes, std::slice::from_ref(&hole), ONE);
        assert_eq!((deleted(&plan), created(&plan)), (vec!["hole"], vec![("node-1", "10.120.0.0/24")]));
        assert!(plan.in_turn, "it is in the way");
        assert_eq!(plan.nodes["node-1"], Some(false), "its pods are not reached");
        let plan = planned(&nodes, &[hole, route("r1", "node-1", "10.120.0.0/24")], ONE);
        assert_eq!((deleted(&plan), created(&plan)), (vec!["hole"], vec![]), "another leads there");
    }
}

#[test]
fn multicidr_2_nodes() {
    let nodes = [
        node("node-1", "192.168.0.1", &["10.120.0.0/24", "a00:100::/24"]),
        node("node-2", "192.168.0.2", &["10.120.1.0/24", "a00:200::/24"]),
    ];
    let clusters = &["10.120.0.0/16", "a00::/8"];
    let all = [
        route("r1", "node-1", "10.120.0.0/24"),
        route("r2", "node-1", "a00:100::/24"),
        route("r3", "node-2", "10.120.1.0/24"),
        route("r4", "node-2", "a00:200::/24"),
    ];
    assert_eq!(created(&planned(&nodes, &[], clusters)).len(), 4, "no routes");
    let plan = planned(&nodes, &all, clusters);
    assert!(plan.create.is_empty() && plan.delete.is_empty(), "all routes created");
    let plan = planned(&nodes, &all[..3], clusters);
    assert_eq!(created(&plan), [("node-2", "a00:200::/24")], "some routes created");
    assert_eq!((plan.nodes["node-1"], plan.nodes["node-2"]), (Some(true), Some(false)));
    let mut many = all.to_vec();
    many.push(route("r5", "node-2", "10.120.9.0/24"));
    assert_eq!(deleted(&planned(&nodes, &many, TWO)), ["r5"], "too many routes");
}

#[test]
fn duplicate_pod_cidr() {
    let nodes = [
        node("node-1", "192.168.0.1", &["10.120.0.0/24"]),
        node("node-2", "192.168.0.2", &["10.120.0.0/24"]),
    ];
    let plan = planned(&nodes, &[route("r1", "node-1", "10.120.0.0/24")], ONE);
    assert_eq!((created(&plan), deleted(&plan)), (vec![("node-2", "10.120.0.0/24")], vec![]));
}

/// Ours: what KEP-5237 has the controller look for, and a node without ranges is no news before it has one.
#[test]
fn what_is_news_of_a_node() {
    let has = |ip: &str, ranges: &[&str]| Some(node("node-1", ip, ranges));
    let mut told = has("192.168.0.1", &["10.120.0.0/24"]);
    if let Some(node) = &mut told {
        node.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        node.status.get_or_insert_default().conditions = Some(Vec::new());
    }
    let plain = || has("192.168.0.1", &["10.120.0.0/24"]);
    for (name, old, new, is) in [
        ("a node with a range joins", None, plain(), true),
        ("a node with a range goes", plain(), None, true),
        ("a node without one joins", None, has("192.168.0.1", &[]), false),
        ("it gets one", has("192.168.0.1", &[]), plain(), true),
        ("another range", plain(), has("192.168.0.1", &["10.120.1.0/24"]), true),
        ("another address", plain(), has("192.168.0.2", &["10.120.0.0/24"]), true),
        ("another address without a range", has("192.168.0.1", &[]), has("192.168.0.2", &[]), false),
        ("labels and conditions", plain(), told, false),
        ("nothing", plain(), plain(), false),
    ] {
        assert_eq!(is_news(old.as_ref(), new.as_ref()), is, "{name}");
        assert_eq!(is_news(new.as_ref(), old.as_ref()), is, "{name}, back");
    }
}

/// TestUpdateNetworkingCondition.
#[test]
fn conditions_of_nodes() {
    let has = |status: &str, reason: &str| {
        let conditions = json!([{"type": "NetworkUnavailable", "status": status, "reason": reason}]);
        serde_json::from_value::<Node>(json!({"status": {"conditions": conditions}})).unwrap()
    };
    let none = Node::default();
    let is = |node: &Node, reached: bool| {
        said(node, reached, Timestamp::UNIX_EPOCH).map(|condition: Value| {
            assert_eq!(condition["type"], "NetworkUnavailable");
            format!("{} {}", condition["status"].as_str().unwrap(), condition["reason"].as_str().unwrap())
        })
    };
    let (created, not) = (Some("False RouteCreated".to_owned()), Some("True NoRouteCreated".to_owned()));
    assert_eq!(is(&none, true), created, "No existing condition, routes created");
    assert_eq!(is(&none, false), not, "No existing condition, routes not created");
    assert_eq!(is(&has("False", "RouteCreated"), true), None, "same status and reason");
    assert_eq!(is(&has("False", "CalicoIsUp"), true), created, "same status but different reason");
    assert_eq!(is(&has("True", "CalicoIsDown"), false), not, "Status=True and different reason");
    assert_eq!(is(&has("False", "RouteCreated"), false), not, "transitioning to routes not created");
    assert_eq!(is(&has("True", "NoRouteCreated"), false), None, "Status=True and NoRouteCreated");
    assert_eq!(is(&has("True", "NoRouteCreated"), true), created);
}
