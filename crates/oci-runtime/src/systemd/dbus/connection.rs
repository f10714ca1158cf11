//! A connection to a bus, or straight to a service.
//!
//! The handshake, the greeting and the first calls go out in one write: the client has nothing to learn from the
//! answers but that they are no refusals, and each answer waited for would be a round trip through a busy bus.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::{Kind, MAX_MESSAGE, Malformed, Message, Socket, Value};

/// EXTERNAL without a name: the server takes the credentials of the socket, which are right in any user namespace.
const HANDSHAKE: &[u8] = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";
/// The longest line of an answer to it.
const MAX_LINE: usize = 1024;

/// Why a connection is of no use, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The kernel refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The other side sent, or this one was to send, what is no message.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// The bus does not take this user.
    #[error("the bus refuses this user: {0:?}")]
    Denied(String),
    /// The other side is gone.
    #[error("the connection was closed")]
    Closed,
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Deadline(Duration),
    /// The bus or the service said no.
    #[error("{message} ({name})")]
    Refused {
        /// The error's name, `org.freedesktop.systemd1.NoSuchUnit` and the like.
        name: String,
        /// What it says.
        message: String,
    },
}

impl Failure {
    /// Whether it is the error of this name.
    pub fn is(&self, error: &str) -> bool {
        matches!(self, Self::Refused { name, .. } if name == error)
    }
}

/// A connection. Nothing on it blocks for longer than its limit, which counts for all of its life.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    output: Vec<u8>,
    input: Vec<u8>,
    authenticated: bool,
    serial: u32,
    /// Calls whose failure is the connection's: nobody waits for their replies.
    silent: Vec<u32>,
    limit: Duration,
    deadline: Instant,
}

impl Connection {
    /// Connects to a bus, or (`direct`) to a service without one. Nothing is sent before [`send`](Self::send).
    pub fn open(socket: &Socket, direct: bool, limit: Duration) -> Result<Self, Failure> {
        let address = match socket {
            Socket::Path(path) => SocketAddrUnix::new(path),
            Socket::Abstract(name) => SocketAddrUnix::new_abstract_name(name),
        };
        let own =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let own = own.map_err(io::Error::from)?;
        // For a service that has as many waiting to be accepted as it lets wait.
        set_socket_timeout(&own, Timeout::Send, Some(limit)).map_err(io::Error::from)?;
        let mut connection = Self {
            socket: own,
            output: HANDSHAKE.to_vec(),
            input: Vec::new(),
            authenticated: false,
            serial: 0,
            silent: Vec::new(),
            limit,
            deadline: Instant::now() + limit,
        };
        connection.connect(&address.map_err(io::Error::from)?)?;
        if !direct {
            connection.queue_silently(bus("Hello", Vec::new()))?;
        }
        Ok(connection)
    }

    fn connect(&self, address: &SocketAddrUnix) -> Result<(), Failure> {
        match rustix::io::retry_on_intr(|| rustix::net::connect(&self.socket, address)) {
            Err(Errno::AGAIN) => Err(Failure::Deadline(self.limit)),
            other => Ok(other.map_err(io::Error::from)?),
        }
    }

    /// Puts a message in the queue and returns its number. It goes with the next [`send`](Self::send) or
    /// [`receive`](Self::receive).
    pub fn queue(&mut self, message: Message) -> Result<u32, Failure> {
        self.serial += 1;
        self.output.extend(Message { serial: self.serial, ..message }.to_bytes()?);
        Ok(self.serial)
    }

    /// The same for a call whose success is taken for granted: a refusal of it comes up in `receive`.
    fn queue_silently(&mut self, call: Message) -> Result<(), Failure> {
        let serial = self.queue(call)?;
        self.silent.push(serial);
        Ok(())
    }

    /// Asks the bus for signals.
    pub fn add_match(&mut self, rule: &str) -> Result<(), Failure> {
        self.queue_silently(bus("AddMatch", vec![Value::text(rule)]))
    }

    /// Sends what is in the queue, as far as it goes without waiting.
    pub fn send(&mut self) -> Result<(), Failure> {
        while !self.output.is_empty() {
            match rustix::net::send(&self.socket, &self.output, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => drop(self.output.drain(..sent)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                // Why it closed is to be read before that is said.
                Err(Errno::PIPE | Errno::CONNRESET) => self.output.clear(),
                Err(e) => return Err(Failure::Io(e.into())),
            }
        }
        Ok(())
    }

    /// Sends what is in the queue, and waits for the next message that is of use.
    pub fn receive(&mut self) -> Result<Message, Failure> {
        loop {
            self.send()?;
            if let Some(message) = self.take()? {
                if !self.is_silent(&message)? {
                    return Ok(message);
                }
                continue;
            }
            self.wait()?;
            self.read()?;
        }
    }

    /// Waits for the reply to one call; signals and replies to others are lost.
    pub fn reply(&mut self, serial: u32) -> Result<Message, Failure> {
        loop {
            let message = self.receive()?;
            if message.reply_to == Some(serial) {
                return if message.kind == Kind::Error { Err(refused(&message)) } else { Ok(message) };
            }
        }
    }

    /// Whether it only answers a silent call.
    fn is_silent(&mut self, message: &Message) -> Result<bool, Failure> {
        let Some(at) = self.silent.iter().position(|serial| message.reply_to == Some(*serial)) else {
            return Ok(message.kind == Kind::Other);
        };
        self.silent.remove(at);
        if message.kind == Kind::Error { Err(refused(message)) } else { Ok(true) }
    }

    /// The next message of those that have come.
    fn take(&mut self) -> Result<Option<Message>, Failure> {
        while !self.authenticated {
            let Some(end) = self.input.windows(2).position(|two| two == b"\r\n") else {
                let long = self.input.len() > MAX_LINE;
                return if long {
                    Err(Malformed("an answer to AUTH that is no line").into())
                } else {
                    Ok(None)
                };
            };
            let line = String::from_utf8_lossy(&self.input[..end]).into_owned();
            self.input.drain(..end + 2);
            match line.split(' ').next() {
                Some("OK") => self.authenticated = true,
                // It asks for the name that it was given none of.
                Some("DATA") => {}
                _ => return Err(Failure::Denied(line)),
            }
        }
        match Message::length(&self.input)? {
            Some(length) if length > MAX_MESSAGE => Err(Malformed("longer than this client takes").into()),
            Some(length) if length <= self.input.len() => {
                let rest = self.input.split_off(length);
                let message = Message::read(&std::mem::replace(&mut self.input, rest))?;
                Ok(Some(message))
            }
            _ => Ok(None),
        }
    }

    fn wait(&self) -> Result<(), Failure> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let time = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            let out = if self.output.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN | out)];
            match poll(&mut fds, Some(&time)) {
                Ok(0) => return Err(Failure::Deadline(self.limit)),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(e) => return Err(Failure::Io(e.into())),
            }
        }
    }

    fn read(&mut self) -> Result<(), Failure> {
        let mut buffer = [0; 4096];
        match rustix::net::recv(self.socket.as_fd(), &mut buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) | Err(Errno::CONNRESET) => Err(Failure::Closed),
            Ok((received, _)) => {
                self.input.extend(&buffer[..received]);
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(e) => Err(Failure::Io(e.into())),
        }
    }
}

fn refused(message: &Message) -> Failure {
    Failure::Refused {
        name: message.error.clone(),
        message: message.text(0).unwrap_or("it does not say why").to_owned(),
    }
}

/// A call to the bus itself.
fn bus(member: &str, body: Vec<Value>) -> Message {
    Message::call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", member, body)
}
