//! Sockets of the loop.

mod direct;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, accept_with, connect, recv, send,
    shutdown, socket_with, sockopt,
};
use rustix::pipe::{SpliceFlags, splice};

use super::stream::{Came, Carried, Marks};
use super::{Buffer, Core, DEAD, END, IN, NOBODY, OUT, Reactor, Source};

pub(crate) use direct::{Filled, Led, Sink};

/// A connection on which nothing comes is asked about after so long, then as often again, so many times; then it is gone, unless
/// [`Socket::set_patience`] says how long. What fell silent without a word, as a node that lost its power does, would be waited for for ever.
const KEPT_ALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(10), 3);

/// Has the kernel look after a TCP connection that rests.
///
/// # Errors
/// The kernel's: it is none of TCP.
pub(crate) fn keep_alive(connection: impl AsFd) -> io::Result<()> {
    let (idle, every, times) = KEPT_ALIVE;
    sockopt::set_tcp_keepidle(&connection, idle)?;
    sockopt::set_tcp_keepintvl(&connection, every)?;
    sockopt::set_tcp_keepcnt(&connection, times)?;
    sockopt::set_socket_keepalive(&connection, true)?;
    Ok(())
}

/// A socket of TCP in the network of the calling thread, which does not block.
///
/// # Errors
/// The kernel's: no descriptor is left.
pub(crate) fn tcp(ipv4: bool) -> io::Result<OwnedFd> {
    let family = if ipv4 { AddressFamily::INET } else { AddressFamily::INET6 };
    Ok(socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?)
}

/// A descriptor that does not block, or a stream that another connection carries, and what the loop knows of it. It belongs to the task that
/// waits for it last.
pub struct Socket {
    end: End,
    source: Rc<Source>,
    core: Rc<Core>,
}

/// What a socket is.
enum End {
    /// A descriptor, and its key among the sources.
    Kernel(Rc<OwnedFd>, u64),
    /// A stream of another connection.
    Carried(Box<dyn Carried>),
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.end {
            End::Kernel(fd, _) => f.debug_tuple("Socket").field(fd).finish(),
            End::Carried(_) => f.write_str("Socket(carried)"),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The descriptor leaves the epoll when it is closed.
        if let End::Kernel(_, key) = self.end {
            self.core.sources.borrow_mut().remove(key);
        }
    }
}

impl Socket {
    pub(super) fn new(fd: OwnedFd, source: Rc<Source>, key: u64, core: Rc<Core>) -> Self {
        Self { end: End::Kernel(Rc::new(fd), key), source, core }
    }

    /// A stream that another connection carries, which tells of it by these marks.
    pub(crate) fn carried(marks: &Marks, stream: Box<dyn Carried>) -> Self {
        let (source, core) = marks.parts();
        Self { end: End::Carried(stream), source, core }
    }

