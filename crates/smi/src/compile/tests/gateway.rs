//! Routes of Gateway API, and both families at once.

use super::*;
use crate::matching::{Head, Matcher};
use crate::model::{Filter, HttpRouting};

const WEB: &str = "parentRefs: [{group: '', kind: Service, name: web, namespace: shop}]";

fn shop() -> Cluster {
    Cluster::default().service("shop/web", &[80, 81]).service("shop/v1", &[80]).service("shop/v2", &[80])
}

fn to(backend: &str) -> String {
    format!("{{{WEB}, rules: [{{backendRefs: [{{name: {backend}, port: 80}}]}}]}}")
}

#[test]
fn a_route_in_the_services_namespace_is_for_all_clients() {
    let done = shop().object("HTTPRoute", "shop/r", 1, &to("v1")).compile();
    for port in [80, 81] {
        assert_eq!(done.routing("shop/web", port, None), "http NotFound [r#0: shop/v1:80=1]");
    }
    assert_eq!(done.routing("shop/v1", 80, None), "plain");
    assert_eq!(done.condition(Kind::HttpRoute, "shop/r", "Accepted"), (true, "Accepted"));
    assert_eq!(done.condition(Kind::HttpRoute, "shop/r", "ResolvedRefs"), (true, "ResolvedRefs"));
    assert_eq!(done.report(Kind::HttpRoute, "shop/r").parents[0].reference["name"], "web");
}

#[test]
fn a_consumers_route_goes_before_the_producers_for_its_own_clients_alone() {
    let consumer = format!("{{{WEB}, rules: [{{backendRefs: [{{name: v2, namespace: shop, port: 80}}]}}]}}");
    let done = shop()
        .object("HTTPRoute", "shop/p", 1, &to("v1"))
        .object("HTTPRoute", "front/c", 2, &consumer)
        .compile();
    assert_eq!(done.routing("shop/web", 80, None), "http NotFound [p#0: shop/v1:80=1]");
    assert_eq!(done.routing("shop/web", 80, Some("front")), "http NotFound [c#0: shop/v2:80=1]");
    assert_eq!(done.routing("shop/web", 80, Some("other")), "none");
    assert_eq!(done.condition(Kind::HttpRoute, "front/c", "Accepted"), (true, "Accepted"));
}

#[test]
fn a_consumers_route_without_a_producers_leaves_others_alone() {
    let consumer = format!("{{{WEB}, rules: [{{backendRefs: [{{name: v2, namespace: shop, port: 80}}]}}]}}");
    let done = shop().object("TCPRoute", "front/c", 2, &consumer).compile();
    assert_eq!(done.routing("shop/web", 80, None), "plain");
    assert_eq!(done.routing("shop/web", 80, Some("front")), "Connection TCPRoute front/c: shop/v2:80=1");
}

#[test]
fn a_parents_port_is_the_only_one() {
    let spec = to("v1").replace("namespace: shop}", "namespace: shop, port: 81}");
    let done = shop().object("HTTPRoute", "shop/r", 1, &spec).compile();
    assert_eq!(done.routing("shop/web", 80, None), "plain");
    assert_eq!(done.routing("shop/web", 81, None), "http NotFound [r#0: shop/v1:80=1]");
}

#[test]
fn a_parents_section_is_a_port_by_its_name() {
    let named = |rest: &str| to("v1").replace("namespace: shop}", &format!("namespace: shop, {rest}}}"));
    for rest in ["sectionName: p81", "sectionName: p81, port: 81"] {
        let done = shop().object("HTTPRoute", "shop/r", 1, &named(rest)).compile();
        assert_eq!(done.routing("shop/web", 80, None), "plain", "{rest}");
        assert_eq!(done.routing("shop/web", 81, None), "http NotFound [r#0: shop/v1:80=1]", "{rest}");
        assert_eq!(done.condition(Kind::HttpRoute, "shop/r", "Accepted"), (true, "Accepted"), "{rest}");
    }
    for rest in ["sectionName: p81, port: 80", "sectionName: p82"] {
        let done = shop().object("HTTPRoute", "shop/r", 1, &named(rest)).compile();
        assert_eq!(
            done.condition(Kind::HttpRoute, "shop/r", "Accepted"),
            (false, "NoMatchingParent"),
            "{rest}"
        );
        assert_eq!(done.routing("shop/web", 81, None), "plain", "{rest}");
    }
}

