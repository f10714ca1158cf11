//! What is counted, of whom, and what is told of single requests.

use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mesh::balance::Ejection;
use mesh::proxy::Settings;
use mesh::telemetry::{Counted, Numbers, Reason, Snapshot};
use smi::model::*;

use crate::backend::{Backend, nobody};
use crate::harness::{FRONTEND, Harness, LINES, until};
use crate::http2_peer::{Peer, answering, headers};
use crate::models::*;

/// Endpoints that are pods.
fn pods(service: &str, pods: &[(&str, SocketAddr)]) -> Shared {
    let addresses: Vec<SocketAddr> = pods.iter().map(|(_, address)| *address).collect();
    let Shared { key, entry } = endpoints(service, &addresses);
    let Entry::Endpoints(mut list) = Entry::clone(&entry) else { unreachable!("they are endpoints") };
    for (endpoint, (pod, _)) in list.iter_mut().zip(pods) {
        endpoint.pod = Some(name(pod));
    }
    Shared { key, entry: Arc::new(Entry::Endpoints(list)) }
}

/// What was counted of a backend; of none, of what went to nobody.
fn of<'s>(snapshot: &'s Snapshot, backend: Option<&str>) -> Vec<&'s Counted> {
    let of = |counted: &Counted| {
        let (service, port) = snapshot.tables.service(counted.backend?)?;
        assert_eq!(*port, 80);
        Some(service.name.clone())
    };
    snapshot.series.iter().filter(|counted| of(counted).as_deref() == backend).collect()
}

fn because(numbers: &Numbers, reason: Reason) -> u64 {
    numbers.reasons[reason.place()]
}

/// A rule that is not the first of its route.
fn second(backends: Vec<smi::model::Backend>) -> HttpRule {
    let mut second = rule(backends);
    second.from.rule = 1;
    second
}

#[test]
fn a_request_is_counted_of_its_service_rule_backend_and_pod() {
    let a = Backend::saying("a");
    let b = Backend::answering(|_| "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".into());
    let matches = vec![prefix("/b", 1), prefix("/a", 0)];
    let routing = routes(matches, vec![rule(vec![backend("a", 1)]), second(vec![backend("b", 1)])]);
    let all =
        vec![frontend(routing, None), pods("a", &[("a-1", a.address)]), pods("b", &[("b-1", b.address)])];
    let mesh = Harness::new(delta(all));
    let answers: Vec<_> = (0..3).map(|_| mesh.get("/a")).collect();
    (0..2).for_each(|_| assert_eq!(mesh.get("/b").0, 500));
    assert_eq!(mesh.get("/c").0, 404);
    let snapshot = mesh.look();
    let [counted] = of(&snapshot, Some("a"))[..] else { panic!("{:?}", snapshot.series) };
    assert_eq!(snapshot.tables.service(counted.frontend.unwrap()), Some(&(name("web"), 80)));
    assert_eq!(snapshot.tables.rule(counted.rule.unwrap()), Some(&origin()));
    assert_eq!((counted.endpoint, &counted.pod), (Some(a.address), &Some(name("a-1"))));
    let numbers = &counted.numbers;
    assert_eq!((numbers.classes, numbers.latency.count()), ([0, 0, 3, 0, 0, 0], 3));
    assert_eq!(numbers.sent, a.heads().iter().map(|head| head.len() as u64).sum::<u64>());
    let received: usize = answers.iter().map(|(_, head, body)| head.len() + body.len()).sum();
    assert_eq!(numbers.received, received as u64);
    assert_eq!((numbers.successes(), numbers.failures(), numbers.opened), (3, 0, 0));
    let [counted] = of(&snapshot, Some("b"))[..] else { panic!("{:?}", snapshot.series) };
    assert_eq!(snapshot.tables.rule(counted.rule.unwrap()).unwrap().rule, 1);
    assert_eq!((counted.numbers.classes[5], counted.numbers.failures()), (2, 2));
    let [counted] = of(&snapshot, None)[..] else { panic!("{:?}", snapshot.series) };
    assert_eq!((counted.rule, counted.endpoint, counted.numbers.classes[4]), (None, None, 1));
    assert_eq!(because(&counted.numbers, Reason::NoRoute), 1);
    // The address is another pod's: what it does is not the first one's.
    mesh.swap(delta(vec![pods("a", &[("a-2", a.address)])]));
    until("the new pod is counted", || {
        mesh.get("/a");
        let snapshot = mesh.look();
        of(&snapshot, Some("a")).iter().any(|counted| counted.pod == Some(name("a-2")))
    });
    let snapshot = mesh.look();
    let mut both = of(&snapshot, Some("a"));
    both.sort_by_key(|counted| !counted.is_over);
    let [old, new] = both[..] else { panic!("{both:?}") };
    assert_eq!((old.is_over, &old.pod, new.is_over), (true, &Some(name("a-1")), false));
    assert_eq!(old.numbers.requests() + new.numbers.requests(), a.heads().len() as u64);
    assert!(snapshot.swaps >= 2);
}

