//! TrafficTarget and IdentityBinding.

use super::super::access::{IdentityBinding, Rule, Subject, TrafficTarget};
use super::super::specs::{Ports, Transport};
use super::super::{Name, Object, Read, Reason};
use super::{object, told};

fn target(version: &str, rest: &str) -> (TrafficTarget, Read) {
    let read = object(&format!("access.smi-spec.io/{version}"), "TrafficTarget", rest);
    let Object::TrafficTarget(target) = &read.object else { panic!("{read:?}") };
    (target.clone(), read)
}

fn binding(rest: &str) -> (IdentityBinding, Read) {
    let read = object("access.smi-spec.io/v1alpha4", "IdentityBinding", rest);
    let Object::IdentityBinding(binding) = &read.object else { panic!("{read:?}") };
    (binding.clone(), read)
}

const PARTS: &str = "
  destination: {kind: ServiceAccount, name: api, namespace: shop}
  rules:
  - {kind: TCPRoute, name: ports}
  - {kind: HTTPRouteGroup, name: paths, matches: [health]}
  sources:
  - {kind: ServiceAccount, name: web}
  - {kind: ServiceAccount, name: prometheus, namespace: monitoring}
";

#[test]
fn a_traffic_target_is_read_in_every_version() {
    for version in ["v1alpha4", "v1alpha3", "v1alpha2"] {
        let (target, read) = target(version, &format!("spec:\n{PARTS}"));
        assert_eq!(read.findings, [], "{version}");
        let account = |namespace, name| Subject::ServiceAccount(Name::new(namespace, name));
        assert_eq!(target.destination, Some(account("shop", "api")));
        assert_eq!(target.sources, [account("shop", "web"), account("monitoring", "prometheus")]);
        let ports =
            Rule::Ports { transport: Transport::Tcp, route: "ports".into(), field: "spec.rules[0]".into() };
        let http = Rule::Http {
            group: "paths".into(),
            matches: Some(vec!["health".into()]),
            field: "spec.rules[1]".into(),
        };
        assert_eq!(target.rules, [ports, http]);
    }
}

#[test]
fn v1alpha1_has_it_all_at_the_top_and_calls_rules_specs() {
    let top = PARTS.replace("\n  ", "\n").replace("rules:", "specs:");
    let (old, _) = target("v1alpha1", &top);
    let (new, _) = target("v1alpha3", &format!("spec:\n{PARTS}"));
    assert_eq!((&old.destination, &old.sources), (&new.destination, &new.sources));
    assert_eq!(old.rules.len(), 2);
}

#[test]
fn a_port_of_the_destination_is_obeyed_though_it_was_taken_out() {
    for port in ["9091", "\"9091\""] {
        let spec = PARTS.replace("namespace: shop}", &format!("namespace: shop, port: {port}}}"));
        let (target, read) = target("v1alpha2", &format!("spec:\n{spec}"));
        assert_eq!(target.ports, Ports::Listed(vec![9091]));
        assert_eq!(told(&read)[0], ("spec.destination.port", Reason::Tolerated));
    }
    for port in ["http", "0", "70000", "[80]"] {
        let spec = PARTS.replace("namespace: shop}", &format!("namespace: shop, port: {port}}}"));
        let (target, read) = target("v1alpha2", &format!("spec:\n{spec}"));
        assert_eq!(target.ports, Ports::none(), "a port that is none allows none");
        assert!(target.destination.is_some(), "and the destination stays closed");
        assert!(told(&read).contains(&("spec.destination.port", Reason::InvalidValue)), "{port}");
    }
}

#[test]
fn an_object_without_spec_says_nothing() {
    let (target, read) = target("v1alpha3", "");
    assert_eq!((target.destination, target.rules.len()), (None, 0));
    assert_eq!(told(&read), [("spec", Reason::Missing)]);
}

#[test]
fn a_destination_in_another_namespace_is_refused() {
    let (target, read) =
        target("v1alpha3", &format!("spec:\n{}", PARTS.replace("namespace: shop", "namespace: bank")));
    assert_eq!(target.destination, None);
    assert_eq!(told(&read), [("spec.destination.namespace", Reason::InvalidValue)]);
    assert!(read.findings[0].advice.contains("shop"));
}

