//! What namespaces hold: clocks, network devices; and which are joined.

use std::fs;

use kernel::netlink::{
    Address, Batch, Kind, NewLink, Peer, Protocol, SetLink, Socket, addresses, delete_link, link_by_name,
    links,
};
use serde_json::{Value, json};

use super::{answer, push, refused};
use crate::{Bench, Outcome, Test, check};

pub(super) const TESTS: &[Test] = &[
    ("clocks_are_ahead_as_asked", clocks),
    ("a_network_device_moves_with_its_addresses", net_device),
    ("a_network_device_that_cannot_move_is_named_and_stays", net_device_stays),
    ("a_network_device_comes_back_when_the_container_fails", net_device_returns),
    ("a_class_of_service_needs_resctrl", intel_rdt),
];

pub(super) fn probe(word: &str) -> Option<Value> {
    match word {
        "clocks" => Some(json!({
            "offsets": fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default(),
            "boot": rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec,
            "monotonic": rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec,
        })),
        "net" => {
            let mut socket = Socket::open(Protocol::Route).ok()?;
            let seen = links(&mut socket).ok()?.into_iter().map(|link| {
                let nets = addresses(&mut socket, Some(link.index)).unwrap_or_default();
                let nets: Vec<_> = nets.iter().map(|a| a.net.to_string()).collect();
                (link.name.clone(), json!({"up": link.is_up(), "mtu": link.mtu, "addresses": nets}))
            });
            Some(seen.collect::<serde_json::Map<_, _>>().into())
        }
        _ => None,
    }
}

fn clocks(bench: &Bench) -> Outcome {
    let own = fs::read_link("/proc/self/ns/time")?;
    let before = rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec;
    let mut spec = bench.spec(&["clocks"]);
    push(&mut spec, "/linux/namespaces", json!({"type": "time"}));
    spec["linux"]["timeOffsets"] =
        json!({"boottime": {"secs": 1_000_000}, "monotonic": {"secs": 500, "nanosecs": 7}});
    let seen = answer(bench, &spec)?;
    let ahead = seen["boot"].as_i64().unwrap_or(0) - before;
    check((1_000_000..1_000_600).contains(&ahead), || format!("{ahead}: {seen}"))?;
    let offsets: Vec<&str> = seen["offsets"].as_str().unwrap_or_default().split_whitespace().collect();
    check(offsets == ["monotonic", "500", "7", "boottime", "1000000", "0"], || format!("{offsets:?}"))?;
    check(fs::read_link("/proc/self/ns/time")? == own, || "this process is in another namespace".into())?;
    let after = rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec;
    check(after - before < 600, || "this process's clock jumped".into())?;
    // In a user namespace too; and a new namespace without offsets has none.
    super::with_user_namespace(bench, &mut spec)?;
    let seen = answer(bench, &spec)?;
    check(seen["offsets"].as_str().is_some_and(|o| o.contains("1000000")), || seen.to_string())?;
    // Clocks below zero do not exist.
    spec["linux"]["timeOffsets"] = json!({"boottime": {"secs": -1_000_000_000}});
    refused(bench, &spec, &["linux.timeOffsets", "boottime -1000000000"])
}

/// A veth of the host whose first end has an address of each family; gone with this.
struct Cable {
    name: String,
    far: String,
}

impl Cable {
    fn new(letter: char) -> Result<Self, Box<dyn std::error::Error>> {
        let id = std::process::id();
        let (name, far) = (format!("sx{id}{letter}"), format!("sy{id}{letter}"));
        let mut socket = Socket::open(Protocol::Route)?;
        let mut batch = Batch::new();
        let peer = Peer { name: &far, mac: None, mtu: None, netns: None };
        batch.add_link(&NewLink { mtu: Some(1400), up: true, ..NewLink::new(&name, Kind::Veth { peer }) });
        socket.run(&batch)?;
        let cable = Self { name, far };
        let index = link_by_name(&mut socket, &cable.name)?.ok_or("no link")?.index;
        let mut batch = Batch::new();
        batch.set_link(&SetLink::named(&cable.far).up(true));
        for net in ["198.51.100.7/24", "2001:db8::7/64"] {
            batch.add_address(&Address::new(index, net.parse()?));
        }
        socket.run(&batch)?;
        Ok(cable)
    }

    fn nets(&self) -> Result<Vec<String>, Box<dyn std::error::Error>> {
        let mut socket = Socket::open(Protocol::Route)?;
        let link = link_by_name(&mut socket, &self.name)?.ok_or("it is not here")?;
        check(link.is_up(), || "it is down".into())?;
        let nets = addresses(&mut socket, Some(link.index))?;
        let mut nets: Vec<_> =
            nets.iter().filter(|a| a.permanent_global).map(|a| a.net.to_string()).collect();
        nets.sort();
        Ok(nets)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        delete_link(&self.far).expect("the cable goes");
    }
}

fn net_device(bench: &Bench) -> Outcome {
    let (first, second) = (Cable::new('a')?, Cable::new('b')?);
    let mut spec = bench.spec(&["net"]);
    spec["linux"]["netDevices"] = json!({&first.name: {"name": "inside0"}, &second.name: {"name": "eth%d"}});
    spec["linux"]["sysctl"] = json!({"net.ipv4.conf.inside0.forwarding": "1"});
    let seen = answer(bench, &spec)?;
    for name in ["inside0", "eth0"] {
        check(seen[name]["up"] == true && seen[name]["mtu"] == 1400, || seen.to_string())?;
        let nets: Vec<&str> =
            seen[name]["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        check(["198.51.100.7/24", "2001:db8::7/64"].iter().all(|net| nets.contains(net)), || {
            format!("{nets:?}")
        })?;
    }
    Ok(())
}

fn net_device_stays(bench: &Bench) -> Outcome {
    let cable = Cable::new('a')?;
    let mut spec = bench.spec(&["exit", "0"]);
    spec["linux"]["netDevices"] = json!({&cable.name: {"name": "lo"}});
    refused(bench, &spec, &["cannot move network device", &cable.name, "lo", "there is one of that name"])?;
    check(cable.nets()? == ["198.51.100.7/24", "2001:db8::7/64"], || "it is not what it was".into())?;
    // What moved before the one that could not comes back.
    spec["linux"]["netDevices"] = json!({&cable.name: {"name": "inside0"}, "sz-none": {}});
    refused(bench, &spec, &["cannot move network device sz-none", "there is none"])?;
    check(cable.nets()? == ["198.51.100.7/24", "2001:db8::7/64"], || "it is not what it was".into())
}

fn net_device_returns(bench: &Bench) -> Outcome {
    let cable = Cable::new('a')?;
    let mut spec = bench.spec(&["exit", "0"]);
    spec["linux"]["netDevices"] = json!({&cable.name: {"name": "inside0"}});
    push(&mut spec, "/mounts", json!({"destination": "/m", "type": "tmpfs", "options": ["nosuchoption"]}));
    refused(bench, &spec, &["cannot make the mount of tmpfs on /m"])?;
    check(cable.nets()? == ["198.51.100.7/24", "2001:db8::7/64"], || "it is not what it was".into())
}

fn intel_rdt(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["exit", "0"]);
    spec["linux"]["intelRdt"] = json!({"closID": "gold"});
    refused(bench, &spec, &["cannot set linux.intelRdt", "no group in the resctrl filesystem"])
}
