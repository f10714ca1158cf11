//! Exec and attach: a command's standard streams, its terminal's size and its end, over one connection.
//!
//! [`answer`] takes an HTTP request that asks for an upgrade and gives back the response, and a future that is the
//! session. The handler gets the streams as [`RemoteCommand`] and returns how the command ended; the session tells the
//! client in the words of the protocol version that was agreed on.

mod requested;
mod resize;
mod session;
pub(crate) mod status;

use std::pin::Pin;

pub use requested::{InvalidStreams, Requested};
pub use resize::{Resizes, TerminalSize};
pub use session::answer;
pub(crate) use session::attend;
pub(crate) use session::refusal;

use crate::mux::Gone;
use crate::{Input, Output};

/// The streams of one command, as its client opened them.
///
/// A stream that was not asked for is `None`. Dropping an [`Output`] tells the client that nothing more comes on it;
/// dropping [`stdin`](RemoteCommand::stdin) tells it that nobody reads. Neither ends the session: the handler's return
/// does.
#[derive(Debug)]
pub struct RemoteCommand {
    /// What the client types or pipes. It ends (reads 0 bytes) when the client closes it; it fails with
    /// [`ConnectionReset`](std::io::ErrorKind::ConnectionReset) when the client vanished, which is no end of input.
    pub stdin: Option<Input>,
    /// Writes wait while the client does not read, and fail with [`BrokenPipe`](std::io::ErrorKind::BrokenPipe) once it
    /// is gone.
    pub stdout: Option<Output>,
    /// As `stdout`. Never there with a terminal, which has one output.
    pub stderr: Option<Output>,
    /// The terminal's sizes. There whenever a terminal was asked for, and empty with a client too old to send any.
    pub resize: Option<Resizes>,
    /// Whether the command is to have a terminal.
    pub tty: bool,
    /// To learn that nobody listens any more.
    pub client: Client,
}

/// The client of a session: whether it is still there.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) gone: Gone,
}

impl Client {
    /// Waits until the client has gone: closed, vanished, or idle for too long. A handler that runs long beside its streams
    /// selects on this: when the client goes it is told, not cancelled. It is dropped only with its session, which is at
    /// the end of the server.
    pub async fn gone(&self) {
        self.gone.wait().await;
    }

    /// Whether the client has gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.is_set()
    }
}

/// How a command ended: its exit code, 0 to 255, where one killed by signal N counts as 128 + N.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    /// The command succeeded. What an attach returns too: it ends with no code of its own.
    pub const SUCCESS: Exit = Exit(0);
}

/// The session behind an upgraded connection. It does nothing until polled, so spawn it.
pub type Session = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What to do with a request: send the response; then, if there is one, run the session.
pub struct Answer {
    /// 101 with a session; otherwise the refusal, with its reason as text.
    pub response: hyper::Response<http_body_util::Full<bytes::Bytes>>,
    /// There if the response is 101. It begins to work once the response is sent.
    pub session: Option<Session>,
}
