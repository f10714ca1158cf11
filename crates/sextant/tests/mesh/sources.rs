//! What a member sends from an address that is another's, at the end that its link has on the node.

use std::cell::Cell;
use std::net::{Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::core::v1::Pod;
use kernel::netlink::{Mac, Protocol, Socket, link_by_name};
use kernel::nft::{Family, tables};
use kernel::packet::PacketSocket;
use kernel::packet::datagram::sum;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use testkit::netns::{Netns, index};

use crate::objects;
use crate::people::{page, said};
use crate::rig::Rig;
use crate::runtime::Runtime;
use crate::secured::{CLIENT, OTHER, SERVER, Site, member, told};
use crate::until;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// All that is sent: an Ethernet type, and what is in it.
const ALL: [(u16, u8); 4] = [(IPV4, TCP), (IPV4, UDP), (IPV6, TCP), (IPV6, UDP)];

/// Addresses of a pod, as its status has them.
fn addresses_of((name, _, address): (&str, &str, &str)) -> (Ipv4Addr, Ipv6Addr) {
    let last = if name == CLIENT.0 { 2 } else { 4 };
    (address.parse().unwrap(), Ipv6Addr::new(0xfd55, 0, 0, 0, 0, 0, 0, last))
}

/// The client's link, at which it sends what it likes, and the server's, at which everything is seen that comes.
struct Wire {
    sends: [PacketSocket; 2],
    sees: [PacketSocket; 2],
    /// The server's.
    mac: Mac,
    sent: Cell<u32>,
}

impl Wire {
    fn new(from: &Netns, to: &Netns) -> Self {
        let both = |pod: &Netns| {
            let open = |kind| pod.run(|| PacketSocket::all_of(index("eth0"), kind).unwrap());
            [IPV4, IPV6].map(open)
        };
        let mac = to.run(|| {
            let link = link_by_name(&mut Socket::open(Protocol::Route).unwrap(), "eth0");
            link.unwrap().unwrap().mac.unwrap()
        });
        Self { sends: both(from), sees: both(to), mac, sent: Cell::new(0) }
    }

    /// Sends a SYN or a datagram from these addresses; all of it that tells it from others.
    fn send(&self, (ipv4, ipv6): (Ipv4Addr, Ipv6Addr), (kind, protocol): (u16, u8)) -> Vec<u8> {
        self.sent.set(self.sent.get() + 1);
        let text = format!("number {}", self.sent.get());
        // From port 5300 to port 5301.
        let mut message = vec![0x14_u8, 0xb4, 0x14, 0xb5];
        match protocol {
            // The first of its numbers, no other; 20 bytes of head; SYN; a window.
            TCP => message.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0x10, 0, 0, 0, 0, 0]),
            // A sum of 0 is none.
            _ => {
                let length = u16::try_from(8 + text.len()).unwrap();
                message.extend([length.to_be_bytes(), [0, 0]].concat());
            }
        }
        message.extend(text.as_bytes());
        let packet = match kind {
            IPV4 => {
                let length = u16::try_from(20 + message.len()).unwrap().to_be_bytes();
                let mut head = vec![0x45_u8, 0, length[0], length[1], 0, 0, 0x40, 0, 64, protocol, 0, 0];
                let to: Ipv4Addr = SERVER.2.parse().unwrap();
                head.extend([ipv4.octets(), to.octets()].concat());
                let checksum = !sum(&head, 0);
                head[10..12].copy_from_slice(&checksum.to_be_bytes());
                [head, message].concat()
            }
            _ => {
                let length = u16::try_from(message.len()).unwrap().to_be_bytes();
                let head = vec![0x60_u8, 0, 0, 0, length[0], length[1], protocol, 64];
                let to = Ipv6Addr::new(0xfd55, 0, 0, 0, 0, 0, 0, 3);
                [head, ipv6.octets().to_vec(), to.octets().to_vec(), message].concat()
            }
        };
        self.sends[usize::from(kind == IPV6)].send(&packet, self.mac).unwrap();
        packet
    }

    /// What has come since somebody has looked last.
    fn seen(&self) -> Vec<Vec<u8>> {
        let (mut all, mut buffer) = (Vec::new(), [0; 2048]);
        for socket in &self.sees {
            while let Some((packet, _)) = socket.receive(&mut buffer).unwrap() {
                all.push(packet.to_vec());
            }
        }
        all
    }

    /// Waits until all of these have come; what else has meanwhile is seen, too.
    async fn come(&self, rig: &Rig, wanted: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            all.extend(self.seen());
            if wanted.iter().all(|packet| all.contains(packet)) {
                return all;
            }
            let more = async |_: &Rig| Some(self.seen()).filter(|seen| !seen.is_empty());
            all.extend(rig.until("what a pod sends comes", more).await);
        }
    }
}

/// Whether all that a pod sends from these addresses comes; others of its own tell when nothing more does.
async fn are_believed(rig: &Rig, wire: &Wire, from: (Ipv4Addr, Ipv6Addr)) -> [bool; 4] {
    let forged = ALL.map(|what| wire.send(from, what));
    let own = ALL.map(|what| wire.send(addresses_of(CLIENT), what));
    let seen = wire.come(rig, &own).await;
    forged.map(|packet| seen.contains(&packet))
}

