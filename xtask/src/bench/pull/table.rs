//! What came of it, for people and programs.

use std::fmt;
use std::thread::available_parallelism;

use serde::Serialize;

use super::image::Image;
use super::puller::{Cost, Puller};
use crate::Result;
use crate::bench::Promise;

const PROMISE: Promise = Promise { cpu: Some(0.4), wall: Some(0.4), memory: Some(0.5) };
/// Stages whose seconds are a core's; `durable` is the wall's.
const BUSY: [&str; 4] = ["fetch", "hash", "inflate", "unpack"];

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    rounds: u32,
    entries: u64,
    unpacked_bytes: u64,
    on: String,
    promise: Promise,
    variants: Vec<Variant>,
    kept: bool,
}

/// One compression.
#[derive(Debug, Serialize)]
pub(super) struct Variant {
    compression: String,
    sides: Vec<Figures>,
    stages: Vec<Stage>,
    bound: Bound,
    kept: bool,
}

/// One side's rounds; seconds and KiB.
#[derive(Debug, Serialize)]
struct Figures {
    name: String,
    wall_min: f64,
    wall_median: f64,
    cpu_min: f64,
    cpu_median: f64,
    /// All processes together at one moment.
    rss_peak: u64,
    /// The largest process.
    hwm_peak: u64,
    entries: u64,
    /// Medians and peak through containerd's.
    wall_ratio: f64,
    cpu_ratio: f64,
    memory_ratio: f64,
}

/// One stage of ours, in the round with the median wall.
#[derive(Debug, Serialize)]
struct Stage {
    name: String,
    bytes: u64,
    seconds: f64,
    megabytes_per_second: f64,
}

/// What the stages leave possible: their CPU time spread over all cores.
#[derive(Debug, Serialize)]
struct Bound {
    cores: usize,
    stages_cpu: f64,
    wall_at_least: f64,
    wall: f64,
}

impl Outcome {
    pub(super) fn new(image: &Image, on: String, rounds: u32, variants: Vec<Variant>) -> Self {
        let kept = variants.iter().all(|variant| variant.kept);
        Self {
            rounds,
            entries: image.entries,
            unpacked_bytes: image.bytes,
            on,
            promise: PROMISE,
            variants,
            kept,
        }
    }
}

impl Variant {
    /// Judges the rounds of all three.
    pub(super) fn of(compression: &str, costs: &[Vec<Cost>; 3]) -> Result<Self> {
        let mut sides = Vec::new();
        for (puller, costs) in Puller::ALL.iter().zip(costs) {
            sides.push(Figures::of(puller.name()?, costs));
        }
        let [ours, containerd, podman] = costs;
        let mut counted = ours.iter().chain(containerd).chain(podman).map(|cost| cost.entries);
        let first = counted.next().unwrap_or(0);
        if let Some(other) = counted.find(|entries| *entries != first) {
            return Err(format!("{compression}: not all unpacked the same: {first} and {other} names").into());
        }
        if let Some([wall, cpu, memory]) =
            sides.get(1).map(|c| [c.wall_median, c.cpu_median, c.rss_peak as f64])
        {
            for side in &mut sides {
                side.wall_ratio = side.wall_median / wall;
                side.cpu_ratio = side.cpu_median / cpu;
                side.memory_ratio = side.rss_peak as f64 / memory;
            }
        }
        let kept = sides.first().is_some_and(Figures::keeps);
        let (stages, bound) = stages(ours)?;
        Ok(Self { compression: compression.to_owned(), sides, stages, bound, kept })
    }
}

impl Figures {
    fn of(name: String, costs: &[Cost]) -> Self {
        let sorted = |value: fn(&Cost) -> f64| {
            let mut all: Vec<f64> = costs.iter().map(value).collect();
            all.sort_by(f64::total_cmp);
            let median = all.get(all.len() / 2).copied().unwrap_or(f64::NAN);
            (all.first().copied().unwrap_or(f64::NAN), median)
        };
        let ((wall_min, wall_median), (cpu_min, cpu_median)) = (sorted(|c| c.wall), sorted(|c| c.cpu));
        Self {
            name,
            wall_min,
            wall_median,
            cpu_min,
            cpu_median,
            rss_peak: costs.iter().map(|c| c.memory.together).max().unwrap_or(0),
            hwm_peak: costs.iter().map(|c| c.memory.single).max().unwrap_or(0),
            entries: costs.first().map_or(0, |c| c.entries),
            wall_ratio: 1.0,
            cpu_ratio: 1.0,
            memory_ratio: 1.0,
        }
    }

