//! Client and server against each other, over real sockets, in each protocol.

mod commands;
mod malformed;
mod many;
mod ports;
mod tokens;
mod windows;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Command, Error, Target};
use crate::remote_command::{Exit, RemoteCommand, Requested};
use crate::server::{Config, Runtime, TokenServer};
use crate::{Failure, Limits};

/// What a session is to do.
type Work =
    Box<dyn FnOnce(RemoteCommand) -> Pin<Box<dyn Future<Output = Result<Exit, Failure>> + Send>> + Send>;

fn work<F>(act: impl FnOnce(RemoteCommand) -> F + Send + 'static) -> Work
where
    F: Future<Output = Result<Exit, Failure>> + Send + 'static,
{
    Box::new(move |streams| Box::pin(act(streams)))
}

/// Commands are closures, ports are the machine's.
struct Rig;

impl Runtime for Rig {
    type Exec = Work;
    type Attach = Work;
    type PortForward = ();
    type Connection = TcpStream;

    async fn exec(&self, work: Work, streams: RemoteCommand) -> Result<Exit, Failure> {
        work(streams).await
    }

    async fn attach(&self, work: Work, streams: RemoteCommand) -> Result<(), Failure> {
        work(streams).await.map(|_| ())
    }

    async fn connect(&self, (): &(), port: u16) -> Result<TcpStream, Failure> {
        Ok(TcpStream::connect(("127.0.0.1", port)).await?)
    }
}

async fn server() -> TokenServer<Rig> {
    server_with(Limits::default()).await
}

async fn server_with(limits: Limits) -> TokenServer<Rig> {
    TokenServer::start(Config { limits, ..Config::default() }, Arc::new(Rig)).await.expect("a server")
}

/// Each way a command can come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Spdy(&'static str),
    WebSocket(&'static str),
}

const WAYS: [Way; 9] = [
    Way::Spdy("v4.channel.k8s.io"),
    Way::Spdy("v3.channel.k8s.io"),
    Way::Spdy("v2.channel.k8s.io"),
    Way::Spdy("channel.k8s.io"),
    Way::WebSocket("v5.channel.k8s.io"),
    Way::WebSocket("v4.channel.k8s.io"),
    Way::WebSocket("v4.base64.channel.k8s.io"),
    Way::WebSocket("channel.k8s.io"),
    Way::WebSocket("base64.channel.k8s.io"),
];

impl Way {
    fn half_closes(self) -> bool {
        matches!(self, Way::Spdy(_) | Way::WebSocket("v5.channel.k8s.io"))
    }

    fn tells_codes(self) -> bool {
        let (Way::Spdy(name) | Way::WebSocket(name)) = self;
        name.starts_with("v4") || name.starts_with("v5")
    }

    fn resizes(self) -> bool {
        !matches!(self, Way::Spdy("v2.channel.k8s.io" | "channel.k8s.io"))
    }

    async fn start(self, target: &Target, requested: Requested) -> Result<Command, Error> {
        match self {
            Way::Spdy(name) => Command::spdy(target, requested, &[name]).await,
            Way::WebSocket(name) => Command::websocket(target, requested, &[name]).await,
        }
    }

    /// Starts `act` on `server` and gives its client.
    async fn exec(self, server: &TokenServer<Rig>, requested: Requested, act: Work) -> Command {
        let url = server.exec(act, requested).expect("an address");
        let started = within(self.start(&Target::parse(&url).expect("a target"), requested)).await;
        started.unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }
}

fn requested(stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Requested {
    Requested::new(stdin, stdout, stderr, tty).expect("streams")
}

/// What hangs fails.
async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(180), what).await.expect("it must not hang")
}

/// Everything up to the end.
async fn all(stream: &mut Option<crate::Input>) -> Vec<u8> {
    let mut bytes = Vec::new();
    within(stream.as_mut().expect("a stream").read_to_end(&mut bytes)).await.expect("bytes");
    bytes
}

/// Bytes that show if one is missing or out of order.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

async fn say(stream: &mut Option<crate::Output>, bytes: &[u8]) {
    within(stream.as_mut().expect("a stream").write_all(bytes)).await.expect("written");
}
