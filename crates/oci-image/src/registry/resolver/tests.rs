//! A nameserver of our own on loopback.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use proptest::prelude::*;

use super::message::{Data, Kind, MessageError, decode_response, encode_query};
use super::*;

#[derive(Clone, Copy, PartialEq)]
enum Behaviour {
    Answer,
    Truncate,
    Silent,
    Refuse,
    NoAaaa,
}

/// Answers for the names of `zone`; runs until the process ends.
fn nameserver(behaviour: Behaviour, zone: &[(&str, &[&str])]) -> SocketAddr {
    let zone: HashMap<String, Vec<String>> = zone
        .iter()
        .map(|(name, values)| ((*name).into(), values.iter().map(|v| (*v).into()).collect()))
        .collect();
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().unwrap();
    let for_tcp = zone.clone();
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut query).unwrap();
            let answer = respond(&query, &for_tcp, Behaviour::Answer).unwrap();
            stream.write_all(&(answer.len() as u16).to_be_bytes()).unwrap();
            stream.write_all(&answer).unwrap();
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 600];
        while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
            if let Some(answer) = respond(&buffer[..length], &zone, behaviour) {
                udp.send_to(&answer, peer).unwrap();
            }
        }
    });
    address
}

fn respond(query: &[u8], zone: &HashMap<String, Vec<String>>, behaviour: Behaviour) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8(query[at + 1..end].to_vec()).unwrap());
        at = end;
    }
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let name = labels.join(".").to_ascii_lowercase();
    let known = zone.get(&name);
    let (truncated, code) = match behaviour {
        Behaviour::Silent => return None,
        Behaviour::NoAaaa if kind == 28 => return None,
        Behaviour::Truncate => (2, 0),
        Behaviour::Refuse => (0, 5),
        _ => (0, if known.is_some() { 0 } else { 3 }),
    };
    let mut answer = query[..2].to_vec();
    answer.extend([0x81 | truncated, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0]);
    answer.extend(&query[12..at + 5]);
    if truncated != 0 || code != 0 {
        return Some(answer);
    }
    let mut owner = vec![0xc0, 12];
    for value in known.into_iter().flatten() {
        let (number, data) = match value.parse::<IpAddr>() {
            Ok(IpAddr::V4(v4)) => (1u16, v4.octets().to_vec()),
            Ok(IpAddr::V6(v6)) => (28, v6.octets().to_vec()),
            Err(_) => (5, wire(value)),
        };
        if number == kind || number == 5 {
            answer[7] += 1;
            answer.extend(&owner);
            answer.extend(number.to_be_bytes());
            answer.extend([0, 1, 0, 0, 0, 60]);
            answer.extend((data.len() as u16).to_be_bytes());
            if number == 5 {
                owner = vec![0xc0 | (answer.len() >> 8) as u8, answer.len() as u8];
            }
            answer.extend(data);
        }
    }
    Some(answer)
}

fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
    labels.chain([0]).collect()
}

fn resolver(servers: &[SocketAddr]) -> Resolver {
    let conf = ResolvConf {
        nameservers: servers.to_vec(),
        search: vec!["search.test".into()],
        // Who answers has done so by then, whoever else has the processors.
        timeout: Duration::from_secs(3),
        attempts: 1,
        ..ResolvConf::default()
    };
    Resolver::with("/nonexistent".into(), conf)
}

fn text(addresses: &[IpAddr]) -> Vec<String> {
    let mut text: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    text.sort();
    text
}

#[test]
fn both_families_aliases_and_search() {
    let server = nameserver(
        Behaviour::Answer,
        &[
            ("reg.test", &["10.1.2.3", "fd00::7", "10.1.2.4"]),
            ("alias.test", &["real.test", "10.9.9.9"]),
            ("short.search.test", &["10.5.5.5"]),
            ("empty.test", &[]),
        ],
    );
    let resolver = resolver(&[server]);
    assert_eq!(text(&resolver.lookup("Reg.TEST", None).unwrap()), ["10.1.2.3", "10.1.2.4", "fd00::7"]);
    assert_eq!(text(&resolver.lookup("alias.test", None).unwrap()), ["10.9.9.9"]);
    assert_eq!(text(&resolver.lookup("short", None).unwrap()), ["10.5.5.5"]);
    for missing in ["nothing.test", "empty.test"] {
        assert!(matches!(resolver.lookup(missing, None), Err(LookupError::NotFound { .. })), "{missing}");
    }
    assert!(matches!(resolver.lookup("a..b", None), Err(LookupError::BadName { .. })));
}

