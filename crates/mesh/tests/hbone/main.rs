//! Members that speak with each other, and others that try to: pods in network namespaces, on nodes of their own.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod authority;
mod cluster;
mod member;
mod site;
mod smuggling;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, SystemTime};

use authority::{Authority, Quirk, identity};
use site::{CLIENT, OTHER, Site, WEB, WEB_PORT, at, has, port_of, until};
use testkit::netns::Netns;
use testkit::whoami::{Answer, ask, connect, has_ended, serve};

/// Where the Service is, which nobody has but the mesh.
const SERVICE: &str = "10.96.0.1:80";
/// What can be read of a request, and of its answer, if it is not encrypted.
const REQUEST: &[u8] = b"GET / HTTP/1.1";
const ANSWER: &[u8] = b"HTTP/1.1 200";

/// Who answers a pod at an address, and whom it sees.
fn asked(pod: &Netns, to: impl std::net::ToSocketAddrs + Send) -> Answer {
    pod.run(|| ask(&mut connect(to)))
}

/// The status that a GET is answered with; `None` without an answer.
fn get(stream: &mut TcpStream, path: &str) -> Option<u16> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: web\r\n\r\n").as_bytes()).ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    let head = String::from_utf8(head).ok()?;
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length?];
    stream.read_exact(&mut body).ok()?;
    head.get(9..12)?.parse().ok()
}

/// The status that a GET over a new connection is answered with; `None` where that ends.
fn answer(pod: &Netns, to: impl std::net::ToSocketAddrs + Send, path: &str) -> Option<u16> {
    pod.run(|| get(&mut connect(to), path))
}

#[test]
fn what_members_say_to_each_other_nobody_else_can_read() {
    let site = Site::new();
    let frames = site.sniff();
    for _ in 0..3 {
        let answer = asked(&site.client, SERVICE);
        // Who is asked sees the pod that has asked, not somebody between.
        assert_eq!(answer, Answer { who: "web".into(), peer: CLIENT.into() });
    }
    // And so it is without a Service.
    assert_eq!(asked(&site.client, at(WEB, WEB_PORT)).peer, CLIENT);
    // What is not of the mesh says it aloud, and is seen as it is, too.
    assert_eq!(asked(&site.other, at(WEB, WEB_PORT)).peer, OTHER);
    let (mut secured, mut answered) = (0, false);
    while !answered {
        let frame = frames.recv_timeout(site::PATIENCE).unwrap();
        // The addresses of the stranger's frames, either way.
        let is_strangers = has(&frame, &[10, 55, 0, 4]);
        if is_strangers {
            answered |= has(&frame, ANSWER);
        } else {
            assert!(!has(&frame, REQUEST) && !has(&frame, ANSWER), "it was not encrypted");
            secured += usize::from(port_of(&frame) == Some(mesh::hbone::PORT));
        }
    }
    assert!(secured > 3, "{secured}");
}

#[test]
fn a_copy_goes_as_its_request_does() {
    let mut site = Site::new();
    let listener = site.listen(9000);
    site.cluster.mirror(9000);
    let frames = site.sniff();
    site.swap();
    let copied = std::thread::spawn(move || {
        let (stream, peer) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        (line, peer.ip().to_string())
    });
    until("there is a copy", || {
        assert_eq!(asked(&site.client, SERVICE).who, "web");
        copied.is_finished()
    });
    assert_eq!(copied.join().unwrap(), ("GET / HTTP/1.1\r\n".to_owned(), CLIENT.to_owned()));
    // What is said aloud behind it is seen last.
    assert_eq!(asked(&site.other, at(WEB, WEB_PORT)).peer, OTHER);
    let mut answered = false;
    while !answered {
        let frame = frames.recv_timeout(site::PATIENCE).unwrap();
        if has(&frame, &[10, 55, 0, 4]) {
            answered |= has(&frame, ANSWER);
        } else {
            assert!(!has(&frame, REQUEST) && !has(&frame, ANSWER), "it was not encrypted");
        }
    }
}

