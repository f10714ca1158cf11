//! All targets in one program, so that one is linked: `fuzz --target=NAME`, and libFuzzer's arguments.
#![no_main]

mod alone;
mod fuzz_targets;

use std::process::exit;
use std::sync::OnceLock;

use fuzz_targets::{Run, TARGETS};

/// libFuzzer leaves to others what begins with two dashes.
const CHOICE: &str = "--target=";

static CHOSEN: OnceLock<Run> = OnceLock::new();

/// The target that is asked for; without one there is nothing to do.
fn chosen() -> Run {
    let name = std::env::args().find_map(|argument| argument.strip_prefix(CHOICE).map(str::to_owned));
    let run = TARGETS.iter().find(|(target, _)| name.as_deref() == Some(target)).map(|(_, run)| *run);
    run.unwrap_or_else(|| {
        let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        eprintln!("cannot fuzz {}: say {CHOICE}NAME, one of {}", name.unwrap_or_default(), names.join(", "));
        exit(2)
    })
}

libfuzzer_sys::fuzz_target!(init: { CHOSEN.get_or_init(chosen); }, |bytes: &[u8]| {
    CHOSEN.get_or_init(chosen)(bytes);
});
