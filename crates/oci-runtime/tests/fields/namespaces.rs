//! What namespaces hold: clocks, network devices; and which are joined.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use kernel::process::{Child, Cloned, NewNamespaces};
use oci_runtime::{create, join};

use kernel::netlink::{
    Address, Batch, Kind, NewLink, Peer, Protocol, SetLink, Socket, addresses, delete_link, link_by_name,
    links,
};
use serde_json::{Value, json};

use super::{answer, push, refused};
use crate::{Bench, Outcome, Test, check, pipes};

pub(super) const TESTS: &[Test] = &[
    ("clocks_are_ahead_as_asked", clocks),
    ("a_network_device_moves_with_its_addresses", net_device),
    ("a_network_device_that_cannot_move_is_named_and_stays", net_device_stays),
    ("a_network_device_comes_back_when_the_container_fails", net_device_returns),
    ("a_class_of_service_needs_resctrl", intel_rdt),
    ("a_user_namespace_is_joined_and_owns_the_new_ones", joined_user),
    ("mappings_of_a_joined_user_namespace_are_its_own", joined_mappings),
    ("a_network_namespace_of_the_host_is_joined_beside_a_new_user_namespace", joined_network),
    ("a_mount_namespace_is_joined", joined_mounts),
    ("groups_that_nobody_may_set_are_told", denied_groups),
    ("home_is_that_of_passwd", home),
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

/// Makes the container join a namespace by the descriptor of its file.
fn by_path(spec: &mut Value, kind: &str, path: &str) {
    let list = spec["linux"]["namespaces"].as_array_mut().expect("namespaces");
    list.retain(|n| n["type"] != kind);
    list.push(json!({"type": kind, "path": path}));
}

/// A user namespace of 65536 ids from 100000 on.
fn user() -> Result<(OwnedFd, String), Box<dyn std::error::Error>> {
    let file = kernel::namespace::user("0 100000 65536\n", "0 100000 65536\n")?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok((file, path))
}

fn prepare(bench: &Bench) -> Outcome {
    for dir in ["dev", "sys"] {
        fs::create_dir_all(bench.root().join(dir))?;
    }
    Ok(())
}

fn joined_user(bench: &Bench) -> Outcome {
    prepare(bench)?;
    let (file, path) = user()?;
    let mut spec = bench.spec(&["look", "/dev/null"]);
    by_path(&mut spec, "user", &path);
    // Both take rights over the network namespace, which only its owner's root has: this, and the mount of sysfs.
    spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    let seen = answer(bench, &spec)?;
    let theirs = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?.display().to_string();
    check(seen["ns"]["user"] == theirs, || seen["ns"].to_string())?;
    let status = seen["status"].as_str().unwrap_or_default();
    check(status.lines().any(|l| l == "Uid:\t0\t0\t0\t0"), || status.into())?;
    check(seen["pid"] == 1, || seen["pid"].to_string())?;
    check(seen["fds"] == json!(["0", "1", "2"]), || seen["fds"].to_string())?;
    for namespace in ["pid", "net", "mnt", "ipc", "uts", "cgroup"] {
        let ours = fs::read_link(format!("/proc/self/ns/{namespace}"))?.display().to_string();
        check(seen["ns"][namespace] != ours, || format!("{namespace} is shared"))?;
    }
    check(seen["paths"]["/dev/null"]["rdev"] == rustix::fs::makedev(1, 3), || seen["paths"].to_string())
}

fn joined_mappings(bench: &Bench) -> Outcome {
    prepare(bench)?;
    let (_file, path) = user()?;
    let mut spec = bench.spec(&["exit", "0"]);
    super::with_user_namespace(bench, &mut spec)?;
    by_path(&mut spec, "user", &path);
    let done = bench.run(&spec)?;
    check(done.exit == kernel::process::Exit::Code(0), || format!("{done:?}"))?;
    spec["linux"]["gidMappings"][0]["size"] = 5.into();
    refused(bench, &spec, &["linux.gidMappings", "differs from the user namespace that is joined"])
}

struct Pinned(PathBuf);

impl Drop for Pinned {
    fn drop(&mut self) {
        kernel::namespace::unpin(&self.0).expect("it is unpinned");
    }
}

fn joined_network(bench: &Bench) -> Outcome {
    let pin = Pinned(bench.dir.path().join("netns"));
    kernel::namespace::pin_new_netns(&pin.0)?;
    let mut spec = bench.spec(&["look"]);
    super::with_user_namespace(bench, &mut spec)?;
    by_path(&mut spec, "network", &pin.0.display().to_string());
    // Root of the container has no rights over that network namespace, which sysfs shows.
    spec["mounts"]
        .as_array_mut()
        .expect("mounts")
        .retain(|m| !m["destination"].as_str().unwrap_or("").starts_with("/sys"));
    let seen = answer(bench, &spec)?;
    let theirs = format!("net:[{}]", std::os::unix::fs::MetadataExt::ino(&fs::metadata(&pin.0)?));
    check(seen["ns"]["net"] == theirs, || format!("{} is not {theirs}", seen["ns"]["net"]))?;
    let ours = fs::read_link("/proc/self/ns/user")?.display().to_string();
    check(seen["ns"]["user"] != ours && seen["pid"] == 1, || seen.to_string())
}

/// A process in namespaces of its own that does nothing; it ends with the descriptor.
fn idle(namespaces: NewNamespaces) -> Result<(Child, OwnedFd), Box<dyn std::error::Error>> {
    let (theirs, ours) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    match kernel::process::clone(namespaces, None)? {
        Cloned::Parent(child) => Ok((child, ours)),
        Cloned::Child => {
            drop(ours);
            let _ = rustix::io::read(&theirs, &mut [0_u8; 1]);
            kernel::process::exit_now(0)
        }
    }
}

fn joined_mounts(bench: &Bench) -> Outcome {
    let (child, end) = idle(NewNamespaces::MOUNT)?;
    let path = format!("/proc/{}/ns/mnt", child.pid);
    let mut spec = bench.spec(&["look", "/probe", "/dev/null", "/work"]);
    by_path(&mut spec, "mount", &path);
    let theirs = fs::read_link(&path)?.display().to_string();
    let seen = answer(bench, &spec)?;
    check(seen["ns"]["mnt"] == theirs, || seen["ns"].to_string())?;
    check(!seen["paths"]["/probe"].is_null() && seen["paths"]["/work"].is_null(), || {
        seen["paths"].to_string()
    })?;
    check(!std::path::Path::new("/probe").exists(), || "this process has the container's root".into())?;
    drop(end);
    child.wait()?;
    by_path(&mut spec, "mount", "/proc/self/ns/mnt");
    refused(bench, &spec, &["linux.namespaces (mount)", "the runtime's own"])
}

fn denied_groups(bench: &Bench) -> Outcome {
    prepare(bench)?;
    let (child, end) = idle(NewNamespaces::USER)?;
    for (file, text) in [("setgroups", "deny"), ("uid_map", "0 100000 65536"), ("gid_map", "0 100000 65536")]
    {
        fs::write(format!("/proc/{}/{file}", child.pid), text)?;
    }
    let mut spec = bench.spec(&["look"]);
    by_path(&mut spec, "user", &format!("/proc/{}/ns/user", child.pid));
    answer(bench, &spec)?;
    spec["process"]["user"]["additionalGids"] = json!([7]);
    let done = bench.run(&spec)?;
    check(done.warnings.len() == 1 && done.warnings[0].contains("cannot set the additional groups"), || {
        format!("{:?}", done.warnings)
    })?;
    drop(end);
    child.wait()?;
    Ok(())
}

fn home(bench: &Bench) -> Outcome {
    fs::create_dir(bench.root().join("etc"))?;
    fs::write(
        bench.root().join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
    )?;
    let mut spec = bench.spec(&["env"]);
    spec["process"]["env"] = json!(["A=1", "A=2", "HOME=", "PATH=/bin"]);
    let seen = answer(bench, &spec)?;
    check(seen == json!({"A": "2", "PATH": "/bin", "HOME": "/root"}), || seen.to_string())?;
    spec["process"]["env"] = json!(["HOME=/given"]);
    let seen = answer(bench, &spec)?;
    check(seen == json!({"HOME": "/given"}), || seen.to_string())?;
    // And for a process that joins.
    let spec = bench.parsed(&bench.spec(&["sleep"]))?;
    let (mut streams, stdio) = pipes()?;
    let (first, _) = create(&spec, bench.setup(Some(stdio)))?.start()?;
    streams.out.read_exact(&mut [0; 3])?;
    for (uid, home) in [(1000, "/home/user"), (7, "/")] {
        let mut process = bench.spec(&["env"])["process"].clone();
        process["env"] = json!([]);
        process["user"] = json!({"uid": uid, "gid": 1000});
        fs::set_permissions(bench.root(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let process = oci_runtime::contract::parse_process(process.to_string().as_bytes())?;
        let (streams, stdio) = pipes()?;
        let how = bench.join(&spec, &first, Some(stdio));
        let (second, warnings) = join(&process, how)?.start()?;
        let seen = streams.finish(&second, "", warnings)?.answer();
        check(seen == json!({"HOME": home}), || seen.to_string())?;
    }
    kernel::process::signal(first.pidfd.as_fd(), 9)?;
    first.wait()?;
    Ok(())
}
