//! `sextant-oci` driven as a program, on bundles of busybox: this test is the program, called by another name.
//!
//! Needs root and Debian's busybox-static and dbus. Run with a name to run the tests that contain it.

mod apparmor;
mod bench;
mod bus;
mod crash;
mod descriptors;
mod exec;
mod hooks;
mod lifecycle;
mod limits;
mod messages;
mod mounts;
mod rootless;
mod systemd;
mod terminal;

use std::path::Path;
use std::process::ExitCode;

use bench::Bench;
use oci_runtime::command;
use testkit::bare::{self, Outcome, check};

/// Ends a container's process that allocates between clone and exec, with code 99.
#[global_allocator]
static ALLOCATOR: kernel::allocation::Watched = kernel::allocation::Watched;

type Test = bare::Test<Bench>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let called = args.first().map_or("", String::as_str);
    if Path::new(called).file_name().and_then(|name| name.to_str()).is_some_and(command::is_name) {
        kernel::allocation::watch();
        return command::main(std::env::args_os());
    }
    let all = [
        lifecycle::TESTS,
        exec::TESTS,
        hooks::TESTS,
        terminal::TESTS,
        descriptors::TESTS,
        limits::TESTS,
        messages::TESTS,
        apparmor::TESTS,
        mounts::TESTS,
        rootless::TESTS,
        crash::TESTS,
        systemd::TESTS,
    ];
    bare::run(&all, |_, test| {
        let bench = Bench::new();
        test(&bench).and_then(|()| bench.nothing_is_left())
    })
}
