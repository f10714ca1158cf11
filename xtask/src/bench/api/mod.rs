//! The API server: what a machine of 1,000 pods and 100 watchers asks of it, beside what etcd needs for the puts alone, and
//! beside Kubernetes' own server where there is one (`--peer`: a folder with `kube-apiserver` and `etcd`).

pub(crate) mod client;
mod load;
pub(crate) mod side;
pub(crate) mod table;

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Bench, Meter, Report};
use crate::Result;
use crate::packages;
use crate::program::released;
use side::{Running, Side};
use table::{Idle, Outcome, Rounds};

/// How long a server is left alone before it is looked at, and how long it is looked at.
const SETTLE: Duration = Duration::from_secs(12);
const IDLE: Duration = Duration::from_secs(5);

pub(super) fn api(bench: &Bench) -> Result<Report> {
    packages::install(&["etcd-server", "openssl"])?;
    let program = match &bench.program {
        Some(program) => program.clone(),
        None => released()?,
    };
    let mut sides = vec![Side::Ours(program)];
    sides.extend(bench.peer.as_ref().map(|folder| Side::Peer(folder.clone())));
    let meter = Meter::new()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    Report::of(&runtime.block_on(contest(bench, &meter, &sides))?)
}

async fn contest(bench: &Bench, meter: &Meter, sides: &[Side]) -> Result<Outcome> {
    let mut all: Vec<Rounds> = sides.iter().map(|side| Rounds::new(side.name())).collect();
    let mut puts = Vec::new();
    for round in 0..bench.rounds() {
        let mut turns: Vec<_> = sides.iter().zip(&mut all).collect();
        if round % 2 == 1 {
            turns.reverse();
        }
        for (side, rounds) in turns {
            let told = |e: Box<dyn std::error::Error>| format!("{}, round {round}: {e}", side.name());
            one(side, meter, rounds).await.map_err(told)?;
        }
        let place = meter.folder()?;
        let etcd = side::start_etcd(Path::new("etcd"), meter, place.path()).await?;
        puts.push(load::puts(&etcd.endpoint, meter).await?);
    }
    for (side, rounds) in sides.iter().zip(&mut all) {
        let place = meter.folder()?;
        let server = side.start(meter, place.path()).await?;
        rounds.idle = Some(idle(&server, meter).await?);
    }
    Outcome::new(all, &puts)
}

/// A new server, and a round of it.
async fn one(side: &Side, meter: &Meter, rounds: &mut Rounds) -> Result<()> {
    // On a disk: what is kept is to be kept.
    let place = meter.folder()?;
    let server = side.start(meter, place.path()).await?;
    rounds.ready.push(server.ready);
    let watch = meter.watch();
    let round = load::round(&server.endpoint, meter).await;
    let memory = watch.stop().together;
    rounds.add(round?, memory, server.resident());
    Ok(())
}

/// What a server holds and does that nobody asks.
async fn idle(server: &Running, meter: &Meter) -> Result<Idle> {
    tokio::time::sleep(SETTLE).await;
    let (before, began) = (meter.cpu()?, Instant::now());
    tokio::time::sleep(IDLE).await;
    let cpu = (meter.cpu()? - before).as_secs_f64() * 1e3 / began.elapsed().as_secs_f64();
    Ok(Idle { resident: server.resident() as f64, cpu })
}
