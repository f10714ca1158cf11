//! Exec and attach: from a runtime's address to this command's terminal and back.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use cri::contract::v1::{AttachRequest, Container, ContainerState, ExecRequest};
use serde_json::Value;
use streaming::client::{Command, Error, Protocol, Target};
use streaming::remote_command::{Requested, TerminalSize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{Runtime, stdio};
use crate::failure::{Failure, Result};
use crate::terminal::{self, Raw};

/// The exit code for a program that could not be executed.
const NOT_EXECUTED: u8 = 126;

/// Signals that end a session. On a terminal in raw mode keys are no signals.
const ENDING: [SignalKind; 4] =
    [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()];

/// How a person wants a program's streams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) stdin: bool,
    pub(crate) tty: bool,
    /// Ctrl-P Ctrl-Q leaves.
    pub(crate) detach_keys: bool,
}

/// How a session ended.
enum End {
    /// The program has, with this code.
    Exited(u8),
    /// The person left.
    Left,
    /// By this signal.
    Signal(i32),
}

/// Runs a program in a container; the exit code is the program's.
pub(crate) fn exec(
    runtime: &Runtime,
    container: &Container,
    command: &[String],
    asked: Asked,
) -> Result<ExitCode> {
    let request = ExecRequest {
        container_id: container.id.clone(),
        cmd: command.to_vec(),
        tty: asked.tty,
        stdin: asked.stdin,
        stdout: true,
        stderr: !asked.tty,
    };
    let url = runtime.ask("run it", async |client| client.exec(request).await)?.url;
    // Every runtime speaks it, and an address that refused another protocol would be used up.
    runtime.wait(async |_| run_at(&Target::parse(&url)?, Protocol::Spdy, asked).await)
}

/// Runs what an address stands for; the exit code is the program's.
pub(crate) async fn run_at(target: &Target, protocol: Protocol, asked: Asked) -> Result<ExitCode> {
    match carry(target, protocol, asked).await {
        Ok(End::Exited(code)) => Ok(ExitCode::from(code)),
        Ok(End::Left) => Ok(ExitCode::SUCCESS),
        Ok(End::Signal(number)) => Ok(by_signal(number)),
        Err(Error::Failed(text)) => {
            let text = text.trim_start_matches("Internal error occurred: ");
            Err(Failure::new(text).with_code(NOT_EXECUTED))
        }
        Err(other) => Err(other.into()),
    }
}

/// Connects to a container's own program until that ends or the person leaves; the exit code is the program's.
pub(crate) fn attach(runtime: &Runtime, container: &Container, input: bool) -> Result<ExitCode> {
    let created = streams(&runtime.status(&container.id, true)?.info);
    let asked = Asked { stdin: input && created.stdin, detach_keys: created.tty, ..created };
    let request = AttachRequest {
        container_id: container.id.clone(),
        stdin: asked.stdin,
        tty: asked.tty,
        stdout: true,
        stderr: !asked.tty,
    };
    let url = runtime.ask("attach", async |client| client.attach(request).await)?.url;
    let carried = runtime.wait(async |_| carry(&Target::parse(&url)?, Protocol::Spdy, asked).await);
    match carried {
        Ok(End::Exited(_)) => Ok(code_of(runtime, &container.id)?),
        Ok(End::Left) => Ok(ExitCode::SUCCESS),
        Ok(End::Signal(number)) => Ok(by_signal(number)),
        Err(error) => Err(Failure::new(error.to_string())),
    }
}

fn by_signal(number: i32) -> ExitCode {
    ExitCode::from(u8::try_from(128 + number).unwrap_or(u8::MAX))
}

/// Which streams a container was created with: runtimes tell it where they tell all they know.
fn streams(info: &std::collections::BTreeMap<String, String>) -> Asked {
    let info: Value = info.get("info").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let set = |path: &str| info.pointer(path).and_then(Value::as_bool).unwrap_or(false);
    let tty = set("/config/tty") || set("/runtimeSpec/process/terminal");
    Asked { stdin: set("/config/stdin") || tty, tty, detach_keys: tty }
}

