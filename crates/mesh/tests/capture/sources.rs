//! What pods send from addresses that are not theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddrV4, UdpSocket};

use kernel::netlink::{Kind, Mac, NewLink, Protocol, SetLink, Socket, link_by_name};
use kernel::nft::Count;
use kernel::packet::PacketSocket;
use kernel::packet::datagram::wrap;
use mesh::sources::{Dropped, End, Ends, check, dropped, ends};
use testkit::netns::{Netns, addresses, change, index, join};

use crate::site::{PATIENCE, names, until};

/// The node, three pods at its bridge, and one that has a link of its own to it.
struct Site {
    node: Netns,
    pods: [Netns; 3],
    routed: Netns,
}

const NODE: &str = "10.56.0.1";
const PODS: [&str; 3] = ["10.56.0.2", "10.56.0.3", "10.56.0.4"];
const NODE_BESIDE: &str = "10.57.0.1";
const BESIDE: &str = "10.57.0.2";
/// Nobody's.
const OTHERS: [&str; 2] = ["10.56.0.9", "10.57.0.9"];

impl Site {
    fn new() -> Self {
        let node = Netns::new();
        let pods: [Netns; 3] = std::array::from_fn(|_| Netns::new());
        let routed = Netns::new();
        node.run(|| {
            let bridge = Kind::Bridge { mcast_snooping: None, vlan_filtering: None };
            change(|batch| batch.add_link(&NewLink { up: true, ..NewLink::new("br0", bridge) }));
            addresses("br0", &[&format!("{NODE}/24")]);
            for (number, (pod, address)) in pods.iter().zip(PODS).enumerate() {
                let link = format!("pod{number}");
                join(&link, pod, ("eth0", None), &[&format!("{address}/24")]);
                let bridge = index("br0");
                change(|batch| batch.set_link(&SetLink::named(&link).master(bridge)));
            }
            join("beside", &routed, ("eth0", None), &[&format!("{BESIDE}/24")]);
            addresses("beside", &[&format!("{NODE_BESIDE}/24")]);
        });
        // What a program with CAP_NET_ADMIN can do.
        pods[0].run(|| addresses("eth0", &[&format!("{}/24", OTHERS[0])]));
        routed.run(|| addresses("eth0", &[&format!("{}/24", OTHERS[1])]));
        Self { node, pods, routed }
    }

    /// The one end that a pod's link has.
    fn end(&self, pod: &Netns) -> End {
        let found = self.node.run(|| ends(pod).unwrap());
        let [end] = &found[..] else { panic!("{found:?}") };
        end.clone()
    }

    fn check(&self, ends: &Ends) {
        self.node.run(|| check(&names().sources, ends).unwrap());
    }
}

/// The hardware address of a link.
fn mac(netns: &Netns, link: &str) -> Mac {
    let found = || link_by_name(&mut Socket::open(Protocol::Route).unwrap(), link).unwrap().unwrap();
    netns.run(|| found().mac.unwrap())
}

/// Sends and hears packets of an Ethernet type at a pod's link.
fn tap(pod: &Netns, kind: u16) -> PacketSocket {
    pod.run(|| PacketSocket::all_of(index("eth0"), kind).unwrap())
}

fn at(address: &str) -> IpAddr {
    address.parse().unwrap()
}

