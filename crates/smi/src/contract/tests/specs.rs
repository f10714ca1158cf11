//! HTTPRouteGroup, TCPRoute and UDPRoute.

use super::super::http::{HttpMatch, PathMatch, TextMatch};
use super::super::specs::{HttpRouteGroup, Ports};
use super::super::{Object, Read, Reason};
use super::{object, told};
use crate::matching::Matcher;

fn group(version: &str, rest: &str) -> (HttpRouteGroup, Read) {
    let read = object(&format!("specs.smi-spec.io/{version}"), "HTTPRouteGroup", rest);
    let Object::HttpRouteGroup(group) = &read.object else { panic!("{read:?}") };
    (group.clone(), read)
}

fn one(rest: &str) -> (Option<HttpMatch>, Read) {
    let (group, read) = group("v1alpha4", &format!("spec: {{matches: [{{name: a, {rest}}}]}}"));
    (group.matches[0].requests.clone(), read)
}

#[test]
fn a_group_is_read_in_every_version() {
    let matches = "matches: [{name: metrics, pathRegex: /metrics, methods: [GET]}, {name: all}]";
    for version in ["v1alpha4", "v1alpha3"] {
        let (group, read) = group(version, &format!("spec: {{{matches}}}"));
        assert_eq!((group.matches.len(), read.findings.len()), (2, 0), "{version}");
    }
    for version in ["v1alpha2", "v1alpha1"] {
        let (group, read) = group(version, matches);
        assert_eq!((group.matches.len(), read.findings.len()), (2, 0), "{version}");
        let requests = group.matches[0].requests.clone().expect("it is right");
        assert_eq!(requests.path, PathMatch::Regex("^(?:/metrics)".into()));
        assert_eq!(requests.methods, ["GET"]);
        assert_eq!(group.matches[1].requests, Some(HttpMatch::default()));
    }
}

#[test]
fn matches_outside_spec_are_taken_in_new_versions_too() {
    let (group, read) = group("v1alpha4", "matches: [{name: a}]");
    assert_eq!(group.matches.len(), 1);
    assert_eq!(told(&read), [("matches", Reason::Tolerated)]);
}

#[test]
fn matches_inside_spec_count_where_there_are_both() {
    let (group, read) = group("v1alpha4", "matches: [{name: a}]\nspec: {matches: [{name: b}]}");
    assert_eq!(group.matches[0].name, "b");
    assert_eq!(told(&read), [("matches", Reason::Ignored)]);
}

#[test]
fn a_group_whose_matches_were_pruned_away_is_told_of() {
    let (group, read) = group("v1alpha4", "");
    assert_eq!(group.matches, []);
    assert_eq!(told(&read), [("spec.matches", Reason::Missing)]);
}

#[test]
fn headers_are_a_map_or_a_list_of_maps() {
    let (map, read) = one("headers: {X-B: '2', X-A: '1'}");
    assert_eq!(read.findings, []);
    let map = map.expect("it is right");
    assert_eq!(map.headers[0].name, "x-a");
    assert_eq!(map.headers[0].value, TextMatch::Regex("^(?:1)$".into()));
    for list in ["[{X-A: '1', X-B: '2'}]", "[{X-A: '1'}, {X-B: '2'}]"] {
        assert_eq!(one(&format!("headers: {list}")).0, Some(map.clone()), "{list}");
    }
}

#[test]
fn what_cannot_be_read_of_a_match_makes_it_match_nothing() {
    for wrong in [
        "pathRegex: '('",
        "pathRegex: '(?=a)'",
        "pathRegex: 7",
        "methods: GET",
        "methods: [BREW]",
        "methods: [7]",
        "headers: x",
        "headers: [x]",
        "headers: {x: 1}",
        "headers: {'a b': c}",
        "headers: {x: '['}",
        "headers: {':path': '/'}",
        "pathRegexp: /api",
        "pathRegex: /api, method: GET",
        "pathRegex: '(?x)/api #'",
        "headers: {x: '(?x)1 #'}",
    ] {
        let (requests, read) = one(wrong);
        assert_eq!(requests, None, "{wrong}");
        assert!(read.findings.iter().any(|finding| finding.reason == Reason::InvalidValue), "{wrong}");
    }
}

#[test]
fn a_pattern_is_checked_as_it_is_executed() {
    let (requests, read) = one(&format!("pathRegex: {}", "a".repeat(4094)));
    assert_eq!(requests, None, "with its anchors it is too long");
    assert_eq!(told(&read), [("spec.matches[0].pathRegex", Reason::InvalidValue)]);
    let (requests, _) = one(&format!("pathRegex: {}", "a".repeat(4090)));
    let requests = requests.expect("it fits");
    Matcher::new([&requests]).expect("what is read can be executed");
}

