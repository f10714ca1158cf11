//! Copies of requests, whose answers nobody gets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh::proxy::Settings;
use mesh::telemetry::{Copied, Unmirrored};
use smi::contract::http::{HeaderEdit, Mirror};
use smi::model::*;

use crate::backend::{Backend, header, nobody, ok};
use crate::harness::{FRONTEND, Harness, PATIENCE, answer, reset, until};
use crate::http2_peer::{Got, Peer, answering, headers};
use crate::models::*;

/// Requests as they came.
type Kept = Arc<Mutex<Vec<Vec<u8>>>>;

type Pairs<'p> = &'p [(&'p str, &'p str)];

fn mirror(service: &str, numerator: u32, denominator: u32) -> Filter {
    Filter::Mirror(Mirror { service: name(service), port: 80, numerator, denominator })
}

/// A route of one rule for all requests to `web`, of which others get copies.
fn copying(filters: Vec<Filter>, protocol: &str, others: Vec<Shared>, web: &Backend) -> Delta {
    let all = HttpRule { filters, ..rule(vec![backend("web", 1)]) };
    let routing = routes(vec![prefix("", 0)], vec![all]);
    let mut set = vec![frontend(routing, Some(protocol)), endpoints("web", &[web.address])];
    set.extend(others);
    delta(set)
}

/// What became of all copies.
fn copied(mesh: &Harness) -> Copied {
    let mut all = Copied::default();
    mesh.look().mirrored.iter().for_each(|mirrored| all.merge(&mirrored.copied));
    all
}

fn lost(mesh: &Harness, why: Unmirrored) -> u64 {
    copied(mesh).lost[why.place()]
}

/// Answers each request, and keeps its head with its body as it came.
fn keeping(status: &'static str) -> (Backend, Kept) {
    let kept = Kept::default();
    let keeps = kept.clone();
    let backend = Backend::new(move |_, mut wire| {
        while let Some(head) = wire.head() {
            let mut all = head.clone().into_bytes();
            if header(&head, "transfer-encoding").is_some() {
                while !all.ends_with(b"0\r\n\r\n") {
                    all.extend(wire.exactly(1));
                }
            } else {
                let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
                all.extend(wire.exactly(length));
            }
            keeps.lock().unwrap().push(all);
            wire.send(format!("HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\ngone"));
        }
    });
    (backend, kept)
}

/// Copies wait for each other as long as they like.
fn patient() -> Settings {
    Settings {
        mirror_queue: 64 << 20,
        mirror_queues: 256 << 20,
        mirror_behind: Duration::from_secs(3600),
        ..Settings::default()
    }
}

#[test]
fn who_is_mirrored_to_gets_what_the_backend_gets() {
    let ((web, asked), (copy, first)) = (keeping("200 OK"), keeping("500 No"));
    let (other, second) = keeping("404 No");
    let edit = HeaderEdit { set: vec![("x-a".into(), "1".into())], add: vec![], remove: vec!["x-b".into()] };
    let mut all = rule(vec![backend("web", 1)]);
    all.filters = vec![
        mirror("copy", 1, 1),
        Filter::RequestHeaders(edit),
        mirror("never", 0, 100),
        mirror("copy", 0, 7),
    ];
    all.backends[0].filters = vec![mirror("other", 100, 100)];
    let mut set = vec![
        frontend(routes(vec![prefix("", 0)], vec![all]), Some("http")),
        endpoints("web", &[web.address]),
        endpoints("copy", &[copy.address]),
        endpoints("other", &[other.address]),
    ];
    let never = Backend::saying("never");
    set.push(endpoints("never", &[never.address]));
    let mesh = Harness::with(delta(set), patient(), FRONTEND, None);
    let mut wire = mesh.connect();
    let mut count = 0;
    for length in [0_usize, 1, 1000, 65_536, 100_000, 3_000_000] {
        let body: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        wire.send(format!(
            "POST /{length} HTTP/1.1\r\nHost: web\r\nX-B: 2\r\nContent-Length: {length}\r\n\r\n"
        ));
        wire.send(&body);
        let (status, _, body) = answer(&mut wire);
        assert_eq!((status, body.as_str()), (200, "gone"));
        count += 1;
    }
    let chunk = format!("2710\r\n{}\r\n", "c".repeat(10_000));
    wire.send("POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n");
    wire.send(format!("{}0\r\n\r\n", chunk.repeat(20)));
    assert_eq!(answer(&mut wire).0, 200);
    wire.send("GET /last HTTP/1.1\r\nHost: web\r\n\r\n");
    assert_eq!(answer(&mut wire).0, 200);
    count += 2;
    until("all copies are answered", || copied(&mesh).all() == 2 * count);
    let sorted = |all: &Mutex<Vec<Vec<u8>>>| {
        let mut all = all.lock().unwrap().clone();
        all.sort();
        all
    };
    let wanted = sorted(&asked);
    assert!(wanted.len() as u64 == count && wanted == sorted(&first) && wanted == sorted(&second));
    let text = String::from_utf8_lossy(wanted.last().unwrap()).into_owned();
    assert!(text.contains("x-a: 1\r\n") && !text.contains("X-B"), "{text}");
    assert_eq!(never.connections(), 0);
    let snapshot = mesh.look();
    let all = copied(&mesh);
    assert_eq!((all.classes[4], all.classes[5], all.lost), (count, count, [0; Unmirrored::ALL.len()]));
    // None of them is a request.
    let requests: u64 = snapshot.series.iter().map(|counted| counted.numbers.requests()).sum();
    assert_eq!(requests, count);
    let is_web = |counted: &mesh::telemetry::Counted| {
        snapshot.tables.service(counted.backend.unwrap()).unwrap().0 == name("web")
    };
    assert!(snapshot.series.iter().all(is_web), "{:?}", snapshot.series);
    assert!(snapshot.mirrored.iter().all(|one| snapshot.tables.rule(one.rule.unwrap()) == Some(&origin())));
    drop(wire);
    assert_eq!(mesh.end().requests, count);
}

