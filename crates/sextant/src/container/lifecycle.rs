//! What a container is doing, and how what it holds is let go.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use ledger::{Effect, Owner, OwnerId, Record as _};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use shim::client::Client;
use shim::protocol::{Code, StopRequest};

use super::record::{ExitRecord, write_whole};
use super::{Record, State, connect, network};
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;

/// How long a shim may take for what it does at once: longer than this and something holds it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The shim's pidfd, while it lives.
fn shim(instance: &Instance, record: &Record) -> Option<OwnedFd> {
    let numbers = record.numbers(instance)?.shim;
    // The pidfd first: then the time tells whether it is the same process.
    let pidfd = kernel::process::pidfd(numbers.pid).ok()?;
    let same = kernel::process::start_time(numbers.pid).ok() == numbers.start_time;
    (same && !ended(&pidfd)).then_some(pidfd)
}

fn ended(pidfd: &OwnedFd) -> bool {
    wait(pidfd, Duration::ZERO)
}

fn wait(pidfd: &OwnedFd, limit: Duration) -> bool {
    let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut fds, Some(&limit)).is_ok_and(|ready| ready > 0)
}

/// Whether a run has ended without anybody having undone it; or never began, of a container that was to go with its end.
///
/// One that is being made looks like the second: its maker holds its lock.
pub(crate) fn is_stale(instance: &Instance, record: &Record) -> bool {
    match instance.bundle_dir(&record.id).exists() {
        true => shim(instance, record).is_none(),
        false => record.remove,
    }
}

/// What the container is doing, as its shim says.
pub(crate) fn state_of(instance: &Instance, record: &Record) -> State {
    if shim(instance, record).is_some() {
        let state = connect(instance, record).ok().and_then(|mut c| c.state("", "").ok());
        return match state {
            Some(state) if state.running => State::Running { pid: state.pid, paused: state.paused },
            Some(_) => State::Starting,
            None => exited(instance, record).unwrap_or(State::Starting),
        };
    }
    exited(instance, record).unwrap_or(State::Created)
}

fn exited(instance: &Instance, record: &Record) -> Option<State> {
    record.exit(instance).map(State::Exited)
}

/// Undoes what a run held: the network, the cgroup, the bundle. What the container itself is stays.
pub(crate) fn undo_run(instance: &Instance, record: &Record, owner: &mut Owner) -> Vec<Failure> {
    let mut errors: Vec<Failure> = network::disconnect(instance, record, owner).err().into_iter().collect();
    let mut records = owner.records();
    records.reverse();
    for (id, effect) in records {
        let lasting = match &effect {
            Effect::Tree { path } | Effect::File { path } => path.starts_with(&instance.data),
            _ => false,
        };
        if !lasting {
            errors.extend(owner.undo(id).err().map(Failure::from));
        }
    }
    errors
}

/// Lets go of what an ended run held, if nobody else is at it; a container that was to go with its end goes.
pub(crate) fn settle(instance: &Instance, id: &str) -> Vec<Failure> {
    let owner = OwnerId::new(id).map_err(Failure::from).and_then(|o| Ok(instance.ledger.try_owner(&o)?));
    match owner {
        Ok(Some(owner)) => settle_locked(instance, id, owner),
        Ok(None) => Vec::new(),
        Err(failure) => vec![failure],
    }
}

fn settle_locked(instance: &Instance, id: &str, mut owner: Owner) -> Vec<Failure> {
    let record = match Record::read(&instance.state_dir(id).join(super::RECORD)) {
        Ok(Some(record)) => record,
        Ok(None) => return owner.undo_all().into_iter().map(Failure::from).collect(),
        Err(failure) => return vec![failure],
    };
    if !is_stale(instance, &record) {
        return Vec::new();
    }
    let mut errors = Vec::new();
    if record.exit(instance).is_none() {
        // Its shim was killed, or the machine went down: how it ended is not known.
        errors.extend(write_exit(instance, &record).err());
    }
    errors.extend(undo_run(instance, &record, &mut owner));
    if record.remove && errors.is_empty() {
        errors.extend(owner.undo_all().into_iter().map(Failure::from));
    }
    errors
}

