//! A link that has a lease, or is to have one: the client, and the way into the link's namespace.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use kernel::netlink::{self, Batch, Link, Mac, Protocol, SetLink, Socket};
use kernel::packet::{PacketSocket, datagram};
use serde_json::{Map, Value};

use super::super::client::{Client, Output, Patience, Time};
use super::super::message::{Message, Options};
use super::super::options;
use super::super::rpc::Call;
use super::super::{CLIENT_PORT, SERVER_PORT};
use super::state::{self, Kept};
use crate::contract::{AddResult, Attachment, Code, Error, Keys, parse_args};

/// What Ethernet carries.
const PACKET: usize = 2048;

/// Whose a lease is: network, container, interface.
pub(super) type Key = (String, String, String);

/// The time since boot.
pub(super) fn now() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

/// What nobody can foretell; the clock where there is nothing better.
fn random() -> u64 {
    let mut bytes = [0; 8];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_or_else(|_| now().as_nanos() as u64, |()| u64::from_ne_bytes(bytes))
}

/// What a call's configuration says.
struct Told {
    network: String,
    options: Options,
    priority: Option<u32>,
}

fn told(call: &Call) -> Result<Told, Error> {
    let conf: Map<String, Value> = serde_json::from_slice(&call.conf)
        .map_err(|e| Error::because("cannot read a network configuration", e).code(Code::Decode))?;
    let keys = Keys::new(&conf, "the network configuration");
    let network = keys.text("name")?.unwrap_or_default().to_owned();
    let ipam = keys.object("ipam")?.ok_or_else(super::super::no_ipam)?;
    let ipam = Keys::new(ipam, "\"ipam\"");
    let mut attachment = Attachment::new(&call.container_id, &call.ifname, None)?;
    attachment.args = parse_args(&call.args)?;
    let options = options::of_configuration(&ipam, &attachment, &network)?;
    Ok(Told { options, priority: ipam.number("priority")?.filter(|n| *n != 0), network })
}

/// The key of a call.
pub(super) fn key(call: &Call) -> Result<Key, Error> {
    let conf: Value = serde_json::from_slice(&call.conf)
        .map_err(|e| Error::because("cannot read a network configuration", e).code(Code::Decode))?;
    let network = conf.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok((network, call.container_id.clone(), call.ifname.clone()))
}

/// A link inside its namespace.
struct Place {
    netns: File,
    socket: Socket,
    link: Link,
}

impl Place {
    fn open(netns: &Path, ifname: &str) -> Result<Self, Error> {
        let file = File::open(netns)
            .map_err(|e| Error::because(format!("cannot open network namespace {}", netns.display()), e))?;
        let mut socket = Socket::open_in(Protocol::Route, &file)?;
        let link = netlink::link_by_name(&mut socket, ifname)?.ok_or_else(|| {
            let error = format!("cannot find link {ifname:?} in network namespace {}", netns.display());
            Error::new(Code::Other(100), error)
        })?;
        Ok(Self { netns: file, socket, link })
    }

    fn mac(&self) -> Result<Mac, Error> {
        let error = || {
            Error::new(Code::Other(100), format!("cannot use link {}: it has no MAC address", self.link.name))
        };
        self.link.mac.ok_or_else(error)
    }

    fn set_up(&mut self, up: bool) -> Result<(), Error> {
        let mut batch = Batch::new();
        batch.set_link(&SetLink::index(self.link.index).up(up));
        Ok(self.socket.run(&batch)?)
    }
}

/// One link's client.
#[derive(Debug)]
pub(super) struct Tenant {
    pub(super) client: Client,
    /// Open while answers are awaited.
    pub(super) socket: Option<PacketSocket>,
    call: Call,
    network: String,
    priority: Option<u32>,
    host_prefix: String,
    namespace: (u64, u64),
}

impl Tenant {
    /// The link of a call, brought up; it begins to ask when it is woken.
    pub(super) fn new(call: Call, host_prefix: &str, patience: Patience) -> Result<Self, Error> {
        let told = told(&call)?;
        let mut place = Place::open(format!("{host_prefix}{}", call.netns).as_ref(), &call.ifname)?;
        if !place.link.is_up() {
            place.set_up(true)?;
        }
        // An ipvlan shares its parent's MAC, and is told apart by addresses that it has already.
        let broadcast = patience.broadcast || place.link.kind == "ipvlan";
        let patience = Patience { broadcast, ..patience };
        let client = Client::new(place.mac()?, told.options, patience, now(), random());
        let namespace = state::namespace(&place.netns)
            .map_err(|e| Error::because(format!("cannot look at network namespace {}", call.netns), e))?;
        let (network, priority, host_prefix) = (told.network, told.priority, host_prefix.to_owned());
        Ok(Self { client, socket: None, call, network, priority, host_prefix, namespace })
    }

