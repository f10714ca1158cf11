//! What an ADD and a DEL cost in this process: bridge, host-local, masquerade, a published port, and the firewall.
//!
//! `cargo run --release -p cni --example attach_cost [COUNT] [EXISTING] [json]`, as root. All happens in a network
//! namespace of its own. Ours and bare netlink take turns on the same bridge, with EXISTING containers attached. Printed:
//! the median of COUNT, CPU time of the process (user and system) and wall time, and the time of each plugin.
//! `cargo xtask bench cni` runs this and judges it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use cni::caller::Caller;
use cni::contract::{Attachment, NetworkList, PortMapping};
use kernel::namespace::in_new_netns;
use kernel::netlink::conntrack::{self, Flows};
use kernel::netlink::{self, Address, Batch, IpNet, Kind, NewLink, Peer, Protocol, Route, SetLink, Socket};
use kernel::nft::{Element, Family, Field, Set, Target, Transaction, Value};
use ledger::{Ledger, OwnerId};
use serde_json::json;

type Outcome<T> = Result<T, Box<dyn Error>>;

const BRIDGE: &str = "cost0";

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| args.get(at).map_or(Ok(default), |text| text.parse());
    let (count, existing) = (number(0, 50)?, number(1, 0)?);
    let as_json = args.get(2).is_some_and(|word| word == "json");
    let measured = in_new_netns(|| Ok(measure(count, existing).map_err(|e| e.to_string())))??;
    if as_json {
        println!("{}", measured.json());
    } else {
        measured.print(count, existing);
    }
    Ok(())
}

fn measure(count: usize, existing: usize) -> Outcome<Measured> {
    let dir = std::env::temp_dir().join(format!("sextant-attach-cost-{}", std::process::id()));
    let outcome = measure_in(&dir, count, existing);
    std::fs::remove_dir_all(&dir)?;
    outcome
}

fn measure_in(dir: &Path, count: usize, existing: usize) -> Outcome<Measured> {
    let ledger = Ledger::open(&dir.join("run"), &dir.join("data"))?;
    let caller = Caller::new(cni::plugin::builtins(), dir.join("cache"));
    let list = network(dir)?;
    let mut kept = Vec::new();
    // One at least: with the last container the bridge goes.
    for i in 0..existing.max(1) {
        let pod = Pod::new(format!("kept{i}"), i)?;
        caller.add(&list, &pod.attachment, &mut ledger.owner(&pod.owner)?)?;
        kept.push(pod);
    }
    let mut measured = Measured::default();
    let mut floor = None;
    // One round more: the first fills caches.
    for round in 0..=count {
        let ours = ours(&ledger, &caller, &list, kept.len() + round, &mut measured.steps)?;
        let floor = match &mut floor {
            Some(floor) => floor,
            None => floor.insert(Floor::new()?),
        };
        let bare = floor.round(round)?;
        if round > 0 {
            measured.add.push(ours.0);
            measured.del.push(ours.1);
            measured.bare_add.push(bare.0);
            measured.bare_del.push(bare.1);
            measured.bare_flush.push(bare.2);
        }
    }
    for pod in &kept {
        let mut owner = ledger.owner(&pod.owner)?;
        caller.del(&list, &pod.attachment, &mut owner).map_err(|e| e.to_string())?;
        owner.undo_all();
    }
    Ok(measured)
}