#[test]
fn methods_are_read_in_any_case_and_a_star_is_all() {
    let (requests, read) = one("methods: [get, POST]");
    assert_eq!(requests.expect("it is right").methods, ["GET", "POST"]);
    assert_eq!(told(&read), [("spec.matches[0].methods[0]", Reason::Tolerated)]);
    assert_eq!(one("methods: ['*']").0, Some(HttpMatch::default()));
    assert_eq!(one("methods: []").0, Some(HttpMatch::default()));
    assert_eq!(one("methods: [GET, BREW]").0.expect("one is right").methods, ["GET"]);
}

#[test]
fn what_people_write_for_any_path_needs_no_pattern() {
    for any in ["'.*'", "/", "'/.*'", "''"] {
        assert_eq!(one(&format!("pathRegex: {any}")).0, Some(HttpMatch::default()), "{any}");
    }
    let (requests, read) = one("pathRegex: '*'");
    assert_eq!(requests, Some(HttpMatch::default()));
    assert_eq!(told(&read), [("spec.matches[0].pathRegex", Reason::Tolerated)]);
}

#[test]
fn two_matches_with_one_name_are_both_kept() {
    let (group, read) =
        group("v1alpha4", "spec: {matches: [{name: a, pathRegex: /x}, {name: a}, {pathRegex: /y}]}");
    assert_eq!(group.matches.len(), 2);
    assert_eq!(
        told(&read),
        [("spec.matches[1].name", Reason::Tolerated), ("spec.matches[2].name", Reason::Missing)]
    );
}

#[test]
fn ports_are_read_in_every_version() {
    for (version, rest, wanted, findings) in [
        ("v1alpha4", "spec: {matches: {ports: [8080, 70, 70]}}", Ports::Listed(vec![70, 8080]), 0),
        ("v1alpha4", "spec: {matches: {ports: []}}", Ports::All, 0),
        ("v1alpha4", "spec: {matches: {name: x}}", Ports::All, 0),
        ("v1alpha4", "spec: {}", Ports::All, 1),
        ("v1alpha4", "", Ports::All, 1),
        ("v1alpha3", "", Ports::All, 0),
        ("v1alpha1", "", Ports::All, 0),
        ("v1alpha4", "spec: {matches: {ports: ['80']}}", Ports::Listed(vec![80]), 1),
        ("v1alpha4", "spec: {matches: {ports: [http, 0, 65536]}}", Ports::none(), 3),
        ("v1alpha4", "spec: {matches: {ports: 80}}", Ports::none(), 1),
        ("v1alpha4", "spec: {matches: 80}", Ports::none(), 1),
        ("v1alpha4", "spec: 7", Ports::none(), 1),
        ("v1alpha4", "spec: {ports: [80]}", Ports::none(), 1),
        ("v1alpha4", "spec: {matches: {port: 80}}", Ports::none(), 1),
        ("v1alpha4", "spec: {matches: {ports: [80]}, port: 81}", Ports::none(), 1),
        ("v1alpha1", "matches: {ports: [80]}", Ports::none(), 1),
    ] {
        for kind in ["TCPRoute", "UDPRoute"] {
            let read = object(&format!("specs.smi-spec.io/{version}"), kind, rest);
            let Object::Ports(route) = &read.object else { panic!("{read:?}") };
            assert_eq!(route.ports, wanted, "{rest}");
            assert_eq!(read.findings.len(), findings, "{rest}: {:?}", read.findings);
        }
    }
}

#[test]
fn sets_of_ports_are_cut() {
    let (a, b) = (Ports::Listed(vec![1, 2]), Ports::Listed(vec![2, 3]));
    assert_eq!(a.clone().and(&b), Ports::Listed(vec![2]));
    assert_eq!((a.clone().and(&Ports::All), Ports::All.and(&a)), (a.clone(), a.clone()));
    assert!(a.has(2) && !a.has(3) && Ports::All.has(3) && !Ports::none().has(3));
}

#[test]
fn a_field_without_a_name_or_with_a_long_one_is_told_of_in_few_words() {
    let long = "x".repeat(1000);
    let read = object("specs.smi-spec.io/v1alpha4", "TCPRoute", &format!("'': 1\n'{long}': 1"));
    let fields: Vec<_> = read.findings.iter().map(|one| one.field.as_str()).collect();
    assert_eq!(fields, ["\"\"", &format!("{}...", &long[..80])]);
}