    /// The link of a lease that another daemon got.
    pub(super) fn resume(kept: Kept, host_prefix: &str, patience: Patience) -> Result<Self, Error> {
        let told = told(&kept.call)?;
        let client = Client::resume(kept.lease.ack.mac, told.options, patience, kept.lease, random());
        let (call, priority, namespace) = (kept.call, told.priority, kept.namespace);
        let host_prefix = host_prefix.to_owned();
        let tenant =
            Self { client, socket: None, call, network: told.network, priority, host_prefix, namespace };
        tenant.place().map(|_| tenant)
    }

    pub(super) fn key(&self) -> Key {
        (self.network.clone(), self.call.container_id.clone(), self.call.ifname.clone())
    }

    /// The way to the link, if it is still in the namespace that it was in.
    fn place(&self) -> Result<Place, Error> {
        let path = format!("{}{}", self.host_prefix, self.call.netns);
        let place = Place::open(path.as_ref(), &self.call.ifname)?;
        match state::namespace(&place.netns) {
            Ok(namespace) if namespace == self.namespace => Ok(place),
            _ => Err(Error::new(
                Code::UnknownContainer,
                format!("cannot use {path}: another namespace is there now"),
            )),
        }
    }

    /// Does what the client wants done now, and says what has become of the lease.
    pub(super) fn wake(&mut self) -> Result<Option<Output>, Error> {
        let output = self.client.wake(now());
        self.carry_out(output)
    }

    /// Reads what has come.
    pub(super) fn receive(&mut self) -> Result<Option<Output>, Error> {
        let mut buffer = [0; PACKET];
        while let Some(socket) = &self.socket {
            let Some((packet, from)) = socket.receive(&mut buffer)? else { break };
            let payload = datagram::unwrap(packet, SERVER_PORT, CLIENT_PORT);
            let Some(message) = payload.and_then(Message::parse) else { continue };
            let output = self.client.receive(&message, from, now());
            if let Some(output) = self.carry_out(output)? {
                return Ok(Some(output));
            }
        }
        Ok(None)
    }

    fn carry_out(&mut self, output: Option<Output>) -> Result<Option<Output>, Error> {
        match output {
            Some(Output::Send { packet, to }) => {
                self.send(&packet, to)?;
                Ok(None)
            }
            other => {
                if !self.client.listens() {
                    self.socket = None;
                }
                Ok(other)
            }
        }
    }

    fn send(&mut self, packet: &[u8], to: Mac) -> Result<(), Error> {
        if self.socket.is_none() {
            let place = self.place()?;
            self.socket = Some(PacketSocket::open_in(place.link.index, CLIENT_PORT, &place.netns)?);
        }
        match &self.socket {
            Some(socket) => Ok(socket.send(packet, to)?),
            None => Ok(()),
        }
    }

    /// What ADD says.
    pub(super) fn result(&self) -> Option<Result<AddResult, Error>> {
        Some(options::result(&self.client.lease()?.ack, self.priority))
    }

    /// Tells the server that the address is free.
    pub(super) fn release(&mut self) -> Result<(), Error> {
        let output = self.client.release();
        let sent = self.carry_out(output);
        self.socket = None;
        sent.map(|_| ())
    }

    /// Its link, or the namespace, is not there any more.
    pub(super) fn is_gone(&self) -> bool {
        self.place().is_err()
    }

    /// The address may not be used any more.
    pub(super) fn set_down(&self) -> Result<(), Error> {
        self.place()?.set_up(false)
    }

    /// Keeps the lease for the next daemon.
    pub(super) fn keep(&self, dir: &Path) -> std::io::Result<()> {
        let Some(lease) = self.client.lease().cloned() else { return Ok(()) };
        let (network, call) = (self.network.clone(), self.call.clone());
        Kept { network, call, namespace: self.namespace, lease }.save(dir)
    }
}
