//! TrafficTargets, through the gates that are made of them.

use super::*;
use crate::gate::{Gate, Peer, Verdict};
use crate::matching::Head;
use crate::model::{Ports, Workload};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

/// Pods of three service accounts in one namespace.
fn shop() -> Cluster {
    Cluster::default()
        .with(Change::Pod(name("shop/api-1"), Some(pod("api", &[("app", "api")], [10, 0, 0, 1]))))
        .with(Change::Pod(
            name("shop/web-1"),
            Some(pod("web", &[("app", "web"), ("tier", "gold")], [10, 0, 0, 2])),
        ))
        .with(Change::Pod(name("shop/db-1"), Some(pod("db", &[], [10, 0, 0, 3]))))
        .object(
            "HTTPRouteGroup",
            "shop/http",
            1,
            "{matches: [{name: metrics, pathRegex: /metrics, methods: [GET]}, {name: any}]}",
        )
        .object("smi-TCPRoute", "shop/p8080", 1, "{matches: {ports: [8080]}}")
        .object("smi-TCPRoute", "shop/all", 1, "{matches: {ports: []}}")
        .object("smi-UDPRoute", "shop/dns", 1, "{matches: {ports: [53]}}")
}

fn target(rules: &str) -> String {
    from("[{kind: ServiceAccount, name: web}]", rules)
}

fn from(sources: &str, rules: &str) -> String {
    format!("{{destination: {{kind: ServiceAccount, name: api}}, rules: {rules}, sources: {sources}}}")
}

/// The gate of the pod that is called, if it has one.
fn gate(done: &Compiled) -> Option<Gate> {
    gate_of(done, "shop/api-1")
}

fn gate_of(done: &Compiled, at: &str) -> Option<Gate> {
    let Some(Entry::Workload(Workload { policies, .. })) =
        done.model.get(&Key::Workload(name(at))).map(|entry| &**entry)
    else {
        panic!("there is no {at}")
    };
    let policy = |at: &Name| match done.model.get(&Key::Policy(at.clone())).map(|entry| &**entry) {
        Some(Entry::Policy(policy)) => policy.clone(),
        other => panic!("{other:?}"),
    };
    let policies: Vec<_> = policies.iter().map(policy).collect();
    (!policies.is_empty()).then(|| Gate::new(&policies).expect("all patterns are right"))
}

fn peer(identity: &str) -> Peer<'_> {
    Peer { identity: Some(identity), address: [10, 0, 0, 2].into() }
}

struct Ask(&'static str, &'static str);

impl Head for Ask {
    fn method(&self) -> &str {
        self.0
    }
    fn path(&self) -> &str {
        self.1
    }
    fn query(&self) -> Option<&str> {
        None
    }
    fn any_header(&self, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        false
    }
}

const METRICS: &str = "{kind: HTTPRouteGroup, name: http, matches: [metrics]}";

#[test]
fn a_destination_is_closed_but_for_what_its_targets_allow() {
    let done =
        shop().object("TrafficTarget", "shop/t", 1, &target("[{kind: TCPRoute, name: p8080}]")).compile();
    let gate = gate(&done).expect("it is guarded");
    assert_eq!(gate.connection(&peer(WEB), Transport::Tcp, 8080), Verdict::Allowed);
    assert_eq!(gate.connection(&peer(WEB), Transport::Tcp, 8081), Verdict::Refused);
    assert_eq!(gate.connection(&peer(WEB), Transport::Udp, 8080), Verdict::Refused);
    let db = peer("spiffe://cluster.local/ns/shop/sa/db");
    assert_eq!(gate.connection(&db, Transport::Tcp, 8080), Verdict::Refused);
    let nobody = Peer { identity: None, ..peer(WEB) };
    assert_eq!(gate.connection(&nobody, Transport::Tcp, 8080), Verdict::Refused);
    assert!(gate_of(&done, "shop/web-1").is_none(), "others are as open as before");
    assert!(gate_of(&shop().compile(), "shop/api-1").is_none());
}

