//! Test programs without the usual harness (`harness = false`): containers are cloned from a process with one thread,
//! which that harness is not, and some programs are the command they drive. What they print is counted like its words.

use std::error::Error;
use std::process::ExitCode;

/// What a test comes to.
pub type Outcome = Result<(), Box<dyn Error>>;

/// A test: its name, and what it does with the bench that is made for it.
pub type Test<Bench> = (&'static str, fn(&Bench) -> Outcome);

/// Runs the tests on this thread, one after the other, through `each`, which is given name and body and makes the
/// bench. A first argument that is no option runs only those whose names contain it.
pub fn run<Bench>(
    groups: &[&[Test<Bench>]],
    each: impl Fn(&'static str, fn(&Bench) -> Outcome) -> Outcome,
) -> ExitCode {
    let filter = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    let chosen = groups.iter().copied().flatten().filter(|(name, _)| name.contains(&filter));
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in chosen {
        match each(name, *test) {
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
///
/// # Errors
/// The message, if it does not hold.
pub fn check(holds: bool, message: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(message().into()) }
}