#[test]
fn kinds_go_before_each_other_in_gateway_apis_order() {
    let kinds = ["TCPRoute", "TLSRoute", "HTTPRoute", "GRPCRoute"];
    for most in 0..kinds.len() {
        let mut cluster = shop();
        for (n, kind) in kinds[..=most].iter().enumerate() {
            cluster = cluster.object(kind, &format!("shop/r{n}"), 1, &to("v1"));
        }
        let done = cluster.compile();
        for (n, text) in kinds[..=most].iter().enumerate() {
            let kind = Kind::of("gateway.networking.k8s.io/v1", text).expect("it is one");
            let wanted = if n == most { (true, "Accepted") } else { (false, "Conflicted") };
            assert_eq!(
                done.condition(kind, &format!("shop/r{n}"), "Accepted"),
                wanted,
                "{text} below {}",
                kinds[most]
            );
        }
    }
}

#[test]
fn a_route_that_loses_one_of_two_ports_is_accepted_and_told() {
    let grpc = to("v1").replace("namespace: shop}", "namespace: shop, port: 81}");
    let done =
        shop().object("HTTPRoute", "shop/h", 1, &to("v2")).object("GRPCRoute", "shop/g", 2, &grpc).compile();
    assert_eq!(done.routing("shop/web", 80, None), "http NotFound [h#0: shop/v2:80=1]");
    assert_eq!(done.routing("shop/web", 81, None), "http NotFound [g#0: shop/v1:80=1]");
    let status = &done.report(Kind::HttpRoute, "shop/h").parents[0];
    let accepted = status.condition("Accepted").expect("it is told");
    assert!(accepted.status);
    assert!(accepted.message.contains("port 81 to GRPCRoute shop/g"), "{}", accepted.message);
}

#[test]
fn of_tcp_routes_the_oldest_has_the_port() {
    let done = shop()
        .object("TCPRoute", "shop/b", 1, &to("v1"))
        .object("TCPRoute", "shop/a", 2, &to("v2"))
        .compile();
    assert_eq!(done.routing("shop/web", 80, None), "Connection TCPRoute shop/b: shop/v1:80=1");
    assert_eq!(done.condition(Kind::TcpRoute, "shop/a", "Accepted"), (false, "Conflicted"));
    let same = shop()
        .object("TCPRoute", "shop/b", 1, &to("v1"))
        .object("TCPRoute", "shop/a", 1, &to("v2"))
        .compile();
    assert_eq!(
        same.routing("shop/web", 80, None),
        "Connection TCPRoute shop/a: shop/v2:80=1",
        "by name at last"
    );
}

#[test]
fn udp_routes_are_beside_the_others() {
    let mut service = clustered(&[80]);
    service.ports.push(ServicePort {
        name: "dns".into(),
        port: 53,
        transport: Transport::Udp,
        app_protocol: None,
    });
    let udp = format!("{{{WEB}, rules: [{{backendRefs: [{{name: web, port: 53}}]}}]}}");
    let done = shop()
        .with(Change::Service(name("shop/web"), Some(service)))
        .object("UDPRoute", "shop/u", 1, &udp)
        .object("HTTPRoute", "shop/h", 1, &to("v1"))
        .compile();
    assert_eq!(done.condition(Kind::UdpRoute, "shop/u", "Accepted"), (true, "Accepted"));
    assert_eq!(done.condition(Kind::UdpRoute, "shop/u", "ResolvedRefs"), (true, "ResolvedRefs"));
    assert_eq!(done.condition(Kind::HttpRoute, "shop/h", "Accepted"), (true, "Accepted"));
    let key =
        Key::Frontend { service: name("shop/web"), port: 53, transport: Transport::Udp, consumer: None };
    let Entry::Frontend(frontend) = &**done.model.get(&key).expect("it is there") else { panic!() };
    assert_eq!(describe(&frontend.routing), "Connection UDPRoute shop/u: shop/web:53=1");
}