/// The exit code of a container whose streams have ended. One that runs on has closed them.
fn code_of(runtime: &Runtime, id: &str) -> Result<ExitCode> {
    // The runtime hears of the end at the same time as we do.
    for _ in 0..100 {
        let status = runtime.status(id, false)?.status.unwrap_or_default();
        if status.state() == ContainerState::ContainerExited {
            return Ok(ExitCode::from(u8::try_from(status.exit_code).unwrap_or(u8::MAX)));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(ExitCode::SUCCESS)
}

/// Carries everything until the program ends, the person leaves or a signal comes.
async fn carry(target: &Target, protocol: Protocol, asked: Asked) -> Result<End, Error> {
    let requested = Requested::new(asked.stdin, true, !asked.tty, asked.tty)
        .map_err(|e| Error::Local(io::Error::other(e)))?;
    // The program may run before this knows it: from here on a signal ends it as well.
    let mut ending = Ending::listen().map_err(Error::Local)?;
    let command = tokio::select! {
        command = Command::start(target, requested, protocol) => command?,
        number = ending.told() => return Ok(End::Signal(number)),
    };
    let raw = if asked.tty && asked.stdin { Raw::enter() } else { None };
    let ended = converse(command, asked, &mut ending).await;
    drop(raw);
    ended
}

/// The signals that end a session, from the moment that somebody listens.
struct Ending(Vec<(SignalKind, tokio::signal::unix::Signal)>);

impl Ending {
    fn listen() -> io::Result<Self> {
        ENDING.into_iter().map(|kind| Ok((kind, signal(kind)?))).collect::<io::Result<_>>().map(Self)
    }

    /// The number of the first that comes.
    async fn told(&mut self) -> i32 {
        std::future::poll_fn(|context| {
            let number = self.0.iter_mut().find_map(|(kind, signal)| {
                matches!(signal.poll_recv(context), std::task::Poll::Ready(Some(())))
                    .then(|| kind.as_raw_value())
            });
            number.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
        })
        .await
    }
}

async fn converse(command: Command, asked: Asked, ending: &mut Ending) -> Result<End, Error> {
    let (stdin, leaves, _open) = match asked.stdin {
        true => {
            let (stdin, leaves) = stdio::stdin(asked.detach_keys).map_err(Error::Local)?;
            (stdin, Some(leaves), None)
        }
        false => {
            let (silence, open) = stdio::silence().map_err(Error::Local)?;
            (silence, None, Some(open))
        }
    };
    let left = async {
        // A sender that is gone without a word has seen the end of the input.
        if let Some(leaves) = leaves
            && leaves.await.is_ok()
        {
            return;
        }
        std::future::pending().await
    };
    let (stdout, out) = stdio::output(io::stdout()).map_err(Error::Local)?;
    let (stderr, err) = stdio::output(io::stderr()).map_err(Error::Local)?;
    let (send, sizes) = mpsc::channel(4);
    let end = tokio::select! {
        end = command.run(stdin, stdout, stderr, sizes) => End::Exited(end?.0),
        () = left => End::Left,
        number = ending.told() => End::Signal(number),
        error = tell_sizes(asked.tty, send) => return Err(Error::Local(error)),
    };
    // All that came is shown before the end is; a person who goes waits for nobody.
    if let End::Exited(_) = end {
        for writer in [out, err] {
            match writer.join().unwrap_or(Ok(())) {
                Err(e) if e.kind() != io::ErrorKind::BrokenPipe => return Err(Error::Local(e)),
                _ => {}
            }
        }
    }
    Ok(end)
}

/// The terminal's size now, and whenever it changes. Comes back only if that cannot be learned.
async fn tell_sizes(tty: bool, send: mpsc::Sender<TerminalSize>) -> io::Error {
    if !tty {
        return std::future::pending().await;
    }
    let mut changes = match signal(SignalKind::window_change()) {
        Ok(changes) => changes,
        Err(error) => return error,
    };
    loop {
        if let Some(size) = terminal::size() {
            let part = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
            let size = TerminalSize { width: part(size.columns), height: part(size.rows) };
            if send.send(size).await.is_err() {
                return std::future::pending().await;
            }
        }
        changes.recv().await;
    }
}
