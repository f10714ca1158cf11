//! A host, containers and the outside world, each a network namespace of the test's own.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub(crate) mod chosen;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use cni::caller::{Caller, Instance, default_network};
use cni::contract::{Attachment, NetworkList, PortMapping};
use kernel::namespace::{in_netns, in_new_netns};
use kernel::netlink::{
    self, Address, Batch, IpNet, Kind, NewLink, Peer, Protocol, Route, SetLink, Socket, conntrack, sysctl,
};
use kernel::nft::{Element, Family, Transaction, Value};
use ledger::{Ledger, Owner, OwnerId};

/// A network namespace that lives as long as this.
pub(crate) struct Netns(File);

impl Netns {
    pub(crate) fn new() -> Self {
        Self(in_new_netns(|| Ok(File::open("/proc/thread-self/ns/net").unwrap())).unwrap())
    }

    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    /// Runs `work` inside.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_netns(self.0.as_fd(), || Ok(work())).unwrap()
    }

    pub(crate) fn fd(&self) -> &File {
        &self.0
    }
}

/// What a test needs of a host. All is in a namespace that ends with the test.
pub(crate) struct Host {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) ledger: Ledger,
    pub(crate) caller: Caller,
    pub(crate) list: NetworkList,
}

/// Runs `test` on a host of its own.
pub(crate) fn on_a_host(test: impl FnOnce(&Host) + Send) {
    on_a_host_with(&["10.88.0.0/16"], test);
}

pub(crate) fn on_a_host_with(subnets: &[&str], test: impl FnOnce(&Host) + Send) {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let subnets: Vec<IpNet> = subnets.iter().map(|text| text.parse().unwrap()).collect();
    let outcome = in_new_netns(|| {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&dir.path().join("run"), &dir.path().join("data")).unwrap();
        let caller = Caller::new(cni::plugin::builtins(), dir.path().join("cache"));
        let list = default_network(&Instance::new("test"), &subnets, dir.path()).unwrap();
        let host = Host { dir, ledger, caller, list };
        lo_up();
        test(&host);
        Ok(())
    });
    outcome.unwrap();
}

pub(crate) fn lo_up() {
    let mut batch = Batch::new();
    batch.set_link(&SetLink::named("lo").up(true));
    Socket::open(Protocol::Route).unwrap().run(&batch).unwrap();
}

impl Host {
    pub(crate) fn owner(&self, id: &str) -> Owner {
        self.ledger.owner(&OwnerId::new(id).unwrap()).unwrap()
    }

    /// What nobody may find changed: links, addresses, routes, rules.
    pub(crate) fn snapshot(&self) -> String {
        snapshot()
    }

    /// A container called `id` with published ports, attached.
    pub(crate) fn attach(&self, id: &str, ports: &[&str]) -> (Netns, Attachment, IpAddr) {
        let netns = Netns::new();
        let attachment = attachment(id, &netns, ports);
        let mut owner = self.owner(id);
        let added = self.caller.add(&self.list, &attachment, &mut owner).unwrap();
        (netns, attachment, added.addresses()[0].address())
    }

    pub(crate) fn detach(&self, attachment: &Attachment) {
        let mut owner = self.owner(&attachment.container_id);
        self.caller.del(&self.list, attachment, &mut owner).unwrap();
        undone(owner);
    }

    /// A machine next to this one: 192.0.2.1 here, 192.0.2.2 there.
    pub(crate) fn outside(&self) -> Netns {
        let netns = Netns::new();
        let peer = Peer { name: "eth0", mac: None, mtu: None, netns: Some(netns.fd().as_fd()) };
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let mut batch = Batch::new();
        batch.add_link(&NewLink { up: true, ..NewLink::new("uplink", Kind::Veth { peer }) });
        socket.run(&batch).unwrap();
        let here = netlink::link_by_name(&mut socket, "uplink").unwrap().unwrap().index;
        let mut batch = Batch::new();
        batch.add_address(&Address::new(here, "192.0.2.1/24".parse().unwrap()));
        batch.add_address(&Address::new(here, "2001:db8::1/64".parse().unwrap()));
        socket.run(&batch).unwrap();
        netns.run(|| {
            let mut socket = Socket::open(Protocol::Route).unwrap();
            let there = netlink::link_by_name(&mut socket, "eth0").unwrap().unwrap().index;
            let mut batch = Batch::new();
            batch.set_link(&SetLink::named("lo").up(true));
            batch.set_link(&SetLink::index(there).up(true));
            batch.add_address(&Address::new(there, "192.0.2.2/24".parse().unwrap()));
            batch.add_address(&Address::new(there, "2001:db8::2/64".parse().unwrap()));
            socket.run(&batch).unwrap();
        });
        netns
    }
}

pub(crate) fn attachment(id: &str, netns: &Netns, ports: &[&str]) -> Attachment {
    let mut attachment = Attachment::new(id, "eth0", Some(netns.path())).unwrap();
    let mappings: Vec<_> = ports.iter().flat_map(|text| PortMapping::parse(text).unwrap()).collect();
    if !mappings.is_empty() {
        attachment.capability_args.insert("portMappings".into(), serde_json::to_value(mappings).unwrap());
    }
    attachment
}

