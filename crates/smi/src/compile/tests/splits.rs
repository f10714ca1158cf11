//! TrafficSplits.

use super::*;

fn shop() -> Cluster {
    Cluster::default().service("shop/web", &[80, 90]).service("shop/v1", &[80, 90]).service("shop/v2", &[80])
}

const BOTH: &str = "{service: web, backends: [{service: v1, weight: 9}, {service: v2, weight: 1}]}";

#[test]
fn a_split_weighs_requests_on_each_port_of_its_apex() {
    let done = shop().object("TrafficSplit", "shop/s", 1, BOTH).compile();
    assert_eq!(
        done.routing("shop/web", 80, None),
        "Request TrafficSplit shop/s: shop/v1:80=9000,shop/v2:80=1000"
    );
    assert_eq!(done.routing("shop/v1", 80, None), "plain", "only the first frontend is asked");
}

#[test]
fn a_backend_without_the_apexs_port_is_left_out_there_with_an_event() {
    let done = shop().object("TrafficSplit", "shop/s", 1, BOTH).compile();
    assert_eq!(done.routing("shop/web", 90, None), "Request TrafficSplit shop/s: shop/v1:90=9000");
    let report = done.report(Kind::TrafficSplit, "shop/s");
    assert_eq!(
        done.findings(Kind::TrafficSplit, "shop/s"),
        [(Reason::PortMismatch, "spec.backends[1].service")]
    );
    let text = report.findings[0].to_string();
    assert!(text.contains("v2") && text.contains("no port 90"), "{text}");
}

#[test]
fn a_backend_that_is_not_there_gets_nothing_until_it_is() {
    let spec = BOTH.replace("service: v2", "service: v3");
    let cluster = shop().object("TrafficSplit", "shop/s", 1, &spec);
    let done = cluster.clone().compile();
    assert_eq!(done.routing("shop/web", 80, None), "Request TrafficSplit shop/s: shop/v1:80=9000");
    assert_eq!(done.findings(Kind::TrafficSplit, "shop/s"), [(Reason::NotFound, "spec.backends[1].service")]);
    let done = cluster.service("shop/v3", &[80, 90]).compile();
    assert_eq!(
        done.routing("shop/web", 80, None),
        "Request TrafficSplit shop/s: shop/v1:80=9000,shop/v3:80=1000"
    );
    assert_eq!(done.findings(Kind::TrafficSplit, "shop/s"), []);
}

#[test]
fn of_several_splits_on_one_apex_the_oldest_counts() {
    let other = BOTH.replace("weight: 9", "weight: 0");
    let done = shop()
        .object("TrafficSplit", "shop/a", 2, &other)
        .object("TrafficSplit", "shop/b", 1, BOTH)
        .compile();
    assert!(done.routing("shop/web", 80, None).starts_with("Request TrafficSplit shop/b"));
    assert_eq!(done.findings(Kind::TrafficSplit, "shop/a"), [(Reason::Conflicted, "spec.service")]);
    assert!(!done.findings(Kind::TrafficSplit, "shop/b").contains(&(Reason::Conflicted, "spec.service")));
}

#[test]
fn requests_that_match_none_go_to_the_apex_itself() {
    let spec =
        BOTH.replace("]}", "], matches: [{kind: HTTPRouteGroup, name: a}, {kind: HTTPRouteGroup, name: b}]}");
    let group = "{matches: [{name: x, headers: {user-agent: '.*Firefox.*'}}]}";
    let done = shop()
        .object("TrafficSplit", "shop/s", 1, &spec)
        .object("HTTPRouteGroup", "shop/a", 1, group)
        .object(
            "HTTPRouteGroup",
            "shop/b",
            1,
            "{matches: [{name: beta, pathRegex: /beta}, {name: broken, pathRegex: '('}]}",
        )
        .compile();
    assert_eq!(done.routing("shop/web", 80, None), "http Apex [s#0: shop/v1:80=9000,shop/v2:80=1000]");
    let Some(Routing::Http(http)) = done.frontend("shop/web", 80, None).map(|f| &f.routing) else { panic!() };
    assert_eq!(http.matches.len(), 2, "groups are merged, and what is no pattern matches nothing");
}

#[test]
fn a_split_whose_groups_are_not_there_splits_nothing() {
    let spec = BOTH.replace("]}", "], matches: [{kind: HTTPRouteGroup, name: gone}]}");
    let done = shop().object("TrafficSplit", "shop/s", 1, &spec).compile();
    assert_eq!(done.routing("shop/web", 80, None), "plain");
    assert!(
        done.findings(Kind::TrafficSplit, "shop/s").contains(&(Reason::NotFound, "spec.matches[0].name"))
    );
}

#[test]
fn without_any_weight_the_apex_answers_itself() {
    let done = shop()
        .object("TrafficSplit", "shop/s", 1, "{service: web, backends: [{service: v1, weight: 0}]}")
        .compile();
    assert_eq!(done.routing("shop/web", 80, None), "plain");
    let findings = done.findings(Kind::TrafficSplit, "shop/s");
    assert_eq!(findings, [(Reason::InvalidValue, "spec.backends"); 2], "one for each port");
}

#[test]
fn an_apex_may_be_its_own_backend() {
    let done = shop()
        .object(
            "TrafficSplit",
            "shop/s",
            1,
            "{service: web, backends: [{service: web, weight: 1}, {service: v1, weight: 1}]}",
        )
        .compile();
    assert_eq!(
        done.routing("shop/web", 80, None),
        "Request TrafficSplit shop/s: shop/web:80=1000,shop/v1:80=1000"
    );
    assert_eq!(done.findings(Kind::TrafficSplit, "shop/s"), []);
}

#[test]
fn a_backend_that_is_there_twice_has_both_weights() {
    let done = shop()
        .object(
            "TrafficSplit",
            "shop/s",
            1,
            "{service: web, backends: [{service: v1, weight: 1}, {service: v1, weight: 2}]}",
        )
        .compile();
    assert_eq!(done.routing("shop/web", 80, None), "Request TrafficSplit shop/s: shop/v1:80=3000");
}

#[test]
fn an_apex_that_cannot_be_split_is_told_of() {
    let headless = Service { kind: ServiceKind::Headless, ports: clustered(&[80]).ports };
    let of = |service: Option<Service>| {
        let done = shop()
            .with(Change::Service(name("shop/web"), service))
            .object("TrafficSplit", "shop/s", 1, BOTH)
            .compile();
        assert_eq!(done.routing("shop/web", 80, None), "none");
        done.findings(Kind::TrafficSplit, "shop/s").into_iter().map(|(reason, _)| reason).collect::<Vec<_>>()
    };
    assert_eq!(of(None), [Reason::NotFound]);
    assert_eq!(of(Some(headless)), [Reason::Ignored]);
    assert_eq!(of(Some(Service { kind: ServiceKind::ExternalName, ports: Vec::new() })), [Reason::Ignored]);
}
