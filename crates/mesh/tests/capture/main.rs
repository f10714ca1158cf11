//! Pods in network namespaces of their own, whose connections are led to a node's proxy.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod cluster;
mod datagrams;
mod site;
mod sources;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use cluster::Cluster;
use kernel::netlink::{Protocol, Socket, sysctl};
use kernel::nft::{Chain, Family, Transaction, delete_table, tables};
use mesh::capture::{Capture, Names, Setting, keep, set};
use mesh::proxy::Network;
use site::{Site, until};
use testkit::netns::{Netns, addresses, join};
use testkit::whoami::{Answer, ask, connect, has_ended, status};

/// Where the Service is, which nobody has but the mesh.
const WEB: &str = "10.96.0.1:80";

/// How many of so many requests, each over a connection of its own, each backend answered.
fn tally(site: &Site, requests: usize) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for _ in 0..requests {
        let Answer { who, peer } = site.pod.run(|| ask(&mut connect(WEB)));
        // Who is asked sees the pod itself.
        assert_eq!(peer, "10.55.0.2");
        *tally.entry(who).or_default() += 1;
    }
    tally
}

#[test]
fn requests_of_a_pod_go_by_the_weights_of_a_split() {
    let site = Site::new();
    let mut cluster = Cluster::new(&[3, 1]);
    site.node.swap(cluster.tables()).unwrap();
    let _pod = site.capture(1);
    let seen = tally(&site, 400);
    // One in four, five standard deviations of 8.7 either way.
    assert!((57..=143).contains(&seen["v2"]) && seen["v1"] + seen["v2"] == 400, "{seen:?}");
    // On a connection that is open a change holds from the next request on.
    site.pod.run(|| {
        let mut open = connect(WEB);
        ask(&mut open);
        site.node.swap(cluster.weights(&[0, 1])).unwrap();
        until("all requests go to v2", || (0..20).all(|_| ask(&mut open).who == "v2"));
    });
    assert_eq!(tally(&site, 50)["v2"], 50);
}

#[test]
fn what_is_for_nobody_of_the_mesh_passes_and_what_is_the_pods_own_is_left_alone() {
    let site = Site::new();
    site.node.swap(Cluster::new(&[1, 1]).tables()).unwrap();
    let _pod = site.capture(1);
    let own_port = |stream: &TcpStream| stream.local_addr().unwrap().port();
    // No Service has this. Its server speaks first, and sees the pod's address, and the proxy's port.
    let elsewhere = site.far.run(|| TcpListener::bind("10.55.0.5:9000").unwrap());
    let mut client = site.pod.run(|| connect("10.55.0.5:9000"));
    let (mut server, from) = elsewhere.accept().unwrap();
    server.write_all(b"hello").unwrap();
    let mut greeting = [0; 5];
    client.read_exact(&mut greeting).unwrap();
    assert_eq!((&greeting, from.ip().to_string().as_str()), (b"hello", "10.55.0.2"));
    assert_ne!(from.port(), own_port(&client));
    client.write_all(b"bye").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut said = String::new();
    server.read_to_string(&mut said).unwrap();
    assert_eq!(said, "bye");
    // The pod's own addresses, and who comes to the pod: nobody is between.
    let inside = site.pod.run(|| TcpListener::bind("0.0.0.0:7000").unwrap());
    let (pod, far) = (&site.pod, &site.far);
    for (from, to) in [(pod, "127.0.0.1:7000"), (pod, "10.55.0.2:7000"), (far, "10.55.0.2:7000")] {
        let client = from.run(|| connect(to));
        let (_server, seen) = inside.accept().unwrap();
        assert_eq!(seen.port(), own_port(&client), "{to}");
    }
}

#[test]
fn who_comes_to_the_listener_itself_is_not_led_in_a_circle() {
    let site = Site::new();
    site.node.swap(Cluster::new(&[1, 1]).tables()).unwrap();
    let pod = site.capture(1);
    assert!(!pod.listeners.is_empty());
    for listener in &pod.listeners {
        let mut client = site.pod.run(|| connect(listener));
        assert!(has_ended(&mut client), "{listener}");
    }
    assert_eq!(tally(&site, 3).values().sum::<usize>(), 3);
}

