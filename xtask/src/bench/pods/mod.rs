//! Pods as a kubelet asks for them, by `sextant node` and by containerd with runc and the reference plugins.

pub(super) mod client;
mod side;
mod table;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{Bench, Meter, Report, median};
use crate::Result;
use crate::interop::Site;
use crate::packages;
use crate::program::laid_out;
use client::{Client, Pod};
use side::Side;
use table::{Cost, Full, Outcome, Round};

/// Pods of a round that come and go one after another.
const PODS: usize = 8;
/// Execs of a round.
const EXECS: usize = 10;
/// Pods of a full node, and how many of them are asked for at a time.
const FULL: usize = 50;
const AT_A_TIME: usize = 10;
/// How long a full node is watched doing nothing.
const IDLE: Duration = Duration::from_secs(10);
/// What may still go on after an answer counts as well: so long is it waited for.
const REST: Duration = Duration::from_millis(300);

pub(super) fn pods(bench: &Bench) -> Result<Report> {
    packages::install(packages::NEEDED)?;
    let site = Site::new()?;
    let bin = site.path("dist");
    laid_out(&bin)?;
    let image = format!("{}:latest", site.busybox()?);
    let pause = site.build(&site.path("busybox-root"), &["sleep", "1000000"], "pause")?;
    let sides = [Side::ours(&site, &bin)?, Side::peer(&site, &format!("{pause}:latest"))?];
    let meter = Meter::new()?;
    let (parent, logs) = (meter.parent(), site.path("logs"));
    let rig = Rig { meter: &meter, image: &image, parent: &parent, logs: &logs };
    Report::of(&contest(bench, &rig, &sides)?)
}

fn contest(bench: &Bench, rig: &Rig<'_>, sides: &[Side; 2]) -> Result<Outcome> {
    let mut rounds: [Vec<Round>; 2] = Default::default();
    let mut full: [Vec<Full>; 2] = Default::default();
    let turns = |round: usize| if round.is_multiple_of(2) { [0, 1] } else { [1, 0] };
    for round in 0..=bench.rounds() as usize {
        for which in turns(round) {
            let (Some(side), Some(rounds)) = (sides.get(which), rounds.get_mut(which)) else { continue };
            let cost = rig.round(side).map_err(|e| explained(side, round, &*e))?;
            // The first round pulls, makes bridges and tables, and fills caches.
            if round > 0 {
                rounds.push(cost);
            }
        }
    }
    for round in 0..(bench.rounds() as usize).div_ceil(3) {
        for which in turns(round) {
            let (Some(side), Some(full)) = (sides.get(which), full.get_mut(which)) else { continue };
            full.push(rig.full(side).map_err(|e| explained(side, round, &*e))?);
        }
    }
    let names = sides.each_ref().map(|side| side.name.clone());
    Outcome::new(names, &rounds, &full)
}

fn explained(side: &Side, round: usize, error: &dyn std::error::Error) -> String {
    format!("{}, round {round}: {error}\n{}", side.name, side.words())
}

/// What both sides have in common.
struct Rig<'a> {
    meter: &'a Meter,
    image: &'a str,
    parent: &'a str,
    logs: &'a Path,
}

