//! Services in the kernel: pods, a node and a machine beside it, and connections between them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod rig;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use kernel::netlink::{Protocol, Socket, conntrack};
use kernel::nft::{self, Element, Family, Transaction};
use rig::*;
use serde_json::{Value, json};
use services::plane::{Networks, Plane};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn both(name: &str, mut fields: Value) -> Value {
    fields["clusterIP"] = "10.96.0.7".into();
    fields["clusterIPs"] = json!(["10.96.0.7", "fd96::7"]);
    service(name, fields)
}

/// The pods that answer to many who ask.
fn seen(mut ask: impl FnMut() -> Result<(u8, IpAddr), ErrorKind>) -> BTreeSet<u8> {
    (0..40).map(|_| ask().unwrap().0).collect()
}

#[test]
fn pods_and_the_node_reach_a_service_and_are_spread_over_its_pods() {
    for call in [false, true] {
        on_a_node_whose_bridges(Some(call), |host| {
            // The first two are behind the Service: they reach themselves and each other through it.
            let pods = [host.pod(11), host.pod(12), host.pod(13)];
            host.service(both("web", json!({})));
            host.slice(slice("web", true, &[11, 12], &[]));
            host.slice(slice("web", false, &[11, 12], &[]));
            host.settle();
            for at in ["10.96.0.7:80", "[fd96::7]:80"] {
                for pod in &pods {
                    assert_eq!(seen(|| ask(pod, at)), [11, 12].into(), "{at}");
                }
                assert_eq!(seen(|| ask_here(at)), [11, 12].into(), "{at}");
                assert_eq!(seen(|| ask(&host.outside, at)), [11, 12].into(), "{at}");
            }
            for (client, at) in [("0.0.0.0:0", "10.96.0.7:53"), ("[::]:0", "[fd96::7]:53")] {
                let answers = seen(|| ping(&udp(&pods[0], client), at));
                assert_eq!(answers, [11, 12].into(), "{at}");
            }
            // Who comes from elsewhere is seen as who he is.
            assert_eq!(ask(&host.outside, "10.96.0.7:80").unwrap().1, ip("192.0.2.2"));
            // Debian's nft fails at some rulesets.
            assert!(listed().contains("numgen random mod 2"));
        });
    }
}

#[test]
fn without_endpoints_it_is_refused_at_once() {
    on_a_node(|host| {
        let pod = host.pod(11);
        host.service(both("web", json!({"ports": [{"name": "web", "port": 80, "nodePort": 30080}]})));
        host.settle();
        for at in ["10.96.0.7:80", "[fd96::7]:80", "10.9.0.1:30080"] {
            assert_eq!(ask(&pod, at), Err(ErrorKind::ConnectionRefused), "{at}");
            assert_eq!(ask_here(at), Err(ErrorKind::ConnectionRefused), "{at}");
        }
        assert_eq!(ask(&host.outside, "192.0.2.1:30080"), Err(ErrorKind::ConnectionRefused));
        host.slice(slice("web", true, &[11], &[]));
        host.changed("web");
        assert_eq!(ask(&pod, "10.96.0.7:80").unwrap().0, 11);
        assert_eq!(ask(&pod, "[fd96::7]:80"), Err(ErrorKind::ConnectionRefused));
        // Only of the node's own addresses, and not of its loopback.
        assert_eq!(ask(&host.outside, "192.0.2.1:30080").unwrap(), (11, ip("192.0.2.2")));
        assert_eq!(ask_here("10.9.0.1:30080").unwrap().0, 11);
        assert_eq!(ask_here("127.0.0.1:30080"), Err(ErrorKind::ConnectionRefused));
        host.slice(slice("web", true, &[], &[]));
        host.changed("web");
        assert_eq!(ask(&pod, "10.96.0.7:80"), Err(ErrorKind::ConnectionRefused));
    });
}

