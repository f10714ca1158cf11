//! What is counted of those who ask alike.

use std::cell::{Cell, OnceCell};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use smi::contract::Name;
use smi::latency::Histogram;

use super::Reason;
use super::histogram::Recorder;
use crate::proxy::{Network, RuleId, Service};

/// Statuses of gRPC, and one place for what is none.
pub const GRPC: usize = 18;

/// Whom a count is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subject {
    pub(crate) network: Network,
    pub(crate) frontend: Option<Service>,
    pub(crate) rule: Option<RuleId>,
    pub(crate) backend: Option<Service>,
    pub(crate) endpoint: Option<SocketAddr>,
    /// 0, or a number of its own for one that has come to an end: another pod may have its address now.
    pub(crate) ended: u64,
}

/// Counts of one subject, of one thread.
#[derive(Debug)]
pub(crate) struct Series {
    /// No other of the same process has it.
    number: u64,
    pub(crate) pod: Option<Name>,
    pub(crate) last: Cell<Instant>,
    classes: [Cell<u64>; 6],
    grpc: OnceCell<Box<[Cell<u64>; GRPC]>>,
    reasons: OnceCell<Box<[Cell<u64>; Reason::ALL.len()]>>,
    latency: Recorder,
    pub(crate) sent: Cell<u64>,
    pub(crate) received: Cell<u64>,
    pub(crate) opened: Cell<u64>,
    pub(crate) closed: Cell<u64>,
    pub(crate) torn: Cell<u64>,
    pub(crate) failed: Cell<u64>,
    pub(crate) retried: Cell<u64>,
}

pub(crate) fn add(cell: &Cell<u64>, count: u64) {
    cell.set(cell.get().saturating_add(count));
}

impl Series {
    pub(crate) fn new(number: u64, pod: Option<Name>, now: Instant) -> Self {
        Self {
            number,
            pod,
            last: Cell::new(now),
            classes: Default::default(),
            grpc: OnceCell::new(),
            reasons: OnceCell::new(),
            latency: Recorder::default(),
            sent: Cell::new(0),
            received: Cell::new(0),
            opened: Cell::new(0),
            closed: Cell::new(0),
            torn: Cell::new(0),
            failed: Cell::new(0),
            retried: Cell::new(0),
        }
    }

    /// A request has ended, with this status; 0 is none.
    pub(crate) fn request(&self, status: u16, grpc: Option<u8>, took: Duration) {
        let class = usize::from(status / 100).min(5);
        self.classes.get(class).into_iter().for_each(|count| add(count, 1));
        if let Some(grpc) = grpc {
            let counts = self.grpc.get_or_init(Box::default);
            counts.get(usize::from(grpc).min(GRPC - 1)).into_iter().for_each(|count| add(count, 1));
        }
        // Who has left before there was an answer says nothing about how long one takes.
        if status != 0 {
            self.latency.note(took);
        }
    }

    pub(crate) fn because(&self, reason: Reason) {
        let counts = self.reasons.get_or_init(Box::default);
        counts.get(reason.place()).into_iter().for_each(|count| add(count, 1));
    }

    /// Whether a connection of it is open.
    pub(crate) fn is_open(&self) -> bool {
        self.opened.get() > self.closed.get()
    }

    pub(crate) fn read(&self, subject: &Subject) -> Counted {
        Counted {
            number: self.number,
            client: subject.network,
            frontend: subject.frontend,
            rule: subject.rule,
            backend: subject.backend,
            endpoint: subject.endpoint,
            pod: self.pod.clone(),
            is_over: subject.ended > 0,
            numbers: Numbers {
                classes: self.classes.each_ref().map(Cell::get),
                grpc: self.grpc.get().map_or([0; GRPC], |counts| counts.each_ref().map(Cell::get)),
                reasons: self
                    .reasons
                    .get()
                    .map_or([0; Reason::ALL.len()], |all| all.each_ref().map(Cell::get)),
                latency: self.latency.read(),
                sent: self.sent.get(),
                received: self.received.get(),
                opened: self.opened.get(),
                closed: self.closed.get(),
                torn: self.torn.get(),
                failed: self.failed.get(),
                retried: self.retried.get(),
            },
        }
    }
}

