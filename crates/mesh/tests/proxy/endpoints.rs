//! Endpoints that fail, and what is tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mesh::proxy::Settings;
use smi::model::{Retry, Timeouts};

use crate::backend::{Backend, nobody, ok};
use crate::harness::{FRONTEND, Harness, answer, until};
use crate::models::*;

#[test]
fn another_endpoint_is_asked_where_one_is_not_there() {
    let web = Backend::saying("there");
    let mesh = Harness::new(plain(&[nobody(), web.address, nobody()]));
    let post = "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\n";
    let mut wire = mesh.connect();
    for _ in 0..20 {
        // The body comes later than the decision where to send it.
        wire.send(post);
        wire.send("abc");
        assert_eq!(answer(&mut wire).2, "there");
        wire = mesh.connect();
    }
    let counts = mesh.end();
    assert!(counts.retried > 0, "{counts:?}");
}

#[test]
fn nobody_there_is_a_503() {
    let gone = nobody();
    let mesh = Harness::new(plain(&[gone]));
    let (status, _, body) = mesh.get("/");
    assert_eq!(status, 503);
    assert!(body.contains(&format!("cannot connect to {gone}")), "{body}");
    assert_eq!(mesh.end().retried, 0, "who is not there is not there at once again");
    let mesh = Harness::new(plain(&[gone, nobody()]));
    assert_eq!(mesh.get("/").0, 503);
    assert_eq!(mesh.end().retried, 1);
}

#[test]
fn an_endpoint_of_two_services_keeps_its_connections_while_one_has_it() {
    let (shared, own) = (Backend::saying("shared"), Backend::saying("own"));
    let routing = || {
        let matches = vec![prefix("/b", 1), prefix("/a", 0)];
        routes(matches, vec![rule(vec![backend("a", 1)]), rule(vec![backend("b", 1)])])
    };
    let set = |b: &Backend| {
        let all = vec![
            frontend(routing(), Some("http")),
            endpoints("a", &[shared.address]),
            endpoints("b", &[b.address]),
        ];
        delta(all)
    };
    let mesh = Harness::new(set(&shared));
    assert_eq!(mesh.get("/a").2, "shared");
    mesh.swap(set(&own));
    until("b has its own", || mesh.get("/b").2 == "own");
    for _ in 0..3 {
        assert_eq!(mesh.get("/a").2, "shared");
    }
    mesh.swap(set(&shared));
    until("b shares again", || mesh.get("/b").2 == "shared");
    assert_eq!(mesh.get("/a").2, "shared");
    assert_eq!(mesh.end().connected, 2, "one to each");
    assert_eq!((shared.connections(), own.connections()), (1, 1));
}

#[test]
fn an_endpoint_that_goes_over_to_another_service_keeps_its_connections() {
    let (one, other) = (Backend::saying("one"), Backend::saying("other"));
    let routing = || {
        let matches = vec![prefix("/b", 1), prefix("/a", 0)];
        routes(matches, vec![rule(vec![backend("a", 1)]), rule(vec![backend("b", 1)])])
    };
    let set = |a: &Backend, b: &Backend| {
        let all = vec![
            frontend(routing(), Some("http")),
            endpoints("a", &[a.address]),
            endpoints("b", &[b.address]),
        ];
        delta(all)
    };
    let mesh = Harness::new(set(&one, &other));
    assert_eq!((mesh.get("/a").2, mesh.get("/b").2), ("one".into(), "other".into()));
    // Whichever of the two Services comes first, one of the endpoints goes to the one behind.
    mesh.swap(set(&other, &one));
    until("they have changed places", || mesh.get("/a").2 == "other");
    assert_eq!(mesh.get("/b").2, "one");
    assert_eq!(mesh.end().connected, 2, "one to each");
}

#[test]
fn an_endpoint_more_closes_no_connection() {
    let (old, new) = (Backend::saying("old"), Backend::saying("new"));
    let mesh = Harness::new(plain(&[old.address]));
    assert_eq!(mesh.get("/").2, "old");
    mesh.swap(plain(&[old.address, new.address]));
    until("the new one is asked", || mesh.get("/").2 == "new");
    mesh.swap(plain(&[old.address]));
    until("the new one is gone", || (0..20).all(|_| mesh.get("/").2 == "old"));
    assert_eq!(mesh.end().connected, 2);
}

#[test]
fn each_proxy_draws_its_own_numbers() {
    assert_ne!(Settings::default().seed, Settings::default().seed);
}

/// Answers the first request of each connection, and ends at the second.
fn ending() -> Backend {
    Backend::new(|number, mut wire| {
        wire.head();
        wire.send(ok(&number.to_string()));
        wire.head();
    })
}

#[test]
fn what_may_be_asked_twice_is_when_an_old_connection_ends() {
    let web = ending();
    let mesh = Harness::new(plain(&[web.address]));
    let mut wire = mesh.connect();
    for n in 0..5 {
        wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n");
        assert_eq!(answer(&mut wire).2, n.to_string());
    }
    let counts = mesh.end();
    assert_eq!((counts.stale, counts.retried, counts.connected), (4, 4, 5));
}

#[test]
fn what_may_not_be_asked_twice_is_not() {
    let web = ending();
    let mesh = Harness::new(plain(&[web.address]));
    let mut wire = mesh.connect();
    let mut post = || {
        wire.send("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n");
        answer(&mut wire)
    };
    assert_eq!(post().2, "0");
    assert_eq!(post().0, 502);
    assert_eq!(web.connections(), 1);
}

