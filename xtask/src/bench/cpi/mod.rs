//! Clouds: how long it takes until a large cluster is as its cloud wants it, and what is asked for on the way, of the provider and of the
//! API server, beside what must be asked for.
//!
//! Three times: the controllers come to a cluster whose nodes and services nobody has seen; they are started again where nothing is to
//! be done; and a node joins. The provider is this process, behind a socket. It has its share of the
//! processors beside them; what it needs of them counts for nobody.

mod audit;
mod load;
mod provider;
mod seen;
mod site;
mod table;

use super::{Bench, Meter, Report};
use crate::Result;
use crate::program::released;
use site::Site;
use table::Outcome;

pub(super) fn cpi(bench: &Bench) -> Result<Report> {
    let program = match &bench.program {
        Some(program) => program.clone(),
        None => released()?,
    };
    let meter = Meter::new()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let rounds = runtime.block_on(async {
        let mut rounds = Vec::new();
        for round in 0..bench.rounds() {
            let told = |e: Box<dyn std::error::Error>| format!("round {round}: {e}");
            let mut site = Site::start(&program, &meter).await.map_err(told)?;
            rounds.push(load::round(&mut site, &meter).await.map_err(told)?);
        }
        Ok::<_, Box<dyn std::error::Error>>(rounds)
    })?;
    Report::of(&Outcome::new(&rounds))
}
