//! Nodes and clients on one link, each in a network namespace of its own, and an API server that nodes reach by another way.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kernel::namespace::in_netns;
use kernel::netlink::{Address, Batch, IpNet, Protocol, Socket, link_by_name};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::lan::Lan;
use crate::rig::Rig;

/// What services have in these tests.
pub(crate) const FOUR: &str = "192.0.2.77";
pub(crate) const SIX: &str = "2001:db8::77";
/// The pool that they are of.
pub(crate) const POOLS: &str =
    "pools: [{name: lan, addresses: [192.0.2.64/27, '2001:db8::40-2001:db8::ff']}]";
/// As many nodes at most: each is an instance of its own.
const RUNS: [&str; 3] = ["run-0", "run-1", "run-2"];

/// All of it.
pub(crate) struct Stand {
    pub(crate) rig: Rig,
    pub(crate) lan: Lan,
}

impl Stand {
    /// So many nodes, and behind them on the link so many clients, the last of which asks for addresses.
    pub(crate) async fn new(nodes: usize, clients: usize) -> Self {
        let rig = Rig::bare().await;
        let stand = Self { rig, lan: Lan::new(nodes + clients) };
        std::fs::write(stand.rig.path("cloud.yaml"), POOLS).unwrap();
        for at in 0..nodes {
            stand.node(at).await;
        }
        stand
    }

    /// Makes a host a node, with a program behind services that says which node it is on and who has come.
    async fn node(&self, at: usize) {
        let name = format!("node-{at}");
        self.rig.make::<Node>(json!({"metadata": {"name": name}})).await;
        let api: SocketAddr = self.rig.address().parse().unwrap();
        let nets: [IpNet; 2] = endpoints(at).map(IpNet::host);
        let (to_api, servers) = in_netns(&self.lan.hosts[at], || {
            let mut socket = Socket::open(Protocol::Route)?;
            let lo = link_by_name(&mut socket, "lo")?.unwrap().index;
            let mut batch = Batch::new();
            nets.iter().for_each(|net| batch.add_address(&Address::new(lo, *net)));
            socket.run(&batch)?;
            let bind = |address| TcpListener::bind(SocketAddr::new(address, 8080)).unwrap();
            Ok((TcpListener::bind(api).unwrap(), endpoints(at).map(bind)))
        })
        .unwrap();
        // Threads that begin here connect from here, where the API server is.
        std::thread::spawn(move || relay(&to_api, api));
        for server in servers {
            let name = name.clone();
            std::thread::spawn(move || {
                while let Ok((mut stream, from)) = server.accept() {
                    let _ = stream.write_all(format!("{name} {}", from.ip()).as_bytes());
                }
            });
        }
    }

    /// Starts a program on a node, under this name.
    pub(crate) fn start(&mut self, at: usize, name: &str, words: &[&str]) {
        let (rig, host) = (&mut self.rig, &self.lan.hosts[at]);
        in_netns(host, || {
            rig.spawn_in(RUNS[at], name, words);
            Ok(())
        })
        .unwrap();
    }

    /// Starts it again.
    pub(crate) fn again(&mut self, at: usize, name: &str) {
        let (rig, host) = (&mut self.rig, &self.lan.hosts[at]);
        in_netns(host, || {
            rig.again(name);
            Ok(())
        })
        .unwrap();
    }

    /// `sextant services --announce` on a node, once all Services are reached.
    pub(crate) async fn services(&mut self, at: usize) {
        let (file, name) = (self.file(), format!("node-{at}"));
        let words = ["services", "--node", &name, "--no-dns", "--announce", &file];
        self.start(at, &format!("services-{at}"), &words);
        self.rig.words_have(&format!("services-{at}"), "all Services are reached").await;
    }

    pub(crate) fn file(&self) -> String {
        self.rig.path("cloud.yaml").to_str().unwrap().to_owned()
    }

    /// Makes a service with endpoints on these nodes, and more or other fields of its specification.
    pub(crate) async fn expose(&self, name: &str, nodes: &[usize], fields: Value) -> Service {
        let mut spec = json!({"type": "LoadBalancer", "ports": [{"port": 80, "targetPort": 8080}]});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        for family in ["IPv4", "IPv6"] {
            self.rig.make_here::<EndpointSlice>(slice(name, family, nodes)).await;
        }
        self.rig.make_here(json!({"metadata": {"name": name}, "spec": spec})).await
    }