#[test]
fn a_change_of_numbers_does_not_mix_rules_up() {
    let web = Backend::saying("web");
    let route = |rules: Vec<HttpRule>| {
        let matches = (0..rules.len()).map(|number| prefix(&format!("/{}", rules[number].from.rule), number));
        let routing = routes(matches.collect(), rules);
        delta(vec![frontend(routing, None), pods("web", &[("web-1", web.address)])])
    };
    let to_web = || vec![backend("web", 1)];
    let mesh = Harness::new(route(vec![rule(to_web()), second(to_web())]));
    assert_eq!((mesh.get("/0").0, mesh.get("/1").0), (200, 200));
    // The second is the only one now, and is still itself.
    mesh.swap(route(vec![second(to_web())]));
    until("the first is gone", || mesh.get("/0").0 == 404);
    assert_eq!(mesh.get("/1").0, 200);
    let snapshot = mesh.look();
    let counts: Vec<(usize, u64)> = of(&snapshot, Some("web"))
        .iter()
        .map(|counted| {
            (snapshot.tables.rule(counted.rule.unwrap()).unwrap().rule, counted.numbers.requests())
        })
        .collect();
    assert_eq!(counts.len(), 2, "{counts:?}");
    assert!(counts.contains(&(1, 2)), "{counts:?}");
}

#[test]
fn why_nobody_answers_is_counted() {
    let hour = Duration::from_secs(3600);
    let ejection = Ejection { no_answers: 1, share: 100, base: hour, most: hour, ..Ejection::default() };
    let settings = Settings { ejection, ..Settings::default() };
    let gone = nobody();
    let mesh = Harness::with(plain(&[gone]), settings, FRONTEND, None);
    assert_eq!(mesh.get("/").0, 503);
    let snapshot = mesh.look();
    let [counted] = of(&snapshot, Some("web"))[..] else { panic!("{:?}", snapshot.series) };
    assert_eq!((counted.numbers.failed, counted.numbers.retried, counted.endpoint), (1, 0, Some(gone)));
    assert_eq!((because(&counted.numbers, Reason::NoConnection), counted.numbers.classes[5]), (1, 1));
    let [viewed] = &snapshot.endpoints[..] else { panic!("{:?}", snapshot.endpoints) };
    assert_eq!((viewed.seen.address, viewed.seen.ejections), (gone, 1));
    assert!(viewed.seen.out_for.is_some(), "{viewed:?}");
    // A second one is asked before the client is told.
    let mesh = Harness::new(plain(&[gone, nobody()]));
    assert_eq!(mesh.get("/").0, 503);
    let snapshot = mesh.look();
    let both = of(&snapshot, Some("web"));
    assert_eq!(both.len(), 2);
    let sum = |of: fn(&Numbers) -> u64| both.iter().map(|counted| of(&counted.numbers)).sum::<u64>();
    assert_eq!((sum(|n| n.failed), sum(|n| n.retried), sum(Numbers::requests)), (2, 1, 1));
    let mesh = Harness::new(plain(&[]));
    assert_eq!(mesh.get("/").0, 503);
    let snapshot = mesh.look();
    let [counted] = of(&snapshot, Some("web"))[..] else { panic!("{:?}", snapshot.series) };
    assert_eq!((because(&counted.numbers, Reason::NoEndpoint), counted.endpoint), (1, None));
    let refused = mesh.ask("GET / HTTP/1.1\r\nHost: web\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n");
    assert_eq!(refused.0, 400);
    let snapshot = mesh.look();
    let [counted] = of(&snapshot, None)[..] else { panic!("{:?}", snapshot.series) };
    assert_eq!(because(&counted.numbers, Reason::Refused), 1);
}

#[test]
fn connections_and_their_bytes_are_counted_while_they_last() {
    let web = Backend::new(|_, mut wire| {
        let first = wire.exactly(5);
        wire.send(first);
        let rest = wire.rest().unwrap();
        wire.send(rest);
    });
    let mesh =
        Harness::new(delta(vec![frontend(Routing::Plain, Some("tcp")), endpoints("web", &[web.address])]));
    let mut wire = mesh.connect();
    wire.send("hello");
    assert_eq!(wire.exactly(5), b"hello");
    let numbers = |mesh: &Harness| {
        let snapshot = mesh.look();
        let all = of(&snapshot, Some("web"));
        assert_eq!(all.len(), 1, "{all:?}");
        (all[0].endpoint, all[0].numbers.clone())
    };
    // What was written may be seen before it is counted.
    until("both ways are counted", || {
        let (endpoint, now) = numbers(&mesh);
        assert_eq!((endpoint, now.opened, now.closed), (Some(web.address), 1, 0));
        (now.sent, now.received) == (5, 5)
    });
    wire.send("bye");
    wire.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(wire.rest().unwrap(), b"bye");
    until("it has ended", || numbers(&mesh).1.closed == 1);
    let (_, last) = numbers(&mesh);
    assert_eq!((last.sent, last.received, last.torn, last.requests()), (8, 8, 0, 0));
    until("the client is gone", || mesh.look().counts.ended == 1);
}