#[test]
fn what_pods_do_is_seen_from_another_thread() {
    let site = Site::new();
    let mut cluster = Cluster::new(&[1, 0]);
    site.node.swap(cluster.tables()).unwrap();
    let looker = site.node.looker().unwrap();
    let _pod = site.capture(7);
    let (tell, lines) = std::sync::mpsc::sync_channel(64);
    looker.watch(Some(tell)).unwrap();
    assert_eq!(tally(&site, 5)["v1"], 5);
    let snapshot = std::thread::scope(|scope| scope.spawn(|| looker.look().unwrap()).join().unwrap());
    assert_eq!(snapshot.networks, [Network(7)]);
    let [counted] = &snapshot.series[..] else { panic!("{:?}", snapshot.series) };
    assert_eq!((counted.client, counted.numbers.classes[2]), (Network(7), 5));
    assert_eq!(counted.endpoint.unwrap().to_string(), cluster::V1);
    let (frontend, port) = snapshot.tables.service(counted.frontend.unwrap()).unwrap();
    assert_eq!((frontend.name.as_str(), *port), ("web", 80));
    assert_eq!(lines.try_iter().filter(|line| line.status == 200).count(), 5);
    // Nobody wants them any more.
    looker.watch(None).unwrap();
    tally(&site, 3);
    assert_eq!((lines.try_iter().count(), looker.look().unwrap().lost), (0, 0));
    // Who looks does not keep it from ending, and is told that it has.
    drop(site.node);
    assert!(looker.look().is_err());
}

/// The tables in the pod.
fn there(site: &Site) -> Vec<String> {
    site.pod.run(|| {
        let mut names = tables(&mut Socket::open(Protocol::Netfilter).unwrap(), Family::Inet).unwrap();
        names.sort();
        names
    })
}

#[test]
fn a_pod_that_leaves_keeps_its_connections_and_nothing_else() {
    let site = Site::new();
    site.node.swap(Cluster::new(&[1, 0]).tables()).unwrap();
    // It is there without the mesh, too.
    let direct = site.far_has_the_service();
    let pod = site.capture(1);
    assert_eq!(there(&site), ["test-mesh", "test-mesh-nat"]);
    let mut open = site.pod.run(|| connect(WEB));
    assert_eq!(ask(&mut open).who, "v1");
    drop(pod.capture);
    site.node.leave(pod.network).unwrap();
    assert_eq!(there(&site), ["test-mesh-nat"]);
    // New connections are nobody's business.
    assert_eq!(site.pod.run(|| ask(&mut connect(WEB))).who, "direct");
    assert_eq!(ask(&mut open).who, "v1");
    assert!(site.over.try_recv().is_err(), "it has a connection");
    drop(open);
    assert_eq!(site.over.recv_timeout(site::PATIENCE).unwrap(), pod.network);
    drop(direct);
}

#[test]
fn what_is_open_when_a_pod_joins_goes_on() {
    let site = Site::new();
    site.node.swap(Cluster::new(&[1, 0]).tables()).unwrap();
    let direct = site.far_has_the_service();
    let inside = site.pod.run(|| TcpListener::bind("10.55.0.2:7000").unwrap());
    // One to a Service, which is another's business from now on, and one to the pod.
    let mut open = site.pod.run(|| connect(WEB));
    assert_eq!(ask(&mut open).who, "direct");
    let mut guest = site.far.run(|| connect("10.55.0.2:7000"));
    let (mut host, _) = inside.accept().unwrap();
    let pod = site.capture(1);
    assert_eq!(site.pod.run(|| ask(&mut connect(WEB))).who, "v1");
    for _ in 0..3 {
        assert_eq!(ask(&mut open).who, "direct");
        host.write_all(b"hello").unwrap();
        guest.read_exact(&mut [0; 5]).unwrap();
        guest.write_all(b"hello").unwrap();
        host.read_exact(&mut [0; 5]).unwrap();
    }
    // They go on without the rules, too.
    drop(pod.capture);
    assert_eq!(ask(&mut open).who, "direct");
    drop(direct);
}

#[test]
fn who_has_said_all_is_followed_as_long_as_others() {
    let site = Site::new();
    let value = |name: &str| site.pod.run(|| sysctl::read(&full(name)).unwrap());
    let found = keep(&site.pod, &site::names()).unwrap();
    let before: Vec<String> = found.iter().map(|setting| value(of_tcp(setting.name))).collect();
    assert_eq!(found.iter().map(|setting| setting.before.clone()).collect::<Vec<_>>(), before);
    let _pod = site.capture(1);
    assert_eq!((value("timeout_close_wait"), value("loose")), (value("timeout_established"), "0".into()));
    // Who looks again finds the same ones, as they were before.
    let again = keep(&site.pod, &site::names()).unwrap();
    let of = |settings: &[Setting]| -> Vec<(&'static str, String)> {
        settings.iter().map(|setting| (setting.name, setting.before.clone())).collect()
    };
    assert_eq!(of(&again), of(&found));
}

