//! Services: from the write of a change to the first packet that goes where it says, with a thousand of them.
//!
//! What is measured is all of the way: the API server writes the change down and tells it, `sextant services` plans it and changes the
//! kernel's maps, and a client that tries all the time comes to the new endpoint.

mod load;
mod site;
mod table;

use super::{Bench, Meter, Report};
use crate::Result;
use crate::program::released;
use site::Site;
use table::Outcome;

pub(super) fn services(bench: &Bench) -> Result<Report> {
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
            let site = Site::start(&program, &meter).await.map_err(told)?;
            rounds.push(load::round(&site, &meter).await.map_err(told)?);
            site.end()?;
        }
        Ok::<_, Box<dyn std::error::Error>>(rounds)
    })?;
    Report::of(&Outcome::new(&rounds))
}
