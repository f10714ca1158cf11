//! What the mesh costs beside others' proxies: HTTP/1.1 with a route of two matches, gRPC, a relay of TCP, memory, and connections that rest.
//!
//! A client in a pod's network asks a backend over a link, through a proxy that stands where a sidecar stands: in the pod's network, on a processor of its own. Ours
//! is `sextant mesh` as it is installed, which captures what the client sends to a Service; peers are asked at an address of loopback, which spares them the
//! capture. Client and backend share the other processor. In each round each side is started anew; who begins changes.
//!
//! The path of two proxies with identities and mTLS between them is measured of a pair of Envoys.

mod backend;
mod cluster;
mod envoy;
mod load;
mod measure;
mod peers;
mod place;
#[path = "../../../../crates/sextant/tests/mesh/runtime.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    missing_docs,
    reason = "a runtime that has the pods it is told to have, as the tests have it"
)]
mod runtime;
mod table;

use std::path::PathBuf;

use super::{Bench, Meter, Report};
use crate::Result;
use crate::packages;
use crate::program::released;
use backend::Backend;
use cluster::Cluster;
use peers::{Envoy, Peer};
use place::{Place, Running, raise_limit};
use table::{Outcome, Rounds, Row, Side};

/// Connections that rest.
const IDLE: usize = 10_000;

/// Nothing of them is the product's: what ours is compared with.
const PACKAGES: &[&str] = &["haproxy", "libnginx-mod-stream", "nginx", "python3", "python3-pip"];

/// Fetches what it is compared with, while there is a network to fetch it over.
pub(super) fn ahead() -> Result<()> {
    packages::install(PACKAGES)?;
    if let Err(cause) = Envoy::fetch() {
        eprintln!("Envoy is left out, and what is promised beside it is not judged: {cause}");
    }
    Ok(())
}

pub(super) fn mesh(bench: &Bench) -> Result<Report> {
    let program = match &bench.program {
        Some(program) => program.clone(),
        None => released()?,
    };
    let envoy = Envoy::find();
    raise_limit()?;
    let meter = Meter::new()?;
    let place = Place::new()?;
    let backend = Backend::start(&place)?;
    let stand = Stand {
        cluster: Cluster::start(&program, &meter, &place)?,
        backend,
        envoy: envoy.ok(),
        place,
        meter,
    };
    let _beside = stand.meter.beside()?;
    let mut rounds = Rounds::default();
    let sides = stand.sides();
    for side in &sides {
        let told = |e: Box<dyn std::error::Error>| format!("{}, connections that rest: {e}", side.name());
        stand.rest(*side, &mut rounds).map_err(told)?;
    }
    for round in 0..usize::try_from(bench.rounds())? {
        // Who begins changes, so that nobody always finds the machine as the same one left it.
        let first = round % sides.len();
        for side in sides.iter().cycle().skip(first).take(sides.len()) {
            let told = |e: Box<dyn std::error::Error>| format!("{}, round {round}: {e}", side.name());
            stand.round(*side, &mut rounds).map_err(told)?;
        }
    }
    Report::of(&Outcome::new(&rounds, bench.rounds(), stand.envoy.is_some()))
}

/// All that rounds share.
struct Stand {
    cluster: Cluster,
    backend: Backend,
    /// Where it can be had.
    envoy: Option<Envoy>,
    place: Place,
    meter: Meter,
}

impl Stand {
    fn sides(&self) -> Vec<Side> {
        let all = [Side::Sextant, Side::Haproxy, Side::Nginx, Side::Envoy, Side::EnvoyPair];
        let is_here = |side: &Side| self.envoy.is_some() || !matches!(side, Side::Envoy | Side::EnvoyPair);
        all.into_iter().filter(is_here).collect()
    }

    /// Starts a side; it answers when this returns.
    fn start(&self, side: Side) -> Result<Running> {
        let peer = match side {
            Side::Sextant => return self.cluster.begin(&self.place, &self.meter),
            Side::SextantPair => {
                return Err("there are no two hops with identities in sextant mesh yet".into());
            }
            Side::Haproxy => Peer::Haproxy,
            Side::Nginx => Peer::Nginx,
            Side::Envoy => Peer::Envoy(self.envoy()?),
            Side::EnvoyPair => Peer::EnvoyPair(self.envoy()?),
        };
        peer.start(&self.place, &self.meter)
    }

    fn envoy(&self) -> Result<&Envoy> {
        self.envoy.as_ref().ok_or_else(|| "there is no Envoy".into())
    }

    /// What connections without a request cost a process that has just begun.
    fn rest(&self, side: Side, rounds: &mut Rounds) -> Result<()> {
        let running = self.start(side)?;
        let pids = running.pids();
        // What is made when it is first needed is not theirs.
        let held = self.place.ask(|| load::rest(running.at.http, 1))?;
        drop(held);
        let before = measure::memory(&pids)?;
        let held = self.place.ask(|| load::rest(running.at.http, IDLE))?;
        let after = measure::memory(&pids)?;
        drop(held);
        rounds.note(side, Row::Connection, (after - before) / IDLE as f64);
        running.end()
    }

    /// One side, once.
    fn round(&self, side: Side, rounds: &mut Rounds) -> Result<()> {
        let running = self.start(side)?;
        let (pids, at) = (running.pids(), running.at);
        rounds.note(side, Row::Begun, measure::memory(&pids)? / 1000.0);
        let http = self.place.ask(|| load::http(at.http, &pids))?;
        rounds.note(side, Row::HttpCpu, http.cpu);
        rounds.note(side, Row::HttpRate, http.rate);
        rounds.note(side, Row::HttpLate, self.place.ask(|| load::paced(at.http))?);
        if let Some(rpc) = at.rpc {
            let calls = self.place.ask(|| load::calls(rpc, &pids))?;
            rounds.note(side, Row::RpcCpu, calls.cpu);
            rounds.note(side, Row::RpcRate, calls.rate);
        }
        let received = || self.backend.received();
        let bulk = self.place.ask(|| load::bulk(at.bulk, &pids, &received))?;
        rounds.note(side, Row::BulkCpu, bulk.cpu);
        rounds.note(side, Row::BulkRate, bulk.rate);
        rounds.note(side, Row::Loaded, measure::memory(&pids)? / 1000.0);
        running.end()
    }
}

/// A file of a program, below a folder that goes with the run.
fn file(folder: &std::path::Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    Ok(path)
}