/// Links are still settling after they have been made: taken when two looks see the same.
pub(crate) fn snapshot() -> String {
    let mut last = look();
    for _ in 0..40 {
        std::thread::sleep(Duration::from_millis(25));
        let now = look();
        if now == last {
            break;
        }
        last = now;
    }
    last
}

/// Without IPv6's link-local and multicast ones: as with such addresses, the kernel makes them up to a second after the link.
fn routes(listed: &str) -> String {
    let routes: Vec<serde_json::Value> = serde_json::from_str(listed).unwrap();
    let of_a_link = |route: &&serde_json::Value| {
        route["dst"].as_str().is_some_and(|dst| dst.starts_with("fe80:") || dst == "ff00::/8")
    };
    let kept = routes.iter().filter(|route| !of_a_link(route));
    kept.map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn look() -> String {
    let run = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    [
        run("ip", &["-j", "link"]),
        run("ip", &["-j", "-4", "addr"]),
        routes(&run("ip", &["-j", "route", "show", "table", "all"])),
        run("nft", &["-j", "list", "ruleset"]),
    ]
    .join("\n")
}

/// Answers every connection with `words` and the address it came from.
pub(crate) fn serve(netns: &Netns, at: &str, words: &'static str) {
    let listener = netns.run(|| TcpListener::bind(at).unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, from)) = listener.accept() {
            let _ = stream.write_all(format!("{words} {}", from.ip()).as_bytes());
        }
    });
}

/// What a server says; the error's kind if it does not. (A packet that is lost is sent again after one second, and after three.)
pub(crate) fn ask(at: &str) -> Result<String, std::io::ErrorKind> {
    ask_within(at, Duration::from_secs(4))
}

/// The same of who may be out of reach, and is waited for that long.
pub(crate) fn ask_within(at: &str, reach: Duration) -> Result<String, std::io::ErrorKind> {
    let at: SocketAddr = at.parse().unwrap();
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&at, reach)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    ask().map_err(|e: std::io::Error| e.kind())
}

/// Sends every datagram back with `words` before it.
pub(crate) fn echo(netns: &Netns, at: &str, words: &'static str) {
    let socket = netns.run(|| UdpSocket::bind(at).unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((n, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&[words.as_bytes(), &buffer[..n]].concat(), from);
        }
    });
}

/// The answer to one datagram.
pub(crate) fn ping(socket: &UdpSocket, at: &str) -> Option<String> {
    socket.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
    socket.send_to(b"?", at).ok()?;
    let mut buffer = [0; 100];
    let (n, _) = socket.recv_from(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..n]).into_owned())
}

/// Flows of datagrams are forgotten within half a minute, on a host where something tracks them; now a test may take longer.
pub(crate) fn remember_datagrams() {
    for of in ["", "_stream"] {
        sysctl::write(&format!("net/netfilter/nf_conntrack_udp_timeout{of}"), "3600").unwrap();
    }
}

/// How many flows of datagrams are answered from there.
pub(crate) fn flows_from(at: SocketAddr) -> usize {
    let flows = conntrack::flows(&mut Socket::open(Protocol::Netfilter).unwrap(), 17).unwrap();
    flows.iter().filter(|flow| flow.answered_from == at).count()
}

/// The element that publishes a port for datagrams on all addresses of IPv4.
fn published(port: u16) -> Element {
    Element { key: Value::new().protocol(17).port(port).into_bytes(), ..Element::default() }
}

/// Takes a published port out of the table, and nothing else.
pub(crate) fn lose_element(table: &str, port: u16) {
    let mut change = Transaction::new();
    change.delete_elements(Family::Inet, table, "hostports4", &[published(port)]);
    change.commit(&mut Socket::open(Protocol::Netfilter).unwrap()).unwrap();
}

/// Publishes a port for `holder`, without its being there.
pub(crate) fn put_element(table: &str, port: u16, at: SocketAddr, holder: &str) {
    let value = Value::new().address(at.ip()).port(at.port()).into_bytes();
    let element = Element { value: Some(value), comment: Some(holder.to_owned()), ..published(port) };
    let mut change = Transaction::new();
    change.add_elements(Family::Inet, table, "hostports4", &[element], true);
    change.commit(&mut Socket::open(Protocol::Netfilter).unwrap()).unwrap();
}

/// As an administrator does it.
pub(crate) fn flush_ruleset() {
    let flushed = Command::new("nft").args(["flush", "ruleset"]).status().unwrap();
    assert!(flushed.success());
}

pub(crate) fn route(destination: &str, gateway: &str) -> Route {
    Route { gateway: Some(gateway.parse().unwrap()), ..Route::to(destination.parse().unwrap()) }
}

/// Takes all back, and nothing goes wrong.
pub(crate) fn undone(owner: Owner) {
    let errors: Vec<_> = owner.undo_all().iter().map(ToString::to_string).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

/// Whether the machine has a program that a test compares with. The virtual machine's ring has few of them, and says so.
pub(crate) fn has(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        eprintln!("SKIPPED: {program} is not here; the ring on the machine itself has it");
    }
    there
}
