//! `test` and `soak`: the rings of tests, each timed, in two rows beside each other: those that have the machine, and those that run
//! elsewhere (`soak` has one row). One that fails does not stop the next.

mod ahead;
mod crash;
mod fuzz;
mod node;
mod power;
mod unit;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use testkit::Random;

pub(crate) use unit::{chosen as chosen_tests, read as read_test_line};

use crate::program::Product;
use crate::{Result, interop, packages, vm};

/// One ring of tests (ARCHITECTURE.md has the list).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Ring {
    /// `cargo test --workspace`: documentation, units, properties, kernel calls
    Unit,
    /// Kills between recorded effects and at random moments
    Crash,
    /// Debian's neighbours
    Interop,
    /// The kernel tests in QEMU, on cgroup v2
    Vm,
    /// Power cuts in QEMU
    Power,
    /// Parsers of bytes from outside, under libFuzzer
    Fuzz,
    /// Pods of a node that come and go for an hour, its memory and descriptors watched
    Cycles,
}

impl Ring {
    /// Whether it asks for the product ([`Extent::product`]).
    fn runs_product(self) -> bool {
        matches!(self, Self::Crash | Self::Interop | Self::Power)
    }

    /// Whether it brings a kernel of its own, or needs none. Such rings run one after the other beside those that have the machine, which take
    /// longer.
    fn is_elsewhere(self) -> bool {
        matches!(self, Self::Vm | Self::Power | Self::Fuzz)
    }
}

/// Those that every run has; an hour is for who soaks. `cargo test` waits for clocks and kernels most of its time: what it and the emulated
/// machine leave of the processors builds what later rings run ([`ahead`]).
const RINGS: &[Ring] = &[Ring::Unit, Ring::Vm, Ring::Crash, Ring::Interop, Ring::Power, Ring::Fuzz];

/// All rings at sample size.
#[derive(Debug, Args)]
pub(crate) struct Sample {
    /// Only these rings
    #[arg(long, value_delimiter = ',')]
    ring: Vec<Ring>,
    /// Only scenarios whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// The seed of an earlier run, to repeat its kills
    #[arg(long)]
    seed: Option<u64>,
    /// Do not install missing packages
    #[arg(long)]
    no_install: bool,
}

/// All rings at full size.
#[derive(Debug, Args)]
pub(crate) struct Soak {
    #[command(flatten)]
    sample: Sample,
    /// How many kills and cuts
    #[arg(long, default_value_t = 1000)]
    kills: u64,
    /// How many pods come and go in ring cycles
    #[arg(long, default_value_t = 5000)]
    cycles: u64,
    /// How long that takes at least
    #[arg(long, default_value_t = 60)]
    minutes: u64,
}

/// When the rings began: what takes long is looked for in what CI keeps of a run.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// How much of what a ring does.
#[derive(Debug, Clone)]
pub(crate) struct Extent {
    /// Kills, over all scenarios, and power cuts.
    pub(crate) kills: u64,
    pub(crate) cuts: u64,
    /// Pods of ring cycles, and how long they take at least.
    pub(crate) cycles: u64,
    pub(crate) minutes: u64,
    /// Everything, also what takes many minutes.
    pub(crate) full: bool,
    pub(crate) only: String,
    pub(crate) random: Random,
}

/// What came of a ring.
#[derive(Debug, Default)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// Names of what failed, with a line of why.
    pub(crate) failures: Vec<String>,
}

impl Extent {
    /// What is run: in full what is released, else what the unit ring runs, which is built then.
    pub(crate) fn product(&self) -> Result<Product> {
        if self.full { Product::released() } else { Product::tested() }
    }
}

impl Count {
    /// Adds what came of another.
    pub(crate) fn extend(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.failures.extend(other.failures);
    }

    /// Adds one test's outcome, and says it.
    pub(crate) fn add(&mut self, name: &str, outcome: Result<()>) {
        match outcome {
            Ok(()) => {
                println!("ok      {name} (at {} s)", BEGAN.elapsed().as_secs());
                self.passed += 1;
            }
            Err(e) => {
                println!("FAILED  {name} (at {} s): {e}", BEGAN.elapsed().as_secs());
                self.failed += 1;
                let first = e.to_string();
                self.failures.push(format!("{name}: {}", first.lines().next().unwrap_or_default()));
            }
        }
    }
}

