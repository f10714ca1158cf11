//! What the mesh costs beside others' proxies: HTTP/1.1 with a route of two matches, gRPC, a relay of TCP, memory, and connections that rest.
//!
//! A client in a pod's network asks a backend over a link, through a proxy that stands where a sidecar stands: in the pod's network, on a processor of its own. Ours
//! is `sextant mesh` as it is installed, which captures what the client sends to a Service; peers are asked at an address of loopback, which spares them the
//! capture. Requests of HTTP/1.1 are measured once more where nobody is spared it: the client asks the Service's address of peers, too, and is led to them as
//! sidecars' clients are (`redirect`). Both are judged. Client and backend share the other processor. In each round each side is started anew; who begins changes.
//!
//! The path of two proxies with identities, mTLS and a policy of requests between them is measured of two `sextant mesh`, each in a node's network of
//! its own, with a control plane that signs for them, and of a pair of Envoys. Two relays that do nothing but encrypt and decrypt are the floor: what
//! carrying bytes over it costs in user space at least, but for a copy of each record that they make. All of a path has the one processor. What goes
//! over the link is looked at.

mod backend;
mod cluster;
mod envoy;
mod load;
mod measure;
mod peers;
mod place;
mod redirect;
#[path = "../../../../crates/sextant/tests/mesh/runtime.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    missing_docs,
    reason = "a runtime that has the pods it is told to have, as the tests have it"
)]
mod runtime;
mod table;
mod wire;

use std::path::PathBuf;

use super::{Bench, Meter, Report};
use crate::Result;
use crate::packages;
use crate::program::released;
use backend::Backend;
use cluster::Cluster;
use load::Cost;
use peers::{Envoy, Peer};
use place::{Place, Running, raise_limit};
use redirect::Redirect;
use table::{Outcome, Rounds, Row, Side};
use wire::Wire;

