//! Hooks that the runtime itself runs, in its own namespaces: prestart, createRuntime, poststart, poststop.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use kernel::Act;
use kernel::process::{CStrings, Exit, Waited, cstring};

use crate::contract::{Hook, Hooks, State, Status};
use crate::plan::hooks::{arguments, fill, memfd, timeout};
use crate::{Error, Result};

/// Of what a hook printed, the message of its failure has so much.
const SHOWN: u64 = 1024;

/// Runs hooks one after the other, each with `state` on its standard input. `kind` is the list's name.
///
/// # Errors
/// [`Error::Hook`] for the first that fails or takes too long; those after it are not run.
pub(crate) fn run(kind: &'static str, hooks: &[Hook], state: &State) -> Result<()> {
    hooks.iter().enumerate().try_for_each(|(index, hook)| run_one(kind, index, hook, state))
}

/// Runs the poststart hooks: the program has been executed.
///
/// # Errors
/// [`Error::Hook`]: the specification demands that the container is stopped then.
pub fn poststart(hooks: Option<&Hooks>, state: &State) -> Result<()> {
    let Some(hooks) = hooks.filter(|h| !h.poststart.is_empty()) else { return Ok(()) };
    run("poststart", &hooks.poststart, &State { status: Status::Running, ..state.clone() })
}

/// Runs the poststop hooks: the container is deleted. All are run; what failed comes back as sentences, since a
/// failure is but a warning.
pub fn poststop(hooks: Option<&Hooks>, state: &State) -> Vec<String> {
    let Some(hooks) = hooks.filter(|h| !h.poststop.is_empty()) else { return Vec::new() };
    let state = State { status: Status::Stopped, pid: 0, ..state.clone() };
    let results =
        hooks.poststop.iter().enumerate().map(|(index, hook)| run_one("poststop", index, hook, &state));
    results.filter_map(Result::err).map(|error| error.to_string()).collect()
}

fn run_one(kind: &'static str, index: usize, hook: &Hook, state: &State) -> Result<()> {
    let input = memfd(c"state")?;
    fill(&input, state)?;
    let output = memfd(c"hook")?;
    let fail = |why: String| {
        let printed = printed(&output);
        let shown = if printed.is_empty() { String::new() } else { format!(" (it printed: {printed})") };
        Err(Error::Hook { kind, index, path: hook.path.clone(), why: why + &shown })
    };
    let path = cstring(hook.path.as_bytes())?;
    let fds = [input.as_fd(), output.as_fd(), output.as_fd()];
    let child = match kernel::process::spawn_path(&path, &arguments(hook)?, &CStrings::new(&hook.env)?, &fds)
    {
        Ok(child) => child,
        Err(error) => return fail(error.source.to_string()),
    };
    let limit = timeout(hook);
    let waited = kernel::process::await_end(child.pidfd.as_fd(), limit.map(Duration::from_secs), None)
        .act("wait for", || hook.path.clone())?;
    if waited != Waited::Ended {
        // Fails only for a process that has ended by itself meanwhile.
        let _ = kernel::process::signal(child.pidfd.as_fd(), libc::SIGKILL);
    }
    match (waited, child.wait()?) {
        (Waited::Ended, Exit::Code(0)) => Ok(()),
        (Waited::Ended, Exit::Code(code)) => fail(ended(code)),
        (Waited::Ended, Exit::Signal { signal, .. }) => fail(format!("signal {signal} ended it")),
        _ => fail(format!("it took longer than its timeout of {} s", limit.unwrap_or_default())),
    }
}

/// How a hook ended, by its exit code, 128 + the signal.
pub(crate) fn ended(code: i32) -> String {
    let cause = match code - 128 {
        libc::SIGSYS => " (signal: bad system call; the filter of linux.seccomp forbids what it did)",
        _ => "",
    };
    format!("it ended with exit code {code}{cause}")
}

/// The beginning of what hooks printed.
pub(crate) fn printed(output: &OwnedFd) -> String {
    let mut text = Vec::new();
    let read = rustix::fs::seek(output, rustix::fs::SeekFrom::Start(0))
        .map_err(std::io::Error::from)
        .and_then(|_| output.try_clone())
        .and_then(|copy| std::fs::File::from(copy).take(SHOWN).read_to_end(&mut text));
    match read {
        Ok(_) => String::from_utf8_lossy(&text).trim().to_owned(),
        Err(_) => String::new(),
    }
}
