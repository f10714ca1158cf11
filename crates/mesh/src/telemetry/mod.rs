//! What passes through a proxy, counted: for who asks, for the Service's port, the rule, the backend and the endpoint.
//!
//! The thread of the proxy counts in cells of its own: a request costs one look into a map of small keys when it ends, and memory is taken
//! only when something is counted for the first time. Another thread reads by [`Looker`](crate::node::Looker), a piece at a time so that nobody waits long for it.
//! [`Line`]s of single requests are made only while somebody wants them, and go over a bounded channel: what does not fit is lost, and that
//! is counted.

mod call;
mod histogram;
mod line;
mod mirrored;
mod page;
mod series;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use kernel::nft::Count;
use smi::contract::Name;
pub use smi::latency::Histogram;

use crate::balance::Seen;
use crate::capture;
use crate::proxy::{Counts, Network, Service, Tables};
pub(crate) use call::{Call, Passing};
pub use line::{Line, Request};
pub use mirrored::{Copied, Mirrored, Unmirrored};
pub use page::{packets, page, rule};
pub use series::{Counted, GRPC, Numbers};
pub(crate) use series::{Series, Subject, add};

/// So many subjects are counted by themselves. What is more counts as one.
const MOST: usize = 16_384;
/// So many are read at a time.
const PIECE: usize = 256;
/// For so long one that has come to an end is still told.
const KEPT: Duration = Duration::from_secs(600);

/// Why a request did not go well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The routes have no rule for it, or nothing is served there any more.
    NoRoute,
    /// The rule has no backend that can be asked.
    NoBackend,
    /// The backend has no endpoint that is ready.
    NoEndpoint,
    /// There was no connection to an endpoint.
    NoConnection,
    /// The endpoint gave no answer, or none that can be passed on.
    NoAnswer,
    /// The endpoint took longer than the route lets it.
    Late,
    /// The request did not come whole in time.
    SlowRequest,
    /// The request breaks the rules.
    Refused,
    /// It asks for something that is not served.
    NotServed,
    /// An answer that was to be tried again, and was not.
    NotRetried,
    /// The answer had begun and was not completed.
    Cut,
    /// The client had left.
    ClientGone,
    /// Policies do not let this client ask it.
    Denied,
}

impl Reason {
    /// All of them, in order.
    pub const ALL: [Self; 13] = [
        Self::NoRoute,
        Self::NoBackend,
        Self::NoEndpoint,
        Self::NoConnection,
        Self::NoAnswer,
        Self::Late,
        Self::SlowRequest,
        Self::Refused,
        Self::NotServed,
        Self::NotRetried,
        Self::Cut,
        Self::ClientGone,
        Self::Denied,
    ];

    /// Its place among [`Self::ALL`].
    #[must_use]
    pub const fn place(self) -> usize {
        self as usize
    }

    /// What programs call it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::NoBackend => "no_backend",
            Self::NoEndpoint => "no_endpoint",
            Self::NoConnection => "no_connection",
            Self::NoAnswer => "no_answer",
            Self::Late => "timeout",
            Self::SlowRequest => "request_timeout",
            Self::Refused => "refused",
            Self::NotServed => "not_served",
            Self::NotRetried => "not_retried",
            Self::Cut => "cut",
            Self::ClientGone => "client_gone",
            Self::Denied => "denied",
        }
    }

    /// That of an answer with this status which the proxy gives itself; a redirect has none.
    pub(crate) fn of(status: u16) -> Option<Self> {
        Some(match status {
            403 => Self::Denied,
            404 => Self::NoRoute,
            408 => Self::SlowRequest,
            400 | 431 | 505 => Self::Refused,
            501 => Self::NotServed,
            502 => Self::NoAnswer,
            503 => Self::NoConnection,
            504 => Self::Late,
            500.. => Self::NoBackend,
            _ => return None,
        })
    }
}

/// All that a proxy counts.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    series: RefCell<BTreeMap<Subject, Rc<Series>>>,
    /// Copies of requests, which are none of these.
    mirrored: RefCell<BTreeMap<Subject, Copied>>,
    /// How many were begun: each has a number of its own.
    begun: Cell<u64>,
    /// How many have come to an end.
    ended: Cell<u64>,
    lines: RefCell<Option<SyncSender<Line>>>,
    lost: Cell<u64>,
    /// How often there were other tables.
    pub(crate) swaps: Cell<u64>,
}

