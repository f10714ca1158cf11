//! HTTP/2 between clients and endpoints.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use mesh::h2::frame::write;
use mesh::h2::{Code, Side};
use smi::contract::http::{HeaderEdit, Redirect};
use smi::model::*;

use crate::backend::{Backend, nobody};
use crate::harness::{Harness, PATIENCE};
use crate::http2_peer::{Headers, Peer, answering, headers, saying, value};
use crate::models::*;

/// A route of one rule for all requests to a Service that speaks gRPC.
fn of_one(rule: HttpRule, addresses: &[std::net::SocketAddr]) -> Delta {
    let routing = routes(vec![prefix("", 0)], vec![rule]);
    delta(vec![frontend(routing, Some("grpc")), endpoints("web", addresses)])
}

fn to_web() -> HttpRule {
    rule(vec![backend("web", 1)])
}

/// The head of a call.
const CALL: [(&str, &str); 6] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/shop.Orders/Get"),
    (":authority", "web:80"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
];

#[test]
fn requests_of_one_connection_go_where_their_routes_say() {
    let (a, b) = (saying("a"), saying("b"));
    let mut to_b = rule(vec![backend("b", 1)]);
    to_b.filters = vec![
        Filter::RequestHeaders(HeaderEdit {
            set: vec![("X-Set".into(), "new".into())],
            add: vec![],
            remove: vec!["x-gone".into()],
        }),
        Filter::ResponseHeaders(HeaderEdit {
            set: vec![("Server".into(), "mesh".into())],
            add: vec![],
            remove: vec![],
        }),
    ];
    let routing = routes(vec![prefix("/b", 1), prefix("", 0)], vec![rule(vec![backend("a", 1)]), to_b]);
    let all = vec![frontend(routing, None), endpoints("a", &[a.address]), endpoints("b", &[b.address])];
    let mesh = Harness::new(delta(all));
    let mut client = Peer::client(mesh.connect());
    let streams: Vec<u32> =
        (0..60).map(|n| client.get(if n % 2 == 0 { "/x/../a?q=%41" } else { "/b" })).collect();
    for (n, stream) in streams.into_iter().enumerate() {
        let got = client.answer(stream);
        let wanted = if n % 2 == 0 { "a\n" } else { "b\n" };
        assert!(got.status() == "200" && got.text().starts_with(wanted), "{got:?}");
        let wanted = if n % 2 == 0 { ":path=/a?q=%41\n" } else { ":path=/b\n" };
        assert!(got.text().contains(wanted), "{got:?}");
        assert!(got.text().contains(":authority=web\n"), "{got:?}");
        assert_eq!(got.get("server"), Some(if n % 2 == 0 { "a" } else { "mesh" }));
    }
    let head = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/b"),
        (":authority", "web"),
        ("x-gone", "1"),
        ("x-set", "old"),
        ("x-kept", "1"),
    ];
    let stream = client.ask(&head, None, &[]);
    let got = client.answer(stream);
    assert!(got.text().contains("x-set=new\n") && got.text().contains("x-kept=1\n"), "{got:?}");
    assert!(!got.text().contains("x-gone") && !got.text().contains("old"), "{got:?}");
    // All of them over one connection to each.
    assert_eq!((a.connections() + b.connections(), mesh.end().requests), (2, 61));
}

#[test]
fn a_call_has_its_trailers_and_its_status() {
    let web = answering(|got| {
        assert_eq!((got.body.as_slice(), got.get("te")), (&b"message"[..], Some("trailers")));
        assert_eq!(value(&got.trailers, "x-sum"), Some("7"));
        let head = headers(&[(":status", "200"), ("content-type", "application/grpc")]);
        (head, b"reply".to_vec(), headers(&[("grpc-status", "0"), ("grpc-message", "fine")]))
    });
    let mesh = Harness::new(of_one(to_web(), &[web.address]));
    let mut client = Peer::client(mesh.connect());
    for _ in 0..20 {
        let stream = client.ask(&CALL, Some(b"message"), &[("x-sum", "7")]);
        let got = client.answer(stream);
        assert_eq!((got.status(), got.text(), got.reset), ("200", "reply", None));
        assert_eq!(got.trailers, headers(&[("grpc-status", "0"), ("grpc-message", "fine")]));
    }
    assert_eq!(web.connections(), 1);
}