#[test]
fn parents_that_cannot_be_are_told_why() {
    let headless = Service { kind: ServiceKind::Headless, ports: clustered(&[80]).ports };
    let external = Service { kind: ServiceKind::ExternalName, ports: Vec::new() };
    let done = shop()
        .with(Change::Service(name("shop/headless"), Some(headless)))
        .with(Change::Service(name("shop/external"), Some(external)))
        .object("HTTPRoute", "shop/a", 1, &to("v1").replace("name: web", "name: gone"))
        .object("HTTPRoute", "shop/b", 1, &to("v1").replace("name: web", "name: headless"))
        .object("HTTPRoute", "shop/c", 1, &to("v1").replace("name: web", "name: external"))
        .object("HTTPRoute", "shop/d", 1, &to("v1").replace("namespace: shop}", "namespace: shop, port: 99}"))
        .object(
            "HTTPRoute",
            "shop/e",
            1,
            &to("v1").replace("namespace: shop}", "namespace: shop, sectionName: x}"),
        )
        .object("UDPRoute", "shop/f", 1, &to("v1"))
        .compile();
    for route in ["shop/a", "shop/b", "shop/c", "shop/d", "shop/e"] {
        assert_eq!(
            done.condition(Kind::HttpRoute, route, "Accepted"),
            (false, "NoMatchingParent"),
            "{route}"
        );
    }
    assert_eq!(done.condition(Kind::UdpRoute, "shop/f", "Accepted"), (false, "NoMatchingParent"));
    assert_eq!(done.routing("shop/web", 80, None), "plain");
}

#[test]
fn backends_that_are_not_there_fail_their_share() {
    let spec = format!(
        "{{{WEB}, rules: [{{backendRefs: [{{name: v1, port: 80, weight: 3}}, {{name: gone, port: 80}}, {{name: v2, port: 81}}, {{kind: Bucket, group: x, name: y}}]}}]}}"
    );
    let done = shop().object("HTTPRoute", "shop/r", 1, &spec).compile();
    assert_eq!(done.routing("shop/web", 80, None), "http NotFound [r#0: shop/v1:80=3,500=1,500=1,500=1]");
    assert_eq!(done.condition(Kind::HttpRoute, "shop/r", "Accepted"), (true, "Accepted"));
    assert_eq!(done.condition(Kind::HttpRoute, "shop/r", "ResolvedRefs"), (false, "BackendNotFound"));
    let spec = format!("{{{WEB}, rules: [{{backendRefs: [{{kind: Bucket, group: x, name: y}}]}}]}}");
    let done = shop().object("HTTPRoute", "shop/r", 1, &spec).compile();
    assert_eq!(done.condition(Kind::HttpRoute, "shop/r", "ResolvedRefs"), (false, "InvalidKind"));
}

#[test]
fn a_mirror_to_nobody_is_told_of_and_left_out() {
    let mirror = |name: &str| {
        format!("{{type: RequestMirror, requestMirror: {{backendRef: {{name: {name}, port: 80}}}}}}")
    };
    let filters = format!("filters: [{}, {}]", mirror("v2"), mirror("gone"));
    let spec = to("v1").replace("rules: [{", &format!("rules: [{{{filters}, "));
    let done = shop().object("HTTPRoute", "shop/r", 1, &spec).compile();
    assert_eq!(done.condition(Kind::HttpRoute, "shop/r", "ResolvedRefs"), (false, "BackendNotFound"));
    let http = http(&done, 80);
    assert_eq!(http.rules[0].filters.len(), 1);
    assert!(matches!(&http.rules[0].filters[0], Filter::Mirror(mirror) if mirror.service.name == "v2"));
}

#[test]
fn a_mirror_that_names_no_service_leaves_its_rule_as_it_is() {
    for (reference, reason) in
        [("{kind: Bucket, group: x, name: y}", "InvalidKind"), ("{name: v2}", "BackendNotFound")]
    {
        let filter = format!("{{type: RequestMirror, requestMirror: {{backendRef: {reference}}}}}");
        // Of a rule, and of a backend.
        let of_rule = to("v1").replace("rules: [{", &format!("rules: [{{filters: [{filter}], "));
        let of_backend = to("v1").replace("port: 80}", &format!("port: 80, filters: [{filter}]}}"));
        for spec in [of_rule, of_backend] {
            let done = shop().object("HTTPRoute", "shop/r", 1, &spec).compile();
            assert_eq!(done.condition(Kind::HttpRoute, "shop/r", "Accepted"), (true, "Accepted"), "{spec}");
            assert_eq!(done.condition(Kind::HttpRoute, "shop/r", "ResolvedRefs"), (false, reason), "{spec}");
            assert_eq!(done.routing("shop/web", 80, None), "http NotFound [r#0: shop/v1:80=1]");
            assert!(http(&done, 80).rules[0].filters.is_empty());
        }
    }
}

