//! Retries of routes over HTTP/2.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mesh::h2::{Code, Side};
use mesh::proxy::Settings;
use smi::contract::http::Mirror;
use smi::model::{Delta, Filter, HttpRule, Retry, Timeouts};

use crate::backend::Backend;
use crate::harness::{FRONTEND, Harness, until};
use crate::http2_peer::{Headers, Peer, answering, headers};
use crate::models::*;

/// The head of a call.
const CALL: [(&str, &str); 6] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/shop.Orders/Get"),
    (":authority", "web:80"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
];

/// Answers of 503 of the Service's endpoints are tried again so often.
fn retrying(attempts: u32) -> HttpRule {
    let retry = Retry { codes: vec![503], attempts, backoff_ms: Some(1) };
    HttpRule { retry: Some(retry), ..rule(vec![backend("web", 1)]) }
}

fn to(rule: HttpRule, web: &Backend) -> Delta {
    let routing = routes(vec![prefix("", 0)], vec![rule]);
    delta(vec![frontend(routing, Some("grpc")), endpoints("web", &[web.address])])
}

/// Answers 503 so many times, then as a call that was well, with what it was sent.
fn failing(times: usize) -> (Backend, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let backend = answering(move |got| {
        if count.fetch_add(1, Ordering::SeqCst) < times {
            return (headers(&[(":status", "503")]), b"no".to_vec(), Headers::new());
        }
        let head = headers(&[(":status", "200"), ("content-type", "application/grpc")]);
        (head, got.body.clone(), headers(&[("grpc-status", "0")]))
    });
    (backend, asked)
}

#[test]
fn a_call_is_tried_as_often_as_its_route_says() {
    for (times, attempts, wanted) in
        [(2, 2, ("200", "message", 3)), (2, 1, ("503", "no", 2)), (1, 0, ("503", "no", 1))]
    {
        let (web, asked) = failing(times);
        let mesh = Harness::new(to(retrying(attempts), &web));
        let mut client = Peer::client(mesh.connect());
        let stream = client.ask(&CALL, Some(b"message"), &[("x-sum", "7")]);
        let got = client.answer(stream);
        assert_eq!((got.status(), got.text(), asked.load(Ordering::SeqCst)), wanted);
        assert_eq!(got.trailers.is_empty(), wanted.0 == "503", "{got:?}");
        assert_eq!(mesh.end().retried, wanted.2 as u64 - 1);
    }
}

#[test]
fn retries_are_a_share_of_requests() {
    let (web, asked) = failing(usize::MAX);
    let settings = Settings { retry_percent: 0, retry_least: 7, ..Settings::default() };
    let mesh = Harness::with(to(retrying(25), &web), settings, FRONTEND, None);
    let mut client = Peer::client(mesh.connect());
    let stream = client.get("/");
    let got = client.answer(stream);
    assert_eq!((got.status(), got.text()), ("503", "no"), "the last answer is the backend's");
    assert_eq!((asked.load(Ordering::SeqCst), mesh.end().retried), (8, 7));
}

#[test]
fn what_is_too_large_to_be_kept_is_sent_once() {
    let (web, asked) = failing(1);
    let mesh = Harness::new(to(retrying(5), &web));
    let mut client = Peer::client(mesh.connect());
    let stream = client.ask(&CALL, Some(&vec![b'x'; 100_000]), &[]);
    assert_eq!(client.answer(stream).status(), "503");
    // The next one is none the worse for it.
    let stream = client.ask(&CALL, Some(&vec![b'y'; 10_000]), &[]);
    assert_eq!(client.answer(stream).body, vec![b'y'; 10_000]);
    assert_eq!((asked.load(Ordering::SeqCst), mesh.end().retried), (2, 0));
}

#[test]
fn a_slow_try_is_followed_by_another() {
    // The first request that comes is not answered.
    let (asked, ended) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let count = ended.clone();
    let web = Backend::new(move |_, wire| {
        let mut peer = Peer::new(Side::Server, wire);
        peer.say();
        while peer.hear() {
            let whole: Vec<u32> = peer.got.iter().filter(|(_, got)| got.ended).map(|(n, _)| *n).collect();
            for stream in whole {
                let got = peer.got.remove(&stream).unwrap();
                if got.reset == Some(Code::CANCEL) {
                    count.fetch_add(1, Ordering::SeqCst);
                    peer.connection.release(stream);
                } else if asked.fetch_add(1, Ordering::SeqCst) > 0 {
                    peer.reply(stream, &headers(&[(":status", "200")]), &got.body, &Headers::new());
                }
            }
        }
    });
    let mut all = retrying(25);
    all.timeouts = Timeouts { request_ms: None, backend_ms: Some(500) };
    let mesh = Harness::new(to(all, &web));
    let mut client = Peer::client(mesh.connect());
    let stream = client.ask(&CALL, Some(b"message"), &[]);
    assert_eq!(client.answer(stream).text(), "message");
    until("the endpoint is told that nobody waits", || ended.load(Ordering::SeqCst) > 0);
    assert!(mesh.end().retried > 0);
}

#[test]
fn a_connection_that_is_lost_is_no_loss_for_what_may_be_done_twice() {
    // Each connection ends with its first request, but for the last.
    let web = Backend::new(|number, wire| {
        let mut peer = Peer::new(Side::Server, wire);
        peer.say();
        while peer.hear() {
            let whole: Vec<u32> = peer.got.iter().filter(|(_, got)| got.ended).map(|(n, _)| *n).collect();
            for stream in whole {
                if number < 2 {
                    return;
                }
                peer.got.remove(&stream);
                peer.reply(stream, &headers(&[(":status", "200")]), b"third", &Headers::new());
            }
        }
    });
    let mesh = Harness::new(to(retrying(5), &web));
    let mut client = Peer::client(mesh.connect());
    // A call is not: somebody may have done what it asks for.
    let stream = client.ask(&CALL, Some(b"message"), &[]);
    assert_eq!(client.answer(stream).get("grpc-status"), Some("14"));
    let stream = client.get("/");
    assert_eq!(client.answer(stream).text(), "third");
    assert_eq!((web.connections(), mesh.end().retried), (3, 1));
}

#[test]
fn a_mirror_gets_one_copy_however_often_the_request_is_sent() {
    let (web, asked) = failing(3);
    let copies: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let keeps = copies.clone();
    let copy = answering(move |got| {
        keeps.lock().unwrap().push(got.body.clone());
        (headers(&[(":status", "200")]), Vec::new(), Headers::new())
    });
    let mut all = retrying(3);
    all.filters =
        vec![Filter::Mirror(Mirror { service: name("copy"), port: 80, numerator: 1, denominator: 1 })];
    let routing = routes(vec![prefix("", 0)], vec![all]);
    let set = vec![
        frontend(routing, Some("grpc")),
        endpoints("web", &[web.address]),
        endpoints("copy", &[copy.address]),
    ];
    let mesh = Harness::new(delta(set));
    let mut client = Peer::client(mesh.connect());
    let stream = client.ask(&CALL, Some(b"message"), &[]);
    assert_eq!(client.answer(stream).text(), "message");
    until("the copy has ended", || mesh.look().mirrored.iter().map(|one| one.copied.all()).sum::<u64>() == 1);
    assert_eq!(
        (asked.load(Ordering::SeqCst), copies.lock().unwrap().as_slice()),
        (4, &[b"message".to_vec()][..])
    );
}
