//! What came of it.

use std::fmt;

use serde::Serialize;

use crate::Result;
use crate::bench::median;

/// Milliseconds within which a change reaches 100 watchers, within which the server is ready, and MiB that it may hold
/// with nothing to do: 15 million bytes.
const TOLD: f64 = 5.0;
const READY: f64 = 300.0;
const IDLE: f64 = 15e6 / 1024.0 / 1024.0;

/// Milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Quantiles {
    pub(crate) fn of(mut walls: Vec<f64>) -> Self {
        walls.sort_by(f64::total_cmp);
        let at = |percent: usize| {
            let index = (walls.len() * percent).div_ceil(100).saturating_sub(1);
            walls.get(index).copied().unwrap_or(f64::NAN)
        };
        Self { p50: at(50), p99: at(99) }
    }
}

/// What is done again and again, one after another; the server's milliseconds of CPU time for each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deed {
    pub(super) wall: Quantiles,
    pub(super) cpu: f64,
}

/// Many writers and all watchers at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storm {
    /// Changes acknowledged a second, and events read a second by all watchers together.
    pub(super) writes: f64,
    pub(super) events: f64,
    /// Milliseconds of CPU time a change, its events with it.
    pub(super) cpu: f64,
}

/// One round of a server.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) alone: Deed,
    pub(super) create: Deed,
    pub(super) patch: Deed,
    pub(super) told: Quantiles,
    pub(super) storm: Storm,
    pub(super) list: Deed,
    pub(super) page: Deed,
    pub(super) get: Deed,
}

/// A server that nobody asks: KiB resident, milliseconds of CPU time a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Idle {
    pub(super) resident: f64,
    pub(super) cpu: f64,
}

/// All rounds of a server. Memory in KiB.
pub(super) struct Rounds {
    name: &'static str,
    rounds: Vec<Round>,
    pub(super) ready: Vec<f64>,
    peak: Vec<f64>,
    after: Vec<f64>,
    pub(super) idle: Option<Idle>,
}

impl Rounds {
    pub(super) fn new(name: &'static str) -> Self {
        let (rounds, ready, peak, after) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { name, rounds, ready, peak, after, idle: None }
    }

    pub(super) fn add(&mut self, round: Round, peak: u64, after: u64) {
        self.rounds.push(round);
        self.peak.push(peak as f64);
        self.after.push(after as f64);
    }

    fn of(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        median(&self.rounds.iter().map(figure).collect::<Vec<_>>())
    }
}

/// One figure of all servers, the median of their rounds, and what was promised of ours.
#[derive(Debug, Serialize)]
struct Row {
    what: &'static str,
    ours: f64,
    peer: Option<f64>,
    bound: Option<f64>,
    kept: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    names: Vec<&'static str>,
    rounds: usize,
    rows: Vec<Row>,
    /// Milliseconds of a put of Debian's etcd.
    etcd_p50: f64,
    etcd_p99: f64,
    etcd_cpu: f64,
    kept: bool,
}