#[test]
fn bodies_pass_as_fast_as_the_other_side_takes_them() {
    let web = answering(|got| (headers(&[(":status", "200")]), got.body.clone(), Headers::new()));
    let mesh = Harness::new(of_one(to_web(), &[web.address]));
    let mut client = Peer::client(mesh.connect());
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let head = [(":method", "PUT"), (":scheme", "http"), (":path", "/"), (":authority", "web")];
    let streams: Vec<u32> = (0..3).map(|_| client.ask(&head, Some(&body), &[])).collect();
    for stream in streams {
        assert!(client.answer(stream).body == body);
    }
}

#[test]
fn what_the_mesh_answers_itself_is_of_the_callers_kind() {
    let routing = |unmatched| {
        Routing::Http(HttpRouting { matches: vec![prefix("/web", 0)], rules: vec![to_web()], unmatched })
    };
    let all = vec![frontend(routing(Unmatched::NotFound), None), endpoints("web", &[])];
    let mesh = Harness::new(delta(all));
    let mut client = Peer::client(mesh.connect());
    let stream = client.ask(&CALL, Some(b"message"), &[]);
    let got = client.answer(stream);
    assert_eq!((got.status(), got.get("grpc-status")), ("200", Some("12")), "{got:?}");
    assert!(got.get("grpc-message").unwrap().starts_with("sextant mesh: no rule"), "{got:?}");
    let mut call = CALL;
    call[2].1 = "/web/Get";
    let stream = client.ask(&call, None, &[]);
    assert_eq!(client.answer(stream).get("grpc-status"), Some("14"), "no endpoint");
    for (path, status) in [("/none", "404"), ("/web", "503"), ("/web/%", "400")] {
        let stream = client.get(path);
        let got = client.answer(stream);
        assert_eq!((got.status(), got.get("grpc-status")), (status, None), "{got:?}");
        assert!(got.text().starts_with("sextant mesh: "), "{got:?}");
    }
    let stream = client.ask(&[(":method", "CONNECT"), (":authority", "web:1")], None, &[]);
    assert_eq!(client.answer(stream).status(), "501");
    let head = [(":method", "HEAD"), (":scheme", "http"), (":path", "/none"), (":authority", "web")];
    let stream = client.ask(&head, None, &[]);
    let got = client.answer(stream);
    assert_eq!((got.status(), got.text()), ("404", ""));
    // A head that is too large.
    let long = "x".repeat(70_000);
    let mut head = CALL.to_vec();
    head.push(("x-long", &long));
    let stream = client.ask(&head, None, &[]);
    let got = client.answer(stream);
    assert_eq!((got.get("grpc-status"), got.reset), (Some("8"), None), "{got:?}");
    assert_eq!(mesh.end().answered, 8);
}

#[test]
fn a_server_that_greets_first_is_read_all_the_same() {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let web = Backend::new(move |_, wire| {
        let mut peer = Peer::new(Side::Server, wire);
        peer.say();
        tell.lock().unwrap().send(()).unwrap();
        while peer.hear() {
            for stream in peer.got.keys().copied().collect::<Vec<u32>>() {
                peer.got.remove(&stream);
                peer.reply(stream, &headers(&[(":status", "200")]), b"web", &Headers::new());
            }
        }
    });
    let routing = routes(vec![prefix("/web", 0)], vec![to_web()]);
    let mesh = Harness::new(delta(vec![frontend(routing, None), endpoints("web", &[web.address])]));
    for _ in 0..20 {
        let wire = mesh.connect();
        told.recv().unwrap();
        let mut client = Peer::client(wire);
        let (none, stream) = (client.get("/none"), client.get("/web"));
        assert_eq!(client.answer(none).status(), "404", "the route is asked");
        assert_eq!(client.answer(stream).text(), "web");
    }
    assert_eq!(web.connections(), 20, "the connection that was made ahead is used");
    assert_eq!(mesh.end().unread, 0);
}