#[test]
fn what_fails_at_a_mirror_is_nothing_to_the_request() {
    let web = Backend::saying("web");
    let rude = Backend::new(|_, mut wire| drop(wire.head()));
    let mute = Backend::new(|_, mut wire| {
        wire.head();
        // It is there until the copy is given up.
        wire.head();
    });
    let wrong = Backend::answering(|_| "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n".into());
    let names = ["nobody", "none", "rude", "mute", "wrong"];
    let filters = names.iter().map(|service| mirror(service, 1, 1)).collect();
    let others = vec![
        endpoints("nobody", &[nobody()]),
        endpoints("rude", &[rude.address]),
        endpoints("mute", &[mute.address]),
        endpoints("wrong", &[wrong.address]),
    ];
    let settings = Settings { mirror_behind: Duration::from_secs(2), ..patient() };
    let mesh = Harness::with(copying(filters, "http", others, &web), settings, FRONTEND, None);
    for _ in 0..5 {
        let (status, _, body) = mesh.get("/");
        assert_eq!((status, body.as_str()), (200, "web"));
    }
    until("all copies have ended", || copied(&mesh).all() == 25);
    let all = copied(&mesh);
    let lost = |why: Unmirrored| all.lost[why.place()];
    assert_eq!((lost(Unmirrored::NoConnection), lost(Unmirrored::NoEndpoint)), (5, 5), "{all:?}");
    assert_eq!((lost(Unmirrored::NoAnswer), lost(Unmirrored::Late)), (10, 5), "{all:?}");
    assert_eq!(web.heads().len(), 5);
    let counts = mesh.end();
    assert_eq!((counts.answered, counts.retried), (0, 0));
}

#[test]
fn a_mirror_that_is_slower_than_the_request_is_given_up() {
    let (web, asked) = keeping("200 OK");
    let stuck = Backend::new(|_, wire| {
        // Nothing is read of it.
        std::thread::sleep(PATIENCE);
        drop(wire);
    });
    let others = vec![endpoints("stuck", &[stuck.address])];
    let settings = Settings { mirror_queue: 64 << 10, ..patient() };
    let set = copying(vec![mirror("stuck", 1, 1)], "http", others, &web);
    let mesh = Harness::with(set, settings, FRONTEND, None);
    // More than the kernel takes for who does not read.
    let body = vec![7_u8; 24 << 20];
    let mut wire = mesh.connect();
    wire.send(format!("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: {}\r\n\r\n", body.len()));
    wire.send(&body);
    assert_eq!(answer(&mut wire).0, 200);
    assert!(asked.lock().unwrap()[0].ends_with(&body));
    until("it is given up", || lost(&mesh, Unmirrored::Slow) == 1);
    // And over HTTP/2, where the window is what it takes.
    let web = answering(|got| (headers(&[(":status", "200")]), got.body.len().to_string().into(), vec![]));
    let others = vec![endpoints("stuck", &[stuck.address])];
    let set = copying(vec![mirror("stuck", 1, 1)], "grpc", others, &web);
    let mesh = Harness::with(set, settings, FRONTEND, None);
    let mut client = Peer::client(mesh.connect());
    let head = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "web")];
    let stream = client.ask(&head, Some(&body[..3 << 20]), &[]);
    let got = client.answer(stream);
    assert_eq!((got.status(), got.text()), ("200", "3145728"));
    until("it is given up", || lost(&mesh, Unmirrored::Slow) == 1);
}