impl Outcome {
    /// Ours is the first of them.
    pub(super) fn new(all: Vec<Rounds>, puts: &[Deed]) -> Result<Self> {
        let mut rows = Vec::new();
        let mut row = |what, figure: &dyn Fn(&Rounds) -> f64, bound: Option<f64>| {
            let ours = all.first().map_or(f64::NAN, figure);
            let kept = bound.is_none_or(|most| ours <= most);
            rows.push(Row { what, ours, peer: all.get(1).map(figure), bound, kept });
        };
        row("ready after, ms", &|all| median(&all.ready), Some(READY));
        row("idle: RSS, MiB", &|all| all.idle.map_or(f64::NAN, |idle| idle.resident / 1024.0), Some(IDLE));
        row("idle: CPU ms a second", &|all| all.idle.map_or(f64::NAN, |idle| idle.cpu), None);
        row("create, nobody watches: p50 ms", &|all| all.of(|r| r.alone.wall.p50), None);
        row("create, nobody watches: p99 ms", &|all| all.of(|r| r.alone.wall.p99), None);
        row("create, nobody watches: CPU ms", &|all| all.of(|r| r.alone.cpu), None);
        row("create: p50 ms", &|all| all.of(|r| r.create.wall.p50), None);
        row("create: p99 ms", &|all| all.of(|r| r.create.wall.p99), None);
        row("create: CPU ms", &|all| all.of(|r| r.create.cpu), None);
        row("patch of a status: p50 ms", &|all| all.of(|r| r.patch.wall.p50), None);
        row("patch of a status: p99 ms", &|all| all.of(|r| r.patch.wall.p99), None);
        row("patch of a status: CPU ms", &|all| all.of(|r| r.patch.cpu), None);
        row("a change at the last of 100 watchers: p50 ms", &|all| all.of(|r| r.told.p50), Some(TOLD));
        row("a change at the last of 100 watchers: p99 ms", &|all| all.of(|r| r.told.p99), None);
        row("16 writers: changes a second", &|all| all.of(|r| r.storm.writes), None);
        row("16 writers: events a second", &|all| all.of(|r| r.storm.events), None);
        row("16 writers: CPU ms a change", &|all| all.of(|r| r.storm.cpu), None);
        row("list of 1,300: p50 ms", &|all| all.of(|r| r.list.wall.p50), None);
        row("list of 1,300: p99 ms", &|all| all.of(|r| r.list.wall.p99), None);
        row("list of 1,300: CPU ms", &|all| all.of(|r| r.list.cpu), None);
        row("page of 500: p50 ms", &|all| all.of(|r| r.page.wall.p50), None);
        row("page of 500: p99 ms", &|all| all.of(|r| r.page.wall.p99), None);
        row("get: p50 ms", &|all| all.of(|r| r.get.wall.p50), None);
        row("get: p99 ms", &|all| all.of(|r| r.get.wall.p99), None);
        row("RSS at most, MiB", &|all| median(&all.peak) / 1024.0, None);
        row("RSS afterwards, MiB", &|all| median(&all.after) / 1024.0, None);
        let rounds = all.first().map_or(0, |ours| ours.rounds.len());
        if rounds == 0 || puts.is_empty() {
            return Err("nothing was measured".into());
        }
        let put = |figure: fn(&Deed) -> f64| median(&puts.iter().map(figure).collect::<Vec<_>>());
        let kept = rows.iter().all(|row| row.kept);
        Ok(Self {
            names: all.iter().map(|rounds| rounds.name).collect(),
            rounds,
            rows,
            etcd_p50: put(|put| put.wall.p50),
            etcd_p99: put(|put| put.wall.p99),
            etcd_cpu: put(|put| put.cpu),
            kept,
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "api: 1,000 pods, 100 watchers, {} rounds, interleaved, medians", self.rounds)?;
        write!(f, "{:<46}", "")?;
        self.names.iter().try_for_each(|name| write!(f, " {name:>22}"))?;
        writeln!(f)?;
        for Row { what, ours, peer, bound, kept } in &self.rows {
            write!(f, "{what:<46} {ours:>22.2}")?;
            if let Some(peer) = peer {
                write!(f, " {peer:>22.2}  {:>8.3}", ours / peer)?;
            }
            let word = if *kept { "kept" } else { "NOT KEPT" };
            match bound {
                Some(most) => writeln!(f, "  at most {most:.1}: {word}")?,
                None => writeln!(f)?,
            }
        }
        let (p50, p99, cpu) = (self.etcd_p50, self.etcd_p99, self.etcd_cpu);
        writeln!(f, "a put of Debian's etcd: p50 {p50:.2} ms, p99 {p99:.2} ms, CPU {cpu:.2} ms")?;
        writeln!(f, "{}", if self.kept { "kept" } else { "NOT KEPT" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted() {
        let all = Quantiles::of((1..=1000).rev().map(f64::from).collect());
        assert_eq!((all.p50, all.p99), (500.0, 990.0));
        let one = Quantiles::of(vec![7.0]);
        assert_eq!((one.p50, one.p99), (7.0, 7.0));
    }
}
