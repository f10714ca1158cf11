//! What the rings after the first one run, built while the tests of the first run: those wait for clocks and kernels most of their
//! time, and what is built has only the time that nobody else wants.

use std::process::Command;
use std::thread::JoinHandle;

use super::{Ring, fuzz};
use crate::interop;
use crate::program::{cargo_command, output, patient};

/// A build of the product that goes on, and others behind it; dropping it waits for the product.
pub(super) struct Ahead(Option<JoinHandle<()>>);

impl Ahead {
    /// Begins with what these rings want.
    pub(super) fn start(rings: &[Ring]) -> Self {
        let (mut first, mut then) = (Vec::new(), Vec::new());
        if rings.iter().any(|ring| ring.wants_release()) {
            first.push(release());
        }
        if rings.contains(&Ring::Interop) {
            then.push(interop::plugins());
        }
        if rings.contains(&Ring::Fuzz) {
            then.push(fuzz::building());
        }
        // Who wants what is built behind it waits for that by cargo's own locks.
        Self(Some(std::thread::spawn(move || {
            build(&first);
            std::thread::spawn(move || build(&then));
        })))
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        let _ = self.0.take().map(JoinHandle::join);
    }
}

/// What does not build here is built again by the ring that wants it, and told there.
fn build(commands: &[Command]) {
    for command in commands {
        let _ = output(patient(command).arg("--quiet"));
    }
}

/// What builds the product as it is released.
pub(super) fn release() -> Command {
    let mut cargo = cargo_command();
    cargo.args(["build", "--release", "--locked"]);
    cargo
}
