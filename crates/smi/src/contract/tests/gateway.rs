//! Routes of Gateway API.

use super::super::gateway::{Problem, Rank, Route};
use super::super::http::{Filter, HttpMatch, PathEdit, PathMatch, TextMatch};
use super::super::{Object, Read, Reason};
use super::{object, told};

fn route(kind: &str, spec: &str) -> (Route, Read) {
    let version = if kind == "HTTPRoute" { "v1" } else { "v1alpha2" };
    let read = object(&format!("gateway.networking.k8s.io/{version}"), kind, &format!("spec: {spec}"));
    let Object::Route(route) = &read.object else { panic!("{read:?}") };
    (route.clone(), read)
}

fn rule(kind: &str, rule: &str) -> super::super::gateway::Rule {
    route(kind, &format!("{{rules: [{{{rule}}}]}}")).0.rules[0].clone()
}

fn one(kind: &str, text: &str) -> (HttpMatch, Rank) {
    let rule = rule(kind, &format!("matches: [{text}]"));
    assert_eq!(rule.problem, None, "{text}");
    (rule.matches[0].requests.clone(), rule.matches[0].rank)
}

#[test]
fn only_services_are_parents_here() {
    let parents = "[{kind: Service, group: '', name: a}, {kind: Service, group: core, name: b, namespace: c, port: 80}, {name: gateway}, {kind: Service, name: not-core}]";
    let (route, read) = route("HTTPRoute", &format!("{{parentRefs: {parents}, hostnames: [a.example]}}"));
    let names: Vec<_> =
        route.parents.iter().map(|parent| (parent.service.to_string(), parent.port)).collect();
    assert_eq!(names, [("shop/a".into(), None), ("c/b".into(), Some(80))]);
    assert_eq!(route.parents[1].reference["namespace"], "c");
    assert_eq!(told(&read), [("spec.hostnames", Reason::Ignored)]);
    assert_eq!(route.hostnames, Vec::<String>::new());
}

#[test]
fn a_rule_without_matches_is_about_everything() {
    assert_eq!(rule("HTTPRoute", "backendRefs: []").matches[0].requests, HttpMatch::default());
    assert_eq!(route("GRPCRoute", "{}").0.rules[0].matches[0].requests, HttpMatch::default());
}

#[test]
fn all_kinds_of_matches_are_read() {
    assert_eq!(one("HTTPRoute", "{path: {type: Exact, value: /a}}").0.path, PathMatch::Exact("/a".into()));
    assert_eq!(one("HTTPRoute", "{path: {value: /a/}}").0.path, PathMatch::Prefix("/a".into()));
    assert_eq!(one("HTTPRoute", "{path: {value: /}}").0, HttpMatch::default());
    let pattern = one("HTTPRoute", "{path: {type: RegularExpression, value: '/a|/b'}}").0.path;
    assert_eq!(pattern, PathMatch::Regex("^(?:/a|/b)$".into()));
    let text = "{method: POST, headers: [{name: X-A, value: '1'}, {name: x-a, value: '2'}], queryParams: [{name: Q, type: RegularExpression, value: a+}]}";
    let (rest, _) = one("HTTPRoute", text);
    assert_eq!(rest.methods, ["POST"]);
    assert_eq!((rest.headers.len(), rest.headers[0].name.as_str()), (1, "x-a"), "the first of two counts");
    assert_eq!(rest.headers[0].value, TextMatch::Exact("1".into()));
    assert_eq!(rest.query[0].name, "Q");
    assert_eq!(rest.query[0].value, TextMatch::Regex("^(?:a+)$".into()));
}

#[test]
fn grpc_methods_are_paths() {
    for (text, wanted) in [
        ("{service: a.B, method: C}", PathMatch::Exact("/a.B/C".into())),
        ("{service: a.B}", PathMatch::Prefix("/a.B".into())),
        ("{method: C.D}", PathMatch::Regex(r"^(?:/[^/]+/C\.D)$".into())),
        ("{type: RegularExpression, service: 'a|b'}", PathMatch::Regex("^(?:/(?:a|b)/[^/]+)$".into())),
        ("{}", PathMatch::default()),
    ] {
        assert_eq!(one("GRPCRoute", &format!("{{method: {text}}}")).0.path, wanted, "{text}");
    }
}