#[test]
fn another_endpoint_is_asked_where_there_is_no_connection() {
    let web = saying("web");
    let mesh = Harness::new(of_one(to_web(), &[nobody(), web.address]));
    for _ in 0..20 {
        let mut client = Peer::client(mesh.connect());
        let streams = [client.get("/"), client.ask(&CALL, Some(b"m"), &[])];
        for stream in streams {
            let got = client.answer(stream);
            assert!(got.status() == "200" && got.text().starts_with("web\n"), "{got:?}");
        }
    }
    let mesh = Harness::new(of_one(to_web(), &[nobody()]));
    let mut client = Peer::client(mesh.connect());
    let stream = client.ask(&CALL, Some(b"m"), &[]);
    assert_eq!(client.answer(stream).get("grpc-status"), Some("14"));
    assert_eq!(mesh.end().retried, 0, "there is no other");
}

#[test]
fn another_endpoint_is_asked_for_calls_with_bodies_too() {
    // Answers when there are two: of two at once one goes to whom nobody listens for.
    let web = Backend::new(|_, wire| {
        let mut peer = Peer::new(Side::Server, wire);
        peer.say();
        while peer.hear() {
            let whole: Vec<u32> = peer.got.iter().filter(|(_, got)| got.ended).map(|(n, _)| *n).collect();
            for stream in whole.iter().filter(|_| whole.len() == 2) {
                let got = peer.got.remove(stream).unwrap();
                peer.reply(*stream, &headers(&[(":status", "200")]), &got.body, &Headers::new());
            }
        }
    });
    // The Service itself has no endpoint, so none is connected to before there is a request.
    let routing = routes(vec![prefix("", 0)], vec![rule(vec![backend("b", 1)])]);
    let set = vec![frontend(routing, Some("grpc")), endpoints("b", &[nobody(), web.address])];
    let mesh = Harness::new(delta(set));
    let mut client = Peer::client(mesh.connect());
    for stream in [(); 2].map(|()| client.ask(&CALL, Some(b"m"), &[])) {
        let got = client.answer(stream);
        assert_eq!((got.text(), got.get("grpc-status")), ("m", None), "{got:?}");
    }
    assert_eq!(mesh.end().retried, 1);
}

#[test]
fn a_request_that_was_not_looked_at_is_sent_again() {
    // The first connection is ended in good order before any request of it is looked at, the second refuses each, the third answers.
    let web = Backend::new(|number, wire| {
        let mut peer = Peer::new(Side::Server, wire);
        peer.say();
        while peer.hear() {
            let whole: Vec<u32> = peer.got.iter().filter(|(_, got)| got.ended).map(|(n, _)| *n).collect();
            for stream in whole {
                peer.got.remove(&stream);
                match number {
                    0 => {
                        let mut last = Vec::new();
                        write::go_away(&mut last, 0, Code::NO_ERROR, "");
                        peer.wire.send(last);
                    }
                    1 if stream == 1 => peer.connection.reset(stream, Code::REFUSED_STREAM),
                    _ => peer.reply(stream, &headers(&[(":status", "200")]), b"late", &Headers::new()),
                }
                peer.say();
            }
        }
    });
    let mesh = Harness::new(of_one(to_web(), &[web.address]));
    let mut client = Peer::client(mesh.connect());
    let stream = client.get("/");
    let got = client.answer(stream);
    assert_eq!((got.status(), got.text()), ("200", "late"), "{got:?}");
    assert_eq!(mesh.end().retried, 2);
}

