//! Exec, Attach and PortForward: a URL, and what happens when somebody comes there.

use std::sync::Arc;
use std::time::Duration;

use oci_runtime::contract::ConsoleSize;
use prost::Message;
use shim::protocol::{
    ATTACH, AttachRequest, EXEC, ExecRequest, Exited, Input, KILL, KillRequest, Output, Size,
};
use streaming::Failure;
use streaming::remote_command::{Exit, RemoteCommand, Requested, Resizes, TerminalSize};
use streaming::server::{Config, Runtime, TokenServer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::node::{Node, blocking};
use super::super::pod::is_host;
use super::super::shims::{Connection, Event, Sender, Stream};
use super::super::{exec, ids};
use crate::contract::{Error, v1};

/// How long a client with a terminal may take to say its size before the program begins without.
const FIRST_SIZE: Duration = Duration::from_millis(200);

/// The streaming server of a node.
pub(crate) struct Streams {
    server: TokenServer<Handler>,
}

/// What serves streams.
#[derive(Clone)]
struct Handler {
    node: Arc<Node>,
}

/// A process to be brought in, once its client comes.
pub(crate) struct ExecCall {
    container: String,
    command: Vec<String>,
    stdin: bool,
    tty: bool,
}

/// A container to be attached to, once its client comes.
pub(crate) struct AttachCall {
    container: String,
    stdin: bool,
}

impl Streams {
    /// A server for the streams of `node`.
    pub(crate) async fn start(node: Arc<Node>, config: Config) -> Result<Self, Error> {
        let server = TokenServer::start(config, Arc::new(Handler { node })).await;
        let server =
            server.map_err(|e| Error::internal(format!("cannot start the streaming server: {e}")))?;
        Ok(Self { server })
    }

    /// A URL that runs a command once.
    pub(crate) fn exec(&self, node: &Node, request: v1::ExecRequest) -> Result<String, Error> {
        let container = node.state.container(&request.container_id)?;
        container.must_run()?;
        if request.cmd.is_empty() {
            return Err(Error::invalid("cmd", "is empty: give a command"));
        }
        let requested = requested(request.stdin, request.stdout, request.stderr, request.tty)?;
        let call = ExecCall {
            container: container.id().to_owned(),
            command: request.cmd,
            stdin: request.stdin,
            tty: request.tty,
        };
        self.server.exec(call, requested).map_err(exhausted)
    }

    /// A URL that attaches once.
    pub(crate) fn attach(&self, node: &Node, request: &v1::AttachRequest) -> Result<String, Error> {
        let container = node.state.container(&request.container_id)?;
        container.must_run()?;
        let requested = requested(request.stdin, request.stdout, request.stderr, request.tty)?;
        if request.tty != container.record.config.tty {
            let is =
                if request.tty { "the container has no terminal" } else { "the container has a terminal" };
            return Err(Error::invalid("tty", format!("{is}: ask as it was created")));
        }
        let call = AttachCall { container: container.id().to_owned(), stdin: request.stdin };
        self.server.attach(call, requested).map_err(exhausted)
    }

    /// A URL that connects to a pod's ports.
    pub(crate) fn port_forward(
        &self,
        node: &Node,
        request: &v1::PortForwardRequest,
    ) -> Result<String, Error> {
        let pod = node.state.pod(&request.pod_sandbox_id)?;
        pod.shim()?;
        let port = |port: &i32| {
            u16::try_from(*port)
                .ok()
                .filter(|&port| port > 0)
                .ok_or_else(|| Error::invalid("port", format!("{port} is no port: give one from 1 to 65535")))
        };
        let ports = request.port.iter().map(port).collect::<Result<Vec<_>, _>>()?;
        self.server.port_forward(pod.id().to_owned(), ports).map_err(exhausted)
    }
}

fn requested(stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Result<Requested, Error> {
    Requested::new(stdin, stdout, stderr, tty).map_err(|e| Error::invalid("tty", e.to_string()))
}

fn exhausted(error: impl std::fmt::Display) -> Error {
    Error::new(grpc::Code::ResourceExhausted, error.to_string())
}

impl Runtime for Handler {
    type Exec = ExecCall;
    type Attach = AttachCall;
    type PortForward = String;
    type Connection = TcpStream;

    async fn exec(&self, call: ExecCall, mut streams: RemoteCommand) -> Result<Exit, Failure> {
        let node = &self.node;
        let container = node.state.container(&call.container)?;
        // A client with a terminal says its size at once: a program is to see it from its beginning.
        let size = match &mut streams.resize {
            Some(sizes) if call.tty => tokio::time::timeout(FIRST_SIZE, sizes.next()).await.ok().flatten(),
            _ => None,
        };
        let (reader, target) = (Arc::clone(node), Arc::clone(&container));
        let process = blocking(move || {
            let mut process = exec::process(&reader, &target, call.command, call.tty)?;
            process.console_size =
                size.map(|size| ConsoleSize { height: size.height.into(), width: size.width.into() });
            if call.tty && !process.env.iter().any(|word| word.starts_with("TERM=")) {
                process.env.push("TERM=xterm".into());
            }
            serde_json::to_vec(&process)
                .map_err(|e| Error::internal(format!("cannot write the process: {e}")))
        });
        let exec_id = ids::exec_id()?;
        let process = process.await?;
        let shim = exec::connect(node, &container).await?;
        let asked = ExecRequest {
            exec_id: exec_id.clone(),
            process,
            stdin: call.stdin,
            container: call.container.clone(),
        };
        let stream = shim.stream(&EXEC, &asked).await?;
        let exited = carry(stream, streams, true).await?;
        match exited {
            Some(exited) => Ok(Exit(u8::try_from(exited.code).unwrap_or(u8::MAX))),
            // The client has gone: nobody would ever end a shell that waits for input.
            None => {
                kill(&shim, &call.container, exec_id).await;
                Err("the client has gone".into())
            }
        }
    }

    async fn attach(&self, call: AttachCall, streams: RemoteCommand) -> Result<(), Failure> {
        let container = self.node.state.container(&call.container)?;
        let once = container.record.config.stdin_once && !container.record.config.tty;
        let shim = exec::connect(&self.node, &container).await?;
        let asked = AttachRequest { exec_id: String::new(), stdin: call.stdin, container: call.container };
        let stream = shim.stream(&ATTACH, &asked).await?;
        carry(stream, streams, once).await?;
        Ok(())
    }

    async fn connect(&self, call: &String, port: u16) -> Result<TcpStream, Failure> {
        let pod = self.node.state.pod(call)?;
        pod.shim()?;
        let netns = (!is_host(&pod.record.config)).then(|| self.node.place.netns(pod.id()));
        let stream = blocking(move || {
            let connect = move || {
                std::net::TcpStream::connect(("127.0.0.1", port))
                    .or_else(|first| std::net::TcpStream::connect(("::1", port)).map_err(|_| first))
            };
            let connected = match netns {
                None => connect(),
                Some(path) => {
                    let file = std::fs::File::open(&path)
                        .map_err(|e| Error::internal(format!("cannot open {}: {e}", path.display())))?;
                    kernel::namespace::in_netns(&file, || Ok(connect()))?
                }
            };
            connected.map_err(|e| Error::internal(format!("cannot connect to port {port} in the pod: {e}")))
        })
        .await?;
        stream.set_nonblocking(true)?;
        Ok(TcpStream::from_std(stream)?)
    }
}

async fn kill(shim: &Connection, container: &str, exec_id: String) {
    const SIGKILL: i32 = 9;
    let request = KillRequest { exec_id, signal: SIGKILL, all: false, container: container.to_owned() };
    // It may have ended in this moment.
    let _ = shim.call(&KILL, &request).await;
}

/// Carries bytes between a process and its client until the process ends; `None` if the client goes first.
///
/// The directions never wait for each other: a process that writes before it reads on would wait for ever.
async fn carry(
    mut stream: Stream,
    streams: RemoteCommand,
    close_input: bool,
) -> Result<Option<Exited>, Failure> {
    let RemoteCommand { stdin, mut stdout, mut stderr, resize, client, .. } = streams;
    let (to_input, to_terminal) = (stream.sender(), stream.sender());
    let output = async {
        loop {
            match stream.next().await {
                Event::Data(bytes) => {
                    let output = Output::decode(&*bytes)?;
                    for (to, data) in [(&mut stdout, output.stdout), (&mut stderr, output.stderr)] {
                        if let Some(to) = to
                            && !data.is_empty()
                            && to.write_all(&data).await.is_err()
                        {
                            return Ok(None);
                        }
                    }
                }
                Event::End(end) => return Ok(Some(Exited::decode(&*end?)?)),
            }
        }
    };
    tokio::select! {
        ended = output => ended,
        // Both go on until the process ends; what is left of them is an error.
        error = input(stdin, &to_input, close_input) => error.map(|()| None),
        error = sizes(resize, &to_terminal) => error.map(|()| None),
        () = client.gone() => Ok(None),
    }
}

/// Carries input to the process. Comes back only if the client goes, or the shim does.
async fn input(
    stdin: Option<impl AsyncRead + Unpin>,
    process: &Sender,
    close_input: bool,
) -> Result<(), Failure> {
    let Some(mut stdin) = stdin else { return std::future::pending().await };
    let mut buffer = vec![0; 32 << 10];
    loop {
        match stdin.read(&mut buffer).await {
            Ok(0) => {
                if close_input {
                    process.send(&Input { close: true, ..Input::default() }).await?;
                }
                return std::future::pending().await;
            }
            Ok(length) => {
                let data = buffer.get(..length).unwrap_or_default().to_vec();
                process.send(&Input { data, ..Input::default() }).await?;
            }
            Err(_) => return Ok(()),
        }
    }
}

/// Carries a terminal's sizes to the process. Comes back only if the shim goes.
async fn sizes(resize: Option<Resizes>, process: &Sender) -> Result<(), Failure> {
    let Some(mut resize) = resize else { return std::future::pending().await };
    while let Some(TerminalSize { width, height }) = resize.next().await {
        let size = Some(Size { rows: height.into(), columns: width.into() });
        process.send(&Input { size, ..Input::default() }).await?;
    }
    std::future::pending().await
}
