//! Clients that leave, or rest.

use std::io::Read as _;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mesh::proxy::Settings;
use smi::model::{Retry, Timeouts};

use crate::backend::{Backend, Wire, header, ok};
use crate::harness::{FRONTEND, Harness, NARROW, answer, reset, until};
use crate::models::*;

#[test]
fn a_client_that_goes_takes_its_request_along() {
    // With and without a body that comes later; a reset is seen at once, an end after a rest.
    for (late, resets) in [(false, true), (false, false), (true, true), (true, false)] {
        let gone = Arc::new(AtomicUsize::new(0));
        let count = gone.clone();
        let web = Backend::new(move |_, mut wire| {
            wire.head();
            // To the end of the connection, without any answer.
            let _body = wire.rest();
            count.fetch_add(1, Ordering::SeqCst);
        });
        let stall = if resets { Settings::default().stall } else { Duration::from_millis(200) };
        let settings = Settings { stall, ..Settings::default() };
        let mesh = Harness::with(plain(&[web.address]), settings, FRONTEND, None);
        let mut wire = mesh.connect();
        if late {
            wire.send("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\n");
        } else {
            wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n");
        }
        until("the backend is asked", || web.connections() == 1);
        if late {
            wire.send("abc");
        }
        let kept = if resets {
            reset(wire);
            None
        } else {
            wire.stream().shutdown(Shutdown::Write).unwrap();
            Some(wire)
        };
        until("the backend is left", || gone.load(Ordering::SeqCst) == 1);
        drop(kept);
    }
}

/// Never again within a test.
fn for_good() -> Settings {
    let mut settings = Settings::default();
    settings.ejection.base = Duration::from_secs(10_000);
    settings.ejection.most = Duration::from_secs(10_000);
    settings
}

/// Both answer by their names, so neither is left out.
fn both_are_asked(mesh: &Harness) {
    let mut seen = [false; 2];
    until("both are asked", || {
        match mesh.get("/").2.as_str() {
            "one" => seen[0] = true,
            "other" => seen[1] = true,
            said => panic!("{said}"),
        }
        seen == [true, true]
    });
}

#[test]
fn a_download_that_the_client_cuts_off_is_not_the_endpoints_failure() {
    const CLIENTS: usize = 12;
    let left = Arc::new(AtomicUsize::new(0));
    let serving = |name: &'static str| {
        let left = left.clone();
        Backend::new(move |_, mut wire| {
            while let Some(head) = wire.head() {
                if !head.starts_with("GET /big ") {
                    wire.send(ok(name));
                    continue;
                }
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
                let piece = [b'x'; 100_000];
                let sent = (0..1000).all(|_| wire.try_send(piece));
                assert!(!sent, "it is cut off");
                left.fetch_add(1, Ordering::SeqCst);
                return;
            }
        })
    };
    let (one, other) = (serving("one"), serving("other"));
    let mesh = Harness::with(plain(&[one.address, other.address]), for_good(), FRONTEND, None);
    let begun: Vec<Wire> = (0..CLIENTS)
        .map(|_| {
            let mut wire = mesh.connect();
            wire.send("GET /big HTTP/1.1\r\nHost: web\r\n\r\n");
            assert!(wire.head().is_some());
            wire
        })
        .collect();
    // All have begun before the first is cut off, so nothing goes well in between.
    begun.into_iter().for_each(reset);
    until("all are cut off", || left.load(Ordering::SeqCst) == CLIENTS);
    both_are_asked(&mesh);
}

#[test]
fn a_request_that_comes_slowly_is_not_the_endpoints_failure() {
    let answering = |name: &'static str| {
        Backend::new(move |_, mut wire| {
            while let Some(head) = wire.head() {
                if head.starts_with("POST ") {
                    let _part = wire.rest();
                    return;
                }
                wire.send(ok(name));
            }
        })
    };
    let (one, other) = (answering("one"), answering("other"));
    let mut settings = for_good();
    settings.ejection.bad_answers = 2;
    // On a machine that is slow enough the time is over before what there is was sent, and that is the endpoint's doing.
    for backend_ms in [50, 500, 5_000, 50_000] {
        let mut all = rule(vec![backend("web", 1)]);
        all.timeouts = Timeouts { request_ms: None, backend_ms: Some(backend_ms) };
        all.retry = Some(Retry { codes: Vec::new(), attempts: 2, backoff_ms: None });
        let routing =
            routes(vec![prefix("/slow", 0), prefix("", 1)], vec![all, rule(vec![backend("web", 1)])]);
        let set =
            delta(vec![frontend(routing, Some("http")), endpoints("web", &[one.address, other.address])]);
        let mesh = Harness::with(set, settings, FRONTEND, None);
        let mut wires: Vec<Wire> = (0..8).map(|_| mesh.connect()).collect();
        let part = "POST /slow HTTP/1.1\r\nHost: web\r\nContent-Length: 10\r\n\r\nabc";
        wires.iter_mut().for_each(|wire| wire.send(part));
        let answers: Vec<_> = wires.iter_mut().map(answer).collect();
        if answers.iter().any(|(status, ..)| *status == 504) {
            continue;
        }
        for ((status, head, body), wire) in answers.iter().zip(&mut wires) {
            assert_eq!((*status, header(head, "connection")), (408, Some("close")), "{body}");
            assert_eq!(wire.rest().unwrap(), b"");
        }
        both_are_asked(&mesh);
        assert_eq!(mesh.end().retried, 0);
        return;
    }
    panic!("each time somebody was answered 504");
}

