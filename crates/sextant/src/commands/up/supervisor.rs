//! Starts the programs in their order, and starts again what ends.

use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kernel::signal::Signals;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::child::{self, Child, State};
use super::member;
use super::programs::{NAMES, Places, Program, patience};
use crate::failure::{Context, Failure, Result};

/// After so long people are told what is waited for.
const SLOW: Duration = Duration::from_secs(10);

/// The programs, kept running.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) children: Vec<Child>,
    places: Places,
    binary: PathBuf,
    signals: Signals,
    /// A lost terminal ends nothing.
    is_detached: bool,
}

/// Why waiting ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Something of a program has changed.
    Changed,
    /// Somebody wants the end: the signal's number.
    End(i32),
}

impl Supervisor {
    /// Adopts what the supervisor before this one has left running.
    pub(super) fn find(
        programs: Vec<Program>,
        places: Places,
        signals: Signals,
        is_detached: bool,
    ) -> Result<Self> {
        let binary = std::env::current_exe().context(|| "find this program".into())?;
        // One that is left out now is somebody else's work.
        for name in NAMES.iter().filter(|name| programs.iter().all(|program| program.name != **name)) {
            if let Some(process) = member::living(&places.member(name)) {
                child::end(process.pidfd.as_fd(), patience(name));
            }
        }
        let children: Result<Vec<Child>> =
            programs.into_iter().map(|program| Child::find(program, &places, &binary)).collect();
        Ok(Self { children: children?, places, binary, signals, is_detached })
    }

    /// Starts everything, and returns once all is up, or somebody wants the end.
    ///
    /// # Errors
    /// A program that was started now has ended without coming up: it would again.
    pub(super) fn start(&mut self) -> Result<Option<i32>> {
        for child in self.children.iter().filter(|child| child.is_ready()) {
            say(&format!("{:8} runs on", child.program.name));
        }
        let begun = Instant::now();
        let mut is_told = false;
        while !self.children.iter().all(Child::is_ready) {
            self.start_what_may()?;
            if begun.elapsed() > SLOW && !std::mem::replace(&mut is_told, true) {
                self.tell_slow();
            }
            if let Turn::End(signal) = self.wait()? {
                return Ok(Some(signal));
            }
            for at in 0..self.children.len() {
                self.heard(at);
                if self.children[at].has_ended().is_some() {
                    let child = &self.children[at];
                    let why = child.last_words(&self.places);
                    return Err(Failure::new(format!("cannot start {}: {why}", child.program.name)));
                }
            }
        }
        Ok(None)
    }

    /// Keeps everything running until somebody wants the end; the signal's number.
    pub(super) fn keep(&mut self) -> Result<i32> {
        loop {
            // What the machine refuses now (memory, processes) it may grant later.
            if let Err(failure) = self.start_what_may() {
                say(&failure.to_string());
            }
            if let Turn::End(signal) = self.wait()? {
                return Ok(signal);
            }
            for at in 0..self.children.len() {
                self.heard(at);
                let child = &mut self.children[at];
                if let Some(ended) = child.has_ended() {
                    let (name, how, wait) = (child.program.name, ended.how, ended.wait.as_secs_f64());
                    let log = self.places.log(name);
                    say(&format!(
                        "{name:8} {how}, and starts again in {wait:.1} s (its words: {})",
                        log.display()
                    ));
                }
            }
        }
    }

    /// Ends the programs, the last first; pods run on. Where `all` is not asked for, those that were adopted stay.
    pub(super) fn end(&mut self, all: bool) {
        for child in self.children.iter_mut().rev() {
            let is_adopted = matches!(&child.state, State::Up(running) if running.is_adopted);
            if all || !is_adopted {
                child.end();
            }
        }
    }

    fn heard(&mut self, at: usize) {
        let child = &mut self.children[at];
        if child.hear(&self.places)
            && let State::Up(running) = &child.state
            && let Some(took) = running.ready
        {
            say(&format!(
                "{:8} is up after {:.2} s: {}",
                child.program.name,
                took.as_secs_f64(),
                child.program.what
            ));
        }
    }

    fn start_what_may(&mut self) -> Result<()> {
        let up: Vec<&'static str> =
            self.children.iter().filter(|child| child.is_ready()).map(|child| child.program.name).collect();
        for child in &mut self.children {
            if let State::Down(at) = &child.state
                && *at <= Instant::now()
                && child.program.needs.iter().all(|need| up.contains(need))
            {
                child.state = State::Down(Instant::now() + SLOW);
                child.start(&self.places, &self.binary)?;
            }
        }
        Ok(())
    }

    fn tell_slow(&self) {
        for child in self.children.iter().filter(|child| !child.is_ready()) {
            let (name, log) = (child.program.name, self.places.log(child.program.name));
            match &child.state {
                State::Up(_) => say(&format!("{name:8} is not up yet; what it says is in {}", log.display())),
                State::Down(_) => say(&format!("{name:8} waits for {}", child.program.needs.join(", "))),
            }
        }
    }

    /// Until a program ends or tells something, one is to be started, or a signal comes.
    fn wait(&self) -> Result<Turn> {
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        let mut until = Instant::now() + SLOW;
        for child in &self.children {
            let (end, notify) = child.descriptors();
            fds.extend(end.map(|end| PollFd::from_borrowed_fd(end, PollFlags::IN)));
            fds.push(PollFd::from_borrowed_fd(notify, PollFlags::IN));
            if let State::Down(at) = &child.state
                && *at > Instant::now()
            {
                until = until.min(*at);
            }
        }
        let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        let is_steady = self.children.iter().all(Child::is_ready);
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut fds, (!is_steady).then_some(&left)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).context(|| "wait for programs".into()),
        }
        while let Some(signal) = self.signals.next() {
            let is_hangup = signal == Signal::HUP.as_raw();
            if !(is_hangup && self.is_detached) {
                return Ok(Turn::End(signal));
            }
        }
        Ok(Turn::Changed)
    }
}

/// One line for people; whoever read them may be gone.
pub(super) fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "  {line}");
}
