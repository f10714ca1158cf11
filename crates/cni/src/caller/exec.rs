use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde_json::Value;

use super::Caller;
use crate::contract::{Code, Error, Request, Version};

/// More output than any result has.
const OUTPUT: usize = 4 << 20;
/// A plugin that is being written ("text file busy") is tried again after this long.
const BUSY: Duration = Duration::from_millis(100);

/// Executes a plugin as the specification says: CNI_* variables, configuration on stdin, result or error on stdout.
pub(super) fn call(caller: &Caller, kind: &str, verb: &str, request: &Request<'_>) -> Result<Vec<u8>, Error> {
    let program = find(caller, kind)?;
    let until = Instant::now() + caller.deadline;
    let mut child = spawn(caller, &program, verb, request, until)
        .map_err(|e| Error::because(format!("cannot execute plugin {}", program.display()), e))?;
    let group = Pid::from_child(&child);
    let talked = talk(&mut child, &stdin(verb, request), until);
    if talked.is_err() {
        // The group: a plugin's children go with it.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let status = child.wait().map_err(|e| Error::because(format!("cannot wait for plugin {kind:?}"), e))?;
    let (out, err) = talked.map_err(|e| match e.kind() {
        std::io::ErrorKind::TimedOut => Error::new(
            Code::TryAgain,
            format!(
                "plugin {kind:?} did not answer {verb} within {} s and was killed",
                caller.deadline.as_secs()
            ),
        ),
        _ => Error::because(format!("cannot speak with plugin {kind:?}"), e).code(Code::Io),
    })?;
    if status.success() { Ok(out) } else { Err(failure(kind, verb, status, &out, &err)) }
}

fn find(caller: &Caller, kind: &str) -> Result<PathBuf, Error> {
    let found = caller.plugin_dirs.iter().map(|dir| dir.join(kind)).find(|path| path.is_file());
    found.ok_or_else(|| {
        let dirs: Vec<_> = caller.plugin_dirs.iter().map(|dir| dir.display().to_string()).collect();
        let builtins: Vec<_> = caller.builtins.keys().copied().collect();
        Error::new(Code::InvalidConfig, format!("cannot find plugin {kind:?} in [{}]", dirs.join(", ")))
            .hint(format!("built in are {}", builtins.join(", ")))
    })
}

fn spawn(
    caller: &Caller,
    program: &PathBuf,
    verb: &str,
    request: &Request<'_>,
    until: Instant,
) -> std::io::Result<Child> {
    let dirs: Vec<_> = caller.plugin_dirs.iter().map(|dir| dir.as_os_str()).collect();
    let mut command = Command::new(program);
    command
        .env("CNI_COMMAND", verb)
        .env("CNI_PATH", dirs.join(std::ffi::OsStr::new(":")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    // An ADD that outlives us would race with the DEL of whoever finds out what was left.
    kernel::command::dies_with_thread(&mut command);
    if !matches!(verb, "STATUS" | "GC" | "VERSION") {
        let attachment = request.attachment;
        command
            .env("CNI_CONTAINERID", &attachment.container_id)
            .env("CNI_IFNAME", &attachment.ifname)
            .env("CNI_ARGS", attachment.args_text())
            .env("CNI_NETNS", attachment.netns.clone().unwrap_or_default());
    }
    loop {
        match command.spawn() {
            Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy && Instant::now() < until => {
                std::thread::sleep(BUSY);
            }
            outcome => return outcome,
        }
    }
}

fn stdin(verb: &str, request: &Request<'_>) -> Vec<u8> {
    let mut keys = request.conf.keys.clone();
    // DEL was not told before 0.4.0.
    let told = verb != "DEL" || request.version >= Version::V0_4_0;
    if let Some(previous) = request.previous.filter(|_| told) {
        keys.insert("prevResult".into(), previous.to_value(request.version));
    }
    Value::Object(keys).to_string().into_bytes()
}

/// Feeds stdin and gathers stdout and stderr until the plugin has ended and closed them, or time is up.
fn talk(child: &mut Child, input: &[u8], until: Instant) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let ended = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let (Some(stdin), Some(mut stdout), Some(mut stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(Errno::BADF.into());
    };
    for fd in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
        rustix::io::ioctl_fionbio(fd, true)?;
    }
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut rest = input;
    let mut stdin = Some(stdin);
    let (mut out_open, mut err_open, mut running) = (true, true, true);
    // A daemon that the plugin leaves behind may keep stderr open: the end of the plugin is the end.
    while running {
        let mut waiting: Vec<PollFd<'_>> = vec![PollFd::new(&ended, PollFlags::IN)];
        if out_open {
            waiting.push(PollFd::new(&stdout, PollFlags::IN));
        }
        if err_open {
            waiting.push(PollFd::new(&stderr, PollFlags::IN));
        }
        if let Some(stdin) = &stdin {
            waiting.push(PollFd::new(stdin, PollFlags::OUT));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut waiting, Some(&timeout)) {
            Err(Errno::INTR) | Ok(0) => continue,
            Err(e) => return Err(e.into()),
            Ok(_) => running = waiting.first().is_some_and(|ended| ended.revents().is_empty()),
        }
        drop(waiting);
        if let Some(pipe) = &mut stdin {
            match pipe.write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                // A plugin need not read what it does not want.
                Err(_) => rest = &[],
            }
        }
        out_open = out_open && gather(&mut stdout, &mut out)?;
        err_open = err_open && gather(&mut stderr, &mut err)?;
        if rest.is_empty() {
            stdin = None;
        }
    }
    Ok((out, err))
}

/// Takes what is there. False at the end.
fn gather(pipe: &mut impl Read, into: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(n) if into.len() + n > OUTPUT => return Err(std::io::ErrorKind::FileTooLarge.into()),
            Ok(n) => into.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn failure(kind: &str, verb: &str, status: ExitStatus, out: &[u8], err: &[u8]) -> Error {
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes.get(..2000).unwrap_or(bytes)).trim().to_owned();
    match Error::from_json(out) {
        Some(mut error) => {
            error.message = format!("plugin {kind:?} failed {verb}: {}", error.message);
            error
        }
        None => Error::new(Code::Other(100), format!("plugin {kind:?} failed {verb} with {status}"))
            .hint([words(out), words(err)].join(" ").trim().to_owned()),
    }
}