pub(crate) fn test(sample: &Sample) -> Result<()> {
    run(sample, RINGS, |only, random| Extent {
        kills: 200,
        cuts: 6,
        cycles: 1000,
        minutes: 0,
        full: false,
        only,
        random,
    })
}

pub(crate) fn soak(soak: &Soak) -> Result<()> {
    let (kills, cycles, minutes) = (soak.kills, soak.cycles, soak.minutes);
    let rings = [RINGS, &[Ring::Cycles]].concat();
    run(&soak.sample, &rings, |only, random| Extent {
        kills,
        cuts: kills,
        cycles,
        minutes,
        full: true,
        only,
        random,
    })
}

fn run(sample: &Sample, all: &[Ring], extent: impl FnOnce(String, Random) -> Extent) -> Result<()> {
    LazyLock::force(&BEGAN);
    let rings = if sample.ring.is_empty() { all } else { &sample.ring };
    if !sample.no_install && rings.iter().any(|ring| *ring != Ring::Unit) {
        packages::install(packages::NEEDED)?;
    }
    let (random, seed) = sample.seed.map_or_else(Random::fresh, |seed| (Random::new(seed), seed));
    println!("seed {seed} (--seed {seed} repeats it)");
    // Each ring begins with the seed, whatever is run beside it or before it.
    let extent = extent(sample.only.clone(), random);
    let (beside, here): (Vec<Ring>, Vec<Ring>) =
        rings.iter().partition(|ring| ring.is_elsewhere() && !extent.full);
    let lane = {
        let (beside, extent) = (beside.clone(), extent.clone());
        let each = move |ring: &Ring| timed(*ring, || one(*ring, &mut extent.clone(), || ()));
        std::thread::spawn(move || beside.iter().map(each).collect())
    };
    let each = |ring| timed(ring, || one(ring, &mut extent.clone(), || ahead::start(rings, extent.full)));
    let mut table: Vec<_> = here.into_iter().map(each).collect();
    // What came of the others is told all the same.
    let panicked =
        |_| beside.iter().map(|ring| timed(*ring, || Err("the rings' thread has panicked".into()))).collect();
    let of_lane: Vec<_> = lane.join().unwrap_or_else(panicked);
    table.extend(of_lane);
    report(&table)
}

/// Runs a ring; one that cannot is one that failed.
fn timed(ring: Ring, run: impl FnOnce() -> Result<Count>) -> (Ring, Count, Duration) {
    let began = Instant::now();
    println!("\n==> ring {ring:?} (at {} s)", BEGAN.elapsed().as_secs());
    let count = run().unwrap_or_else(|e| {
        println!("FAILED  {ring:?}: {e}");
        Count { failed: 1, failures: vec![e.to_string()], ..Count::default() }
    });
    (ring, count, began.elapsed())
}

/// `built` is called by what has built the tests, before it runs them.
fn one(ring: Ring, extent: &mut Extent, built: impl FnOnce()) -> Result<Count> {
    match ring {
        Ring::Unit => unit::run(built),
        Ring::Crash => crash::run(extent),
        Ring::Interop => interop::run(extent),
        Ring::Vm => vm::ring(extent.full),
        Ring::Power => power::run(extent),
        Ring::Fuzz => fuzz::run(extent),
        Ring::Cycles => node::cycles(extent),
    }
}

fn report(table: &[(Ring, Count, Duration)]) -> Result<()> {
    println!("\n{:<10} {:>7} {:>7} {:>8}", "ring", "passed", "failed", "seconds");
    for (ring, count, time) in table {
        let name = format!("{ring:?}").to_lowercase();
        println!("{name:<10} {:>7} {:>7} {:>8.1}", count.passed, count.failed, time.as_secs_f64());
    }
    for failure in table.iter().flat_map(|(_, count, _)| &count.failures) {
        println!("failed: {failure}");
    }
    let passed: u64 = table.iter().map(|(_, count, _)| count.passed).sum();
    let failed: u64 = table.iter().map(|(_, count, _)| count.failed).sum();
    println!("{passed} passed, {failed} failed");
    if failed == 0 { Ok(()) } else { Err(format!("{failed} tests failed").into()) }
}
