//! Crash points: where the crash harness may have the process die (see the crate's documentation).

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Error;

/// Steps are counted for the process, not for the ledger handle: a process may open several.
static STEP: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, Default)]
pub(crate) struct Crash {
    at: Option<u64>,
    count: Option<PathBuf>,
}

impl Crash {
    pub(crate) fn from_env() -> Result<Self, Error> {
        let at = match std::env::var("SEXTANT_CRASH_AT") {
            Ok(value) if !value.is_empty() => {
                Some(value.parse().map_err(|_| Error::ReadCrashStep { value })?)
            }
            _ => None,
        };
        Ok(Self { at, count: std::env::var_os("SEXTANT_CRASH_COUNT").map(PathBuf::from) })
    }

    /// One step; dies here if this is the one.
    pub(crate) fn step(&self, name: &str) {
        if self.reached(name) {
            die();
        }
    }

    /// One step at which more than the kill must happen first.
    pub(crate) fn reached(&self, name: &str) -> bool {
        if self.at.is_none() && self.count.is_none() {
            return false;
        }
        let step = STEP.fetch_add(1, Ordering::SeqCst);
        if let Some(path) = &self.count {
            let line = format!("{} {step} {name}\n", std::process::id());
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            // A harness that gave an unwritable file finds it empty.
            let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
        }
        self.at == Some(step)
    }
}

/// Ends the process as `kill -9` does: no destructor, no handler, no flush.
pub(crate) fn die() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::abort()
}