#[test]
fn what_ends_on_one_side_ends_on_the_other() {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let web = Backend::new(move |_, wire| {
        let mut peer = Peer::new(Side::Server, wire);
        peer.say();
        while peer.hear() {
            let streams: Vec<u32> = peer.got.keys().copied().collect();
            for stream in streams {
                match (peer.got[&stream].get(":path"), peer.got[&stream].reset) {
                    (_, Some(code)) => {
                        tell.lock().unwrap().send(code).unwrap();
                        peer.got.remove(&stream);
                        peer.connection.release(stream);
                    }
                    (Some("/breaks"), _) => {
                        peer.reply(stream, &headers(&[(":status", "200")]), b"half", &headers(&[("x", "y")]));
                        peer.got.remove(&stream);
                    }
                    (Some("/resets"), _) => {
                        peer.connection.reset(stream, Code::INTERNAL_ERROR);
                        peer.got.remove(&stream);
                        peer.say();
                    }
                    _ => {}
                }
            }
        }
    });
    let mesh = Harness::new(of_one(to_web(), &[web.address]));
    let mut client = Peer::client(mesh.connect());
    // The client gives up.
    let waits = client.get("/waits");
    let stream = client.get("/resets");
    let got = client.answer(stream);
    assert!(got.status() == "502" && got.text().contains("INTERNAL_ERROR"), "{got:?}");
    client.connection.reset(waits, Code::CANCEL);
    client.say();
    assert_eq!(told.recv(), Ok(Code::CANCEL));
    // The answer comes before the request is whole: the rest is not wanted.
    let head = [(":method", "POST"), (":scheme", "http"), (":path", "/breaks"), (":authority", "web")];
    let stream =
        client.connection.open(head.iter().map(|(name, value)| mesh::h2::Field::new(*name, *value)), false);
    let stream = stream.unwrap();
    client.got.insert(stream, Default::default());
    client.say();
    let got = client.answer(stream);
    assert_eq!((got.text(), value(&got.trailers, "x")), ("half", Some("y")));
    // And the client's end is the end of all it has asked.
    client.get("/waits");
    let stream = client.get("/resets");
    client.answer(stream);
    drop(client);
    assert_eq!(mesh.end().requests, 5);
}

#[test]
fn what_takes_longer_than_its_route_lets_it_is_answered() {
    let web = Backend::new(|_, wire| {
        let mut peer = Peer::new(Side::Server, wire);
        peer.say();
        while peer.hear() {}
    });
    let mut late = to_web();
    late.timeouts = Timeouts { request_ms: Some(50), backend_ms: None };
    let mesh = Harness::new(of_one(late, &[web.address]));
    let mut client = Peer::client(mesh.connect());
    let stream = client.ask(&CALL, Some(b"m"), &[]);
    assert_eq!(client.answer(stream).get("grpc-status"), Some("4"));
    let stream = client.get("/");
    assert_eq!(client.answer(stream).status(), "504");
}

#[test]
fn a_flood_ends_its_connection_and_no_other() {
    let web = saying("web");
    let mesh = Harness::new(of_one(to_web(), &[web.address]));
    let mut other = Peer::client(mesh.connect());
    let mut client = Peer::client(mesh.connect());
    let mut bytes = Vec::new();
    for n in 0..3000 {
        write::headers(&mut bytes, 2 * n + 1, &[0x82, 0x86, 0x84], true, 16384);
        write::reset(&mut bytes, 2 * n + 1, Code::CANCEL);
    }
    client.wire.try_send(&bytes);
    let mut rest = client.wire.rest().unwrap_or_default();
    while let Ok(Some((frame, used))) = mesh::h2::frame::read(&rest, 16384) {
        if let mesh::h2::frame::Frame::GoAway { code, .. } = frame {
            client.gone_away = Some((0, code));
        }
        rest.drain(..used);
    }
    assert_eq!(client.gone_away, Some((0, Code::ENHANCE_YOUR_CALM)));
    let stream = other.get("/");
    assert_eq!(other.answer(stream).status(), "200");
}

