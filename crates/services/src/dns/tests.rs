use std::net::SocketAddr;

use client::cache::Change;
use hickory_proto::op::{Message, MessageType};
use serde_json::json;

use super::*;
use crate::world::Known;

fn object<K: serde::de::DeserializeOwned>(value: serde_json::Value) -> Change<K> {
    Change { old: None, new: Some(Arc::new(serde_json::from_value(value).unwrap())) }
}

/// A ClusterIP, a headless and an external Service, and their pods.
fn known() -> Known {
    let mut known = Known::default();
    known.enter_namespace(&object(json!({"metadata": {"name": "shop"}})));
    let service = |name: &str, spec: serde_json::Value| {
        object(json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec}))
    };
    known.enter_service(&service(
        "web",
        json!({"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd96::7"],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}),
    ));
    known.enter_service(&service(
        "db",
        json!({"clusterIP": "None", "clusterIPs": ["None"],
        "ports": [{"name": "sql", "port": 5432}]}),
    ));
    known.enter_service(&service(
        "else",
        json!({"type": "ExternalName", "externalName": "web.shop.svc.cluster.local"}),
    ));
    known.enter_service(&service("far", json!({"type": "ExternalName", "externalName": "www.example.com"})));
    known.enter_slice(&object(json!({"metadata": {"name": "db-1", "namespace": "shop",
        "labels": {"kubernetes.io/service-name": "db"}}, "addressType": "IPv4",
        "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.9.0.5"], "hostname": "db-0", "conditions": {"ready": true}},
            {"addresses": ["10.9.0.6"], "conditions": {"ready": true}},
            {"addresses": ["10.9.0.7"], "hostname": "db-2", "conditions": {"ready": false}}]})));
    known.completed();
    known
}

