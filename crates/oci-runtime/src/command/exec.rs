//! `exec`.

use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};

use kernel::cgroup::Cgroup;
use rustix::io::Errno;

use super::container::{pass_activation, preserved, write_pid};
use super::failure::Failure;
use super::options::{Given, Opt, Rest, Words, parse_number, switch, value};
use super::record::{Dir, Record};
use super::{Command, Context, console, foreground, handover, rootless};
use crate::Join;
use crate::contract::{self, Process, Spec, Status};
use crate::systemd::Systemd;

pub(super) static EXEC: Command = Command {
    name: "exec",
    usage: "ID COMMAND [ARGUMENT ...]  |  --process FILE ID",
    summary: "run a further process in a running container",
    options: &OPTIONS,
    words: Words { least: 1, own: 1, rest: Rest::Command },
    clones: true,
    run: exec,
};

static OPTIONS: [Opt; 21] = [
    value("process", Some('p'), "FILE", "the process as JSON"),
    value("console-socket", None, "SOCKET", "where to send the master of the terminal"),
    value("cwd", None, "DIR", "its working directory, in the container"),
    value("env", Some('e'), "NAME=VALUE", "one more variable; may be repeated"),
    switch("tty", Some('t'), "give it a terminal"),
    value("user", Some('u'), "UID[:GID]", "who it runs as"),
    value("additional-gids", Some('g'), "GID", "one more group; may be repeated"),
    switch("detach", Some('d'), "leave it running and end"),
    value("pid-file", None, "FILE", "write its number here"),
    handover::PIDFD_SOCKET,
    value("process-label", None, "LABEL", "its SELinux label"),
    value("apparmor", None, "PROFILE", "its AppArmor profile"),
    switch("no-new-privs", None, "nothing it executes may gain privileges"),
    value("cap", Some('c'), "CAPABILITY", "one more capability; may be repeated"),
    value("preserve-fds", None, "N", "it inherits N more descriptors, from 3 on"),
    value("cgroup", None, "[CONTROLLER:]PATH", "a cgroup below the container's; may be repeated"),
    switch("ignore-paused", None, "even in a paused container: it waits for resume"),
    switch("no-subreaper", None, "accepted, and without effect: nothing is adopted"),
    value("cpu-affinity", None, "CPUS", "not there yet"),
    value("umask", None, "MASK", "its umask, in octal"),
    switch("help", Some('h'), "show this"),
];

/// What runc ends with when a process could not be run: a code that is not the process's own.
const NOT_RUN: u8 = 255;

fn exec(context: &Context, given: &Given) -> Result<u8, Failure> {
    run(context, given).map_err(|failure| failure.with_code(NOT_RUN))
}

fn run(context: &Context, given: &Given) -> Result<u8, Failure> {
    let id = given.id();
    let dir = Dir::open(&context.root, id)?;
    let record = dir.read()?;
    let pidfd = record.process().filter(|_| record.status != Status::Creating);
    let pidfd =
        pidfd.ok_or_else(|| Failure::container("exec in", id, "cannot exec in a stopped container"))?;
    let cgroup = record.cgroup()?;
    if !given.has("ignore-paused") && cgroup.as_ref().is_some_and(Cgroup::is_frozen) {
        return Err(Failure::container(
            "exec in",
            id,
            "cannot exec in a paused container (resume it, or use --ignore-paused)",
        ));
    }
    let mut spec = dir.config()?;
    let process = process(given, &spec)?;
    let detach = given.has("detach");
    let socket = console::socket_path(given);
    console::check(process.terminal, detach, socket.as_deref())?;
    let cgroup = own_cgroup(given, &record, cgroup)?;
    let signals = if detach { None } else { Some(foreground::signals()?) };
    let state = record.state(Status::Running);
    rootless::join(&mut spec, &pidfd)?;
    let (rdt, preserved, keyring) = (record.rdt()?, preserved(given)?, !record.inherits_keyring);
    context.log.debug(|| "nsexec container setup: a process is cloned to join the container".to_owned());
    let join = |cgroup, held| {
        let (spec, container, rdt, state) = (&spec, &pidfd, rdt.as_ref(), &state);
        let join = Join { spec, container, cgroup, held, rdt, stdio: None, preserved, keyring, state };
        crate::begin_join(&process, join)
    };
    let mut joined = match (join(cgroup.as_ref(), false), &record.unit) {
        // A user may move nothing out of a login session; the user's systemd may.
        (Err(error), Some(unit)) if unit.user && is_refusal(&error) => {
            let mut joined = join(None, true)?;
            Systemd::connect(&unit.name, true).and_then(|mut manager| manager.attach(joined.pid()))?;
            joined.release()?;
            joined
        }
        (joined, _) => joined?,
    };
    joined.until_ready()?;
    context.log.inside(&joined);
    let mut console = joined.console.take();
    if let Some(socket) = &socket
        && let Some(master) = console.take()
    {
        handover::console(socket, master.as_fd())?;
    }
    console.iter().for_each(foreground::settle);
    context.log.debug(|| format!("setns_init: about to exec {:?}", process.args));
    let (child, warnings) = joined.start()?;
    let pid_file = given.get("pid-file").filter(|path| !path.is_empty());
    let told = pid_file
        .map_or(Ok(()), |path| write_pid(&PathBuf::from(path), child.pid))
        .and_then(|()| handover::process(given, "setns", Some(child.pidfd.as_fd())));
    if let Err(failure) = told {
        kernel::process::signal(child.pidfd.as_fd(), libc::SIGKILL)?;
        child.wait()?;
        return Err(failure);
    }
    warnings.iter().for_each(|warning| context.log.warn(warning));
    let Some(signals) = signals else { return Ok(0) };
    let code = foreground::attend(&child, console, &signals)?;
    Ok(u8::try_from(code).unwrap_or(255))
}