#[test]
fn literals_hosts_and_localhost_need_no_server() {
    let dir = tempfile::tempdir().unwrap();
    let hosts = dir.path().join("hosts");
    std::fs::write(&hosts, "10.3.3.3 reg.test\n").unwrap();
    let resolver = Resolver::with(hosts, ResolvConf { nameservers: Vec::new(), ..ResolvConf::default() });
    assert_eq!(text(&resolver.lookup("reg.test", None).unwrap()), ["10.3.3.3"]);
    assert_eq!(text(&resolver.lookup("[::1]", None).unwrap()), ["::1"]);
    assert_eq!(text(&resolver.lookup("192.0.2.1", None).unwrap()), ["192.0.2.1"]);
    assert_eq!(text(&resolver.lookup("a.localhost", None).unwrap()), ["127.0.0.1", "::1"]);
}

#[test]
fn truncation_means_tcp() {
    let server = nameserver(Behaviour::Truncate, &[("big.test", &["10.1.1.1", "fd00::1"])]);
    assert_eq!(text(&resolver(&[server]).lookup("big.test", None).unwrap()), ["10.1.1.1", "fd00::1"]);
}

#[test]
fn the_next_server_is_asked() {
    let good = nameserver(Behaviour::Answer, &[("a.test", &["10.1.1.1"])]);
    for bad in [Behaviour::Silent, Behaviour::Refuse] {
        let bad = nameserver(bad, &[]);
        assert_eq!(text(&resolver(&[bad, good]).lookup("a.test", None).unwrap()), ["10.1.1.1"]);
    }
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(resolver(&[closed, good]).lookup("a.test", None).is_ok());
    let error = resolver(&[closed]).lookup("a.test", None).unwrap_err().to_string();
    assert!(error.contains(&closed.to_string()) && error.contains("resolv.conf"), "{error}");
}

#[test]
fn one_family_is_enough() {
    let server = nameserver(Behaviour::NoAaaa, &[("a.test", &["10.1.1.1"])]);
    assert_eq!(text(&resolver(&[server]).lookup("a.test", None).unwrap()), ["10.1.1.1"]);
}

#[test]
fn orders_by_route_then_family() {
    let all: Vec<IpAddr> =
        ["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"].map(|a| a.parse().unwrap()).to_vec();
    let ordered = order(all.clone(), |_| true);
    assert_eq!(ordered.iter().map(IpAddr::is_ipv6).collect::<Vec<_>>(), [true, false, true, false]);
    let ordered = order(all, |address| address.is_ipv4());
    assert_eq!(ordered.iter().map(IpAddr::is_ipv6).collect::<Vec<_>>(), [false, false, true, true]);
}

#[test]
fn pointers_cannot_loop() {
    let mut message = encode_query(1, "x", Kind::A).unwrap();
    message[2] = 0x80;
    message.truncate(12);
    message.extend([0xc0, 12, 0, 1, 0, 1]);
    assert_eq!(decode_response(&message), Err(MessageError::Name));
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_response(&bytes);
        let mut response = encode_query(7, "a.test", Kind::A).unwrap();
        response[2] |= 0x80;
        response[7] = 3;
        response.extend(bytes);
        let _ = decode_response(&response);
    }

    #[test]
    fn answers_survive_the_wire(octets in any::<[u8; 4]>(), name in "[a-z]{1,20}(\\.[a-z]{1,20}){0,3}") {
        let zone = HashMap::from([(name.clone(), vec![Ipv4Addr::from(octets).to_string()])]);
        let query = encode_query(9, &name, Kind::A).unwrap();
        let response = decode_response(&respond(&query, &zone, Behaviour::Answer).unwrap()).unwrap();
        prop_assert!(response.answers(9, &name, Kind::A) && !response.answers(8, &name, Kind::A));
        prop_assert_eq!(&response.answers[0].data, &Data::Address(Ipv4Addr::from(octets).into()));
    }
}