/// What was counted of a subject since the process began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// The same at each look, and no other's: what came since an earlier look is the difference to what had this number then.
    pub number: u64,
    /// The network of who asked, or of the pod that was come to ([`Counted::is_inside`]); 0 with `None` everywhere stands for all that were too many to be counted by themselves.
    pub client: Network,
    /// The Service's port that was asked for; `None` where it is no Service's address.
    pub frontend: Option<Service>,
    /// The rule that they went by, if one.
    pub rule: Option<RuleId>,
    /// The Service's port of whose endpoints one was asked, if one was.
    pub backend: Option<Service>,
    /// Who was asked.
    pub endpoint: Option<SocketAddr>,
    /// The pod that had that address then.
    pub pod: Option<Name>,
    /// Nothing more is counted for it: who asked is gone, or the address is another pod's now.
    pub is_over: bool,
    /// How much.
    pub numbers: Numbers,
}

/// How much there was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Numbers {
    /// Requests by the first digit of their answers' status; 0 where the client had left before there was one.
    pub classes: [u64; 6],
    /// Answers by their status of gRPC; the last are those that none has.
    pub grpc: [u64; GRPC],
    /// Requests that did not go well, by [`Reason::ALL`].
    pub reasons: [u64; Reason::ALL.len()],
    /// From when a request's head was there to the end of its answer, of those with an answer.
    pub latency: Histogram,
    /// Bytes to endpoints, of HTTP/2 those of bodies.
    pub sent: u64,
    /// Bytes to clients, in the same way.
    pub received: u64,
    /// Connections that were passed on unread, tunnels among them.
    pub opened: u64,
    /// Those of them that have ended.
    pub closed: u64,
    /// Those of them that a reset has ended.
    pub torn: u64,
    /// Times that there was no connection to the endpoint.
    pub failed: u64,
    /// Times that a request was sent once more, after this endpoint.
    pub retried: u64,
}

impl Counted {
    /// Whether it has come to a pod, whose network is that of the client then: who has come is not counted by itself.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        self.frontend.is_some_and(Service::is_inside)
    }
}

impl Numbers {
    /// Requests that have ended.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// Requests that failed and not by the client's doing: an answer of 500 and more or one that was cut, and of gRPC UNKNOWN,
    /// DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE and DATA_LOSS.
    #[must_use]
    pub fn failures(&self) -> u64 {
        let [.., five] = self.classes;
        let grpc =
            [2, 4, 12, 13, 14, 15].iter().filter_map(|status: &usize| self.grpc.get(*status)).sum::<u64>();
        five + grpc + self.reasons.get(Reason::Cut.place()).copied().unwrap_or_default()
    }

    /// Requests that were answered and did not fail.
    #[must_use]
    pub fn successes(&self) -> u64 {
        let [none, ..] = self.classes;
        self.requests().saturating_sub(none).saturating_sub(self.failures())
    }

    /// Takes another's to its own.
    pub fn merge(&mut self, other: &Self) {
        self.each(other, u64::saturating_add);
        self.latency.merge(&other.latency);
    }

    /// What came since an earlier look at the same.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut since = Self { latency: self.latency.since(&before.latency), ..self.clone() };
        since.each(before, u64::saturating_sub);
        since
    }

    /// All but the latencies.
    fn each(&mut self, other: &Self, change: impl Fn(u64, u64) -> u64) {
        let lists = self.classes.iter_mut().chain(&mut self.grpc).chain(&mut self.reasons);
        let others = other.classes.iter().chain(&other.grpc).chain(&other.reasons);
        lists.zip(others).for_each(|(one, other)| *one = change(*one, *other));
        for (one, other) in [
            (&mut self.sent, other.sent),
            (&mut self.received, other.received),
            (&mut self.opened, other.opened),
            (&mut self.closed, other.closed),
            (&mut self.torn, other.torn),
            (&mut self.failed, other.failed),
            (&mut self.retried, other.retried),
        ] {
            *one = change(*one, other);
        }
    }
}
