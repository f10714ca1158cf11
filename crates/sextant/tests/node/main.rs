//! `sextant node` as a kubelet meets it: the real program behind its socket, real pods, and nothing left after each test.
//! The image holds one program: this test itself (it is static), called `probe`.
//!
//! Needs root. Everything happens in a network and a mount namespace of the test's own. Run with names to run the
//! tests that contain one of them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;
mod beside;
mod cli;
mod containers;
mod cycles;
mod events;
mod exec;
mod gate;
mod handlers;
mod inside;
mod kills;
mod leaving;
mod logs;
mod lost;
mod machine;
mod pods;
#[path = "../containers/probe.rs"]
mod probe;
mod restart;
mod rpcs;
mod stats;
mod updates;
mod volumes;
mod wishes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use bench::Bench;

type Test = (&'static str, fn(&Bench));

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.first().and_then(|program| program.rsplit('/').next()) {
        Some("probe") => return inside::main(&args[1..]),
        Some("gate") => return gate::plugin(),
        _ => {}
    }
    let filters: Vec<&String> = args.iter().skip(1).filter(|word| !word.starts_with('-')).collect();
    let chosen = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(*filter));
    let groups: &[&[Test]] = &[
        rpcs::TESTS,
        pods::TESTS,
        containers::TESTS,
        exec::TESTS,
        logs::TESTS,
        stats::TESTS,
        events::TESTS,
        updates::TESTS,
        restart::TESTS,
        leaving::TESTS,
        handlers::TESTS,
        cli::TESTS,
        lost::TESTS,
        beside::TESTS,
        volumes::TESTS,
        kills::TESTS,
        cycles::TESTS,
    ];
    let tests: Vec<Test> = groups.concat().into_iter().filter(|(name, _)| chosen(name)).collect();
    if args.iter().any(|a| a == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    assert!(rustix::process::geteuid().is_root(), "these tests need root");
    std::panic::set_hook(Box::new(|panic| println!("{panic}")));
    let tests = match testkit::parts(tests) {
        testkit::Parts::Here(tests) => tests,
        testkit::Parts::Elsewhere(outcome) => return outcome,
    };
    testkit::own_namespaces();
    let bench = Bench::new();
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, test) in &tests {
        println!("test {name} ...");
        let began = std::time::Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(|| test(&bench)));
        // A node that has ended by itself is no reason not to run the other tests.
        let left = catch_unwind(AssertUnwindSafe(|| bench.left()));
        let left = left.unwrap_or_else(|_| "what is left cannot be told\n".into());
        if ended.is_ok() && left.is_empty() {
            passed += 1;
            println!("{:.1} s\ntest {name} ... ok", began.elapsed().as_secs_f64());
        } else {
            failed.push(*name);
            println!("the node said: {}\nleft: {left}\ntest {name} ... FAILED", bench.said());
        }
    }
    if let Err(error) = bench.end() {
        println!("test the_instance_can_be_removed ... FAILED: {error}");
        failed.push("the_instance_can_be_removed");
    }
    println!("\n{passed} passed, {} failed {}", failed.len(), failed.join(" "));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
