//! What runs inside: what the container commands' probe does, and a writer that counts.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use crate::probe;

pub(crate) fn main(words: &[String]) -> ExitCode {
    match words {
        [act] if act == "count" => count(),
        words => probe::main(words),
    }
}

/// Writes numbered lines for ever, some hundred a second, each with one call: a line that is missing, doubled or split
/// was lost by whoever keeps the log.
fn count() -> ExitCode {
    let mut out = std::io::stdout();
    for number in 1_u64.. {
        if out.write_all(format!("line {number}\n").as_bytes()).is_err() {
            return ExitCode::FAILURE;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    ExitCode::SUCCESS
}