/// Answers 503 so many times, then 200.
fn failing(times: usize) -> (Backend, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let backend = Backend::answering(move |_| {
        if count.fetch_add(1, Ordering::SeqCst) < times {
            "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno".into()
        } else {
            ok("yes")
        }
    });
    (backend, asked)
}

#[test]
fn a_route_says_what_is_tried_again() {
    for (times, attempts, wanted) in [(2, 2, (200, 3)), (2, 1, (503, 2)), (1, 0, (503, 1))] {
        let (web, asked) = failing(times);
        let mut all = rule(vec![backend("web", 1)]);
        all.retry = Some(Retry { codes: vec![503], attempts, backoff_ms: Some(1) });
        let mesh = Harness::new(one(all, &[web.address]));
        // A body that came with its head is sent again with it.
        let (status, ..) = mesh.ask("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n");
        assert_eq!((status, asked.load(Ordering::SeqCst)), wanted);
    }
}

#[test]
fn retries_are_a_share_of_requests() {
    let (web, asked) = failing(usize::MAX);
    let mut all = rule(vec![backend("web", 1)]);
    all.retry = Some(Retry { codes: vec![503], attempts: 25, backoff_ms: None });
    let settings = Settings { retry_percent: 0, retry_least: 7, ..Settings::default() };
    let mesh = Harness::with(one(all, &[web.address]), settings, FRONTEND, None);
    let (status, _, body) = mesh.get("/");
    assert_eq!((status, body.as_str()), (503, "no"), "the last answer is the backend's");
    assert_eq!(asked.load(Ordering::SeqCst), 8);
    assert_eq!(mesh.end().retried, 7);
}

#[test]
fn an_answer_is_passed_on_where_there_is_no_time_for_another_try() {
    let (web, asked) = failing(usize::MAX);
    let route = |request_ms, backoff_ms| {
        let mut all = rule(vec![backend("web", 1)]);
        all.timeouts = Timeouts { request_ms, backend_ms: None };
        all.retry = Some(Retry { codes: vec![503], attempts: 5, backoff_ms: Some(backoff_ms) });
        one(all, &[web.address])
    };
    let settings = Settings { retry_percent: 0, retry_least: 1, ..Settings::default() };
    let mesh = Harness::with(route(Some(9_000), 1_000_000), settings, FRONTEND, None);
    let (status, _, body) = mesh.get("/");
    assert_eq!((status, body.as_str(), asked.load(Ordering::SeqCst)), (503, "no", 1));
    // What was charged for nothing would be missing now: there is one try more in all. The loop hears of the change before the connection.
    mesh.swap(route(None, 1));
    let (status, _, body) = mesh.get("/");
    assert_eq!((status, body.as_str(), asked.load(Ordering::SeqCst)), (503, "no", 3));
    assert_eq!(mesh.end().retried, 1);
}

#[test]
fn who_does_not_answer_in_time_is_not_waited_for() {
    // It answers at last only when it is let.
    let web = Backend::new(|_, mut wire| while wire.head().is_some() {});
    for (request_ms, backend_ms) in [(Some(50), None), (None, Some(50))] {
        let mut all = rule(vec![backend("web", 1)]);
        all.timeouts = Timeouts { request_ms, backend_ms };
        let mesh = Harness::new(one(all, &[web.address]));
        let (status, _, body) = mesh.get("/");
        assert_eq!(status, 504, "{body}");
        // Who waits for leave to send its body waits for the backend, too.
        let (status, _, body) =
            mesh.ask("POST / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
        assert_eq!(status, 504, "{body}");
    }
}

#[test]
fn a_slow_try_is_followed_by_another() {
    let web = Backend::new(|number, mut wire| {
        while wire.head().is_some() {
            if number > 0 {
                wire.send(ok("second"));
            }
        }
    });
    let mut all = rule(vec![backend("web", 1)]);
    all.timeouts = Timeouts { request_ms: None, backend_ms: Some(500) };
    all.retry = Some(Retry { codes: Vec::new(), attempts: 25, backoff_ms: None });
    let mesh = Harness::new(one(all, &[web.address]));
    assert_eq!(mesh.get("/").2, "second");
}

#[test]
fn who_only_fails_is_asked_no_more() {
    let (bad, asked) = failing(usize::MAX);
    let good = Backend::saying("good");
    let mut settings = Settings::default();
    settings.ejection.base = Duration::from_secs(10_000);
    settings.ejection.most = Duration::from_secs(10_000);
    let mesh = Harness::with(plain(&[bad.address, good.address]), settings, FRONTEND, None);
    let mut wire = mesh.connect();
    let mut failed = 0;
    for _ in 0..300 {
        wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n");
        failed += u32::from(answer(&mut wire).0 == 503);
    }
    assert!(failed <= settings.ejection.bad_answers && asked.load(Ordering::SeqCst) <= 5, "{failed}");
}

#[test]
fn connections_of_endpoints_that_are_gone_are_closed() {
    let gone = Arc::new(AtomicUsize::new(0));
    let count = gone.clone();
    let old = Backend::new(move |_, mut wire| {
        while wire.head().is_some() {
            wire.send(ok("old"));
        }
        count.fetch_add(1, Ordering::SeqCst);
    });
    let new = Backend::saying("new");
    let mesh = Harness::new(plain(&[old.address]));
    assert_eq!(mesh.get("/").2, "old");
    assert_eq!(gone.load(Ordering::SeqCst), 0);
    mesh.swap(plain(&[new.address]));
    until("it is closed", || gone.load(Ordering::SeqCst) == 1);
    assert_eq!(mesh.get("/").2, "new");
}
