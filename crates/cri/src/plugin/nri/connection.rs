//! One socket, two directions: calls to the other side, and what it asks.
//!
//! Both sides of the protocol are this; they differ in the numbers of the connections in the connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message;
use shim::protocol::{Frame, Kind, MAX_PAYLOAD, REMOTE_CLOSED, Request, Response, Status};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{mpsc, oneshot, watch};

use super::wire;
use crate::plugin::writer::Writer;

/// Requests of the other side that nobody has taken yet hold everything back from here on.
const REQUESTS: usize = 16;

/// Why a call has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Error {
    /// The other side is gone, too slow, or speaks nonsense: nothing can be asked any more.
    #[error("{0}")]
    Gone(String),
    /// More than a message may hold.
    #[error("the message has {0} bytes, and NRI lets {MAX_PAYLOAD} pass")]
    TooLong(usize),
    /// The other side's own error.
    #[error("{}", .0.message)]
    Refused(Status),
}

impl Error {
    /// Whether the other side has no such method.
    pub(super) fn is_unimplemented(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code == shim::protocol::Code::Unimplemented as i32)
    }
}

/// What the other side asks.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) stream: u32,
    pub(super) service: String,
    pub(super) method: String,
    pub(super) payload: Vec<u8>,
}

/// A connection. It closes when the last handle is gone, or by [`close`](Self::close).
#[derive(Debug, Clone)]
pub(super) struct Connection {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    calls_on: u32,
    serves_on: u32,
    calls: Arc<Calls>,
    writer: Writer,
    reader: tokio::task::AbortHandle,
}

/// Calls that wait for their answer.
#[derive(Debug)]
struct Calls {
    table: Mutex<Table>,
    /// Why nothing can be asked any more.
    broken: watch::Sender<Option<String>>,
}

#[derive(Debug, Default)]
struct Table {
    last: u32,
    waiting: HashMap<u32, oneshot::Sender<Result<Vec<u8>, Error>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Calls {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_broken(&self) -> Result<(), Error> {
        match &*self.broken.borrow() {
            Some(reason) => Err(Error::Gone(reason.clone())),
            None => Ok(()),
        }
    }

    /// Nothing is answered any more. The first reason stays.
    fn fail(&self, reason: &str) {
        self.broken.send_if_modified(|broken| match broken {
            Some(_) => false,
            None => broken.insert(reason.to_owned()) == reason,
        });
        let waiting = std::mem::take(&mut self.table().waiting);
        for (_, sender) in waiting {
            let _ = sender.send(Err(Error::Gone(reason.to_owned())));
        }
    }
}

/// A call that waits. Its place is free again when it does not any more.
struct Waiting<'a> {
    calls: &'a Calls,
    stream: u32,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.calls.table().waiting.remove(&self.stream);
    }
}

impl Connection {
    /// Talks over `socket`: calls on one connection in it, and is asked on another.
    pub(super) fn new(socket: UnixStream, calls_on: u32, serves_on: u32) -> (Self, mpsc::Receiver<Asked>) {
        let (read, writer) = socket.into_split();
        let calls = Arc::new(Calls { table: Mutex::default(), broken: watch::Sender::new(None) });
        let (sender, requests) = mpsc::channel(REQUESTS);
        let reader = Reader { calls: Arc::clone(&calls), calls_on, serves_on, requests: sender };
        let reader = tokio::spawn(reader.run(read)).abort_handle();
        let writer = Writer::new(writer);
        (Self { inner: Arc::new(Inner { calls_on, serves_on, calls, writer, reader }) }, requests)
    }

