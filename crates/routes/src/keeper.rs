//! The thread that does it: what is wanted, what the kernel tells of changes, and a clock.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kernel::Act as _;
use kernel::netlink::{self, Batch, Change, IpNet, Monitor, Protocol, Route, Socket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::plan::{Here, candidates, plan};
use crate::{Missing, PROTOCOL, Report, Way, Why};

/// The number of a link that each network namespace has.
const LOOPBACK: u32 = 1;
/// Between two looks, however often things change.
const LOOK: Duration = Duration::from_millis(200);
/// After something was refused.
const AGAIN: Duration = Duration::from_secs(1);
/// At the latest: of what the kernel may have told nobody.
const EVERY: Duration = Duration::from_secs(30);

/// What is told to the thread.
#[derive(Debug, Default)]
struct Inbox {
    wanted: Option<Vec<Way>>,
    ended: bool,
}

/// Keeps the routes, on a thread of its own, in the network namespace in which it was started. Dropped, it ends, and what it has made stays.
#[derive(Debug)]
pub struct Keeper {
    inbox: Arc<Mutex<Inbox>>,
    bell: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts it. Nothing is touched before it is told what is wanted. `told` is called from its thread when something else has come of
    /// that than before, and must not wait.
    ///
    /// # Errors
    /// The kernel gives no sockets.
    pub fn start(told: impl FnMut(Report) + Send + 'static) -> kernel::Result<Self> {
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        let say = || "a pair of sockets";
        let (bell, heard) = UnixStream::pair().act("make", say)?;
        for end in [&bell, &heard] {
            end.set_nonblocking(true).act("set up", say)?;
        }
        let worker = Worker {
            told: Box::new(told),
            inbox: inbox.clone(),
            bell: heard,
            socket: Socket::open(Protocol::Route)?,
            monitor: Monitor::listen()?,
            ways: None,
            ranges: BTreeSet::new(),
            links: BTreeSet::new(),
            waits: false,
            look_at: None,
            may_look: Instant::now(),
            last: None,
        };
        let thread = std::thread::Builder::new().name("routes".into()).spawn(move || worker.run());
        let thread = thread.act("start", || "a thread that keeps routes")?;
        Ok(Self { inbox, bell, thread: Some(thread) })
    }

    /// Takes all that is wanted from now on: other routes of ours go. Of two with the same range the first has it.
    pub fn want(&self, ways: Vec<Way>) {
        self.tell(|inbox| inbox.wanted = Some(ways));
    }

    fn tell(&self, make: impl FnOnce(&mut Inbox)) {
        make(&mut self.inbox.lock().unwrap_or_else(PoisonError::into_inner));
        // One that is full rings already.
        let _ = (&self.bell).write(&[0]);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.tell(|inbox| inbox.ended = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    told: Box<dyn FnMut(Report) + Send>,
    inbox: Arc<Mutex<Inbox>>,
    bell: UnixStream,
    socket: Socket,
    monitor: Monitor,
    /// What is wanted, once that was said.
    ways: Option<Vec<Way>>,
    /// The ranges of it.
    ranges: BTreeSet<IpNet>,
    /// The links that routes leave by.
    links: BTreeSet<u32>,
    /// Some node may come to be on a link that changes.
    waits: bool,
    /// When there is to be a look.
    look_at: Option<Instant>,
    /// From when on there may be one.
    may_look: Instant,
    last: Option<Report>,
}

impl Worker {
    fn run(mut self) {
        loop {
            self.wait();
            if self.take() {
                return;
            }
            self.hear();
            if self.look_at.is_some_and(|at| at <= Instant::now()) {
                self.look();
            }
        }
    }

    /// Until something comes or is due.
    fn wait(&self) {
        let timeout = self.look_at.map(|at| {
            let rest = at.saturating_duration_since(Instant::now());
            Timespec { tv_sec: rest.as_secs().cast_signed(), tv_nsec: i64::from(rest.subsec_nanos()) }
        });
        let mut polled = [PollFd::new(&self.bell, PollFlags::IN), PollFd::new(&self.monitor, PollFlags::IN)];
        // Whatever it says, all is looked at.
        let _ = poll(&mut polled, timeout.as_ref());
    }

    /// Takes what it was told; whether it is to end.
    fn take(&mut self) -> bool {
        let mut bytes = [0; 64];
        while (&self.bell).read(&mut bytes).is_ok_and(|count| count > 0) {}
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let (wanted, ended) = (inbox.wanted.take(), inbox.ended);
        drop(inbox);
        if let Some(wanted) = wanted
            && self.ways.as_ref() != Some(&wanted)
        {
            self.ranges = wanted.iter().map(|way| way.range.network()).collect();
            self.ways = Some(wanted);
            self.look_soon();
        }
        ended
    }

    /// Hears what has changed: pods come and go with links, addresses and routes, of which nothing is to be looked at.
    fn hear(&mut self) {
        let mut is_due = false;
        let (ranges, links, waits) = (&self.ranges, &self.links, self.waits);
        let heard = self.monitor.each(|change| {
            is_due |= match change {
                Change::Link(link) => waits || links.contains(&link),
                Change::Address { net, .. } => !is_of_link(net.address()),
                Change::Route(one) => {
                    let is_ours = one.protocol == PROTOCOL || ranges.contains(&one.route.destination);
                    // That of a link comes a moment after the link.
                    one.is_main() && (is_ours || waits && one.route.gateway.is_none())
                }
                Change::Unknown => true,
            };
        });
        if heard.is_err() {
            // It may be so for ever.
            std::thread::sleep(LOOK);
        }
        if (is_due || heard.is_err()) && self.ways.is_some() {
            self.look_soon();
        }
    }

    fn look_soon(&mut self) {
        let soon = self.may_look.max(Instant::now());
        self.look_at = Some(self.look_at.map_or(soon, |at| at.min(soon)));
    }

    /// Looks how things are, makes them as wanted, and tells what has come of it.
    fn look(&mut self) {
        let Some(ways) = self.ways.take() else { return };
        let begun = Instant::now();
        let report = match self.settle(&ways) {
            Ok(report) => report,
            Err(e) => {
                // As far as is known.
                Report { failed: Some(e.to_string()), ..self.last.clone().unwrap_or_default() }
            }
        };
        self.ways = Some(ways);
        let now = Instant::now();
        // A machine with very many routes is looked at for a while.
        self.may_look = now + LOOK.max((now - begun) * 4);
        let is_refused = report.refused().is_some();
        self.look_at = Some(self.may_look.max(now + if is_refused { AGAIN } else { EVERY }));
        if self.last.as_ref() != Some(&report) {
            self.last = Some(report.clone());
            (self.told)(report);
        }
    }

    fn settle(&mut self, ways: &[Way]) -> kernel::Result<Report> {
        let here = self.here(ways)?;
        let plan = plan(ways, &here);
        let mut report = Report { there: plan.kept, missing: plan.missing, failed: None };
        for route in &plan.delete {
            match self.change(|batch| batch.delete_route_of(route, PROTOCOL)) {
                Err(e) if e.errno() != Some(Errno::SRCH) => report.failed = Some(e.to_string()),
                _ => {}
            }
        }
        for (node, route) in plan.add {
            match self.change(|batch| batch.add_route_of(&route, PROTOCOL)) {
                Ok(()) => report.there += 1,
                Err(e) => {
                    let why = Why::Refused { cause: e.to_string() };
                    report.missing.push(Missing { node, range: route.destination, why });
                }
            }
        }
        self.links = plan.links;
        let waits = |one: &Missing| matches!(one.why, Why::Elsewhere { .. } | Why::Refused { .. });
        self.waits = report.missing.iter().any(waits);
        Ok(report)
    }

    fn change(&mut self, make: impl FnOnce(&mut Batch)) -> kernel::Result<()> {
        let mut batch = Batch::new();
        make(&mut batch);
        self.socket.run(&batch)
    }

    /// How this machine is, as far as that matters for what is wanted.
    fn here(&mut self, ways: &[Way]) -> kernel::Result<Here> {
        let socket = &mut self.socket;
        let own = netlink::addresses(socket, None)?.iter().map(|one| one.net.address()).collect();
        let mut here = Here { own, ..Here::default() };
        let asked: BTreeSet<IpAddr> = ways.iter().flat_map(candidates).collect();
        for address in asked.difference(&here.own) {
            if let Some(link) = link_to(socket, *address)? {
                here.on_link.insert(*address, link);
            }
        }
        let ranges = &self.ranges;
        here.there = netlink::owned_routes(socket, |one| {
            one.is_main() && (one.protocol == PROTOCOL || ranges.contains(&one.route.destination))
        })?;
        Ok(here)
    }
}

/// An address that each link has of its own (RFC 4291, 2.5.6), links of pods, too.
fn is_of_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// The link by which a machine is reached without a router in between, as the kernel has it, all its rules considered.
fn link_to(socket: &mut Socket, address: IpAddr) -> kernel::Result<Option<u32>> {
    match netlink::route_to(socket, address) {
        Ok(found) => Ok(found.and_then(direct)),
        Err(e) if e.errno().is_some_and(leads_nowhere) => Ok(None),
        Err(e) => Err(e),
    }
}

fn direct(route: Route) -> Option<u32> {
    route.link.filter(|link| route.gateway.is_none() && *link != LOOPBACK)
}

/// The kernel has no way there: none at all, one that refuses or drops, or none of that family.
fn leads_nowhere(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NETUNREACH
            | Errno::HOSTUNREACH
            | Errno::ACCESS
            | Errno::INVAL
            | Errno::NODEV
            | Errno::OPNOTSUPP
            | Errno::AFNOSUPPORT
    )
}

#[cfg(test)]
mod tests {
    use kernel::netlink::{Kind, NewLink, SetLink};

    use super::*;

    /// Whatever the kernel says of an address that is on no link is no failure.
    #[test]
    fn an_address_is_on_a_link_or_is_not() {
        kernel::namespace::in_new_netns(|| {
            let mut socket = Socket::open(Protocol::Route)?;
            let far: [IpAddr; 2] = ["198.51.100.7", "2001:db8:7::7"].map(|one| one.parse().unwrap());
            for address in far {
                assert_eq!(link_to(&mut socket, address)?, None, "{address}: nothing is up");
            }
            let mut batch = Batch::new();
            let bridge = Kind::Bridge { mcast_snooping: None, vlan_filtering: None };
            batch.set_link(&SetLink::named("lo").up(true));
            batch.add_link(&NewLink { up: true, ..NewLink::new("br0", bridge) });
            socket.run(&batch)?;
            let link = netlink::link_by_name(&mut socket, "br0")?.unwrap().index;
            let mut batch = Batch::new();
            for net in ["192.0.2.1/24", "2001:db8::1/64"] {
                batch.add_address(&netlink::Address::new(link, net.parse().unwrap()));
            }
            for (to, gateway) in [("0.0.0.0/0", "192.0.2.254"), ("::/0", "2001:db8::fe")] {
                let gateway = gateway.parse().ok();
                batch.add_route(&Route { gateway, ..Route::to(to.parse().unwrap()) });
            }
            socket.run(&batch)?;
            for (near, own) in [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")] {
                assert_eq!(link_to(&mut socket, near.parse().unwrap())?, Some(link), "{near}");
                // The kernel has the route to one of IPv6 that says so made by a thread of its own.
                let begun = Instant::now();
                while let Some(link) = link_to(&mut socket, own.parse().unwrap())? {
                    assert!(begun.elapsed() < Duration::from_secs(180), "{own} is on link {link}");
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            for address in far {
                assert_eq!(link_to(&mut socket, address)?, None, "{address}: behind a router");
            }
            Ok(())
        })
        .unwrap();
    }
}
