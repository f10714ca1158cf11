//! The caller's side: one connection to a shim, blocking.
//!
//! Where a method takes a container's id, the empty one is the only container there is. One connection carries any
//! number of calls and streams, but a client that does not read one of its streams holds all of them back: give a stream
//! of output a connection of its own.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use prost::Message;

use crate::protocol::{
    self, AttachRequest, ContainerEvent, ContainerRequest, CreateRequest, Empty, ExecRequest, Exited, Frame,
    FrameError, Input, KillRequest, Kind, Method, Output, ProcessRequest, REMOTE_CLOSED, REMOTE_OPEN,
    Request, ResizeRequest, Response, SERVICE, SandboxReply, SandboxRequest, Started, State, Status,
    StopRequest, UpdateRequest,
};

/// Why a shim could not be asked, or what it answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No shim answers there.
    #[error("cannot reach the shim at {}: {source} (its container has ended, or the shim was killed)", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The connection broke.
    #[error("cannot talk to the shim: {0}")]
    Broken(#[from] io::Error),
    /// The shim spoke nonsense.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The shim spoke nonsense.
    #[error("cannot read the shim's answer: {0}")]
    Decode(#[from] prost::DecodeError),
    /// The shim's own error.
    #[error("{}", .0.message)]
    Refused(Status),
}

impl Error {
    /// The gRPC code of the shim's own error.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Refused(status) => Some(status.code),
            _ => None,
        }
    }
}

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;

/// A connection to a shim.
#[derive(Debug)]
pub struct Client {
    socket: UnixStream,
    buffer: Vec<u8>,
    next: u32,
    /// Those that carry input and output.
    streams: BTreeSet<u32>,
}

/// What comes on a stream.
#[derive(Debug)]
pub enum Event {
    /// Output, or the word that the program runs.
    Output(Output),
    /// The process has ended, and with it the stream.
    Exited(Exited),
}

impl Client {
    /// Connects to the shim that listens at `path`.
    pub fn connect(path: &Path) -> Result<Self> {
        let failed = |source| Error::Connect { path: path.to_path_buf(), source };
        let reach = crate::short_path(path).map_err(failed)?;
        let socket = UnixStream::connect(reach.path()).map_err(failed)?;
        Ok(Self::over(socket.into()))
    }

    /// Talks over a socket that is connected already.
    pub fn over(socket: OwnedFd) -> Self {
        Self { socket: socket.into(), buffer: Vec::new(), next: 1, streams: BTreeSet::new() }
    }

    fn send(&mut self, frame: &Frame) -> Result<()> {
        let mut bytes = Vec::with_capacity(frame.payload.len() + 10);
        frame.encode(&mut bytes);
        send_all(&self.socket, &bytes)
    }

    fn open<Q: Message, A>(&mut self, method: &Method<Q, A>, payload: &Q, flags: u8) -> Result<u32> {
        let request = Request {
            service: SERVICE.into(),
            method: method.name.into(),
            payload: payload.encode_to_vec(),
            timeout_nano: 0,
        };
        let stream = self.next;
        self.next += 2;
        if flags & REMOTE_OPEN != 0 {
            self.streams.insert(stream);
        }
        self.send(&Frame { stream, kind: Kind::Request, flags, payload: request.encode_to_vec() })?;
        Ok(stream)
    }

