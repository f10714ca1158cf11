use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use smi::compile::{
    Change, MEMBER, Pod, Service, ServiceKind, ServicePort, Settings, Slice, SliceEndpoint, SlicePort,
    compile,
};
use smi::model::{Delta, Shared};

use super::*;

/// The node that is asked, and it serves who asks.
const HERE: Here<'static> = Here { node: "node-1", is_served: true, has_identities: true, is_proved: true };

fn name(name: &str) -> Name {
    Name::new("shop", name)
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn pod(of: &str, last: u8, member: bool) -> Change {
    let labels = BTreeMap::from([(MEMBER.to_owned(), member.to_string())]);
    let pod = Pod {
        service_account: of.into(),
        labels,
        addresses: vec![address(last)],
        node: Some("node-1".into()),
        host_network: false,
    };
    Change::Pod(name(of), Some(pod))
}

/// A Service at 10.96.0.LAST, whose endpoints are these pods by their addresses.
fn service(of: &str, last: u8, pods: &[(&str, u8, bool)]) -> [Change; 2] {
    let port = |port| ServicePort {
        name: "http".into(),
        port,
        transport: Transport::Tcp,
        app_protocol: Some("http".into()),
    };
    let kind = ServiceKind::ClusterIp(vec![IpAddr::from([10, 96, 0, last])]);
    let endpoints = pods.iter().map(|(pod, last, ready)| SliceEndpoint {
        address: address(*last),
        ready: *ready,
        serving: *ready,
        pod: Some((*pod).into()),
        node: Some("node-1".into()),
        zone: None,
    });
    let slice = Slice {
        service: of.into(),
        ports: vec![SlicePort { name: "http".into(), port: 8080, transport: Transport::Tcp }],
        endpoints: endpoints.collect(),
    };
    [
        Change::Service(name(of), Some(Service { kind, ports: vec![port(80)] })),
        Change::Slice(name(of), Some(slice)),
    ]
}

fn object(value: &Value) -> Change {
    let read = smi::contract::read(value).unwrap();
    Change::Object(read.object.id(), Some(read))
}

/// `web` is split three to one, and `web-v2` lets in what `front` asks below /public.
fn model() -> Model {
    compile(Settings::default(), changes()).0
}

fn changes() -> Vec<Change> {
    let split = json!({
        "apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"service": "web", "backends": [
            {"service": "web-v1", "weight": 3}, {"service": "web-v2", "weight": 1}]},
    });
    let group = json!({
        "apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup",
        "metadata": {"name": "public", "namespace": "shop"},
        "spec": {"matches": [{"name": "all", "pathRegex": "/public", "methods": ["GET"]}]},
    });
    let target = json!({
        "apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget",
        "metadata": {"name": "front-to-v2", "namespace": "shop"},
        "spec": {
            "destination": {"kind": "ServiceAccount", "name": "v2", "namespace": "shop"},
            "rules": [{"kind": "HTTPRouteGroup", "name": "public"}],
            "sources": [{"kind": "ServiceAccount", "name": "front", "namespace": "shop"}],
        },
    });
    let mut all = vec![
        Change::Namespace("shop".into(), Some(BTreeMap::new())),
        pod("front", 1, true),
        pod("other", 2, false),
        pod("v1", 3, false),
        pod("v2", 4, true),
        object(&split),
        object(&group),
        object(&target),
    ];
    all.extend(service("web", 1, &[("v1", 3, true), ("v2", 4, true)]));
    all.extend(service("web-v1", 2, &[("v1", 3, true), ("gone", 9, false)]));
    all.extend(service("web-v2", 3, &[("v2", 4, true)]));
    all
}

fn question(source: &str, target: &str, path: &str) -> Question {
    Question {
        source: name(source),
        target: Target::Service(name(target)),
        port: None,
        udp: false,
        method: "GET".into(),
        path: path.into(),
        headers: Vec::new(),
    }
}