#[test]
fn a_destination_without_namespace_is_in_the_objects_own() {
    let (target, _) = target("v1alpha3", &format!("spec:\n{}", PARTS.replace(", namespace: shop", "")));
    assert_eq!(target.destination, Some(Subject::ServiceAccount(Name::new("shop", "api"))));
}

#[test]
fn nobody_and_nothing_is_told_of() {
    let (_, read) = target("v1alpha3", "spec: {destination: {kind: ServiceAccount, name: api}, rules: []}");
    assert_eq!(told(&read), [("spec.rules", Reason::Missing), ("spec.sources", Reason::Missing)]);
}

#[test]
fn sources_and_rules_that_mean_nothing_are_left_out_alone() {
    let spec = "spec:
  destination: {kind: ServiceAccount, name: api}
  rules: [{kind: GRPCRoute, name: a}, {kind: UDPRoute, name: dns, matches: [x]}, 7]
  sources: [{kind: Group, name: a}, {kind: ServiceAccount}, {kind: ServiceAccount, name: a, namespace: B}, {kind: ServiceAccount, name: web}]
";
    let (target, read) = target("v1alpha3", spec);
    let nothing = Rule::Nothing { transport: None };
    assert!(matches!(&target.rules[..], [a, Rule::Ports { .. }, b] if *a == nothing && *b == nothing));
    assert_eq!(target.sources, [Subject::ServiceAccount(Name::new("shop", "web"))]);
    assert_eq!(
        told(&read),
        [
            ("spec.rules[0].kind", Reason::InvalidValue),
            ("spec.rules[1].matches", Reason::Ignored),
            ("spec.rules[2]", Reason::InvalidValue),
            ("spec.sources[0].kind", Reason::InvalidValue),
            ("spec.sources[1].name", Reason::Missing),
            ("spec.sources[2].namespace", Reason::InvalidValue),
        ]
    );
}

#[test]
fn names_of_matches_that_are_none_do_not_mean_all() {
    let of = |matches: &str| {
        let spec = format!(
            "spec: {{destination: {{kind: ServiceAccount, name: a}}, rules: [{{kind: HTTPRouteGroup, name: g, matches: {matches}}}]}}"
        );
        let (target, _) = target("v1alpha3", &spec);
        let Rule::Http { matches, .. } = &target.rules[0] else { panic!("{target:?}") };
        matches.clone()
    };
    assert_eq!(of("null"), None);
    assert_eq!(of("[]"), None);
    assert_eq!(of("[1]"), Some(vec![]));
    assert_eq!(of("name"), Some(vec![]));
}

#[test]
fn a_rule_with_a_field_that_is_not_known_allows_nothing() {
    for (text, transport) in [
        ("{kind: HTTPRouteGroup, name: g, match: [health]}", None),
        ("{kind: HTTPRouteGroup, name: g, matches: [health], port: 80}", None),
        ("{kind: HTTPRouteGroup, matches: [health]}", None),
        ("{kind: TCPRoute, name: g, ports: [80]}", Some(Transport::Tcp)),
        ("{kind: UDPRoute, name: G}", Some(Transport::Udp)),
        ("{name: g}", None),
    ] {
        let spec = format!("spec: {{destination: {{kind: ServiceAccount, name: a}}, rules: [{text}]}}");
        let (target, read) = target("v1alpha3", &spec);
        assert_eq!(target.rules, [Rule::Nothing { transport }], "{text}");
        assert!(told(&read)[0].0.starts_with("spec.rules[0]."), "{:?}", read.findings);
        assert_ne!(told(&read)[0].1, Reason::Ignored);
    }
}

