//! `create` and `run`.

use kernel::signal::Signals;

use super::container::{Made, Request, make, unmake};
use super::failure::Failure;
use super::handover::PIDFD_SOCKET;
use super::options::{Given, Opt, Rest, Words, switch, value};
use super::{Command, Context, delete, foreground};

const ONE: Words = Words { least: 1, own: 1, rest: Rest::None };

const BUNDLE: Opt = value("bundle", Some('b'), "DIR", "the bundle [.]");
const CONSOLE: Opt = value("console-socket", None, "SOCKET", "where to send the master of the terminal");
const PID_FILE: Opt = value("pid-file", None, "FILE", "write the number of the container's process here");
const PRESERVE: Opt = value("preserve-fds", None, "N", "the program inherits N more descriptors, from 3 on");
const NO_PIVOT: Opt =
    switch("no-pivot", None, "accepted, and without effect: the root is always changed by pivot_root");
const NO_KEYRING: Opt =
    switch("no-new-keyring", None, "the program keeps the session keyring of the caller, with its keys");
const HELP: Opt = switch("help", Some('h'), "show this");

pub(super) static CREATE: Command = Command {
    name: "create",
    usage: "ID",
    summary: "make a container, which waits for start",
    options: &[BUNDLE, CONSOLE, PID_FILE, PIDFD_SOCKET, NO_PIVOT, NO_KEYRING, PRESERVE, HELP],
    words: ONE,
    clones: true,
    run: create,
};

pub(super) static RUN: Command = Command {
    name: "run",
    usage: "ID",
    summary: "make a container, start it, and stay until it ends",
    options: &[
        BUNDLE,
        CONSOLE,
        switch("detach", Some('d'), "leave it running and end"),
        switch("keep", None, "leave its record when it has ended"),
        PID_FILE,
        PIDFD_SOCKET,
        switch("no-subreaper", None, "do not adopt processes the container leaves behind"),
        NO_PIVOT,
        NO_KEYRING,
        PRESERVE,
        HELP,
    ],
    words: ONE,
    clones: true,
    run,
};

fn create(context: &Context, given: &Given) -> Result<u8, Failure> {
    let Made { created, dir, record, .. } = make(context, &Request::new(given, true)?)?;
    match created.detach() {
        Ok(_) => Ok(0),
        Err(error) => {
            unmake(context, &record, dir);
            Err(error.into())
        }
    }
}

fn run(context: &Context, given: &Given) -> Result<u8, Failure> {
    let request = Request::new(given, false)?;
    let detach = given.has("detach");
    // From here on signals are for the container, or for nobody yet.
    let signals = if detach { None } else { Some(foreground::signals()?) };
    let Made { mut created, dir, record, .. } = make(context, &request)?;
    let console = created.console.take();
    console.iter().for_each(foreground::settle);
    if !record.own_pids && !detach && !given.has("no-subreaper") {
        foreground::adopt()?;
    }
    let child = match created.start() {
        Ok((child, warnings)) => {
            warnings.iter().for_each(|warning| context.log.warn(warning));
            context.log.debug(|| "init: closing the pipe to signal completion: the program runs".to_owned());
            child
        }
        Err(error) => {
            end(context, &record, dir);
            return Err(error.into());
        }
    };
    let Some(signals) = signals else { return Ok(0) };
    // Others may change it while this process only waits.
    dir.unlock()?;
    let code = attend(&child, console, &signals);
    if !given.has("keep")
        && let Err(failure) = delete::ended(context, &record, dir)
    {
        // How the container's process ended is what the caller asked for.
        context.log.error(RUN.name, &failure);
    }
    code
}

fn attend(
    child: &kernel::process::Child,
    console: Option<std::os::fd::OwnedFd>,
    signals: &Signals,
) -> Result<u8, Failure> {
    foreground::attend(child, console, signals).map(|code| u8::try_from(code).unwrap_or(255))
}

/// A container whose start failed has ended.
fn end(context: &Context, record: &super::record::Record, dir: super::record::Dir) {
    unmake(context, record, dir);
    let state = record.state(crate::contract::Status::Stopped);
    crate::hooks::poststop(record.hooks.as_ref(), &state).iter().for_each(|text| context.log.warn(text));
}