#[tokio::test]
async fn a_member_is_heard_from_its_own_addresses_alone() {
    let mut rig = Rig::bare().await;
    objects::define(&rig).await;
    let (cri, at) = (rig.path("cri.sock"), format!("unix:{}", rig.path("mesh.sock").display()));
    let (runtime, site) = (Runtime::start(&cri), Site::new());
    for (one, pod) in [(CLIENT, &site.client), (OTHER, &site.other)] {
        member(&rig, &runtime, one, pod).await;
        has_addresses(&rig, one, addresses_of(one)).await;
    }
    let wire = Wire::new(&site.client, &site.server);
    assert_eq!(are_believed(&rig, &wire, addresses_of(OTHER)).await, [true; 4]);
    rig.control(&["--mesh", &at]);
    let args = ["mesh", "--node", "node-1", "--cri", cri.to_str().unwrap(), "--control", &at];
    let args = [&args[..], &["--metrics", "127.0.0.1:0"]].concat();

    // The node is where the links of its pods end.
    let unchecked = [&args[..], &["--no-source-check"]].concat();
    site.wire.run(|| rig.spawn_in("run", "unchecked", &unchecked));
    for (name, ..) in [CLIENT, OTHER] {
        rig.words_have("unchecked", &format!("serves pod default/{name}\n")).await;
    }
    for _ in 0..10 {
        assert_eq!(are_believed(&rig, &wire, addresses_of(OTHER)).await, [true; 4]);
    }
    let status = told(&mut rig, "run", "status-unchecked", &["mesh", "status", "-o", "json"]).await;
    assert!(status["pods"][0]["foreignDropped"].is_null(), "{status:#}");
    assert_eq!(rig.end("unchecked"), Some(0), "{}", rig.words("unchecked"));

    site.wire.run(|| rig.spawn_in("run", "checked", &args));
    for (name, ..) in [CLIENT, OTHER] {
        rig.words_have("checked", &format!("serves pod default/{name}\n")).await;
    }
    let refused = async |rig: &Rig| {
        let believed = are_believed(rig, &wire, addresses_of(OTHER)).await;
        (believed == [false; 4]).then_some(())
    };
    rig.until("nothing is believed", refused).await;
    let before = dropped(&mut rig, "status-before", CLIENT.0).await;
    for _ in 0..10 {
        assert_eq!(are_believed(&rig, &wire, addresses_of(OTHER)).await, [false; 4]);
    }
    let after = dropped(&mut rig, "status-after", CLIENT.0).await;
    assert!(after >= before + 40, "{after} of {before}");
    assert_eq!(dropped(&mut rig, "status-other", OTHER.0).await, 0);

    // The rules are made anew for another pod's sake, and what was counted goes on.
    let others = Wire::new(&site.other, &site.server);
    let next = (addresses_of(OTHER).0, Ipv6Addr::new(0xfd55, 0, 0, 0, 0, 0, 0, 9));
    has_addresses(&rig, OTHER, next).await;
    let is_believed = || {
        others.send(next, (IPV6, UDP));
        let is_of_next = |packet: &Vec<u8>| packet.get(8..24) == Some(&next.1.octets()[..]);
        others.seen().iter().any(is_of_next)
    };
    until(&rig, "another address is believed", is_believed).await;
    let since = dropped(&mut rig, "status-since", CLIENT.0).await;
    assert!(since >= after, "{since} of {after}");
    assert_eq!(are_believed(&rig, &wire, addresses_of(OTHER)).await, [false; 4]);

    // Programs are told the same.
    let words = rig.words("checked");
    let address = words.split_once("answers http://").and_then(|(_, rest)| rest.split('/').next()).unwrap();
    let text = site.wire.run(|| page(address));
    let name =
        "sextant_mesh_foreign_dropped_packets_total{client_namespace=\"default\",client_pod=\"client\"} ";
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.parse::<u64>().ok());
    assert!(value >= Some(since + 4), "{text}");
    let table = said(&mut rig, "status-table", &["mesh", "status"]).await;
    assert!(table.contains("FROM ELSEWHERE") && table.contains(" dropped"), "{table}");

    assert_eq!(rig.end("checked"), Some(0), "{}", rig.words("checked"));
    assert_eq!(are_believed(&rig, &wire, addresses_of(OTHER)).await, [true; 4]);
    for family in [Family::Inet, Family::Bridge] {
        let left = site.wire.run(|| tables(&mut Socket::open(Protocol::Netfilter).unwrap(), family).unwrap());
        assert_eq!(left, Vec::<String>::new());
    }
}

/// A pod's status has these addresses from now on.
async fn has_addresses(rig: &Rig, (name, ..): (&str, &str, &str), (ipv4, ipv6): (Ipv4Addr, Ipv6Addr)) {
    let status = json!({"status": {"podIP": ipv4, "podIPs": [{"ip": ipv4}, {"ip": ipv6}]}});
    let pods = rig.objects_of::<Pod>("");
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

/// How many packets of a pod were dropped, as `sextant mesh status` tells; `name` is used once.
async fn dropped(rig: &mut Rig, name: &str, pod: &str) -> u64 {
    let status = told(rig, "run", name, &["mesh", "status", "-o", "json"]).await;
    let all = status["pods"].as_array().unwrap();
    let found = all.iter().find(|one| one["pod"] == format!("default/{pod}"));
    let count = found.and_then(|pod| pod["foreignDropped"]["packets"].as_u64());
    count.unwrap_or_else(|| panic!("nothing is counted of {pod}: {status:#}"))
}
