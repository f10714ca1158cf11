//! `delete`, and what `run` does at the end.

use std::os::fd::AsFd;
use std::time::Duration;

use super::container::{detach_root, remove_cgroup};
use super::failure::Failure;
use super::options::{Given, Rest, Words, switch};
use super::record::{Dir, Record};
use super::{Command, Context};
use crate::contract::Status;

/// How long a running container may take to end before it is refused.
const GRACE: Duration = Duration::from_secs(1);

pub(super) static DELETE: Command = Command {
    name: "delete",
    usage: "ID",
    summary: "remove what is left of a container",
    options: &[
        switch("force", Some('f'), "end it first; one that is not there is no error"),
        switch("help", Some('h'), "show this"),
    ],
    words: Words { least: 1, own: 1, rest: Rest::None },
    clones: false,
    run: delete,
};

fn delete(context: &Context, given: &Given) -> Result<u8, Failure> {
    let (id, force) = (given.id(), given.has("force"));
    let dir = match Dir::open(&context.root, id) {
        Err(_) if force && !context.root.join(id).exists() => return Ok(0),
        other => other?,
    };
    if force && let Ok(Some(record)) = dir.find() {
        // Whoever holds the lock may wait for this process, for ever.
        end(&record)?;
    }
    let dir = match dir.locked() {
        // Whoever held the lock has deleted it.
        Err(_) if force && !context.root.join(id).exists() => return Ok(0),
        other => other?,
    };
    let Some(record) = dir.find()? else {
        if force {
            // Its maker was killed before there was anything to record.
            dir.remove()?;
            return Ok(0);
        }
        return Err(Failure::container("delete", id, "container does not exist in full (use --force)"));
    };
    match dir.status(&record)? {
        Status::Stopped => {}
        Status::Created => end(&record)?,
        _ if force => end(&record)?,
        Status::Running if ends_soon(&record) => {}
        status => {
            return Err(Failure::container(
                "delete",
                id,
                format!("it is not stopped: {} (kill it first, or use --force)", status.as_str()),
            ));
        }
    }
    remove(context, &record, dir)
}

/// For the end of a foreground run: somebody may have deleted the container meanwhile.
pub(super) fn ended(context: &Context, record: &Record, dir: Dir) -> Result<(), Failure> {
    match dir.locked() {
        Ok(dir) => remove(context, record, dir).map(drop),
        Err(_) => Ok(()),
    }
}

/// Who sees that a program is done, or has killed it, is often faster than its end.
fn ends_soon(record: &Record) -> bool {
    let Some(pidfd) = record.process() else { return true };
    let ended = kernel::process::await_end(pidfd.as_fd(), Some(GRACE), None);
    ended == Ok(kernel::process::Waited::Ended)
}

/// Ends the container's process, and waits until it has.
fn end(record: &Record) -> Result<(), Failure> {
    let Some(pidfd) = record.process() else { return Ok(()) };
    kernel::process::signal(pidfd.as_fd(), libc::SIGKILL)?;
    if let Some(cgroup) = record.cgroup()?.filter(|cgroup| cgroup.is_frozen()) {
        // The freezer of v1 holds even the killed.
        cgroup.freeze(false)?;
    }
    kernel::process::await_end(pidfd.as_fd(), None, None)
        .map(drop)
        .map_err(|e| Failure::container("end", &record.id, e))
}

/// Removes cgroup and record, and runs the hooks for the end. All is tried; the first that fails is told.
fn remove(context: &Context, record: &Record, dir: Dir) -> Result<u8, Failure> {
    // What is left in it goes, too.
    let gone = remove_cgroup(context, record);
    let rdt = record.rdt().and_then(|group| group.map_or(Ok(()), |group| Ok(group.remove()?)));
    let detached = detach_root(record);
    gone?;
    detached?;
    rdt?;
    dir.remove()?;
    let state = record.state(Status::Stopped);
    crate::hooks::poststop(record.hooks.as_ref(), &state).iter().for_each(|text| context.log.warn(text));
    Ok(0)
}
