//! A node with pods on a bridge and a machine beside it, each a network namespace of the test's own.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use client::cache::{Change, Name};
use kernel::namespace::in_new_netns;
use kernel::netlink::{Kind, NewLink, Route, SetLink};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use services::plan::Node;
use services::plane::{Networks, Plane};
use services::world::Known;
pub(crate) use testkit::netns::{Netns, addresses};
use testkit::netns::{change, index, join};

/// Longer than anything takes that will happen at all, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(180);
/// The node's name.
pub(crate) const NODE: &str = "node-1";
/// The table.
pub(crate) const TABLE: &str = "test-services";

/// A node whose pods are on bridge `br0`, 10.9.0.1 and fd09::1. Beside it is 192.0.2.2 and 2001:db8::2, its way to everywhere else.
pub(crate) struct Host {
    pub(crate) known: Known,
    pub(crate) plane: Plane,
    pub(crate) outside: Netns,
}

/// Runs `test` on a node of its own.
pub(crate) fn on_a_node(test: impl FnOnce(&mut Host) + Send) {
    on_a_node_whose_bridges(None, test);
}

/// Has bridges hand their frames to netfilter, or not, where the kernel has that.
pub(crate) fn on_a_node_whose_bridges(call: Option<bool>, test: impl FnOnce(&mut Host) + Send) {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let work = || {
        let bridge = Kind::Bridge { mcast_snooping: None, vlan_filtering: None };
        change(|batch| {
            batch.set_link(&SetLink::named("lo").up(true));
            batch.add_link(&NewLink { up: true, ..NewLink::new("br0", bridge) });
        });
        addresses("br0", &["10.9.0.1/24", "fd09::1/64"]);
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{key}"), "1").unwrap();
        }
        for (call, key) in call.iter().flat_map(|call| [(call, "iptables"), (call, "ip6tables")]) {
            let _ = std::fs::write(
                format!("/proc/sys/net/bridge/bridge-nf-call-{key}"),
                if *call { "1" } else { "0" },
            );
        }
        let outside = beside();
        let mut host = Host { known: Known::default(), plane: plane(), outside };
        test(&mut host);
        Ok(())
    };
    in_new_netns(work).unwrap();
}

/// The table as a process that has just started sees it.
pub(crate) fn plane() -> Plane {
    Plane::open(TABLE, Networks::default()).unwrap()
}

fn default_routes(link: &str, gateways: [&str; 2]) {
    let index = index(link);
    change(|batch| {
        for (to, gateway) in ["0.0.0.0/0", "::/0"].into_iter().zip(gateways) {
            let gateway = Some(gateway.parse().unwrap());
            batch.add_route(&Route { gateway, link: Some(index), ..Route::to(to.parse().unwrap()) });
        }
    });
}

/// Networks of Services.
pub(crate) const SERVICES: [&str; 2] = ["10.96.0.0/16", "fd96::/108"];

/// Has no default route any more, but the ways to Services that `sextant services` makes.
pub(crate) fn ways_to_services_alone() {
    let (uplink, lo) = (index("uplink"), index("lo"));
    change(|batch| {
        for to in ["0.0.0.0/0", "::/0"] {
            batch.delete_route(&Route {
                link: Some(uplink),
                scope: Some(0),
                ..Route::to(to.parse().unwrap())
            });
        }
        for net in SERVICES {
            batch.add_route(&Route { link: Some(lo), ..Route::to(net.parse().unwrap()) });
        }
    });
}

fn beside() -> Netns {
    let netns = Netns::new();
    join("uplink", &netns, ("eth0", None), &["192.0.2.2/24", "2001:db8::2/64"]);
    addresses("uplink", &["192.0.2.1/24", "2001:db8::1/64"]);
    netns.run(|| default_routes("eth0", ["192.0.2.1", "2001:db8::1"]));
    default_routes("uplink", ["192.0.2.2", "2001:db8::2"]);
    netns
}

impl Host {
    /// The pod 10.9.0.N and fd09::N, which answers on port 80 (TCP) and 53 (UDP) with its number and who has asked.
    pub(crate) fn pod(&self, number: u8) -> Netns {
        let netns = Netns::new();
        let link = format!("pod{number}");
        let nets = [format!("10.9.0.{number}/24"), format!("fd09::{number}/64")];
        join(&link, &netns, ("eth0", None), &nets.each_ref().map(String::as_str));
        let bridge = index("br0");
        change(|batch| batch.set_link(&SetLink::named(&link).master(bridge)));
        // As Sextant's own network has it: where bridges hand their frames to netfilter, a pod's own come back to its port.
        change(|batch| batch.set_link(&SetLink::named(&link).hairpin(true)));
        netns.run(|| default_routes("eth0", ["10.9.0.1", "fd09::1"]));
        for at in ["0.0.0.0", "[::]"] {
            serve(&netns, at, number);
        }
        netns
    }

