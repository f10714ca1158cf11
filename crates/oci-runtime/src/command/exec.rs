//! `exec`.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use kernel::cgroup::Cgroup;
use rustix::io::Errno;

use super::container::{pass_activation, preserved, write_pid};
use super::failure::Failure;
use super::options::{Given, Opt, Rest, Words, parse_number, switch, value};
use super::record::{Dir, Record};
use super::{Command, Context, console, foreground, rootless};
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

static OPTIONS: [Opt; 20] = [
    value("process", Some('p'), "FILE", "the process as JSON"),
    value("console-socket", None, "SOCKET", "where to send the master of the terminal"),
    value("cwd", None, "DIR", "its working directory, in the container"),
    value("env", Some('e'), "NAME=VALUE", "one more variable; may be repeated"),
    switch("tty", Some('t'), "give it a terminal"),
    value("user", Some('u'), "UID[:GID]", "who it runs as"),
    value("additional-gids", Some('g'), "GID", "one more group; may be repeated"),
    switch("detach", Some('d'), "leave it running and end"),
    value("pid-file", None, "FILE", "write its number here"),
    value("process-label", None, "LABEL", "its SELinux label"),
    value("apparmor", None, "PROFILE", "its AppArmor profile"),
    switch("no-new-privs", None, "nothing it executes may gain privileges"),
    value("cap", Some('c'), "CAPABILITY", "one more capability; may be repeated"),
    value("preserve-fds", None, "N", "it inherits N more descriptors, from 3 on"),
    value("cgroup", None, "PATH", "a cgroup below the container's"),
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
    let mut console = joined.console.take();
    if let Some(socket) = &socket
        && let Some(master) = console.take()
    {
        console::send(socket, &master)?;
    }
    console.iter().for_each(foreground::settle);
    let (child, warnings) = joined.start()?;
    if let Some(path) = given.get("pid-file").filter(|path| !path.is_empty())
        && let Err(failure) = write_pid(&PathBuf::from(path), child.pid)
    {
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
        // Not inheritable (and so not ambient): it would reach programs of other users (CVE-2022-29162).
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.extend(added.iter().cloned());
        }
    }
    Ok(process)
}

/// The container's cgroup, or one below it.
fn own_cgroup(given: &Given, record: &Record, cgroup: Option<Cgroup>) -> Result<Option<Cgroup>, Failure> {
    let Some(path) = given.get("cgroup").filter(|path| !path.is_empty()) else { return Ok(cgroup) };
    if path.contains(':') {
        return Err(Failure::usage(format!(
            "cannot use --cgroup {path:?}: single controllers are not supported; give a path below the container's"
        )));
    }
    let Some(own) = &record.cgroup else { return Ok(cgroup) };
    let below = path.trim_matches('/');
    if below.is_empty() {
        return Ok(cgroup);
    }
    Ok(Some(Cgroup::at(&Path::new(own).join(below))?))
}
