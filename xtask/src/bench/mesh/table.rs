//! What came of it, and what was promised.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::IDLE;
use super::load::PACE;
use crate::bench::median;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum Side {
    Sextant,
    Haproxy,
    Nginx,
    Envoy,
    /// Two of ours, in two nodes' networks, with identities and mTLS between them.
    SextantPair,
    EnvoyPair,
    /// Two relays that do nothing but encrypt and decrypt: what it costs in user space at least, but for a copy of each record that they make.
    Relays,
}

impl Side {
    pub(super) const ALL: [Self; 7] = [
        Self::Sextant,
        Self::Haproxy,
        Self::Nginx,
        Self::Envoy,
        Self::SextantPair,
        Self::EnvoyPair,
        Self::Relays,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sextant => "sextant mesh",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy => "Envoy",
            Self::SextantPair => "sextant pair",
            Self::EnvoyPair => "Envoy pair",
            Self::Relays => "floor",
        }
    }

    /// Whether it reads what passes, and so has more rows than those of bytes.
    pub(super) fn is_proxy(self) -> bool {
        self != Self::Relays
    }

    /// Whether it stands alone between client and backend, as a sidecar does that a client's connections are led to.
    pub(super) fn is_sidecar(self) -> bool {
        matches!(self, Self::Sextant | Self::Haproxy | Self::Nginx | Self::Envoy)
    }

    /// Whether there are two with a policy between client and backend.
    pub(super) fn is_pair(self) -> bool {
        matches!(self, Self::SextantPair | Self::EnvoyPair)
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum Row {
    HttpCpu,
    HttpUser,
    /// The same as the first, where each is asked at a Service's address.
    CapturedCpu,
    HttpRate,
    HttpLate,
    RpcCpu,
    RpcRate,
    BulkCpu,
    BulkRate,
    Begun,
    Loaded,
    Connection,
    Readable,
}

impl Row {
    const ALL: [Self; 13] = [
        Self::HttpCpu,
        Self::HttpUser,
        Self::CapturedCpu,
        Self::HttpRate,
        Self::HttpLate,
        Self::RpcCpu,
        Self::RpcRate,
        Self::BulkCpu,
        Self::BulkRate,
        Self::Begun,
        Self::Loaded,
        Self::Connection,
        Self::Readable,
    ];

    fn words(self) -> String {
        match self {
            Self::HttpCpu => "HTTP/1.1: us of CPU a request".into(),
            Self::HttpUser => "HTTP/1.1: of it in user space: us".into(),
            Self::CapturedCpu => "HTTP/1.1, captured: us of CPU a request".into(),
            Self::HttpRate => "HTTP/1.1: requests a second".into(),
            Self::HttpLate => format!("HTTP/1.1, {PACE} a second: p99 us"),
            Self::RpcCpu => "gRPC: us of CPU a call".into(),
            Self::RpcRate => "gRPC: calls a second".into(),
            Self::BulkCpu => "TCP: s of CPU a GB".into(),
            Self::BulkRate => "TCP: GB a second".into(),
            Self::Begun => "PSS at the start, MB".into(),
            Self::Loaded => "PSS after all that, MB".into(),
            Self::Connection => format!("PSS a connection, {IDLE} rest, kB"),
            Self::Readable => "frames that can be read on the wire".into(),
        }
    }

    fn decimals(self) -> usize {
        match self {
            Self::HttpRate | Self::HttpLate | Self::RpcRate | Self::Readable => 0,
            Self::HttpCpu
            | Self::HttpUser
            | Self::CapturedCpu
            | Self::RpcCpu
            | Self::Begun
            | Self::Loaded => 1,
            Self::BulkCpu | Self::BulkRate | Self::Connection => 2,
        }
    }
}

/// All figures of all rounds.
#[derive(Debug, Default)]
pub(super) struct Rounds(BTreeMap<(Side, Row), Vec<f64>>);

impl Rounds {
    pub(super) fn note(&mut self, side: Side, row: Row, value: f64) {
        self.0.entry((side, row)).or_default().push(value);
    }

    fn median(&self, side: Side, row: Row) -> Option<f64> {
        self.0.get(&(side, row)).map(|values| median(values))
    }
}

/// Ours is at most so many times a peer's, or at most so much where there is no peer.
struct Promise {
    row: Row,
    ours: Side,
    peer: Option<Side>,
    most: f64,
}

const fn beside(row: Row, ours: Side, peer: Side, most: f64) -> Promise {
    Promise { row, ours, peer: Some(peer), most }
}

const PROMISES: &[Promise] = &[
    beside(Row::HttpCpu, Side::Sextant, Side::Envoy, 0.35),
    beside(Row::HttpCpu, Side::Sextant, Side::Haproxy, 1.0),
    beside(Row::CapturedCpu, Side::Sextant, Side::Envoy, 0.35),
    beside(Row::CapturedCpu, Side::Sextant, Side::Haproxy, 1.0),
    beside(Row::HttpLate, Side::Sextant, Side::Envoy, 1.0),
    beside(Row::HttpLate, Side::Sextant, Side::Haproxy, 1.0),
    beside(Row::HttpLate, Side::Sextant, Side::Nginx, 1.0),
    beside(Row::Loaded, Side::Sextant, Side::Envoy, 1.0 / 3.0),
    Promise { row: Row::Connection, ours: Side::Sextant, peer: None, most: 10.0 },
    beside(Row::HttpCpu, Side::SextantPair, Side::EnvoyPair, 0.4),
    beside(Row::BulkCpu, Side::SextantPair, Side::EnvoyPair, 0.9),
    beside(Row::HttpLate, Side::SextantPair, Side::EnvoyPair, 1.0),
    beside(Row::Loaded, Side::SextantPair, Side::EnvoyPair, 1.0 / 3.0),
    Promise { row: Row::Connection, ours: Side::SextantPair, peer: None, most: 10.0 },
    Promise { row: Row::Readable, ours: Side::SextantPair, peer: None, most: 0.0 },
];

/// What became of a promise.
#[derive(Debug, Serialize)]
struct Judged {
    row: Row,
    ours: Side,
    peer: Option<Side>,
    most: f64,
    /// Ours, or ours through the peer's; none where one of them was not measured.
    value: Option<f64>,
    kept: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Line {
    row: Row,
    /// Medians, in the order of the sides.
    values: Vec<Option<f64>>,
}

#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    rounds: u32,
    sides: Vec<Side>,
    lines: Vec<Line>,
    promises: Vec<Judged>,
    has_envoy: bool,
    kept: bool,
}

impl Outcome {
    pub(super) fn new(rounds: &Rounds, count: u32, has_envoy: bool) -> Self {
        let sides = Side::ALL.to_vec();
        let line = |row| Line { row, values: sides.iter().map(|side| rounds.median(*side, row)).collect() };
        let lines = Row::ALL.into_iter().map(line).collect();
        let judge = |promise: &Promise| {
            let Promise { row, ours, peer, most } = *promise;
            let own = rounds.median(ours, row);
            let value = match peer {
                None => own,
                Some(peer) => own.zip(rounds.median(peer, row)).map(|(own, other)| own / other),
            };
            Judged { row, ours, peer, most, value, kept: value.map(|value| value <= most) }
        };
        let promises: Vec<Judged> = PROMISES.iter().map(judge).collect();
        let kept = promises.iter().all(|judged| judged.kept == Some(true));
        Self { rounds: count, sides, lines, promises, has_envoy, kept }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "mesh: {} rounds, interleaved, medians; the proxy alone on its processor", self.rounds)?;
        write!(f, "{:<40}", "")?;
        for side in &self.sides {
            write!(f, " {:>12}", side.name())?;
        }
        writeln!(f)?;
        for Line { row, values } in &self.lines {
            write!(f, "{:<40}", row.words())?;
            for value in values {
                match value {
                    Some(value) => write!(f, " {value:>12.*}", row.decimals())?,
                    None => write!(f, " {:>12}", "-")?,
                }
            }
            writeln!(f)?;
        }
        for Judged { row, ours, peer, most, value, kept } in &self.promises {
            let of = peer.map_or(String::new(), |peer| format!(" x {}", peer.name()));
            write!(f, "{}, {}: at most {most:.3}{of}: ", row.words(), ours.name())?;
            match (value, kept) {
                (Some(value), Some(kept)) => {
                    writeln!(f, "{value:.3}, {}", if *kept { "kept" } else { "NOT KEPT" })?;
                }
                _ => writeln!(f, "not measured: {}", self.why())?,
            }
        }
        let is_broken = self.promises.iter().any(|judged| judged.kept == Some(false));
        let verdict = match (self.kept, is_broken) {
            (true, _) => "kept",
            (false, true) => "NOT KEPT",
            (false, false) => "kept, as far as it was measured",
        };
        writeln!(f, "{verdict}")
    }
}

