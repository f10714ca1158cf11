//! What is passed on unread, and how connections begin and end.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mesh::proxy::Settings;
use smi::model::*;

use crate::backend::{Backend, header, ok};
use crate::harness::{FRONTEND, Harness, answer, reset, until};
use crate::models::*;

/// Says what it hears, and its own name first.
fn shouting(name: &'static str) -> Backend {
    Backend::new(move |_, mut wire| {
        wire.send(name);
        let all = wire.rest().unwrap();
        wire.send(all);
    })
}

#[test]
fn a_server_that_speaks_first_is_heard_at_once() {
    let web = shouting("220 ready\r\n");
    for protocol in [None, Some("tcp")] {
        let mesh =
            Harness::new(delta(vec![frontend(Routing::Plain, protocol), endpoints("web", &[web.address])]));
        let mut wire = mesh.connect();
        assert_eq!(wire.exactly(11), b"220 ready\r\n");
        let sent = vec![b'x'; 3 << 20];
        let mut stream = wire.stream().try_clone().unwrap();
        let copied = sent.clone();
        let sender = std::thread::spawn(move || {
            use std::io::Write as _;
            stream.write_all(&copied).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        assert!(wire.rest().unwrap() == sent, "half an end is passed on as half an end");
        sender.join().unwrap();
        assert_eq!(mesh.end().unread, 1);
    }
}

#[test]
fn what_is_no_http_goes_to_the_services_own_endpoints() {
    let (web, other) = (shouting(""), Backend::saying("other"));
    let routing = routes(vec![prefix("", 0)], vec![rule(vec![backend("other", 1)])]);
    let all = || {
        vec![
            frontend(routing.clone(), None),
            endpoints("web", &[web.address]),
            endpoints("other", &[other.address]),
        ]
    };
    let mesh = Harness::new(delta(all()));
    let mut wire = mesh.connect();
    wire.send("get key\r\n");
    wire.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(wire.rest().unwrap(), b"get key\r\n");
    // A head in pieces is one all the same.
    let mut wire = mesh.connect();
    for piece in ["G", "ET", " ", "/", " HTTP/1.1\r\nHost: web\r\n", "\r\n"] {
        wire.send(piece);
        std::thread::yield_now();
    }
    assert_eq!(answer(&mut wire).2, "other");
    // Pieces that are not enough to say, and the end.
    let mut wire = mesh.connect();
    wire.send("GE");
    wire.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(wire.rest().unwrap(), b"GE");
}

#[test]
fn http_2_passes_where_nobody_must_read_it() {
    let web = shouting("");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for protocol in [None, Some("kubernetes.io/h2c"), Some("grpc")] {
        let mesh =
            Harness::new(delta(vec![frontend(Routing::Plain, protocol), endpoints("web", &[web.address])]));
        let mut wire = mesh.connect();
        wire.send(preface);
        wire.stream().shutdown(Shutdown::Write).unwrap();
        assert_eq!(wire.rest().unwrap(), preface);
    }
}

#[test]
fn connections_are_shared_by_weight() {
    let (a, b) = (shouting("a"), shouting("b"));
    let weighted =
        Weighted { each: Each::Connection, from: origin(), backends: vec![backend("a", 1), backend("b", 3)] };
    let all = vec![
        frontend(Routing::Weighted(weighted), None),
        endpoints("a", &[a.address]),
        endpoints("b", &[b.address]),
    ];
    let mesh = Harness::new(delta(all));
    let heard = (0..200).filter(|_| mesh.connect().exactly(1) == b"b").count();
    assert!((125..175).contains(&heard), "{heard}: 150 are meant, four standard deviations are 25");
}

#[test]
fn a_split_of_requests_takes_connections_of_anything_else() {
    let b = shouting("");
    let weighted = Weighted { each: Each::Request, from: origin(), backends: vec![backend("b", 1)] };
    let mesh =
        Harness::new(delta(vec![frontend(Routing::Weighted(weighted), None), endpoints("b", &[b.address])]));
    let mut wire = mesh.connect();
    wire.send("hello");
    wire.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(wire.rest().unwrap(), b"hello");
}

#[test]
fn what_is_no_frontend_is_passed_on() {
    let elsewhere = shouting("elsewhere");
    let to = elsewhere.address.to_string();
    let mesh = Harness::with(Delta::default(), Settings::default(), &to, None);
    let mut wire = mesh.connect();
    assert_eq!(wire.exactly(9), b"elsewhere");
}

#[test]
fn routes_of_tls_are_refused_for_now() {
    let rules = vec![TlsRule { hostnames: Vec::new(), from: origin(), backends: vec![backend("web", 1)] }];
    let web = shouting("never");
    let mesh =
        Harness::new(delta(vec![frontend(Routing::Tls(rules), None), endpoints("web", &[web.address])]));
    assert!(mesh.connect().rest().is_err());
    assert_eq!(web.connections(), 0);
}

#[test]
fn a_websocket_passes() {
    let web = Backend::new(|_, mut wire| {
        let head = wire.head().unwrap();
        assert_eq!(header(&head, "upgrade"), Some("websocket"));
        assert_eq!(header(&head, "connection"), Some("upgrade"));
        wire.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst",
        );
        let heard = wire.exactly(11);
        wire.send(heard);
        let rest = wire.rest().unwrap();
        wire.send(rest);
    });
    let mesh = Harness::new(plain(&[web.address]));
    let mut wire = mesh.connect();
    // The client does not wait for the answer.
    wire.send("GET /ws HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello ");
    let head = wire.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!((header(&head, "upgrade"), header(&head, "connection")), (Some("websocket"), Some("upgrade")));
    wire.send("there");
    assert_eq!(wire.exactly(16), b"firsthello there");
    wire.send("more");
    wire.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(wire.rest().unwrap(), b"more");
    assert_eq!(mesh.end().unread, 1);
}

#[test]
fn an_upgrade_that_is_declined_is_an_answer() {
    let web = Backend::saying("plain");
    let mesh = Harness::new(plain(&[web.address]));
    let mut wire = mesh.connect();
    for _ in 0..2 {
        wire.send("GET /ws HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert_eq!(answer(&mut wire).2, "plain");
    }
}

#[test]
fn a_proxy_behind_the_mesh_is_asked_to_connect() {
    let web = Backend::new(|_, mut wire| {
        assert_eq!(wire.head().unwrap(), "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n");
        wire.send("HTTP/1.1 200 Fine\r\nContent-Length: 5\r\n\r\n");
        let rest = wire.rest().unwrap();
        wire.send(rest);
    });
    let mesh = Harness::new(plain(&[web.address]));
    let mut wire = mesh.connect();
    wire.send("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n");
    assert_eq!(wire.head().unwrap(), "HTTP/1.1 200 Fine\r\n\r\n");
    wire.send("anything");
    wire.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(wire.rest().unwrap(), b"anything");
}

#[test]
fn a_reset_is_passed_on() {
    let web = Backend::new(|_, mut wire| {
        wire.exactly(2);
        reset(wire);
    });
    let mesh =
        Harness::new(delta(vec![frontend(Routing::Plain, Some("tcp")), endpoints("web", &[web.address])]));
    let mut wire = mesh.connect();
    wire.send("go");
    assert!(wire.rest().is_err());
}

#[test]
fn a_drained_proxy_ends_connections_between_requests() {
    let web = Backend::answering(|_| ok("x"));
    let mesh = Harness::new(plain(&[web.address]));
    let mut idle = mesh.connect();
    idle.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n");
    assert_eq!(answer(&mut idle).2, "x");
    mesh.drain();
    assert_eq!(idle.rest().unwrap(), b"");
}

#[test]
fn a_head_that_never_ends_is_not_waited_for() {
    let web = Backend::saying("never");
    let settings = Settings { head: Duration::from_millis(50), ..Settings::default() };
    let mesh = Harness::with(plain(&[web.address]), settings, FRONTEND, None);
    let mut wire = mesh.connect();
    wire.send("GET / HT");
    let rest = String::from_utf8(wire.rest().unwrap()).unwrap();
    assert!(rest.starts_with("HTTP/1.1 408 "), "{rest}");
}

#[test]
fn who_speaks_first_need_not_wait_for_a_connection() {
    // The queue of this one is full, so that connections to it neither come about nor fail.
    let deaf =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&deaf, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&deaf, 0).unwrap();
    let address: std::net::SocketAddr = rustix::net::getsockname(&deaf).unwrap().try_into().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
        queued.push(stream);
    }
    let other = Backend::saying("other");
    let routing = routes(vec![prefix("", 0)], vec![rule(vec![backend("other", 1)])]);
    let set = delta(vec![
        frontend(routing, None),
        endpoints("web", &[address]),
        endpoints("other", &[other.address]),
    ]);
    let settings = Settings { connect: Duration::from_secs(10_000), ..Settings::default() };
    let mesh = Harness::with(set, settings, FRONTEND, None);
    let mut waiting = mesh.connect();
    // When this one is answered, the first has long been taken.
    assert_eq!(mesh.get("/").2, "other");
    waiting.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n");
    assert_eq!(answer(&mut waiting).2, "other");
}

