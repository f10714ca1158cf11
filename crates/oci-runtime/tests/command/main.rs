//! `sextant-oci` driven as a program, on bundles of busybox: this test is the program, called by another name.
//!
//! Needs root and Debian's busybox-static and dbus. Run with a name to run the tests that contain it.

mod bench;
mod bus;
mod crash;
mod descriptors;
mod exec;
mod hooks;
mod lifecycle;
mod limits;
mod messages;
mod rootless;
mod systemd;
mod terminal;

use std::path::Path;
use std::process::ExitCode;

use bench::Bench;
use oci_runtime::command;

/// Ends a container's process that allocates between clone and exec, with code 99.
#[global_allocator]
static ALLOCATOR: kernel::allocation::Watched = kernel::allocation::Watched;

type Outcome = Result<(), Box<dyn std::error::Error>>;
type Test = (&'static str, fn(&Bench) -> Outcome);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let called = args.first().map_or("", String::as_str);
    if Path::new(called).file_name().is_some_and(|name| name == command::NAME) {
        kernel::allocation::watch();
        return command::main(std::env::args_os());
    }
    let filter = args.iter().skip(1).find(|a| !a.starts_with('-')).cloned().unwrap_or_default();
    let (mut passed, mut failed) = (0, 0);
    let all = [
        lifecycle::TESTS,
        exec::TESTS,
        hooks::TESTS,
        terminal::TESTS,
        descriptors::TESTS,
        limits::TESTS,
        messages::TESTS,
        rootless::TESTS,
        crash::TESTS,
        systemd::TESTS,
    ];
    for (name, test) in all.concat().iter().filter(|(name, _)| name.contains(&filter)) {
        let bench = Bench::new();
        match test(&bench).and_then(|()| bench.nothing_is_left()) {
            Ok(()) => {
                passed += 1;
                println!("test {name} ... ok");
            }
            Err(e) => {
                failed += 1;
                println!("test {name} ... FAILED: {e}");
            }
        }
    }
    println!("\n{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Fails with a message that is only made then.
fn check(holds: bool, message: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(message().into()) }
}
