//! Router advertisements (RFC 4861, section 4.2): a container that sends one does not become the host's router, and a host
//! that forwards for its containers keeps the router that it has.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod rig;

use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};
use std::time::{Duration, Instant};

use kernel::netlink::{self, Protocol, Socket, sysctl};
use rig::chosen::{add, list};
use rig::{Host, Netns, attachment, on_a_host};
use rustix::net::{AddressFamily, SendFlags, SocketType, bind, ipproto, sendto, socket, sockopt};
use serde_json::{Value, json};

/// Hop limit 64, a lifetime of 1800 s, no options. The kernel fills in the checksum.
const ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];

/// Sends an advertisement out of `eth0` in `netns`, as soon as its link-local address can be used: no other makes a router.
fn advertise(netns: &Netns) {
    netns.run(|| {
        let mut netlink = Socket::open(Protocol::Route).unwrap();
        let link = netlink::link_by_name(&mut netlink, "eth0").unwrap().unwrap().index;
        let raw = socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6)).unwrap();
        // Neighbours see by it that it comes from this link (section 6.1.2).
        sockopt::set_ipv6_multicast_hops(&raw, 255).unwrap();
        let mut own = || {
            let there = netlink::addresses(&mut netlink, Some(link)).unwrap();
            there.iter().find_map(|address| match address.net.address() {
                IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(SocketAddrV6::new(v6, 0, 0, link)),
                _ => None,
            })
        };
        let end = Instant::now() + Duration::from_secs(60);
        while own().is_none_or(|address| bind(&raw, &address).is_err()) {
            assert!(Instant::now() < end, "the link-local address cannot be used");
            std::thread::sleep(Duration::from_millis(20));
        }
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        sendto(&raw, &ADVERTISEMENT, SendFlags::empty(), &SocketAddrV6::new(all_nodes, 0, 0, link)).unwrap();
    });
}

/// The links over which this host has a default route.
fn default_routes() -> Vec<String> {
    let mut socket = Socket::open(Protocol::Route).unwrap();
    let routes = netlink::routes(&mut socket).unwrap();
    let defaults =
        routes.iter().filter(|route| !route.destination.is_ipv4() && route.destination.prefix() == 0);
    let links: Vec<u32> = defaults.filter_map(|route| route.link).collect();
    let name = |index| netlink::link_by_index(&mut socket, index).unwrap().unwrap().name;
    links.into_iter().map(name).filter(|name| name != "lo").collect()
}

fn learns_within(limit: Duration) -> bool {
    let end = Instant::now() + limit;
    while default_routes().is_empty() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// A network of one plugin, of IPv4 or of both families.
fn network(host: &Host, plugin: &Value, both: bool) -> cni::contract::NetworkList {
    let mut ranges = vec![json!([{ "subnet": "10.50.0.0/24" }])];
    ranges.extend(both.then(|| json!([{ "subnet": "fd50::/64" }])));
    let mut plugin = plugin.clone();
    plugin["ipam"] =
        json!({ "type": "host-local", "dataDir": host.dir.path().join("leases"), "ranges": ranges });
    list(&[plugin])
}

#[test]
fn no_container_is_the_hosts_router() {
    let bridge = json!({ "type": "bridge", "bridge": "br0", "isGateway": true });
    for (plugin, both) in [
        (bridge.clone(), false),
        (bridge, true),
        (json!({ "type": "bridge", "bridge": "br0" }), false),
        (json!({ "type": "ptp" }), false),
        (json!({ "type": "ptp" }), true),
    ] {
        on_a_host(|host| {
            let netns = Netns::new();
            add(host, &network(host, &plugin, both), &attachment("c", &netns, &[]));
            advertise(&netns);
            let learnt = learns_within(Duration::from_millis(300));
            assert!(
                !learnt,
                "{plugin}, both families: {both}: the host's router is behind {:?}",
                default_routes()
            );
        });
    }
}

#[test]
fn a_host_that_forwards_keeps_its_router_and_gets_no_other() {
    on_a_host(|host| {
        let outside = host.outside();
        advertise(&outside);
        assert!(learns_within(Duration::from_secs(180)), "this test's advertisements are not heard");
        let netns = Netns::new();
        let bridge = json!({ "type": "bridge", "bridge": "br0", "isGateway": true });
        add(host, &network(host, &bridge, true), &attachment("c", &netns, &[]));
        let accepts = |link: &str| sysctl::read(&format!("net/ipv6/conf/{link}/accept_ra")).unwrap();
        assert_eq!((accepts("uplink").as_str(), accepts("br0").as_str()), ("2", "0"));
        // What is made later is somebody else's affair, and listens to nobody because of us.
        assert_eq!(accepts("default"), "1");
        assert_eq!(default_routes(), ["uplink"]);
        advertise(&netns);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(default_routes(), ["uplink"]);
    });
}