#[test]
fn a_request_is_followed_by_rule_weight_endpoint_and_policy() {
    let (model, views) = (model(), Views::new());
    let told = explain(&model, &views, &question("front", "web", "/public/a"), HERE).unwrap();
    assert_eq!(told.outcome, Outcome::Answered, "{told:?}");
    let steps: Vec<String> = told.steps.iter().map(|step| format!("{}: {}", step.of, step.is)).collect();
    let account = "spiffe://cluster.local/ns/shop/sa/front";
    assert_eq!(steps[0], format!("source: pod shop/front, permissive, {account}"));
    assert_eq!(steps[1], "frontend: shop/web:80 at 10.96.0.1");
    assert!(steps[2].starts_with("rule: TrafficSplit/shop/web/0"), "{steps:?}");
    assert_eq!(steps[3..], ["backend: 75.0 %: shop/web-v1:80", "backend: 25.0 %: shop/web-v2:80"]);
    let told: Vec<_> = told
        .endpoints
        .iter()
        .map(|one| (one.address.to_string(), one.state.as_str(), one.is_asked, one.lets_in))
        .collect();
    for wanted in [
        ("10.0.0.3:8080".to_owned(), "ready", true, Some(true)),
        ("10.0.0.9:8080".to_owned(), "not ready", false, None),
        ("10.0.0.4:8080".to_owned(), "ready", true, Some(true)),
    ] {
        assert!(told.contains(&wanted), "{wanted:?} is not in {told:?}");
    }
}

#[test]
fn who_gets_a_copy_is_told_and_does_not_answer() {
    let mirror = |percent: u32| {
        let backend = json!({"name": "web-v1", "port": 80});
        json!({"type": "RequestMirror", "requestMirror": {"backendRef": backend, "percent": percent}})
    };
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "copied", "namespace": "shop"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "web-v2"}], "rules": [{
            "filters": [mirror(5)],
            "backendRefs": [{"name": "web-v2", "port": 80, "filters": [mirror(100)]}],
        }]},
    });
    let mut all = changes();
    all.push(object(&route));
    let (model, views) = (compile(Settings::default(), all).0, Views::new());
    let told = explain(&model, &views, &question("front", "web-v2", "/public"), HERE).unwrap();
    assert_eq!(told.outcome, Outcome::Answered, "{told:?}");
    let steps: Vec<String> = told.steps.iter().map(|step| format!("{}: {}", step.of, step.is)).collect();
    let mirror = "mirror: mirror 5 % to shop/web-v1:80, one of 1 endpoints";
    let all = "mirror: mirror to shop/web-v1:80, one of 1 endpoints";
    assert_eq!(steps[3..], [mirror, "backend: 100.0 %: shop/web-v2:80", all]);
    assert_eq!(told.endpoints.len(), 1, "who gets a copy does not answer: {told:?}");
}

#[test]
fn what_policies_do_not_let_in_is_told() {
    let (model, views) = (model(), Views::new());
    // Below another path, and directly to what is guarded.
    let told = explain(&model, &views, &question("front", "web-v2", "/private"), HERE).unwrap();
    assert_eq!(told.outcome, Outcome::Refused, "{told:?}");
    assert!(told.endpoints[0].policy.contains("shop/front-to-v2"), "{told:?}");
    // Dot segments do not help.
    let told = explain(&model, &views, &question("front", "web-v2", "/public/../private"), HERE).unwrap();
    assert_eq!(told.outcome, Outcome::Refused, "{told:?}");
    let mut post = question("front", "web-v2", "/public");
    assert_eq!(explain(&model, &views, &post, HERE).unwrap().outcome, Outcome::Answered);
    post.method = "POST".into();
    assert_eq!(explain(&model, &views, &post, HERE).unwrap().outcome, Outcome::Refused);
}

#[test]
fn what_is_not_enforced_is_told_as_that() {
    let (model, views) = (model(), Views::new());
    let asked = question("front", "web", "/private");
    let ways = |here| {
        let told = explain(&model, &views, &asked, here).unwrap();
        let one = |last: u8| {
            let at = SocketAddr::new(address(last), 8080);
            let found = told.endpoints.iter().find(|one| one.address == at).unwrap();
            (found.is_secured, found.lets_in)
        };
        [one(3), one(4)]
    };
    // Who is no member, and who is one with a policy.
    assert_eq!(ways(HERE), [(false, Some(true)), (true, Some(false))]);
    let without = Here { has_identities: false, is_proved: false, ..HERE };
    assert_eq!(ways(without), [(false, Some(true)), (false, Some(true))]);
    // Nobody would know who asks, whatever the policy says.
    let unproved = Here { is_proved: false, ..HERE };
    assert_eq!(ways(unproved), [(false, Some(true)), (true, Some(false))]);
    let told = explain(&model, &views, &question("front", "web-v2", "/public"), unproved).unwrap();
    assert_eq!(told.outcome, Outcome::Refused, "{told:?}");
    assert!(told.steps.iter().any(|step| step.is.contains("no certificate")), "{told:?}");
}

