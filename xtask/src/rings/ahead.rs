//! What the rings after the first one run, built while the tests of the first run: those wait for clocks and kernels most of their
//! time, and what is built has only the time that nobody else wants.

use std::process::Command;
use std::thread::JoinHandle;

use super::{Ring, fuzz};
use crate::program::{cargo_command, output, patient};

/// Builds that go on, one after the other; dropping it waits for them.
pub(super) struct Ahead(Option<JoinHandle<()>>);

impl Ahead {
    /// Begins with what these rings want.
    pub(super) fn start(rings: &[Ring]) -> Self {
        let mut builds = Vec::new();
        if rings.iter().any(|ring| ring.wants_release()) {
            builds.push(release());
        }
        if rings.contains(&Ring::Fuzz) {
            builds.push(fuzz::building());
        }
        // What does not build here is built again by the ring that wants it, and told there.
        Self(Some(std::thread::spawn(move || {
            for build in builds {
                let _ = output(patient(&build).arg("--quiet"));
            }
        })))
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        let _ = self.0.take().map(JoinHandle::join);
    }
}

/// What builds the product as it is released.
pub(super) fn release() -> Command {
    let mut cargo = cargo_command();
    cargo.args(["build", "--release", "--locked"]);
    cargo
}
