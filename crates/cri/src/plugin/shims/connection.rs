//! One connection to a shim: any number of calls and streams at a time.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::Message;
use shim::protocol::{
    Frame, FrameError, Kind, Method, REMOTE_CLOSED, REMOTE_OPEN, Request, Response, SERVICE, Status,
};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{mpsc, oneshot};

use crate::plugin::writer::Writer;

/// Messages of a stream that nobody has taken yet hold the whole connection back from here on.
const STREAM_ROOM: usize = 16;

/// Why a shim could not be asked, or what it answered.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Error {
    /// No shim answers there.
    #[error("cannot reach the shim at {}: {source} (the pod has ended, or its shim was killed)", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: Arc<io::Error>,
    },
    /// The connection broke, or the shim spoke nonsense.
    #[error("cannot talk to the shim: {0}")]
    Broken(String),
    /// The shim's own error.
    #[error("{}", .0.message)]
    Refused(Status),
}

impl Error {
    /// The gRPC code of the shim's own error.
    pub(crate) fn code(&self) -> Option<i32> {
        match self {
            Self::Refused(status) => Some(status.code),
            _ => None,
        }
    }

    /// Whether there is no shim any more.
    pub(crate) fn is_gone(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<FrameError> for Error {
    fn from(error: FrameError) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<prost::DecodeError> for Error {
    fn from(error: prost::DecodeError) -> Self {
        Self::Broken(format!("cannot read its answer: {error}"))
    }
}

/// What comes on a stream.
#[derive(Debug)]
pub(crate) enum Event {
    /// One message.
    Data(Vec<u8>),
    /// The stream's end, with the method's answer.
    End(Result<Vec<u8>, Error>),
}

#[derive(Debug)]
enum Pending {
    Call(oneshot::Sender<Result<Vec<u8>, Error>>),
    Stream(mpsc::Sender<Event>),
}

#[derive(Debug, Default)]
struct Table {
    next: u32,
    pending: HashMap<u32, Pending>,
    /// Why nothing can be asked any more.
    broken: Option<Error>,
}

/// A connection to a shim. It closes when the last handle and stream are gone.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    table: Arc<Mutex<Table>>,
    writer: Writer,
    reader: tokio::task::AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Connection {
    /// Connects to the shim that listens at `path`.
    pub(crate) async fn connect(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Connect { path: path.to_path_buf(), source: Arc::new(source) };
        let reach = shim::short_path(path).map_err(failed)?;
        Ok(Self::over(UnixStream::connect(reach.path()).await.map_err(failed)?))
    }

    /// Talks over a socket that is connected already.
    pub(crate) fn over(socket: UnixStream) -> Self {
        let (read, writer) = socket.into_split();
        let table = Arc::new(Mutex::new(Table { next: 1, ..Table::default() }));
        let reader = tokio::spawn(receive(read, Arc::clone(&table))).abort_handle();
        Self { inner: Arc::new(Inner { table, writer: Writer::new(writer), reader }) }
    }

    /// Talks over a socket that is connected and blocking yet.
    pub(crate) fn over_fd(socket: OwnedFd) -> Result<Self, Error> {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self::over(UnixStream::from_std(socket)?))
    }

    /// Calls a method.
    pub(crate) async fn call<Q: Message, A: Message + Default>(
        &self,
        method: &Method<Q, A>,
        request: &Q,
    ) -> Result<A, Error> {
        let (sender, answer) = oneshot::channel();
        self.open(method.name, request, REMOTE_CLOSED, Pending::Call(sender)).await?;
        let payload = answer.await.map_err(|_| Error::Broken("the connection closed".into()))??;
        Ok(A::decode(&*payload)?)
    }

    /// Calls a method, and waits for its answer so long at most. The shim goes on with it.
    pub(crate) async fn call_within<Q: Message, A: Message + Default>(
        &self,
        limit: Duration,
        method: &Method<Q, A>,
        request: &Q,
    ) -> Result<A, Error> {
        let silent =
            |_| Error::Broken(format!("it has not answered {} within {} s", method.name, limit.as_secs()));
        tokio::time::timeout(limit, self.call(method, request)).await.map_err(silent)?
    }

    /// Calls a method whose messages come one after the other.
    ///
    /// Whoever does not take them holds back every other call of the connection: give it one of its own.
    pub(crate) async fn stream<Q: Message, A>(
        &self,
        method: &Method<Q, A>,
        request: &Q,
    ) -> Result<Stream, Error> {
        let (sender, events) = mpsc::channel(STREAM_ROOM);
        let id = self.open(method.name, request, REMOTE_OPEN, Pending::Stream(sender)).await?;
        Ok(Stream { connection: self.clone(), id, events })
    }

    async fn open(
        &self,
        method: &str,
        request: &impl Message,
        flags: u8,
        pending: Pending,
    ) -> Result<u32, Error> {
        let request = Request {
            service: SERVICE.into(),
            method: method.into(),
            payload: request.encode_to_vec(),
            timeout_nano: 0,
        };
        let stream = {
            let mut table = self.inner.table.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(broken) = &table.broken {
                return Err(broken.clone());
            }
            let stream = table.next;
            table.next += 2;
            table.pending.insert(stream, pending);
            stream
        };
        self.send(&Frame { stream, kind: Kind::Request, flags, payload: request.encode_to_vec() }).await?;
        Ok(stream)
    }

    async fn send(&self, frame: &Frame) -> Result<(), Error> {
        let mut bytes = Vec::with_capacity(frame.payload.len() + shim::protocol::HEADER_LENGTH);
        frame.encode(&mut bytes);
        Ok(self.inner.writer.send(bytes).await?)
    }
}

/// A method that goes on: messages in both directions.
#[derive(Debug)]
pub(crate) struct Stream {
    connection: Connection,
    id: u32,
    events: mpsc::Receiver<Event>,
}

impl Stream {
    /// The next event; after [`Event::End`] there is none.
    pub(crate) async fn next(&mut self) -> Event {
        let closed = || Event::End(Err(Error::Broken("the connection closed".into())));
        self.events.recv().await.unwrap_or_else(closed)
    }

    /// The other direction, for who sends while events are taken.
    pub(crate) fn sender(&self) -> Sender {
        Sender { connection: self.connection.clone(), id: self.id }
    }
}

/// Sends on a [`Stream`].
#[derive(Debug)]
pub(crate) struct Sender {
    connection: Connection,
    id: u32,
}

impl Sender {
    /// Sends a message. Waits while the shim takes none.
    pub(crate) async fn send(&self, message: &impl Message) -> Result<(), Error> {
        let frame = Frame { stream: self.id, kind: Kind::Data, flags: 0, payload: message.encode_to_vec() };
        self.connection.send(&frame).await
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut table = self.connection.inner.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.pending.remove(&self.id);
    }
}

/// Hands out what comes, until the shim closes; then everybody hears of it.
async fn receive(mut socket: OwnedReadHalf, table: Arc<Mutex<Table>>) {
    let error = match hand_out(&mut socket, &table).await {
        Ok(()) => Error::Broken("the shim closed the connection".into()),
        Err(error) => error,
    };
    let pending = {
        let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
        table.broken = Some(error.clone());
        std::mem::take(&mut table.pending)
    };
    for (_, pending) in pending {
        match pending {
            Pending::Call(sender) => drop(sender.send(Err(error.clone()))),
            Pending::Stream(sender) => drop(sender.send(Event::End(Err(error.clone()))).await),
        }
    }
}

async fn hand_out(socket: &mut OwnedReadHalf, table: &Mutex<Table>) -> Result<(), Error> {
    let mut inbox = Vec::new();
    while socket.read_buf(&mut inbox).await? > 0 {
        while let Some(frame) = Frame::decode(&mut inbox)? {
            deliver(frame, table).await;
        }
        if inbox.capacity() > 64 << 10 && inbox.is_empty() {
            inbox = Vec::new();
        }
    }
    Ok(())
}

async fn deliver(frame: Frame, table: &Mutex<Table>) {
    let ends = frame.kind == Kind::Response;
    let (call, stream) = {
        let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
        match table.pending.get(&frame.stream) {
            Some(Pending::Call(_)) if ends => match table.pending.remove(&frame.stream) {
                Some(Pending::Call(sender)) => (Some(sender), None),
                _ => (None, None),
            },
            Some(Pending::Stream(sender)) => (None, Some(sender.clone())),
            // What still comes for who went away.
            _ => (None, None),
        }
    };
    if let Some(sender) = call {
        let _ = sender.send(answer(&frame.payload));
    } else if let Some(sender) = stream {
        let event = if ends { Event::End(answer(&frame.payload)) } else { Event::Data(frame.payload) };
        let _ = sender.send(event).await;
    }
}

fn answer(payload: &[u8]) -> Result<Vec<u8>, Error> {
    let response = Response::decode(payload)?;
    match response.status {
        Some(status) if status.code != 0 => Err(Error::Refused(status)),
        _ => Ok(response.payload),
    }
}