#[test]
fn bytes_pass_both_ways_and_servers_may_speak_first() {
    let site = Site::new();
    let listener = site.listen(9000);
    let serving = std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        stream.write_all(b"hello").unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
        peer.ip().to_string()
    });
    let mut stream = site.client.run(|| connect(at(WEB, 9000)));
    let mut greeting = [0; 5];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"hello");
    let text: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (sent, mut writing) = (text.clone(), stream.try_clone().unwrap());
    let sending = std::thread::spawn(move || {
        writing.write_all(&sent).unwrap();
        writing.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    sending.join().unwrap();
    assert!(back == text, "{} of {}", back.len(), text.len());
    assert_eq!(serving.join().unwrap(), CLIENT);
}

#[test]
fn who_may_ask_is_known_by_what_it_proves() {
    let mut site = Site::new();
    site.other_joins();
    assert_eq!(asked(&site.other, SERVICE).peer, OTHER);
    let any = site.cluster.any_port();
    site.cluster.target("client", &any);
    site.swap();
    // Requests are told so, once the connections from before are closed.
    until("the other is refused", || answer(&site.other, SERVICE, "/") == Some(403));
    // Connections that nobody reads end.
    assert!(site.other.run(|| has_ended(&mut connect(at(WEB, WEB_PORT)))));
    assert_eq!(asked(&site.client, SERVICE).who, "web");
    assert_eq!(asked(&site.client, at(WEB, WEB_PORT)).who, "web");
}

#[test]
fn plain_text_is_let_in_where_nothing_says_otherwise() {
    let mut site = Site::new();
    let refused = |site: &Site| answer(&site.other, at(WEB, WEB_PORT), "/").is_none();
    let probed = |site: &Site| asked(&site.wire, at(WEB, WEB_PORT)).peer == site::NODE;
    assert_eq!(asked(&site.other, at(WEB, WEB_PORT)).peer, OTHER);
    assert!(probed(&site));
    site.cluster.mode("strict");
    site.swap();
    until("a stranger is refused", || refused(&site));
    // A probe of the node itself is not, and who is no stranger is not either.
    assert!(probed(&site));
    assert_eq!(asked(&site.client, SERVICE).who, "web");
    site.cluster.mode("permissive");
    site.swap();
    until("a stranger is let in again", || !refused(&site));
    // The same by a policy, whatever the mode.
    let any = site.cluster.any_port();
    site.cluster.target("client", &any);
    site.swap();
    until("a stranger is refused by a policy", || refused(&site));
    assert!(probed(&site));
    assert_eq!(asked(&site.client, SERVICE).who, "web");
}

#[test]
fn requests_are_judged_one_by_one() {
    let mut site = Site::new();
    site.other_joins();
    let allowed = site.cluster.get("/allowed");
    site.cluster.target("client", &allowed);
    site.swap();
    let mut open = site.client.run(|| connect(SERVICE));
    until("a request is refused", || get(&mut open, "/other") == Some(403));
    assert_eq!(get(&mut open, "/allowed"), Some(200));
    assert_eq!(get(&mut open, "/other/../allowed/more"), Some(200));
    assert_eq!(get(&mut open, "/allowed/../other"), Some(403));
    // Who is not allowed anything is not read at all.
    until("the other is refused", || answer(&site.other, SERVICE, "/allowed") == Some(403));
    // What is no request is none that is allowed.
    let mut mute = site.client.run(|| connect(at(WEB, WEB_PORT)));
    mute.write_all(b"\x16\x03\x01 no request\r\n").unwrap();
    assert!(has_ended(&mut mute));
    // Another policy holds from the next request on.
    let more = site.cluster.get("/other");
    site.cluster.target("client", &more);
    site.swap();
    until("the other path is allowed", || get(&mut open, "/other") == Some(200));
    assert_eq!(get(&mut open, "/allowed"), Some(403));
}

#[test]
fn what_is_open_and_no_longer_allowed_ends() {
    let mut site = Site::new();
    let any = site.cluster.any_port();
    site.cluster.target("client", &any);
    site.swap();
    let listener = site.listen(9000);
    let accepted = std::thread::spawn(move || listener.accept().unwrap().0);
    let mut client = site.client.run(|| connect(at(WEB, 9000)));
    client.write_all(b"x").unwrap();
    let mut server = accepted.join().unwrap();
    server.set_read_timeout(Some(site::PATIENCE)).unwrap();
    server.read_exact(&mut [0]).unwrap();
    // A change that has nothing to do with it ends nothing.
    site.cluster.member("bystander", "10.55.0.9");
    site.swap();
    server.write_all(b"y").unwrap();
    client.read_exact(&mut [0]).unwrap();
    site.cluster.target("nobody", &any);
    site.swap();
    assert!(has_ended(&mut client) && has_ended(&mut server));
}

#[test]
fn who_shows_no_certificate_of_the_mesh_comes_no_further() {
    let site = Site::new();
    let to = || site.other.run(|| TcpStream::connect(at(WEB, mesh::hbone::PORT)).unwrap());
    let here = format!("{WEB}:{WEB_PORT}");
    let (client, other) = (identity("client"), identity("other"));
    let good = site.authority.issue(other.as_str(), Quirk::None);
    assert_eq!(member::ask(to(), Some(&good), &here), Some(200));
    assert_eq!(member::ask(to(), None, &here), None);
    // A name that is borrowed, of an authority that nobody knows.
    let stolen = Authority::new("root").issue(client.as_str(), Quirk::None);
    assert_eq!(member::ask(to(), Some(&stolen), &here), None);
    for quirk in
        [Quirk::Expired, Quirk::NotYet, Quirk::NoName, Quirk::Second("spiffe://cluster.local/ns/shop/sa/web")]
    {
        let bad = site.authority.issue(client.as_str(), quirk);
        assert_eq!(member::ask(to(), Some(&bad), &here), None, "{quirk:?}");
    }
    // Nobody is led on to somebody else, nor to what is the proxy's own.
    for (authority, wanted) in [
        (format!("{OTHER}:{WEB_PORT}"), Some(403)),
        ("127.0.0.1:8080".into(), Some(403)),
        (format!("{}:80", site::NODE), Some(403)),
        ("web:8080".into(), Some(400)),
        (WEB.into(), Some(400)),
        (format!("{WEB}:1"), Some(503)),
    ] {
        assert_eq!(member::ask(to(), Some(&good), &authority), wanted, "{authority}");
    }
}

#[test]
fn who_answers_must_be_who_should() {
    let mut site = Site::new();
    site.other_joins();
    // Somebody else has the address, with a certificate of the mesh that is for another.
    site.cluster.member("other", "10.55.0.9");
    site.cluster.member("web", OTHER);
    site.swap();
    serve("thief", site.other.run(|| TcpListener::bind((OTHER, WEB_PORT)).unwrap()));
    until("the thief is found out", || answer(&site.client, at(OTHER, WEB_PORT), "/").is_none());
}

#[test]
fn certificates_change_and_no_request_is_lost() {
    let site = Site::new();
    let mut open = site.client.run(|| connect(SERVICE));
    for round in 0..6 {
        for _ in 0..20 {
            assert_eq!(ask(&mut open).who, "web");
            assert_eq!(asked(&site.client, at(WEB, WEB_PORT)).who, "web");
        }
        let (node, account) = if round % 2 == 0 { (0, "client") } else { (1, "web") };
        site.authority.prove(&site.certificates[node], &[&identity(account)]);
    }
    // Another authority, as all learn to believe it before they show what it has signed.
    let next = Authority::new("next");
    for certificates in &site.certificates {
        certificates.set_roots(&[site.authority.root.clone(), next.root.clone()]).unwrap();
    }
    next.prove(&site.certificates[0], &[&identity("client")]);
    next.prove(&site.certificates[1], &[&identity("web")]);
    for certificates in &site.certificates {
        certificates.set_roots(std::slice::from_ref(&next.root)).unwrap();
    }
    assert_eq!(asked(&site.client, at(WEB, WEB_PORT)).who, "web");
    assert_eq!(ask(&mut open).who, "web");
}

#[test]
fn what_has_expired_is_shown_to_nobody() {
    let site = Site::new();
    assert_eq!(asked(&site.client, at(WEB, WEB_PORT)).who, "web");
    let issued = site.authority.issue(identity("client").as_str(), Quirk::None);
    let past = SystemTime::now() - Duration::from_secs(1);
    site.certificates[0].set(&identity("client"), &[issued.certificate], &issued.key, past).unwrap();
    // In plain text it is not said either: who is asked would not know who asks.
    assert_eq!(answer(&site.client, at(WEB, WEB_PORT), "/"), None);
    site.authority.prove(&site.certificates[0], &[&identity("client")]);
    assert_eq!(asked(&site.client, at(WEB, WEB_PORT)).who, "web");
}

#[test]
fn a_member_that_nobody_serves_yet_is_asked_in_plain_text_and_then_never_again() {
    let mut site = Site::new();
    // It is a member, as far as the model says; its node has not captured it.
    site.authority.prove(&site.certificates[0], &[&identity("other")]);
    site.cluster.member("other", OTHER);
    site.swap();
    serve("other", site.other.run(|| TcpListener::bind((OTHER, WEB_PORT)).unwrap()));
    until("it is asked", || asked(&site.client, at(OTHER, WEB_PORT)).who == "other");
    // Where only members may come it is not.
    site.cluster.mode("strict");
    site.swap();
    until("it is not asked", || answer(&site.client, at(OTHER, WEB_PORT), "/").is_none());
    site.cluster.mode("permissive");
    site.swap();
    until("it is asked again", || answer(&site.client, at(OTHER, WEB_PORT), "/") == Some(200));
    site.other_joins();
    let frames = site.sniff();
    assert_eq!(asked(&site.client, at(OTHER, WEB_PORT)).peer, CLIENT);
    assert_eq!(asked(&site.wire, at(OTHER, WEB_PORT)).who, "other");
    loop {
        let frame = frames.recv_timeout(site::PATIENCE).unwrap();
        let is_probe = has(&frame, &[10, 55, 0, 1]);
        assert!(is_probe || !has(&frame, REQUEST), "it was not encrypted");
        if is_probe && has(&frame, ANSWER) {
            break;
        }
    }
}

#[test]
fn who_says_that_nobody_serves_it_any_more_is_asked_in_plain_text() {
    const WORDS: &[u8] = b"words that anybody may read";
    let mut site = Site::new();
    let listener = site.listen(9100);
    std::thread::spawn(move || {
        for visitor in listener.incoming() {
            // Whoever is gone does not hear it.
            let _gone = visitor.unwrap().write_all(WORDS);
        }
    });
    let frames = site.sniff();
    let hears = |site: &Site| {
        let mut visitor = site.client.run(|| connect(at(WEB, 9100)));
        visitor.read_exact(&mut [0; WORDS.len()]).is_ok()
    };
    assert!(hears(&site));
    assert!(!frames.try_iter().any(|frame| has(&frame, WORDS)), "it was not encrypted");
    site.web_leaves();
    until("it is asked in plain text", || hears(&site) && frames.try_iter().any(|frame| has(&frame, WORDS)));
}

#[test]
fn a_pod_that_is_closed_stays_so_while_nobody_serves_it() {
    let mut site = Site::new();
    let elsewhere = site.other.run(|| TcpListener::bind((OTHER, 9000)).unwrap());
    mesh::capture::close(&site.web, &site::names(), &site::node_addresses()).unwrap();
    // Again is no error, and who is served is not touched by it.
    mesh::capture::close(&site.web, &site::names(), &site::node_addresses()).unwrap();
    assert_eq!(asked(&site.other, at(WEB, WEB_PORT)).peer, OTHER);
    assert_eq!(asked(&site.client, SERVICE).who, "web");
    site.lose();
    let refused = site.other.run(|| TcpStream::connect(at(WEB, WEB_PORT)));
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    // Probes, and what the pod itself begins, are no business of it.
    assert_eq!(asked(&site.wire, at(WEB, WEB_PORT)).peer, site::NODE);
    let mut own = site.web.run(|| connect(at(OTHER, 9000)));
    elsewhere.accept().unwrap().0.write_all(b"hello").unwrap();
    own.read_exact(&mut [0; 5]).unwrap();
    for _ in 0..2 {
        mesh::capture::open(&site.web, &site::names()).unwrap();
        assert_eq!(asked(&site.other, at(WEB, WEB_PORT)).peer, OTHER);
    }
}

#[test]
fn what_was_open_before_goes_on_until_the_pod_is_closed() {
    let mut site = Site::new();
    let inside = site.other.run(|| TcpListener::bind((OTHER, 9000)).unwrap());
    let guest = site.guest("10.55.0.9");
    let mut visitor = guest.run(|| connect(at(OTHER, 9000)));
    let (mut host, _) = inside.accept().unwrap();
    site.other_joins();
    for _ in 0..3 {
        host.write_all(b"hello").unwrap();
        visitor.read_exact(&mut [0; 5]).unwrap();
        visitor.write_all(b"hello").unwrap();
        host.read_exact(&mut [0; 5]).unwrap();
    }
    // Nobody has seen who has begun it, so it may be from somebody who is to be kept out.
    mesh::capture::close(&site.other, &site::names(), &site::node_addresses()).unwrap();
    visitor.write_all(b"hello").unwrap();
    assert!(has_ended(&mut visitor));
    // The pod's program hears of it as well, when it next says something.
    until("it is told", || host.write_all(b"hello").is_err());
}