impl Outcome {
    /// Why something was not measured.
    fn why(&self) -> &'static str {
        if self.has_envoy { "there is no figure" } else { "Envoy does not run here" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_not_kept() {
        let mut rounds = Rounds::default();
        for side in Side::ALL {
            for row in Row::ALL {
                rounds.note(side, row, 1.0);
            }
        }
        // A third of what the peers have, and no more than they need.
        for row in Row::ALL {
            for side in [Side::Sextant, Side::SextantPair] {
                rounds.0.insert((side, row), vec![0.1, 0.3, 0.2]);
            }
            rounds.0.insert((Side::SextantPair, Row::Readable), vec![0.0]);
        }
        let outcome = Outcome::new(&rounds, 3, true);
        assert!(outcome.kept && outcome.to_string().ends_with("\nkept\n"), "{outcome}");
        let mut readable = rounds.0.clone();
        readable.insert((Side::SextantPair, Row::Readable), vec![1.0]);
        assert!(!Outcome::new(&Rounds(readable), 3, true).kept);
        for row in Row::ALL {
            rounds.0.remove(&(Side::EnvoyPair, row));
        }
        let outcome = Outcome::new(&rounds, 3, false);
        assert!(
            !outcome.kept && outcome.to_string().contains("not measured: Envoy does not run here"),
            "{outcome}"
        );
        assert!(outcome.to_string().ends_with("\nkept, as far as it was measured\n"), "{outcome}");
        rounds.0.insert((Side::Sextant, Row::HttpCpu), vec![0.36]);
        let outcome = Outcome::new(&rounds, 3, true);
        assert!(outcome.to_string().contains("at most 0.350 x Envoy: 0.360, NOT KEPT"), "{outcome}");
        assert!(outcome.to_string().ends_with("\nNOT KEPT\n"), "{outcome}");
    }

    #[test]
    fn what_is_captured_is_judged_beside_what_is_not_and_user_time_is_not() {
        let mut rounds = Rounds::default();
        for side in Side::ALL {
            for row in Row::ALL {
                let is_ours = matches!(side, Side::Sextant | Side::SextantPair);
                let value = if row == Row::Readable { 0.0 } else { 1.0 };
                rounds.note(side, row, if is_ours { value * 0.2 } else { value });
            }
        }
        // Time outside the kernel is told, and nothing is promised of it.
        rounds.0.insert((Side::Sextant, Row::HttpUser), vec![5.0]);
        let outcome = Outcome::new(&rounds, 1, true);
        assert!(outcome.kept, "{outcome}");
        assert!(outcome.to_string().contains("\nHTTP/1.1: of it in user space: us"), "{outcome}");
        // At loopback haproxy may need less than ours does, which is captured: that is told as well.
        rounds.0.insert((Side::Haproxy, Row::HttpCpu), vec![0.1]);
        let text = Outcome::new(&rounds, 1, true).to_string();
        let judged = "us of CPU a request, sextant mesh: at most 1.000 x haproxy: ";
        assert!(text.contains(&format!("HTTP/1.1: {judged}2.000, NOT KEPT")), "{text}");
        assert!(text.contains(&format!("HTTP/1.1, captured: {judged}0.200, kept")), "{text}");
        assert!(text.ends_with("\nNOT KEPT\n"), "{text}");
        rounds.0.insert((Side::Haproxy, Row::HttpCpu), vec![1.0]);
        rounds.0.insert((Side::Haproxy, Row::CapturedCpu), vec![0.1]);
        let text = Outcome::new(&rounds, 1, true).to_string();
        assert!(text.contains(&format!("HTTP/1.1: {judged}0.200, kept")), "{text}");
        assert!(text.contains(&format!("HTTP/1.1, captured: {judged}2.000, NOT KEPT")), "{text}");
    }
}
