//! `bench oci-run`: whole commands of OCI runtimes on one bundle, ours, crun and runc in turn, and the bare bound.

mod bundle;
mod side;
mod table;

use super::{Bench, Report};
use crate::Result;
use crate::packages;
use bundle::Bundle;
use side::{Cost, Deed, Side};
use table::Outcome;

/// All sides in all deeds, in turn. Debian's crun refuses v1 hierarchies with a v2 one beside them: `alone` gives all of
/// them v1 alone.
pub(super) fn oci_run(bench: &Bench) -> Result<Report> {
    packages::install(packages::NEEDED)?;
    packages::install(&["python3", "time"])?;
    let bundle = Bundle::new()?;
    let sides = Side::all(&bundle)?;
    let mut costs: Vec<Vec<Vec<Cost>>> =
        Deed::ALL.iter().map(|_| sides.iter().map(|_| Vec::new()).collect()).collect();
    for side in &sides {
        side.begin(&bundle)?;
    }
    let measured = (0..=bench.rounds() as usize).try_for_each(|round| -> Result<()> {
        for (deed, costs) in Deed::ALL.iter().zip(&mut costs) {
            for turn in 0..sides.len() {
                let which = (turn + round) % sides.len();
                let (Some(side), Some(costs)) = (sides.get(which), costs.get_mut(which)) else { continue };
                let Some(commands) = side.commands(*deed, &bundle) else { continue };
                let cost = bundle.measure(&commands).map_err(|e| format!("{}, {deed:?}: {e}", side.name))?;
                // The first round fills caches.
                if round > 0 {
                    costs.push(cost);
                }
            }
        }
        Ok(())
    });
    let memory = sides.iter().map(|side| side.memory(&bundle)).collect::<Result<Vec<_>>>();
    for side in &sides {
        side.end(&bundle);
    }
    measured?;
    Report::of(&Outcome::new(&sides, bench.rounds(), &costs, &memory?)?)
}
