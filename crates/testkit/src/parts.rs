//! Test programs whose tests run one after the other, wait for clocks and kernels most of that time, and have a network and mounts of
//! their own: several processes at once run a part of the tests each.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::process::Signal;

/// Says in how many parts tests are run; 1 where everything waits for one processor.
pub const PARTS: &str = "SEXTANT_TEST_PARTS";
/// Tells a process which part is its own: "0/3".
const PART: &str = "SEXTANT_TEST_PART";
/// What is made of two processors, when nobody says.
const USUAL: usize = 3;
/// Fewer tests are not worth the start of another process.
const EACH: usize = 4;

/// What there is to do for a process of a test program.
#[derive(Debug)]
pub enum Parts<T> {
    /// These tests are to be run here.
    Here(Vec<T>),
    /// All of them were run by other processes; what they said has been printed, and this came of it.
    Elsewhere(ExitCode),
}

/// Of the tests that were chosen by this program's arguments those of this process; the first one starts others, with the same
/// arguments.
///
/// # Panics
/// The program cannot be started again.
#[must_use]
pub fn parts<T>(tests: Vec<T>) -> Parts<T> {
    if let Some((mine, all)) = std::env::var(PART).ok().as_deref().and_then(part) {
        // Whoever ends the first one ends the others.
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        return Parts::Here(tests.into_iter().skip(mine).step_by(all).collect());
    }
    let asked = std::env::var(PARTS).ok().and_then(|number| number.parse().ok());
    let count = asked.unwrap_or(USUAL).min(tests.len() / EACH);
    if count < 2 { Parts::Here(tests) } else { Parts::Elsewhere(run(count)) }
}

/// "1/3".
fn part(said: &str) -> Option<(usize, usize)> {
    let (mine, all) = said.split_once('/')?;
    let (mine, all) = (mine.parse().ok()?, all.parse().ok()?);
    (mine < all).then_some((mine, all))
}

#[expect(clippy::unwrap_used, reason = "tests that cannot be run fail")]
fn run(count: usize) -> ExitCode {
    let start = |part: usize| {
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args(std::env::args_os().skip(1)).env(PART, format!("{part}/{count}"));
        program.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
    };
    // The thread that starts a process is the one whose end ends it: this one.
    let children: Vec<Child> = (0..count).map(start).collect();
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let readers: Vec<_> = children.into_iter().map(|child| scope.spawn(|| follow(child))).collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    let passed: u64 = outcomes.iter().map(|outcome| outcome.passed).sum();
    let failed: u64 = outcomes.iter().map(|outcome| outcome.failed).sum();
    let names: Vec<&str> = outcomes.iter().flat_map(|outcome| outcome.names.split_whitespace()).collect();
    println!("\n{passed} passed, {failed} failed {}", names.join(" "));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a part came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    passed: u64,
    failed: u64,
    names: String,
}

/// Prints which test a part begins, and all of what is said of it at once, when it has ended.
#[expect(clippy::unwrap_used, reason = "tests that cannot be run fail")]
fn follow(mut child: Child) -> Outcome {
    let mut outcome = None;
    let mut kept = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap_or_else(|e| format!("cannot read what it says: {e}"));
        if let Some(count) = counted(&line) {
            outcome = Some(count);
            continue;
        }
        let is_begin = line.starts_with("test ") && line.ends_with(" ...");
        let is_end = line.starts_with("test ") && !is_begin;
        kept.push_str(&line);
        kept.push('\n');
        if is_begin || is_end {
            print!("{kept}");
            kept.clear();
        }
    }
    if !kept.trim().is_empty() {
        print!("{kept}");
    }
    let status = child.wait().unwrap();
    match outcome {
        Some(outcome) if status.success() || outcome.failed > 0 => outcome,
        told => {
            println!(
                "a part of the tests ended with {status}, and {}",
                if told.is_some() { "none failed" } else { "no count" }
            );
            Outcome { failed: 1, ..told.unwrap_or_default() }
        }
    }
}

/// "3 passed, 1 failed some_test".
fn counted(line: &str) -> Option<Outcome> {
    let (passed, rest) = line.split_once(" passed, ")?;
    let (failed, names) = rest.split_once(" failed")?;
    Some(Outcome {
        passed: passed.parse().ok()?,
        failed: failed.parse().ok()?,
        names: names.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_one_of_some() {
        assert_eq!(part("1/3"), Some((1, 3)));
        assert_eq!(["3/3", "x/3", "1", ""].map(part), [None; 4]);
    }

    #[test]
    fn counts_are_read_with_what_failed() {
        let told = counted("3 passed, 2 failed one two").unwrap();
        assert_eq!(told, Outcome { passed: 3, failed: 2, names: "one two".to_owned() });
        assert_eq!(counted("48 passed, 0 failed ").unwrap(), Outcome { passed: 48, ..Outcome::default() });
        assert_eq!(counted("it passed, and 1 failed"), None);
    }

    #[test]
    fn a_part_that_dies_is_a_failure() {
        let child =
            |script: &str| Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        assert_eq!(follow(child("echo 2 passed, 0 failed")).passed, 2);
        assert_eq!(follow(child("echo test a ...; exit 3")).failed, 1);
        assert_eq!(follow(child("echo test a ...; echo test a ... ok")).failed, 1);
        assert_eq!(
            follow(child("echo 2 passed, 0 failed; exit 3")),
            Outcome { passed: 2, failed: 1, names: String::new() }
        );
        assert_eq!(follow(child("echo 1 passed, 1 failed a; exit 1")).names, "a");
    }
}
