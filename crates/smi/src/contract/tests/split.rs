//! TrafficSplit.

use super::super::split::TrafficSplit;
use super::super::{Object, Read, Reason};
use super::{object, told};

fn split(version: &str, spec: &str) -> (TrafficSplit, Read) {
    let read = object(&format!("split.smi-spec.io/{version}"), "TrafficSplit", &format!("spec: {spec}"));
    let Object::TrafficSplit(split) = &read.object else { panic!("{read:?}") };
    (split.clone(), read)
}

fn weights(split: &TrafficSplit) -> Vec<(&str, u64)> {
    split.backends.iter().map(|backend| (backend.service.as_str(), backend.weight)).collect()
}

#[test]
fn a_split_is_read_in_every_version() {
    for version in ["v1alpha4", "v1alpha3", "v1alpha2"] {
        let (split, read) = split(
            version,
            "{service: web, backends: [{service: v1, weight: 90}, {service: v2, weight: 10}]}",
        );
        assert_eq!(read.findings, [], "{version}");
        assert_eq!(split.service().expect("it has one").to_string(), "shop/web");
        assert_eq!(weights(&split), [("v1", 90_000), ("v2", 10_000)]);
        assert_eq!(split.matches, None);
    }
}

#[test]
fn v1alpha1_has_quantities_for_weights_which_are_taken_in_any_version() {
    for version in ["v1alpha1", "v1alpha4"] {
        let (split, read) = split(
            version,
            "{service: web, backends: [{service: v1, weight: 500m}, {service: v2, weight: '1'}, {service: v3, weight: 0.5}, {service: v4, weight: 2}]}",
        );
        assert_eq!(weights(&split), [("v1", 500), ("v2", 1000), ("v3", 500), ("v4", 2000)]);
        assert_eq!(
            told(&read),
            [
                ("spec.backends[0].weight", Reason::Tolerated),
                ("spec.backends[1].weight", Reason::Tolerated),
                ("spec.backends[2].weight", Reason::Tolerated),
            ]
        );
    }
}

#[test]
fn a_backend_that_is_wrong_is_left_out_alone() {
    let (split, read) = split(
        "v1alpha4",
        "{service: web, backends: [{service: v1, weight: -1}, {service: v2}, {weight: 1}, {service: v_3, weight: 1}, {service: v4, weight: much}, {service: v5, weight: [1]}, {service: ok, weight: 0}]}",
    );
    assert_eq!(weights(&split), [("ok", 0)]);
    assert_eq!(
        told(&read),
        [
            ("spec.backends[0].weight", Reason::InvalidValue),
            ("spec.backends[1].weight", Reason::Missing),
            ("spec.backends[2].service", Reason::Missing),
            ("spec.backends[3].service", Reason::InvalidValue),
            ("spec.backends[4].weight", Reason::InvalidValue),
            ("spec.backends[5].weight", Reason::InvalidValue),
        ]
    );
}

#[test]
fn a_service_may_be_named_as_clients_do() {
    for name in
        ["web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local", "web.shop.svc.cluster.local."]
    {
        let (split, read) =
            split("v1alpha4", &format!("{{service: {name}, backends: [{{service: a, weight: 1}}]}}"));
        assert_eq!((split.apex.as_deref(), read.findings.len()), (Some("web"), 0), "{name}");
    }
    for name in ["web.bank", "web.bank.svc.cluster.local", "web.shop.pod", "Web", "'*'"] {
        let (split, read) =
            split("v1alpha4", &format!("{{service: {name}, backends: [{{service: a, weight: 1}}]}}"));
        assert_eq!(split.apex, None, "{name}");
        assert_eq!(told(&read), [("spec.service", Reason::InvalidValue)]);
    }
}

#[test]
fn matches_are_groups_of_requests_and_never_all_by_mistake() {
    let of = |matches: &str| {
        let spec = format!("{{service: web, backends: [{{service: a, weight: 1}}], matches: {matches}}}");
        let (split, read) = split("v1alpha3", &spec);
        (
            split.matches.map(|groups| groups.into_iter().map(|(name, _)| name).collect::<Vec<_>>()),
            read.findings.len(),
        )
    };
    assert_eq!(
        of("[{kind: HTTPRouteGroup, name: a}, {kind: HTTPRouteGroup, name: b}]"),
        (Some(vec!["a".into(), "b".into()]), 0)
    );
    assert_eq!(of("[]"), (None, 0));
    assert_eq!(of("[{kind: TCPRoute, name: a}]"), (Some(vec![]), 1));
    assert_eq!(of("{}"), (Some(vec![]), 1));
}

#[test]
fn a_backend_that_is_there_twice_is_told_of() {
    let (split, read) =
        split("v1alpha4", "{service: web, backends: [{service: a, weight: 1}, {service: a, weight: 2}]}");
    assert_eq!(weights(&split), [("a", 1000), ("a", 2000)]);
    assert_eq!(told(&read), [("spec.backends[1].service", Reason::Tolerated)]);
}

#[test]
fn a_split_without_spec_does_nothing() {
    let read = object("split.smi-spec.io/v1alpha4", "TrafficSplit", "");
    assert_eq!(told(&read), [("spec", Reason::Missing)]);
}