#[test]
fn calls_are_counted_by_their_status_of_grpc() {
    let web = answering(|_| {
        let head = headers(&[(":status", "200"), ("content-type", "application/grpc")]);
        (head, b"half".to_vec(), headers(&[("grpc-status", "14")]))
    });
    let routing = routes(vec![prefix("/shop", 0)], vec![rule(vec![backend("web", 1)])]);
    let mesh = Harness::new(delta(vec![frontend(routing, Some("grpc")), endpoints("web", &[web.address])]));
    mesh.look();
    let mut client = Peer::client(mesh.connect());
    let call = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/shop/Get"),
        (":authority", "web"),
        ("content-type", "application/grpc"),
    ];
    let stream = client.ask(&call, Some(b"message"), &[]);
    assert_eq!(client.answer(stream).status(), "200");
    let mut other = call;
    other[2].1 = "/other/Get";
    let stream = client.ask(&other, Some(b"message"), &[]);
    assert_eq!(client.answer(stream).get("grpc-status"), Some("12"));
    let snapshot = mesh.look();
    let [counted] = of(&snapshot, Some("web"))[..] else { panic!("{:?}", snapshot.series) };
    let numbers = &counted.numbers;
    assert_eq!((numbers.classes[2], numbers.grpc[14], numbers.failures()), (1, 1, 1));
    assert_eq!((numbers.sent, numbers.received, numbers.latency.count()), (7, 4, 1));
    let [counted] = of(&snapshot, None)[..] else { panic!("{:?}", snapshot.series) };
    assert_eq!((counted.numbers.grpc[12], because(&counted.numbers, Reason::NoRoute)), (1, 1));
    let line = mesh.lines.lock().unwrap().try_recv().unwrap();
    let request = line.request.unwrap();
    assert_eq!((request.version, request.method.as_str(), request.path.as_str()), (2, "POST", "/shop/Get"));
    assert_eq!((line.grpc, line.endpoint), (Some(14), Some(web.address)));
}

#[test]
fn a_line_is_told_of_each_request_and_nobody_waits_for_who_reads_them() {
    let web = Backend::saying("web");
    let mesh = Harness::new(plain(&[web.address]));
    // Nobody has asked for lines yet.
    mesh.get("/before");
    assert_eq!(mesh.look().lost, 0);
    mesh.get("/a/b?token=secret");
    let snapshot = mesh.look();
    let lines = mesh.lines.lock().unwrap();
    let line = lines.try_recv().unwrap();
    let request = line.request.unwrap();
    assert_eq!((request.version, request.method.as_str(), request.path.as_str()), (1, "GET", "/a/b"));
    assert_eq!((request.host.as_str(), line.status, line.reason), ("web", 200, None));
    assert_eq!((line.endpoint, line.retries, line.rule), (Some(web.address), 0, None));
    assert_eq!(snapshot.tables.service(line.frontend.unwrap()), Some(&(name("web"), 80)));
    assert!(lines.try_recv().is_err());
    let more = 4;
    (0..LINES + more).for_each(|_| assert_eq!(mesh.get("/").0, 200));
    assert_eq!(mesh.look().lost, more as u64);
    assert_eq!(lines.try_iter().count(), LINES);
}

#[test]
fn what_is_refused_at_its_head_has_a_line() {
    let web = Backend::saying("web");
    let mesh = Harness::new(plain(&[web.address]));
    mesh.look();
    // One that is whole and breaks the rules, and one of which no end is looked for.
    let twice = "GET / HTTP/1.1\r\nHost: web\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n";
    for request in [twice, "GET / HTTP/1.1\nHost: web\r\n\r\n"] {
        assert_eq!(mesh.ask(request).0, 400);
        mesh.look();
        let line = mesh.lines.lock().unwrap().try_recv().unwrap();
        assert_eq!((line.status, line.reason, line.endpoint), (400, Some(Reason::Refused), None));
        let request = line.request.unwrap();
        assert_eq!((request.version, request.method.as_str(), request.path.as_str()), (1, "", ""));
    }
}
