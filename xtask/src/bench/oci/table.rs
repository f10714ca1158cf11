//! What a contest of runtimes came to.

use std::fmt;

use serde::Serialize;

use super::side::{Cost, Deed, Side};
use crate::Result;

/// At most so many times crun's, and the bound's.
const OF_CRUN: f64 = 0.5;
const OF_BOUND: f64 = 1.5;
/// Places in the list of sides.
const CRUN: usize = 2;
const BOUND: usize = 4;

/// All deeds.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    rounds: u32,
    deeds: Vec<Rows>,
    kept: bool,
}

#[derive(Debug, Serialize)]
struct Rows {
    deed: &'static str,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    side: String,
    cpu_min: f64,
    cpu_median: f64,
    wall_min: f64,
    wall_median: f64,
    /// Median wall time of each command.
    commands: Vec<f64>,
    /// KiB; of `run`.
    memory: Option<u64>,
}

fn sorted(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    (all.first().copied().unwrap_or(f64::NAN), all.get(all.len() / 2).copied().unwrap_or(f64::NAN))
}

impl Row {
    fn of(side: &Side, costs: &[Cost], memory: Option<u64>) -> Option<Self> {
        let commands = costs.first()?.walls.len();
        let ((cpu_min, cpu_median), (wall_min, wall_median)) =
            (sorted(costs.iter().map(|c| c.cpu)), sorted(costs.iter().map(|c| c.wall)));
        let command = |n: usize| sorted(costs.iter().filter_map(|c| c.walls.get(n).copied())).1;
        Some(Self {
            side: side.name.clone(),
            cpu_min,
            cpu_median,
            wall_min,
            wall_median,
            commands: (0..commands).map(command).collect(),
            memory,
        })
    }
}

impl Outcome {
    pub(super) fn new(sides: &[Side], rounds: u32, costs: &[Vec<Vec<Cost>>], memory: &[u64]) -> Result<Self> {
        let mut kept = true;
        let mut deeds = Vec::new();
        for (deed, costs) in Deed::ALL.iter().zip(costs) {
            let mut all = Vec::new();
            for ((side, costs), memory) in sides.iter().zip(costs).zip(memory) {
                let memory = (*deed == Deed::Run).then_some(*memory);
                all.push(Row::of(side, costs, memory));
            }
            let crun = all.get(CRUN).and_then(Option::as_ref).ok_or("crun has no rounds")?;
            let bound = all.get(BOUND).and_then(Option::as_ref);
            for ours in all.iter().take(2).flatten() {
                kept &= ours.cpu_min <= OF_CRUN * crun.cpu_min && ours.wall_min <= OF_CRUN * crun.wall_min;
                // The bound has no way to be deleted by somebody else.
                if let Some(bound) = bound.filter(|_| *deed == Deed::Run) {
                    kept &= ours.cpu_min <= OF_BOUND * bound.cpu_min
                        && ours.wall_min <= OF_BOUND * bound.wall_min;
                }
                kept &= ours.memory <= crun.memory;
            }
            deeds.push(Rows { deed: deed.name(), rows: all.into_iter().flatten().collect() });
        }
        Ok(Self { rounds, deeds, kept })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "oci-run: {} rounds each, interleaved, whole processes (ms, MiB)", self.rounds)?;
        for Rows { deed, rows } in &self.deeds {
            let head = ["cpu min", "median", "wall min", "median", "rss", "cpu", "wall of crun's"];
            let [a, b, c, d, e, g, h] = head;
            writeln!(f, "\n{deed:<26} {a:>8} {b:>8} {c:>8} {d:>8} {e:>6} {g:>7} {h}")?;
            let Some(crun) = rows.iter().find(|row| row.side.starts_with("crun")) else { continue };
            for row in rows {
                let memory = row.memory.map_or(String::new(), |kib| format!("{:.1}", kib as f64 / 1024.0));
                let commands: Vec<_> = row.commands.iter().map(|wall| format!("{wall:.1}")).collect();
                let commands =
                    if commands.len() > 1 { format!("  [{}]", commands.join(" / ")) } else { String::new() };
                writeln!(
                    f,
                    "{:<26} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {memory:>6} {:>7.3} {:>7.3}{commands}",
                    row.side,
                    row.cpu_min,
                    row.cpu_median,
                    row.wall_min,
                    row.wall_median,
                    row.cpu_min / crun.cpu_min,
                    row.wall_min / crun.wall_min,
                )?;
            }
        }
        writeln!(
            f,
            "\npromised, of minima: cpu and wall at most {OF_CRUN} x crun's, run at most {OF_BOUND} x the bound's, memory \
             at most crun's"
        )?;
        writeln!(f, "{}", if self.kept { "kept" } else { "NOT KEPT" })
    }
}