fn resolver(known: Known, servers: Vec<SocketAddr>) -> Resolver {
    let world = Arc::new(World::default());
    *world.write() = known;
    Resolver::new(world, "cluster.local", Upstream::new(Source::Servers(servers), Vec::new())).unwrap()
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.queries.push(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

/// The code, the answers (type and data) and the additional records.
fn ask(resolver: &Resolver, name: &str, kind: RecordType) -> (ResponseCode, Vec<String>, usize) {
    let request = question(name, kind);
    let Said::Reply(reply) = resolver.say(&request.to_vec().unwrap(), true) else { panic!("{name}") };
    let reply = Message::from_vec(&reply).unwrap();
    assert_eq!((reply.metadata.id, &reply.queries), (request.metadata.id, &request.queries));
    let mut answers: Vec<String> = reply.answers.iter().map(|record| record.data.to_string()).collect();
    answers.sort();
    (reply.metadata.response_code, answers, reply.additionals.len())
}

#[test]
fn names_of_the_cluster() {
    let resolver = resolver(known(), Vec::new());
    let (a, aaaa, srv) = (RecordType::A, RecordType::AAAA, RecordType::SRV);
    let db = ["10.9.0.5", "10.9.0.6"];
    let sql = ["0 50 5432 10-9-0-6.db.shop.svc.cluster.local.", "0 50 5432 db-0.db.shop.svc.cluster.local."];
    for (name, kind, wanted) in [
        ("web.shop.svc.cluster.local.", a, &["10.96.0.7"][..]),
        ("WEB.shop.Svc.cluster.local.", aaaa, &["fd96::7"]),
        ("web.shop.svc.cluster.local.", RecordType::TXT, &[]),
        ("_http._tcp.web.shop.svc.cluster.local.", srv, &["0 100 80 web.shop.svc.cluster.local."]),
        ("_http._tcp.web.shop.svc.cluster.local.", a, &[]),
        ("_tcp.web.shop.svc.cluster.local.", a, &[]),
        ("db.shop.svc.cluster.local.", a, &db),
        ("db.shop.svc.cluster.local.", aaaa, &[]),
        ("_sql._tcp.db.shop.svc.cluster.local.", srv, &sql),
        ("db-0.db.shop.svc.cluster.local.", a, &["10.9.0.5"]),
        ("10-9-0-6.db.shop.svc.cluster.local.", a, &["10.9.0.6"]),
        ("10-9-0-6.shop.pod.cluster.local.", a, &["10.9.0.6"]),
        ("fd09--6.shop.pod.cluster.local.", aaaa, &["fd09::6"]),
        ("7.0.96.10.in-addr.arpa.", RecordType::PTR, &["web.shop.svc.cluster.local."]),
        ("5.0.9.10.in-addr.arpa.", RecordType::PTR, &["db-0.db.shop.svc.cluster.local."]),
        ("else.shop.svc.cluster.local.", a, &["10.96.0.7", "web.shop.svc.cluster.local."]),
        ("dns-version.cluster.local.", RecordType::TXT, &["1.1.0"]),
        ("shop.svc.cluster.local.", a, &[]),
        ("cluster.local.", a, &[]),
    ] {
        let (code, answers, _) = ask(&resolver, name, kind);
        assert_eq!(
            (code, answers.as_slice()),
            (ResponseCode::NoError, &wanted.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
            "{name} {kind}"
        );
    }
    for name in [
        "db-2.db.shop.svc",
        "x.shop.svc",
        "web.other.svc",
        "other.svc",
        "x.web.shop.svc",
        "1-2-3-4.other.pod",
        "x.shop.pod",
        "_x._tcp.web.shop.svc",
        "_udp.web.shop.svc",
        "shop",
        "www.example.com.shop.svc",
        "a.b.c.d.e.f.g",
    ] {
        let (code, answers, _) = ask(&resolver, &format!("{name}.cluster.local."), a);
        assert_eq!((code, answers.len()), (ResponseCode::NXDomain, 0), "{name}");
    }
    assert_eq!(ask(&resolver, "_http._tcp.web.shop.svc.cluster.local.", srv).2, 2);
    for name in ["www.example.com.", "1.0.0.127.in-addr.arpa.", "far.shop.svc.cluster.local."] {
        let request = question(name, a).to_vec().unwrap();
        assert!(matches!(resolver.say(&request, true), Said::Ask(_)), "{name}");
    }
}

#[test]
fn before_all_is_known_nothing_is_denied() {
    let resolver = resolver(Known::default(), Vec::new());
    assert_eq!(ask(&resolver, "web.shop.svc.cluster.local.", RecordType::A).0, ResponseCode::ServFail);
}

#[test]
fn what_is_no_question_is_refused_or_not_answered() {
    let resolver = resolver(known(), Vec::new());
    let mut answer = question("web.shop.svc.cluster.local.", RecordType::A);
    answer.metadata.message_type = MessageType::Response;
    for nothing in [&answer.to_vec().unwrap()[..], &[], &[0; 11], &[0xff; 40]] {
        assert!(matches!(resolver.say(nothing, true), Said::Nothing));
    }
    let refused = |bytes: &[u8]| {
        let Said::Reply(reply) = resolver.say(bytes, true) else { panic!("no reply") };
        Message::from_vec(&reply).unwrap().metadata.response_code
    };
    assert_eq!(refused(&[0; 12]), ResponseCode::FormErr);
    assert_eq!(refused(&question(".", RecordType::AXFR).to_vec().unwrap()), ResponseCode::NotImp);
    let mut two = question("a.", RecordType::A);
    two.queries.push(two.queries[0].clone());
    assert_eq!(refused(&two.to_vec().unwrap()), ResponseCode::FormErr);
}

#[test]
fn a_datagram_has_what_fits_and_a_stream_all() {
    let mut known = known();
    let endpoints: Vec<_> = (0..200).map(|n| json!({"addresses": [format!("10.9.1.{n}")]})).collect();
    known.enter_slice(&object(json!({"metadata": {"name": "db-2", "namespace": "shop",
        "labels": {"kubernetes.io/service-name": "db"}}, "addressType": "IPv4", "endpoints": endpoints})));
    let resolver = resolver(known, Vec::new());
    let mut request = question("db.shop.svc.cluster.local.", RecordType::A);
    let reply = |request: &Message, datagram| {
        let Said::Reply(reply) = resolver.say(&request.to_vec().unwrap(), datagram) else { panic!() };
        (reply.len(), Message::from_vec(&reply).unwrap())
    };
    let (length, small) = reply(&request, true);
    assert!(length <= 512 && small.metadata.truncation && small.answers.len() > 20, "{length}");
    request.set_edns(reply::edns(false));
    let (length, large) = reply(&request, true);
    assert!(length <= 1232 && large.metadata.truncation && large.answers.len() > small.answers.len());
    let (_, all) = reply(&request, false);
    assert!(!all.metadata.truncation);
    assert_eq!(all.answers.len(), 202);
}

/// A server that answers everything with one address, by datagram with nothing but the word that it is not all if `torn`.
async fn server(torn: bool) -> (SocketAddr, Arc<std::sync::atomic::AtomicUsize>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listeners = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listeners.local_addr().unwrap();
    let socket = tokio::net::UdpSocket::bind(at).await.unwrap();
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = asked.clone();
    let answer = |bytes: &[u8], torn: bool| {
        let request = Message::from_vec(bytes).unwrap();
        let mut reply = Message::response(request.metadata.id, hickory_proto::op::OpCode::Query);
        reply.queries = request.queries;
        reply.metadata.truncation = torn;
        let data = hickory_proto::rr::RData::A(hickory_proto::rr::rdata::A::new(192, 0, 2, 80));
        let name = reply.queries[0].name.clone();
        reply.answers.extend((!torn).then(|| Record::from_rdata(name, 60, data)));
        reply.to_vec().unwrap()
    };
    tokio::spawn(async move {
        let mut buffer = [0; 1000];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            socket.send_to(&answer(&buffer[..length], torn), from).await.unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listeners.accept().await.unwrap();
            let mut bytes = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut bytes).await.unwrap();
            let reply = answer(&bytes, false);
            stream.write_u16(u16::try_from(reply.len()).unwrap()).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    });
    (at, asked)
}

#[tokio::test]
async fn others_are_asked_once_and_the_next_where_one_fails() {
    for torn in [false, true] {
        let (at, asked) = server(torn).await;
        // Nobody listens at the first.
        let resolver = resolver(known(), vec!["127.0.0.1:1".parse().unwrap(), at]);
        for (name, answers) in
            [("www.example.com.", 1), ("WWW.example.com.", 1), ("far.shop.svc.cluster.local.", 2)]
        {
            let request = question(name, RecordType::A).to_vec().unwrap();
            let reply = Message::from_vec(&resolver.reply(&request, true).await.unwrap()).unwrap();
            assert_eq!(
                (reply.metadata.response_code, reply.answers.len()),
                (ResponseCode::NoError, answers),
                "{name}"
            );
        }
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
    }
    let nobody = resolver(known(), Vec::new());
    let request = question("www.example.com.", RecordType::A).to_vec().unwrap();
    let reply = Message::from_vec(&nobody.reply(&request, true).await.unwrap()).unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn requests_are_served_by_datagram_and_by_stream() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listeners = Listeners::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let at = listeners.address().unwrap();
    tokio::spawn(serve(Arc::new(resolver(known(), Vec::new())), listeners));
    let request = question("web.shop.svc.cluster.local.", RecordType::A).to_vec().unwrap();
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&request, at).await.unwrap();
    let mut buffer = [0; 1000];
    let (length, _) = socket.recv_from(&mut buffer).await.unwrap();
    assert_eq!(Message::from_vec(&buffer[..length]).unwrap().answers.len(), 1);
    let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
    for _ in 0..2 {
        stream.write_u16(u16::try_from(request.len()).unwrap()).await.unwrap();
        stream.write_all(&request).await.unwrap();
        let mut reply = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut reply).await.unwrap();
        assert_eq!(Message::from_vec(&reply).unwrap().answers.len(), 1);
    }
}
