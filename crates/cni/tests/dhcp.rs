//! The DHCP daemon and plugin against dnsmasq, each in a namespace of its own.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod programs;
mod rig;

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kernel::netlink::{
    Address, Batch, IpvlanMode, Kind, NewLink, Peer, Protocol, SetLink, Socket, addresses, link_by_name,
};
use programs::{Program, ours};
use rig::Netns;
use serde_json::{Value, json};

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A network with a DHCP server, a daemon, and a container whose link has no address yet.
struct Site {
    dir: tempfile::TempDir,
    server: Netns,
    container: Netns,
    daemon: Option<Running>,
    dnsmasq: Option<Running>,
}

fn eventually(what: &str, is_so: impl FnMut() -> bool) {
    within(90, what, is_so);
}

fn within(seconds: u64, what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {seconds} s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A cable from the server's link `name` to `eth0` of a new container.
fn container(server: &Netns, name: &str) -> Netns {
    cable(server, name, "eth0")
}

/// A cable from the server's link `name` to the link `end` of a new namespace.
fn cable(server: &Netns, name: &str, end: &str) -> Netns {
    let container = Netns::new();
    server.run(|| {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let peer = Peer { name: end, mac: None, mtu: None, netns: Some(container.fd().as_fd()) };
        let bridge = link_by_name(&mut socket, "br0").unwrap().map(|bridge| bridge.index);
        let mut batch = Batch::new();
        batch.add_link(&NewLink { up: true, master: bridge, ..NewLink::new(name, Kind::Veth { peer }) });
        socket.run(&batch).unwrap();
    });
    container
}

fn spawn_daemon(program: &Program, dir: &Path) -> Running {
    let socket = dir.join("dhcp.sock");
    let mut command = Command::new(&program.path);
    command.arg0(program.name).arg("daemon");
    // An older reference daemon does not know all of them.
    if program.path == ours("dhcp").path {
        command.args(["-timeout", "1s", "-resendmax", "4s", "--resendtimeout=5s"]);
    }
    command.arg(format!("-socketpath={}", socket.display())).stdin(Stdio::null());
    let daemon = Running(command.spawn().unwrap());
    eventually("the daemon listens", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    daemon
}

impl Site {
    fn new(options: &[&str]) -> Self {
        Self::with(&ours("dhcp"), options)
    }

    fn with(daemon: &Program, options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Netns::new();
        server.run(|| {
            let mut socket = Socket::open(Protocol::Route).unwrap();
            let mut batch = Batch::new();
            let kind = Kind::Bridge { mcast_snooping: None, vlan_filtering: None };
            batch.add_link(&NewLink { up: true, ..NewLink::new("br0", kind) });
            batch.set_link(&SetLink::named("lo").up(true));
            socket.run(&batch).unwrap();
            let bridge = link_by_name(&mut socket, "br0").unwrap().unwrap().index;
            let mut batch = Batch::new();
            batch.add_address(&Address::new(bridge, "10.9.0.1/24".parse().unwrap()));
            socket.run(&batch).unwrap();
        });
        let container = container(&server, "veth0");
        let daemon = Some(spawn_daemon(daemon, dir.path()));
        let mut site = Self { dir, server, container, daemon, dnsmasq: None };
        site.dnsmasq = Some(site.serve("10.9.0.5,10.9.0.5,2m", options));
        eventually("dnsmasq listens", || site.log("sockets bound") == 1);
        site
    }

    /// A DHCP server for a range. Its log goes on where another's ended.
    fn serve(&self, range: &str, options: &[&str]) -> Running {
        let dir = self.dir.path();
        Running(self.server.run(|| {
            let mut command = Command::new("dnsmasq");
            command.args([
                "-k",
                "-C",
                "/dev/null",
                "-p",
                "0",
                "-u",
                "root",
                "--no-ping",
                "--log-dhcp",
                "-i",
                "br0",
                "-z",
            ]);
            command.args(["-x", "", "-F", range, "--dhcp-authoritative", "--log-facility=-"]);
            command.arg(format!("-l{}", dir.join("dnsmasq.leases").display())).args(options);
            let log = fs::File::options().append(true).create(true).open(dir.join("log")).unwrap();
            command.stdin(Stdio::null()).stderr(log).spawn().expect("dnsmasq runs")
        }))
    }

    fn conf(&self, ipam: Value) -> Value {
        let mut all = json!({ "type": "dhcp", "daemonSocketPath": self.dir.path().join("dhcp.sock") });
        all.as_object_mut().unwrap().extend(ipam.as_object().unwrap().clone());
        json!({ "cniVersion": "1.1.0", "name": "n", "type": "x", "ipam": all })
    }

    /// How many lines of the server's log have `words`.
    fn log(&self, words: &str) -> usize {
        fs::read_to_string(self.dir.path().join("log"))
            .unwrap()
            .lines()
            .filter(|line| line.contains(words))
            .count()
    }

    fn netns(&self) -> String {
        self.container.path().display().to_string()
    }

    fn add(&self, ipam: Value) -> Result<Value, Value> {
        ours("dhcp").call("ADD", "c", &self.netns(), &self.conf(ipam))
    }

    fn del(&self) -> Result<Value, Value> {
        ours("dhcp").call("DEL", "c", &self.netns(), &self.conf(json!({})))
    }

    /// As the plugin that delegates does.
    fn configure(&self) {
        self.container.run(|| {
            let mut socket = Socket::open(Protocol::Route).unwrap();
            let link = link_by_name(&mut socket, "eth0").unwrap().unwrap();
            let mut batch = Batch::new();
            batch.add_address(&Address::new(link.index, "10.9.0.5/24".parse().unwrap()));
            socket.run(&batch).unwrap();
            assert_eq!(
                addresses(&mut socket, Some(link.index)).unwrap().iter().filter(|a| a.net.is_ipv4()).count(),
                1
            );
        });
    }

    fn is_up(&self) -> bool {
        self.container.run(|| {
            let mut socket = Socket::open(Protocol::Route).unwrap();
            link_by_name(&mut socket, "eth0").unwrap().unwrap().is_up()
        })
    }

    /// What is kept of the one lease says that a time of it has come.
    fn make_due(&self, key: &str) {
        let path = self.kept().pop().unwrap();
        let mut kept: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        kept[key] = json!(1);
        fs::write(path, kept.to_string()).unwrap();
    }

    fn kept(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.dir.path().join("dhcp.sock.leases")).into_iter().flatten();
        files.map(|file| file.unwrap().path()).collect()
    }
}

#[test]
#[ignore = "needs Debian's dnsmasq-base"]
fn a_lease_is_got_renewed_by_two_daemons_and_released() {
    let mut site = Site::new(&["-O", "3,10.9.0.1"]);
    let result = site.add(json!({ "priority": 7 })).unwrap();
    assert_eq!(result["ips"], json!([{ "address": "10.9.0.5/24", "gateway": "10.9.0.1" }]));
    assert_eq!(result["routes"], json!([{ "dst": "0.0.0.0/0", "gw": "10.9.0.1", "priority": 7 }]));
    assert!(site.is_up());
    site.configure();
    // Asked again it is the same, and no server is.
    let (discovered, granted) = (site.log("DHCPDISCOVER("), site.log("DHCPACK("));
    assert_eq!(site.add(json!({ "priority": 7 })).unwrap(), result);
    ours("dhcp").call("CHECK", "c", &site.netns(), &site.conf(json!({}))).unwrap();
    assert_eq!((site.log("DHCPDISCOVER("), site.log("DHCPACK(")), (discovered, granted));
    // Killed, and the next one goes on when the time has come; the socket that is left is no obstacle.
    site.daemon = None;
    site.make_due("renewalMs");
    site.daemon = Some(spawn_daemon(&ours("dhcp"), site.dir.path()));
    eventually("the next daemon renews it", || site.log("DHCPACK(") > granted);
    assert_eq!(site.add(json!({ "priority": 7 })).unwrap(), result);
    // dnsmasq's shortest lease is two minutes: it is renewed after one.
    let granted = site.log("DHCPACK(");
    within(180, "it is renewed by the clock", || site.log("DHCPACK(") > granted);
    assert_eq!((site.log("DHCPDISCOVER("), site.kept().len()), (discovered, 1));
    site.del().unwrap();
    site.del().unwrap();
    eventually("it is released", || site.log("DHCPRELEASE(") == 1);
    assert_eq!((site.kept().len(), site.log("DHCPDISCOVER(")), (0, discovered));
}

#[test]
#[ignore = "needs Debian's dnsmasq-base"]
fn options_go_to_the_server_and_come_from_it() {
    let options = [
        "-O",
        "3,10.9.0.1",
        "-O",
        "6,10.9.0.53",
        "-O",
        "15,example",
        "-O",
        "119,a.example,b.example",
        "-O",
        "121,10.7.0.0/16,10.9.0.2,0.0.0.0/0,10.9.0.3",
    ];
    let site = Site::new(&options);
    let request = json!([{ "option": "6" }, { "option": "15" }, { "option": "119" }, { "option": "121" }]);
    let provide = json!([{ "option": "host-name", "fromArg": "K8S_POD_NAME" }, { "option": "60", "value": "vendor-x" }]);
    let program = Program { args: "K8S_POD_NAME=web-1", ..ours("dhcp") };
    let conf = site.conf(json!({ "request": request, "provide": provide }));
    let result = program.call("ADD", "c", &site.netns(), &conf).unwrap();
    assert_eq!(result["ips"][0]["gateway"], "10.9.0.1");
    let routes =
        json!([{ "dst": "10.7.0.0/16", "gw": "10.9.0.2" }, { "dst": "0.0.0.0/0", "gw": "10.9.0.3" }]);
    assert_eq!(result["routes"], routes);
    let dns =
        json!({ "nameservers": ["10.9.0.53"], "domain": "example", "search": ["a.example", "b.example"] });
    assert_eq!(result["dns"], dns);
    assert!(site.log("client provides name: web-1") > 0 && site.log("vendor class: vendor-x") > 0);
    site.del().unwrap();
    // Not asked for, not told.
    let result = site.add(json!({ "request": [{ "skipDefault": true }, { "option": "1" }] })).unwrap();
    assert_eq!((result.get("routes"), result.get("dns").is_none_or(|dns| *dns == json!({}))), (None, true));
}

#[test]
#[ignore = "needs Debian's dnsmasq-base"]
fn without_an_address_to_have_it_gives_up_in_time() {
    let site = Site::new(&[]);
    site.add(json!({})).unwrap();
    let other = container(&site.server, "veth1");
    let begin = Instant::now();
    let error = ours("dhcp")
        .call("ADD", "d", &other.path().display().to_string(), &site.conf(json!({})))
        .unwrap_err();
    assert_eq!(error["msg"], "error calling DHCP.Allocate: no more tries");
    // In time is five seconds, and what this machine takes besides.
    assert!((4..60).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    let error = ours("dhcp").call("ADD", "e", "/nowhere", &site.conf(json!({}))).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("/nowhere"), "{error}");
    let no_link = Program { ifname: "eth7", ..ours("dhcp") };
    let error = no_link.call("ADD", "e", &site.netns(), &site.conf(json!({}))).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("\"eth7\""), "{error}");
    // A container that is gone takes its lease with it as soon as somebody looks.
    let mut conf = site.conf(json!({}));
    conf["cni.dev/valid-attachments"] = json!([]);
    ours("dhcp").call("GC", "", "", &conf).unwrap();
    eventually("it is released", || site.log("DHCPRELEASE(") == 1);
}

