//! Pods of two nodes at one bridge, whose proxies are in the test's own network. Their certificates are of one authority, but no node has those of
//! the other's pods.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use kernel::netlink::{Kind, NewLink, Route, SetLink};
use mesh::capture::{Capture, Names, keep, set};
use mesh::identity::Certificates;
use mesh::node::{Node, Pod};
use mesh::proxy::{Network, Settings};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with};
use smi::contract::Name;
use testkit::netns::{Netns, addresses, change, index, join};
use testkit::whoami::serve;

use crate::authority::{Authority, identity};
use crate::cluster::Cluster;

/// What does not happen within this time does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
/// The nodes' own address, which probes come from.
pub(crate) const NODE: &str = "10.55.0.1";
/// A pod that asks, one that is asked, and another.
pub(crate) const CLIENT: &str = "10.55.0.2";
pub(crate) const WEB: &str = "10.55.0.3";
pub(crate) const OTHER: &str = "10.55.0.4";
/// Where the one that is asked listens, and says who has asked.
pub(crate) const WEB_PORT: u16 = 8080;

pub(crate) struct Site {
    pub(crate) cluster: Cluster,
    pub(crate) authority: Authority,
    /// That which both nodes' pods are connected to.
    pub(crate) wire: Netns,
    pub(crate) client: Netns,
    pub(crate) web: Netns,
    pub(crate) other: Netns,
    /// That of `client` and `other`, and that of `web`.
    pub(crate) nodes: [Node; 2],
    pub(crate) certificates: [Arc<Certificates>; 2],
    captured: Vec<Capture>,
}

impl Site {
    /// `client` and `web` are members that are captured; `other` is nobody yet.
    pub(crate) fn new() -> Self {
        let [wire, client, web, other] = std::array::from_fn(|_| Netns::new());
        wire.run(|| {
            let bridge = Kind::Bridge { mcast_snooping: None, vlan_filtering: None };
            change(|batch| batch.add_link(&NewLink { up: true, ..NewLink::new("br0", bridge) }));
            addresses("br0", &["10.55.0.1/24"]);
            for (link, pod, address) in [("c", &client, CLIENT), ("w", &web, WEB), ("o", &other, OTHER)] {
                join(link, pod, ("eth0", None), &[&format!("{address}/24")]);
                let bridge = index("br0");
                change(|batch| batch.set_link(&SetLink::named(link).master(bridge)));
            }
        });
        for pod in [&client, &other] {
            // As a pod's default route says.
            pod.run(|| {
                let services = "10.96.0.0/16".parse().unwrap();
                let route = Route { link: Some(index("eth0")), ..Route::to(services) };
                change(|batch| batch.add_route(&route));
            });
        }
        serve("web", web.run(|| TcpListener::bind((WEB, WEB_PORT)).unwrap()));
        let authority = Authority::new("root");
        let certificates = std::array::from_fn(|_| {
            let certificates = Certificates::new("cluster.local");
            certificates.set_roots(std::slice::from_ref(&authority.root)).unwrap();
            certificates
        });
        let nodes = std::array::from_fn(|number: usize| {
            let seed = number as u64 + 1;
            Node::start(Settings { seed, ..Settings::default() }, |_| {}).unwrap()
        });
        let mut site = Self {
            cluster: Cluster::new(),
            authority,
            wire,
            client,
            web,
            other,
            nodes,
            certificates,
            captured: Vec::new(),
        };
        for (node, certificates) in site.nodes.iter().zip(&site.certificates) {
            node.identify(certificates.clone()).unwrap();
        }
        site.authority.prove(&site.certificates[0], &[&identity("client")]);
        site.authority.prove(&site.certificates[1], &[&identity("web")]);
        site.cluster.member("client", CLIENT);
        site.cluster.member("web", WEB);
        site.swap();
        site.capture(0, "client");
        site.capture(1, "web");
        site
    }

    /// Both nodes go by what the cluster is now.
    pub(crate) fn swap(&mut self) {
        let tables = self.cluster.tables();
        for node in &self.nodes {
            node.swap(tables.clone()).unwrap();
        }
    }

    /// `other` is a member from now on, and captured.
    pub(crate) fn other_joins(&mut self) {
        self.authority.prove(&self.certificates[0], &[&identity("other")]);
        self.cluster.member("other", OTHER);
        self.swap();
        self.capture(0, "other");
    }

    fn capture(&mut self, node: usize, name: &str) {
        let pod = match name {
            "client" => &self.client,
            "web" => &self.web,
            _ => &self.other,
        };
        set(pod, &keep(pod, &names()).unwrap()).unwrap();
        let (capture, listeners) = Capture::begin(pod, &names(), Some(&node_addresses())).unwrap();
        let netns = pod.as_fd().try_clone_to_owned().unwrap();
        let network = Network(self.captured.len() as u64 + 1);
        let name = Name::new("shop", name);
        self.nodes[node].enter(Pod { network, name, netns, listeners }).unwrap();
        self.captured.push(capture);
    }

    /// Somebody at the bridge who is no pod of anybody's.
    pub(crate) fn guest(&self, address: &str) -> Netns {
        let guest = Netns::new();
        self.wire.run(|| {
            join("g", &guest, ("eth0", None), &[&format!("{address}/24")]);
            let bridge = index("br0");
            change(|batch| batch.set_link(&SetLink::named("g").master(bridge)));
        });
        guest
    }

    /// `web`'s node lets go of it, as at its end when it is told to end.
    pub(crate) fn web_leaves(&mut self) {
        drop(self.captured.remove(1));
        self.nodes[1].leave(Network(2)).unwrap();
    }

    /// The rules in all pods go, as when the nodes' processes are killed.
    pub(crate) fn lose(&mut self) {
        self.captured.clear();
    }

    /// Where `web` listens besides.
    pub(crate) fn listen(&self, port: u16) -> TcpListener {
        self.web.run(|| TcpListener::bind((WEB, port)).unwrap())
    }

    /// Gives all that goes by the bridge from now on, frame by frame.
    pub(crate) fn sniff(&self) -> Receiver<Vec<u8>> {
        // ETH_P_ALL, in network order.
        let all = Protocol::from_raw(std::num::NonZeroU32::new(u32::from(3_u16.to_be())).unwrap());
        let socket: OwnedFd = self.wire.run(|| {
            socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, Some(all)).unwrap()
        });
        let (tell, told) = channel();
        std::thread::spawn(move || {
            let mut frame = vec![0; 1 << 17];
            while let Ok((count, _)) = recv(&socket, frame.as_mut_slice(), RecvFlags::empty()) {
                if tell.send(frame[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        told
    }
}

pub(crate) fn names() -> Names {
    Names::of("test")
}

pub(crate) fn node_addresses() -> [IpAddr; 1] {
    [NODE.parse().unwrap()]
}

/// Whether a frame has these bytes.
pub(crate) fn has(frame: &[u8], bytes: &[u8]) -> bool {
    frame.windows(bytes.len()).any(|window| window == bytes)
}

/// The port that a frame of TCP over IPv4 goes to.
pub(crate) fn port_of(frame: &[u8]) -> Option<u16> {
    let packet = frame.get(14..)?;
    let is_tcp = frame.get(12..14)? == [8, 0] && *packet.get(9)? == 6;
    let head = usize::from(packet.first()? & 15) * 4;
    let port = packet.get(head + 2..head + 4)?;
    is_tcp.then(|| u16::from_be_bytes([port[0], port[1]]))
}

pub(crate) fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

/// Waits until it is so.
pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
