//! What a CRI server implements.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::Failure;
use crate::remote_command::{Exit, RemoteCommand};

/// What is behind the addresses of a [`TokenServer`](super::TokenServer).
///
/// ```
/// use streaming::Failure;
/// use streaming::remote_command::{Exit, RemoteCommand};
/// use streaming::server::Runtime;
/// use tokio::io::AsyncWriteExt;
///
/// struct Echo;
///
/// impl Runtime for Echo {
///     type Exec = Vec<String>;
///     type Attach = String;
///     type PortForward = String;
///     type Connection = tokio::net::TcpStream;
///
///     async fn exec(&self, command: Vec<String>, mut streams: RemoteCommand) -> Result<Exit, Failure> {
///         if let Some(stdout) = &mut streams.stdout {
///             stdout.write_all(command.join(" ").as_bytes()).await?;
///         }
///         Ok(Exit::SUCCESS)
///     }
///
///     async fn attach(&self, container: String, _: RemoteCommand) -> Result<(), Failure> {
///         Err(format!("cannot attach to container {container}: it does not run").into())
///     }
///
///     async fn connect(&self, _sandbox: &String, port: u16) -> Result<Self::Connection, Failure> {
///         Ok(tokio::net::TcpStream::connect(("127.0.0.1", port)).await?)
///     }
/// }
/// ```
pub trait Runtime: Send + Sync + 'static {
    /// What is remembered of an Exec call until its client comes: a container and a command, or more.
    type Exec: Send + 'static;
    /// What is remembered of an Attach call.
    type Attach: Send + 'static;
    /// What is remembered of a PortForward call: a sandbox.
    type PortForward: Send + Sync + 'static;
    /// A connection to a port inside a sandbox. Shutting its write side down must be passed on (TCP's does), and reading
    /// 0 bytes means that the other side has shut down its own.
    type Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Runs a command with these streams until it ends.
    ///
    /// It is not cancelled when the client goes: [`RemoteCommand::client`] tells, reads and writes fail, and whether the
    /// command is then killed is the runtime's to decide. Streams that are still open when it returns are closed, after
    /// what was written to them has been sent.
    ///
    /// # Errors
    /// The command could not be run. An exit code other than 0 is no error here. The text reaches the client as an
    /// internal error.
    fn exec(
        &self,
        call: Self::Exec,
        streams: RemoteCommand,
    ) -> impl Future<Output = Result<Exit, Failure>> + Send;

    /// Joins a container's own streams, until the container ends or the client goes.
    ///
    /// # Errors
    /// As for [`exec`](Runtime::exec).
    fn attach(
        &self,
        call: Self::Attach,
        streams: RemoteCommand,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Connects to a port inside a sandbox. Called once for each connection that the client takes, at the same time for
    /// many. The bytes are copied by the caller, both ways, with each way's end passed on.
    ///
    /// # Errors
    /// Nobody listens there. The text reaches the client.
    fn connect(
        &self,
        call: &Self::PortForward,
        port: u16,
    ) -> impl Future<Output = Result<Self::Connection, Failure>> + Send;
}