fn network(dir: &Path) -> Outcome<NetworkList> {
    let list = json!({
        "cniVersion": "1.1.0",
        "name": "cost",
        "plugins": [
            {
                "type": "bridge", "bridge": BRIDGE, "isGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local", "dataDir": dir.join("networks"),
                    "ranges": [[{ "subnet": "10.88.0.0/16" }]], "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
            { "type": "firewall" },
        ],
    });
    Ok(NetworkList::from_value(list)?)
}

/// One ADD and DEL of the chain, with the ledger's part.
fn ours(
    ledger: &Ledger,
    caller: &Caller,
    list: &NetworkList,
    number: usize,
    steps: &mut BTreeMap<String, Vec<Duration>>,
) -> Outcome<(Cost, Cost)> {
    let pod = Pod::new(format!("pod{number}"), number)?;
    let begin = Moment::now()?;
    let mut owner = ledger.owner(&pod.owner)?;
    let added = caller.add(list, &pod.attachment, &mut owner)?;
    let add = begin.until_now()?;
    for step in added.steps {
        steps.entry(step.plugin).or_default().push(step.took);
    }
    let begin = Moment::now()?;
    caller.del(list, &pod.attachment, &mut owner).map_err(|e| e.to_string())?;
    let errors = owner.undo_all();
    let del = begin.until_now()?;
    errors.into_iter().next().map_or(Ok((add, del)), |error| Err(error.into()))
}

/// The least that the kernel asks for: a veth from the same bridge into a namespace, an address, a default route, and
/// three elements of nftables in one transaction; and with the published port the flows that it has sent to the address,
/// or the next container there would get them (the kernel goes through its whole table for that). Nothing is looked up,
/// chosen, checked or written down: no address is found, no port is looked at, nobody learns that the container is there.
/// It keeps its sockets in the host's namespace, and opens and closes one inside as every plugin must. It asks for the host's end
/// when all is made, as a result names its MAC: with that question the kernel sees the carrier at once. Without it a thread of the
/// kernel's does, up to a second later and at nobody's cost, so the attachment would not be as far as ours.
struct Floor {
    host: Socket,
    nft: Socket,
    bridge: u32,
}

/// Of a family that portmap has no reason to look at.
const TABLE: &str = "floor";
const SETS: [&str; 3] = ["ports", "masquerade", "forward"];
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 88, 200, 2);

impl Floor {
    fn new() -> Outcome<Self> {
        let (mut host, mut nft) = (Socket::open(Protocol::Route)?, Socket::open(Protocol::Netfilter)?);
        let bridge = netlink::link_by_name(&mut host, BRIDGE)?.ok_or("no bridge")?.index;
        let mut change = Transaction::new();
        change.add_table(Family::Ip, TABLE, true, None);
        let target = Some(Target::Fields(&[Field::IPV4, Field::SERVICE]));
        let key = &[Field::PROTOCOL, Field::SERVICE];
        change.add_set(Family::Ip, TABLE, &Set { name: "ports", key, target, interval: false });
        for name in ["masquerade", "forward"] {
            change.add_set(
                Family::Ip,
                TABLE,
                &Set { name, key: &[Field::IPV4], target: None, interval: false },
            );
        }
        change.commit(&mut nft)?;
        Ok(Self { host, nft, bridge })
    }

    /// ADD, DEL, and what of DEL was for the flows.
    fn round(&mut self, number: usize) -> Outcome<(Cost, Cost, Cost)> {
        let pod = Pod::new(format!("floor{number}"), number)?;
        let begin = Moment::now()?;
        let peer = Peer { name: "eth0", mac: None, mtu: None, netns: Some(pod.netns.as_fd()) };
        let mut batch = Batch::new();
        let veth = NewLink { master: Some(self.bridge), ..NewLink::new("floorveth", Kind::Veth { peer }) };
        batch.add_link(&veth);
        batch.set_link(&SetLink::named("floorveth").hairpin(true).no_link_local().up(true));
        self.host.run(&batch)?;
        let mut inside = Socket::open_in(Protocol::Route, &pod.netns)?;
        let link = netlink::link_by_name(&mut inside, "eth0")?.ok_or("no eth0")?.index;
        let mut batch = Batch::new();
        batch.set_link(&SetLink::index(1).up(true));
        batch.add_address(&Address::new(link, IpNet::new(ADDRESS.into(), 16).ok_or("no prefix")?));
        batch.set_link(&SetLink::index(link).up(true));
        let gateway = Some("10.88.0.1".parse()?);
        batch.add_route(&Route { gateway, link: Some(link), ..Route::to("0.0.0.0/0".parse::<IpNet>()?) });
        inside.run(&batch)?;
        let elements = elements();
        let mut change = Transaction::new();
        for (set, element) in SETS.iter().zip(&elements) {
            change.add_elements(Family::Ip, TABLE, set, std::slice::from_ref(element), true);
        }
        change.commit(&mut self.nft)?;
        netlink::link_by_name(&mut self.host, "floorveth")?.ok_or("no floorveth")?;
        drop(inside);
        let add = begin.until_now()?;
        let begin = Moment::now()?;
        netlink::delete_link_on(&mut self.host, "floorveth")?;
        let mut change = Transaction::new();
        for (set, element) in SETS.iter().zip(&elements) {
            change.delete_elements(Family::Ip, TABLE, set, std::slice::from_ref(element));
        }
        change.commit(&mut self.nft)?;
        let flush = Moment::now()?;
        let flows = Flows::AnsweredFrom { address: ADDRESS.into(), port: None };
        conntrack::delete_flows_on(&mut self.nft, &flows)?;
        Ok((add, begin.until_now()?, flush.until_now()?))
    }
}

