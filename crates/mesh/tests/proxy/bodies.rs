//! Bodies in all framings, and what is refused.

use crate::backend::{Backend, header, ok};
use crate::harness::{Harness, answer};
use crate::models::*;

/// Answers with what it was sent, in the framing it was sent in.
fn echo() -> Backend {
    Backend::new(|_, mut wire| {
        while let Some(head) = wire.head() {
            if header(&head, "transfer-encoding").is_some() {
                let mut all = Vec::new();
                while !all.ends_with(b"0\r\n\r\n") {
                    all.extend(wire.exactly(1));
                }
                wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                wire.send(all);
            } else {
                let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
                let body = wire.exactly(length);
                wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
                wire.send(body);
            }
        }
    })
}

#[test]
fn bodies_of_any_length_pass_both_ways() {
    let web = echo();
    let mesh = Harness::new(plain(&[web.address]));
    let mut wire = mesh.connect();
    for length in [0_usize, 1, 1000, 20_000, 65_535, 65_536, 100_000, 5_000_000] {
        let body: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        wire.send(format!("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: {length}\r\n\r\n"));
        wire.send(&body);
        let head = wire.head().unwrap();
        assert_eq!(header(&head, "content-length"), Some(length.to_string().as_str()));
        assert!(wire.exactly(length) == body, "{length}");
    }
    for chunks in [0_usize, 1, 100] {
        let chunk = format!("2710;x=y\r\n{}\r\n", "c".repeat(10_000));
        let body = format!("{}0\r\n\r\n", chunk.repeat(chunks));
        wire.send("POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n");
        wire.send(&body);
        assert_eq!(header(&wire.head().unwrap(), "transfer-encoding"), Some("chunked"));
        assert!(wire.exactly(body.len()) == body.as_bytes());
    }
    assert_eq!(web.connections(), 1, "one connection is enough for one client");
}

#[test]
fn a_client_of_http_1_0_gets_no_chunks() {
    let web = Backend::answering(|_| {
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nA: b\r\n\r\n"
            .into()
    });
    let mesh = Harness::new(plain(&[web.address]));
    let mut wire = mesh.connect();
    wire.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let all = String::from_utf8(wire.rest().unwrap()).unwrap();
    assert_eq!(all, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabcde");
    assert_eq!(web.heads(), ["GET / HTTP/1.1\r\nhost: 10.96.0.1:80\r\n\r\n"]);
}

#[test]
fn a_body_that_ends_with_the_connection_is_passed_on() {
    let web = Backend::new(|_, mut wire| {
        wire.head();
        wire.send("HTTP/1.1 200 OK\r\n\r\n");
        wire.send("x".repeat(100_000));
    });
    let mesh = Harness::new(plain(&[web.address]));
    let mut wire = mesh.connect();
    wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n");
    assert_eq!(header(&wire.head().unwrap(), "connection"), Some("close"));
    assert_eq!(wire.rest().unwrap().len(), 100_000);
}

#[test]
fn a_body_that_is_cut_off_is_no_whole_one() {
    let web = Backend::new(|_, mut wire| {
        wire.head();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
    });
    let mesh = Harness::new(plain(&[web.address]));
    let mut wire = mesh.connect();
    wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n");
    assert!(wire.head().is_some());
    assert!(wire.rest().is_err(), "the client learns of it by a reset");
}

#[test]
fn requests_behind_each_other_are_answered_in_order() {
    let web = Backend::answering(|head| ok(head.split(' ').nth(1).unwrap()));
    let mesh = Harness::new(plain(&[web.address]));
    let mut wire = mesh.connect();
    let all: String = (0..50).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: web\r\n\r\n")).collect();
    wire.send(all);
    for n in 0..50 {
        assert_eq!(answer(&mut wire).2, format!("/{n}"));
    }
}

#[test]
fn what_is_wrong_is_answered_and_reaches_nobody() {
    let web = Backend::saying("never");
    let mesh = Harness::new(plain(&[web.address]));
    let large = format!("GET / HTTP/1.1\r\nHost: web\r\nA: {}\r\n\r\n", "b".repeat(70_000));
    let many = format!("GET / HTTP/1.1\r\nHost: web\r\n{}\r\n", "A: b\r\n".repeat(200));
    for (text, status) in [
        (
            "GET / HTTP/1.1\r\nHost: web\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: web\n\n", 400),
        ("GET / HTTP/3.0\r\nHost: web\r\n\r\n", 505),
        // HTTP/2, where the Service says `http`.
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", 505),
        ("GET /\\..\\a HTTP/1.1\r\nHost: web\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
        (&large, 431),
        (&many, 431),
    ] {
        let mut wire = mesh.connect();
        wire.send(text);
        // What comes behind is no request any more.
        let rest = wire.rest().unwrap();
        let rest = String::from_utf8_lossy(&rest);
        assert!(rest.starts_with(&format!("HTTP/1.1 {status} ")), "{text:.60}: {rest}");
        assert!(rest.contains("connection: close\r\n") && rest.contains("is refused: "), "{rest}");
    }
    assert_eq!(web.connections(), 0);
}

#[test]
fn a_chunk_that_breaks_the_rules_ends_the_request() {
    let web = echo();
    let mesh = Harness::new(plain(&[web.address]));
    let mut wire = mesh.connect();
    wire.send("POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    crate::harness::until("the backend is asked", || web.connections() == 1);
    wire.send("1\nb\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: web\r\n\r\n");
    let rest = String::from_utf8(wire.rest().unwrap()).unwrap();
    assert!(rest.starts_with("HTTP/1.1 400 ") && rest.matches("HTTP/1.1").count() == 1, "{rest}");
}

#[test]
fn an_answer_that_breaks_the_rules_is_a_502() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        "",
    ] {
        let web = Backend::new(move |_, mut wire| {
            wire.head();
            wire.send(text);
        });
        let mesh = Harness::new(plain(&[web.address]));
        let (status, _, body) = mesh.get("/");
        assert_eq!(status, 502, "{text}");
        assert!(body.contains(&web.address.to_string()), "{body}");
    }
}

#[test]
fn what_comes_behind_an_answer_is_nobodys_answer() {
    let web = Backend::answering(|_| format!("{}{}", ok("right"), ok("wrong")));
    let mesh = Harness::new(plain(&[web.address]));
    let mut wire = mesh.connect();
    for _ in 0..10 {
        wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n");
        assert_eq!(answer(&mut wire).2, "right");
    }
}

#[test]
fn a_client_that_waits_for_leave_gets_it() {
    let web = Backend::new(|_, mut wire| {
        while let Some(head) = wire.head() {
            assert_eq!(header(&head, "expect"), Some("100-continue"));
            if head.starts_with("PUT") {
                wire.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n");
                continue;
            }
            wire.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n");
            let body = String::from_utf8(wire.exactly(3)).unwrap();
            wire.send(ok(&body));
        }
    });
    let mesh = Harness::new(plain(&[web.address]));
    let mut wire = mesh.connect();
    wire.send("POST / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(wire.head().unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(wire.head().unwrap(), "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n");
    wire.send("abc");
    assert_eq!(answer(&mut wire).2, "abc");
    // Who gets none must not send a body that would be read as the next request.
    wire.send("PUT / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    let (status, head, _) = answer(&mut wire);
    assert_eq!((status, header(&head, "connection")), (417, Some("close")));
    assert_eq!(wire.rest().unwrap(), b"");
}
