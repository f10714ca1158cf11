//! Exec and attach.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::{CONSENT, Error, LINGER, PATIENCE, PING, Protocol, Target, upgrade};
use crate::mux::Connection;
use crate::remote_command::{Exit, Requested, TerminalSize, status};
use crate::spdy::{Headers, Spdy};
use crate::websocket::{Channels, Encoding, Side};
use crate::{Broken, Input, Output, relay};

/// What a status may have.
const STATUS_MAX: u64 = 64 * 1024;

/// A command, seen from its client. [`Command::run`] does it all; who wants the streams apart takes them out and calls
/// [`Command::wait`] once stdout and stderr have ended. Dropping it ends the connection.
pub struct Command {
    /// Dropping it tells the command that its input has ended.
    pub stdin: Option<Output>,
    /// It ends when the command has closed it.
    pub stdout: Option<Input>,
    /// As `stdout`.
    pub stderr: Option<Input>,
    resize: Option<Output>,
    error: Option<Input>,
    tells_json: bool,
    connection: Connection,
}

impl Command {
    /// Asks `target` for the streams that are `requested`. An API server's and a kubelet's address must say the same in
    /// its query ([`Requested::to_query`]).
    ///
    /// # Errors
    /// No connection, no agreement, or no streams.
    pub async fn start(target: &Target, requested: Requested, protocol: Protocol) -> Result<Command, Error> {
        match protocol {
            Protocol::WebSocket => Command::websocket(target, requested, &["v5.channel.k8s.io"]).await,
            Protocol::Spdy => Command::spdy(target, requested, SPDY).await,
            Protocol::Auto => match Command::websocket(target, requested, &["v5.channel.k8s.io"]).await {
                Err(refusal) if refusal.is_refusal() => Command::spdy(target, requested, SPDY).await,
                other => other,
            },
        }
    }

