//! Copies of requests, counted apart from requests.

use super::Telemetry;
use super::series::Subject;
use crate::proxy::{Network, RuleId, Service};

/// So many subjects of copies are counted by themselves. What is more counts as one.
const MOST: usize = 1024;

/// Why a copy of a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unmirrored {
    /// Whoever is to get it has no endpoint that is ready.
    NoEndpoint,
    /// There was no connection to an endpoint.
    NoConnection,
    /// The endpoint gave no answer, or none that can be read.
    NoAnswer,
    /// It was slower than the request itself, and too much waited for it.
    Slow,
    /// It took longer than the route lets a request take, or was not answered some time after the request itself had ended.
    Late,
    /// The request itself ended before all of it had come.
    Unfinished,
    /// Too many copies were on their way, or too much waited for them.
    Busy,
}

impl Unmirrored {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::NoEndpoint,
        Self::NoConnection,
        Self::NoAnswer,
        Self::Slow,
        Self::Late,
        Self::Unfinished,
        Self::Busy,
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
            Self::NoEndpoint => "no_endpoint",
            Self::NoConnection => "no_connection",
            Self::NoAnswer => "no_answer",
            Self::Slow => "slow",
            Self::Late => "timeout",
            Self::Unfinished => "unfinished",
            Self::Busy => "busy",
        }
    }
}

/// What became of copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// Those that were answered, by the first digit of the status; nothing stands at 0.
    pub classes: [u64; 6],
    /// Those that were not, by [`Unmirrored::ALL`].
    pub lost: [u64; Unmirrored::ALL.len()],
}

impl Copied {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.classes.iter().chain(&self.lost).sum()
    }

    /// Takes another's to its own.
    pub fn merge(&mut self, other: &Self) {
        let counts = self.classes.iter_mut().chain(&mut self.lost);
        let others = other.classes.iter().chain(&other.lost);
        counts.zip(others).for_each(|(one, other)| *one = one.saturating_add(*other));
    }

    fn note(&mut self, outcome: Result<u16, Unmirrored>) {
        let count = match outcome {
            Ok(status) => self.classes.get_mut(usize::from(status / 100).min(5)),
            Err(lost) => self.lost.get_mut(lost.place()),
        };
        if let Some(count) = count {
            *count = count.saturating_add(1);
        }
    }
}

/// Copies of one pod's requests, by one rule, for one port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrored {
    /// The network of who asked; 0 with `None` everywhere stands for all that were too many to be counted by themselves.
    pub client: Network,
    /// The Service's port that was asked for.
    pub frontend: Option<Service>,
    /// The rule that wants copies.
    pub rule: Option<RuleId>,
    /// The Service's port that gets them.
    pub backend: Option<Service>,
    /// What became of them since the process began.
    pub copied: Copied,
}

impl Telemetry {
    /// A copy has ended, with the status of its answer if it has one.
    pub(crate) fn mirrored(&self, subject: Subject, outcome: Result<u16, Unmirrored>) {
        let mut mirrored = self.mirrored.borrow_mut();
        let is_own = mirrored.len() < MOST || mirrored.contains_key(&subject);
        let subject = if is_own { subject } else { Subject::default() };
        mirrored.entry(subject).or_default().note(outcome);
    }

    /// What became of copies until now.
    pub(crate) fn mirrors(&self) -> Vec<Mirrored> {
        let mirrored = self.mirrored.borrow();
        let read = |(subject, copied): (&Subject, &Copied)| Mirrored {
            client: subject.network,
            frontend: subject.frontend,
            rule: subject.rule,
            backend: subject.backend,
            copied: *copied,
        };
        mirrored.iter().map(read).collect()
    }

    /// Nobody of this network is served any more.
    pub(crate) fn forget_mirrored(&self, network: Network) {
        self.mirrored.borrow_mut().retain(|subject, _| subject.network != network);
    }
}
