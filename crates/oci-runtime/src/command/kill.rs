//! `kill`.

use std::os::fd::AsFd;

use super::failure::Failure;
use super::options::{Given, Rest, Words, switch};
use super::record::Dir;
use super::{Command, Context};
use crate::contract::Status;

pub(super) static KILL: Command = Command {
    name: "kill",
    usage: "ID [SIGNAL]",
    summary: "send a signal (a name or a number) to a container's process [SIGTERM]",
    options: &[switch("all", Some('a'), "to all its processes"), switch("help", Some('h'), "show this")],
    words: Words { least: 1, own: 2, rest: Rest::None },
    clones: false,
    run: kill,
};

fn kill(context: &Context, given: &Given) -> Result<u8, Failure> {
    let id = given.id();
    let name = given.words.get(1).map_or("SIGTERM", String::as_str);
    let signal = kernel::signal::parse(name).ok_or_else(|| {
        Failure::usage(format!(
            "cannot send signal {name:?}: unknown signal (give a name as TERM, or a number)"
        ))
    })?;
    let dir = Dir::open(&context.root, id)?;
    let record = dir.read()?;
    let cgroup = record.cgroup()?;
    if given.has("all")
        && let Some(cgroup) = &cgroup
    {
        if signal == libc::SIGKILL {
            cgroup.kill()?;
        } else {
            cgroup.signal(signal)?;
        }
        return Ok(0);
    }
    let Some(pidfd) = record.process().filter(|_| record.status != Status::Creating) else {
        // Without a PID namespace of its own its processes outlive the first one.
        return match &cgroup {
            Some(cgroup) if signal == libc::SIGKILL && !record.own_pids && !cgroup.pids()?.is_empty() => {
                cgroup.kill()?;
                Ok(0)
            }
            _ => Err(Failure::container("kill", id, "container not running")),
        };
    };
    if signal != libc::SIGKILL {
        kernel::process::signal(pidfd.as_fd(), signal)?;
        return Ok(0);
    }
    match &cgroup {
        // Nothing else ends with the first process.
        Some(cgroup) if !record.own_pids => cgroup.kill()?,
        _ => kernel::process::signal(pidfd.as_fd(), signal)?,
    }
    if let Some(cgroup) = cgroup.filter(|cgroup| cgroup.is_frozen()) {
        cgroup.freeze(false)?;
    }
    Ok(0)
}