#[test]
fn a_route_of_nothing_but_what_cannot_be_read_is_not_accepted() {
    let bad = "{matches: [{path: {type: Glob, value: /}}]}";
    let done = shop().object("HTTPRoute", "shop/r", 1, &format!("{{{WEB}, rules: [{bad}]}}")).compile();
    assert_eq!(done.condition(Kind::HttpRoute, "shop/r", "Accepted"), (false, "UnsupportedValue"));
    assert_eq!(done.routing("shop/web", 80, None), "plain");
    let both = format!("{{{WEB}, rules: [{bad}, {{backendRefs: [{{name: v1, port: 80}}]}}]}}");
    let done = shop().object("HTTPRoute", "shop/r", 1, &both).compile();
    assert_eq!(done.condition(Kind::HttpRoute, "shop/r", "Accepted"), (true, "Accepted"));
    assert_eq!(done.condition(Kind::HttpRoute, "shop/r", "PartiallyInvalid"), (true, "UnsupportedValue"));
    assert_eq!(done.routing("shop/web", 80, None), "http NotFound [r#1: shop/v1:80=1]");
}

#[test]
fn a_rule_with_a_filter_that_cannot_be_done_answers_with_an_error() {
    let bad = "{matches: [{path: {value: /a}}], filters: [{type: CORS, cors: {}}]}";
    let both = format!("{{{WEB}, rules: [{bad}, {{backendRefs: [{{name: v1, port: 80}}]}}]}}");
    let done = shop().object("HTTPRoute", "shop/r", 1, &both).compile();
    assert_eq!(done.routing("shop/web", 80, None), "http NotFound [r#0: 500=1; r#1: shop/v1:80=1]");
    assert_eq!(done.condition(Kind::HttpRoute, "shop/r", "Accepted"), (true, "Accepted"));
    assert_eq!(done.condition(Kind::HttpRoute, "shop/r", "PartiallyInvalid"), (true, "UnsupportedValue"));
    let status = &done.report(Kind::HttpRoute, "shop/r").parents[0];
    let partial = status.condition("PartiallyInvalid").expect("it is told");
    assert!(partial.message.starts_with("Dropped Rule"), "{}", partial.message);
}

#[test]
fn a_route_of_nothing_but_rules_that_cannot_be_done_is_not_accepted_and_answers_with_errors() {
    let incompatible = "filters: [{type: RequestRedirect, requestRedirect: {}}, {type: URLRewrite, urlRewrite: {hostname: a}}]";
    for (rule, reason) in
        [("filters: [{type: CORS, cors: {}}]", "UnsupportedValue"), (incompatible, "IncompatibleFilters")]
    {
        let done =
            shop().object("HTTPRoute", "shop/r", 1, &format!("{{{WEB}, rules: [{{{rule}}}]}}")).compile();
        assert_eq!(done.condition(Kind::HttpRoute, "shop/r", "Accepted"), (false, reason));
        assert_eq!(done.routing("shop/web", 80, None), "http NotFound [r#0: 500=1]");
        let status = &done.report(Kind::HttpRoute, "shop/r").parents[0];
        assert_eq!(status.condition("PartiallyInvalid"), None);
    }
}

#[test]
fn a_second_rule_of_what_has_no_matches_is_told_of() {
    for kind in ["TCPRoute", "TLSRoute"] {
        let rule = |backend: &str| format!("{{backendRefs: [{{name: {backend}, port: 80}}]}}");
        let spec = format!("{{{WEB}, rules: [{}, {}]}}", rule("v1"), rule("v2"));
        let done = shop().object(kind, "shop/r", 1, &spec).compile();
        assert!(!done.routing("shop/web", 80, None).contains("v2"), "{kind}");
        let id = Kind::of("gateway.networking.k8s.io/v1", kind).expect("it is one");
        assert_eq!(done.condition(id, "shop/r", "Accepted"), (true, "Accepted"));
        assert_eq!(done.condition(id, "shop/r", "PartiallyInvalid"), (true, "UnsupportedValue"));
    }
}

#[test]
fn a_gateway_route_wins_over_a_split_on_its_port_alone() {
    let route = to("v1").replace("namespace: shop}", "namespace: shop, port: 80}");
    let split = "{service: web, backends: [{service: web, weight: 1}]}";
    let done =
        shop().object("HTTPRoute", "shop/r", 9, &route).object("TrafficSplit", "shop/s", 1, split).compile();
    assert_eq!(done.routing("shop/web", 80, None), "http NotFound [r#0: shop/v1:80=1]");
    assert_eq!(done.routing("shop/web", 81, None), "Request TrafficSplit shop/s: shop/web:81=1000");
    assert_eq!(done.findings(Kind::TrafficSplit, "shop/s"), [(Reason::Conflicted, "spec.service")]);
    assert_eq!(done.condition(Kind::HttpRoute, "shop/r", "Accepted"), (true, "Accepted"));
}