/// Connections that rest.
const IDLE: usize = 10_000;
/// Requests, and bytes, that are looked at on their way.
const LOOKED_AT: (usize, usize) = (20, 1 << 20);

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
    let place = Place::new(&meter)?;
    let backend = Backend::start(&place)?;
    let stand = Stand {
        cluster: Cluster::start(&program, &meter, &place)?,
        backend,
        envoy: envoy.ok(),
        place,
        meter,
    };
    let mut rounds = Rounds::default();
    let sides = stand.sides();
    for side in sides.iter().filter(|side| side.is_proxy()) {
        let told = |what: &str, e: Box<dyn std::error::Error>| format!("{}, {what}: {e}", side.name());
        stand.look(*side, &mut rounds).map_err(|e| told("the wire", e))?;
        stand.rest(*side, &mut rounds).map_err(|e| told("connections that rest", e))?;
    }
    for round in 0..usize::try_from(bench.rounds())? {
        // Who begins changes, so that nobody always finds the machine as the same one left it.
        let first = round % sides.len();
        for side in sides.iter().cycle().skip(first).take(sides.len()) {
            let told = |e: Box<dyn std::error::Error>| format!("{}, round {round}: {e}", side.name());
            stand.round(*side, &mut rounds).map_err(told)?;
        }
    }
    let has_envoy = [Side::Envoy, Side::EnvoyPair].iter().all(|side| sides.contains(side));
    Report::of(&Outcome::new(&rounds, bench.rounds(), has_envoy))
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
    /// Who is measured: all that are here. That an Envoy is here is not yet that it runs.
    fn sides(&self) -> Vec<Side> {
        let is_here = |side: &Side| {
            if !matches!(side, Side::Envoy | Side::EnvoyPair) {
                return true;
            }
            let begun = self.envoy.is_some().then(|| self.start(*side).and_then(Running::end));
            if let Some(Err(cause)) = &begun {
                eprintln!(
                    "{} is left out, and what is promised beside it is not judged: {cause}",
                    side.name()
                );
            }
            matches!(begun, Some(Ok(())))
        };
        Side::ALL.into_iter().filter(is_here).collect()
    }

    /// Starts a side; it answers when this returns. To start a program takes this process out of where it is measured beside: it is put there then.
    fn start(&self, side: Side) -> Result<Running> {
        let peer = match side {
            Side::Sextant => return self.cluster.begin(&self.place, &self.meter),
            Side::SextantPair => return self.cluster.begin_pair(&self.place, &self.meter),
            Side::Haproxy => Peer::Haproxy,
            Side::Nginx => Peer::Nginx,
            Side::Envoy => Peer::Envoy(self.envoy()?),
            Side::EnvoyPair => Peer::EnvoyPair(self.envoy()?),
            Side::Relays => Peer::Relays,
        };
        let tables = redirect::beside(self.place.pod())?;
        if !tables.is_empty() {
            eprintln!("{} is measured with what tables in its pod cost: {}", side.name(), tables.join(", "));
        }
        peer.start(&self.place, &self.meter, &self.backend)
    }

    fn envoy(&self) -> Result<&Envoy> {
        self.envoy.as_ref().ok_or_else(|| "there is no Envoy".into())
    }

    /// What can be read on the wire. Without a second proxy all of it can be, or nobody has looked.
    fn look(&self, side: Side, rounds: &mut Rounds) -> Result<()> {
        let running = self.start(side)?;
        let _beside = self.meter.beside()?;
        if side.is_pair() && !self.place.ask(|| load::is_refused(running.at.http))? {
            return Err("what its policy allows nobody is not refused".into());
        }
        let (requests, bytes) = LOOKED_AT;
        let (wire, before) = (Wire::new(&self.place)?, self.backend.received());
        drop(self.place.ask(|| load::rest(running.at.http, requests))?);
        self.place.ask(|| load::bytes(running.at.bulk, bytes))?;
        self.place.until(&mut [], "the bytes come", || self.backend.received() - before >= bytes as u64)?;
        let seen = wire.seen()?;
        if seen.frames == 0 || (seen.plain == 0 && !side.is_pair()) {
            return Err(format!("of {} frames {} could be read", seen.frames, seen.plain).into());
        }
        rounds.note(side, Row::Readable, seen.plain as f64);
        running.end()
    }

    /// What connections without a request cost a process that has just begun.
    fn rest(&self, side: Side, rounds: &mut Rounds) -> Result<()> {
        let running = self.start(side)?;
        let _beside = self.meter.beside()?;
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
        let _beside = self.meter.beside()?;
        let (pids, at) = (running.pids(), running.at);
        if !side.is_proxy() {
            self.bulk(side, &running, rounds)?;
            return running.end();
        }
        rounds.note(side, Row::Begun, measure::memory(&pids)? / 1000.0);
        let http = self.place.ask(|| load::http(at.http, &pids))?;
        rounds.note(side, Row::HttpCpu, http.cpu);
        rounds.note(side, Row::HttpUser, http.user);
        rounds.note(side, Row::HttpRate, http.rate);
        rounds.note(side, Row::HttpLate, self.place.ask(|| load::paced(at.http))?);
        if side.is_sidecar() {
            rounds.note(side, Row::CapturedCpu, self.captured(side, &running)?.cpu);
        }
        if let Some(rpc) = at.rpc {
            let calls = self.place.ask(|| load::calls(rpc, &pids))?;
            rounds.note(side, Row::RpcCpu, calls.cpu);
            rounds.note(side, Row::RpcRate, calls.rate);
        }
        self.bulk(side, &running, rounds)?;
        rounds.note(side, Row::Loaded, measure::memory(&pids)? / 1000.0);
        running.end()
    }

    /// What requests cost that are asked at a Service's address, where ours is asked anyhow, and where a peer's client is led to it.
    fn captured(&self, side: Side, running: &Running) -> Result<Cost> {
        let (pids, service) = (running.pids(), Cluster::at()?.http);
        let _led = match side {
            Side::Sextant => None,
            _ => Some(Redirect::begin(self.place.pod(), service, running.at.http.port())?),
        };
        // Without what leads there nobody answers at that address.
        self.place.until(&mut [], "it answers at a Service's address", || {
            self.place.asks(|| load::answers(service))
        })?;
        self.place.ask(|| load::http(service, &pids))
    }

    /// What bytes cost.
    fn bulk(&self, side: Side, running: &Running, rounds: &mut Rounds) -> Result<()> {
        let (pids, at) = (running.pids(), running.at.bulk);
        let received = || self.backend.received();
        let bulk = self.place.ask(|| load::bulk(at, &pids, &received))?;
        rounds.note(side, Row::BulkCpu, bulk.cpu);
        rounds.note(side, Row::BulkRate, bulk.rate);
        Ok(())
    }
}

/// A file of a program, below a folder that goes with the run.
fn file(folder: &std::path::Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    Ok(path)
}