#[test]
fn the_same_name_in_another_namespace_is_somebody_else() {
    let done =
        shop().object("TrafficTarget", "shop/t", 1, &target("[{kind: TCPRoute, name: all}]")).compile();
    let gate = gate(&done).expect("it is guarded");
    let other = peer("spiffe://cluster.local/ns/bank/sa/web");
    assert_eq!(gate.connection(&other, Transport::Tcp, 80), Verdict::Refused);
    let foreign = peer("spiffe://evil.org/ns/shop/sa/web");
    assert_eq!(gate.connection(&foreign, Transport::Tcp, 80), Verdict::Refused);
}

#[test]
fn a_pod_that_names_no_service_account_has_the_namespaces_own() {
    let done = shop()
        .with(Change::Pod(name("shop/plain"), Some(pod("", &[], [10, 0, 0, 4]))))
        .object("TrafficTarget", "shop/t", 1, &target("[]").replace("name: api", "name: default"))
        .compile();
    assert!(gate_of(&done, "shop/plain").is_some());
}

#[test]
fn targets_add_up() {
    let db = from("[{kind: ServiceAccount, name: db}]", "[{kind: TCPRoute, name: all}]");
    let done = shop()
        .object("TrafficTarget", "shop/a", 1, &target(&format!("[{METRICS}]")))
        .object("TrafficTarget", "shop/b", 1, &db)
        .compile();
    let gate = gate(&done).expect("it is guarded");
    assert_eq!(gate.connection(&peer(WEB), Transport::Tcp, 80), Verdict::ByRequest);
    assert_eq!(
        gate.connection(&peer("spiffe://cluster.local/ns/shop/sa/db"), Transport::Tcp, 80),
        Verdict::Allowed
    );
}

#[test]
fn paths_are_matched_from_their_beginning_and_methods_too() {
    let done = shop().object("TrafficTarget", "shop/t", 1, &target(&format!("[{METRICS}]"))).compile();
    let gate = gate(&done).expect("it is guarded");
    assert!(gate.request(&peer(WEB), 80, &Ask("GET", "/metrics")));
    assert!(gate.request(&peer(WEB), 80, &Ask("GET", "/metricsx")), "not anchored at the end");
    assert!(!gate.request(&peer(WEB), 80, &Ask("GET", "/a/metrics")));
    assert!(!gate.request(&peer(WEB), 80, &Ask("POST", "/metrics")));
    assert!(!gate.request(&Peer { identity: None, ..peer(WEB) }, 80, &Ask("GET", "/metrics")));
}

#[test]
fn ports_and_requests_in_one_target_mean_both() {
    let rules = format!("[{{kind: TCPRoute, name: p8080}}, {METRICS}]");
    let done = shop().object("TrafficTarget", "shop/t", 1, &target(&rules)).compile();
    let gate = gate(&done).expect("it is guarded");
    assert_eq!(gate.connection(&peer(WEB), Transport::Tcp, 8080), Verdict::ByRequest);
    assert_eq!(gate.connection(&peer(WEB), Transport::Tcp, 80), Verdict::Refused);
    assert!(gate.request(&peer(WEB), 8080, &Ask("GET", "/metrics")));
    assert!(!gate.request(&peer(WEB), 8080, &Ask("GET", "/")));
    assert!(!gate.request(&peer(WEB), 80, &Ask("GET", "/metrics")));
}

#[test]
fn all_matches_of_a_group_are_meant_where_none_is_named() {
    let done = shop()
        .object("TrafficTarget", "shop/t", 1, &target("[{kind: HTTPRouteGroup, name: http}]"))
        .compile();
    assert!(gate(&done).expect("it is guarded").request(&peer(WEB), 80, &Ask("DELETE", "/x")));
}

#[test]
fn udp_is_allowed_by_udp_routes_alone() {
    let rules = format!("[{{kind: UDPRoute, name: dns}}, {METRICS}]");
    let done = shop().object("TrafficTarget", "shop/t", 1, &target(&rules)).compile();
    let both = gate(&done).expect("it is guarded");
    assert_eq!(both.connection(&peer(WEB), Transport::Udp, 53), Verdict::Allowed);
    assert_eq!(both.connection(&peer(WEB), Transport::Udp, 54), Verdict::Refused);
    assert_eq!(both.connection(&peer(WEB), Transport::Tcp, 53), Verdict::ByRequest);
    let done =
        shop().object("TrafficTarget", "shop/t", 1, &target("[{kind: UDPRoute, name: dns}]")).compile();
    let gate = gate(&done).expect("it is guarded");
    assert_eq!(gate.connection(&peer(WEB), Transport::Tcp, 53), Verdict::Refused);
}