#[test]
#[ignore = "needs Debian's dnsmasq-base"]
fn an_address_that_the_server_takes_back_is_not_used_any_more() {
    let mut site = Site::new(&[]);
    site.add(json!({})).unwrap();
    site.configure();
    // The server has forgotten the lease, and its range is another.
    site.dnsmasq = None;
    fs::remove_file(site.dir.path().join("dnsmasq.leases")).unwrap();
    site.dnsmasq = Some(site.serve("10.9.0.77,10.9.0.78,2m", &[]));
    eventually("the other dnsmasq listens", || site.log("sockets bound") == 2);
    site.daemon = None;
    site.make_due("renewalMs");
    site.daemon = Some(spawn_daemon(&ours("dhcp"), site.dir.path()));
    eventually("the link is down", || !site.is_up());
    eventually("nothing is kept", || site.kept().is_empty());
    assert_eq!(site.log("DHCPNAK("), 1);
}

#[test]
#[ignore = "needs Debian's dnsmasq-base"]
fn an_expired_lease_takes_the_link_down_and_another_server_may_extend_one() {
    let mut site = Site::new(&[]);
    site.add(json!({})).unwrap();
    site.configure();
    site.daemon = None;
    for key in ["renewalMs", "rebindingMs"] {
        site.make_due(key);
    }
    let granted = site.log("DHCPACK(");
    site.daemon = Some(spawn_daemon(&ours("dhcp"), site.dir.path()));
    eventually("it is extended", || site.log("DHCPACK(") > granted);
    site.daemon = None;
    for key in ["renewalMs", "rebindingMs", "expiryMs"] {
        site.make_due(key);
    }
    site.daemon = Some(spawn_daemon(&ours("dhcp"), site.dir.path()));
    eventually("the link is down", || !site.is_up());
    eventually("nothing is kept", || site.kept().is_empty());
}