fn elements() -> [Element; 3] {
    let address = ADDRESS.into();
    let one = |key: Value, value: Option<Value>| Element {
        key: key.into_bytes(),
        value: value.map(Value::into_bytes),
        ..Element::default()
    };
    [
        one(Value::new().protocol(6).port(9), Some(Value::new().address(address).port(80))),
        one(Value::new().address(address), None),
        one(Value::new().address(address), None),
    ]
}

struct Pod {
    netns: File,
    owner: OwnerId,
    attachment: Attachment,
}

impl Pod {
    fn new(id: String, port: usize) -> Outcome<Self> {
        let netns = in_new_netns(|| Ok(File::open("/proc/thread-self/ns/net")))??;
        let path = format!("/proc/self/fd/{}", netns.as_raw_fd()).into();
        let mut attachment = Attachment::new(id.clone(), "eth0", Some(path))?;
        let mappings = PortMapping::parse(&format!("{}:80", 10_000 + port))?;
        attachment.capability_args.insert("portMappings".into(), serde_json::to_value(mappings)?);
        Ok(Self { netns, owner: OwnerId::new(id)?, attachment })
    }
}

/// CPU and wall time that something took.
#[derive(Debug, Clone, Copy)]
struct Cost {
    cpu: Duration,
    wall: Duration,
}

/// CPU of the whole process, threads that ended included, and wall time.
struct Moment {
    cpu: Duration,
    wall: Instant,
}

impl Moment {
    fn now() -> Outcome<Self> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Ok(Self { cpu: Duration::new(now.tv_sec.try_into()?, now.tv_nsec.try_into()?), wall: Instant::now() })
    }

    fn until_now(&self) -> Outcome<Cost> {
        let now = Self::now()?;
        Ok(Cost { cpu: now.cpu - self.cpu, wall: now.wall - self.wall })
    }
}

#[derive(Default)]
struct Measured {
    add: Vec<Cost>,
    del: Vec<Cost>,
    bare_add: Vec<Cost>,
    bare_del: Vec<Cost>,
    bare_flush: Vec<Cost>,
    steps: BTreeMap<String, Vec<Duration>>,
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn median(costs: &[Cost], of: fn(&Cost) -> Duration) -> f64 {
    let mut all: Vec<_> = costs.iter().map(of).collect();
    all.sort();
    all.get(all.len() / 2).copied().map_or(f64::NAN, ms)
}

impl Measured {
    fn rows(&self) -> [(&'static str, &[Cost]); 5] {
        [
            ("add", &self.add),
            ("bareAdd", &self.bare_add),
            ("del", &self.del),
            ("bareDel", &self.bare_del),
            ("bareFlush", &self.bare_flush),
        ]
    }

    fn json(&self) -> serde_json::Value {
        let one = |costs: &[Cost]| {
            let least = |of: fn(&Cost) -> Duration| costs.iter().map(of).min().map_or(f64::NAN, ms);
            json!({
                "cpu": median(costs, |c| c.cpu), "cpuMin": least(|c| c.cpu),
                "wall": median(costs, |c| c.wall), "wallMin": least(|c| c.wall),
            })
        };
        self.rows()
            .into_iter()
            .map(|(name, costs)| (name.to_owned(), one(costs)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    fn print(&self, count: usize, existing: usize) {
        println!("{count} x, {existing} attached      CPU ms  wall ms");
        for (name, costs) in self.rows() {
            println!("{name:<24} {:>8.3} {:>8.3}", median(costs, |c| c.cpu), median(costs, |c| c.wall));
        }
        for (plugin, took) in &self.steps {
            let mut took = took.clone();
            took.sort();
            println!("  {plugin:<24} {:>15.3}", took.get(took.len() / 2).copied().map_or(f64::NAN, ms));
        }
    }
}
