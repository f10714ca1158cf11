//! What the rings after the first one run, built while the tests of the first run: those wait for clocks and kernels most of their
//! time, and what is built has only the time that nobody else wants.

use std::process::Command;

use super::{Ring, fuzz};
use crate::program::{cargo_command, output, patient};

/// Begins with what these rings want. Who wants something that is not there yet waits for it by cargo's own locks.
pub(super) fn start(rings: &[Ring], full: bool) {
    let mut builds = Vec::new();
    if full {
        builds.push(release());
    }
    if rings.contains(&Ring::Fuzz) {
        builds.push(fuzz::building(full));
    }
    // What does not build here is built again by the ring that wants it, and told there.
    std::thread::spawn(move || {
        for build in builds {
            let _ = output(patient(&build).arg("--quiet"));
        }
    });
}

/// What builds the product as it is released.
fn release() -> Command {
    let mut cargo = cargo_command();
    cargo.args(["build", "--release", "--locked"]);
    cargo
}
