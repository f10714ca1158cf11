//! Sextant as services of systemd, which must be the machine's first process: the units as they are shipped. `cargo xtask vm --systemd`
//! builds and runs it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "the tests of the node want more of it")]
#[path = "../node/machine.rs"]
mod machine;
mod node;
#[allow(dead_code, reason = "containers here do little")]
#[path = "../containers/probe.rs"]
mod probe;
mod unit;
mod up;
#[allow(dead_code, reason = "the tests of the node want more of it")]
#[path = "../node/wishes.rs"]
mod wishes;

use std::path::Path;
use std::process::ExitCode;

use testkit::bare::{self, Test};

const TESTS: &[Test<()>] = &[
    ("the_nodes_unit_as_shipped_with_pods_in_slices", node::unit),
    ("the_unit_of_a_whole_machine_as_shipped", up::unit),
];
/// Those of the boot after that.
const TESTS_AFTER_REBOOT: &[Test<()>] = &[("a_whole_machine_is_back_after_a_reboot", up::after_reboot)];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if words.first().is_some_and(|program| program.rsplit('/').next() == Some("probe")) {
        return probe::main(&words[1..]);
    }
    if !Path::new("/run/systemd/system").is_dir() {
        println!("systemd is not this machine's init: run cargo xtask vm --systemd\n\n0 passed, 1 failed");
        return ExitCode::FAILURE;
    }
    let tests = if Path::new(unit::AGAIN).exists() { TESTS_AFTER_REBOOT } else { TESTS };
    bare::run(&[tests], |_, test| test(&()))
}
