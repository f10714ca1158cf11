//! What is compiled of changes is what is compiled of all at once.

use proptest::prelude::*;

use super::*;
use crate::compile::{MEMBER, MODE};
use crate::model::{Delta, Shared};

#[test]
fn a_change_is_told_once_with_what_it_changed() {
    let mut compiler = Compiler::new(Settings::default());
    for n in 0..20 {
        compiler.enter(Change::Service(name(&format!("shop/s{n}")), Some(clustered(&[80]))));
    }
    assert_eq!(compiler.compile().delta.set.len(), 40);
    let split = "{service: s1, backends: [{service: s2, weight: 1}]}";
    compiler.enter(spec_of("TrafficSplit", "shop/a", 1, split));
    let outcome = compiler.compile();
    let keys: Vec<String> = outcome.delta.set.iter().map(|shared| shared.key.to_string()).collect();
    assert_eq!((keys, outcome.delta.removed.len()), (vec!["frontend shop/s1:80/tcp".into()], 0));
    assert_eq!(outcome.reports.len(), 1);
    compiler.enter(spec_of("TrafficSplit", "shop/a", 1, split));
    let outcome = compiler.compile();
    assert!(outcome.delta.is_empty() && outcome.reports.is_empty(), "it is as it was");
    compiler.enter(Change::Service(name("shop/s2"), None));
    let outcome = compiler.compile();
    let keys: Vec<String> = outcome.delta.set.iter().map(|shared| shared.key.to_string()).collect();
    assert_eq!(keys, ["frontend shop/s1:80/tcp"], "who leads to it is looked at again");
    let gone: Vec<String> = outcome.delta.removed.iter().map(ToString::to_string).collect();
    assert_eq!(gone, ["frontend shop/s2:80/tcp", "endpoints shop/s2:80/tcp"]);
    assert_eq!(outcome.reports[0].1.as_ref().map(|report| report.findings.len()), Some(2));
    let id = Id { kind: Kind::TrafficSplit, name: name("shop/a") };
    compiler.enter(Change::Object(id.clone(), None));
    assert_eq!(compiler.compile().reports, [(id, None)]);
}

#[test]
fn a_delta_survives_being_sent_and_says_what_it_must() {
    let done = Cluster::default()
        .service("shop/web", &[80])
        .service("shop/v1", &[80])
        .object("TrafficSplit", "shop/s", 1, "{service: web, backends: [{service: v1, weight: 1}]}")
        .object("HTTPRouteGroup", "shop/g", 1, "{matches: [{name: a, pathRegex: /a, headers: {x: y}}]}")
        .object("TrafficTarget", "shop/t", 1, "{destination: {kind: ServiceAccount, name: a}, rules: [{kind: HTTPRouteGroup, name: g}], sources: []}")
        .with(Change::Pod(name("shop/p"), Some(pod("a", &[], [10, 0, 0, 1]))))
        .with(Change::Slice(name("shop/x"), Some(slice("web", 80, &[[10, 0, 0, 1]]))))
        .compile();
    let text = serde_json::to_string(&done.model.whole()).expect("it can be written");
    let mut model = Model::default();
    model.apply(serde_json::from_str(&text).expect("it is read again"));
    assert_eq!(model, done.model);
    let wrong = text.replace("\"frontend\":{\"service\"", "\"endpoints\":{\"service\"");
    assert!(serde_json::from_str::<Delta>(&wrong).is_err(), "an entry under a key of another kind");
}

