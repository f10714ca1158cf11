//! The container commands as a person and a script run them: the real program, real containers, and nothing left after
//! each test. The images hold one program: this test itself (it is static), called `probe`.
//!
//! Needs root. Everything happens in a network and a mount namespace of the test's own. Run with a name to run the
//! tests that contain it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;
mod exec;
mod lifecycle;
mod logs;
mod mistakes;
mod network;
mod options;
mod probe;
mod pty;
mod restart;
mod running;
mod streams;
mod terminal;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use bench::Bench;

type Test = (&'static str, fn(&Bench));

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if args.first().is_some_and(|program| program.rsplit('/').next() == Some("probe")) {
        return probe::main(&args[1..]);
    }
    let filter = args.iter().skip(1).find(|a| !a.starts_with('-')).cloned().unwrap_or_default();
    let groups: [&[Test]; 10] = [
        streams::TESTS,
        options::TESTS,
        lifecycle::TESTS,
        restart::TESTS,
        logs::TESTS,
        exec::TESTS,
        terminal::TESTS,
        network::TESTS,
        mistakes::TESTS,
        bench::TESTS,
    ];
    if args.iter().any(|a| a == "--list") {
        groups.concat().iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    assert!(rustix::process::geteuid().is_root(), "these tests need root");
    std::panic::set_hook(Box::new(|panic| println!("{panic}")));
    testkit::own_namespaces();
    let bench = Bench::new();
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, test) in groups.concat().iter().filter(|(name, _)| name.contains(&filter)) {
        println!("test {name} ...");
        let ended = catch_unwind(AssertUnwindSafe(|| test(&bench)));
        let left = bench.left();
        if ended.is_ok() && left.is_empty() {
            passed += 1;
            println!("test {name} ... ok");
        } else {
            failed.push(*name);
            println!("test {name} ... FAILED {left}");
        }
    }
    println!("\n{passed} passed, {} failed {}", failed.len(), failed.join(" "));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