fn socket(netns: &Netns, address: &str) -> UdpSocket {
    let socket = netns.run(|| UdpSocket::bind((address, 5300)).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn heard(socket: &UdpSocket) -> String {
    let mut text = [0; 64];
    let (count, from) = socket.recv_from(&mut text).unwrap();
    format!("{} from {}", String::from_utf8_lossy(&text[..count]), from.ip())
}

#[test]
fn ends_are_those_of_links_to_the_node() {
    let site = Site::new();
    for (number, (pod, address)) in site.pods.iter().zip(PODS).enumerate() {
        let end = site.end(pod);
        assert_eq!(end.link, site.node.run(|| index(&format!("pod{number}"))));
        assert!(end.addresses.contains(&at(address)), "{end:?}");
    }
    // A pod's other end may be elsewhere, whatever numbers links have there.
    let (elsewhere, pod) = (Netns::new(), Netns::new());
    elsewhere.run(|| join("a", &pod, ("eth0", None), &["10.58.0.2/24"]));
    assert_eq!(site.node.run(|| ends(&pod).unwrap()), []);
    assert_eq!(site.node.run(|| ends(&site.node).unwrap()), []);
}

#[test]
fn a_pod_is_heard_under_its_own_address_alone() {
    let site = Site::new();
    let (node, beside, neighbour) =
        (socket(&site.node, NODE), socket(&site.node, NODE_BESIDE), socket(&site.pods[1], PODS[1]));
    let (own, others) = (socket(&site.pods[0], PODS[0]), socket(&site.pods[0], OTHERS[0]));
    let (own_beside, others_beside) = (socket(&site.routed, BESIDE), socket(&site.routed, OTHERS[1]));
    let third = socket(&site.pods[2], PODS[2]);
    let send = |from: &UdpSocket, to: &str, text: &str| {
        from.send_to(text.as_bytes(), (to, 5300)).unwrap();
    };
    // Without rules it is believed, and neighbours know each other from now on.
    for (from, to, hears) in [
        (&others, NODE, &node),
        (&others, PODS[1], &neighbour),
        (&own, PODS[1], &neighbour),
        (&own, NODE, &node),
        (&others_beside, NODE_BESIDE, &beside),
    ] {
        send(from, to, "x");
        assert_eq!(heard(hears), format!("x from {}", from.local_addr().unwrap().ip()));
    }
    let of = |pod: &Netns, address: &str| (site.end(pod).link, BTreeSet::from([at(address)]));
    let all: Ends = BTreeMap::from([of(&site.pods[0], PODS[0]), of(&site.routed, BESIDE)]);
    site.check(&all);
    for _ in 0..10 {
        for to in [(NODE, &node), (PODS[1], &neighbour)] {
            send(&others, to.0, "refused");
            send(&own, to.0, "own");
            assert_eq!(heard(to.1), format!("own from {}", PODS[0]));
        }
        send(&others_beside, NODE_BESIDE, "refused");
        send(&own_beside, NODE_BESIDE, "own");
        assert_eq!(heard(&beside), format!("own from {BESIDE}"));
        // Who is not looked at passes, and answers come back.
        send(&third, PODS[0], "third");
        assert_eq!(heard(&own), format!("third from {}", PODS[2]));
        send(&node, PODS[0], "node");
        assert_eq!(heard(&own), format!("node from {NODE}"));
        // Made anew it is the same.
        site.check(&all);
    }
    // One of them alone, and then none.
    site.check(&BTreeMap::from([of(&site.routed, BESIDE)]));
    send(&others, NODE, "believed");
    assert_eq!(heard(&node), format!("believed from {}", OTHERS[0]));
    send(&others_beside, NODE_BESIDE, "refused");
    site.check(&Ends::new());
    send(&others_beside, NODE_BESIDE, "believed");
    assert_eq!(heard(&beside), format!("believed from {}", OTHERS[1]));
}

#[test]
fn a_tag_within_a_tag_hides_no_address() {
    let site = Site::new();
    let (own, neighbour) = (socket(&site.pods[0], PODS[0]), socket(&site.pods[1], PODS[1]));
    let mac = mac(&site.pods[1], "eth0");
    let tagged = tap(&site.pods[0], 0x8100);
    let at_port = |address: &str| SocketAddrV4::new(address.parse().unwrap(), 5300);
    let forge = |text: &str| {
        // Behind the type of the first tag: its number, another tag, and IPv4.
        let mut packet = vec![0_u8, 0, 0x81, 0, 0, 0, 0x08, 0];
        packet.extend(wrap(at_port(OTHERS[0]), at_port(PODS[1]), text.as_bytes()));
        tagged.send(&packet, mac).unwrap();
    };
    // Number 0 is none, so the neighbour takes both off.
    forge("believed");
    assert_eq!(heard(&neighbour), format!("believed from {}", OTHERS[0]));
    // By an address of either family.
    for address in [PODS[0], "fd56::2"] {
        site.check(&BTreeMap::from([(site.end(&site.pods[0]).link, BTreeSet::from([at(address)]))]));
        for _ in 0..10 {
            forge("refused");
            own.send_to(b"own", (PODS[1], 5300)).unwrap();
            assert_eq!(heard(&neighbour), format!("own from {}", PODS[0]));
        }
    }
}

#[test]
fn what_is_dropped_is_counted_of_whose_end_it_is_though_rules_are_made_anew() {
    let site = Site::new();
    let (bridged, routed) = (site.end(&site.pods[0]).link, site.end(&site.routed).link);
    let ends: Ends = BTreeMap::from([
        (bridged, BTreeSet::from([at(PODS[0])])),
        (routed, BTreeSet::from([at(BESIDE)])),
        (site.end(&site.pods[2]).link, BTreeSet::from([at(PODS[2])])),
    ]);
    let so_far = || site.node.run(|| dropped(&names().sources).unwrap());
    assert_eq!(so_far(), Dropped::new());
    let at_port = |address: &str| SocketAddrV4::new(address.parse().unwrap(), 5300);
    let forge = |pod: &Netns, from: &str, (to, mac): (&str, Mac)| {
        tap(pod, 0x0800).send(&wrap(at_port(from), at_port(to), b"forged"), mac).unwrap();
    };
    let neighbour = (PODS[1], mac(&site.pods[1], "eth0"));
    let beside = (NODE_BESIDE, mac(&site.node, "beside"));
    let count = |packets: u64| Count { packets, bytes: packets * (20 + 8 + 6) };
    for round in 1..=5 {
        site.check(&ends);
        forge(&site.pods[0], OTHERS[0], neighbour);
        // What is their own is not counted.
        forge(&site.pods[0], PODS[0], neighbour);
        (0..2).for_each(|_| forge(&site.routed, OTHERS[1], beside));
        let all = [(bridged, round), (routed, 2 * round)].map(|(link, packets)| (link, count(packets)));
        until("all is counted", || {
            let mut so_far = so_far();
            so_far.retain(|_, count| count.packets > 0);
            so_far == Dropped::from(all)
        });
    }
    // Of an end that is not looked at any more nothing is told.
    site.check(&BTreeMap::from([(routed, BTreeSet::from([at(BESIDE)]))]));
    assert_eq!(so_far(), Dropped::from([(routed, count(10))]));
}

#[test]
fn neighbours_hear_of_a_pods_own_addresses_of_ipv6_alone() {
    let site = Site::new();
    let (link, mac) = (tap(&site.pods[0], 0x86dd), mac(&site.pods[1], "eth0"));
    let neighbour = tap(&site.pods[1], 0x86dd);
    // An advertisement (RFC 4861, 4.4) from an address of the link, right behind the head or behind options for each hop; `mark` tells one from another.
    let advertise = |target: &str, is_behind: bool, mark: u16| {
        let of = |address: &str| address.parse::<Ipv6Addr>().unwrap().octets();
        let mut message = vec![136_u8, 0, 0, 0, 0x20, 0];
        message.extend(mark.to_be_bytes());
        message.extend(of(target));
        let options: &[u8] = if is_behind { &[58, 0, 1, 4, 0, 0, 0, 0] } else { &[] };
        let length = u16::try_from(options.len() + message.len()).unwrap();
        let mut packet = vec![0x60_u8, 0, 0, 0];
        packet.extend(length.to_be_bytes());
        packet.extend([if is_behind { 0 } else { 58 }, 255]);
        packet.extend([of("fe80::2"), of("ff02::1")].concat());
        packet.extend([options, &message].concat());
        link.send(&packet, mac).unwrap();
        packet
    };
    let mut buffer = [0; 256];
    // Waits until this one comes; none of the others may.
    let mut comes = |wanted: &[u8], others: &[Vec<u8>]| {
        let mut has_come = false;
        until("an advertisement is heard", || {
            while let Some((packet, _)) = neighbour.receive(&mut buffer).unwrap() {
                let mut others = others.iter().map(Vec::as_slice);
                assert!(!others.any(|other| other == packet), "{packet:x?}");
                has_come |= packet == wanted;
            }
            has_come
        });
    };
    let (own, foreign) = ("fd56::2", "fd56::9");
    // Without rules anybody is believed, and for a pod without an address of IPv6.
    for is_behind in [false, true] {
        comes(&advertise(foreign, is_behind, 0), &[]);
    }
    let end = site.end(&site.pods[0]).link;
    site.check(&BTreeMap::from([(end, BTreeSet::from([at(PODS[0])]))]));
    comes(&advertise(foreign, false, 1), &[]);
    site.check(&BTreeMap::from([(end, BTreeSet::from([at(PODS[0]), at(own)]))]));
    let mut forged = Vec::new();
    for mark in 2..12 {
        forged.extend([false, true].map(|is_behind| advertise(foreign, is_behind, mark)));
        comes(&advertise(own, mark % 2 == 0, mark), &forged);
        // What means one link alone passes.
        comes(&advertise("fe80::9", false, mark), &forged);
    }
}

#[test]
fn a_family_of_which_a_pod_has_no_address_passes() {
    let site = Site::new();
    let node = socket(&site.node, NODE);
    let own = socket(&site.pods[0], OTHERS[0]);
    site.check(&BTreeMap::from([(site.end(&site.pods[0]).link, BTreeSet::from([at("fd56::2")]))]));
    own.send_to(b"x", (NODE, 5300)).unwrap();
    assert_eq!(heard(&node), format!("x from {}", OTHERS[0]));
}