#[test]
fn what_is_missing_allows_nothing_and_closes_all_the_same() {
    let missing = "{kind: TCPRoute, name: gone}";
    for (rules, field) in [
        (format!("[{missing}]"), "spec.rules[0]"),
        // Without the ports that are not known these would be allowed on all.
        (format!("[{missing}, {METRICS}]"), "spec.rules[0]"),
        ("[{kind: HTTPRouteGroup, name: gone}]".into(), "spec.rules[0]"),
        ("[{kind: TCPRoute, name: all}, {kind: HTTPRouteGroup, name: gone}]".into(), "spec.rules[1]"),
        ("[{kind: HTTPRouteGroup, name: http, matches: [gone]}]".into(), "spec.rules[0].matches"),
        ("[{kind: UDPRoute, name: gone}]".into(), "spec.rules[0]"),
    ] {
        let done = shop().object("TrafficTarget", "shop/t", 1, &target(&rules)).compile();
        let gate = gate(&done).expect("it is guarded");
        for transport in [Transport::Tcp, Transport::Udp] {
            assert_eq!(gate.connection(&peer(WEB), transport, 8080), Verdict::Refused, "{rules}");
        }
        assert!(!gate.request(&peer(WEB), 8080, &Ask("GET", "/metrics")), "{rules}");
        assert_eq!(done.findings(Kind::TrafficTarget, "shop/t"), [(Reason::NotFound, field)], "{rules}");
    }
}

#[test]
fn a_target_with_nothing_to_ask_or_nobody_to_ask_it_closes_its_destination() {
    for spec in [target("[]"), from("[]", "[{kind: TCPRoute, name: all}]")] {
        let done = shop().object("TrafficTarget", "shop/t", 1, &spec).compile();
        let gate = gate(&done).expect("it is guarded");
        assert_eq!(gate.connection(&peer(WEB), Transport::Tcp, 80), Verdict::Refused);
        assert!(!done.findings(Kind::TrafficTarget, "shop/t").is_empty());
    }
}

#[test]
fn patterns_of_a_policy_have_a_bound_together() {
    let group = |count: u32, pattern: &str| {
        let one = |n: u32| format!("{{name: m{n}, pathRegex: \"/{n}{pattern}\"}}");
        format!("{{matches: [{}]}}", (0..count).map(one).collect::<Vec<_>>().join(", "))
    };
    let rules = target("[{kind: HTTPRouteGroup, name: many}]");
    // How many matches a policy is left with.
    let kept = |count: u32, pattern: &str| {
        let done = shop()
            .object("HTTPRouteGroup", "shop/many", 1, &group(count, pattern))
            .object("TrafficTarget", "shop/t", 1, &rules)
            .compile();
        let Some(Entry::Policy(policy)) = done.model.get(&Key::Policy(name("shop/t"))).map(|entry| &**entry)
        else {
            panic!("there is no policy")
        };
        let matches = policy.tcp.http.as_ref().expect("it is about requests").len();
        let told = done.findings(Kind::TrafficTarget, "shop/t") == [(Reason::InvalidValue, "spec.rules")];
        (matches, told)
    };
    assert_eq!(kept(500, "/orders"), (500, false));
    let (matches, told) = kept(70, "a{5000}");
    assert!((1..70).contains(&matches) && told, "{matches}");
}

#[test]
fn a_target_of_another_namespace_neither_opens_nor_closes() {
    let spec = target("[{kind: TCPRoute, name: all}]").replace("name: api}", "name: api, namespace: shop}");
    let done = shop().object("TrafficTarget", "bank/t", 1, &spec).compile();
    assert!(gate(&done).is_none());
    assert!(done.model.get(&Key::Policy(name("bank/t"))).is_none());
}

#[test]
fn the_port_that_older_versions_name_narrows_what_is_allowed() {
    let spec = target("[{kind: TCPRoute, name: all}]").replace("name: api}", "name: api, port: 9091}");
    let done = shop().object("TrafficTarget", "shop/t", 1, &spec).compile();
    let gate = gate(&done).expect("it is guarded");
    assert_eq!(gate.connection(&peer(WEB), Transport::Tcp, 9091), Verdict::Allowed);
    assert_eq!(gate.connection(&peer(WEB), Transport::Tcp, 80), Verdict::Refused);
}