#[test]
fn a_client_that_takes_no_answer_of_ours_is_not_waited_for() {
    let routing = routes(Vec::new(), Vec::new());
    let settings = Settings { stall: Duration::from_millis(50), ..Settings::default() };
    let mesh = Harness::with(delta(vec![frontend(routing, Some("http"))]), settings, FRONTEND, None);
    let mut wire = mesh.connect();
    let many = "GET / HTTP/1.1\r\nHost: web\r\n\r\n".repeat(1000);
    let error = loop {
        if let Err(e) = wire.sent(&many) {
            break e.kind();
        }
    };
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    assert!(matches!(error, BrokenPipe | ConnectionReset), "{error:?}");
}

#[test]
fn nothing_is_sent_in_the_middle_of_what_comes_before_an_answer() {
    const HINTS: usize = 16;
    let hint = || format!("HTTP/1.1 103 Early Hints\r\nA: {}\r\n\r\n", "b".repeat(60_000));
    let all_of_them = hint().repeat(HINTS).into_bytes();
    // On a machine that is slow enough the time is over before the first hint, or between two: then there is an answer.
    for request_ms in [200, 2_000, 20_000] {
        let gone = Arc::new(AtomicUsize::new(0));
        let count = gone.clone();
        let web = Backend::new(move |_, mut wire| {
            wire.head();
            let _all = (0..HINTS).all(|_| wire.try_send(hint()));
            let _nothing = wire.rest();
            count.fetch_add(1, Ordering::SeqCst);
        });
        let mut all = rule(vec![backend("web", 1)]);
        all.timeouts = Timeouts { request_ms: Some(request_ms), backend_ms: None };
        let set = one(all, &[web.address]);
        let mesh = Harness::with(set, Settings::default(), FRONTEND, Some(NARROW));
        let mut wire = mesh.connect();
        wire.send("GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n");
        until("the backend is left", || gone.load(Ordering::SeqCst) == 1);
        let mut bytes = Vec::new();
        // The end, or a reset behind what had come.
        let _end = wire.reader.read_to_end(&mut bytes);
        let length = hint().len();
        let whole = bytes.chunks(length).take_while(|chunk| *chunk == hint().as_bytes()).count();
        if bytes[whole * length..].starts_with(b"HTTP/1.1 504 ") {
            continue;
        }
        // What did not fit is cut, and that is its end.
        assert!(!bytes.is_empty() && all_of_them.starts_with(&bytes), "{} bytes, {whole} hints", bytes.len());
        return;
    }
    panic!("each time there was an answer");
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
fn an_endpoint_that_stops_in_its_answer_is_not_waited_for() {
    // A short body is read, the rest of a long one passes unread; a chunk is read, too, with what is around it.
    for begun in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b",
        "HTTP/1.1 200 OK\r\nContent-Le",
    ] {
        let gone = Arc::new(AtomicUsize::new(0));
        let count = gone.clone();
        let web = Backend::new(move |_, mut wire| {
            wire.head();
            wire.send(begun);
            let _nothing = wire.rest();
            count.fetch_add(1, Ordering::SeqCst);
        });
        let settings = Settings { stall: Duration::from_millis(50), ..Settings::default() };
        let mesh = Harness::with(plain(&[web.address]), settings, FRONTEND, None);
        let mut wire = mesh.connect();
        wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n");
        if begun.contains("\r\n\r\n") {
            assert!(wire.head().unwrap().starts_with("HTTP/1.1 200 "), "{begun}");
            assert!(wire.rest().is_err(), "it is reset: {begun}");
        } else {
            let (status, _, body) = answer(&mut wire);
            assert_eq!(status, 502, "{body}");
        }
        until("the backend is left", || gone.load(Ordering::SeqCst) == 1);
    }
}

#[test]
fn an_answer_without_a_length_may_rest() {
    const STALL: Duration = Duration::from_millis(50);
    for (head, first, second) in [
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "3\r\nabc\r\n", "3\r\ndef\r\n0\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\n\r\n", "abc", "def"),
    ] {
        let web = Backend::new(move |_, mut wire| {
            wire.head();
            std::thread::sleep(10 * STALL);
            // Each piece is within one segment.
            for piece in [head, first, second] {
                wire.send(piece);
                std::thread::sleep(10 * STALL);
            }
        });
        let settings = Settings { stall: STALL, ..Settings::default() };
        let mesh = Harness::with(plain(&[web.address]), settings, FRONTEND, None);
        let mut wire = mesh.connect();
        wire.send("GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n");
        assert!(wire.head().unwrap().starts_with("HTTP/1.1 200 "));
        assert_eq!(String::from_utf8(wire.rest().unwrap()).unwrap(), format!("{first}{second}"));
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

#[test]
fn an_endpoint_that_takes_nothing_has_not_answered() {
    // By length, which passes unread, and by chunks, which are read.
    for framing in ["Content-Length: 50000000", "Transfer-Encoding: chunked"] {
        let ended = Arc::new(AtomicUsize::new(0));
        let told = ended.clone();
        let web = Backend::new(move |_, mut wire| {
            wire.head();
            until("the client has its answer", || told.load(Ordering::SeqCst) == 1);
        });
        let settings = Settings { stall: Duration::from_millis(100), ..Settings::default() };
        let mesh = Harness::with(plain(&[web.address]), settings, FRONTEND, None);
        let mut wire = mesh.connect();
        wire.send(format!("POST / HTTP/1.1\r\nHost: web\r\n{framing}\r\n\r\n"));
        let piece = format!("f4240\r\n{}\r\n", "x".repeat(1_000_000));
        // Until it is seen that nobody takes it.
        let all = (0..50).all(|_| wire.try_send(&piece));
        assert!(!all);
        let (status, head, body) = answer(&mut wire);
        assert_eq!((status, header(&head, "connection")), (502, Some("close")), "{body}");
        ended.store(1, Ordering::SeqCst);
    }
}