#[test]
#[ignore = "needs Debian's dnsmasq-base"]
fn a_bridge_asks_for_addresses_over_its_cable_and_gives_them_back_over_it() {
    let site = Site::new(&["-O", "3,10.9.0.1"]);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sextant-cni"), site.dir.path().join("dhcp")).unwrap();
    let bridge = Program { others: site.dir.path().into(), ..ours("bridge") };
    let mut conf = site.conf(json!({}));
    conf.as_object_mut().unwrap().extend([("bridge".into(), json!("br0")), ("type".into(), json!("bridge"))]);
    let pod = Netns::new();
    let netns = pod.path().display().to_string();
    let result = site.server.run(|| bridge.call("ADD", "pod", &netns, &conf)).unwrap();
    assert_eq!(result["ips"][0]["address"], "10.9.0.5/24");
    pod.run(|| {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let link = link_by_name(&mut socket, "eth0").unwrap().unwrap();
        let there = addresses(&mut socket, Some(link.index)).unwrap();
        assert!(link.is_up() && there.iter().any(|a| a.net == "10.9.0.5/24".parse().unwrap()), "{there:?}");
    });
    site.server.run(|| bridge.call("DEL", "pod", &netns, &conf)).unwrap();
    eventually("it is released", || site.log("DHCPRELEASE(") == 1);
    site.server.run(|| bridge.call("DEL", "pod", "", &conf)).unwrap();
}