#[test]
fn a_binding_may_be_the_destination() {
    let spec = target("[{kind: TCPRoute, name: all}]")
        .replace("{kind: ServiceAccount, name: api}", "{kind: IdentityBinding, name: b}");
    let cluster = shop().object("TrafficTarget", "shop/t", 1, &spec);
    let done = cluster.clone().compile();
    assert!(gate(&done).is_none());
    assert_eq!(done.findings(Kind::TrafficTarget, "shop/t"), [(Reason::NotFound, "spec.destination.name")]);
    for schemes in [
        "{podLabelSelector: {matchLabels: {app: api}}}",
        "{serviceAccount: api}",
        "{spiffeIdentities: ['spiffe://cluster.local/ns/shop/sa/api']}",
    ] {
        let done = cluster
            .clone()
            .object("IdentityBinding", "shop/b", 1, &format!("{{schemes: {schemes}}}"))
            .compile();
        assert!(gate(&done).is_some(), "{schemes}");
        assert!(gate_of(&done, "shop/web-1").is_none(), "{schemes}");
    }
}

#[test]
fn a_source_by_label_needs_the_pods_identity_and_its_address() {
    let spec = from("[{kind: IdentityBinding, name: gold}]", "[{kind: TCPRoute, name: all}]");
    let done = shop()
        .object("TrafficTarget", "shop/t", 1, &spec)
        .object(
            "IdentityBinding",
            "shop/gold",
            1,
            "{schemes: {podLabelSelector: {matchLabels: {tier: gold}}}}",
        )
        .compile();
    let gate = gate(&done).expect("it is guarded");
    assert_eq!(gate.connection(&peer(WEB), Transport::Tcp, 80), Verdict::Allowed);
    let elsewhere = Peer { identity: Some(WEB), address: [10, 0, 0, 7].into() };
    assert_eq!(gate.connection(&elsewhere, Transport::Tcp, 80), Verdict::Refused);
    let somebody = Peer { identity: Some("spiffe://cluster.local/ns/shop/sa/db"), ..peer(WEB) };
    assert_eq!(gate.connection(&somebody, Transport::Tcp, 80), Verdict::Refused);
}

#[test]
fn a_source_by_spiffe_identity_may_be_of_another_domain() {
    let spec = from("[{kind: IdentityBinding, name: far}]", "[{kind: TCPRoute, name: all}]");
    let done = shop()
        .object("TrafficTarget", "shop/t", 1, &spec)
        .object("IdentityBinding", "shop/far", 1, "{schemes: {spiffeIdentities: ['spiffe://far.org/job']}}")
        .compile();
    let gate = gate(&done).expect("it is guarded");
    assert_eq!(gate.connection(&peer("spiffe://far.org/job"), Transport::Tcp, 80), Verdict::Allowed);
    assert_eq!(gate.connection(&peer(WEB), Transport::Tcp, 80), Verdict::Refused);
}

#[test]
fn a_binding_speaks_for_no_other_namespace_of_its_trust_domain() {
    let foreign = [
        "spiffe://cluster.local/ns/bank/sa/web",
        "spiffe://cluster.local/ns/shop2/sa/web",
        "spiffe://cluster.local/job",
    ];
    let others = ["spiffe://cluster.local.evil/ns/bank/sa/web", "spiffe://far.org/ns/bank/sa/web", WEB];
    let bound = [foreign, others].concat().join(", ");
    let spec = from("[{kind: IdentityBinding, name: b}]", "[{kind: TCPRoute, name: all}]");
    let done = shop()
        .object("TrafficTarget", "shop/t", 1, &spec)
        .object("IdentityBinding", "shop/b", 1, &format!("{{schemes: {{spiffeIdentities: [{bound}]}}}}"))
        .compile();
    let gate = gate(&done).expect("it is guarded");
    for identity in foreign {
        assert_eq!(gate.connection(&peer(identity), Transport::Tcp, 80), Verdict::Refused, "{identity}");
    }
    for identity in others {
        assert_eq!(gate.connection(&peer(identity), Transport::Tcp, 80), Verdict::Allowed, "{identity}");
    }
    let report = done.report(Kind::IdentityBinding, "shop/b");
    let told: Vec<_> = report.findings.iter().map(|one| (one.reason, one.value.as_str())).collect();
    assert_eq!(told, foreign.map(|identity| (Reason::InvalidValue, identity)));
}