#[test]
fn a_rule_that_is_not_there_is_refused_when_it_is_told() {
    let key = r#"{"frontend":{"service":"a/b","port":80,"transport":"tcp"}}"#;
    let http = r#"{"http":{"matches":[{"requests":{},"rule":1}],"rules":[],"unmatched":"apex"}}"#;
    let text = format!(r#"{{"key":{key},"entry":{{"frontend":{{"addresses":[],"routing":{http}}}}}}}"#);
    let error = serde_json::from_str::<Shared>(&text).expect_err("it has no rules").to_string();
    assert!(error.contains("frontend a/b:80/tcp"), "{error}");
}

/// One of a small world's things, as it is in one of its states.
fn change(kind: u8, which: u8, state: u8) -> Change {
    let at = |prefix: &str| {
        format!("{}/{prefix}{}", if which.is_multiple_of(2) { "one" } else { "two" }, which % 3)
    };
    let (parent, backend) = (format!("s{}", state % 3), format!("s{}", (state + 1) % 3));
    let gone = state % 4 == 3;
    let made = |id: (Kind, String), spec: (&str, String)| {
        let change = spec_of(spec.0, &id.1, state % 28 + 1, &spec.1);
        if gone { Change::Object(Id { kind: id.0, name: name(&id.1) }, None) } else { change }
    };
    let parents = format!(
        "parentRefs: [{{group: '', kind: Service, name: {parent}, namespace: one}}, {{group: '', kind: Service, name: {backend}, namespace: two, port: 80}}]"
    );
    let routed = format!("{{{parents}, rules: [{{backendRefs: [{{name: {backend}, port: 80}}]}}]}}");
    let subject = match state % 5 {
        0 => "{kind: IdentityBinding, name: b0, namespace: one}",
        1 => "{kind: IdentityBinding, name: b1, namespace: two}",
        _ => "{kind: ServiceAccount, name: a1}",
    };
    match kind % 12 {
        0 => {
            let ports: &[u16] = if state.is_multiple_of(2) { &[80] } else { &[80, 81] };
            let mut service = clustered(ports);
            if state.is_multiple_of(5) {
                service.kind = ServiceKind::Headless;
            }
            Change::Service(name(&at("s")), (!gone).then_some(service))
        }
        1 => Change::Slice(name(&at("e")), (!gone).then(|| slice(&parent, 80, &[[10, 0, state, 1]]))),
        2 => {
            let labels: &[(&str, &str)] =
                if state.is_multiple_of(2) { &[("app", "x"), (MEMBER, "true")] } else { &[] };
            Change::Pod(
                name(&at("p")),
                (!gone).then(|| pod(&format!("a{}", state % 2), labels, [10, 1, state, 1])),
            )
        }
        3 => {
            let labels: &[(&str, &str)] =
                if state.is_multiple_of(2) { &[(MEMBER, "true")] } else { &[(MODE, "strict")] };
            let labels = labels.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            Change::Namespace(
                if which.is_multiple_of(2) { "one".into() } else { "two".into() },
                (!gone).then_some(labels),
            )
        }
        4 => made((Kind::HttpRoute, at("r")), ("HTTPRoute", routed)),
        5 => made((Kind::GrpcRoute, at("r")), ("GRPCRoute", routed)),
        6 => made((Kind::TcpRoute, at("r")), ("TCPRoute", routed)),
        7 => {
            let matches =
                if state.is_multiple_of(2) { "" } else { ", matches: [{kind: HTTPRouteGroup, name: g0}]" };
            let spec = format!(
                "{{service: {parent}, backends: [{{service: {backend}, weight: {state}}}]{matches}}}"
            );
            made((Kind::TrafficSplit, at("t")), ("TrafficSplit", spec))
        }
        8 => made(
            (Kind::HttpRouteGroup, at("g")),
            ("HTTPRouteGroup", format!("{{matches: [{{name: m, pathRegex: /{state}}}]}}")),
        ),
        9 => made(
            (Kind::TcpPorts, at("c")),
            ("smi-TCPRoute", format!("{{matches: {{ports: [{}]}}}}", state + 1)),
        ),
        10 => {
            let spec = format!(
                "{{destination: {{kind: ServiceAccount, name: a{}}}, rules: [{{kind: HTTPRouteGroup, name: g0}}, {{kind: TCPRoute, name: c0}}], sources: [{subject}]}}",
                state % 2
            );
            let spec = if state.is_multiple_of(7) {
                spec.replace("{kind: ServiceAccount, name: a0}", "{kind: IdentityBinding, name: b0}")
            } else {
                spec
            };
            made((Kind::TrafficTarget, at("x")), ("TrafficTarget", spec))
        }
        _ => {
            let scheme = if state.is_multiple_of(2) {
                "podLabelSelector: {matchLabels: {app: x}}"
            } else {
                "serviceAccount: a0"
            };
            made((Kind::IdentityBinding, at("b")), ("IdentityBinding", format!("{{schemes: {{{scheme}}}}}")))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn compiling_changes_is_compiling_what_they_come_to(
        changes in prop::collection::vec((0..12_u8, 0..6_u8, 0..40_u8, any::<bool>()), 1..60),
        turn in 0..60_usize,
    ) {
        let mut compiler = Compiler::new(Settings::default());
        let (mut told, mut reports) = (Model::default(), BTreeMap::new());
        let mut take = |compiler: &mut Compiler| {
            let outcome = compiler.compile();
            told.apply(outcome.delta);
            for (id, report) in outcome.reports {
                match report {
                    Some(report) => reports.insert(id, report),
                    None => reports.remove(&id),
                };
            }
        };
        let all: Vec<Change> = changes.iter().map(|(kind, which, state, _)| change(*kind, *which, *state)).collect();
        for (change, (.., compile)) in all.iter().zip(&changes) {
            compiler.enter(change.clone());
            if *compile {
                take(&mut compiler);
            }
        }
        take(&mut compiler);
        // Of each thing its last state alone, in another order.
        let mut last = BTreeMap::new();
        for change in all {
            last.insert(key(&change), change);
        }
        let mut last: Vec<Change> = last.into_values().collect();
        let turn = turn % last.len();
        last.rotate_left(turn);
        let (model, wanted) = compile(Settings::default(), last);
        prop_assert_eq!(&model, compiler.model());
        prop_assert_eq!(&wanted, compiler.reports());
        prop_assert_eq!(&told, &model, "what was told comes to the model");
        prop_assert_eq!(&reports, &wanted);
    }
}

fn key(change: &Change) -> String {
    match change {
        Change::Service(name, _) => format!("service {name}"),
        Change::Slice(name, _) => format!("slice {name}"),
        Change::Pod(name, _) => format!("pod {name}"),
        Change::Namespace(name, _) => format!("namespace {name}"),
        Change::Object(id, _) => format!("{:?} {id}", id.kind),
    }
}