    pub(crate) fn service(&mut self, object: Value) {
        self.known.enter_service(&Change { old: None, new: Some(read(object)) });
    }

    pub(crate) fn slice(&mut self, object: Value) {
        let new: std::sync::Arc<k8s_openapi::api::discovery::v1::EndpointSlice> = read(object);
        self.known.enter_slice(&Change { old: Some(new.clone()), new: Some(new) });
    }

    pub(crate) fn forget(&mut self, name: &str) {
        let old = self.known.service(&Name::new("default", name)).cloned();
        self.known.enter_service(&Change { old, new: None });
    }

    /// Makes it so, as after a start.
    pub(crate) fn settle(&mut self) {
        let node = Node { name: NODE.into() };
        let names: Vec<Name> = self.known.names().cloned().collect();
        let plans = names.into_iter().filter_map(|n| Some((n.clone(), self.known.plan(&n, &node)?)));
        self.plane.settle(plans).unwrap();
    }

    /// Makes the change of one Service so.
    pub(crate) fn changed(&mut self, name: &str) -> services::plane::Changed {
        let name = Name::new("default", name);
        let plan = self.known.plan(&name, &Node { name: NODE.into() });
        self.plane.change([(name, plan)]).unwrap()
    }
}

fn read<K: DeserializeOwned>(object: Value) -> std::sync::Arc<K> {
    std::sync::Arc::new(serde_json::from_value(object).unwrap())
}

/// A Service of namespace `default` with port 80 (TCP) and 53 (UDP), and more or other fields of its specification.
pub(crate) fn service(name: &str, fields: Value) -> Value {
    let mut object = json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"ports": [
        {"name": "web", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]}});
    object["spec"].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    object
}

/// Its slice of IPv4, or IPv6, with pods on this node by their numbers, and others on another.
pub(crate) fn slice(service: &str, ipv4: bool, pods: &[u8], elsewhere: &[&str]) -> Value {
    let address = |n: &u8| if ipv4 { format!("10.9.0.{n}") } else { format!("fd09::{n}") };
    let here = pods.iter().map(|n| json!({"addresses": [address(n)], "nodeName": NODE}));
    let there = elsewhere.iter().map(|a| json!({"addresses": [a], "nodeName": "node-2"}));
    let endpoints: Vec<Value> = here.chain(there).collect();
    let family = if ipv4 { "IPv4" } else { "IPv6" };
    json!({"metadata": {"name": format!("{service}-{family}"), "namespace": "default",
        "labels": {"kubernetes.io/service-name": service}}, "addressType": family, "endpoints": endpoints,
        "ports": [{"name": "web", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]})
}

/// Answers with a number and who has asked, at port 80 (TCP) and 53 (UDP).
pub(crate) fn serve(netns: &Netns, at: &str, number: u8) {
    let v6only = at == "[::]";
    let (listener, socket) = netns.run(|| {
        if v6only {
            std::fs::write("/proc/sys/net/ipv6/bindv6only", "1").unwrap();
        }
        (TcpListener::bind(format!("{at}:80")).unwrap(), UdpSocket::bind(format!("{at}:53")).unwrap())
    });
    std::thread::spawn(move || {
        while let Ok((mut stream, from)) = listener.accept() {
            let _ = stream.write_all(format!("{number} {}", from.ip()).as_bytes());
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(format!("{number} {}", from.ip()).as_bytes(), from);
        }
    });
}

/// What a server says to who asks from `from`: its number and whom it saw; the error's kind if it does not.
pub(crate) fn ask(from: &Netns, at: &str) -> Result<(u8, IpAddr), std::io::ErrorKind> {
    from.run(|| ask_here(at))
}

pub(crate) fn ask_here(at: &str) -> Result<(u8, IpAddr), std::io::ErrorKind> {
    let at: SocketAddr = at.parse().unwrap();
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(8))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    ask().map(|text| said(&text)).map_err(|e: std::io::Error| e.kind())
}

fn said(text: &str) -> (u8, IpAddr) {
    let (number, from) = text.split_once(' ').unwrap();
    (number.parse().unwrap(), from.parse().unwrap())
}

/// A socket from which datagrams are sent always from the same port.
pub(crate) fn udp(from: &Netns, at: &str) -> UdpSocket {
    let socket = from.run(|| UdpSocket::bind(at).unwrap());
    socket.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    socket
}

/// The answer to one datagram.
pub(crate) fn ping(socket: &UdpSocket, at: &str) -> Result<(u8, IpAddr), std::io::ErrorKind> {
    let mut buffer = [0; 100];
    let mut ping = || {
        socket.send_to(b"x", at)?;
        socket.recv(&mut buffer)
    };
    let length = ping().map_err(|e: std::io::Error| e.kind())?;
    Ok(said(std::str::from_utf8(&buffer[..length]).unwrap()))
}

/// Waits until it is so.
pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The ruleset as nft prints it.
pub(crate) fn listed() -> String {
    let output = std::process::Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    assert!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
