//! What is compared with what.

use std::process::Command;

use super::{Bench, Contest, Promise, Report, Side};
use crate::Result;

pub(super) const NOTHING: &dyn Fn() -> Result<()> = &|| Ok(());
const AT_ONCE: &dyn Fn() -> Result<bool> = &|| Ok(true);

/// One program against itself: how much of a difference is the machine's.
pub(super) fn calibrate(bench: &Bench) -> Result<Report> {
    let side = |name: &str| Side {
        name: name.to_owned(),
        prepare: NOTHING,
        command: &|_| Command::new("true"),
        settled: AT_ONCE,
        clean: NOTHING,
    };
    let contest = Contest {
        name: "calibrate",
        ours: side("true"),
        peer: side("true again"),
        promise: Promise::default(),
    };
    Report::of(&contest.run(bench.rounds())?)
}