fn is_refusal(error: &crate::Error) -> bool {
    matches!(error, crate::Error::Kernel(e) if matches!(e.errno(), Some(Errno::ACCESS | Errno::PERM)))
}

/// The process to run: a file says all of it, or it is the container's own with what options change.
fn process(given: &Given, spec: &Spec) -> Result<Process, Failure> {
    let mut process = match given.get("process") {
        Some(path) => {
            let text = std::fs::read(path)
                .map_err(|e| Failure::usage(format!("cannot read --process {path:?}: {e}")))?;
            contract::parse_process(&text)?
        }
        None => from_options(given, spec)?,
    };
    pass_activation(&mut process);
    contract::validate_process(&process)?;
    Ok(process)
}

fn from_options(given: &Given, spec: &Spec) -> Result<Process, Failure> {
    let mut process = spec.process.clone().unwrap_or_default();
    process.args = given.words[1..].to_vec();
    if process.args.is_empty() {
        return Err(Failure::usage(
            "cannot exec: the command is missing (give it after the id, or use --process)",
        ));
    }
    if process.cwd.is_empty() {
        process.cwd = "/".into();
    }
    // What the container was given is not the new process's: it is asked for.
    process.terminal = given.has("tty");
    process.console_size = None;
    if let Some(cwd) = given.get("cwd") {
        process.cwd = cwd.to_owned();
    }
    for variable in given.all("env") {
        let name = variable.split('=').next().unwrap_or_default();
        process.env.retain(|other| other.split('=').next() != Some(name));
        process.env.push(variable.to_owned());
    }
    if let Some(profile) = given.get("apparmor") {
        process.apparmor_profile = profile.to_owned();
    }
    if let Some(label) = given.get("process-label") {
        process.selinux_label = label.to_owned();
    }
    if given.get("no-new-privs").is_some() {
        process.no_new_privileges = given.has("no-new-privs");
    }
    if let Some(cpus) = given.get("cpu-affinity") {
        let affinity = process.exec_cpu_affinity.get_or_insert_default();
        affinity.initial = cpus.to_owned();
    }
    if let Some(user) = given.get("user").filter(|user| !user.is_empty()) {
        let (uid, gid) = user.split_once(':').map_or((user, None), |(uid, gid)| (uid, Some(gid)));
        process.user.uid = parse_number("user", uid)?;
        if let Some(gid) = gid {
            process.user.gid = parse_number("user", gid)?;
        }
    }
    for gid in given.all("additional-gids") {
        process.user.additional_gids.push(parse_number("additional-gids", gid)?);
    }
    if let Some(mask) = given.get("umask") {
        let mask = u32::from_str_radix(mask, 8);
        process.user.umask =
            Some(mask.map_err(|_| Failure::usage("cannot use --umask: give an octal number"))?);
    }
    let added: Vec<String> = given.all("cap").map(str::to_owned).collect();
    if !added.is_empty() {
        let sets = process.capabilities.get_or_insert_default();
        // Not inheritable: it would reach programs of other users (CVE-2022-29162). What the container has as
        // inheritable already may be ambient too, so that a user who is not root keeps it.
        let inheritable = |cap: &&String| sets.inheritable.iter().any(|held| held == *cap);
        sets.ambient.extend(added.iter().filter(inheritable).cloned());
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.extend(added.iter().cloned());
        }
    }
    Ok(process)
}

/// The container's cgroup, or the one below it that each `--cgroup` names: in all hierarchies, or, as
/// `CONTROLLER[,CONTROLLER]:PATH`, in those of v1's controllers.
fn own_cgroup(given: &Given, record: &Record, cgroup: Option<Cgroup>) -> Result<Option<Cgroup>, Failure> {
    let (Some(own), Some(mut cgroup)) = (&record.cgroup, cgroup) else { return Ok(None) };
    let below = |given: &str| -> Result<PathBuf, Failure> {
        let path = Path::new(given.trim_matches('/'));
        if path.components().all(|c| matches!(c, Component::Normal(_))) {
            return Ok(path.to_owned());
        }
        let given = given.to_owned();
        Err(Failure::usage(format!(
            "cannot use --cgroup {given:?}: bad sub cgroup path (give one below the container's, without \"..\")"
        )))
    };
    let given: Vec<&str> = given.all("cgroup").filter(|given| !given.is_empty()).collect();
    for &one in &given {
        match one.split_once(':') {
            Some((controllers, path)) => {
                let path = below(path)?;
                controllers.split(',').try_for_each(|controller| cgroup.descend(controller, &path))?;
            }
            None if given.len() == 1 => cgroup = Cgroup::at(&Path::new(own).join(below(one)?))?,
            None => {
                let message =
                    format!("cannot use --cgroup {one:?}: give it alone, or each as CONTROLLER:PATH");
                return Err(Failure::usage(message));
            }
        }
    }
    Ok(Some(cgroup))
}
