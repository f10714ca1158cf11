//! Two nodes and a client on one link, each in a network namespace of its own. Namespaces have no names, so that all of it goes with
//! this process, however that ends.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kernel::netlink::{Kind, NewLink, SetLink};
use testkit::netns::{Netns, addresses, change, index, join};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use super::super::Meter;
use super::super::api::side::spawn;
use super::super::ended::Ended;
use crate::Result;

/// The nodes, by their numbers.
pub(super) const NODES: [u8; 2] = [0, 1];
/// The port of the program behind Services.
pub(super) const BEHIND: u16 = 8080;
/// The client gives one try so long: what was sent to who is gone is never answered.
const TRY: Duration = Duration::from_millis(20);
/// Longer than anything takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// The link, and who is on it.
pub(super) struct Lan {
    switch: Netns,
    nodes: Vec<Netns>,
    client: Netns,
    /// What listens on the nodes; it ends with this.
    _servers: JoinSet<()>,
}

/// Where the program behind services is on a node.
pub(super) fn behind(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, node, 1)
}

fn port(host: usize) -> String {
    format!("p{host}")
}

impl Lan {
    /// Nodes reach the API server at its address in this process' network, whichever that is.
    pub(super) fn new(api: SocketAddr) -> Result<Self> {
        let (switch, client) = (Netns::new(), Netns::new());
        let nodes: Vec<Netns> = NODES.iter().map(|_| Netns::new()).collect();
        switch.run(|| {
            let kind = Kind::Bridge { mcast_snooping: Some(false), vlan_filtering: None };
            change(|batch| batch.add_link(&NewLink { up: true, ..NewLink::new("br0", kind) }));
            let bridge = index("br0");
            for (at, host) in nodes.iter().chain([&client]).enumerate() {
                let (port, net) = (port(at), format!("192.0.2.{}/24", at + 1));
                join(&port, host, ("e0", None), &[net.as_str()]);
                change(|batch| batch.set_link(&SetLink::named(&port).master(bridge)));
            }
        });
        let mut servers = JoinSet::new();
        for (node, host) in NODES.into_iter().zip(&nodes) {
            let listening = host.run(|| -> std::io::Result<[TcpListener; 2]> {
                let net = format!("{}/32", behind(node));
                addresses("lo", &[net.as_str()]);
                Ok([TcpListener::bind(api)?, TcpListener::bind((behind(node), BEHIND))?])
            });
            let [to_api, own] = listening?;
            servers.spawn(relay(served(to_api)?, api));
            servers.spawn(answer(served(own)?, node));
        }
        Ok(Self { switch, nodes, client, _servers: servers })
    }

    /// Starts a program on a node, which says what it has to say into a file.
    pub(super) fn start(&self, node: u8, meter: &Meter, command: Command, log: &Path) -> Result<Ended> {
        let host = self.nodes.get(usize::from(node)).ok_or("no such node")?;
        // A thread hands its network on to what it starts.
        let started = host.run(move || spawn(meter, command, log).map_err(|e| e.to_string()));
        Ok(started?)
    }

    /// Takes a node's cable out, or puts it in.
    pub(super) fn plug(&self, node: u8, on: bool) {
        let port = port(usize::from(node));
        self.switch.run(|| change(|batch| batch.set_link(&SetLink::named(&port).up(on))));
    }

    /// Has the client ask at port 80 of an address, again and again, until a node answers that `is` takes; which one, and when.
    pub(super) fn answered(
        &self,
        address: Ipv4Addr,
        is: impl Fn(u8) -> bool + Send,
    ) -> Result<(u8, Instant)> {
        let at = SocketAddr::from((address, 80));
        let answered = self.client.run(move || {
            let begun = Instant::now();
            while begun.elapsed() < PATIENCE {
                if let Some(node) = ask(at).filter(|node| is(*node)) {
                    return Ok((node, Instant::now()));
                }
                // Where it is refused at once.
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(format!("nobody who should answers the client at {at} in {PATIENCE:?}"))
        });
        Ok(answered?)
    }
}

/// The node that answers.
fn ask(at: SocketAddr) -> Option<u8> {
    let mut stream = TcpStream::connect_timeout(&at, TRY).ok()?;
    stream.set_read_timeout(Some(TRY * 10)).ok()?;
    let mut said = [0];
    stream.read_exact(&mut said).ok()?;
    let [node] = said;
    Some(node)
}

/// What was made in a node's network, for tasks.
fn served(listener: TcpListener) -> Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    Ok(tokio::net::TcpListener::from_std(listener)?)
}

/// Says to whoever comes which node it is on.
async fn answer(listener: tokio::net::TcpListener, node: u8) {
    loop {
        match listener.accept().await {
            Ok((mut stream, _)) => drop(stream.write_all(&[node]).await),
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

/// Hands on what comes to the API server, and its answers. Tasks connect from this process' network, where it is.
async fn relay(listener: tokio::net::TcpListener, api: SocketAddr) {
    let mut held = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((near, _)) => drop(held.spawn(hand_on(near, api))),
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            },
            Some(_) = held.join_next() => {}
        }
    }
}

async fn hand_on(mut near: tokio::net::TcpStream, api: SocketAddr) {
    let Ok(mut far) = tokio::net::TcpStream::connect(api).await else { return };
    // What is small waits for nothing: the time of changes is measured.
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
}
