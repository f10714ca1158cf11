//! Who of several endpoints is asked next.
//!
//! A [`Balancer`] takes the lesser load of two that are drawn at random (P2C). An endpoint's load is its latency, as a moving average that
//! follows a rise at once and a fall slowly (peak EWMA), times one more than the requests it has. Of a connection that is passed on unread no
//! latency is ever known: there the number of connections alone counts. Endpoints that only fail are left out for a while ([`Ejection`]). What
//! may be asked again is bounded by a [`Budget`].
//!
//! All of it goes by the times and the random numbers that it is given, and belongs to one thread.

mod budget;
mod dice;
mod load;
mod outlier;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use smi::model::Endpoint;

pub use budget::Budget;
pub use dice::Dice;
use load::Load;
pub use outlier::Ejection;
use outlier::Record;

/// What a connection or request that failed counts as: nobody is to be asked more because it fails fast.
const PENALTY: Duration = Duration::from_secs(1);

/// The endpoints of a port of a Service, and what is known of each.
#[derive(Debug)]
pub struct Balancer {
    peers: RefCell<Vec<Rc<Peer>>>,
    /// The places of those that may be asked, until when that holds.
    able: RefCell<Vec<u32>>,
    stale: Cell<bool>,
    until: Cell<Option<Instant>>,
    ejection: Ejection,
}

/// An endpoint.
#[derive(Debug)]
pub struct Peer {
    address: SocketAddr,
    ready: Cell<bool>,
    serving: Cell<bool>,
    load: Load,
    record: Record,
}

impl Peer {
    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests or connections it has.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.load.in_flight()
    }
}

/// What is known of an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Where it is.
    pub address: SocketAddr,
    /// It takes new requests.
    pub ready: bool,
    /// It answers, be it on its way out.
    pub serving: bool,
    /// Requests and connections that it has.
    pub in_flight: u32,
    /// How long it takes to answer, if it ever has.
    pub latency: Option<Duration>,
    /// For so long it is left out.
    pub out_for: Option<Duration>,
    /// So often it was.
    pub ejections: u32,
}

/// An endpoint that was chosen. It has one request more until this is dropped.
#[derive(Debug)]
pub struct Pick {
    peer: Rc<Peer>,
    balancer: Rc<Balancer>,
    /// So often it had been left out by then.
    ejections: u32,
}

impl Drop for Pick {
    fn drop(&mut self) {
        self.peer.load.end();
    }
}

/// How a request, or the attempt to connect, went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Went {
    /// It was answered with less than 500, after so long.
    Well(Duration),
    /// It was answered with 500 or more, after so long.
    Badly(u16, Duration),
    /// There was a connection, and nobody reads what comes of it.
    Connected,
    /// There was no connection, or no answer.
    NotAtAll,
}

impl Pick {
    /// Where.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.peer.address
    }

    /// Whether a failure of it would be a reason to leave the endpoint out. What that had when it was left out fails for the same reason, even if it is
    /// back by then, and is no reason to leave it out again.
    #[must_use]
    pub fn counts(&self, now: Instant) -> bool {
        self.peer.record.ejections() == self.ejections && !self.peer.record.is_out(now)
    }

    /// Takes note of how it went.
    pub fn went(&self, went: Went, now: Instant) {
        let (peer, balancer) = (&self.peer, &self.balancer);
        let counts = self.counts(now);
        match went {
            Went::Well(took) => {
                peer.load.observe(took, now);
                peer.record.well();
            }
            Went::Badly(status, took) => {
                // Those that say that nobody is there to answer are often the fastest.
                let late = matches!(status, 502..=504);
                peer.load.observe(if late { took.max(PENALTY) } else { took }, now);
                if counts && peer.record.badly(&balancer.ejection) {
                    balancer.eject(peer, now);
                }
            }
            Went::Connected => peer.record.well(),
            Went::NotAtAll => {
                peer.load.observe(PENALTY, now);
                if counts && peer.record.not_at_all(&balancer.ejection) {
                    balancer.eject(peer, now);
                }
            }
        }
    }
}

impl Balancer {
    /// Without endpoints.
    #[must_use]
    pub fn new(ejection: Ejection) -> Self {
        Self {
            peers: RefCell::default(),
            able: RefCell::default(),
            stale: Cell::new(false),
            until: Cell::new(None),
            ejection,
        }
    }

    /// Has these endpoints from now on. What is known of those that stay is kept; a new one begins with what the others have on average.
    pub fn set(&self, endpoints: &[Endpoint], now: Instant) {
        let mut peers = self.peers.borrow_mut();
        let known: Vec<Duration> = peers.iter().filter_map(|peer| peer.load.latency()).collect();
        let average = match u32::try_from(known.len()) {
            Ok(count) if count > 0 => Some(known.iter().sum::<Duration>() / count),
            _ => None,
        };
        let mut kept: HashMap<SocketAddr, Rc<Peer>> =
            std::mem::take(&mut *peers).into_iter().map(|peer| (peer.address, peer)).collect();
        for endpoint in endpoints {
            let address = SocketAddr::new(endpoint.address, endpoint.port);
            let peer = kept.entry(address).or_insert_with(|| {
                Rc::new(Peer {
                    address,
                    ready: Cell::new(false),
                    serving: Cell::new(false),
                    load: Load::new(average, now),
                    record: Record::default(),
                })
            });
            peer.ready.set(endpoint.ready);
            peer.serving.set(endpoint.serving);
            peers.push(peer.clone());
        }
        self.stale.set(true);
    }