#[test]
fn more_specific_matches_rank_higher() {
    let descending = |kind: &str, texts: &[&str]| {
        let ranks: Vec<_> = texts.iter().map(|text| one(kind, text).1).collect();
        assert!(ranks.windows(2).all(|pair| pair[0] > pair[1]), "{texts:?} {ranks:?}");
    };
    descending(
        "HTTPRoute",
        &[
            "{path: {type: Exact, value: /a}}",
            "{path: {type: RegularExpression, value: '/long.*'}}",
            "{path: {value: /abc}}",
            "{path: {value: /ab}, method: GET, headers: [{name: a, value: b}]}",
            "{path: {value: /ab}, method: GET}",
            "{path: {value: /ab}, headers: [{name: a, value: b}, {name: c, value: d}]}",
            "{path: {value: /ab}, headers: [{name: a, value: b}], queryParams: [{name: a, value: b}]}",
            "{path: {value: /ab}, headers: [{name: a, value: b}]}",
            "{path: {value: /ab}}",
            "{}",
        ],
    );
    descending(
        "GRPCRoute",
        &[
            "{method: {service: abc}}",
            "{method: {service: ab, method: c}}",
            "{method: {service: ab}, headers: [{name: a, value: b}]}",
            "{method: {service: ab}}",
            "{method: {method: cd}}",
            "{}",
        ],
    );
    let (a, b) = (one("HTTPRoute", "{path: {value: /ab}}").1, one("HTTPRoute", "{path: {value: /ab/}}").1);
    assert_eq!(a, b, "they match the same");
}

#[test]
fn a_match_that_cannot_be_read_drops_its_rule() {
    for text in [
        "{path: {type: Glob, value: /a}}",
        "{path: {value: a}}",
        "{path: {type: RegularExpression, value: '('}}",
        "{path: {type: RegularExpression, value: '(?x)/api #'}}",
        "{headers: [{name: 'a b', value: c}]}",
        "{headers: [{name: a}]}",
        "{headers: {a: b}}",
        "{queryParams: [{name: a, type: Prefix, value: c}]}",
        "{cookies: [a]}",
        "7",
    ] {
        let rule = rule("HTTPRoute", &format!("matches: [{{}}, {text}]"));
        let Some(Problem::Dropped(fault)) = &rule.problem else { panic!("{text}: {:?}", rule.problem) };
        assert_eq!(fault.reason, "UnsupportedValue");
        assert!(fault.message.starts_with("spec.rules[0].matches[1]"), "{}", fault.message);
    }
    let half = "a".repeat(2500);
    for text in [
        "{service: a/b}".to_owned(),
        format!("{{type: RegularExpression, service: {half}, method: {half}}}"),
        format!("{{method: {half}{half}}}"),
    ] {
        let rule = rule("GRPCRoute", &format!("matches: [{{method: {text}}}]"));
        assert!(matches!(rule.problem, Some(Problem::Dropped(_))), "{text}");
    }
}

#[test]
fn all_filters_are_read() {
    let text = "filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: a}], add: [{name: b, value: c}], remove: [X-D]}}
    - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: e, value: f}]}}
    - {type: URLRewrite, urlRewrite: {hostname: h.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /v2}}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: copy, port: 80}, percent: 5}}";
    let (route, read) =
        route("HTTPRoute", &format!("\n  rules:\n  - matches: [{{path: {{value: /v1}}}}]\n    {text}\n"));
    assert_eq!(read.findings, []);
    let rule = &route.rules[0];
    assert_eq!(rule.problem, None);
    let Filter::RequestHeaders(edit) = &rule.filters[0] else { panic!("{rule:?}") };
    assert_eq!((edit.set[0].0.as_str(), edit.remove[0].as_str()), ("x-a", "x-d"));
    let Filter::Rewrite(rewrite) = &rule.filters[2] else { panic!("{rule:?}") };
    assert_eq!(rewrite.path, Some(PathEdit::Prefix("/v2".into())));
    let Filter::Mirror(mirror) = &rule.filters[3] else { panic!("{rule:?}") };
    assert_eq!(
        (mirror.service.to_string(), mirror.numerator, mirror.denominator),
        ("shop/copy".into(), 5, 100)
    );
}

#[test]
fn a_redirect_has_its_statuses_and_302_for_default() {
    let redirect = |text: &str| {
        rule("HTTPRoute", &format!("filters: [{{type: RequestRedirect, requestRedirect: {text}}}]"))
    };
    let Filter::Redirect(found) = &redirect("{hostname: a.example}").filters[0] else { panic!() };
    assert_eq!((found.status, found.scheme.as_deref()), (302, None));
    for status in [301, 302, 303, 307, 308] {
        assert_eq!(redirect(&format!("{{scheme: https, port: 8443, statusCode: {status}}}")).problem, None);
    }
    for wrong in [
        "{statusCode: 200}",
        "{scheme: ftp}",
        "{port: 0}",
        "{hostname: 'a b'}",
        "{path: {type: ReplaceFullPath, replaceFullPath: '/a b'}}",
    ] {
        assert!(matches!(redirect(wrong).problem, Some(Problem::Answered(_))), "{wrong}");
    }
}

