//! A command whose descendants are all counted, in whichever cgroup they are put: a program of python3's is their
//! subreaper and adds up what the kernel says that each used (`RUSAGE_CHILDREN`, in microseconds).
//!
//! A cgroup alone would miss containers, which their runtimes put into cgroups of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::Result;

const PROGRAM: &str = include_str!("reaper.py");

/// Seconds of one command and all that came of it.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Reaped {
    /// Until the command itself ended.
    pub(super) wall: f64,
    /// User and system, of everything that ever ended.
    pub(super) cpu: f64,
    /// What the counting itself took.
    pub(super) own: f64,
}

/// Where results are written.
pub(super) struct Reaper(tempfile::TempDir);

impl Reaper {
    pub(super) fn new() -> Result<Self> {
        Ok(Self(tempfile::Builder::new().prefix("sextant-bench-").tempdir()?))
    }

    /// The command that runs `command` and counts.
    pub(super) fn around(&self, command: &Command) -> Command {
        let mut around = Command::new("/usr/bin/python3");
        // -S -E -s: nothing of the machine's Python set-up.
        around.args(["-S", "-E", "-s", "-c", PROGRAM]).arg(self.result());
        around.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => around.env(name, value),
                None => around.env_remove(name),
            };
        }
        around
    }

    /// What the last command cost.
    pub(super) fn read(&self) -> Result<Reaped> {
        read(&self.result())
    }

    fn result(&self) -> PathBuf {
        self.0.path().join("result.json")
    }
}

fn read(path: &Path) -> Result<Reaped> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}
