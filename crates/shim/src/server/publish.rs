//! Events on their way to containerd: one at a time, for it handles what comes together in any order; kept while it is
//! away.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use prost::Message;
use rustix::event::epoll::EventFlags;

use super::Server;
use super::connection::Connection;
use super::container::nanoseconds;
use super::timers::Timer;
use super::waiting::Source;
use crate::protocol::Kind;
use crate::protocol::task::{Any, EVENTS_SERVICE, Envelope, Forward, Timestamp};

/// How many are kept; the oldest goes first.
const KEPT: usize = 2048;
/// Between attempts to reach it.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Publisher {
    address: PathBuf,
    namespace: String,
    connection: Option<Connection>,
    /// Those that were not answered yet; the first is on its way if `sent`.
    queue: VecDeque<Forward>,
    sent: bool,
    stream: u32,
}

impl Publisher {
    /// Where containerd's events service listens (a path, or `unix://` and one).
    pub(super) fn new(address: &str, namespace: &str) -> Self {
        Self {
            address: address.strip_prefix("unix://").unwrap_or(address).into(),
            namespace: namespace.to_owned(),
            connection: None,
            queue: VecDeque::new(),
            sent: false,
            stream: 1,
        }
    }

    pub(super) fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.connection.as_ref().map(Connection::fd)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn wants_to_write(&self) -> bool {
        self.connection.as_ref().is_some_and(Connection::wants_to_write)
    }

    fn push(&mut self, topic: &str, kind: &str, event: Vec<u8>) {
        if self.queue.len() >= KEPT {
            // The one on its way has an answer coming.
            drop(self.queue.remove(usize::from(self.sent)));
        }
        self.queue.push_back(Forward {
            envelope: Some(Envelope {
                timestamp: Some(Timestamp::of(nanoseconds())),
                namespace: self.namespace.clone(),
                topic: topic.to_owned(),
                event: Some(Any { type_url: format!("containerd.events.{kind}"), value: event }),
            }),
        });
    }

    /// Connects if need be: true if that is a new connection.
    fn connect(&mut self) -> io::Result<bool> {
        if self.connection.is_some() {
            return Ok(false);
        }
        let socket = crate::connect_now(crate::short_path(&self.address)?.path())?;
        self.connection = Some(Connection::new(socket, false)?);
        (self.sent, self.stream) = (false, 1);
        Ok(true)
    }

    fn send(&mut self) {
        let (Some(connection), Some(next), false) = (&mut self.connection, self.queue.front(), self.sent)
        else {
            return;
        };
        connection.request(self.stream, EVENTS_SERVICE, "Forward", next.encode_to_vec());
        self.sent = true;
    }

    /// Takes answers: false once the other side is gone.
    fn hear(&mut self) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        let open = connection.fill().unwrap_or(false);
        loop {
            let frame = match connection.frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => return open,
                // Nothing sensible can follow.
                Err(_) => return false,
            };
            // What it refuses it would refuse again.
            if frame.kind == Kind::Response && frame.stream == self.stream && self.sent {
                self.queue.pop_front();
                self.sent = false;
                self.stream = self.stream.wrapping_add(2) | 1;
            }
        }
    }

    fn flush(&mut self) -> bool {
        self.connection.as_mut().is_none_or(|c| c.flush().is_ok())
    }
}

impl Server {
    /// Tells containerd, if it is containerd's shim.
    pub(super) fn publish(&mut self, topic: &str, kind: &str, event: &impl Message) {
        if let Some(publisher) = self.tasks.as_mut().and_then(|t| t.publisher.as_mut()) {
            publisher.push(topic, kind, event.encode_to_vec());
            self.send_events();
        }
    }

    /// Sends the next one, unless one is on its way.
    pub(super) fn send_events(&mut self) {
        let Some(publisher) = self.tasks.as_mut().and_then(|t| t.publisher.as_mut()) else { return };
        if publisher.is_idle() {
            return;
        }
        let sent = match publisher.connect() {
            Ok(true) => self.listen_for(Source::Publisher, EventFlags::IN).is_ok(),
            Ok(false) => true,
            Err(_) => false,
        };
        let Some(publisher) = self.tasks.as_mut().and_then(|t| t.publisher.as_mut()) else { return };
        publisher.send();
        if !sent || !publisher.flush() {
            self.lose_publisher();
        }
    }

    pub(super) fn hear_publisher(&mut self) {
        let Some(publisher) = self.tasks.as_mut().and_then(|t| t.publisher.as_mut()) else { return };
        let open = publisher.flush() && publisher.hear();
        if open { self.send_events() } else { self.lose_publisher() }
    }

    /// It is away, and may come again.
    fn lose_publisher(&mut self) {
        self.forget(&Source::Publisher);
        if let Some(publisher) = self.tasks.as_mut().and_then(|t| t.publisher.as_mut()) {
            (publisher.connection, publisher.sent) = (None, false);
            if !publisher.is_idle() && self.timers.iter().all(|(_, t)| *t != Timer::Publish) {
                self.timers.push((Instant::now() + AGAIN, Timer::Publish));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};

    use super::*;
    use crate::protocol::Frame;

    #[test]
    fn one_who_takes_no_connection_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.sock");
        let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&listener, 0).unwrap();
        let mut waiting = Vec::new();
        let full = loop {
            match crate::connect_now(&path) {
                Ok(socket) => waiting.push(socket),
                Err(e) => break e,
            }
        };
        assert_eq!(full, rustix::io::Errno::AGAIN);
        let mut publisher = Publisher::new(path.to_str().unwrap(), "test");
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || tell.send(publisher.connect()));
        // What hangs fails.
        let connected = told.recv_timeout(Duration::from_secs(180)).expect("an answer");
        assert_eq!(connected.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn what_is_no_frame_is_the_connections_end() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut publisher = Publisher::new("/nowhere", "test");
        publisher.connection = Some(Connection::new(ours.into(), false).unwrap());
        publisher.push("/tasks/exit", "TaskExit", Vec::new());
        publisher.send();
        let mut bytes = Vec::new();
        let stream = publisher.stream;
        Frame { stream, kind: Kind::Response, flags: 0, payload: Vec::new() }.encode(&mut bytes);
        theirs.write_all(&bytes).unwrap();
        assert!(publisher.hear());
        assert!(publisher.is_idle());
        theirs.write_all(&[0, 0, 0, 0, 0, 0, 0, 1, 9, 0]).unwrap();
        assert!(!publisher.hear(), "nothing sensible can follow");
    }
}
