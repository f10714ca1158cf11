//! Machines on one link, each in a network namespace of its own, that keep ways to each other's pods. Root.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kernel::netlink::{
    self, Address, IpNet, Kind, NewLink, OwnedRoute, Protocol, Route, SetLink, Socket, owned_routes,
};
use routes::{Keeper, PROTOCOL, Report, Way, Why};
use testkit::netns::{Netns, addresses, change, index, join};

/// Longer than anything takes that will happen at all, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(180);

/// A switch, and machines at it: 192.0.2.1 and 2001:db8::1 is the first, `e0` its link, 10.64.1.0/24 and fd64:1::/64 its pods.
struct Lan {
    switch: Netns,
    hosts: Vec<Netns>,
}

/// A keeper, and what it has told last.
struct Kept {
    keeper: Keeper,
    told: Arc<Mutex<Option<Report>>>,
}

impl Lan {
    fn new(hosts: usize) -> Self {
        let lan = Self { switch: Netns::new(), hosts: (0..hosts).map(|_| Netns::new()).collect() };
        lan.switch.run(|| {
            let kind = Kind::Bridge { mcast_snooping: Some(false), vlan_filtering: None };
            change(|batch| batch.add_link(&NewLink { up: true, ..NewLink::new("br0", kind) }));
            let bridge = index("br0");
            for (at, host) in lan.hosts.iter().enumerate() {
                let port = format!("p{at}");
                let nets = addresses_of(at).map(|(address, prefix)| format!("{address}/{prefix}"));
                join(&port, host, ("e0", None), &nets.each_ref().map(String::as_str));
                change(|batch| batch.set_link(&SetLink::named(&port).master(bridge)));
            }
        });
        for (at, host) in lan.hosts.iter().enumerate() {
            // A pod of each, as packets for it come here.
            let pods = pods(at).map(|pod| IpNet::host(pod).to_string());
            host.run(|| addresses("lo", &pods.each_ref().map(String::as_str)));
        }
        lan
    }

    /// A machine that keeps ways to the pods of others; nothing is wanted yet.
    fn keep(&self, at: usize) -> Kept {
        let told = Arc::new(Mutex::new(None));
        let tell = told.clone();
        let start = move || Keeper::start(move |report| *tell.lock().unwrap() = Some(report)).unwrap();
        Kept { keeper: self.hosts[at].run(start), told }
    }

    /// The routes of a machine's main table to pods' networks, with whose they are and their next hops.
    fn routes(&self, at: usize) -> BTreeMap<(String, u8), Option<IpAddr>> {
        let found = self.hosts[at].run(|| {
            let mut socket = Socket::open(Protocol::Route).unwrap();
            let is_of_pods = |one: &OwnedRoute| {
                let to = one.route.destination;
                let nets: [IpNet; 2] = ["10.64.0.0/10", "fd64::/16"].map(|net| net.parse().unwrap());
                one.is_main() && to.prefix() > 0 && nets.iter().any(|net| net.contains(to.address()))
            };
            owned_routes(&mut socket, is_of_pods).unwrap()
        });
        // The pods of its own are no way.
        found
            .into_iter()
            .filter(|one| one.route.link != Some(1))
            .map(|one| ((one.route.destination.to_string(), one.protocol), one.route.gateway))
            .collect()
    }

    /// Waits until a machine has these ways of ours, each with its next hop, and none else.
    fn until_ours(&self, at: usize, ways: &[(&str, &str)]) {
        let wanted: BTreeMap<String, Option<IpAddr>> =
            ways.iter().map(|(to, gateway)| ((*to).into(), gateway.parse().ok())).collect();
        until(&format!("machine {at} has {ways:?}"), || {
            let ours = self.routes(at).into_iter().filter(|((_, protocol), _)| *protocol == PROTOCOL);
            let ours: BTreeMap<_, _> = ours.map(|((to, _), gateway)| (to, gateway)).collect();
            (ours == wanted).then_some(()).ok_or(ours)
        });
    }

    fn change(&self, at: usize, make: impl FnOnce(&mut netlink::Batch) + Send) {
        self.hosts[at].run(|| change(make));
    }