#[test]
fn the_node_reaches_services_without_a_way_to_anywhere_and_what_none_has_is_refused() {
    on_a_node(|host| {
        let pod = host.pod(11);
        ways_to_services_alone();
        host.plane = Plane::open(
            TABLE,
            Networks::new(vec![], vec![], SERVICES.map(|net| net.parse().unwrap()).to_vec()),
        )
        .unwrap();
        host.service(both("web", json!({})));
        host.slice(slice("web", true, &[11], &[]));
        host.slice(slice("web", false, &[11], &[]));
        host.settle();
        for at in ["10.96.0.7:80", "[fd96::7]:80"] {
            assert_eq!(ask_here(at).unwrap().0, 11, "{at}");
            assert_eq!(ask(&pod, at).unwrap().0, 11, "{at}");
        }
        assert_eq!(ping(&UdpSocket::bind("0.0.0.0:0").unwrap(), "10.96.0.7:53").unwrap().0, 11);
        for at in ["10.96.0.7:81", "10.96.0.8:80"] {
            assert_eq!(ask_here(at), Err(ErrorKind::ConnectionRefused), "{at}");
            assert_eq!(ask(&pod, at), Err(ErrorKind::ConnectionRefused), "{at}");
        }
        for at in ["[fd96::7]:81", "[fd96::8]:80"] {
            for outcome in [ask_here(at), ask(&pod, at)] {
                let refused =
                    [ErrorKind::ConnectionRefused, ErrorKind::NetworkUnreachable, ErrorKind::HostUnreachable];
                assert!(matches!(&outcome, Err(error) if refused.contains(error)), "{at}: {outcome:?}");
            }
        }
        assert!(listed().contains("services4"));
    });
}

#[test]
fn a_client_comes_to_the_same_pod_again_until_that_is_gone() {
    on_a_node(|host| {
        let _pods = [host.pod(11), host.pod(12), host.pod(13)];
        let client = host.pod(20);
        let affinity = json!({"clientIP": {"timeoutSeconds": 600}});
        let sticky = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": affinity});
        host.service(both("web", sticky));
        for ipv4 in [true, false] {
            host.slice(slice("web", ipv4, &[11, 12, 13], &[]));
        }
        host.settle();
        for at in ["10.96.0.7:80", "[fd96::7]:80"] {
            let first = ask(&client, at).unwrap().0;
            assert_eq!(seen(|| ask(&client, at)), [first].into());
            // A process that starts anew remembers it, and another pod's end does not matter.
            host.plane = plane();
            host.settle();
            let ipv4 = !at.starts_with('[');
            let others: Vec<u8> = [11, 12, 13].into_iter().filter(|n| *n != first).collect();
            host.slice(slice("web", ipv4, &[first, others[0]], &[]));
            host.changed("web");
            assert_eq!(seen(|| ask(&client, at)), [first].into());
            host.slice(slice("web", ipv4, &others, &[]));
            host.changed("web");
            let second = seen(|| ask(&client, at));
            assert!(second.len() == 1 && !second.contains(&first), "{second:?}, not {first}");
        }
    });
}

#[test]
fn datagrams_follow_their_endpoints() {
    on_a_node(|host| {
        let client = {
            let _pods = (host.pod(11), host.pod(12));
            host.pod(20)
        };
        for (from, at) in [("0.0.0.0:0", "10.96.0.7:53"), ("[::]:0", "[fd96::7]:53")] {
            let ipv4 = !at.starts_with('[');
            host.service(both("web", json!({})));
            host.slice(slice("web", ipv4, &[11], &[]));
            host.settle();
            // One client, always from the same port: its flow lives on in the kernel.
            let socket = udp(&client, from);
            assert_eq!(ping(&socket, at).unwrap().0, 11);
            host.slice(slice("web", ipv4, &[12], &[]));
            host.changed("web");
            assert_eq!(ping(&socket, at).unwrap().0, 12);
            // The same while no process was there to see it.
            host.plane = plane();
            host.slice(slice("web", ipv4, &[11], &[]));
            host.settle();
            assert_eq!(ping(&socket, at).unwrap().0, 11);
            host.forget("web");
            host.changed("web");
            host.service(both("web", json!({})));
            host.changed("web");
            assert_eq!(ping(&socket, at).unwrap().0, 11);
        }
    });
}