#[test]
fn a_server_that_closes_has_not_spoken() {
    let left = Arc::new(AtomicBool::new(false));
    let told = left.clone();
    let web = Backend::new(move |number, mut wire| {
        if number == 0 {
            wire.stream().shutdown(Shutdown::Write).unwrap();
            let _nothing = wire.rest();
            return told.store(true, Ordering::SeqCst);
        }
        while wire.head().is_some() {
            wire.send(ok("http"));
        }
    });
    let mesh = Harness::new(delta(vec![frontend(Routing::Plain, None), endpoints("web", &[web.address])]));
    let mut wire = mesh.connect();
    until("the connection that was closed is left", || left.load(Ordering::SeqCst));
    wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n");
    assert_eq!(answer(&mut wire).2, "http");
    assert_eq!(mesh.end().unread, 0);
}

#[test]
fn a_connection_whose_frontend_is_no_longer_read_ends() {
    let web = Backend::saying("web");
    let mesh = Harness::new(plain(&[web.address]));
    let mut wire = mesh.connect();
    let mut ask = || {
        wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n");
        answer(&mut wire)
    };
    assert_eq!(ask().0, 200);
    let weighted = Weighted { each: Each::Connection, from: origin(), backends: vec![backend("web", 1)] };
    mesh.swap(delta(vec![frontend(Routing::Weighted(weighted), Some("http"))]));
    let mut last = (200, String::new(), String::new());
    until("the change holds", || {
        last = ask();
        last.0 != 200
    });
    let (status, head, body) = last;
    assert_eq!((status, header(&head, "connection")), (503, Some("close")), "{body}");
    assert!(body.contains("connect again"), "{body}");
    assert_eq!(wire.rest().unwrap(), b"");
    assert_eq!(mesh.get("/").2, "web", "the next connection is passed on unread");
    assert_eq!(mesh.end().unread, 1);
}

#[test]
fn a_connection_of_which_nobody_knows_whom_it_is_for_is_reset() {
    let web = Backend::saying("never");
    let mesh = Harness::with(plain(&[web.address]), Settings::default(), "nowhere", None);
    assert!(mesh.connect().rest().is_err());
    assert_eq!(mesh.end().connected, 0);
}