#[test]
fn who_is_left_out_by_the_clients_of_a_pod_is_not_asked() {
    let model = model();
    let view = |client: &str| ClientView {
        client: client.into(),
        in_flight: 0,
        latency_us: None,
        left_out_ms: Some(5000),
        ejections: 1,
    };
    let at = SocketAddr::new(address(3), 8080);
    let views = |client| Views::from([((name("web-v1"), 80, at), vec![view(client)])]);
    let mut asked = question("front", "web-v1", "/");
    let told = explain(&model, &views("shop/other"), &asked, HERE).unwrap();
    assert_eq!((told.endpoints[0].state.as_str(), told.endpoints[0].is_asked), ("ready", true));
    // It is the only one that is ready, so it is asked all the same.
    let told = explain(&model, &views("shop/front"), &asked, HERE).unwrap();
    assert_eq!((told.endpoints[0].state.as_str(), told.endpoints[0].is_asked), ("left out", true));
    asked.target = Target::Service(name("web"));
    let told = explain(&model, &views("shop/front"), &asked, HERE).unwrap();
    assert!(told.endpoints.iter().any(|one| one.state == "left out"), "{told:?}");
}

#[test]
fn what_the_mesh_has_no_part_in_is_told_and_what_cannot_be_answered_is_refused() {
    let (model, views) = (model(), Views::new());
    let outcome = |question: &Question, is_served| {
        explain(&model, &views, question, Here { is_served, ..HERE }).map(|told| told.outcome)
    };
    assert_eq!(outcome(&question("other", "web", "/"), true), Ok(Outcome::PassedBy));
    assert_eq!(outcome(&question("front", "web", "/"), false), Ok(Outcome::PassedBy));
    let mut asked = question("front", "web", "/");
    asked.target = Target::Address(IpAddr::from([192, 0, 2, 1]));
    asked.port = Some(80);
    assert_eq!(outcome(&asked, true), Ok(Outcome::PassedBy));
    asked.target = Target::Address(IpAddr::from([10, 96, 0, 1]));
    assert_eq!(outcome(&asked, true), Ok(Outcome::Answered));
    asked.port = Some(81);
    assert_eq!(outcome(&asked, true), Ok(Outcome::PassedBy));
    asked.target = Target::Service(name("web"));
    assert!(outcome(&asked, true).unwrap_err().contains("it has 80"));
    assert!(outcome(&question("nobody", "web", "/"), true).unwrap_err().contains("shop/nobody"));
    assert!(outcome(&question("front", "none", "/"), true).unwrap_err().contains("shop/none"));
    assert!(outcome(&question("front", "web", "/%"), true).unwrap_err().contains("refused"));
}

#[test]
fn of_pods_elsewhere_that_a_control_plane_tells_of_only_that_is_said_which_is_known() {
    let (mut model, views) = (model(), Views::new());
    // As another node sees them that has none of these pods.
    let elsewhere = Here { node: "node-2", ..HERE };
    let error = explain(&model, &views, &question("front", "web", "/"), elsewhere).unwrap_err();
    assert!(error.contains("it is on node node-1; ask there"), "{error}");
    let key = Key::Workload(name("v2"));
    let Some(Entry::Workload(guarded)) = model.get(&key).map(|entry| (**entry).clone()) else { panic!() };
    let elsewhere = Entry::Workload(Workload { node: Some("node-2".into()), ..guarded });
    let moved = Shared { key, entry: Arc::new(elsewhere) };
    model.apply(Delta { set: vec![moved], removed: vec![Key::Policy(name("front-to-v2"))] });
    let told = explain(&model, &views, &question("front", "web-v2", "/private"), HERE).unwrap();
    assert_eq!((told.outcome, told.endpoints[0].lets_in), (Outcome::Answered, None), "{told:?}");
    assert_eq!(told.endpoints[0].policy, "shop/front-to-v2, known on node-2");
}

