//! A pod's network: the chain bridge with host-local and masquerade, portmap, firewall. As programs against the
//! reference plugins, and in one process against bare netlink.

mod chain;
mod table;

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Bench, Meter, Report};
use crate::Result;
use crate::packages;
use crate::program::{built, cargo, quiet, small_plugins};
use chain::{Chain, Cost};
use table::{InProcess, Outcome, Programs};

/// Where Debian has the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";
/// A directory of newer ones, if there is one.
const NEWER: &str = "SEXTANT_CNI_REFERENCE";
/// How many containers are attached while one comes and goes.
const EXISTING: [u32; 2] = [0, 1000];

pub(super) fn cni(bench: &Bench) -> Result<Report> {
    packages::install(packages::NEEDED)?;
    packages::install(&["containernetworking-plugins", "iptables"])?;
    let program = small_plugins()?;
    cargo(["build", "--release", "--locked", "--package", "cni", "--example", "attach_cost"])?;
    let dir = tempfile::tempdir_in("/dev/shm")?;
    let plugins = dir.path().join("bin");
    std::fs::create_dir(&plugins)?;
    crate::dist::link_plugins(&program, &plugins)?;
    let programs = programs(bench, dir.path(), &plugins)?;
    let in_process = EXISTING
        .iter()
        .map(|existing| in_process(bench, dir.path(), *existing))
        .collect::<Result<Vec<_>>>()?;
    Report::of(&Outcome::new(bench.rounds(), programs, in_process))
}

/// Every side's chain in turn, each plugin a process of its own under one meter.
fn programs(bench: &Bench, dir: &Path, plugins: &Path) -> Result<Vec<Programs>> {
    let mut sides =
        vec![("sextant".to_owned(), plugins.to_owned()), (reference()?, PathBuf::from(REFERENCE))];
    sides.extend(std::env::var_os(NEWER).map(|newer| ("reference, newer".to_owned(), PathBuf::from(newer))));
    let meter = Meter::new()?;
    let chains: Vec<Chain> =
        sides.into_iter().enumerate().map(|(i, (name, plugins))| Chain::new(name, plugins, dir, i)).collect();
    let mut costs: Vec<Vec<(Cost, Cost)>> = chains.iter().map(|_| Vec::new()).collect();
    for round in 0..=bench.rounds() as usize {
        for turn in 0..chains.len() {
            let which = (turn + round) % chains.len();
            let (Some(chain), Some(costs)) = (chains.get(which), costs.get_mut(which)) else { continue };
            let cost =
                chain.round(&meter, round).map_err(|e| format!("{}, round {round}: {e}", chain.name()))?;
            // The first round makes bridges and tables, and fills caches.
            if round > 0 {
                costs.push(cost);
            }
        }
    }
    Ok(chains.iter().zip(costs).map(|(chain, costs)| Programs::new(chain.name(), &costs)).collect())
}

/// The version that the reference plugins say of themselves.
fn reference() -> Result<String> {
    let mut bridge = std::process::Command::new(Path::new(REFERENCE).join("bridge"));
    let said = bridge.env_remove("CNI_COMMAND").output()?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let version = said.lines().next().and_then(|line| line.rsplit(' ').next()).unwrap_or_default();
    Ok(format!("reference {version}"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    add: table::Figures,
    bare_add: table::Figures,
    del: table::Figures,
    bare_del: table::Figures,
    bare_flush: table::Figures,
}

fn in_process(bench: &Bench, dir: &Path, existing: u32) -> Result<InProcess> {
    let mut worker = std::process::Command::new(built("release")?.join("examples/attach_cost"));
    worker.args([bench.rounds().to_string(), existing.to_string(), "json".into()]).env("TMPDIR", dir);
    let Measured { add, bare_add, del, bare_del, bare_flush } = serde_json::from_str(&quiet(&mut worker)?)?;
    Ok(InProcess { existing, add, bare_add, del, bare_del, bare_flush })
}