impl Telemetry {
    /// The counts of a subject. `pod` says who has its address.
    pub(crate) fn series(
        &self,
        subject: Subject,
        now: Instant,
        pod: impl FnOnce() -> Option<Name>,
    ) -> Rc<Series> {
        let mut series = self.series.borrow_mut();
        let found = match series.get(&subject) {
            Some(found) => found.clone(),
            None => {
                let (subject, pod) =
                    if series.len() < MOST { (subject, pod()) } else { (Subject::default(), None) };
                let begin = || {
                    add(&self.begun, 1);
                    Rc::new(Series::new(self.begun.get(), pod, now))
                };
                series.entry(subject).or_insert_with(begin).clone()
            }
        };
        found.last.set(now);
        found
    }

    /// What is counted from now on for a subject of which this is true is another's.
    pub(crate) fn end(&self, is_over: impl Fn(&Subject, &Series) -> bool) {
        let mut series = self.series.borrow_mut();
        let over =
            |(subject, series): &(&Subject, &Rc<Series>)| subject.ended == 0 && is_over(subject, series);
        let over: Vec<Subject> = series.iter().filter(over).map(|(subject, _)| *subject).collect();
        for subject in over {
            if let Some(counts) = series.remove(&subject) {
                self.ended.set(self.ended.get() + 1);
                series.insert(Subject { ended: self.ended.get(), ..subject }, counts);
            }
        }
    }

    /// Forgets what has come to an end long ago.
    pub(crate) fn sweep(&self, now: Instant) {
        let is_over = |subject: &Subject, series: &Series| {
            subject.ended > 0 && !series.is_open() && now.saturating_duration_since(series.last.get()) >= KEPT
        };
        self.series.borrow_mut().retain(|subject, series| !is_over(subject, series));
    }

    /// The next ones, and behind whom to go on.
    pub(crate) fn read(&self, behind: Option<Subject>) -> (Vec<Counted>, Option<Subject>) {
        let series = self.series.borrow();
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        let piece = series.range((from, Bound::Unbounded)).take(PIECE);
        let mut last = None;
        let read = piece.map(|(subject, series)| {
            last = Some(*subject);
            series.read(subject)
        });
        let read: Vec<Counted> = read.collect();
        let next = last.filter(|_| read.len() == PIECE);
        (read, next)
    }

    /// Has lines go there, until that is gone; nowhere, if that is nowhere.
    pub(crate) fn watch(&self, lines: Option<SyncSender<Line>>) {
        *self.lines.borrow_mut() = lines;
    }

    /// Whether somebody wants lines.
    pub(crate) fn is_watched(&self) -> bool {
        self.lines.borrow().is_some()
    }

    /// Tells of one that has ended. It never waits.
    fn tell(&self, line: Line) {
        if let Some(lines) = &*self.lines.borrow()
            && lines.try_send(line).is_err()
        {
            add(&self.lost, 1);
        }
    }

    /// Lines that did not fit.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.get()
    }
}

/// What the kernel has counted of a pod's packets, which no proxy sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packets {
    /// Datagrams to the pod, if it does not take them from everybody.
    pub datagrams: Option<capture::Counted>,
    /// What the pod has sent from addresses that are not its own, and was dropped; if that is looked at.
    pub foreign: Option<Count>,
}

/// What a node's proxy has done, and how it sees endpoints.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What was done in all.
    pub counts: Counts,
    /// Connections to endpoints that wait for a request.
    pub idle: usize,
    /// How often there were other tables.
    pub swaps: u64,
    /// Lines that nobody took in time.
    pub lost: u64,
    /// The networks that are served.
    pub networks: Vec<Network>,
    /// What was counted, and what has come to an end in the last ten minutes.
    pub series: Vec<Counted>,
    /// What became of copies of requests, which are not among those.
    pub mirrored: Vec<Mirrored>,
    /// Endpoints that somebody has asked for.
    pub endpoints: Vec<Viewed>,
    /// The tables that hold now; they name what the others number.
    pub tables: Arc<Tables>,
}

/// An endpoint, as clients of a network see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Viewed {
    /// The network of the clients.
    pub client: Network,
    /// The Service's port.
    pub service: Service,
    /// What is known of it.
    pub seen: Seen,
}