#[test]
fn who_asks_and_does_not_take_answers_is_not_heard_for_ever() {
    use std::io::Write as _;
    let mut elsewhere = rule(Vec::new());
    let redirect = Redirect { scheme: None, hostname: None, path: None, port: None, status: 302 };
    elsewhere.filters = vec![Filter::Redirect(redirect)];
    let mesh = Harness::new(of_one(elsewhere, &[nobody()]));
    let client = Peer::client(mesh.connect());
    let mut stream = client.wire.stream().try_clone().unwrap();
    // GET of a path of 3000 bytes: the answer is a head alone, which no window bounds, with a location that is too long for a table.
    let mut block = vec![0x82, 0x86, 0x01, 3, b'w', b'e', b'b', 0x04, 0x7f, 0xb9, 0x16, b'/'];
    block.extend([b'~'; 2999]);
    let (mut asked, mut accepted) = (0_u32, 0);
    // Who reads on does so within this time, even on a busy machine.
    stream.set_write_timeout(Some(Duration::from_secs(3))).unwrap();
    let (mut bytes, mut cut) = (Vec::new(), 0);
    while accepted < 64 << 20 {
        if cut == bytes.len() {
            (bytes, cut) = (Vec::new(), 0);
            for _ in 0..100 {
                write::headers(&mut bytes, 2 * asked + 1, &block, true, 16384);
                asked += 1;
            }
        }
        match stream.write(&bytes[cut..]) {
            Ok(count) => {
                accepted += count;
                cut += count;
            }
            Err(_) => break,
        }
    }
    assert!(accepted < 64 << 20, "{accepted} bytes were read of a client that takes nothing");
    // Once it does, all is answered.
    let mut reader = stream.try_clone().unwrap();
    let rest = bytes[cut..].to_vec();
    stream.set_write_timeout(None).unwrap();
    let sender = std::thread::spawn(move || stream.write_all(&rest).unwrap());
    let (mut held, mut answers) = (Vec::new(), 0);
    while answers < asked {
        let mut piece = vec![0; 1 << 16];
        let count = std::io::Read::read(&mut reader, &mut piece).unwrap();
        assert!(count > 0, "{answers} of {asked} were answered");
        held.extend_from_slice(&piece[..count]);
        let mut at = 0;
        while let Some((frame, used)) = mesh::h2::frame::read(&held[at..], 16384).unwrap() {
            answers += u32::from(matches!(frame, mesh::h2::frame::Frame::Headers { end: true, .. }));
            at += used;
        }
        held.drain(..at);
    }
    sender.join().unwrap();
    drop(client);
    assert_eq!(mesh.end().answered, u64::from(asked));
}

#[test]
fn a_drained_proxy_ends_connections_after_their_requests() {
    let ((tell, asked), (go, gone)) = (channel(), channel::<()>());
    let both = Mutex::new((tell, gone));
    let web = answering(move |_| {
        let both = both.lock().unwrap();
        both.0.send(()).unwrap();
        both.1.recv().unwrap();
        (headers(&[(":status", "200")]), b"done".to_vec(), Headers::new())
    });
    let mesh = Harness::new(of_one(to_web(), &[web.address]));
    let (mut busy, mut idle) = (Peer::client(mesh.connect()), Peer::client(mesh.connect()));
    let stream = busy.get("/");
    asked.recv_timeout(PATIENCE).unwrap();
    // The settings are there, so the proxy knows that it is HTTP/2.
    idle.hear();
    mesh.drain();
    while idle.hear() {}
    assert_eq!(idle.gone_away.map(|(_, code)| code), Some(Code::NO_ERROR));
    go.send(()).unwrap();
    assert_eq!(busy.answer(stream).text(), "done");
    while busy.hear() {}
    assert_eq!(busy.gone_away, Some((1, Code::NO_ERROR)));
}

#[test]
fn who_asks_nothing_is_ended_in_good_order() {
    let web = saying("web");
    let settings = mesh::proxy::Settings { idle: Duration::from_millis(50), ..Default::default() };
    let mesh = Harness::with(of_one(to_web(), &[web.address]), settings, crate::harness::FRONTEND, None);
    let mut client = Peer::client(mesh.connect());
    while client.hear() {}
    assert_eq!(client.gone_away, Some((0, Code::NO_ERROR)));
}