    /// Its descriptor; none of a stream that another connection carries.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.end {
            End::Kernel(fd, _) => Some(fd.as_fd()),
            End::Carried(_) => None,
        }
    }

    /// Whether bytes go by it unread: it is a descriptor.
    pub(crate) fn splices(&self) -> bool {
        matches!(self.end, End::Kernel(..))
    }

    /// What the kernel has is taken, or looked at.
    fn receive(&self, fd: &OwnedFd, into: &mut [u8], flags: RecvFlags) -> Result<usize, Errno> {
        recv(fd, into, flags | RecvFlags::DONTWAIT).map(|(count, _)| count)
    }

    /// Looks at what came without taking it: EAGAIN where there is nothing, 0 at the end.
    fn glance(&self, into: &mut [u8]) -> Result<usize, Errno> {
        match &self.end {
            End::Kernel(fd, _) => self.receive(fd, into, RecvFlags::PEEK),
            End::Carried(stream) => {
                let mut count = 0;
                let came = stream.take(&mut |bytes| {
                    count = bytes.len().min(into.len());
                    if let (Some(to), Some(from)) = (into.get_mut(..count), bytes.get(..count)) {
                        to.copy_from_slice(from);
                    }
                    0
                });
                match came {
                    Ok(Came::Bytes) => Ok(count),
                    Ok(Came::End) => Ok(0),
                    Ok(Came::Nothing) => Err(Errno::AGAIN),
                    Err(_) => Err(Errno::CONNRESET),
                }
            }
        }
    }

    /// Connects over TCP, in the network that the calling thread is in. Whether the peer is still there is asked after a minute of silence.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn connect(reactor: &Reactor, to: SocketAddr) -> io::Result<Self> {
        Self::connect_over(reactor, tcp(to.is_ipv4())?, to).await
    }

    /// The same, in the network of this socket of TCP, which does not block and is not connected yet.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn connect_over(reactor: &Reactor, fd: OwnedFd, to: SocketAddr) -> io::Result<Self> {
        sockopt::set_tcp_nodelay(&fd, true)?;
        keep_alive(&fd)?;
        let at_once = match connect(&fd, &to) {
            Ok(()) => true,
            Err(Errno::INPROGRESS) => false,
            Err(e) => return Err(e.into()),
        };
        let socket = reactor.socket(fd)?;
        if !at_once {
            socket.clear(OUT);
            poll_fn(|_| if socket.has(OUT | DEAD) { Poll::Ready(()) } else { socket.park() }).await;
            if let Some(fd) = socket.descriptor() {
                sockopt::socket_error(fd)??;
            }
        }
        Ok(socket)
    }

    /// The next connection to a socket that listens, ready for the loop.
    ///
    /// # Errors
    /// The kernel's: of the listener, or of the connection that came (no descriptor is left).
    pub async fn accept(&self) -> io::Result<OwnedFd> {
        poll_fn(|_| {
            if !self.has(IN) {
                return self.park();
            }
            if !self.core.goes_on() {
                return Poll::Pending;
            }
            let Some(fd) = self.descriptor() else {
                return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
            };
            match accept_with(fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(fd) => Poll::Ready(Ok(fd)),
                Err(Errno::AGAIN) => {
                    self.clear(IN);
                    self.park()
                }
                Err(e) => Poll::Ready(Err(e.into())),
            }
        })
        .await
    }

    fn has(&self, marks: u8) -> bool {
        self.source.marks.get() & marks != 0
    }

    fn clear(&self, marks: u8) {
        self.source.marks.set(self.source.marks.get() & !marks);
    }

    /// The current task waits for it.
    fn park<T>(&self) -> Poll<T> {
        self.source.task.set(self.core.current.get());
        Poll::Pending
    }

    /// No task waits for it.
    pub fn rest(&self) {
        self.source.task.set(NOBODY);
    }

    /// Whether something came that nobody has read: of a connection that is not used, its end or a reason not to use it.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.has(IN | END | DEAD)
    }

    /// Whether nothing came that nobody has read. Where that is not known, as after bytes went by unread, the kernel is asked.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        if !self.has_news() {
            return true;
        }
        if self.has(END | DEAD) || self.looks_stale() {
            return false;
        }
        self.clear(IN);
        true
    }

    /// Whether the connection is gone both ways.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.has(DEAD)
    }

    /// Asks the kernel whether something came or the peer has closed, without waiting for an event to tell.
    #[must_use]
    pub fn looks_stale(&self) -> bool {
        !matches!(self.glance(&mut [0_u8; 1]), Err(Errno::AGAIN))
    }

    /// Waits until there is something to read, or an end.
    pub async fn readable(&self) {
        poll_fn(|_| if self.has(IN) { Poll::Ready(()) } else { self.park() }).await;
    }

    /// How long what was sent may go without an acknowledgement, and a peer may take nothing, until the connection is gone; what of it is not
    /// a whole number of milliseconds is left out, and 0 is the kernel's default. It takes the place of keepalive's count (tcp(7),
    /// TCP_USER_TIMEOUT): a peer that is asked whether it is there has as long to answer.
    pub fn set_patience(&self, patience: Duration) {
        let patience = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        // It is set while there is a connection, and what is none of TCP has no such time.
        if let Some(fd) = self.descriptor() {
            let _none = sockopt::set_tcp_user_timeout(fd, patience);
        }
    }

    /// Whether the peer sends nothing more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has(END | DEAD)
    }

    /// Whether there are bytes to read; an end is none.
    #[must_use]
    pub fn has_bytes(&self) -> bool {
        self.glance(&mut [0_u8; 1]).is_ok_and(|count| count > 0)
    }

    /// Waits until the peer sends nothing more, whatever of it is not read yet.
    pub async fn ended(&self) {
        poll_fn(|_| if self.has_ended() { Poll::Ready(()) } else { self.park() }).await;
    }

    /// Waits until the connection is gone both ways.
    pub async fn dead(&self) {
        poll_fn(|_| if self.is_dead() { Poll::Ready(()) } else { self.park() }).await;
    }

    /// Copies what came without taking it; more is waited for where there is no more than `seen` bytes. 0 is the end.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn peek(&self, into: &mut [u8], seen: usize) -> io::Result<usize> {
        poll_fn(|_| {
            match self.glance(&mut *into) {
                // What ends without more is all there will be.
                Ok(count) if count > seen || self.has(END) => {
                    self.source.marks.set(self.source.marks.get() | IN);
                    Poll::Ready(Ok(count))
                }
                Ok(0) => Poll::Ready(Ok(0)),
                Ok(_) | Err(Errno::AGAIN) => self.park(),
                Err(e) => Poll::Ready(Err(e.into())),
            }
        })
        .await
    }

    /// Reads what there is behind what the buffer has; 0 is the end.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn read(&self, buffer: &mut Buffer) -> io::Result<usize> {
        poll_fn(|_| self.poll_read(buffer)).await
    }

    /// As [`Socket::read`], for a task that waits for several things.
    pub(crate) fn poll_read(&self, buffer: &mut Buffer) -> Poll<io::Result<usize>> {
        if !self.has(IN) {
            return self.park();
        }
        if !self.core.goes_on() {
            return Poll::Pending;
        }
        let bytes = buffer.room();
        let room = bytes.capacity() - bytes.len();
        let received = match &self.end {
            End::Kernel(fd, _) => {
                recv(fd, spare_capacity(bytes), RecvFlags::DONTWAIT).map(|(_, count)| count)
            }
            End::Carried(stream) => taken(&**stream, |came| {
                let count = came.len().min(room);
                bytes.extend_from_slice(came.get(..count).unwrap_or_default());
                count
            }),
        };
        match received {
            Ok(count) => {
                // Less than there was room for is all there was; more of it is another event.
                if count < room && !self.has(END) {
                    self.clear(IN);
                }
                Poll::Ready(Ok(count))
            }
            Err(Errno::AGAIN) => {
                self.clear(IN);
                self.park()
            }
            Err(e) => Poll::Ready(Err(e.into())),
        }
    }

    /// As [`Socket::poll_read`], of no more than fits into a slice.
    pub(crate) fn poll_read_into(&self, into: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.has(IN) {
            return self.park();
        }
        if !self.core.goes_on() {
            return Poll::Pending;
        }
        let received = match &self.end {
            End::Kernel(fd, _) => self.receive(fd, into, RecvFlags::empty()),
            End::Carried(stream) => taken(&**stream, |came| {
                let count = came.len().min(into.len());
                if let (Some(to), Some(from)) = (into.get_mut(..count), came.get(..count)) {
                    to.copy_from_slice(from);
                }
                count
            }),
        };
        match received {
            Ok(count) => {
                if count < into.len() && !self.has(END) {
                    self.clear(IN);
                }
                Poll::Ready(Ok(count))
            }
            Err(Errno::AGAIN) => {
                self.clear(IN);
                self.park()
            }
            Err(e) => Poll::Ready(Err(e.into())),
        }
    }

    /// Hands over what came to whoever takes it from where it is, and says how much it took; 0 is the end. Only a carried stream has such bytes.
    /// Where nothing was taken of what is there, the task is not parked: who takes waits for something else.
    pub(crate) fn poll_hand_over(&self, mut take: impl FnMut(&[u8]) -> usize) -> Poll<io::Result<usize>> {
        if !self.has(IN) {
            return self.park();
        }
        let End::Carried(stream) = &self.end else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        let mut count = 0;
        let came = stream.take(&mut |bytes| {
            count = take(bytes);
            count
        });
        match came {
            Ok(Came::Bytes) if count == 0 => Poll::Pending,
            Ok(Came::Bytes) => Poll::Ready(Ok(count)),
            Ok(Came::End) => Poll::Ready(Ok(0)),
            Ok(Came::Nothing) => {
                self.clear(IN);
                self.park()
            }
            Err(e) => Poll::Ready(Err(e)),
        }
    }

    /// Writes as much as there is room for, of at least one byte.
    pub(crate) fn poll_write(&self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.has(OUT) {
            return self.park();
        }
        if !self.core.goes_on() {
            return Poll::Pending;
        }
        let sent = match &self.end {
            End::Kernel(fd, _) => send(fd, bytes, SendFlags::NOSIGNAL),
            End::Carried(stream) => match stream.send(bytes) {
                Ok(Some(count)) => Ok(count),
                Ok(None) => Err(Errno::AGAIN),
                Err(_) => Err(Errno::PIPE),
            },
        };
        match sent {
            Ok(count) => {
                if count < bytes.len() {
                    self.clear(OUT);
                }
                Poll::Ready(Ok(count))
            }
            Err(Errno::AGAIN) => {
                self.clear(OUT);
                self.park()
            }
            Err(e) => Poll::Ready(Err(e.into())),
        }
    }

    /// Waits for an event of an eventfd, and takes it.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) async fn event(&self) -> io::Result<()> {
        poll_fn(|_| {
            if !self.has(IN) {
                return self.park();
            }
            self.clear(IN);
            let Some(fd) = self.descriptor() else {
                return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
            };
            match rustix::io::read(fd, &mut [0; 8]) {
                Ok(_) => Poll::Ready(Ok(())),
                Err(Errno::AGAIN) => self.park(),
                Err(e) => Poll::Ready(Err(e.into())),
            }
        })
        .await
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        poll_fn(|_| {
            while !rest.is_empty() {
                match self.poll_write(rest) {
                    Poll::Ready(Ok(count)) => rest = rest.get(count..).unwrap_or_default(),
                    Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Moves up to so many bytes into a pipe that is empty, unread; 0 is the end.
    pub(crate) fn poll_splice_in(&self, pipe: BorrowedFd<'_>, most: usize) -> Poll<io::Result<usize>> {
        if !self.has(IN) {
            return self.park();
        }
        let Some(fd) = self.descriptor() else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        match splice(fd, None, pipe, None, most, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
            Ok(count) => Poll::Ready(Ok(count)),
            Err(Errno::AGAIN) => {
                self.clear(IN);
                self.park()
            }
            Err(e) => Poll::Ready(Err(e.into())),
        }
    }

    /// Moves up to so many bytes out of a pipe that has them. The kernel is not told that others follow (`SPLICE_F_MORE`): it would wait
    /// for them.
    pub(crate) fn poll_splice_out(&self, pipe: BorrowedFd<'_>, most: usize) -> Poll<io::Result<usize>> {
        if !self.has(OUT) {
            return self.park();
        }
        let Some(fd) = self.descriptor() else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        match splice(pipe, None, fd, None, most, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
            Ok(count) => Poll::Ready(Ok(count)),
            Err(Errno::AGAIN) => {
                self.clear(OUT);
                self.park()
            }
            Err(e) => Poll::Ready(Err(e.into())),
        }
    }

    /// The current task is woken when something comes.
    pub(crate) fn park_for_reading(&self) {
        let _pending: Poll<()> = self.park();
    }

    /// Whether it can be read at once, as far as is known.
    pub(crate) fn is_readable(&self) -> bool {
        self.has(IN)
    }

    /// Sends nothing more. That the peer is gone already is no error.
    pub fn finish(&self) {
        match &self.end {
            End::Kernel(fd, _) => {
                let _gone = shutdown(fd, Shutdown::Write);
            }
            End::Carried(stream) => stream.finish(),
        }
    }

    /// Closes it so that the peer learns that this is no proper end (RST).
    pub fn reset(self) {
        match &self.end {
            End::Kernel(fd, _) => {
                let _gone = sockopt::set_socket_linger(fd, Some(Duration::ZERO));
            }
            End::Carried(stream) => stream.reset(),
        }
    }
}

/// Takes of what came on a carried stream, with the errors that the kernel would tell.
fn taken(stream: &dyn Carried, mut take: impl FnMut(&[u8]) -> usize) -> Result<usize, Errno> {
    let mut count = 0;
    let came = stream.take(&mut |bytes| {
        count = take(bytes);
        count
    });
    match came {
        Ok(Came::Bytes) => Ok(count),
        Ok(Came::End) => Ok(0),
        Ok(Came::Nothing) => Err(Errno::AGAIN),
        Err(_) => Err(Errno::CONNRESET),
    }
}