    /// The next frame, from whatever stream.
    fn receive(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = Frame::decode(&mut self.buffer)? {
                return Ok(frame);
            }
            let mut piece = [0; 64 << 10];
            match self.socket.read(&mut piece) {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the shim closed the connection",
                    )
                    .into());
                }
                Ok(n) => self.buffer.extend(&piece[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Calls a method and waits for the answer.
    pub fn call<Q: Message, A: Message + Default>(
        &mut self,
        method: &Method<Q, A>,
        request: &Q,
    ) -> Result<A> {
        let stream = self.open(method, request, REMOTE_CLOSED)?;
        loop {
            let frame = self.receive()?;
            // What still comes of an earlier stream is nobody's any more.
            if frame.stream == stream && frame.kind == Kind::Response {
                return Ok(A::decode(&*answer(&frame.payload)?)?);
            }
        }
    }

    /// Makes the shim a pod's: see [`SandboxRequest`].
    pub fn sandbox(&mut self, request: &SandboxRequest) -> Result<SandboxReply> {
        self.call(&protocol::SANDBOX, request)
    }

    /// Makes a container. Its program waits for [`start`](Self::start).
    pub fn create(&mut self, request: &CreateRequest) -> Result<Started> {
        self.call(&protocol::CREATE, request)
    }

    /// Executes a container's program.
    pub fn start(&mut self, container: &str) -> Result<Started> {
        self.call(&protocol::START, &of(container))
    }

    /// What a process is doing; the empty `exec_id` is the container's own.
    pub fn state(&mut self, container: &str, exec_id: &str) -> Result<State> {
        self.call(&protocol::STATE, &process(container, exec_id))
    }

    /// What every container is doing.
    pub fn list(&mut self) -> Result<Vec<State>> {
        Ok(self.call(&protocol::LIST, &Empty {})?.containers)
    }

    /// Waits for a process's end.
    pub fn wait(&mut self, container: &str, exec_id: &str) -> Result<Exited> {
        self.call(&protocol::WAIT, &process(container, exec_id))
    }

    /// Sends a signal.
    pub fn kill(&mut self, request: &KillRequest) -> Result<()> {
        self.call(&protocol::KILL, request).map(drop)
    }

    /// Sends a signal without waiting for the answer, while a stream is being read.
    pub fn kill_nowait(&mut self, request: &KillRequest) -> Result<()> {
        self.open(&protocol::KILL, request, REMOTE_CLOSED).map(drop)
    }

    /// Ends a container, and returns when it has ended.
    pub fn stop(&mut self, request: &StopRequest) -> Result<Exited> {
        self.call(&protocol::STOP, request)
    }

    /// Changes a terminal's size.
    pub fn resize(&mut self, request: &ResizeRequest) -> Result<()> {
        self.call(&protocol::RESIZE, request).map(drop)
    }

    /// A container's processes.
    pub fn pids(&mut self, container: &str) -> Result<Vec<i32>> {
        Ok(self.call(&protocol::PIDS, &of(container))?.pids)
    }

    /// Freezes a container.
    pub fn pause(&mut self, container: &str) -> Result<()> {
        self.call(&protocol::PAUSE, &of(container)).map(drop)
    }

    /// Lets a frozen container go on.
    pub fn resume(&mut self, container: &str) -> Result<()> {
        self.call(&protocol::RESUME, &of(container)).map(drop)
    }

    /// Changes a container's limits. Returns what could not be done in full.
    pub fn update(&mut self, request: &UpdateRequest) -> Result<Vec<String>> {
        Ok(self.call(&protocol::UPDATE, request)?.warnings)
    }

    /// Opens a container's log anew, after somebody moved it away.
    pub fn reopen_log(&mut self, container: &str) -> Result<()> {
        self.call(&protocol::REOPEN_LOG, &of(container)).map(drop)
    }

    /// Forgets a container that has ended or was never started. Its cgroup stays.
    pub fn delete(&mut self, container: &str) -> Result<()> {
        self.call(&protocol::DELETE, &of(container)).map(drop)
    }

    /// Begins to hear of what happens to the shim's containers: [`next_event`](Self::next_event).
    pub fn watch(&mut self) -> Result<u32> {
        self.open(&protocol::EVENTS, &Empty {}, REMOTE_CLOSED)
    }

    /// The next event of the stream that [`watch`](Self::watch) opened.
    pub fn next_event(&mut self, stream: u32) -> Result<ContainerEvent> {
        loop {
            let frame = self.receive()?;
            if frame.stream != stream {
                continue;
            }
            if frame.kind == Kind::Response {
                answer(&frame.payload)?;
            }
            return Ok(ContainerEvent::decode(&*frame.payload)?);
        }
    }

    /// Begins to stream to and from a process that is there.
    pub fn attach(&mut self, request: &AttachRequest) -> Result<u32> {
        let stream = self.open(&protocol::ATTACH, request, REMOTE_OPEN)?;
        // The first message says that nothing is missed from here on.
        self.event(stream)?;
        Ok(stream)
    }

    /// Brings a process in and begins to stream.
    pub fn exec(&mut self, request: &ExecRequest) -> Result<(u32, Started)> {
        let stream = self.open(&protocol::EXEC, request, REMOTE_OPEN)?;
        loop {
            if let Event::Output(Output { started: Some(started), .. }) = self.event(stream)? {
                return Ok((stream, started));
            }
        }
    }

    /// The next event of a stream.
    pub fn event(&mut self, stream: u32) -> Result<Event> {
        loop {
            let frame = self.receive()?;
            if frame.stream != stream {
                continue;
            }
            return event(&frame);
        }
    }

    /// The connection, to be waited for beside other things: once it is readable, [`events`](Self::events) has some.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads once and returns every event that is whole, with its stream. Blocks if the socket is not readable.
    ///
    /// What came together with the answer to a call is [`here_already`](Self::here_already): the socket does not
    /// become readable for it again.
    pub fn events(&mut self) -> Result<Vec<(u32, Event)>> {
        let mut piece = [0; 64 << 10];
        match self.socket.read(&mut piece)? {
            0 => {
                return Err(
                    io::Error::new(io::ErrorKind::UnexpectedEof, "the shim closed the connection").into()
                );
            }
            n => self.buffer.extend(&piece[..n]),
        }
        self.here_already()
    }

    /// Every event that is whole among what has been read, with its stream. Never blocks.
    pub fn here_already(&mut self) -> Result<Vec<(u32, Event)>> {
        let mut events = Vec::new();
        while let Some(frame) = Frame::decode(&mut self.buffer)? {
            // What answers a call that nobody waits for any more is no event.
            if frame.kind == Kind::Data || self.streams.contains(&frame.stream) {
                events.push((frame.stream, event(&frame)?));
            }
        }
        Ok(events)
    }

    /// Sends input on a stream.
    pub fn send_input(&mut self, stream: u32, input: &Input) -> Result<()> {
        self.send(&Frame { stream, kind: Kind::Data, flags: 0, payload: input.encode_to_vec() })
    }

    /// Ends a pod's shim, once no container of it runs any more. Tells another's that this client takes care of what is
    /// left of the container: it may go.
    pub fn shutdown(&mut self) -> Result<()> {
        self.call(&protocol::SHUTDOWN, &Empty {}).map(drop)
    }

    /// A second handle on the connection, for a thread that only sends input.
    pub fn input(&self, stream: u32) -> Result<InputSender> {
        Ok(InputSender { socket: self.socket.try_clone()?, stream })
    }

    /// Executes the container's program while its stream is being read: the answer is among the stream's events.
    pub fn start_while_attached(&mut self, container: &str) -> Result<Vec<(u32, Event)>> {
        let stream = self.open(&protocol::START, &of(container), REMOTE_CLOSED)?;
        let mut early = Vec::new();
        loop {
            let frame = self.receive()?;
            if frame.stream == stream {
                answer(&frame.payload)?;
                return Ok(early);
            }
            early.push((frame.stream, event(&frame)?));
        }
    }
}

fn of(container: &str) -> ContainerRequest {
    ContainerRequest { container: container.to_owned() }
}

fn process(container: &str, exec_id: &str) -> ProcessRequest {
    ProcessRequest { exec_id: exec_id.to_owned(), container: container.to_owned() }
}

/// A shim that is gone is an error, also to a command line that wants to end by SIGPIPE with its reader.
fn send_all(socket: &UnixStream, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::net::send(socket, bytes, rustix::net::SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
    Ok(())
}

fn event(frame: &Frame) -> Result<Event> {
    Ok(match frame.kind {
        Kind::Data => Event::Output(Output::decode(&*frame.payload)?),
        _ => Event::Exited(Exited::decode(&*answer(&frame.payload)?)?),
    })
}

fn answer(payload: &[u8]) -> Result<Vec<u8>> {
    let response = Response::decode(payload)?;
    match response.status {
        Some(status) if status.code != 0 => Err(Error::Refused(status)),
        _ => Ok(response.payload),
    }
}

/// Sends input on a stream while another thread reads its output.
#[derive(Debug)]
pub struct InputSender {
    socket: UnixStream,
    stream: u32,
}

impl InputSender {
    /// Sends one message. Only one thread may send on a connection at a time.
    pub fn send(&mut self, input: &Input) -> Result<()> {
        let frame = Frame { stream: self.stream, kind: Kind::Data, flags: 0, payload: input.encode_to_vec() };
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        send_all(&self.socket, &bytes)
    }
}
