//! `sextant up` as its user has it: from the command to a node that is ready, from a pod's object to the pod that is ready (beside the
//! same pod asked for by CRI alone), many pods at once, and what everything holds and does that nobody asks.

mod machine;
mod table;

use std::time::{Duration, Instant};

use super::pods::client::Client;
use super::{Bench, Meter, Report};
use crate::Result;
use crate::interop::Site;
use crate::packages;
use crate::program::laid_out;
use machine::{Machine, Place};
use table::{Idle, Outcome, Rest, Round};

/// Pods of a round that come one after another, each beside one that is asked for by CRI.
const PODS: i32 = 6;
/// Pods that are asked for at once.
const MANY: i32 = 20;
/// The first of the host's ports that pods publish which are asked for by objects; by CRI they have lower ones.
const PORT: i32 = 30_000;
/// How long everything is left alone before it is looked at, and how long it is looked at.
const SETTLE: Duration = Duration::from_secs(12);
const IDLE: Duration = Duration::from_secs(10);

pub(super) fn up(bench: &Bench) -> Result<Report> {
    packages::install(packages::NEEDED)?;
    let meter = Meter::new()?;
    let site = Site::new()?;
    meter.takes(site.dir())?;
    let image = format!("{}:latest", site.busybox()?);
    let program = laid_out(&site.path("dist"))?;
    let place = Place { program, image, logs: site.path("logs"), parent: meter.parent() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut rounds = Vec::new();
    for number in 0..bench.rounds() {
        let round = round(&runtime, &place, &meter).map_err(|e| format!("round {number}: {e}"))?;
        rounds.push(round);
    }
    Report::of(&Outcome::new(&rounds)?)
}

/// From an empty folder to an empty folder.
fn round(runtime: &tokio::runtime::Runtime, place: &Place, meter: &Meter) -> Result<Round> {
    let machine = Machine::start(runtime, place, meter, &[])?;
    let beside = meter.beside()?;
    machine.command(&["pull", "--quiet", &place.image])?;
    let cri = Client::connect(&machine.socket(), &place.image, &place.parent, &place.logs)?;
    // The first pod has the network made, and files read that later ones find in memory.
    runtime.block_on(machine.pods("first", PORT..PORT + 1))?;
    let (mut by_object, mut by_cri) = (Vec::new(), Vec::new());
    for number in 0..PODS {
        let port = PORT + 1 + number;
        by_object.push(runtime.block_on(machine.pods(&format!("single-{number}"), port..port + 1))?);
        let began = Instant::now();
        let pod = cri.up(usize::try_from(number)?)?;
        by_cri.push(began.elapsed().as_secs_f64() * 1e3);
        cri.down(&pod)?;
    }
    let many = runtime.block_on(machine.pods("many", PORT + 1000..PORT + 1000 + MANY))?;
    let full = machine.memory()?;
    runtime.block_on(machine.delete_pods())?;
    let idle = Idle { rest: rest(&machine, meter)?, full };
    let ready = machine.ready;
    machine.down()?;
    drop(beside);
    // The same with a mesh that has no members yet.
    let machine = Machine::start(runtime, place, meter, &["--mesh"])?;
    let meshed = rest(&machine, meter)?;
    machine.down()?;
    Ok(Round { ready, by_object, by_cri, many, idle, meshed })
}

/// What a machine holds and takes that nobody asks any more.
fn rest(machine: &Machine<'_>, meter: &Meter) -> Result<Rest> {
    std::thread::sleep(SETTLE);
    // No command runs in between: it would be counted. Threads that end are.
    let (before, began) = (meter.cpu()?, Instant::now());
    std::thread::sleep(IDLE);
    let cpu = (meter.cpu()? - before).as_secs_f64() * 1e3 / began.elapsed().as_secs_f64();
    Ok(Rest { memory: machine.memory()?, cpu })
}