    /// By WebSocket, in one of these versions.
    pub(crate) async fn websocket(
        target: &Target,
        requested: Requested,
        versions: &[&'static str],
    ) -> Result<Command, Error> {
        let upgraded = upgrade::websocket(target, versions).await?;
        let encoding = if upgraded.version.contains("base64") { Encoding::Base64 } else { Encoding::Binary };
        let closes = upgraded.version.starts_with("v5");
        let (connection, driver) =
            Connection::new(upgraded.transport, Box::new(Channels::new(Side::Client, encoding, closes)));
        // The other direction is kept, so that nothing is closed that the server might miss.
        let input = |channel| {
            let (input, output) = connection.channel(channel);
            input.with(output)
        };
        let output = |channel| connection.channel(channel).1;
        let command = Command {
            stdin: requested.stdin().then(|| output(0)),
            stdout: requested.stdout().then(|| input(1)),
            stderr: requested.stderr().then(|| input(2)),
            resize: requested.tty().then(|| output(4)),
            error: Some(input(3)),
            tells_json: upgraded.version.starts_with('v'),
            connection,
        };
        // Only now that the channels are known may something be dealt out to them.
        tokio::spawn(driver.pings(PING, PATIENCE));
        Ok(command)
    }

    /// By SPDY, in one of these versions.
    pub(crate) async fn spdy(
        target: &Target,
        requested: Requested,
        versions: &[&'static str],
    ) -> Result<Command, Error> {
        let upgraded = upgrade::spdy(target, versions).await?;
        let (connection, driver) = Connection::new(upgraded.transport, Box::new(Spdy::client()));
        tokio::spawn(driver.pings(PING, Duration::MAX));
        let sizes = matches!(upgraded.version, "v3.channel.k8s.io" | "v4.channel.k8s.io");
        let wanted = [
            ("error", true),
            ("stdin", requested.stdin()),
            ("stdout", requested.stdout()),
            ("stderr", requested.stderr()),
            ("resize", requested.tty() && sizes),
        ];
        let open = |(kind, wanted): (&str, bool)| {
            wanted.then(|| connection.open(&Headers::new(&[("streamType", kind)])))
        };
        let mut streams = wanted.map(open);
        for (stream, (kind, _)) in streams.iter_mut().zip(wanted) {
            if let Some((_, output)) = stream {
                accepted(output, kind).await?;
            }
        }
        let input = |stream: Option<(Input, Output)>| stream.map(|(input, output)| input.with(output));
        let output = |stream: Option<(Input, Output)>| stream.map(|(_, output)| output);
        let [error, stdin, stdout, stderr, resize] = streams;
        Ok(Command {
            stdin: output(stdin),
            stdout: input(stdout),
            stderr: input(stderr),
            resize: output(resize),
            error: input(error),
            tells_json: upgraded.version == "v4.channel.k8s.io",
            connection,
        })
    }

    /// Tells the command the size of its terminal. Nothing happens where it has none.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn resize(&mut self, size: TerminalSize) -> io::Result<()> {
        match &mut self.resize {
            Some(resize) => send_size(resize, size).await,
            None => Ok(()),
        }
    }

    /// Waits for the command's end. To be called when stdout and stderr have ended, or are not wanted any more.
    ///
    /// # Errors
    /// It could not be run, or the connection broke before.
    pub async fn wait(mut self) -> Result<Exit, Error> {
        self.end().await
    }

    async fn end(&mut self) -> Result<Exit, Error> {
        let Some(error) = self.error.take() else { return Err(Error::Lost) };
        let mut told = Vec::new();
        let read = error.take(STATUS_MAX).read_to_end(&mut told).await;
        match read {
            Ok(_) if told.is_empty() => Ok(Exit::SUCCESS),
            Err(_) if told.is_empty() => Err(Error::Lost),
            _ if self.tells_json => status::parse(&told).map_err(Error::Failed),
            _ => Err(Error::Failed(String::from_utf8_lossy(&told).into_owned())),
        }
    }

    /// Copies everything until the command has ended: `stdin` to it, for as long as it runs; what it writes to `stdout` and
    /// `stderr`; and its terminal's `sizes`.
    ///
    /// # Errors
    /// As for [`wait`](Command::wait), or what was received cannot be written.
    pub async fn run<R, O, E>(
        mut self,
        stdin: R,
        stdout: O,
        stderr: E,
        mut sizes: mpsc::Receiver<TerminalSize>,
    ) -> Result<Exit, Error>
    where
        R: AsyncRead + Unpin,
        O: AsyncWrite + Unpin,
        E: AsyncWrite + Unpin,
    {
        let (to, from, from_too) = (self.stdin.take(), self.stdout.take(), self.stderr.take());
        let resize = self.resize.take();
        let input = async {
            if let Some(to) = to {
                // It breaks when the command wants no input any more, which is no failure of the command.
                let _ = relay(stdin, to).await;
            }
        };
        let sizes = async {
            if let Some(mut resize) = resize {
                while let Some(size) = sizes.recv().await {
                    if send_size(&mut resize, size).await.is_err() {
                        break;
                    }
                }
            }
        };
        let output = async {
            tokio::try_join!(copy(from, stdout), copy(from_too, stderr))?;
            self.end().await
        };
        let aside = async {
            tokio::join!(input, sizes);
            std::future::pending().await
        };
        tokio::select! {
            end = output => end,
            () = aside => Err(Error::Lost),
        }
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        self.connection.close(LINGER);
    }
}

/// SPDY's versions, best first.
const SPDY: &[&str] = &["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

/// Waits for the server's consent to a stream.
pub(super) async fn accepted(output: &mut Output, stream: &'static str) -> Result<(), Error> {
    let waited = tokio::time::timeout(CONSENT, output.accepted()).await;
    waited
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|source| Error::Stream { stream, source })
}

/// Passes on what the command writes. A connection that breaks is told of by the missing result.
async fn copy(from: Option<Input>, to: impl AsyncWrite + Unpin) -> Result<(), Error> {
    let Some(from) = from else { return Ok(()) };
    match relay(from, to).await {
        Err(Broken::Writing(error)) => Err(Error::Local(error)),
        Ok(_) | Err(Broken::Reading(_)) => Ok(()),
    }
}

async fn send_size(resize: &mut Output, size: TerminalSize) -> io::Result<()> {
    let mut line = serde_json::to_vec(&size)?;
    line.push(b'\n');
    resize.write_all(&line).await
}