    /// Calls a method. Without an answer after `timeout` the connection is closed.
    pub(super) async fn call<A: Message + Default>(
        &self,
        service: &str,
        method: &str,
        request: &impl Message,
        timeout: Duration,
    ) -> Result<A, Error> {
        let calls = &self.inner.calls;
        calls.is_broken()?;
        let request = Request {
            service: service.into(),
            method: method.into(),
            payload: request.encode_to_vec(),
            timeout_nano: i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX),
        };
        let length = request.encoded_len();
        if length > MAX_PAYLOAD {
            return Err(Error::TooLong(length));
        }
        let (sender, answer) = oneshot::channel();
        let stream = {
            let mut table = calls.table();
            // ttrpc's clients count in odd numbers.
            table.last = if table.last == 0 { 1 } else { table.last.wrapping_add(2) };
            let stream = table.last;
            table.waiting.insert(stream, sender);
            stream
        };
        let _waiting = Waiting { calls, stream };
        let frame =
            Frame { stream, kind: Kind::Request, flags: REMOTE_CLOSED, payload: request.encode_to_vec() };
        let work = async {
            self.send(self.inner.calls_on, &frame).await?;
            answer.await.map_err(|_| Error::Gone("the connection closed".into()))?
        };
        let payload = match tokio::time::timeout(timeout, work).await {
            Ok(answer) => answer?,
            Err(_) => {
                let reason = format!("no answer to {method} within {} ms", timeout.as_millis());
                self.close(&reason);
                return Err(Error::Gone(reason));
            }
        };
        A::decode(&*payload).map_err(|e| {
            let reason = format!("cannot read the answer to {method}: {e}");
            self.close(&reason);
            Error::Gone(reason)
        })
    }

    /// Answers what was asked on `stream`. One that does not take its answer within `timeout` is closed.
    pub(super) async fn answer(&self, stream: u32, answer: Result<Vec<u8>, Status>, timeout: Duration) {
        let response = match answer {
            Ok(payload) => Response { status: None, payload },
            Err(status) => Response { status: Some(status), payload: Vec::new() },
        };
        let frame = Frame { stream, kind: Kind::Response, flags: 0, payload: response.encode_to_vec() };
        let sent = tokio::time::timeout(timeout, self.send(self.inner.serves_on, &frame)).await;
        if sent.is_err() {
            self.close("it does not take its answers");
        }
    }

    async fn send(&self, connection: u32, frame: &Frame) -> Result<(), Error> {
        let mut bytes = Vec::with_capacity(frame.payload.len() + shim::protocol::HEADER_LENGTH);
        frame.encode(&mut bytes);
        let mut pieces = Vec::with_capacity(bytes.len() + 16);
        wire::encode(connection, &bytes, &mut pieces);
        self.inner.writer.send(pieces).await.map_err(|e| {
            let reason = format!("cannot write: {e}");
            self.close(&reason);
            Error::Gone(reason)
        })
    }

    /// Ends it, for this reason.
    pub(super) fn close(&self, reason: &str) {
        self.inner.reader.abort();
        self.inner.writer.close();
        self.inner.calls.fail(reason);
    }

    /// Whether nothing can be asked any more.
    pub(super) fn is_closed(&self) -> bool {
        self.inner.calls.broken.borrow().is_some()
    }

    /// Waits for its end: why.
    pub(super) async fn closed(&self) -> String {
        let mut broken = self.inner.calls.broken.subscribe();
        let reason = broken.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.unwrap_or_default()
    }
}

/// What takes the other side's bytes.
struct Reader {
    calls: Arc<Calls>,
    calls_on: u32,
    serves_on: u32,
    requests: mpsc::Sender<Asked>,
}

impl Reader {
    async fn run(self, mut socket: OwnedReadHalf) {
        let reason = match self.read(&mut socket).await {
            Ok(()) => "the connection closed".to_owned(),
            Err(reason) => reason,
        };
        self.calls.fail(&reason);
    }

    async fn read(&self, socket: &mut OwnedReadHalf) -> Result<(), String> {
        let (mut inbox, mut answers, mut asked) = (Vec::new(), Vec::new(), Vec::new());
        while socket.read_buf(&mut inbox).await.map_err(|e| format!("cannot read: {e}"))? > 0 {
            while let Some(chunk) = wire::decode(&mut inbox).map_err(|e| e.to_string())? {
                if chunk.connection == self.calls_on {
                    answers.extend(chunk.bytes);
                } else if chunk.connection == self.serves_on {
                    asked.extend(chunk.bytes);
                }
                self.hand_out(&mut answers, &mut asked).await.map_err(|e| e.to_string())?;
            }
            for buffer in [&mut inbox, &mut answers, &mut asked] {
                if buffer.is_empty() {
                    // A plugin is silent most of the time.
                    buffer.shrink_to(4096);
                }
            }
        }
        Ok(())
    }

    async fn hand_out(
        &self,
        answers: &mut Vec<u8>,
        asked: &mut Vec<u8>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        while let Some(frame) = Frame::decode(answers)? {
            if frame.kind != Kind::Response {
                continue;
            }
            let answer = answer(&frame.payload)?;
            // One that nobody waits for any more has no taker.
            if let Some(sender) = self.calls.table().waiting.remove(&frame.stream) {
                let _ = sender.send(answer);
            }
        }
        while let Some(frame) = Frame::decode(asked)? {
            if frame.kind != Kind::Request {
                continue;
            }
            let Request { service, method, payload, .. } = Request::decode(&*frame.payload)?;
            let request = Asked { stream: frame.stream, service, method, payload };
            if self.requests.send(request).await.is_err() {
                return Err("nobody answers it any more".into());
            }
        }
        Ok(())
    }
}

fn answer(payload: &[u8]) -> Result<Result<Vec<u8>, Error>, prost::DecodeError> {
    let response = Response::decode(payload)?;
    Ok(match response.status {
        Some(status) if status.code != 0 => Err(Error::Refused(status)),
        _ => Ok(response.payload),
    })
}