#[test]
fn a_consumers_route_leaves_a_split_to_other_clients() {
    let route = to("v1").replace("{name: v1,", "{name: v1, namespace: shop,");
    let split = "{service: web, backends: [{service: web, weight: 1}]}";
    let done =
        shop().object("HTTPRoute", "front/r", 9, &route).object("TrafficSplit", "shop/s", 1, split).compile();
    assert_eq!(done.routing("shop/web", 80, None), "Request TrafficSplit shop/s: shop/web:80=1000");
    assert_eq!(done.routing("shop/web", 80, Some("front")), "http NotFound [r#0: shop/v1:80=1]");
    assert_eq!(done.findings(Kind::TrafficSplit, "shop/s"), []);
}

#[test]
fn names_of_servers_go_from_whole_to_any() {
    let tls = |hosts: &str| to("v1").replace("rules:", &format!("hostnames: {hosts}, rules:"));
    let done = shop()
        .object("TLSRoute", "shop/any", 1, &to("v2"))
        .object("TLSRoute", "shop/some", 2, &tls("['*.example', 'a.example', '*.b.example']"))
        .compile();
    assert_eq!(
        done.routing("shop/web", 80, None),
        "tls [a.example: shop/v1:80=1; *.b.example: shop/v1:80=1; *.example: shop/v1:80=1; : shop/v2:80=1]"
    );
}

struct Get<'a>(&'a str, Option<&'a str>);

impl Head for Get<'_> {
    fn method(&self) -> &str {
        "GET"
    }
    fn path(&self) -> &str {
        self.0
    }
    fn query(&self) -> Option<&str> {
        None
    }
    fn any_header(&self, name: &str, is: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        name == "version" && self.1.is_some_and(|value| is(value.as_bytes()))
    }
}

fn http(done: &Compiled, port: u16) -> &HttpRouting {
    match done.frontend("shop/web", port, None).map(|frontend| &frontend.routing) {
        Some(Routing::Http(http)) => http,
        other => panic!("{other:?}"),
    }
}

#[test]
fn rules_of_several_routes_are_merged_by_gateway_apis_precedence() {
    let rule = |text: &str| format!("{{{WEB}, rules: {text}}}");
    let done = shop()
        .object("HTTPRoute", "shop/young", 9, &rule("[{matches: [{path: {value: /v2}}, {path: {type: Exact, value: /}}]}, {matches: [{}]}]"))
        .object("HTTPRoute", "shop/old", 1, &rule("[{matches: [{path: {value: /}}, {headers: [{name: version, value: two}]}]}, {matches: [{path: {value: /v2/example}}]}, {matches: [{path: {value: /v2}}]}]"))
        .compile();
    let http = http(&done, 80);
    let matcher = Matcher::new(http.matches.iter().map(|matched| &matched.requests)).expect("all are right");
    let asked = |path: &str, version: Option<&str>| {
        let place = matcher.find(&Get(path, version)).expect("one fits");
        let rule = &http.rules[http.matches[place].rule];
        format!("{}#{}", rule.from.object.name.name, rule.from.rule)
    };
    assert_eq!(asked("/", None), "young#0", "an exact path");
    assert_eq!(asked("/v2/example/a", None), "old#1", "the longest prefix");
    assert_eq!(asked("/v2/a", None), "old#2", "the older route");
    assert_eq!(asked("/v2example", None), "old#0", "by elements");
    assert_eq!(asked("/a", Some("two")), "old#0");
}

#[test]
fn named_rules_timeouts_and_retries_are_in_the_model() {
    let spec = to("v1")
        .replace("rules: [{", "rules: [{name: first, timeouts: {request: 1s}, retry: {attempts: 2}, ");
    let done = shop().object("HTTPRoute", "shop/r", 1, &spec).compile();
    let rule = &http(&done, 80).rules[0];
    assert_eq!(rule.from.name.as_deref(), Some("first"));
    assert_eq!(rule.timeouts.request_ms, Some(1000));
    assert_eq!(rule.retry.as_ref().map(|retry| retry.attempts), Some(2));
}