    /// Whether packets come from one machine to a pod of another.
    fn reaches(&self, from: usize, pod: IpAddr, of: usize) -> bool {
        let bind = |address: IpAddr| UdpSocket::bind(SocketAddr::new(address, 0)).unwrap();
        let server = self.hosts[of].run(|| bind(pod));
        let to = server.local_addr().unwrap();
        server.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        self.hosts[from].run(|| {
            let any: IpAddr = if pod.is_ipv4() { [0u8; 4].into() } else { [0u8; 16].into() };
            // Where there is no way the kernel says so.
            let _ = bind(any).send_to(b"x", to);
        });
        server.recv_from(&mut [0; 8]).is_ok()
    }
}

impl Kept {
    /// Waits until it has told something that is so.
    fn until(&self, what: &str, is: impl Fn(&Report) -> bool) {
        until(what, || {
            let told = self.told.lock().unwrap().clone();
            if told.as_ref().is_some_and(&is) { Ok(()) } else { Err(told) }
        });
    }

    /// The reason why there is no way, of the only one that there is not.
    fn until_missing(&self, what: &str, is: impl Fn(&Why) -> bool) {
        self.until(what, |told| matches!(told.missing.as_slice(), [one] if is(&one.why)));
    }
}

/// Looks until it is so.
fn until<E: std::fmt::Debug>(what: &str, mut look: impl FnMut() -> Result<(), E>) {
    let begun = Instant::now();
    while let Err(is) = look() {
        assert!(begun.elapsed() < PATIENCE, "not yet: {what}: {is:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn addresses_of(at: usize) -> [(IpAddr, u8); 2] {
    let at = at + 1;
    [(format!("192.0.2.{at}"), 24), (format!("2001:db8::{at}"), 64)]
        .map(|(address, prefix)| (address.parse().unwrap(), prefix))
}

fn pods(at: usize) -> [IpAddr; 2] {
    let at = at + 1;
    [format!("10.64.{at}.5"), format!("fd64:{at}::5")].map(|address| address.parse().unwrap())
}

/// The ways to the pods of a machine.
fn ways(at: usize) -> Vec<Way> {
    let gateways: Vec<IpAddr> = addresses_of(at).map(|(address, _)| address).into();
    let ranges = [format!("10.64.{}.0/24", at + 1), format!("fd64:{}::/64", at + 1)];
    let way = |range: String| Way {
        node: format!("node-{at}"),
        range: range.parse().unwrap(),
        is_admitted: true,
        gateways: gateways.clone(),
    };
    ranges.map(way).into()
}

/// The same as the kernel has them.
const TO_1: [(&str, &str); 2] = [("10.64.2.0/24", "192.0.2.2"), ("fd64:2::/64", "2001:db8::2")];
const TO_2: [(&str, &str); 2] = [("10.64.3.0/24", "192.0.2.3"), ("fd64:3::/64", "2001:db8::3")];

#[test]
fn packets_come_to_pods_of_other_nodes_and_nothing_is_left_afterwards() {
    let lan = Lan::new(3);
    assert!(!lan.reaches(0, pods(1)[0], 1) && !lan.reaches(0, pods(1)[1], 1), "there is no way yet");
    // What others have, there before and with another's number.
    let others =
        Route { gateway: Some("192.0.2.9".parse().unwrap()), ..Route::to("10.99.0.0/16".parse().unwrap()) };
    lan.change(0, |batch| batch.add_route_of(&others, 84));
    let kept = lan.keep(0);
    kept.keeper.want([ways(1), ways(2)].concat());
    lan.until_ours(0, &[TO_1, TO_2].concat());
    kept.until("all is there", |told| told.there == 4 && told.missing.is_empty() && told.failed.is_none());
    for node in [1, 2] {
        for pod in pods(node) {
            until(&format!("packets come to {pod}"), || lan.reaches(0, pod, node).then_some(()).ok_or(()));
        }
    }
    // A node goes, and another gets another address.
    let mut moved = ways(2);
    let address: IpAddr = "192.0.2.33".parse().unwrap();
    lan.hosts[2].run(|| addresses("e0", &["192.0.2.33/24"]));
    moved.iter_mut().for_each(|way| way.gateways.insert(0, address));
    kept.keeper.want(moved);
    lan.until_ours(0, &[("10.64.3.0/24", "192.0.2.33"), TO_2[1]]);
    kept.until("two are there", |told| told.there == 2);
    // The process ends: packets go on. The next one finds what there is, and wants something else.
    drop(kept);
    lan.until_ours(0, &[("10.64.3.0/24", "192.0.2.33"), TO_2[1]]);
    until("packets go on", || lan.reaches(0, pods(2)[0], 2).then_some(()).ok_or(()));
    let kept = lan.keep(0);
    lan.until_ours(0, &[("10.64.3.0/24", "192.0.2.33"), TO_2[1]]);
    kept.keeper.want(ways(1));
    lan.until_ours(0, &TO_1);
    drop(kept);
    assert_eq!(lan.hosts[0].run(routes::remove).unwrap(), 2);
    assert_eq!(lan.hosts[0].run(routes::remove).unwrap(), 0);
    let left: Vec<_> = lan.routes(0).into_keys().collect();
    assert_eq!(left, [("10.99.0.0/16".to_owned(), 84)]);
}

#[test]
fn what_somebody_changes_is_mended() {
    let lan = Lan::new(2);
    let kept = lan.keep(0);
    kept.keeper.want(ways(1));
    lan.until_ours(0, &TO_1);
    let route = |(to, gateway): (&str, &str)| Route {
        gateway: Some(gateway.parse().unwrap()),
        ..Route::to(to.parse().unwrap())
    };
    for way in TO_1 {
        lan.change(0, |batch| batch.delete_route(&route(way)));
        lan.until_ours(0, &TO_1);
    }
    // In our name, and elsewhere; and one that nobody wants.
    lan.change(0, |batch| batch.delete_route(&route(TO_1[0])));
    lan.change(0, |batch| {
        batch.add_route_of(&Route { priority: Some(50), ..route(("10.64.2.0/24", "192.0.2.77")) }, PROTOCOL);
        batch.add_route_of(&route(("10.64.200.0/24", "192.0.2.77")), PROTOCOL);
    });
    lan.until_ours(0, &TO_1);
    // With the link goes all; with its cable nothing.
    lan.change(0, |batch| batch.set_link(&SetLink::named("e0").up(false)));
    lan.until_ours(0, &[]);
    let is_away = |told: &Report| told.missing.iter().all(|one| matches!(one.why, Why::Elsewhere { .. }));
    kept.until("the node is on no link", |told| told.there == 0 && told.missing.len() == 2 && is_away(told));
    lan.change(0, |batch| batch.set_link(&SetLink::named("e0").up(true)));
    lan.until_ours(0, &TO_1[..1]);
    // IPv6's addresses have gone with the link.
    lan.hosts[0].run(|| addresses("e0", &["2001:db8::1/64"]));
    lan.until_ours(0, &TO_1);
    lan.switch.run(|| change(|batch| batch.set_link(&SetLink::named("p0").up(false))));
    lan.switch.run(|| change(|batch| batch.set_link(&SetLink::named("p0").up(true))));
    lan.until_ours(0, &TO_1);
    // The node is reached by another link from now on.
    let cable = Netns::new();
    lan.hosts[0].run(|| {
        join("e1", &cable, ("far", None), &[]);
        let e0 = index("e0");
        let net: IpNet = "192.0.2.1/24".parse().unwrap();
        change(|batch| batch.delete_address(&Address::new(e0, net)));
        addresses("e1", &["192.0.2.1/24"]);
    });
    let e1 = lan.hosts[0].run(|| index("e1"));
    until("the route leaves by the other link", || {
        let found = lan.hosts[0].run(|| {
            let mut socket = Socket::open(Protocol::Route).unwrap();
            owned_routes(&mut socket, |one| one.is_way_of(PROTOCOL) && one.route.destination.is_ipv4())
                .unwrap()
        });
        matches!(found.as_slice(), [one] if one.route.link == Some(e1)).then_some(()).ok_or(found)
    });
}

#[test]
fn a_route_of_somebody_else_is_told_and_left_alone() {
    let lan = Lan::new(2);
    let kept = lan.keep(0);
    let four = || ways(1).into_iter().take(1).collect::<Vec<_>>();
    let foreign =
        Route { gateway: Some("192.0.2.9".parse().unwrap()), ..Route::to("10.64.2.0/24".parse().unwrap()) };
    let has = |protocol: u8, gateway: &str| {
        let gateway: Option<IpAddr> = gateway.parse().ok();
        move |why: &Why| *why == Why::Foreign { protocol, gateway }
    };
    // It is there before.
    lan.change(0, |batch| batch.add_route_of(&foreign, 186));
    kept.keeper.want(four());
    kept.until_missing("bgp has it", has(186, "192.0.2.9"));
    lan.until_ours(0, &[]);
    lan.change(0, |batch| batch.delete_route(&foreign));
    lan.until_ours(0, &TO_1[..1]);
    kept.until("all is there", |told| told.there == 1 && told.missing.is_empty());
    // It takes the place of ours, or comes beside it with a metric that is worse: ours makes way, as what others do holds.
    lan.change(0, |batch| batch.replace_route(&foreign));
    kept.until_missing("somebody's hands have it", has(3, "192.0.2.9"));
    lan.until_ours(0, &[]);
    lan.change(0, |batch| batch.delete_route(&foreign));
    lan.until_ours(0, &TO_1[..1]);
    let worse = Route { priority: Some(4000), ..foreign.clone() };
    lan.change(0, |batch| batch.add_route_of(&worse, 4));
    kept.until_missing("it is static", has(4, "192.0.2.9"));
    lan.until_ours(0, &[]);
    let left: Vec<_> = lan.routes(0).into_keys().collect();
    assert_eq!(left, [("10.64.2.0/24".to_owned(), 4)]);
    // Who ends keeping takes away nothing of it.
    drop(kept);
    assert_eq!(lan.hosts[0].run(routes::remove).unwrap(), 0);
    assert_eq!(lan.routes(0).len(), 1);
}

/// Processes that are killed at any moment leave what the next one finds: here each makes a part of what is wanted, and goes.
#[test]
fn whoever_comes_next_makes_the_difference() {
    let lan = Lan::new(3);
    let all = [[ways(1), ways(2)].concat(), ways(2), ways(1), Vec::new()];
    let has = [[TO_1, TO_2].concat(), TO_2.to_vec(), TO_1.to_vec(), Vec::new()];
    for round in 0..12 {
        let kept = lan.keep(0);
        kept.keeper.want(all[round % 4].clone());
        if round % 3 != 0 {
            lan.until_ours(0, &has[round % 4]);
        }
    }
    let kept = lan.keep(0);
    kept.keeper.want(all[0].clone());
    lan.until_ours(0, &has[0]);
    drop(kept);
    assert_eq!(lan.hosts[0].run(routes::remove).unwrap(), 4);
}

/// Of a cluster of some size: no node's route waits for another's.
#[test]
fn five_hundred_nodes() {
    let lan = Lan::new(2);
    let kept = lan.keep(0);
    let way = |at: u32| {
        let [_, _, high, low] = (at + 1).to_be_bytes();
        Way {
            node: format!("node-{at}"),
            range: IpNet::new([10, 64 + high, low, 0].into(), 24).unwrap(),
            is_admitted: true,
            gateways: vec![[192, 0, 2, (at % 200 + 2) as u8].into()],
        }
    };
    let begun = Instant::now();
    // The first range is that of this machine's own pods.
    kept.keeper.want((1..501).map(way).collect());
    kept.until("all are there", |told| told.there == 500 && told.missing.is_empty());
    println!("500 routes are there after {:?}", begun.elapsed());
    let begun = Instant::now();
    kept.keeper.want((1..500).map(way).collect());
    kept.until("one has gone", |told| told.there == 499);
    println!("one has gone after {:?}", begun.elapsed());
    assert_eq!(lan.routes(0).len(), 499);
}