    fn keeps(&self) -> bool {
        let holds = |most: Option<f64>, ratio: f64| most.is_none_or(|most| ratio <= most);
        holds(PROMISE.wall, self.wall_ratio)
            && holds(PROMISE.cpu, self.cpu_ratio)
            && holds(PROMISE.memory, self.memory_ratio)
    }
}

fn stages(ours: &[Cost]) -> Result<(Vec<Stage>, Bound)> {
    let mut rounds: Vec<&Cost> = ours.iter().collect();
    rounds.sort_by(|a, b| a.wall.total_cmp(&b.wall));
    let middle = rounds.get(rounds.len() / 2).ok_or("no rounds")?;
    let report = middle.report.as_ref().ok_or("sextant pull -o json printed nothing")?;
    let read = |name: &str| {
        let stage = &report["stages"][name];
        let number = |key: &str| stage[key].as_f64().ok_or(format!("stages.{name}.{key} is no number"));
        Ok::<_, String>(Stage {
            name: name.to_owned(),
            bytes: stage["bytes"].as_u64().unwrap_or(0),
            seconds: number("seconds")?,
            megabytes_per_second: number("megabytesPerSecond")?,
        })
    };
    let stages = BUSY.into_iter().chain(["durable"]).map(read).collect::<Result<Vec<_>, _>>()?;
    let cores = available_parallelism()?.get();
    let stages_cpu = stages.iter().take(BUSY.len()).map(|stage| stage.seconds).sum::<f64>();
    let wall = report["seconds"].as_f64().unwrap_or(f64::NAN);
    Ok((stages, Bound { cores, stages_cpu, wall_at_least: stages_cpu / cores as f64, wall }))
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "pull: {} entries, {:.0} MB unpacked, {} rounds each, interleaved, on {}",
            self.entries,
            self.unpacked_bytes as f64 / 1e6,
            self.rounds,
            self.on
        )?;
        self.variants.iter().try_for_each(|variant| write!(f, "\n{variant}"))?;
        let Promise { cpu, wall, memory } = self.promise;
        let said = [("wall", wall), ("cpu", cpu), ("memory", memory)];
        let said: Vec<_> =
            said.iter().filter_map(|(what, most)| Some(format!("{what} {} x", (*most)?))).collect();
        writeln!(f, "\npromised, of containerd's medians, at most: {}", said.join(", "))?;
        writeln!(f, "{}", if self.kept { "kept" } else { "NOT KEPT" })
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<18} {:>9} {:>7} {:>8} {:>7} {:>8} {:>8}   of containerd's wall, cpu, rss",
            self.compression, "wall s min", "median", "cpu s min", "median", "rss MiB", "largest"
        )?;
        for side in &self.sides {
            let mib = |kib: u64| kib as f64 / 1024.0;
            writeln!(
                f,
                "{:<18} {:>10.2} {:>7.2} {:>9.2} {:>7.2} {:>8.1} {:>8.1}   {:.3}  {:.3}  {:.3}",
                side.name,
                side.wall_min,
                side.wall_median,
                side.cpu_min,
                side.cpu_median,
                mib(side.rss_peak),
                mib(side.hwm_peak),
                side.wall_ratio,
                side.cpu_ratio,
                side.memory_ratio
            )?;
        }
        writeln!(f, "{:<18} {:>10} {:>10} {:>10}", "sextant's stages", "MB", "seconds", "MB/s")?;
        for stage in &self.stages {
            let megabytes = stage.bytes as f64 / 1e6;
            writeln!(
                f,
                "  {:<16} {megabytes:>10.1} {:>10.3} {:>10.0}",
                stage.name, stage.seconds, stage.megabytes_per_second
            )?;
        }
        let Bound { cores, stages_cpu, wall_at_least, wall } = self.bound;
        writeln!(
            f,
            "  bound: {stages_cpu:.2} s of CPU (without durable) on {cores} cores are {wall_at_least:.2} s; it took \
             {wall:.2} s, {:.0} % of {cores} cores' time",
            stages_cpu / (wall * cores as f64) * 100.0
        )
    }
}
