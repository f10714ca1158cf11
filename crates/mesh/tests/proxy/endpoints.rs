//! Endpoints that fail, and what is tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mesh::proxy::Settings;
use smi::model::{Retry, Timeouts};

use crate::backend::{Backend, nobody, ok};
use crate::harness::{FRONTEND, Harness, answer, reset, until};
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
    assert_eq!(mesh.get("/").0, 503);
    assert_eq!(asked.load(Ordering::SeqCst), 8);
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
fn a_client_that_goes_takes_its_request_along() {
    let gone = Arc::new(AtomicUsize::new(0));
    let count = gone.clone();
    let web = Backend::new(move |_, mut wire| {
        wire.head();
        // The end of the connection, before any answer.
        wire.head();
        count.fetch_add(1, Ordering::SeqCst);
    });
    let mesh = Harness::new(plain(&[web.address]));
    let mut wire = mesh.connect();
    wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n");
    until("the backend is asked", || web.connections() == 1);
    reset(wire);
    until("the backend is left", || gone.load(Ordering::SeqCst) == 1);
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

#[test]
fn a_client_that_stops_in_its_body_is_not_waited_for() {
    // A short body is read, the rest of a long one passes unread.
    for length in [10, 10_000_000] {
        let gone = Arc::new(AtomicUsize::new(0));
        let count = gone.clone();
        let web = Backend::new(move |_, mut wire| {
            wire.head();
            let _cut_off = wire.rest();
            count.fetch_add(1, Ordering::SeqCst);
        });
        let settings = Settings { stall: Duration::from_millis(50), ..Settings::default() };
        let mesh = Harness::with(plain(&[web.address]), settings, FRONTEND, None);
        let mut wire = mesh.connect();
        wire.send(format!("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: {length}\r\n\r\nabc"));
        assert!(wire.rest().is_err(), "it is reset");
        until("the backend is left", || gone.load(Ordering::SeqCst) == 1);
    }
}

#[test]
fn a_client_that_takes_nothing_is_not_waited_for() {
    let gone = Arc::new(AtomicUsize::new(0));
    let count = gone.clone();
    let web = Backend::new(move |number, mut wire| {
        wire.head();
        // By length, which passes unread, and by chunks, which are read.
        let all = "x".repeat(0x40_0000);
        let sent = if number == 0 {
            wire.try_send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 100 * all.len()))
        } else {
            wire.try_send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        };
        let mut sent = sent;
        while sent {
            sent =
                if number == 0 { wire.try_send(&all) } else { wire.try_send(format!("400000\r\n{all}\r\n")) };
        }
        count.fetch_add(1, Ordering::SeqCst);
    });
    let settings = Settings { stall: Duration::from_millis(50), ..Settings::default() };
    let mesh = Harness::with(plain(&[web.address]), settings, FRONTEND, None);
    for n in 1..=2 {
        let mut wire = mesh.connect();
        wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n");
        until("the backend is left", || gone.load(Ordering::SeqCst) == n);
        drop(wire);
    }
}
