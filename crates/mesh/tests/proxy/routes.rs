//! Where requests go, and what happens to them on the way.

use std::sync::atomic::{AtomicBool, Ordering};

use smi::model::*;

use crate::backend::{Backend, header};
use crate::harness::{FRONTEND, Harness, answer};
use crate::models::*;
use mesh::proxy::Settings;

fn edit(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> smi::contract::http::HeaderEdit {
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    smi::contract::http::HeaderEdit {
        set: pairs(set),
        add: pairs(add),
        remove: remove.iter().map(|name| (*name).to_owned()).collect(),
    }
}

#[test]
fn requests_go_where_their_rule_says() {
    let (a, b) = (Backend::saying("a"), Backend::saying("b"));
    let matches = vec![prefix("/b", 1), prefix("/a", 0)];
    let routing = routes(matches, vec![rule(vec![backend("a", 1)]), rule(vec![backend("b", 1)])]);
    let all = vec![frontend(routing, None), endpoints("a", &[a.address]), endpoints("b", &[b.address])];
    let mesh = Harness::new(delta(all));
    assert_eq!(mesh.get("/a/x").2, "a");
    assert_eq!(mesh.get("/b").2, "b");
    // What the backend will see is what is looked at, and it is told that.
    assert_eq!(mesh.get("/a/../%62?q=/a").2, "b");
    assert!(b.heads()[1].starts_with("GET /b?q=/a HTTP/1.1\r\n"), "{}", b.heads()[1]);
    assert_eq!(mesh.ask("GET http://other/b HTTP/1.1\r\nHost: web\r\n\r\n").2, "b");
    assert!(b.heads()[2].starts_with("GET /b HTTP/1.1\r\nhost: other\r\n\r\n"), "{}", b.heads()[2]);
    let (status, _, body) = mesh.get("/c");
    assert_eq!((status, body.contains("shop/web:80")), (404, true), "{body}");
    // A connection goes on after an answer of ours.
    let mut wire = mesh.connect();
    wire.send("GET /c HTTP/1.1\r\nHost: web\r\n\r\nHEAD /c HTTP/1.1\r\nHost: web\r\n\r\n");
    assert_eq!(answer(&mut wire).0, 404);
    assert!(wire.head().unwrap().starts_with("HTTP/1.1 404"));
    wire.send("GET /a HTTP/1.1\r\nHost: web\r\n\r\n");
    assert_eq!(answer(&mut wire).2, "a");
    let counts = mesh.end();
    assert_eq!((counts.requests, counts.answered), (8, 3));
}

#[test]
fn headers_paths_and_hosts_are_changed() {
    let web =
        Backend::answering(|_| "HTTP/1.1 200 OK\r\nServer: x\r\nVia: y\r\nContent-Length: 0\r\n\r\n".into());
    let path = Some(smi::contract::http::PathEdit::Prefix("/v2".into()));
    let mut all = rule(vec![backend("web", 1)]);
    all.filters = vec![
        Filter::RequestHeaders(edit(&[("x-a", "1")], &[("x-b", "2")], &["user-agent"])),
        Filter::ResponseHeaders(edit(&[("server", "mesh")], &[("x-c", "3")], &["via"])),
        Filter::Rewrite(smi::contract::http::Rewrite { hostname: Some("inner".into()), path }),
    ];
    all.backends[0].filters = vec![Filter::RequestHeaders(edit(&[("x-b", "4")], &[], &[]))];
    let routing = routes(vec![prefix("/v1", 0)], vec![all]);
    let mesh = Harness::new(delta(vec![frontend(routing, Some("http")), endpoints("web", &[web.address])]));
    let text = "GET /v1/a?b=/v1 HTTP/1.1\r\nHost: web\r\nUser-Agent: u\r\nX-A: 0\r\nConnection: x-d\r\nX-D: 5\r\n\r\n";
    let (status, head, _) = mesh.ask(text);
    assert_eq!(status, 200);
    assert_eq!(web.heads(), ["GET /v2/a?b=/v1 HTTP/1.1\r\nhost: inner\r\nx-a: 1\r\nx-b: 4\r\n\r\n"]);
    assert_eq!(head, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nserver: mesh\r\nx-c: 3\r\n\r\n");
    mesh.get("/v1");
    assert!(web.heads()[1].starts_with("GET /v2 HTTP/1.1\r\n"));
}

#[test]
fn redirects_are_answered() {
    let redirect = |scheme: Option<&str>, hostname: Option<&str>, path, port, status| {
        let mut one = rule(Vec::new());
        let (scheme, hostname) = (scheme.map(str::to_owned), hostname.map(str::to_owned));
        one.filters =
            vec![Filter::Redirect(smi::contract::http::Redirect { scheme, hostname, path, port, status })];
        one
    };
    let full = Some(smi::contract::http::PathEdit::Full("/new".into()));
    let matches = vec![prefix("/a", 0), prefix("/b", 1), prefix("/c", 2)];
    let rules = vec![
        redirect(None, Some("other"), None, None, 302),
        redirect(Some("https"), None, full, None, 301),
        redirect(None, None, None, Some(8080), 307),
    ];
    let mesh = Harness::new(delta(vec![frontend(routes(matches, rules), None)]));
    for (path, status, location) in [
        ("/a/x?y", 302, "http://other/a/x?y"),
        ("/b?y", 301, "https://web/new?y"),
        ("/c", 307, "http://web:8080/c"),
    ] {
        let (found, head, _) = mesh.get(path);
        assert_eq!((found, header(&head, "location")), (status, Some(location)));
    }
}

#[test]
fn shares_are_as_their_weights() {
    let (a, b) = (Backend::saying("a"), Backend::saying("b"));
    let set = |weight| {
        let all = rule(vec![backend("a", 90), backend("b", weight), backend("gone", 0)]);
        let routing = routes(vec![prefix("", 0)], vec![all]);
        delta(vec![
            frontend(routing, Some("http")),
            endpoints("a", &[a.address]),
            endpoints("b", &[b.address]),
        ])
    };
    let mesh = Harness::new(set(10));
    let mut wire = mesh.connect();
    for _ in 0..1000 {
        wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n");
        assert_eq!(answer(&mut wire).0, 200);
    }
    // The draws are the same each time: 100 are meant, 30 is three standard deviations.
    let found = b.heads().len();
    assert!((70..130).contains(&found), "{found}");
    assert_eq!(a.heads().len() + found, 1000);
}

#[test]
fn what_cannot_be_done_is_answered() {
    let mut framed = rule(vec![backend("web", 1)]);
    framed.filters = vec![Filter::RequestHeaders(edit(&[("content-length", "7")], &[], &[]))];
    let failing = rule(vec![smi::model::Backend { to: To::Fail(500), weight: 1, filters: Vec::new() }]);
    let matches = vec![prefix("/frame", 0), prefix("/fail", 1), prefix("/none", 2), prefix("", 3)];
    let rules = vec![framed, failing, rule(Vec::new()), rule(vec![backend("empty", 1)])];
    let web = Backend::saying("never");
    let mesh = Harness::new(delta(vec![
        frontend(routes(matches, rules), Some("http")),
        endpoints("web", &[web.address]),
    ]));
    for (path, status) in [("/frame", 500), ("/fail", 500), ("/none", 500), ("/", 503)] {
        let (found, _, body) = mesh.get(path);
        assert_eq!(found, status, "{path}: {body}");
    }
    assert_eq!(web.connections(), 0);
}

#[test]
fn a_namespace_has_its_own_frontend() {
    let (all, theirs) = (Backend::saying("all"), Backend::saying("theirs"));
    let set = || {
        let routing = routes(vec![prefix("", 0)], vec![rule(vec![backend("theirs", 1)])]);
        delta(vec![
            consumer(routing, None, Some("tests")),
            frontend(Routing::Plain, None),
            endpoints("web", &[all.address]),
            endpoints("theirs", &[theirs.address]),
        ])
    };
    for (namespace, wanted) in [(Some("tests"), "theirs"), (Some("other"), "all"), (None, "all")] {
        let mesh = Harness::with(set(), Settings::default(), FRONTEND, namespace);
        assert_eq!(mesh.get("/").2, wanted);
    }
}

#[test]
fn a_change_holds_from_the_next_request_on() {
    let (a, b) = (Backend::saying("a"), Backend::saying("b"));
    let mesh = Harness::new(plain(&[a.address]));
    let mut wire = mesh.connect();
    let mut ask = |path: &str| {
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: web\r\n\r\n"));
        answer(&mut wire)
    };
    assert_eq!(ask("/").2, "a");
    mesh.swap(plain(&[b.address]));
    // The loop takes it with its next turn; nothing fails meanwhile.
    crate::harness::until("b answers", || mesh.get("/").2 == "b");
    assert_eq!(ask("/").2, "b");
    mesh.swap(one(rule(vec![smi::model::Backend { to: To::Fail(500), ..backend("web", 1) }]), &[b.address]));
    crate::harness::until("the route holds", || mesh.get("/").0 == 500);
    assert_eq!(ask("/").0, 500);
    let removed = Delta { set: Vec::new(), removed: vec![frontend(Routing::Plain, None).key] };
    mesh.swap(removed);
    let mut status = 500;
    crate::harness::until("the frontend is gone", || {
        status = ask("/").0;
        status != 500
    });
    assert_eq!(status, 503);
}

#[test]
fn changes_under_load_fail_no_request() {
    let (a, b) = (Backend::saying("a"), Backend::saying("b"));
    let mesh = Harness::new(plain(&[a.address]));
    let ended = AtomicBool::new(false);
    let asked: usize = std::thread::scope(|scope| {
        let client = || {
            let (mut wire, mut asked) = (mesh.connect(), 0);
            while !ended.load(Ordering::SeqCst) {
                wire.send("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\nabc");
                assert_eq!(answer(&mut wire).0, 200);
                asked += 1;
            }
            asked
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
        for round in 0..200 {
            let to = if round % 2 == 0 { &b } else { &a };
            let before = to.heads().len();
            // Each change is seen before the next, as a route and as a Service without one.
            let set = if round % 3 == 0 {
                one(rule(vec![backend("web", 1)]), &[to.address])
            } else {
                plain(&[to.address])
            };
            mesh.swap(set);
            crate::harness::until("the other is asked", || {
                to.heads().len() > before || clients.iter().any(|c| c.is_finished())
            });
        }
        ended.store(true, Ordering::SeqCst);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert!(asked >= 200, "{asked}");
    assert_eq!(a.heads().len() + b.heads().len(), asked, "each request reached somebody once");
}
