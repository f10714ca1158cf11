//! The thread that does it: sockets, a clock, and what [claims](crate::claims) say.

mod failures;
mod groups;
mod port;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kernel::Act as _;
use kernel::netlink::{Changes, Protocol, Socket};
use kernel::packet::PacketSocket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::claims::{Act, Claims};
use crate::links::{self, Link};
use crate::peers::BEAT;
use crate::wire::heartbeat::Heartbeat;
use crate::{Said, Wanted};
use failures::Failures;
use port::{Heard, Port};

/// The number of a link that each network namespace has.
const LOOPBACK: u32 = 1;
/// Between two looks at the links, however often they change.
const LOOK: Duration = Duration::from_millis(200);
/// After a look, or a link, that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// Who answers.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The node's name.
    pub node: String,
    /// The cluster: signs of life of others do not count, and an address that another cluster's node has is somebody else's.
    pub cluster: [u8; 16],
}

/// What is told to the thread.
#[derive(Debug, Default)]
struct Inbox {
    wanted: Option<Wanted>,
    ended: bool,
}

/// Answers for addresses, on a thread of its own, in the network namespace in which it was started. Dropped, it tells other nodes that this
/// one leaves, and ends.
#[derive(Debug)]
pub struct Announcer {
    inbox: Arc<Mutex<Inbox>>,
    bell: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Announcer {
    /// Starts it, with nothing to answer for yet. `told` is called from its thread and must not wait.
    ///
    /// # Errors
    /// The kernel gives no sockets: they take CAP_NET_RAW.
    pub fn start(setup: Setup, told: impl FnMut(Said) + Send + 'static) -> kernel::Result<Self> {
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        let (bell, heard) = UnixStream::pair().act("make", || "a pair of sockets")?;
        bell.set_nonblocking(true).act("set up", || "a pair of sockets")?;
        // There may be nothing to listen to for a while: who may not is told at once.
        Self::check()?;
        let mut speaker = Speaker::open(setup, Box::new(told), inbox.clone(), heard)?;
        speaker.look(Instant::now())?;
        let thread = std::thread::Builder::new().name("announce".into()).spawn(move || speaker.run());
        let thread = thread.act("start", || "a thread that answers for addresses")?;
        Ok(Self { inbox, bell, thread: Some(thread) })
    }

    /// Whether this process may answer for addresses at all.
    ///
    /// # Errors
    /// The kernel gives it no packet sockets: it needs the capability `NET_RAW`.
    pub fn check() -> kernel::Result<()> {
        PacketSocket::arp(LOOPBACK).map(drop)
    }

    /// Takes all that is to be answered for from now on.
    pub fn want(&self, wanted: Wanted) {
        self.tell(|inbox| inbox.wanted = Some(wanted));
    }

    fn tell(&self, make: impl FnOnce(&mut Inbox)) {
        make(&mut self.inbox.lock().unwrap_or_else(PoisonError::into_inner));
        // One that is full rings already.
        let _ = (&self.bell).write(&[0]);
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.tell(|inbox| inbox.ended = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Speaker {
    setup: Setup,
    told: Box<dyn FnMut(Said) + Send>,
    inbox: Arc<Mutex<Inbox>>,
    bell: UnixStream,
    netlink: Socket,
    changes: Changes,
    /// When the links are to be looked at.
    look_at: Option<Instant>,
    /// Since when there may be another look.
    looked: Instant,
    links: Vec<Link>,
    ports: BTreeMap<u32, Port>,
    claims: Claims,
    wanted: Arc<Wanted>,
    /// Addresses that this node may have and that have no link here: that is told once.
    nowhere: BTreeSet<IpAddr>,
    beat_at: Instant,
    started: u64,
    count: u64,
    failures: Failures,
}

impl Speaker {
    fn open(
        setup: Setup,
        told: Box<dyn FnMut(Said) + Send>,
        inbox: Arc<Mutex<Inbox>>,
        bell: UnixStream,
    ) -> kernel::Result<Self> {
        bell.set_nonblocking(true).act("set up", || "a pair of sockets")?;
        let now = Instant::now();
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self {
            claims: Claims::new(setup.node.clone()),
            setup,
            told,
            inbox,
            bell,
            netlink: Socket::open(Protocol::Route)?,
            changes: Changes::listen()?,
            look_at: None,
            looked: now,
            links: Vec::new(),
            ports: BTreeMap::new(),
            wanted: Arc::default(),
            nowhere: BTreeSet::new(),
            beat_at: now,
            started: u64::try_from(started.as_nanos()).unwrap_or(u64::MAX),
            count: 0,
            failures: Failures::default(),
        })
    }

    fn run(mut self) {
        loop {
            self.wait();
            let now = Instant::now();
            if self.take(now) {
                return self.leave();
            }
            if self.changes.any().unwrap_or(true) && self.look_at.is_none() {
                self.look_at = Some((self.looked + LOOK).max(now));
            }
            if !self.claims.is_alone() && self.beat_at <= now {
                self.beat(false);
                self.beat_at = now + BEAT;
            }
            if self.look_at.is_some_and(|at| at <= now)
                && let Err(e) = self.look(now)
            {
                self.fail(0, &e);
                self.look_at = Some(now + AGAIN);
            }
            self.listen(now);
            let acts = self.claims.wake(now);
            self.carry_out(acts, now);
        }
    }

    /// Until something comes or is due.
    fn wait(&self) {
        let beat = (!self.claims.is_alone()).then_some(self.beat_at);
        let due = [self.claims.next(), self.look_at, beat].into_iter().flatten().min();
        let timeout = due.map(|at| {
            let rest = at.saturating_duration_since(Instant::now());
            Timespec { tv_sec: rest.as_secs().cast_signed(), tv_nsec: i64::from(rest.subsec_nanos()) }
        });
        let mut polled =
            vec![PollFd::new(&self.bell, PollFlags::IN), PollFd::new(&self.changes, PollFlags::IN)];
        for port in self.ports.values() {
            polled
                .extend(port.sockets().map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)));
        }
        // Whatever it says, all is looked at.
        let _ = poll(&mut polled, timeout.as_ref());
    }

    /// Takes what it was told; whether it is to end.
    fn take(&mut self, now: Instant) -> bool {
        let mut bytes = [0; 64];
        while (&self.bell).read(&mut bytes).is_ok_and(|count| count > 0) {}
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let (wanted, ended) = (inbox.wanted.take(), inbox.ended);
        drop(inbox);
        if let Some(wanted) = wanted {
            self.wanted = Arc::new(wanted);
            // Whoever could not be listened to was told of, and is tried again.
            let _told = self.settle(now);
        }
        ended
    }

    /// Looks at the links, and at what belongs where.
    fn look(&mut self, now: Instant) -> kernel::Result<()> {
        self.look_at = None;
        self.links = links::look(&mut self.netlink)?;
        // Number 0 is the look itself.
        self.failures.keep(|link| link == 0 || self.links.iter().any(|known| known.index == link));
        let outcome = self.settle(Instant::now());
        // A machine with many links and routes is looked at for a while: signs of life come in between.
        let took = now.elapsed();
        self.looked = now + took * 4;
        outcome
    }

    /// Opens sockets on the links where something belongs, closes those on others, and brings claims in line.
    ///
    /// # Errors
    /// Of a link that could not be listened to; it is tried again.
    fn settle(&mut self, now: Instant) -> kernel::Result<()> {
        let own: BTreeSet<IpAddr> = self.links.iter().flat_map(Link::addresses).collect();
        let wanted = self.wanted.clone();
        let addresses = wanted.addresses.iter().filter(|(address, _)| !own.contains(address));
        let homes: BTreeMap<IpAddr, Vec<u32>> = addresses
            .map(|(address, claim)| (*address, links::homes(*address, &self.links, &claim.links)))
            .collect();
        self.tell_nowhere(&homes);
        let expected = wanted.expected.iter();
        let expected = expected.flat_map(|(address, choice)| links::homes(*address, &self.links, choice));
        let used: BTreeSet<u32> = homes.values().flatten().copied().chain(expected).collect();
        let used: Vec<Link> = self.links.iter().filter(|link| used.contains(&link.index)).cloned().collect();
        self.ports.retain(|index, port| used.iter().any(|link| link.index == *index && link.mac == port.mac));
        let mut refused = Ok(());
        for link in &used {
            if self.ports.contains_key(&link.index) {
                continue;
            }
            match Port::open(link.index, link.mac) {
                Ok(port) => drop(self.ports.insert(link.index, port)),
                Err(e) => {
                    self.fail(link.index, &e);
                    self.look_at = Some(now + AGAIN);
                    refused = Err(e);
                }
            }
        }
        let there = used.iter().filter(|link| self.ports.contains_key(&link.index));
        let places: Vec<_> = there.map(|link| (link.index, link.name.clone(), link.mac)).collect();
        let mut acts = self.claims.set_links(&places, now);
        self.claims.set_wanted(wanted, homes);
        acts.extend(self.claims.settle(now));
        self.carry_out(acts, now);
        refused
    }

    /// Tells of addresses that this node may have and that no link is for.
    fn tell_nowhere(&mut self, homes: &BTreeMap<IpAddr, Vec<u32>>) {
        let may_have = |address: &IpAddr| {
            self.wanted.addresses.get(address).is_some_and(|claim| claim.nodes.contains(&self.setup.node))
        };
        let without = homes.iter().filter(|(address, links)| links.is_empty() && may_have(address));
        let nowhere: BTreeSet<IpAddr> = without.map(|(address, _)| *address).collect();
        for address in nowhere.difference(&self.nowhere) {
            (self.told)(Said::Nowhere { address: *address });
        }
        self.nowhere = nowhere;
    }

    /// Hears what has come, and answers.
    fn listen(&mut self, now: Instant) {
        let mut acts = Vec::new();
        let mut moved = Vec::new();
        for (index, port) in &self.ports {
            let claims = &mut self.claims;
            port.hear(|heard| match heard {
                Heard::Asked { address, .. } if claims.answers(*index, address) => true,
                // Who asks without an address wants it for itself.
                Heard::Asked { address, by, wants_it: true } | Heard::Said { address, by } => {
                    acts.extend(claims.said(*index, address, by, now));
                    false
                }
                Heard::Asked { .. } => false,
                Heard::Lives(beat) => {
                    if beat.cluster == self.setup.cluster && claims.hear(*index, &beat, now) {
                        moved.push(*index);
                    }
                    false
                }
            });
        }
        if !moved.is_empty() {
            acts.extend(self.claims.settle(now));
            moved.iter().for_each(|link| self.claims.repeat(*link, now));
        }
        self.carry_out(acts, now);
    }

    fn carry_out(&mut self, acts: Vec<Act>, now: Instant) {
        for act in acts {
            let (link, outcome) = match act {
                Act::Probe(link, address) => {
                    let asked = self.send(link, |port| port.probe(address));
                    if asked.is_err() {
                        self.claims.unasked(link, address, now);
                    }
                    (link, asked)
                }
                // It may have been given up since.
                Act::Tell(link, address) if !self.claims.answers(link, address) => continue,
                Act::Tell(link, address) => (link, self.send(link, |port| port.tell(address))),
                Act::Leave(link, address) => {
                    if let Some(port) = self.ports.get_mut(&link) {
                        port.leave(address);
                    }
                    continue;
                }
                Act::Say(said) => {
                    (self.told)(said);
                    continue;
                }
            };
            if let Err(e) = outcome {
                self.fail(link, &e);
            }
        }
    }

    fn send(&mut self, link: u32, send: impl FnOnce(&mut Port) -> kernel::Result<()>) -> kernel::Result<()> {
        self.ports.get_mut(&link).map_or(Ok(()), send)
    }

    /// Tells all links that this node lives, or leaves.
    fn beat(&mut self, leaves: bool) {
        self.count += 1;
        let mut failures = Vec::new();
        for (index, port) in &self.ports {
            let beat = Heartbeat {
                cluster: self.setup.cluster,
                started: self.started,
                count: self.count,
                mac: port.mac,
                node: self.setup.node.clone(),
                leaves,
            };
            if let Err(e) = port.beat(&beat) {
                failures.push((*index, e));
            }
        }
        failures.iter().for_each(|(index, e)| self.fail(*index, e));
    }

    fn leave(&mut self) {
        if !self.claims.is_alone() {
            self.beat(true);
        }
    }

    /// Tells of a failure, once as long as it goes on.
    fn fail(&mut self, link: u32, error: &kernel::Error) {
        let cause = error.to_string();
        if self.failures.is_news(link, &cause, Instant::now()) {
            let name = self.links.iter().find(|known| known.index == link).map(|known| known.name.clone());
            (self.told)(Said::Failed { link: name.unwrap_or_else(|| format!("number {link}")), cause });
        }
    }
}