    /// Moves its endpoints to these nodes.
    pub(crate) async fn move_to(&self, name: &str, nodes: &[usize]) {
        for family in ["IPv4", "IPv6"] {
            let slice = slice(name, family, nodes);
            let its_name = slice["metadata"]["name"].as_str().unwrap().to_owned();
            let endpoints = json!({"endpoints": slice["endpoints"]});
            let slices: Api<EndpointSlice> = self.rig.objects_of("");
            slices.patch(&its_name, &PatchParams::default(), &Patch::Merge(endpoints)).await.unwrap();
        }
    }

    /// Writes into its status that it has these addresses.
    pub(crate) async fn assign(&self, name: &str, addresses: &[&str]) {
        let ingress: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip, "ipMode": "VIP"})).collect();
        let status = json!({"status": {"loadBalancer": {"ingress": ingress}}});
        let services: Api<Service> = self.rig.objects_of("");
        services.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }

    pub(crate) async fn change(&self, name: &str, patch: Value) {
        let services: Api<Service> = self.rig.objects_of("");
        services.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// What a client is told at port 80 of an address: the node, and whom it saw.
    pub(crate) fn ask(&self, client: usize, address: &str) -> Option<String> {
        let at = SocketAddr::new(address.parse().unwrap(), 80);
        let ask = || {
            let mut stream = TcpStream::connect_timeout(&at, Duration::from_millis(300)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(3))).ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            Some(text)
        };
        in_netns(&self.lan.hosts[client], || Ok(ask())).unwrap()
    }

    /// Waits until a client is told something at an address that is as it should be, or is told nothing.
    pub(crate) async fn until_told(&self, client: usize, address: &str, is: impl Fn(Option<&str>) -> bool) {
        let told = async |_: &Rig| is(self.ask(client, address).as_deref()).then_some(());
        self.rig.until(&format!("client {client} is told what it should be at {address}"), told).await;
    }

    /// Waits until a client is told that nothing is at a port of an address, by TCP and by UDP.
    pub(crate) async fn until_refused(&self, client: usize, address: &str, port: u16) {
        let at = SocketAddr::new(address.parse().unwrap(), port);
        let patience = Duration::from_secs(3);
        let by_tcp = || TcpStream::connect_timeout(&at, patience).map(drop);
        let by_udp = || {
            let socket = UdpSocket::bind(if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            socket.set_read_timeout(Some(patience))?;
            socket.connect(at)?;
            socket.send(b"?")?;
            socket.recv(&mut [0]).map(drop)
        };
        let refused = async |_: &Rig| {
            let both = || Ok([by_tcp(), by_udp()].map(|came| came.err().map(|error| error.kind())));
            let both = in_netns(&self.lan.hosts[client], both).unwrap();
            (both == [Some(ErrorKind::ConnectionRefused); 2]).then_some(())
        };
        self.rig.until(&format!("client {client} is refused at {at}"), refused).await;
    }

    /// The tables of nftables on a node.
    pub(crate) fn tables(&self, at: usize) -> String {
        let list = || Ok(Command::new("nft").args(["list", "tables"]).output().unwrap());
        let listed = in_netns(&self.lan.hosts[at], list).unwrap();
        assert!(listed.status.success(), "{listed:?}");
        String::from_utf8(listed.stdout).unwrap()
    }
}

/// Where the program behind services is on a node.
fn endpoints(at: usize) -> [IpAddr; 2] {
    [format!("10.9.{at}.1"), format!("fd09::{at}:1")].map(|text| text.parse().unwrap())
}

fn slice(service: &str, family: &str, nodes: &[usize]) -> Value {
    let endpoint = |at: &usize| {
        let [four, six] = endpoints(*at);
        let address = if family == "IPv4" { four } else { six };
        json!({"addresses": [address], "nodeName": format!("node-{at}"), "conditions": {"ready": true}})
    };
    let name = format!("{service}-{}", family.to_lowercase());
    json!({"metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}}, "addressType": family,
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": nodes.iter().map(endpoint).collect::<Vec<_>>()})
}

/// Hands on what comes to who listens elsewhere, and the answers.
fn relay(listener: &TcpListener, to: SocketAddr) {
    while let Ok((near, _)) = listener.accept() {
        let Ok(far) = TcpStream::connect(to) else { continue };
        for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = (to.shutdown(Shutdown::Write), from.shutdown(Shutdown::Read));
            });
        }
    }
}
