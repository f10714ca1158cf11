//! `cargo test --workspace`, counted.

use std::io::{BufRead as _, BufReader};
use std::num::NonZeroUsize;
use std::process::{Command, Stdio};

use super::Count;
use crate::Result;
use crate::program::{cargo, cargo_command, shown};

/// How many tests of a program run at once; Rust's test program takes it for one for each processor.
const THREADS: &str = "RUST_TEST_THREADS";
/// For each processor: most tests wait for clocks, kernels and other programs.
const AT_ONCE: usize = 2;

/// Runs them; `built` is called when all of them are built.
pub(super) fn run(built: impl FnOnce()) -> Result<Count> {
    let test = ["test", "--workspace", "--locked", "--no-fail-fast"];
    cargo(test.iter().chain(&["--no-run"]))?;
    built();
    let mut command = cargo_command();
    command.args(test);
    if std::env::var_os(THREADS).is_none() {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        command.env(THREADS, (AT_ONCE * processors).to_string());
    }
    counted(command)
}

/// Runs test programs, passes on what is not a test that passed, and counts.
fn counted(mut command: Command) -> Result<Count> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut count = Count::default();
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines() {
            let line = line?;
            read(&line, &mut count);
            if !line.ends_with("... ok") && !line.is_empty() && !line.starts_with("running ") {
                println!("{line}");
            }
        }
    }
    let status = child.wait()?;
    if !status.success() && count.failed == 0 {
        // It did not come to a count: something does not build, or died.
        count.failed = 1;
        count.failures.push(format!("{}: {status}", shown(&command)));
    }
    Ok(count)
}

/// The same, of tests that were chosen by name: where none has such a name any more, nothing was tried.
pub(crate) fn chosen(command: Command) -> Result<Count> {
    let words = shown(&command);
    let count = counted(command)?;
    if count.passed + count.failed == 0 {
        Err(format!("{words}: there is no such test").into())
    } else {
        Ok(count)
    }
}

/// Takes the counts and names from the lines of Rust's test program, or of one of our own ("3 passed, 1 failed").
pub(crate) fn read(line: &str, count: &mut Count) {
    if let Some((name, _)) = line.strip_prefix("test ").and_then(|test| test.split_once(" ... FAILED")) {
        count.failures.push(name.to_owned());
        return;
    }
    let result = line.strip_prefix("test result: ").unwrap_or(line);
    let number = |word: &str| {
        let part = result.split(['.', ';', ',']).find_map(|part| part.trim().strip_suffix(word))?;
        part.trim().parse::<u64>().ok()
    };
    if let (Some(passed), Some(failed)) = (number("passed"), number("failed")) {
        count.passed += passed;
        count.failed += failed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_test_has_is_told() {
        let said = |words: &str| {
            let mut command = Command::new("echo");
            command.arg(format!("test result: ok. {words}"));
            chosen(command)
        };
        assert_eq!(said("1 passed; 0 failed; 0 ignored").unwrap().passed, 1);
        let told = said("0 passed; 0 failed; 3 filtered out").unwrap_err().to_string();
        assert!(told.starts_with("echo ") && told.ends_with("there is no such test"), "{told}");
    }

    #[test]
    fn counts_are_read_from_the_test_program() {
        let mut count = Count::default();
        read(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s",
            &mut count,
        );
        read("test a::b ... FAILED", &mut count);
        read("2 passed, 0 failed", &mut count);
        read("it passed", &mut count);
        read("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out", &mut count);
        assert_eq!((count.passed, count.failed), (15, 2));
        assert_eq!(count.failures, ["a::b"]);
    }
}
