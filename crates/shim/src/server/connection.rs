//! A client's connection: bytes in, bytes out, never blocking.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use prost::Message;

use crate::protocol::{Code, Frame, Kind, REMOTE_CLOSED, Request, Response, Status};

/// A client that reads slower than a process writes holds that process back from here on, bytes.
const FULL: usize = 256 << 10;

/// Bytes read at once. The buffer is on the stack, whose pages stay.
const PIECE: usize = 16 << 10;

#[derive(Debug)]
pub(super) struct Connection {
    socket: UnixStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    /// The client that made the container, until it is gone.
    pub(super) creator: bool,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd, creator: bool) -> io::Result<Self> {
        let socket = UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self { socket, inbox: Vec::new(), outbox: Vec::new(), creator })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads what is there; false once the client is gone.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        let mut piece = [0; PIECE];
        match self.socket.read(&mut piece) {
            Ok(0) => Ok(false),
            Ok(n) => {
                self.inbox.extend(&piece[..n]);
                Ok(true)
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// The next whole frame that has been read.
    pub(super) fn frame(&mut self) -> Result<Option<Frame>, crate::protocol::FrameError> {
        Frame::decode(&mut self.inbox)
    }

    /// Writes what fits.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while !self.outbox.is_empty() {
            match self.socket.write(&self.outbox) {
                Ok(n) => drop(self.outbox.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    pub(super) fn wants_to_write(&self) -> bool {
        !self.outbox.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.outbox.len() > FULL
    }

    /// One message on an open stream.
    pub(super) fn data(&mut self, stream: u32, message: &impl Message) {
        Frame { stream, kind: Kind::Data, flags: 0, payload: message.encode_to_vec() }
            .encode(&mut self.outbox);
    }

    /// As a client: a request that is whole.
    pub(super) fn request(&mut self, stream: u32, service: &str, method: &str, payload: Vec<u8>) {
        let (service, method) = (service.to_owned(), method.to_owned());
        let request = Request { service, method, payload, timeout_nano: 0 };
        Frame { stream, kind: Kind::Request, flags: REMOTE_CLOSED, payload: request.encode_to_vec() }
            .encode(&mut self.outbox);
    }

    pub(super) fn answer(&mut self, stream: u32, answer: Result<Vec<u8>, Refusal>) {
        let response = match answer {
            Ok(payload) => Response { status: None, payload },
            Err(Refusal { code, message }) => {
                Response { status: Some(Status { code: code as i32, message }), payload: Vec::new() }
            }
        };
        Frame { stream, kind: Kind::Response, flags: 0, payload: response.encode_to_vec() }
            .encode(&mut self.outbox);
    }
}

/// What a request is refused with.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(super) fn internal(error: impl std::fmt::Display) -> Self {
        Self::new(Code::Internal, error.to_string())
    }
}

impl From<prost::DecodeError> for Refusal {
    fn from(error: prost::DecodeError) -> Self {
        Self::new(Code::InvalidArgument, format!("cannot read the request: {error}"))
    }
}