fn write_exit(instance: &Instance, record: &Record) -> Result<()> {
    let exit = ExitRecord { code: 137, oom: false, at: shim::timestamp(std::time::SystemTime::now()) };
    let bytes = serde_json::to_vec(&exit).context(|| "write the exit".into())?;
    write_whole(&instance.state_dir(&record.id).join("exit.json"), &bytes)
}

/// Waits until the shim is gone, and lets go of what its run held.
pub(crate) fn after_end(instance: &Instance, record: &Record) -> Vec<Failure> {
    if let Some(pidfd) = shim(instance, record) {
        // It goes when it has told everybody; longer than this and something holds it.
        if !wait(&pidfd, PATIENCE) {
            return vec![Failure::new(format!("the shim of container {} does not end", record.name))];
        }
    }
    match OwnerId::new(record.id.clone())
        .map_err(Failure::from)
        .and_then(|o| Ok(instance.ledger.owner(&o)?))
    {
        Ok(owner) => settle_locked(instance, &record.id, owner),
        Err(failure) => vec![failure],
    }
}

/// Ends a running container. Returns when it has ended and nothing is left of its run.
pub(crate) fn stop(instance: &Instance, record: &Record, signal: i32, timeout: Duration) -> Result<()> {
    if !state_of(instance, record).is_active() {
        return first(settle(instance, &record.id));
    }
    let Some(mut client) = reach(instance, record)? else {
        return first(after_end(instance, record));
    };
    let request = StopRequest { signal, timeout: timeout.as_millis() as u64, container: String::new() };
    let began = Instant::now();
    let is_early = |e: &shim::client::Error| e.code() == Some(Code::FailedPrecondition as i32);
    let stopped = loop {
        match (client.stop(&request), shim(instance, record)) {
            // Made, and not started yet: whoever makes it is at it.
            (Err(e), Some(pidfd)) if is_early(&e) && began.elapsed() < PATIENCE => {
                wait(&pidfd, Duration::from_millis(5));
            }
            (stopped, _) => break stopped,
        }
    };
    if let Err(error) = stopped {
        // It ended while we asked: its socket closes a moment before it is gone. An answer of its own is another matter.
        let patience = if error.code().is_none() { PATIENCE } else { Duration::ZERO };
        if shim(instance, record).is_some_and(|pidfd| !wait(&pidfd, patience)) {
            return Err(error.into());
        }
    }
    // From here on the end is ours: the shim need not start a program to undo it.
    let _ = Client::shutdown(&mut client);
    drop(client);
    first(after_end(instance, record))
}

/// A connection to the shim of a container that was seen running; none if it ended since.
///
/// A shim that begins has no socket yet, and one that ends has none any more: which of the two it is, time tells.
fn reach(instance: &Instance, record: &Record) -> Result<Option<Client>> {
    let began = Instant::now();
    loop {
        if let Ok(client) = connect(instance, record) {
            return Ok(Some(client));
        }
        match shim(instance, record) {
            None => return Ok(None),
            Some(_) if began.elapsed() > PATIENCE => {
                let name = &record.name;
                return Err(Failure::new(format!(
                    "cannot stop container {name}: its shim runs and takes no connection"
                )));
            }
            Some(pidfd) => _ = wait(&pidfd, Duration::from_millis(5)),
        }
    }
}

fn first(errors: Vec<Failure>) -> Result<()> {
    match errors.into_iter().reduce(|all, one| Failure::new(format!("{all}; {one}"))) {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

/// Removes a container and all it holds.
pub(crate) fn remove(instance: &Instance, record: &Record, force: bool) -> Result<()> {
    loop {
        if state_of(instance, record).is_active() {
            if !force {
                let name = &record.name;
                return Err(Failure::new(format!(
                    "container {name} is running: stop it first (sextant stop {name}), or use --force"
                )));
            }
            stop(instance, record, 9, Duration::ZERO)?;
        }
        let mut owner = instance.ledger.owner(&OwnerId::new(record.id.clone())?)?;
        // Whoever held the lock until now may have started it.
        if state_of(instance, record).is_active() {
            continue;
        }
        let mut errors = undo_run(instance, record, &mut owner);
        if errors.is_empty() {
            errors.extend(owner.undo_all().into_iter().map(Failure::from));
        }
        return first(errors);
    }
}