impl Rig<'_> {
    fn connect(&self, side: &Side) -> Result<Client<'_>> {
        Client::connect(&side.socket, self.image, self.parent, self.logs)
    }

    /// A few pods one after another, from the daemon's start to its end.
    fn round(&self, side: &Side) -> Result<Round> {
        let before = self.meter.cpu()?;
        let daemon = side.start(self.meter)?;
        let client = self.connect(side)?;
        client.pull()?;
        std::thread::sleep(REST);
        let mut pods: Vec<Pod> = Vec::new();
        let up = self.each(PODS, |number| client.up(number).map(|pod| pods.push(pod)))?;
        let first = pods.first().ok_or("no pod came up")?;
        let exec = self.each(EXECS, |_| client.exec(first))?;
        let down = self.counted(PODS, || {
            let walls = pods.iter().map(|pod| timed(|| client.down(pod))).collect();
            side.settle(self.meter)?;
            walls
        })?;
        daemon.stop()?;
        self.end(side)?;
        Ok(Round { up, exec, down, whole: (self.meter.cpu()? - before).as_secs_f64() * 1e3 / PODS as f64 })
    }

    /// A full node: how fast it becomes one, what it holds then, and what it does with nothing to do.
    fn full(&self, side: &Side) -> Result<Full> {
        let daemon = side.start(self.meter)?;
        let client = self.connect(side)?;
        client.pull()?;
        std::thread::sleep(REST);
        let empty = pss(daemon.pid())?;
        let pods: Vec<std::sync::Mutex<Option<Pod>>> = (0..FULL).map(|_| Default::default()).collect();
        let slot = |number: usize| {
            let slot = pods.get(number).ok_or("there is no such pod")?;
            Ok::<_, &str>(slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
        };
        let up = self.counted(FULL, || {
            Ok(vec![self.together(side, |client, number| {
                *slot(number)? = Some(client.up(number)?);
                Ok(())
            })?])
        })?;
        std::thread::sleep(Duration::from_secs(3));
        let before = self.meter.cpu()?;
        std::thread::sleep(IDLE);
        let idle = (self.meter.cpu()? - before).as_secs_f64() * 1e3 / IDLE.as_secs_f64();
        let stats = (0..11)
            .map(|_| {
                timed(|| match client.stats()? {
                    FULL => Ok(()),
                    other => Err(format!("ListPodSandboxStats told of {other} pods").into()),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let (together, full) = (self.held()?, pss(daemon.pid())?);
        let down = self.counted(FULL, || {
            let wall = self.together(side, |client, number| {
                let pod = slot(number)?.take().ok_or("the pod is not up")?;
                client.down(&pod)
            })?;
            side.settle(self.meter)?;
            Ok(vec![wall])
        })?;
        daemon.stop()?;
        self.end(side)?;
        let per_pod = (together.saturating_sub(empty)) as f64 / FULL as f64;
        Ok(Full {
            up,
            down,
            per_pod,
            daemon_empty: empty as f64,
            daemon: full as f64,
            idle,
            stats: median(&stats),
        })
    }

    /// The deed, `count` times in a row.
    fn each(&self, count: usize, mut deed: impl FnMut(usize) -> Result<()>) -> Result<Cost> {
        self.counted(count, || (0..count).map(|number| timed(|| deed(number))).collect())
    }

    /// CPU time of a deed and of what it leaves to be done, a `count`th of it.
    fn counted(&self, count: usize, deed: impl FnOnce() -> Result<Vec<f64>>) -> Result<Cost> {
        let before = self.meter.cpu()?;
        let walls = deed()?;
        std::thread::sleep(REST);
        let cpu = (self.meter.cpu()? - before).as_secs_f64() * 1e3 / count as f64;
        Ok(Cost { cpu, wall: median(&walls) })
    }

    /// All pods of a full node, several at a time, each on a connection of its own; milliseconds until the last is done.
    fn together(&self, side: &Side, deed: impl Fn(&Client<'_>, usize) -> Result<()> + Sync) -> Result<f64> {
        let (next, began) = (AtomicUsize::new(0), Instant::now());
        let worker = || -> std::result::Result<(), String> {
            let client = self.connect(side).map_err(|e| e.to_string())?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= FULL {
                    return Ok(());
                }
                deed(&client, number).map_err(|e| e.to_string())?;
            }
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(worker)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().map_err(|_| "a thread panicked".to_owned())?)
        })?;
        Ok(began.elapsed().as_secs_f64() * 1e3)
    }

    /// Nothing runs any more, nothing is left.
    fn end(&self, side: &Side) -> Result<()> {
        side.settle(self.meter)?;
        let end = Instant::now() + Duration::from_secs(30);
        while !self.meter.processes()?.is_empty() {
            if Instant::now() > end {
                return Err("processes were left for 30 s".into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// KiB that the daemon and all shims hold; containers, pause among them, are in cgroups below and not counted.
    fn held(&self) -> Result<u64> {
        self.meter.processes()?.into_iter().map(pss).sum()
    }
}

fn timed(deed: impl FnOnce() -> Result<()>) -> Result<f64> {
    let began = Instant::now();
    deed()?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// A process's proportional share of memory, in KiB.
pub(super) fn pss(pid: u32) -> Result<u64> {
    let path = PathBuf::from(format!("/proc/{pid}/smaps_rollup"));
    let text = std::fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).ok_or("Pss is not told")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
