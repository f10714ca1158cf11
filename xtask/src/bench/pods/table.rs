//! What came of it.

use std::fmt;

use serde::Serialize;

use crate::Result;
use crate::bench::median;

/// Of one step: at most so many times the peer's CPU time, and its wall time.
const CPU: f64 = 0.1;
const WALL: f64 = 0.15;
/// KiB that a pod may cost, and that the daemon of a full node may hold: 0.7 and 20 million bytes.
const PER_POD: f64 = 0.7e6 / 1024.0;
const DAEMON: f64 = 20e6 / 1024.0;
/// Milliseconds of CPU time a second on a full node with nothing to do, and of a ListPodSandboxStats there.
const IDLE: f64 = 1.0;
const STATS: f64 = 10.0;

/// Milliseconds, for one pod or one exec; of pods together the wall time of them all.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Cost {
    pub(super) cpu: f64,
    pub(super) wall: f64,
}

/// Pods one after another.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) up: Cost,
    pub(super) exec: Cost,
    pub(super) down: Cost,
    /// CPU time of a pod's up, down and share of the rest, from before the daemon starts until all is gone.
    pub(super) whole: f64,
}

/// A full node. Memory in KiB.
#[derive(Debug)]
pub(super) struct Full {
    pub(super) up: Cost,
    pub(super) down: Cost,
    pub(super) per_pod: f64,
    pub(super) daemon_empty: f64,
    pub(super) daemon: f64,
    /// Milliseconds of CPU time a second.
    pub(super) idle: f64,
    /// Milliseconds of a ListPodSandboxStats.
    pub(super) stats: f64,
}

/// One figure of both sides (medians), and what was promised of it.
#[derive(Debug, Serialize)]
struct Row {
    what: &'static str,
    ours: f64,
    peer: f64,
    /// At most so many times the peer's.
    ratio: Option<f64>,
    /// At most so much.
    bound: Option<f64>,
    kept: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    names: [String; 2],
    rounds: usize,
    full_rounds: usize,
    rows: Vec<Row>,
    kept: bool,
}

impl Outcome {
    /// Ours first.
    pub(super) fn new(names: [String; 2], rounds: &[Vec<Round>; 2], full: &[Vec<Full>; 2]) -> Result<Self> {
        let mut rows = Vec::new();
        let mut row = |what, [ours, peer]: [f64; 2], ratio: Option<f64>, bound: Option<f64>| {
            let kept = ratio.is_none_or(|most| ours <= most * peer) && bound.is_none_or(|most| ours <= most);
            rows.push(Row { what, ours, peer, ratio, bound, kept });
        };
        let of = |figure: fn(&Round) -> f64| rounds.each_ref().map(|all| middle(all, figure));
        row("pod up, CPU ms", of(|r| r.up.cpu), Some(CPU), None);
        row("pod up, wall ms", of(|r| r.up.wall), Some(WALL), None);
        row("exec, CPU ms", of(|r| r.exec.cpu), Some(CPU), None);
        row("exec, wall ms", of(|r| r.exec.wall), Some(WALL), None);
        row("pod down, CPU ms", of(|r| r.down.cpu), Some(CPU), None);
        row("pod down, wall ms", of(|r| r.down.wall), Some(WALL), None);
        row("whole life a pod, CPU ms", of(|r| r.whole), Some(CPU), None);
        let of = |figure: fn(&Full) -> f64| full.each_ref().map(|all| middle(all, figure));
        row("50 up, 10 at a time, CPU ms each", of(|f| f.up.cpu), Some(WALL), None);
        row("50 up, 10 at a time, wall ms", of(|f| f.up.wall), Some(WALL), None);
        row("50 down, 10 at a time, CPU ms each", of(|f| f.down.cpu), Some(WALL), None);
        row("50 down, 10 at a time, wall ms", of(|f| f.down.wall), Some(WALL), None);
        row("PSS a pod of 50, KiB", of(|f| f.per_pod), None, Some(PER_POD));
        row("PSS of the daemon, no pods, KiB", of(|f| f.daemon_empty), None, None);
        row("PSS of the daemon, 50 pods, KiB", of(|f| f.daemon), None, Some(DAEMON));
        row("idle with 50 pods, CPU ms a second", of(|f| f.idle), None, Some(IDLE));
        row("ListPodSandboxStats of 50, wall ms", of(|f| f.stats), None, Some(STATS));
        let [count, _] = rounds.each_ref().map(Vec::len);
        let [full_count, _] = full.each_ref().map(Vec::len);
        if count == 0 || full_count == 0 {
            return Err("nothing was measured".into());
        }
        let kept = rows.iter().all(|row| row.kept);
        Ok(Self { names, rounds: count, full_rounds: full_count, rows, kept })
    }
}

fn middle<T>(all: &[T], figure: fn(&T) -> f64) -> f64 {
    median(&all.iter().map(figure).collect::<Vec<_>>())
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [ours, peer] = &self.names;
        writeln!(
            f,
            "pods (bridge + host-local, portmap with a port), {} rounds of 8 one after another, {} of 50; interleaved, medians",
            self.rounds, self.full_rounds
        )?;
        writeln!(f, "{:<36} {ours:>12} {peer:>18} {:>8}", "", "ratio")?;
        for Row { what, ours, peer, ratio, bound, kept } in &self.rows {
            write!(f, "{what:<36} {ours:>12.2} {peer:>18.2} {:>8.3}", ours / peer)?;
            let word = if *kept { "kept" } else { "NOT KEPT" };
            match (ratio, bound) {
                (Some(most), _) => writeln!(f, "  at most {most} x: {word}")?,
                (None, Some(most)) => writeln!(f, "  at most {most:.0}: {word}")?,
                (None, None) => writeln!(f)?,
            }
        }
        writeln!(f, "{}", if self.kept { "kept" } else { "NOT KEPT" })
    }
}