#[test]
fn a_datagram_is_let_in_by_its_address() {
    let route = json!({
        "apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "UDPRoute",
        "metadata": {"name": "dns", "namespace": "shop"}, "spec": {"matches": {"ports": [53]}},
    });
    let target = json!({
        "apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget",
        "metadata": {"name": "front-to-dns", "namespace": "shop"},
        "spec": {
            "destination": {"kind": "ServiceAccount", "name": "dns", "namespace": "shop"},
            "rules": [{"kind": "UDPRoute", "name": "dns"}],
            "sources": [{"kind": "ServiceAccount", "name": "front", "namespace": "shop"}],
        },
    });
    let service = Service {
        kind: ServiceKind::ClusterIp(vec![IpAddr::from([10, 96, 0, 9])]),
        ports: vec![ServicePort {
            name: "dns".into(),
            port: 53,
            transport: Transport::Udp,
            app_protocol: None,
        }],
    };
    let endpoint = SliceEndpoint {
        address: address(5),
        ready: true,
        serving: true,
        pod: Some("dns".into()),
        node: Some("node-1".into()),
        zone: None,
    };
    let slice = Slice {
        service: "dns".into(),
        ports: vec![SlicePort { name: "dns".into(), port: 53, transport: Transport::Udp }],
        endpoints: vec![endpoint],
    };
    let all = [
        Change::Namespace("shop".into(), Some(BTreeMap::new())),
        pod("front", 1, true),
        pod("other", 2, true),
        pod("outside", 3, false),
        pod("open", 4, true),
        pod("dns", 5, true),
        object(&route),
        object(&target),
        Change::Service(name("dns"), Some(service)),
        Change::Slice(name("dns"), Some(slice)),
    ];
    let model = compile(Settings::default(), all).0;
    let ask = |source: &str, target: Target, port: u16, here: Here<'_>| {
        let question = Question { target, port: Some(port), udp: true, ..question(source, "", "/") };
        explain(&model, &Views::new(), &question, here).unwrap()
    };
    let service = || Target::Service(name("dns"));
    let at = |last: u8| Target::Address(address(last));
    for (source, target, port, outcome, words) in [
        ("front", service(), 53, Outcome::Answered, "shop/front-to-dns lets it in"),
        ("front", Target::Address(IpAddr::from([10, 96, 0, 9])), 53, Outcome::Answered, "lets it in"),
        ("front", at(5), 54, Outcome::Refused, "at this port"),
        ("other", service(), 53, Outcome::Refused, "does not let this source in"),
        ("outside", service(), 53, Outcome::Refused, "the source is no member"),
        ("outside", at(4), 53, Outcome::Answered, "permissive to anybody"),
        ("other", at(3), 53, Outcome::Answered, "it is no member"),
        ("other", at(99), 53, Outcome::Answered, "it is no pod"),
    ] {
        let explained = ask(source, target, port, HERE);
        let [one] = &explained.endpoints[..] else { panic!("{explained:?}") };
        assert_eq!(explained.outcome, outcome, "{source}: {explained:?}");
        assert!(one.policy.contains(words), "{source}: {one:?}");
    }
    // Without identities nothing is enforced, and what other nodes' pods take is not known.
    let bare = ask("other", service(), 53, Here { has_identities: false, ..HERE });
    assert!(bare.endpoints[0].policy.contains("not enforced"), "{bare:?}");
    let elsewhere = ask("other", service(), 53, Here { node: "node-2", ..HERE });
    assert_eq!(elsewhere.endpoints[0].lets_in, None, "{elsewhere:?}");
    // What cannot be answered says what to ask.
    let refused = |question: Question| explain(&model, &Views::new(), &question, HERE).unwrap_err();
    let without_port = Question { udp: true, ..question("front", "dns", "/") };
    assert!(refused(without_port.clone()).contains("DST:PORT"));
    let nobody = Question { source: name("nobody"), port: Some(53), ..without_port };
    assert!(refused(nobody.clone()).contains("shop/nobody"));
    assert!(refused(Question { source: name("front"), port: Some(54), ..nobody }).contains("port 54 of UDP"));
}