#[test]
fn a_rule_that_cannot_be_read_narrows_what_the_others_allow() {
    for rules in [
        "[{kind: TCPRoute, name: all}, {kind: HTTPRouteGroup, name: http, match: [metrics]}]",
        "[{kind: TCPRoute, name: all}, {kind: HTTPRoutesGroup, name: http, matches: [metrics]}]",
        "[{kind: HTTPRouteGroup, name: http}, {kind: TCPRoute, name: p8080, ports: [80]}]",
        "[{kind: TCPRoute, name: all}, 7]",
    ] {
        let done = shop().object("TrafficTarget", "shop/t", 1, &target(rules)).compile();
        let gate = gate(&done).expect("it is guarded");
        assert_eq!(gate.connection(&peer(WEB), Transport::Tcp, 8080), Verdict::Refused, "{rules}");
        assert!(!gate.request(&peer(WEB), 8080, &Ask("GET", "/metrics")), "{rules}");
    }
}

#[test]
fn a_policy_of_very_many_rules_is_as_large_as_what_they_name() {
    let matches: Vec<String> = (0..2000).map(|n| format!("{{name: m{n}, pathRegex: /{n}}}")).collect();
    let rules = vec!["{kind: HTTPRouteGroup, name: many}"; 2000].join(", ");
    let gone: Vec<String> = (0..2000).map(|n| format!("gone{n}{}", "x".repeat(200))).collect();
    let named = format!("{{kind: HTTPRouteGroup, name: many, matches: [{}]}}", gone.join(", "));
    let done = shop()
        .object("HTTPRouteGroup", "shop/many", 1, &format!("{{matches: [{}]}}", matches.join(", ")))
        .object("TrafficTarget", "shop/t", 1, &target(&format!("[{rules}, {named}]")))
        .compile();
    let Some(Entry::Policy(policy)) = done.model.get(&Key::Policy(name("shop/t"))).map(|entry| &**entry)
    else {
        panic!("there is no policy")
    };
    assert_eq!(policy.tcp.http.as_ref().map(Vec::len), Some(2000));
    let findings = &done.report(Kind::TrafficTarget, "shop/t").findings;
    assert_eq!(findings.len(), 32);
    assert!(findings.iter().all(|one| one.reason == Reason::NotFound && one.to_string().len() < 400));
}

#[test]
fn ports_of_several_routes_are_joined() {
    let cluster = shop().object("smi-TCPRoute", "shop/web", 1, "{matches: {ports: [8081, 80]}}").object(
        "smi-UDPRoute",
        "shop/quic",
        1,
        "{matches: {ports: [443]}}",
    );
    let rule = |kind: &str, name: &str| format!("{{kind: {kind}, name: {name}}}");
    let ports = |rules: &[String]| {
        let rules = format!("[{}]", rules.join(", "));
        let done = cluster.clone().object("TrafficTarget", "shop/t", 1, &target(&rules)).compile();
        match done.model.get(&Key::Policy(name("shop/t"))).map(|entry| &**entry) {
            Some(Entry::Policy(policy)) => (policy.tcp.ports.clone(), policy.udp.clone()),
            other => panic!("{other:?}"),
        }
    };
    let listed = |ports: &[u16]| Ports::Listed(ports.to_vec());
    let (p8080, web) = (rule("TCPRoute", "p8080"), rule("TCPRoute", "web"));
    let udp = [rule("UDPRoute", "quic"), rule("UDPRoute", "dns")];
    assert_eq!(ports(&[web.clone(), p8080.clone(), web.clone()]), (listed(&[80, 8080, 8081]), Ports::none()));
    assert_eq!(ports(&[web, rule("TCPRoute", "all"), p8080]), (Ports::All, Ports::none()));
    assert_eq!(ports(&udp), (Ports::none(), listed(&[53, 443])));
}
