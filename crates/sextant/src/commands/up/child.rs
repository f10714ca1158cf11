//! One program that is kept running.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use kernel::process::{Child as Process, Exit, Waited};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::member;
use super::programs::{Places, Program, command, patience};
use crate::failure::{Context, Result};

/// The wait after the first end; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);
/// After so long its earlier ends are forgotten.
const STEADY: Duration = Duration::from_secs(60);
/// A log of more bytes is put aside when its program is started anew.
const LOG: u64 = 4 << 20;

/// A program, and the process that runs it.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) program: Program,
    pub(super) state: State,
    /// How often it has ended soon after its start.
    ends: u32,
    /// Where its log was as long as that when it was started.
    written: u64,
    notify: UnixDatagram,
}

/// What there is of it.
#[derive(Debug)]
pub(super) enum State {
    /// To be started then, if what it needs is up.
    Down(Instant),
    /// It runs.
    Up(Running),
}

/// Its process.
#[derive(Debug)]
pub(super) struct Running {
    process: Process,
    begun: Instant,
    /// How long it took until it was up; nothing before that.
    pub(super) ready: Option<Duration>,
    /// Whether the supervisor before this one started it.
    pub(super) is_adopted: bool,
}

/// What it takes to find a program again that has come up: its process, and what it was started as.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    pid: i32,
    /// The options it was given.
    args: Vec<String>,
}

/// How a program ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// In a few words.
    pub(super) how: String,
    /// After so long it is started again.
    pub(super) wait: Duration,
}

impl Child {
    /// The program as it is found: it may live. It goes on if it is up, and was started as it would be now; else it is ended, to be
    /// started anew: what it would tell when it comes up was for another, and options and program may be others today.
    pub(super) fn find(program: Program, places: &Places, binary: &Path) -> Result<Self> {
        let notify = places.notify(program.name);
        let _ = fs::remove_file(&notify);
        let notify = UnixDatagram::bind(&notify).context(|| format!("listen on {}", notify.display()))?;
        notify.set_nonblocking(true)?;
        let state = State::Down(Instant::now());
        let mut child = Self { program, state, ends: 0, written: 0, notify };
        let name = child.program.name;
        let Some(process) = member::living(&places.member(name)) else { return Ok(child) };
        let pid = process.pid;
        let told = fs::read(places.told(name)).ok().and_then(|told| serde_json::from_slice(&told).ok());
        let is_this = fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path == binary);
        if is_this && told == Some(child.told(pid)) {
            let ready = Some(Duration::ZERO);
            child.state = State::Up(Running { process, begun: Instant::now(), ready, is_adopted: true });
        } else {
            end(process.pidfd.as_fd(), patience(name));
        }
        Ok(child)
    }

    fn told(&self, pid: i32) -> Told {
        Told { pid, args: self.program.args.iter().map(|word| word.to_string_lossy().into_owned()).collect() }
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(&self.state, State::Up(Running { ready: Some(_), .. }))
    }

    /// What is waited for: its end, and what it tells.
    pub(super) fn descriptors(&self) -> (Option<BorrowedFd<'_>>, BorrowedFd<'_>) {
        let end = match &self.state {
            State::Up(running) => Some(running.process.pidfd.as_fd()),
            State::Down(_) => None,
        };
        (end, self.notify.as_fd())
    }

    /// Starts it. One that a killed supervisor had started the moment before its end may have come since: it makes room.
    pub(super) fn start(&mut self, places: &Places, binary: &Path) -> Result<()> {
        if let Some(other) = member::living(&places.member(self.program.name)) {
            end(other.pidfd.as_fd(), patience(self.program.name));
        }
        let path = places.log(self.program.name);
        let mut log = log(&path).context(|| format!("open {}", path.display()))?;
        self.written = log.seek(SeekFrom::End(0))?;
        let mut command = command(&self.program, places, binary);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.env("NOTIFY_SOCKET", places.notify(self.program.name));
        // What a terminal sends is for the supervisor alone.
        let started = command.process_group(0).spawn();
        let process = started.context(|| format!("start {}", binary.display()))?;
        let pid = process.id() as i32;
        let pidfd = kernel::process::pidfd(pid)?;
        let process = Process { pid, pidfd };
        self.state = State::Up(Running { process, begun: Instant::now(), ready: None, is_adopted: false });
        Ok(())
    }

    /// Hears what it tells; true when it has come up.
    pub(super) fn hear(&mut self, places: &Places) -> bool {
        let mut message = [0; 256];
        let mut is_up = false;
        while let Ok(length) = self.notify.recv(&mut message) {
            is_up |= message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1");
        }
        let State::Up(running) = &mut self.state else { return false };
        if !is_up || running.ready.is_some() {
            return false;
        }
        running.ready = Some(running.begun.elapsed());
        let pid = running.process.pid;
        let told = self.told(pid);
        // Without it the next supervisor starts the program anew.
        let _ = serde_json::to_vec(&told).map(|told| fs::write(places.told(self.program.name), told));
        true
    }

    /// How its process has ended, if it has; then it is to be started again after a while.
    pub(super) fn has_ended(&mut self) -> Option<Ended> {
        let State::Up(running) = &self.state else { return None };
        let ended = kernel::process::await_end(running.process.pidfd.as_fd(), Some(Duration::ZERO), None);
        if ended != Ok(Waited::Ended) {
            return None;
        }
        // Of one that was adopted init alone knows.
        let how = match running.process.try_wait() {
            Ok(Some(Exit::Code(code))) => format!("has ended with code {code}"),
            Ok(Some(Exit::Signal { signal, .. })) => format!("was killed by signal {signal}"),
            _ => "has ended".into(),
        };
        if running.begun.elapsed() > STEADY {
            self.ends = 0;
        }
        let wait = FIRST.saturating_mul(1 << self.ends.min(16)).min(LONGEST);
        self.ends += 1;
        self.state = State::Down(Instant::now() + wait);
        Some(Ended { how, wait })
    }

    /// The last line of what it wrote since its start.
    pub(super) fn last_words(&self, places: &Places) -> String {
        let path = places.log(self.program.name);
        let read = || -> std::io::Result<String> {
            let mut file = File::open(&path)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(self.written.max(length.saturating_sub(8 << 10)).min(length)))?;
            let mut text = Vec::new();
            file.read_to_end(&mut text)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        };
        let text = read().unwrap_or_default();
        let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        line.trim_start_matches("sextant: ").to_owned()
    }

    /// Ends it, and waits for that.
    pub(super) fn end(&mut self) {
        if let State::Up(running) = &self.state {
            end(running.process.pidfd.as_fd(), patience(self.program.name));
            let _ = running.process.try_wait();
            self.state = State::Down(Instant::now());
        }
    }
}

/// Whether the process that runs a program has come up.
pub(super) fn has_told(places: &Places, name: &str, pid: i32) -> bool {
    let told = fs::read(places.told(name)).ok().and_then(|told| serde_json::from_slice::<Told>(&told).ok());
    told.is_some_and(|told| told.pid == pid)
}

/// Tells a process to end, waits for it, and kills it where that takes too long.
pub(super) fn end(pidfd: BorrowedFd<'_>, patience: Duration) {
    for (signal, patience) in [(Signal::TERM, Some(patience)), (Signal::KILL, None)] {
        let _ = kernel::process::signal(pidfd, signal.as_raw());
        match kernel::process::await_end(pidfd, patience, None) {
            Ok(Waited::Ended) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// A log to append to; a long one is put aside.
pub(super) fn log(path: &Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    if fs::metadata(path).is_ok_and(|meta| meta.len() > LOG) {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    File::options().append(true).create(true).open(path)
}
