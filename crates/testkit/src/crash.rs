//! Kills a command, lets another recover, and compares the machine with what it was.
//!
//! Two ways: at each ledger step in turn ([`Crash::at_steps`], with the ledger's `SEXTANT_CRASH_AT`: between any two
//! recorded effects there is a step, so nothing is left to luck), and at random moments ([`Crash::at_moments`]).

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::program::shown;
use crate::{Error, Machine, Random, Result, Snapshot};

/// One command to kill, with what surrounds it.
pub struct Crash<'a> {
    /// For messages: "run", "stop".
    pub name: &'a str,
    /// What to watch.
    pub machine: Machine,
    /// Brings about what the command needs (a container to stop). `recover` takes that back too: the machine is
    /// compared with what it was before.
    pub prepare: &'a dyn Fn() -> Result<()>,
    /// The command that is killed.
    pub victim: &'a dyn Fn() -> Command,
    /// What a user does next: any other command of the program, which converges at its start; and what checks that
    /// what should have survived did.
    pub recover: &'a dyn Fn() -> Result<()>,
    /// How long the kernel may take to be done with what was removed (seconds, for network namespaces).
    pub settle: Duration,
    /// No run takes longer than this; one that does is killed and is an error.
    pub limit: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Toll {
    /// Commands that were killed (the others had ended before).
    pub killed: u64,
    /// Commands in all.
    pub runs: u64,
    /// Kills after which it took a second recovery: a child that the killed process was about to start holds its locks
    /// until it has become its program, and what recovers meanwhile rightly leaves alone what seems to be in use.
    pub late: Vec<String>,
    /// What was not as it should be, with the kill that led there.
    pub failures: Vec<String>,
}

impl Crash<'_> {
    /// Counts the command's steps, then kills it at `sample` of them (all, if there are fewer).
    pub fn at_steps(&self, sample: u64, random: &mut Random) -> Result<Toll> {
        let (before, steps) = self.count()?;
        let mut toll = Toll::default();
        for step in random.sample(sample, steps) {
            self.once(&before, &mut toll, &format!("killed at step {step} of {steps}"), |victim| {
                victim.env("SEXTANT_CRASH_AT", step.to_string());
                Ok(wait(victim, self.limit)?.0)
            })?;
        }
        Ok(toll)
    }

    /// Kills the command `times` times, each after a random part of the time that it takes when it is left alone.
    pub fn at_moments(&self, times: u64, random: &mut Random) -> Result<Toll> {
        let (before, _) = self.count()?;
        (self.prepare)()?;
        let (_, whole) = wait(&mut (self.victim)(), self.limit)?;
        (self.recover)()?;
        let mut toll = Toll::default();
        for _ in 0..times {
            let moment = random.duration(whole + whole / 10);
            self.once(&before, &mut toll, &format!("killed after {moment:?}"), |victim| {
                let mut child = spawn(victim)?;
                std::thread::sleep(moment);
                let _ = child.kill();
                end(&mut child, victim, self.limit)
            })?;
        }
        Ok(toll)
    }

    /// Runs the command undisturbed: how the machine was before, and how many ledger steps its processes took.
    fn count(&self) -> Result<(Snapshot, u64)> {
        (self.recover)()?;
        let before = self.machine.snapshot()?;
        let file =
            tempfile::NamedTempFile::new().map_err(|e| Error::access("create", std::env::temp_dir(), e))?;
        (self.prepare)()?;
        let mut victim = (self.victim)();
        let (status, _) = wait(victim.env("SEXTANT_CRASH_COUNT", file.path()), self.limit)?;
        if !status.success() {
            return Err(Error::refuse(
                "crash",
                self.name,
                format!("{}, left alone, ends with {status}", shown(&victim)),
            ));
        }
        (self.recover)()?;
        self.machine.settle(&before, self.settle, &format!("{}, left alone", self.name))?;
        Ok((before, steps(file.path())?))
    }

    fn once(
        &self,
        before: &Snapshot,
        toll: &mut Toll,
        how: &str,
        kill: impl FnOnce(&mut Command) -> Result<ExitStatus>,
    ) -> Result<()> {
        (self.prepare)()?;
        toll.runs += 1;
        match kill(&mut (self.victim)()) {
            Ok(status) => toll.killed += u64::from(!status.success()),
            Err(e) => toll.failures.push(format!("{} {how}: {e}", self.name)),
        }
        if let Err(e) = (self.recover)() {
            toll.failures.push(format!("{} {how}: recovery: {e}", self.name));
        }
        let what = format!("{} {how}", self.name);
        if let Err(first) = self.machine.settle(before, self.settle, &what) {
            let again = (self.recover)().and_then(|()| self.machine.settle(before, self.settle, &what));
            match again {
                Ok(()) => toll.late.push(first.to_string()),
                Err(_) => toll.failures.push(first.to_string()),
            }
        }
        Ok(())
    }
}

/// Most steps that one process took: each counts its own.
fn steps(file: &Path) -> Result<u64> {
    let text = crate::program::read(file)?;
    let mut counts = BTreeMap::<&str, u64>::new();
    for line in text.lines() {
        *counts.entry(line.split(' ').next().unwrap_or_default()).or_default() += 1;
    }
    Ok(counts.into_values().max().unwrap_or(0))
}

fn spawn(command: &mut Command) -> Result<Child> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    child.map_err(|source| Error::Start { command: shown(command), source })
}

/// Runs the command to its end, and how long that took.
fn wait(command: &mut Command, limit: Duration) -> Result<(ExitStatus, Duration)> {
    let began = Instant::now();
    let status = end(&mut spawn(command)?, command, limit)?;
    Ok((status, began.elapsed()))
}

fn end(child: &mut Child, command: &Command, limit: Duration) -> Result<ExitStatus> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_micros(200);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() > deadline => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Error::Wait {
                    what: format!("the end of {}", shown(command)),
                    limit,
                    output: String::new(),
                });
            }
            Ok(None) => std::thread::sleep(pause),
            Err(source) => return Err(Error::Start { command: shown(command), source }),
        }
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Whether a command was ended by SIGKILL rather than by itself.
pub fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

impl Toll {
    /// Adds another's.
    pub fn add(&mut self, other: Self) {
        self.killed += other.killed;
        self.runs += other.runs;
        self.late.extend(other.late);
        self.failures.extend(other.failures);
    }
}
