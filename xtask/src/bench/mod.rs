//! `bench NAME`: ours and a peer, interleaved in one run, judged by CPU time. New ones go into [`CONTESTS`].

mod contest;
mod contests;
mod meter;

use clap::{Args, ValueEnum};

pub(crate) use contest::{Contest, Promise, Side};
pub(crate) use meter::Meter;

use crate::Result;

/// A name, and what sets the contest up and runs it.
type Entry = (&'static str, fn(&Bench) -> Result<contest::Verdict>);

const CONTESTS: &[Entry] = &[("calibrate", contests::calibrate), ("run", contests::run)];

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
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(CONTESTS.iter().map(|(name, _)| *name)))]
    name: String,
    /// How many times each side runs
    #[arg(long, default_value_t = 20)]
    pub(crate) rounds: u32,
    /// How to print
    #[arg(short, default_value = "table")]
    output: Format,
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let (_, entry) =
        CONTESTS.iter().find(|(name, _)| *name == bench.name).ok_or("no contest of that name")?;
    let verdict = entry(bench)?;
    match bench.output {
        Format::Table => print!("{verdict}"),
        Format::Json => println!("{}", serde_json::to_string_pretty(&verdict)?),
    }
    Ok(())
}
