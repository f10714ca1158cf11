//! What came of it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::chain::Cost;

/// Of a program's chain: at most so many times the reference's CPU time.
const PROGRAMS: f64 = 0.15;
/// In one process: at most so many times the CPU time of the reference's chain.
const IN_PROCESS: f64 = 0.05;
/// In one process: at most so many times the CPU time of bare netlink.
const FLOOR: f64 = 1.5;

/// In milliseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Figures {
    /// The median.
    cpu: f64,
    cpu_min: f64,
    /// The median.
    wall: f64,
    wall_min: f64,
}

impl Figures {
    fn of(costs: impl Iterator<Item = Cost> + Clone) -> Self {
        let sorted = |of: fn(Cost) -> Duration| {
            let mut all: Vec<f64> = costs.clone().map(|cost| of(cost).as_secs_f64() * 1e3).collect();
            all.sort_by(f64::total_cmp);
            let at = |i: usize| all.get(i).copied().unwrap_or(f64::NAN);
            (at(all.len() / 2), at(0))
        };
        let ((cpu, cpu_min), (wall, wall_min)) = (sorted(|c| c.cpu), sorted(|c| c.wall));
        Self { cpu, cpu_min, wall, wall_min }
    }
}

/// A chain of programs.
#[derive(Debug, Serialize)]
pub(super) struct Programs {
    name: String,
    add: Figures,
    del: Figures,
}

impl Programs {
    pub(super) fn new(name: String, costs: &[(Cost, Cost)]) -> Self {
        let (add, del) = (costs.iter().map(|(add, _)| *add), costs.iter().map(|(_, del)| *del));
        Self { name, add: Figures::of(add), del: Figures::of(del) }
    }
}

/// The chain in one process, and bare netlink on the same bridge.
#[derive(Debug, Serialize)]
pub(super) struct InProcess {
    pub(super) existing: u32,
    pub(super) add: Figures,
    pub(super) bare_add: Figures,
    pub(super) del: Figures,
    pub(super) bare_del: Figures,
    /// What of it was for the flows of the published port.
    pub(super) bare_flush: Figures,
}

/// A ratio of CPU times (medians), and what was promised of it.
#[derive(Debug, Serialize)]
struct Ratio {
    what: String,
    ratio: f64,
    at_most: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    rounds: u32,
    programs: Vec<Programs>,
    in_process: Vec<InProcess>,
    ratios: Vec<Ratio>,
    kept: bool,
}

impl Outcome {
    /// The first of `programs` is ours, the second the reference.
    pub(super) fn new(rounds: u32, programs: Vec<Programs>, in_process: Vec<InProcess>) -> Self {
        let mut ratios = Vec::new();
        let mut promise = |what: String, ours: Figures, peer: Figures, at_most: f64| {
            ratios.push(Ratio { what, ratio: ours.cpu / peer.cpu, at_most });
        };
        if let [ours, peers @ ..] = programs.as_slice() {
            for peer in peers {
                promise(format!("programs, ADD, to {}", peer.name), ours.add, peer.add, PROGRAMS);
                promise(format!("programs, DEL, to {}", peer.name), ours.del, peer.del, PROGRAMS);
                for one in in_process.iter().filter(|one| one.existing == 0) {
                    promise(format!("in process, ADD, to {}", peer.name), one.add, peer.add, IN_PROCESS);
                    promise(format!("in process, DEL, to {}", peer.name), one.del, peer.del, IN_PROCESS);
                }
            }
        }
        for one in &in_process {
            let at = one.existing;
            promise(format!("in process, ADD, {at} attached, to bare netlink"), one.add, one.bare_add, FLOOR);
            promise(format!("in process, DEL, {at} attached, to bare netlink"), one.del, one.bare_del, FLOOR);
        }
        let kept = ratios.iter().all(|ratio| ratio.ratio <= ratio.at_most);
        Self { rounds, programs, in_process, ratios, kept }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "bridge + host-local + masquerade, portmap, firewall; {} rounds each, interleaved (ms)",
            self.rounds
        )?;
        writeln!(f, "{:<34} {:>9} {:>9} {:>9} {:>9}", "", "cpu", "cpu min", "wall", "wall min")?;
        let mut row = |name: String, figures: &Figures| {
            let Figures { cpu, cpu_min, wall, wall_min } = figures;
            writeln!(f, "{name:<34} {cpu:>9.2} {cpu_min:>9.2} {wall:>9.2} {wall_min:>9.2}")
        };
        for side in &self.programs {
            row(format!("{}, ADD", side.name), &side.add)?;
            row(format!("{}, DEL", side.name), &side.del)?;
        }
        for one in &self.in_process {
            let at = one.existing;
            row(format!("in process, {at} attached, ADD"), &one.add)?;
            row(format!("bare netlink, {at} attached, ADD"), &one.bare_add)?;
            row(format!("in process, {at} attached, DEL"), &one.del)?;
            row(format!("bare netlink, {at} attached, DEL"), &one.bare_del)?;
            row("  of it to forget flows".into(), &one.bare_flush)?;
        }
        for one in &self.in_process {
            let ratio = one.del.cpu / (one.bare_del.cpu - one.bare_flush.cpu);
            writeln!(
                f,
                "cpu {ratio:>6.3} x, DEL, {} attached, to bare netlink that leaves flows",
                one.existing
            )?;
        }
        for ratio in &self.ratios {
            let word = if ratio.ratio <= ratio.at_most { "kept" } else { "NOT KEPT" };
            writeln!(f, "cpu {:>6.3} x, at most {:<5} {word:<9} {}", ratio.ratio, ratio.at_most, ratio.what)?;
        }
        writeln!(f, "{}", if self.kept { "kept" } else { "NOT KEPT" })
    }
}