#[test]
fn datagrams_that_came_to_a_pod_another_way_go_on() {
    on_a_node(|host| {
        let _pods = (host.pod(11), host.pod(12));
        for (name, last) in [("web", 7), ("other", 8)] {
            let addresses = [format!("10.96.0.{last}"), format!("fd96::{last}")];
            host.service(service(name, json!({"clusterIP": addresses[0], "clusterIPs": addresses})));
            host.slice(slice(name, true, &[11], &[]));
            host.slice(slice(name, false, &[11], &[]));
        }
        host.settle();
        for (ipv4, any, ways) in [
            (true, "0.0.0.0:0", ["10.96.0.7:53", "10.96.0.8:53", "10.9.0.11:53"]),
            (false, "[::]:0", ["[fd96::7]:53", "[fd96::8]:53", "[fd09::11]:53"]),
        ] {
            for seen in [true, false] {
                host.slice(slice("web", ipv4, &[11], &[]));
                host.changed("web");
                for at in ways {
                    let socket = UdpSocket::bind(any).unwrap();
                    socket.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
                    assert_eq!(ping(&socket, at).unwrap().0, 11, "{at}");
                }
                host.slice(slice("web", ipv4, &[12], &[]));
                if seen {
                    host.changed("web");
                } else {
                    host.plane = plane();
                    host.settle();
                }
                let there = conntrack::flows(&mut Socket::open(Protocol::Netfilter).unwrap(), 17).unwrap();
                let has = |at: &str| there.iter().any(|f| f.destination == at.parse::<SocketAddr>().unwrap());
                assert_eq!(ways.map(has), [false, true, true], "{there:?}");
            }
        }
    });
}

#[test]
fn who_finds_a_front_and_no_target_is_not_let_through() {
    on_a_node(|host| {
        let (_pod, client) = (host.pod(11), host.pod(20));
        // The machine beside would answer whoever is let through.
        host.outside.run(|| addresses("lo", &["10.96.0.7/32"]));
        serve(&host.outside, "0.0.0.0", 99);
        assert_eq!(ping(&udp(&client, "0.0.0.0:0"), "10.96.0.7:53").unwrap().0, 99);
        for affinity in ["None", "ClientIP"] {
            host.service(both("web", json!({"sessionAffinity": affinity})));
            host.slice(slice("web", true, &[11], &[]));
            host.settle();
            assert_eq!(ping(&udp(&client, "0.0.0.0:0"), "10.96.0.7:53").unwrap().0, 11);
            // As a packet sees it that looks for the front before a commit and for the target after it. (Who has been here is
            // known, but not from another pod.)
            let key = nft::Value::new().address(ip("10.96.0.7")).protocol(17).port(53).mark(0).into_bytes();
            let mut change = Transaction::new();
            let gone = [Element { key, ..Element::default() }];
            change.delete_elements(Family::Inet, TABLE, "service4_targets", &gone);
            change.commit(&mut Socket::open(Protocol::Netfilter).unwrap()).unwrap();
            let other = host.pod(if affinity == "None" { 21 } else { 22 });
            let socket = udp(&other, "0.0.0.0:0");
            assert_eq!(ping(&socket, "10.96.0.7:53"), Err(ErrorKind::WouldBlock));
            // Nothing is left of it: the next datagram from the same port finds its way.
            host.plane.distrust();
            host.changed("web");
            assert_eq!(ping(&socket, "10.96.0.7:53").unwrap().0, 11);
        }
    });
}