/// Puts the VLAN 5 of the server's end of a cable on the bridge, instead of that end itself.
fn plug_in_vlan(server: &Netns, name: &str) {
    server.run(|| {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let end = link_by_name(&mut socket, name).unwrap().unwrap();
        let mut batch = Batch::new();
        batch.set_link(&SetLink::index(end.index).master(0));
        let kind = Kind::Vlan { parent: end.index, id: 5 };
        batch.add_link(&NewLink { up: true, master: end.master, ..NewLink::new("tagged", kind) });
        socket.run(&batch).unwrap();
    });
}

/// ADD, CHECK and DEL of a plugin that makes a link on `uplink`, with DHCP over that link.
fn leases_over_a_link_on_a_parent(kind: &'static str, vlan: Option<u16>) {
    let site = Site::new(&["-O", "3,10.9.0.1"]);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sextant-cni"), site.dir.path().join("dhcp")).unwrap();
    let host = cable(&site.server, "veth1", "uplink");
    host.run(|| {
        let mut batch = Batch::new();
        batch.set_link(&SetLink::named("uplink").up(true));
        Socket::open(Protocol::Route).unwrap().run(&batch).unwrap();
    });
    if vlan.is_some() {
        plug_in_vlan(&site.server, "veth1");
    }
    let program = Program { others: site.dir.path().into(), ..ours(kind) };
    let mut conf = site.conf(json!({}));
    conf["master"] = json!("uplink");
    conf["vlanId"] = json!(vlan);
    // Twice: the one address that there is comes back.
    for round in 1..=2 {
        let pod = Netns::new();
        let netns = pod.path().display().to_string();
        let call =
            |verb: &str, netns: &str, conf: &Value| host.run(|| program.call(verb, "pod", netns, conf));
        let result = call("ADD", &netns, &conf).unwrap();
        assert_eq!(
            result["ips"],
            json!([{ "address": "10.9.0.5/24", "gateway": "10.9.0.1", "interface": 0 }])
        );
        pod.run(|| {
            let mut socket = Socket::open(Protocol::Route).unwrap();
            let link = link_by_name(&mut socket, "eth0").unwrap().unwrap();
            assert_eq!((link.kind.as_str(), link.is_up()), (kind, true));
            let there = addresses(&mut socket, Some(link.index)).unwrap();
            assert!(there.iter().any(|a| a.net == "10.9.0.5/24".parse().unwrap()), "{there:?}");
            let socket = std::net::UdpSocket::bind("10.9.0.5:0").unwrap();
            socket.send_to(b"?", "10.9.0.1:9").unwrap();
        });
        let mut checked = conf.clone();
        checked["prevResult"] = result;
        call("CHECK", &netns, &checked).unwrap();
        call("DEL", &netns, &conf).unwrap();
        eventually("it is released", || site.log("DHCPRELEASE(") == round);
        assert!(
            pod.run(|| link_by_name(&mut Socket::open(Protocol::Route).unwrap(), "eth0").unwrap().is_none())
        );
        assert_eq!(site.kept().len(), 0);
        call("DEL", "", &conf).unwrap();
    }
}