    /// How many endpoints there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.peers.borrow().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known of each.
    #[must_use]
    pub fn seen(&self, now: Instant) -> Vec<Seen> {
        let seen = |peer: &Rc<Peer>| Seen {
            address: peer.address,
            ready: peer.ready.get(),
            serving: peer.serving.get(),
            in_flight: peer.in_flight(),
            latency: peer.load.latency(),
            out_for: peer.record.out_until(now).map(|until| until.saturating_duration_since(now)),
            ejections: peer.record.ejections(),
        };
        self.peers.borrow().iter().map(seen).collect()
    }

    /// Whether one may be asked that is none of these.
    #[must_use]
    pub fn has_another(&self, avoid: &[SocketAddr], now: Instant) -> bool {
        self.refresh(now);
        let (peers, able) = (self.peers.borrow(), self.able.borrow());
        let mut able = able.iter().filter_map(|place| peers.get(usize::try_from(*place).ok()?));
        able.any(|peer| !avoid.contains(&peer.address))
    }

    /// One of those that may be asked, if there is one: those that are ready and not left out; else those that are ready; else those that
    /// serve. Of two the one with less to do, and none of those to `avoid` if there is another.
    #[must_use]
    pub fn pick(self: &Rc<Self>, avoid: &[SocketAddr], dice: &mut Dice, now: Instant) -> Option<Pick> {
        self.choose(avoid, dice, now, |one, other| other.load.at(now) < one.load.at(now))
    }

    /// As [`Balancer::pick`], for a connection that nobody reads: of two the one with fewer requests and connections. How long an answer took
    /// is never known of it, and what is known of requests says nothing about connections that last.
    #[must_use]
    pub fn pick_connection(
        self: &Rc<Self>,
        avoid: &[SocketAddr],
        dice: &mut Dice,
        now: Instant,
    ) -> Option<Pick> {
        self.choose(avoid, dice, now, |one, other| other.in_flight() < one.in_flight())
    }

    /// `less` says whether the second of two has less to do.
    fn choose(
        self: &Rc<Self>,
        avoid: &[SocketAddr],
        dice: &mut Dice,
        now: Instant,
        less: impl Fn(&Peer, &Peer) -> bool,
    ) -> Option<Pick> {
        self.refresh(now);
        let (peers, able) = (self.peers.borrow(), self.able.borrow());
        let at = |place: usize| able.get(place).and_then(|place| peers.get(usize::try_from(*place).ok()?));
        let peer = match able.len() {
            0 => return None,
            1 => at(0)?,
            count if avoid.is_empty() => {
                let first = dice.below(count);
                let other = (first + 1 + dice.below(count - 1)) % count;
                lesser(at(first)?, at(other)?, less)
            }
            count => {
                let start = dice.below(count);
                let all = || (0..count).filter_map(|n| at((start + n) % count));
                let mut others = all().filter(|peer| !avoid.contains(&peer.address));
                match (others.next(), others.next()) {
                    (Some(one), Some(other)) => lesser(one, other, less),
                    (Some(one), None) => one,
                    _ => at(start)?,
                }
            }
        };
        peer.load.begin();
        Some(Pick { peer: peer.clone(), balancer: self.clone(), ejections: peer.record.ejections() })
    }

    /// Leaves one out, if so many may be.
    fn eject(&self, peer: &Rc<Peer>, now: Instant) {
        let peers = self.peers.borrow();
        peer.record.begin_anew();
        let out = peers.iter().filter(|peer| peer.record.is_out(now)).count();
        if self.ejection.allows(out, peers.len()) {
            peer.record.leave_out(&self.ejection, now);
            self.stale.set(true);
        }
    }

    /// Looks again at who may be asked, if that may have changed.
    fn refresh(&self, now: Instant) {
        if !self.stale.get() && self.until.get().is_none_or(|until| now < until) {
            return;
        }
        let peers = self.peers.borrow();
        let mut able = self.able.borrow_mut();
        let mut fill = |is: &dyn Fn(&Peer) -> bool| {
            able.clear();
            able.extend((0..).zip(&*peers).filter(|(_, peer)| is(peer)).map(|(place, _)| place));
            !able.is_empty()
        };
        let _some = fill(&|peer| peer.ready.get() && !peer.record.is_out(now))
            || fill(&|peer| peer.ready.get())
            || fill(&|peer| peer.serving.get());
        self.until.set(peers.iter().filter_map(|peer| peer.record.out_until(now)).min());
        self.stale.set(false);
    }
}

fn lesser<'p>(one: &'p Rc<Peer>, other: &'p Rc<Peer>, less: impl Fn(&Peer, &Peer) -> bool) -> &'p Rc<Peer> {
    if less(one, other) { other } else { one }
}
