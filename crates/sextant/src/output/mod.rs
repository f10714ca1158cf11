//! How results look: tables for people, JSON for programs, and the words for sizes and times.

pub(crate) mod progress;
mod table;
mod units;

pub(crate) use table::Table;
pub(crate) use units::{ago, bytes, parse_bytes, since, timestamp};

use std::fmt::Display;
use std::io::{self, Write};

use serde_json::Value;

/// Prints JSON the way people can read it too.
pub(crate) fn json(value: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)
}

/// Prints a line about something that was done. Whether anybody reads it is nothing to what is to be done after it.
pub(crate) fn line(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Says on standard error what is wrong, for people. Whether anybody reads it is nothing to what is to be done after it.
pub(crate) fn complain(text: impl Display) {
    let _ = writeln!(io::stderr(), "sextant: {text}");
}

/// The part of an id that people use.
pub(crate) fn short(id: &str) -> &str {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    hex.get(..12).unwrap_or(hex)
}
