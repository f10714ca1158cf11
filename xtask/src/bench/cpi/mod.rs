//! Clouds: how long it takes until a large cluster is as its cloud wants it, and what is asked for on the way, of the provider and of the
//! API server, beside what must be asked for.
//!
//! Three times: the controllers come to a cluster whose nodes and services nobody has seen; they are started again where nothing is to
//! be done; and a node joins. The provider is this process, behind a socket. It has its share of the
//! processors beside them; what it needs of them counts for nobody.
//!
//! And on machines without a cloud (`metal`), by a client in another network namespace: how long a new Service takes to be reached, and
//! how long one is not reached whose node is cut off. These are promised, and judged.

mod audit;
mod lan;
mod load;
mod metal;
mod provider;
mod seen;
mod site;
mod table;

use std::path::Path;

use super::{Bench, Meter, Report};
use crate::Result;
use crate::program::released;
use load::Round;
use metal::Metal;
use site::Site;
use table::Outcome;

pub(super) fn cpi(bench: &Bench) -> Result<Report> {
    let program = match &bench.program {
        Some(program) => program.clone(),
        None => released()?,
    };
    let meter = Meter::new()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (rounds, metal) = runtime.block_on(rounds(&program, &meter, bench.rounds()))?;
    Report::of(&Outcome::new(&rounds, &metal))
}

async fn rounds(program: &Path, meter: &Meter, count: u32) -> Result<(Vec<Round>, Vec<Metal>)> {
    let (mut rounds, mut metals) = (Vec::new(), Vec::new());
    for round in 1..=count {
        let told = |e: Box<dyn std::error::Error>| format!("round {round}: {e}");
        // It takes minutes: who waits sees that it goes on.
        eprintln!("cpi: round {round} of {count}, metal");
        metals.push(metal::round(program, meter).await.map_err(told)?);
        eprintln!("cpi: round {round} of {count}, {} nodes and {} services", load::NODES, load::SERVICES);
        let mut site = Site::start(program, meter).await.map_err(told)?;
        rounds.push(load::round(&mut site, meter).await.map_err(told)?);
    }
    Ok((rounds, metals))
}