#[test]
fn what_does_not_come_whole_and_what_is_too_much_is_not_copied() {
    let (web, copy) = (Backend::saying("web"), Backend::saying("copy"));
    let others = || vec![endpoints("copy", &[copy.address])];
    let set = || copying(vec![mirror("copy", 1, 1)], "http", others(), &web);
    let mesh = Harness::with(set(), patient(), FRONTEND, None);
    let mut wire = mesh.connect();
    wire.send("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 10\r\n\r\nhello");
    until("it is passed on", || web.connections() == 1);
    reset(wire);
    until("it has ended", || lost(&mesh, Unmirrored::Unfinished) == 1);
    // Nor is what becomes something else.
    let asked = "GET / HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n";
    assert_eq!(mesh.ask(asked).0, 200);
    assert_eq!(mesh.get("/last").0, 200);
    until("the last one is copied", || copied(&mesh).classes[2] == 1);
    assert!(copy.heads().len() == 1 && copy.heads()[0].starts_with("GET /last "), "{:?}", copy.heads());
    // Nor where there are as many as may be, or where even the head is more than may wait.
    for settings in [Settings { mirrors: 0, ..patient() }, Settings { mirror_queues: 10, ..patient() }] {
        let mesh = Harness::with(set(), settings, FRONTEND, None);
        assert_eq!(mesh.get("/").0, 200);
        assert_eq!((lost(&mesh, Unmirrored::Busy), copied(&mesh).all()), (1, 1));
    }
}

#[test]
fn calls_are_copied_with_their_messages_and_trailers() {
    let keeping = |status: &'static str| {
        let kept: Arc<Mutex<Vec<Got>>> = Arc::default();
        let keeps = kept.clone();
        let backend = answering(move |got| {
            keeps.lock().unwrap().push(got.clone());
            let head = headers(&[(":status", status), ("content-type", "application/grpc")]);
            (head, b"reply".to_vec(), headers(&[("grpc-status", "0")]))
        });
        (backend, kept)
    };
    let ((web, asked), (copy, copies)) = (keeping("200"), keeping("503"));
    let others = vec![endpoints("copy", &[copy.address])];
    let set = copying(vec![mirror("copy", 1, 1)], "grpc", others, &web);
    let mesh = Harness::with(set, patient(), FRONTEND, None);
    let mut client = Peer::client(mesh.connect());
    let head = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/shop.Orders/Get"),
        (":authority", "web:80"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let long = vec![3_u8; 1 << 20];
    let calls: [(Option<&[u8]>, Pairs<'_>); 5] = [
        (Some(b"message"), &[("x-sum", "7")]),
        (Some(&long), &[]),
        (Some(b""), &[]),
        (None, &[]),
        (Some(&long), &[("x-sum", "8")]),
    ];
    for (count, (body, trailers)) in calls.into_iter().enumerate() {
        let stream = client.ask(&head, body, trailers);
        let got = client.answer(stream);
        assert_eq!((got.status(), got.text(), got.reset), ("200", "reply", None));
        // One after the other, so that each has the connection of the one before.
        until("its copy is answered", || copied(&mesh).classes[5] == count as u64 + 1);
        let (asked, copies) = (asked.lock().unwrap(), copies.lock().unwrap());
        let (wanted, found) = (&asked[count], &copies[count]);
        assert_eq!((&wanted.head, &wanted.trailers), (&found.head, &found.trailers));
        assert!(wanted.body == found.body, "{} of {}", found.body.len(), wanted.body.len());
    }
    assert_eq!((web.connections(), copy.connections(), copied(&mesh).all()), (1, 1, 5));
    // One whose endpoint is gone is asked no more, and the route goes on.
    mesh.swap(delta(vec![endpoints("copy", &[])]));
    until("nobody gets copies any more", || {
        let stream = client.ask(&head, Some(b"message"), &[]);
        assert_eq!(client.answer(stream).status(), "200");
        lost(&mesh, Unmirrored::NoEndpoint) > 0
    });
}

#[test]
fn a_connection_waits_for_the_next_copy() {
    let (web, copy) = (Backend::saying("web"), Backend::answering(|_| ok("copy")));
    let others = vec![endpoints("copy", &[copy.address])];
    let mesh =
        Harness::with(copying(vec![mirror("copy", 1, 1)], "http", others, &web), patient(), FRONTEND, None);
    for count in 1..=5 {
        assert_eq!(mesh.get("/").2, "web");
        until("its copy is answered", || copied(&mesh).classes[2] == count);
    }
    assert_eq!(copy.connections(), 1);
}