#[test]
fn a_source_or_destination_with_a_field_that_is_not_known_lets_nobody_in() {
    let (read_target, read) = target(
        "v1alpha3",
        "spec: {destination: {kind: ServiceAccount, name: a, ports: [80]}, rules: [{kind: TCPRoute, name: all}], \
         sources: [{kind: ServiceAccount, name: b, namespce: bank}, {kind: ServiceAccount, name: c}]}",
    );
    assert_eq!(read_target.sources, [Subject::ServiceAccount(Name::new("shop", "c"))]);
    assert_eq!(read_target.ports, Ports::none());
    assert!(read_target.destination.is_some(), "it stays closed");
    assert_eq!(
        told(&read),
        [
            ("spec.destination.ports", Reason::InvalidValue),
            ("spec.sources[0].namespce", Reason::InvalidValue)
        ]
    );
}

#[test]
fn the_drafts_kind_is_known_as_source_and_destination() {
    let spec = "spec:
  destination: {kind: IdentityBinding, group: access.smi-spec.io, name: api}
  rules: [{kind: TCPRoute, name: a}]
  sources: [{kind: IdentityBinding, group: access.smi-spec.io, name: web, namespace: front}]
";
    let (target, read) = target("v1alpha4", spec);
    assert_eq!(read.findings, []);
    assert_eq!(target.destination, Some(Subject::IdentityBinding(Name::new("shop", "api"))));
    assert_eq!(target.sources, [Subject::IdentityBinding(Name::new("front", "web"))]);
}

#[test]
fn an_identity_binding_has_three_schemes() {
    let (bound, read) = binding(
        "spec: {schemes: {serviceAccount: web, spiffeIdentities: [\"spiffe://other.org/ns/a/sa/b\"]}}",
    );
    assert_eq!(read.findings, []);
    assert_eq!(bound.service_account.as_deref(), Some("web"));
    assert_eq!(bound.spiffe, ["spiffe://other.org/ns/a/sa/b"]);
    let (bound, _) = binding("spec: {schemes: {podLabelSelector: {matchLabels: {app: web}}}}");
    assert_eq!(bound.pod_labels.expect("it has labels")["app"], "web");
}

#[test]
fn labels_and_a_service_account_exclude_each_other() {
    let (bound, read) =
        binding("spec: {schemes: {serviceAccount: web, podLabelSelector: {matchLabels: {app: web}}}}");
    assert_eq!((bound.service_account.as_deref(), bound.pod_labels), (Some("web"), None));
    assert_eq!(told(&read), [("spec.schemes.podLabelSelector", Reason::Conflicted)]);
}

#[test]
fn a_selector_that_is_not_understood_selects_nobody() {
    for selector in [
        "{}",
        "{matchLabels: {}}",
        "{matchLabels: {app: 1}}",
        "{matchLabels: {a: b}, matchExpressions: []}",
        "{matchLabels: {a: b}, matchLables: {c: d}}",
    ] {
        let (bound, read) = binding(&format!("spec: {{schemes: {{podLabelSelector: {selector}}}}}"));
        assert_eq!(bound.pod_labels, None, "{selector}");
        assert!(!read.findings.is_empty(), "{selector}");
    }
}

#[test]
fn spiffe_identities_are_checked() {
    for bad in [
        "web",
        "spiffe://",
        "spiffe://a",
        "spiffe://a/",
        "spiffe://A/b",
        "spiffe://a/b/../c",
        "spiffe://a/b?c",
        "http://a/b",
        "/ns/a",
        "cluster.local",
    ] {
        let (bound, read) = binding(&format!("spec: {{schemes: {{spiffeIdentities: [\"{bad}\"]}}}}"));
        assert_eq!(bound.spiffe, Vec::<String>::new(), "{bad}");
        assert_eq!(told(&read)[0], ("spec.schemes.spiffeIdentities[0]", Reason::InvalidValue));
    }
}

#[test]
fn a_spiffe_identity_without_its_scheme_is_taken_as_the_drafts_example_has_it() {
    let (bound, read) = binding("spec: {schemes: {spiffeIdentities: [cluster.local/ns/shop/sa/web]}}");
    assert_eq!(bound.spiffe, ["spiffe://cluster.local/ns/shop/sa/web"]);
    assert_eq!(told(&read), [("spec.schemes.spiffeIdentities[0]", Reason::Tolerated)]);
}