#[test]
fn of_two_who_capture_a_pod_each_knows_what_was_there_before_both() {
    let site = Site::new();
    let names = [Names::of("first"), Names::of("second")];
    let values =
        || site.pod.run(|| ["loose", "timeout_close_wait"].map(|of| sysctl::read(&full(of)).unwrap()));
    let before = |settings: &[Setting]| -> Vec<String> {
        settings.iter().map(|setting| setting.before.clone()).collect()
    };
    // Whoever leaves first.
    for leaves in [[0, 1], [1, 0]] {
        let mut settings = Vec::new();
        for one in &names {
            let found = keep(&site.pod, one).unwrap();
            set(&site.pod, &found).unwrap();
            settings.push(found);
        }
        // Connections are followed, so the values are there: the kernel's own, that nobody has set.
        let original = before(&settings[0]);
        assert_eq!((original[0].as_str(), original.len()), ("1", 2));
        assert_eq!(before(&settings[1]), original);
        assert_eq!(values()[0], "0");
        for one in leaves {
            // As the ledger does it.
            site.pod.run(|| {
                for setting in &settings[one] {
                    sysctl::write(setting.name, &setting.before).unwrap();
                }
                delete_table("inet", &names[one].kept).unwrap();
            });
        }
        assert_eq!(values().to_vec(), original);
        assert_eq!(there(&site), [""; 0]);
    }
    // What a program of the pod says in their place is no value.
    set(&site.pod, &keep(&site.pod, &names[0]).unwrap()).unwrap();
    site.pod.run(|| {
        delete_table("inet", &names[0].kept).unwrap();
        let mut change = Transaction::new();
        change.add_table(Family::Inet, "planted", true, None);
        for name in
            ["was-nf_conntrack_tcp_loose-7", "was-nf_conntrack_tcp_loose-x", "was-nf_conntrack_tcp_loose-"]
        {
            change.add_chain(Family::Inet, "planted", &Chain { name, base: None });
        }
        change.commit(&mut Socket::open(Protocol::Netfilter).unwrap()).unwrap();
    });
    assert_eq!(before(&keep(&site.pod, &names[1]).unwrap())[0], "0");
}

/// The name of a value of TCP.
fn full(name: &str) -> String {
    format!("net/netfilter/nf_conntrack_tcp_{name}")
}

/// The last part of a value's name.
fn of_tcp(name: &str) -> &str {
    name.strip_prefix("net/netfilter/nf_conntrack_tcp_").unwrap()
}

#[test]
fn rules_go_with_their_owner_and_open_connections_are_translated_on() {
    let site = Site::new();
    site.node.swap(Cluster::new(&[1, 0]).tables()).unwrap();
    let _direct = site.far_has_the_service();
    let pod = site.capture(1);
    let mut open = site.pod.run(|| connect(WEB));
    assert_eq!(ask(&mut open).who, "v1");
    // As when the process is killed, whose sockets the kernel closes in an order of its own: here first that of the rules.
    drop(pod);
    assert_eq!(there(&site), ["test-mesh-nat"]);
    assert_eq!(ask(&mut open).who, "v1");
    assert_eq!(site.pod.run(|| ask(&mut connect(WEB))).who, "direct");
    // And then all others: who waits for an answer is told that none comes.
    open.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let Site { pod, node, .. } = site;
    drop(node);
    assert!(has_ended(&mut open));
    drop(pod);
}

#[test]
fn a_pod_is_captured_once() {
    let site = Site::new();
    let first = site.capture(1);
    let again = Capture::begin(&site.pod, &site::names(), None);
    assert!(again.is_err(), "{again:?}");
    drop(first);
    // The next process finds nothing in its way.
    site.node.leave(Network(1)).unwrap();
    let _next = site.capture(2);
}

#[test]
fn pods_share_no_connection_and_no_opinion_of_endpoints() {
    let site = Site::new();
    site.node.swap(Cluster::new(&[1, 1]).tables()).unwrap();
    let _pod = site.capture(1);
    // In the other pod's network there is no way to the endpoints: they fail there, again and again.
    let (other, nobody) = (Netns::new(), Netns::new());
    other.run(|| {
        join("eth0", &nobody, ("eth0", None), &["10.56.0.3/24"]);
        addresses("eth0", &["10.56.0.2/24"]);
        site::route_to_services();
    });
    let _other = site.capture_in(&other, 2);
    for _ in 0..20 {
        let refused = other.run(|| status(&mut connect(WEB)));
        assert_eq!(refused, Some(503));
    }
    let seen = tally(&site, 40);
    assert!(seen.len() == 2, "an endpoint is left out for what another pod saw: {seen:?}");
}