/// Says so if the kernel has no such links.
fn has_kind(kind: fn(u32) -> Kind<'static>, test: &str) -> bool {
    let netns = Netns::new();
    netns.run(|| {
        let peer = Peer { name: "far", mac: None, mtu: None, netns: None };
        let mut batch = Batch::new();
        batch.add_link(&NewLink::new("uplink", Kind::Veth { peer }));
        Socket::open(Protocol::Route).unwrap().run(&batch).unwrap();
        rig::chosen::has_kind(kind, test)
    })
}

#[test]
#[ignore = "needs Debian's dnsmasq-base"]
fn macvlan_leases_over_a_link_on_a_parent() {
    leases_over_a_link_on_a_parent("macvlan", None);
}

#[test]
#[ignore = "needs Debian's dnsmasq-base, and a kernel with ipvlan: cargo xtask vm"]
fn ipvlan_leases_over_a_link_on_a_parent() {
    if has_kind(
        |parent| Kind::Ipvlan { parent, mode: IpvlanMode::L2 },
        "ipvlan_leases_over_a_link_on_a_parent",
    ) {
        leases_over_a_link_on_a_parent("ipvlan", None);
    }
}

#[test]
#[ignore = "needs Debian's dnsmasq-base, and a kernel with VLANs: cargo xtask vm"]
fn vlan_leases_over_a_link_on_a_parent() {
    if has_kind(|parent| Kind::Vlan { parent, id: 5 }, "vlan_leases_over_a_link_on_a_parent") {
        leases_over_a_link_on_a_parent("vlan", Some(5));
    }
}

#[test]
fn without_a_daemon_status_says_so_and_del_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let ipam = json!({ "type": "dhcp", "daemonSocketPath": dir.path().join("none") });
    let conf = json!({ "cniVersion": "1.1.0", "name": "n", "type": "x", "ipam": ipam });
    let dhcp = ours("dhcp");
    let error = dhcp.call("STATUS", "", "", &conf).unwrap_err();
    assert_eq!(error["code"], 50, "{error}");
    assert_eq!(dhcp.call("ADD", "c", "/none", &conf).unwrap_err()["code"], 11);
    dhcp.call("DEL", "c", "", &conf).unwrap();
}

#[test]
#[ignore = "needs Debian's dnsmasq-base and containernetworking-plugins, or SEXTANT_CNI_REFERENCE=DIR"]
fn the_reference_plugin_and_daemon_understand_ours() {
    let reference = programs::reference("dhcp");
    let options = ["-O", "3,10.9.0.1", "-O", "33,10.0.0.0,10.9.0.2"];
    let mut results = Vec::new();
    for (daemon, plugin) in [
        (&ours("dhcp"), &reference),
        (&reference, &ours("dhcp")),
        (&reference, &reference),
        (&ours("dhcp"), &ours("dhcp")),
    ] {
        let site = Site::with(daemon, &options);
        let mut conf = site.conf(json!({ "request": [{ "option": "33" }] }));
        // Debian's knows no 1.1.
        conf["cniVersion"] = json!("1.0.0");
        let result = plugin.call("ADD", "c", &site.netns(), &conf).unwrap();
        // What 1.0 does not have of a route, the reference says nevertheless.
        let routes: Vec<_> =
            result["routes"].as_array().unwrap().iter().map(|r| json!([r["dst"], r["gw"]])).collect();
        let ip = &result["ips"][0];
        results.push(json!([ip["address"], ip["gateway"], routes]));
        let elsewhere = Program { ifname: "eth7", ..plugin.clone() };
        let error = elsewhere.call("ADD", "c", &site.netns(), &conf).unwrap_err();
        assert!(error["msg"].as_str().unwrap().contains("eth7"), "{error}");
        plugin.call("DEL", "c", &site.netns(), &conf).unwrap();
        // The reference's own release does not reach every server.
        if daemon.path == ours("dhcp").path {
            eventually("it is released", || site.log("DHCPRELEASE(") == 1);
        }
    }
    assert!(results.iter().all(|result| *result == results[0]), "{results:#?}");
}