#[test]
fn policies_keep_to_the_node() {
    on_a_node(|host| {
        let pod = host.pod(11);
        let fields = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "externalIPs": ["198.51.100.9"],
            "ports": [{"name": "web", "port": 80, "nodePort": 30080}]});
        let mut object = both("web", fields);
        object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.7"},
            {"ip": "198.51.100.8", "ipMode": "Proxy"}]}});
        host.service(object.clone());
        // The machine beside this one is a pod's place, too: it answers as 99.
        host.outside.run(|| ());
        serve(&host.outside, "0.0.0.0", 99);
        host.slice(slice("web", true, &[11], &["192.0.2.2"]));
        host.settle();
        let external = ["192.0.2.1:30080", "198.51.100.7:80", "198.51.100.9:80"];
        let outside_pod = host.pod(20);
        for at in external {
            assert_eq!(seen(|| ask(&host.outside, at)), [11].into(), "{at}");
            assert_eq!(seen(|| ask(&outside_pod, at)), [11, 99].into(), "{at}");
        }
        // The other node's pod sees pods as who they are, as their answers come back here anyway.
        let of_other = (0..40).filter_map(|_| ask(&outside_pod, "10.96.0.7:80").ok()).find(|(n, _)| *n == 99);
        assert_eq!(of_other.unwrap().1, ip("10.9.0.20"));
        // Nobody here: nothing is said to who comes from outside, as another node may have some.
        host.slice(slice("web", true, &[], &["192.0.2.2"]));
        host.changed("web");
        assert_eq!(ask(&host.outside, external[0]), Err(ErrorKind::TimedOut));
        assert_eq!(ask(&pod, external[0]).unwrap().0, 99);
        // The Service's own address stays on the node, too.
        object["spec"]["internalTrafficPolicy"] = "Local".into();
        host.service(object.clone());
        host.slice(slice("web", true, &[11], &["192.0.2.2"]));
        host.changed("web");
        assert_eq!(seen(|| ask(&outside_pod, "10.96.0.7:80")), [11].into());
        // Not everybody may come.
        object["spec"]["loadBalancerSourceRanges"] = json!(["203.0.113.0/24", "203.0.0.0/16"]);
        host.service(object.clone());
        host.changed("web");
        assert_eq!(ask(&host.outside, external[1]), Err(ErrorKind::TimedOut));
        assert_eq!(ask(&host.outside, external[2]).unwrap().0, 11);
        object["spec"]["loadBalancerSourceRanges"] = json!(["203.0.113.0/24", "192.0.2.0/28"]);
        host.service(object);
        host.changed("web");
        assert_eq!(ask(&host.outside, external[1]).unwrap().0, 11);
    });
}

#[test]
fn who_comes_from_outside_to_another_node_is_masqueraded() {
    on_a_node(|host| {
        let _pod = host.pod(11);
        host.service(both("web", json!({"ports": [{"name": "web", "port": 80, "nodePort": 30080}]})));
        // The pod of another node, here the one beside, which would answer the client past this node.
        host.slice(slice("web", true, &[], &["192.0.2.2"]));
        serve(&host.outside, "0.0.0.0", 99);
        host.settle();
        assert_eq!(ask(&host.outside, "192.0.2.1:30080").unwrap(), (99, ip("192.0.2.1")));
    });
}

#[test]
fn a_process_that_starts_makes_only_the_difference() {
    on_a_node(|host| {
        let pod = host.pod(11);
        for (name, last) in [("a", 1), ("b", 2), ("c", 3)] {
            host.service(service(name, json!({"clusterIP": format!("10.96.0.{last}")})));
            host.slice(slice(name, true, &[11], &[]));
        }
        host.settle();
        let before = listed();
        let mut stream = pod.run(|| std::net::TcpStream::connect("10.96.0.1:80").unwrap());
        host.plane = plane();
        host.settle();
        assert_eq!(listed(), before);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
        assert!(text.starts_with("11 "), "{text}");
        // What was removed meanwhile goes, what is others' stays.
        host.plane = plane();
        host.forget("b");
        host.slice(slice("c", true, &[], &[]));
        host.settle();
        assert_eq!(ask(&pod, "10.96.0.1:80").unwrap().0, 11);
        assert_eq!(ask(&pod, "10.96.0.3:80"), Err(ErrorKind::ConnectionRefused));
        assert!(!listed().contains("10.96.0.2"), "{}", listed());
        // Whoever flushes the table finds it whole again.
        let flush = std::process::Command::new("nft").args(["flush", "table", "inet", TABLE]).status();
        assert!(flush.unwrap().success());
        host.plane.distrust();
        host.changed("a");
        assert_eq!(ask(&pod, "10.96.0.1:80").unwrap().0, 11);
        assert_eq!(ask(&pod, "10.96.0.3:80"), Err(ErrorKind::ConnectionRefused));
        // A change of one Service touches what is its own.
        host.slice(slice("c", true, &[11], &[]));
        let changed = host.changed("c");
        assert!(changed.added <= 5 && changed.deleted <= 2, "{changed:?}");
    });
}

