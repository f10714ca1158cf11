//! What came of it.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::super::median;

/// Of a call of `image` or `btrfs`: at most so many milliseconds above what the kernel asks for.
const ABOVE: f64 = 2.0;
/// KiB that the driver has resident at most.
const MEMORY: f64 = 8.0 * 1024.0;
/// Eight callers do at least so many times the work of one, where the processors are the limit.
const CALLERS: f64 = 1.6;
/// Through a volume at least so much of what its kind of file system takes on the disk itself.
const THROUGHPUT: f64 = 0.97;

/// Rates of writing, and the writer's CPU time for what it writes at once.
pub(super) const THROUGH: &str = "MB/s through a volume";
pub(super) const HALF: &str = "MB/s, half of a volume anew";
pub(super) const KIND: &str = "MB/s of the same kind on the disk";
pub(super) const POOL: &str = "MB/s of the pool's file system";
pub(super) const CPU_THROUGH: &str = "CPU ms of 256 MiB through a volume";
pub(super) const CPU_OF_KIND: &str = "CPU ms of the same kind on the disk";

const CALLS: [&str; 11] = [
    "CreateVolume",
    "NodeStageVolume",
    "NodePublishVolume",
    "NodeGetVolumeStats",
    "CreateSnapshot",
    "CreateVolume, of a snapshot",
    "NodeUnpublishVolume",
    "NodeUnstageVolume",
    "CreateVolume, of a volume",
    "DeleteSnapshot",
    "DeleteVolume",
];

/// What was measured of one side.
#[derive(Debug, Serialize)]
pub(super) struct Rounds {
    name: String,
    /// The program that was measured; empty for a floor.
    pub(super) program: String,
    /// Milliseconds and rates.
    values: BTreeMap<&'static str, Vec<f64>>,
    /// Milliseconds of CPU time for a volume's life, everything it started included; one a round.
    pub(super) cpu: Vec<f64>,
    /// KiB; one a round.
    pub(super) memory: Vec<f64>,
}

impl Rounds {
    pub(super) fn new(name: String) -> Self {
        Self { name, program: String::new(), values: BTreeMap::new(), cpu: Vec::new(), memory: Vec::new() }
    }

    pub(super) fn add(&mut self, what: &'static str, value: f64) {
        self.values.entry(what).or_default().push(value);
    }

    fn median(&self, what: &str) -> f64 {
        self.values.get(what).map_or(f64::NAN, |values| median(values))
    }
}

/// Something that was promised of ours.
#[derive(Debug, Serialize)]
struct Kept {
    what: String,
    value: f64,
    bound: f64,
    at_most: bool,
}

impl Kept {
    fn is(&self) -> bool {
        if self.at_most { self.value <= self.bound } else { self.value >= self.bound }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    rounds: u32,
    sides: Vec<Rounds>,
    floor: Rounds,
    of_btrfs: Rounds,
    promises: Vec<Kept>,
    kept: bool,
}

impl Outcome {
    pub(super) fn new(rounds: u32, sides: Vec<Rounds>, floor: Rounds, of_btrfs: Rounds) -> Self {
        let mut promises = Vec::new();
        for side in &sides {
            let mut promise = |what: &str, value, bound, at_most| {
                promises.push(Kept { what: format!("{}, {what}", side.name), value, bound, at_most });
            };
            let own = match side.name.as_str() {
                "image" => Some(&floor),
                "btrfs" => Some(&of_btrfs),
                _ => None,
            };
            if let Some(floor) = own {
                for call in CALLS {
                    let above = side.median(call) - floor.median(call);
                    promise(&format!("{call}, ms above the floor"), above, ABOVE, true);
                }
                let share = side.median(THROUGH) / side.median(KIND);
                promise(
                    "writing, to the same kind of file system on the disk itself",
                    share,
                    THROUGHPUT,
                    false,
                );
            }
            if side.name != "host-path" {
                let callers = side.median("volumes per second, eight callers")
                    / side.median("volumes per second, one caller");
                promise("eight callers, to one", callers, CALLERS, false);
                promise("KiB at most", side.memory.iter().copied().fold(0.0, f64::max), MEMORY, true);
            }
        }
        let kept = promises.iter().all(Kept::is);
        Self { rounds, sides, floor, of_btrfs, promises, kept }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "a volume of 64 MiB with 4 MiB in it; {} rounds of 20, medians in ms", self.rounds)?;
        if self.sides.iter().any(|side| side.name == "host-path") {
            writeln!(f, "host-path waits for no disk: what it acknowledges may be gone after a power cut")?;
        }
        write!(f, "{:<36}", "")?;
        let columns: Vec<&Rounds> = self.sides.iter().chain([&self.floor, &self.of_btrfs]).collect();
        columns.iter().try_for_each(|side| write!(f, " {:>10}", side.name))?;
        writeln!(f)?;
        let rates = ["volumes per second, one caller", "volumes per second, eight callers"];
        let writing = [THROUGH, HALF, KIND, POOL, CPU_THROUGH, CPU_OF_KIND];
        for what in CALLS.into_iter().chain(rates).chain(writing) {
            write!(f, "{what:<36}")?;
            columns.iter().try_for_each(|side| number(f, side.median(what)))?;
            writeln!(f)?;
        }
        for (what, of) in [
            ("CPU ms of a volume's life", (|side| &side.cpu) as fn(&Rounds) -> &Vec<f64>),
            ("KiB at most", |side| &side.memory),
        ] {
            write!(f, "{what:<36}")?;
            columns.iter().try_for_each(|side| number(f, median(of(side))))?;
            writeln!(f)?;
        }
        let programs: Vec<_> =
            self.sides.iter().map(|side| format!("{} {}", side.name, side.program)).collect();
        writeln!(f, "programs: {}", programs.join(", "))?;
        for promise in &self.promises {
            let (word, kept) = (
                if promise.at_most { "at most" } else { "at least" },
                if promise.is() { "kept" } else { "NOT KEPT" },
            );
            writeln!(f, "{:>9.2}  {word} {:<7} {kept:<9} {}", promise.value, promise.bound, promise.what)?;
        }
        writeln!(f, "{}", if self.kept { "kept" } else { "NOT KEPT" })
    }
}

fn number(f: &mut fmt::Formatter<'_>, value: f64) -> fmt::Result {
    if value.is_nan() { write!(f, " {:>10}", "-") } else { write!(f, " {value:>10.2}") }
}
