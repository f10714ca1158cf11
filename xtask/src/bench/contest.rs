//! Two sides, run in turn under one meter.

use std::fmt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Meter;
use super::reaped::{Reaped, Reaper};
use crate::Result;
use crate::program::shown;

/// One of the two.
pub(crate) struct Side<'a> {
    /// For the table: "sextant", "podman 4.3.1".
    pub(crate) name: String,
    /// Before each round, not measured.
    pub(crate) prepare: &'a dyn Fn() -> Result<()>,
    /// What is measured. The wall clock stops when it has ended, the count of CPU time when all its descendants have.
    pub(crate) command: &'a dyn Fn(&Meter) -> Command,
    /// Whether everything is gone that it left to others.
    pub(crate) settled: &'a dyn Fn() -> Result<bool>,
    /// After each round, not measured.
    pub(crate) clean: &'a dyn Fn() -> Result<()>,
}

/// What PROMISES.md says: ours is at most so many times the peer's.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Promise {
    pub(crate) cpu: Option<f64>,
    pub(crate) wall: Option<f64>,
    pub(crate) memory: Option<f64>,
}

/// Ours against a peer.
pub(crate) struct Contest<'a> {
    pub(crate) name: &'a str,
    pub(crate) ours: Side<'a>,
    pub(crate) peer: Side<'a>,
    pub(crate) promise: Promise,
}

/// What one round cost.
#[derive(Debug, Clone, Copy)]
struct Cost {
    cpu: f64,
    /// What the cgroup that the command was started in counted; less than `cpu` if it put something elsewhere.
    cgroup: f64,
    wall: f64,
    memory: u64,
}

/// One side's rounds, in milliseconds and KiB.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    name: String,
    cpu_min: f64,
    cpu_median: f64,
    cpu_in_cgroup_median: f64,
    wall_min: f64,
    wall_median: f64,
    memory_peak: u64,
}

/// What came of a contest.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    name: String,
    rounds: u32,
    ours: Figures,
    peer: Figures,
    /// Ours through the peer's, of the least that each needed.
    cpu_ratio: f64,
    wall_ratio: f64,
    memory_ratio: f64,
    promise: Promise,
    kept: bool,
}

impl Contest<'_> {
    /// Runs both sides in turn, `rounds` times, after one round that is not counted (caches, lazily started helpers).
    pub(crate) fn run(&self, rounds: u32) -> Result<Verdict> {
        let (meter, reaper) = (Meter::new()?, Reaper::new()?);
        let (mut ours, mut peer) = (Vec::new(), Vec::new());
        for round in 0..=rounds {
            // Who goes first changes, so that neither always finds the machine as the other left it.
            let turn = |side: &Side<'_>, costs: &mut Vec<Cost>| -> Result<()> {
                let cost =
                    side.round(&meter, &reaper).map_err(|e| format!("{}, round {round}: {e}", side.name))?;
                if round > 0 {
                    costs.push(cost);
                }
                Ok(())
            };
            if round % 2 == 0 {
                turn(&self.ours, &mut ours)?;
                turn(&self.peer, &mut peer)?;
            } else {
                turn(&self.peer, &mut peer)?;
                turn(&self.ours, &mut ours)?;
            }
        }
        Ok(self.judge(rounds, Figures::of(&self.ours, &ours), Figures::of(&self.peer, &peer)))
    }

    fn judge(&self, rounds: u32, ours: Figures, peer: Figures) -> Verdict {
        let (cpu_ratio, wall_ratio) = (ours.cpu_min / peer.cpu_min, ours.wall_min / peer.wall_min);
        let memory_ratio = ours.memory_peak as f64 / peer.memory_peak.max(1) as f64;
        let holds = |promise: Option<f64>, ratio: f64| promise.is_none_or(|most| ratio <= most);
        let promise = self.promise;
        let kept = holds(promise.cpu, cpu_ratio)
            && holds(promise.wall, wall_ratio)
            && holds(promise.memory, memory_ratio);
        Verdict {
            name: self.name.to_owned(),
            rounds,
            ours,
            peer,
            cpu_ratio,
            wall_ratio,
            memory_ratio,
            promise,
            kept,
        }
    }
}

impl Side<'_> {
    fn round(&self, meter: &Meter, reaper: &Reaper) -> Result<Cost> {
        (self.prepare)()?;
        let watch = meter.watch();
        let before = meter.cpu()?;
        let ran = self.measured(meter, reaper);
        let settled = ran.and_then(|reaped| self.settle().map(|()| reaped));
        let cgroup = meter.cpu()?.saturating_sub(before);
        let memory = watch.stop();
        let Reaped { wall, cpu, own } = settled?;
        (self.clean)()?;
        let memory = memory.together;
        Ok(Cost { cpu: cpu * 1e3, cgroup: (cgroup.as_secs_f64() - own) * 1e3, wall: wall * 1e3, memory })
    }

    fn measured(&self, meter: &Meter, reaper: &Reaper) -> Result<Reaped> {
        let mut command = reaper.around(&(self.command)(meter));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let output = meter.spawn(&mut command)?.wait_with_output()?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            let command = shown(&(self.command)(meter));
            return Err(format!("{command} failed: {}\n{}", output.status, words.trim_end()).into());
        }
        reaper.read()
    }

    fn settle(&self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(30);
        while !(self.settled)()? {
            if Instant::now() > end {
                return Err("it left something behind for 30 s".into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Figures {
    fn of(side: &Side<'_>, costs: &[Cost]) -> Self {
        let sorted = |value: fn(&Cost) -> f64| {
            let mut all: Vec<f64> = costs.iter().map(value).collect();
            all.sort_by(f64::total_cmp);
            let median = all.get(all.len() / 2).copied().unwrap_or(f64::NAN);
            (all.first().copied().unwrap_or(f64::NAN), median)
        };
        let ((cpu_min, cpu_median), (wall_min, wall_median)) =
            (sorted(|cost| cost.cpu), sorted(|cost| cost.wall));
        let (_, cpu_in_cgroup_median) = sorted(|cost| cost.cgroup);
        let memory_peak = costs.iter().map(|cost| cost.memory).max().unwrap_or(0);
        Self {
            name: side.name.clone(),
            cpu_min,
            cpu_median,
            cpu_in_cgroup_median,
            wall_min,
            wall_median,
            memory_peak,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["cpu min", "median", "wall min", "median", "rss peak"];
        writeln!(f, "{}, {} rounds each, interleaved (ms, MiB)", self.name, self.rounds)?;
        writeln!(
            f,
            "{:<20} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "", head[0], head[1], head[2], head[3], head[4]
        )?;
        for side in [&self.ours, &self.peer] {
            let mib = side.memory_peak as f64 / 1024.0;
            writeln!(
                f,
                "{:<20} {:>10.2} {:>10.2} {:>10.2} {:>10.2} {mib:>10.1}",
                side.name, side.cpu_min, side.cpu_median, side.wall_min, side.wall_median
            )?;
        }
        let (cpu, wall, memory) = (self.cpu_ratio, self.wall_ratio, self.memory_ratio);
        writeln!(f, "{:<20} {cpu:>10.3} {:>10} {wall:>10.3} {:>10} {memory:>10.3}", "ratio", "", "")?;
        let promises =
            [("cpu", self.promise.cpu), ("wall", self.promise.wall), ("memory", self.promise.memory)];
        for (what, most) in promises.iter().filter_map(|(what, most)| Some((what, (*most)?))) {
            writeln!(f, "promised: {what} at most {most} x")?;
        }
        writeln!(f, "{}", if self.kept { "kept" } else { "NOT KEPT" })
    }
}