#[test]
fn the_first_service_to_claim_an_address_has_it() {
    on_a_node(|host| {
        let _pods = (host.pod(11), host.pod(12));
        let client = host.pod(20);
        for (name, last, pod) in [("a", 1, 11), ("b", 2, 12)] {
            let fields = json!({"clusterIP": format!("10.96.0.{last}"), "externalIPs": ["198.51.100.9"]});
            host.service(service(name, fields));
            host.slice(slice(name, true, &[pod], &[]));
        }
        host.settle();
        assert_eq!(ask(&client, "198.51.100.9:80").unwrap().0, 11);
        assert_eq!(ask(&client, "10.96.0.2:80").unwrap().0, 12);
        assert!(host.plane.contested()[0].contains("198.51.100.9 is of Service default/a"));
        host.forget("a");
        host.changed("a");
        assert_eq!(ask(&client, "198.51.100.9:80").unwrap().0, 12);
        assert_eq!(host.plane.contested(), Vec::<String>::new());
    });
}

/// An SCTP packet that begins an association: by hand, as few kernels have it.
fn sctp_init(from: u16, to: u16) -> Vec<u8> {
    let mut packet = [&from.to_be_bytes()[..], &to.to_be_bytes()[..], &[0; 8]].concat();
    // INIT, 20 bytes: tag, window, streams out and in, number.
    packet.extend([1, 0, 0, 20, 0, 0, 0, 1, 0, 0, 255, 255, 0, 1, 0, 1, 0, 0, 0, 1]);
    let sum = packet.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 * (sum & 1)))
    });
    packet[8..12].copy_from_slice(&(!sum).to_le_bytes());
    packet
}

#[test]
fn sctp_is_sent_on_too() {
    use rustix::net::{AddressFamily, SocketType, ipproto, sockopt};
    on_a_node(|host| {
        let (pod, client) = (host.pod(11), host.pod(20));
        let raw = |netns: &Netns| {
            let open =
                || rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::SCTP)).unwrap();
            let socket = netns.run(open);
            let patience = Some(Duration::from_secs(180));
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, patience).unwrap();
            socket
        };
        let ports = json!([{"name": "s", "port": 5000, "targetPort": 5001, "protocol": "SCTP"}]);
        host.service(both("web", json!({"ports": ports})));
        let mut slice = slice("web", true, &[11], &[]);
        slice["ports"] = json!([{"name": "s", "port": 5001, "protocol": "SCTP"}]);
        host.slice(slice);
        host.settle();
        // Connections of SCTP are followed, and sent on, by kernels with CONFIG_NF_CT_PROTO_SCTP alone; those have this.
        if !std::path::Path::new("/proc/sys/net/netfilter/nf_conntrack_sctp_timeout_established").exists() {
            let _ = writeln!(std::io::stderr(), "skipped sctp_is_sent_on_too: this kernel follows no SCTP");
            return;
        }
        let (server, client) = (raw(&pod), raw(&client));
        let to: std::net::SocketAddrV4 = "10.96.0.7:0".parse().unwrap();
        let flags = rustix::net::SendFlags::empty();
        rustix::net::sendto(&client, &sctp_init(7000, 5000), flags, &to).unwrap();
        let mut buffer = vec![0; 200];
        let (length, _) =
            rustix::net::recv(&server, buffer.as_mut_slice(), rustix::net::RecvFlags::empty()).unwrap();
        // Behind the header of IP: from which port, and to which.
        assert_eq!((&buffer[16..20], length), (&[10, 9, 0, 11][..], 20 + 32), "{buffer:?}");
        assert_eq!(buffer[20..24], [7000_u16.to_be_bytes(), 5001_u16.to_be_bytes()].concat());
    });
}
