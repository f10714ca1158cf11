//! Connections of HTTP/2 whose tables change.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use mesh::h2::{Code, Side};
use mesh::proxy::Settings;
use smi::model::*;

use crate::backend::Backend;
use crate::harness::{FRONTEND, Harness, PATIENCE, until};
use crate::http2_peer::{Headers, Peer, headers, saying};
use crate::models::*;

fn to_web(addresses: &[std::net::SocketAddr]) -> Delta {
    let routing = routes(vec![prefix("", 0)], vec![rule(vec![backend("web", 1)])]);
    delta(vec![frontend(routing, Some("grpc")), endpoints("web", addresses)])
}

#[test]
fn what_is_served_otherwise_ends_its_connections() {
    let web = saying("web");
    let gone = Delta { set: Vec::new(), removed: vec![frontend(Routing::Plain, None).key] };
    let weighted = Weighted { each: Each::Connection, from: origin(), backends: vec![backend("web", 1)] };
    let unread = delta(vec![frontend(Routing::Weighted(weighted), Some("grpc"))]);
    for change in [gone, unread] {
        let mesh = Harness::new(to_web(&[web.address]));
        let mut client = Peer::client(mesh.connect());
        let stream = client.get("/");
        assert_eq!(client.answer(stream).status(), "200");
        mesh.swap(change);
        let mut last = 0;
        until("the change is there", || {
            last = client.get("/");
            client.answer(last).status() == "503"
        });
        while client.hear() {}
        assert_eq!(client.gone_away, Some((last, Code::NO_ERROR)));
    }
}

#[test]
fn connections_to_an_endpoint_that_is_gone_are_closed() {
    for busy in [false, true] {
        let ((tell_asked, asked), (tell_ended, ended), (go, gone)) = (channel(), channel(), channel());
        let all = Mutex::new((tell_asked, tell_ended, gone));
        let web = Backend::new(move |number, wire| {
            // The first connection answers when it is told to.
            let first = (number == 0).then(|| all.lock().unwrap());
            let mut peer = Peer::new(Side::Server, wire);
            peer.say();
            while peer.hear() {
                for stream in peer.got.keys().copied().collect::<Vec<u32>>() {
                    peer.got.remove(&stream);
                    if let Some(first) = &first {
                        first.0.send(()).unwrap();
                        first.2.recv().unwrap();
                    }
                    peer.reply(stream, &headers(&[(":status", "200")]), b"web", &Headers::new());
                }
            }
            if let Some(first) = &first {
                first.1.send(()).unwrap();
            }
        });
        let other = saying("other");
        // Nothing else ends them within this test.
        let settings = Settings { pool_idle: Duration::from_secs(3600), ..Settings::default() };
        let mesh = Harness::with(to_web(&[web.address]), settings, FRONTEND, None);
        let mut client = Peer::client(mesh.connect());
        let stream = client.get("/");
        asked.recv_timeout(PATIENCE).unwrap();
        let change = delta(vec![endpoints("web", &[other.address])]);
        if busy {
            mesh.swap(change);
            until("the change is there", || {
                let mut client = Peer::client(mesh.connect());
                let stream = client.get("/");
                client.answer(stream).text().starts_with("other\n")
            });
            go.send(()).unwrap();
            assert_eq!(client.answer(stream).text(), "web");
        } else {
            go.send(()).unwrap();
            assert_eq!(client.answer(stream).text(), "web");
            mesh.swap(change);
        }
        ended.recv_timeout(PATIENCE).unwrap();
        let stream = client.get("/");
        assert!(client.answer(stream).text().starts_with("other\n"), "the client's own goes on");
    }
}