#[test]
fn a_filter_that_cannot_be_done_has_its_requests_answered_with_an_error() {
    for text in [
        "filters: [{type: ExtensionRef, extensionRef: {}}]",
        "filters: [{type: CORS, cors: {}}]",
        "filters: [{type: RequestHeaderModifier}]",
        "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: 'a b', value: c}]}}]",
        "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: \"b\\r\\nc: d\"}]}}]",
        "sessionPersistence: {}",
        "backendRefs: [{name: a, port: 80, weight: -1}]",
        "backendRefs: [{name: a, port: 80, filters: [{type: RequestRedirect, requestRedirect: {}}]}]",
        "matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]",
        "timeouts: {request: 1 s}",
        "timeouts: {request: 1s, backendRequest: 2s}",
        "retry: {attempts: -1}",
        "retry: {codes: [200]}",
    ] {
        let rule = rule("HTTPRoute", text);
        assert!(matches!(rule.problem, Some(Problem::Answered(_))), "{text}: {:?}", rule.problem);
    }
    let redirect = "filters: [{type: RequestRedirect, requestRedirect: {}}]";
    assert!(
        matches!(rule("GRPCRoute", redirect).problem, Some(Problem::Answered(_))),
        "gRPC has no redirects"
    );
}

#[test]
fn a_redirect_beside_a_rewrite_is_incompatible() {
    let rule = rule(
        "HTTPRoute",
        "filters: [{type: RequestRedirect, requestRedirect: {}}, {type: URLRewrite, urlRewrite: {hostname: a}}]",
    );
    assert_eq!(rule.problem.expect("it is wrong").fault().reason, "IncompatibleFilters");
}

#[test]
fn timeouts_and_retries_are_read() {
    let rule = rule(
        "HTTPRoute",
        "name: r, timeouts: {request: 10s, backendRequest: 0s}, retry: {attempts: 3, codes: [503, 500], backoff: 100ms}",
    );
    assert_eq!((rule.name.as_deref(), rule.problem), (Some("r"), None));
    assert_eq!((rule.timeouts.request_ms, rule.timeouts.backend_ms), (Some(10_000), None));
    let retry = rule.retry.expect("it has one");
    assert_eq!((retry.attempts, retry.codes, retry.backoff_ms), (3, vec![500, 503], Some(100)));
}

#[test]
fn more_retries_than_there_may_be_are_as_many_as_there_may_be() {
    let (route, read) = route("HTTPRoute", "{rules: [{retry: {attempts: 1000}}]}");
    assert_eq!(route.rules[0].problem, None);
    assert_eq!(route.rules[0].retry.as_ref().map(|retry| retry.attempts), Some(25));
    assert_eq!(told(&read), [("spec.rules[0].retry.attempts", Reason::Tolerated)]);
}

#[test]
fn rules_after_the_first_of_what_has_no_matches_are_dropped() {
    for kind in ["TLSRoute", "TCPRoute", "UDPRoute"] {
        let (route, _) = route(kind, "{rules: [{backendRefs: []}, {backendRefs: []}]}");
        assert_eq!(route.rules[0].problem, None);
        let Some(Problem::Dropped(fault)) = &route.rules[1].problem else { panic!("{route:?}") };
        assert!(fault.message.starts_with("spec.rules[1]: "), "{}", fault.message);
    }
    assert_eq!(route("HTTPRoute", "{rules: [{}, {}]}").0.rules[1].problem, None);
}

#[test]
fn backends_are_services_with_a_port() {
    let rule = rule(
        "TCPRoute",
        "backendRefs: [{name: a, port: 80}, {name: b, namespace: c, port: 81, weight: 0}, {kind: Bucket, group: x, name: d}, {name: e}]",
    );
    let found: Vec<_> = rule
        .backends
        .iter()
        .map(|backend| backend.to.as_ref().map(ToStringPair::to_string_pair).map_err(|fault| fault.reason))
        .collect();
    assert_eq!(
        found,
        [Ok("shop/a:80".into()), Ok("c/b:81".into()), Err("InvalidKind"), Err("BackendNotFound")]
    );
    assert_eq!(rule.backends.iter().map(|backend| backend.weight).collect::<Vec<_>>(), [1, 0, 1, 1]);
}

/// A Service and its port, for comparison.
trait ToStringPair {
    fn to_string_pair(&self) -> String;
}

impl ToStringPair for (super::super::Name, u16) {
    fn to_string_pair(&self) -> String {
        format!("{}:{}", self.0, self.1)
    }
}

#[test]
fn names_of_servers_are_a_tls_routes_alone() {
    let (route, read) = route(
        "TLSRoute",
        "{parentRefs: [{kind: Service, group: '', name: a}], hostnames: [A.Example], rules: []}",
    );
    assert_eq!(route.hostnames, ["a.example"]);
    assert_eq!(read.findings, []);
}
