//! What an ADD and a DEL cost in this process: bridge, host-local, masquerade and one published port.
//!
//! `cargo run --release -p cni --example attach_cost [COUNT] [EXISTING]`, as root. All happens in a network namespace
//! of its own. Printed: the median of COUNT, CPU time of the calling threads (user and system) and wall time, with
//! EXISTING containers attached; the time of each plugin; and the same for the netlink messages alone.

use std::error::Error;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use cni::caller::{Caller, Instance, default_network};
use cni::contract::{Attachment, PortMapping};
use kernel::namespace::in_new_netns;
use kernel::netlink::{self, Address, Batch, IpNet, Kind, NewLink, Peer, Protocol, Route, SetLink, Socket};
use ledger::{Ledger, OwnerId};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let count = args.next().transpose()?.unwrap_or(50);
    let existing = args.next().transpose()?.unwrap_or(0);
    let outcome = in_new_netns(|| Ok(measure(count, existing).map_err(|e| e.to_string())))?;
    Ok(outcome?)
}

fn measure(count: usize, existing: usize) -> Outcome<()> {
    let dir = std::env::temp_dir().join(format!("sextant-attach-cost-{}", std::process::id()));
    let outcome = measure_in(&dir, count, existing);
    std::fs::remove_dir_all(&dir)?;
    outcome
}

fn measure_in(dir: &std::path::Path, count: usize, existing: usize) -> Outcome<()> {
    let ledger = Ledger::open(&dir.join("run"), &dir.join("data"))?;
    let caller = Caller::new(cni::plugin::builtins(), dir.join("cache"));
    let list = default_network(&Instance::new("cost"), &["10.88.0.0/16".parse()?], dir)?;
    let mut kept = Vec::new();
    for i in 0..existing {
        kept.push(Pod::new(format!("kept{i}"), i)?);
    }
    for pod in &kept {
        caller.add(&list, &pod.attachment, &mut ledger.owner(&pod.owner)?)?;
    }
    let (mut adds, mut dels) = (Vec::new(), Vec::new());
    let mut steps = std::collections::BTreeMap::<String, Vec<Duration>>::new();
    for i in 0..count {
        let pod = Pod::new(format!("pod{i}"), existing + i)?;
        let mut owner = ledger.owner(&pod.owner)?;
        let begin = Cost::now()?;
        let added = caller.add(&list, &pod.attachment, &mut owner)?;
        adds.push(begin.until_now()?);
        for step in added.steps {
            steps.entry(step.plugin).or_default().push(step.took);
        }
        let begin = Cost::now()?;
        caller.del(&list, &pod.attachment, &mut owner).map_err(|e| e.to_string())?;
        let errors = owner.undo_all();
        dels.push(begin.until_now()?);
        if let Some(error) = errors.into_iter().next() {
            return Err(error.into());
        }
    }
    println!("{count} x, {existing} attached      CPU ms  wall ms  wall min");
    report("ADD", &mut adds);
    for (plugin, mut took) in steps {
        took.sort();
        println!("  {plugin:<24} {:>16.3}", ms(took[took.len() / 2]));
    }
    report("DEL (with ledger)", &mut dels);
    floor(count)?;
    for pod in &kept {
        let mut owner = ledger.owner(&pod.owner)?;
        caller.del(&list, &pod.attachment, &mut owner).map_err(|e| e.to_string())?;
        owner.undo_all();
    }
    Ok(())
}

/// The least that the kernel asks for: a veth from the same bridge into a namespace, an address, a default route.
fn floor(count: usize) -> Outcome<()> {
    let mut host = Socket::open(Protocol::Route)?;
    let name = Instance::new("cost").bridge();
    if netlink::link_by_name(&mut host, &name)?.is_none() {
        let mut batch = Batch::new();
        let kind = Kind::Bridge { mcast_snooping: None, vlan_filtering: None };
        batch.add_link(&NewLink { up: true, ..NewLink::new(&name, kind) });
        host.run(&batch)?;
    }
    let bridge = netlink::link_by_name(&mut host, &name)?.ok_or("no bridge")?.index;
    let (mut adds, mut dels) = (Vec::new(), Vec::new());
    for i in 0..count {
        let pod = Pod::new(format!("floor{i}"), i)?;
        let begin = Cost::now()?;
        let peer = Peer { name: "eth0", mac: None, mtu: None, netns: Some(pod.netns.as_fd()) };
        let mut batch = Batch::new();
        let veth =
            NewLink { up: true, master: Some(bridge), ..NewLink::new("floorveth", Kind::Veth { peer }) };
        batch.add_link(&veth);
        host.run(&batch)?;
        let mut inside = Socket::open_in(Protocol::Route, &pod.netns)?;
        let link = netlink::link_by_name(&mut inside, "eth0")?.ok_or("no eth0")?.index;
        let mut batch = Batch::new();
        batch.set_link(&SetLink::index(1).up(true));
        batch.set_link(&SetLink::index(link).up(true));
        batch.add_address(&Address::new(link, "10.88.200.2/16".parse()?));
        let gateway = Some("10.88.0.1".parse()?);
        batch.add_route(&Route { gateway, ..Route::to("0.0.0.0/0".parse::<IpNet>()?) });
        inside.run(&batch)?;
        adds.push(begin.until_now()?);
        let begin = Cost::now()?;
        netlink::delete_link_on(&mut host, "floorveth")?;
        dels.push(begin.until_now()?);
    }
    report("bare netlink ADD", &mut adds);
    report("bare netlink DEL", &mut dels);
    Ok(())
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

/// CPU of the whole process, threads that ended included, and wall time.
struct Cost {
    cpu: Duration,
    wall: Instant,
}

impl Cost {
    fn now() -> Outcome<Self> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Ok(Self { cpu: Duration::new(now.tv_sec.try_into()?, now.tv_nsec.try_into()?), wall: Instant::now() })
    }

    fn until_now(&self) -> Outcome<(Duration, Duration)> {
        let now = Self::now()?;
        Ok((now.cpu - self.cpu, now.wall - self.wall))
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn report(what: &str, costs: &mut [(Duration, Duration)]) {
    let mut walls: Vec<_> = costs.iter().map(|(_, wall)| *wall).collect();
    walls.sort();
    costs.sort();
    let (cpu, wall) = (costs[costs.len() / 2].0, walls[walls.len() / 2]);
    println!("{what:<24} {:>8.3} {:>8.3} {:>8.3}", ms(cpu), ms(wall), ms(walls[0]));
}
