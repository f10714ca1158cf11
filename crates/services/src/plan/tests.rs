use serde_json::json;

use super::*;

fn planned(service: serde_json::Value, endpoints: serde_json::Value) -> Plan {
    let service: Service = serde_json::from_value(service).unwrap();
    let slice: EndpointSlice =
        serde_json::from_value(json!({"metadata": {"name": "s"}, "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints}))
        .unwrap();
    plan(&service, [&slice], &Node { name: "here".into() })
}

fn answer(plan: &Plan, outside: bool, at: At, port: u16) -> &Answer {
    &plan.fronts[&Front { outside, at, protocol: Protocol::Tcp, port }]
}

fn targets(list: &[&str]) -> Answer {
    let targets = list.iter().map(|target| target.parse().unwrap()).collect();
    Answer::Targets { targets, affinity: None }
}

#[test]
fn ready_ones_or_else_those_that_still_serve() {
    let service = json!({"spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}});
    let ending = json!({"addresses": ["10.9.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}});
    let away = json!({"addresses": ["10.9.0.3"], "conditions": {"ready": false, "serving": false}});
    let at = At::Address("10.96.0.1".parse().unwrap());
    let plan = planned(service.clone(), json!([{"addresses": ["10.9.0.1"]}, ending, away]));
    assert_eq!(*answer(&plan, false, at, 80), targets(&["10.9.0.1:8080"]));
    let plan = planned(service.clone(), json!([ending, away]));
    assert_eq!(*answer(&plan, false, at, 80), targets(&["10.9.0.2:8080"]));
    assert_eq!(*answer(&planned(service, json!([away])), false, at, 80), Answer::Reject);
}

#[test]
fn load_balancers_are_told_how_many_are_here() {
    let endpoints = json!([{"addresses": ["10.9.0.1"], "nodeName": "here"}, {"addresses": ["10.9.0.2"], "nodeName": "there"},
        {"addresses": ["10.9.0.3"], "nodeName": "here", "conditions": {"ready": false, "serving": true}}]);
    let health = |kind: &str, policy: &str| {
        let service = json!({"spec": {"type": kind, "clusterIP": "10.96.0.1", "ports": [{"port": 80}, {"port": 81}],
            "externalTrafficPolicy": policy, "healthCheckNodePort": 31000}});
        planned(service, endpoints.clone()).health
    };
    assert_eq!(health("LoadBalancer", "Local"), Some(Health { port: 31000, local: 1 }));
    assert_eq!(health("LoadBalancer", "Cluster"), None);
    assert_eq!(health("NodePort", "Local"), None);
}

#[test]
fn policies_choose_among_endpoints() {
    let service = json!({"spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80, "nodePort": 30080}],
        "externalTrafficPolicy": "Local"}});
    let (here, there) = (
        json!({"addresses": ["10.9.0.1"], "nodeName": "here"}),
        json!({"addresses": ["10.9.1.1"], "nodeName": "there"}),
    );
    let (address, node) = (At::Address("10.96.0.1".parse().unwrap()), At::Node { ipv4: true });
    let plan = planned(service.clone(), json!([here, there]));
    let both = targets(&["10.9.0.1:8080", "10.9.1.1:8080"]);
    assert_eq!(*answer(&plan, false, address, 80), both);
    assert_eq!(*answer(&plan, false, node, 30080), both);
    assert_eq!(*answer(&plan, true, node, 30080), targets(&["10.9.0.1:8080"]));
    assert_eq!(plan.fronts.len(), 3);
    assert_eq!(plan.remote, ["10.9.1.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(*answer(&planned(service.clone(), json!([there])), true, node, 30080), Answer::Drop);
    assert_eq!(*answer(&planned(service, json!([])), true, node, 30080), Answer::Reject);
}

#[test]
fn some_services_are_not_for_us() {
    for service in [
        json!({"spec": {"clusterIP": "None", "ports": [{"port": 80}]}}),
        json!({"spec": {"type": "ExternalName", "externalName": "a.b", "ports": [{"port": 80}]}}),
        json!({"metadata": {"labels": {"service.kubernetes.io/service-proxy-name": "other"}},
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}}),
        json!({"spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80, "protocol": "QUIC"}]}}),
    ] {
        assert_eq!(planned(service, json!([{"addresses": ["10.9.0.1"]}])), Plan::default());
    }
}

#[test]
fn networks_within_others_are_left_out() {
    let nets = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/24", "192.0.2.0/24", "fd00::/8", "0.0.0.0/32"];
    let kept = disjoint(nets.iter().map(|net| net.parse().unwrap()));
    let kept: Vec<String> = kept.iter().map(ToString::to_string).collect();
    assert_eq!(kept, ["10.0.0.0/8", "fd00::/8", "192.0.2.0/24", "0.0.0.0/32"]);
}
