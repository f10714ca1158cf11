//! `sextant agent` beside `sextant api` and `sextant node`: what pods that are bound to its node come to, and nothing left after them.
//! The image holds one program: this test itself (it is static), called `probe`.
//!
//! Needs root. Everything happens in a network and a mount namespace of the test's own. Run with names to run the tests that contain one of them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admits;
mod claims;
mod cloud;
mod drivers;
mod ends;
mod fills;
mod forgets;
mod given;
#[path = "../containers/probe.rs"]
#[allow(dead_code, reason = "others ask it for more")]
mod probe;
mod resize;
mod rig;
mod runs;
mod stand;
#[path = "../stands/mod.rs"]
mod stands;
mod statics;
mod stats;
mod streams;
mod waits;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::process::ExitCode;

use rig::Rig;

type Run = for<'r> fn(&'r Rig) -> Pin<Box<dyn Future<Output = ()> + 'r>>;
type Test = (&'static str, Run);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if args.first().and_then(|program| program.rsplit('/').next()) == Some("probe") {
        return probe::main(&args[1..]);
    }
    let filters: Vec<&String> = args.iter().skip(1).filter(|word| !word.starts_with('-')).collect();
    let tests = [
        runs::TESTS,
        admits::TESTS,
        waits::TESTS,
        streams::TESTS,
        ends::TESTS,
        forgets::TESTS,
        claims::TESTS,
        cloud::TESTS,
        drivers::TESTS,
        resize::TESTS,
        fills::TESTS,
        given::TESTS,
        stats::TESTS,
        statics::TESTS,
    ]
    .concat();
    let chosen = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(*filter));
    let tests: Vec<Test> = tests.into_iter().filter(|(name, _)| chosen(name)).collect();
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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rig = runtime.block_on(Rig::start());
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, test) in &tests {
        println!("test {name} ...");
        let began = std::time::Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(test(&rig))));
        let left = catch_unwind(AssertUnwindSafe(|| runtime.block_on(rig.left())));
        let left = left.unwrap_or_else(|_| "what is left cannot be told".into());
        if ended.is_ok() && left.is_empty() {
            passed += 1;
            println!("{:.1} s\ntest {name} ... ok", began.elapsed().as_secs_f64());
        } else {
            println!("{}\nleft: {left}\ntest {name} ... FAILED", rig.said());
            failed.push(*name);
        }
    }
    println!("\n{passed} passed, {} failed {}", failed.len(), failed.join(" "));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
