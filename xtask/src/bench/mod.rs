//! `bench NAME`: ours and a peer, interleaved in one run, judged by CPU time. New ones go into [`CONTESTS`].

mod alone;
pub(crate) mod api;
mod cni;
mod contest;
mod contests;
mod cpi;
mod csi;
pub(crate) mod disk;
mod ended;
mod guard;
mod mesh;
mod meter;
mod oci;
mod pods;
mod pull;
mod reaped;
mod report;
mod run;
mod services;
mod up;

use std::path::PathBuf;
use std::process::Command;

use clap::{Args, ValueEnum};

pub(crate) use contest::{Contest, Promise, Side};
pub(crate) use meter::Meter;

use crate::Result;
use crate::program::{built, call, cargo};
use report::Report;

/// The profile that what measures is built with.
pub(crate) const CLIENTS: &str = "clients";

/// A contest.
struct Entry {
    name: &'static str,
    /// How often each side runs if nothing else is said.
    rounds: u32,
    /// In a network, a /run and a /dev/shm of its own.
    alone: bool,
    /// Fetches what is not there once it is alone.
    ahead: fn() -> Result<()>,
    /// Sets it up and runs it.
    run: fn(&Bench) -> Result<Report>,
}

const CONTESTS: &[Entry] = &[
    Entry { name: "api", rounds: 3, alone: true, ahead: nothing, run: api::api },
    Entry { name: "calibrate", rounds: 20, alone: false, ahead: nothing, run: contests::calibrate },
    Entry { name: "cni", rounds: 30, alone: true, ahead: nothing, run: cni::cni },
    Entry { name: "cpi", rounds: 3, alone: true, ahead: nothing, run: cpi::cpi },
    Entry { name: "csi", rounds: 3, alone: true, ahead: nothing, run: csi::csi },
    Entry { name: "mesh", rounds: 3, alone: true, ahead: mesh::ahead, run: mesh::mesh },
    Entry { name: "oci-run", rounds: 30, alone: true, ahead: nothing, run: oci::oci_run },
    Entry { name: "pods", rounds: 6, alone: true, ahead: nothing, run: pods::pods },
    Entry { name: "pull", rounds: 3, alone: true, ahead: nothing, run: pull::pull },
    Entry { name: "run", rounds: 20, alone: true, ahead: nothing, run: run::run },
    Entry { name: "services", rounds: 3, alone: true, ahead: nothing, run: services::services },
    Entry { name: "up", rounds: 3, alone: true, ahead: nothing, run: up::up },
];

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Ours and a peer, interleaved in one run.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Which contest (`calibrate` runs one program against itself: its ratios should be near 1)
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(CONTESTS.iter().map(|entry| entry.name)))]
    name: String,
    /// How many times each side runs (default: 20, of api, cpi, csi, mesh, pull, services and up 3, of pods 6, of cni and oci-run 30)
    #[arg(long)]
    rounds: Option<u32>,
    /// pull: the directory that stores are made in (default: a new ext4 on a loop device; /dev/shm for memory)
    #[arg(long, value_name = "DIR")]
    pub(crate) on: Option<PathBuf>,
    /// api: a folder with kube-apiserver and etcd, to be measured beside ours; csi: one with hostpathplugin
    #[arg(long, value_name = "DIR")]
    pub(crate) peer: Option<PathBuf>,
    /// api, cpi, csi, mesh, services: the program to be measured (default: `sextant`, built for it)
    #[arg(long, value_name = "FILE")]
    pub(crate) program: Option<PathBuf>,
    /// How to print
    #[arg(short, default_value = "table")]
    output: Format,
}

impl Bench {
    fn entry(&self) -> Result<&'static Entry> {
        Ok(CONTESTS.iter().find(|entry| entry.name == self.name).ok_or("no contest of that name")?)
    }

    /// How many times each side runs.
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.or(self.entry().ok().map(|entry| entry.rounds)).unwrap_or(1).max(1)
    }
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let entry = bench.entry()?;
    if cfg!(debug_assertions) {
        return optimised();
    }
    if entry.alone && !alone::is() {
        (entry.ahead)()?;
        return alone::again();
    }
    let report = (entry.run)(bench)?;
    match bench.output {
        Format::Table => print!("{}", report.table),
        Format::Json => println!("{}", serde_json::to_string_pretty(&report.json)?),
    }
    Ok(())
}

fn nothing() -> Result<()> {
    Ok(())
}

/// Runs this command once more as an optimised program: its clients are what servers are measured with.
fn optimised() -> Result<()> {
    cargo(["build", "--quiet", "--profile", CLIENTS, "--locked", "--package", "xtask"])?;
    let mut again = Command::new(built(CLIENTS)?.join("xtask"));
    again.args(std::env::args_os().skip(1));
    // Who cuts this one means all of it.
    kernel::command::dies_with_thread(&mut again);
    call(&mut again)
}

/// The middle one, or what is between the two in the middle.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    f64::midpoint(at(sorted.len() / 2), at(sorted.len().saturating_sub(1) / 2))
}
