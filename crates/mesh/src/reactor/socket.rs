//! Sockets of the loop.

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

use super::{Buffer, Core, DEAD, END, IN, NOBODY, OUT, Reactor, Source};

/// A descriptor that does not block, and what the loop knows of it. It belongs to the task that waits for it last.
pub struct Socket {
    fd: OwnedFd,
    source: Rc<Source>,
    key: u64,
    core: Rc<Core>,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Socket").field(&self.fd).finish()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The descriptor leaves the epoll when it is closed.
        self.core.sources.borrow_mut().remove(self.key);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Socket {
    pub(super) fn new(fd: OwnedFd, source: Rc<Source>, key: u64, core: Rc<Core>) -> Self {
        Self { fd, source, key, core }
    }

    /// Connects over TCP.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn connect(reactor: &Reactor, to: SocketAddr) -> io::Result<Self> {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&fd, true)?;
        let at_once = match connect(&fd, &to) {
            Ok(()) => true,
            Err(Errno::INPROGRESS) => false,
            Err(e) => return Err(e.into()),
        };
        let socket = reactor.socket(fd)?;
        if !at_once {
            socket.clear(OUT);
            poll_fn(|_| if socket.has(OUT | DEAD) { Poll::Ready(()) } else { socket.park() }).await;
            sockopt::socket_error(&socket.fd)??;
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
            match accept_with(&self.fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
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
        let mut byte = [0_u8; 1];
        !matches!(
            recv(&self.fd, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT).map(|(count, _)| count),
            Err(Errno::AGAIN)
        )
    }

    /// Waits until there is something to read, or an end.
    pub async fn readable(&self) {
        poll_fn(|_| if self.has(IN) { Poll::Ready(()) } else { self.park() }).await;
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
            match recv(&self.fd, &mut *into, RecvFlags::PEEK | RecvFlags::DONTWAIT).map(|(count, _)| count) {
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
        let bytes = buffer.room();
        let room = bytes.capacity() - bytes.len();
        match recv(&self.fd, spare_capacity(bytes), RecvFlags::DONTWAIT).map(|(_, count)| count) {
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

    /// Writes as much as there is room for, of at least one byte.
    pub(crate) fn poll_write(&self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.has(OUT) {
            return self.park();
        }
        match send(&self.fd, bytes, SendFlags::NOSIGNAL) {
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
            match rustix::io::read(&self.fd, &mut [0; 8]) {
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
                if !self.has(OUT) {
                    return self.park();
                }
                match send(&self.fd, rest, SendFlags::NOSIGNAL) {
                    Ok(count) => {
                        if count < rest.len() {
                            self.clear(OUT);
                        }
                        rest = rest.get(count..).unwrap_or_default();
                    }
                    Err(Errno::AGAIN) => self.clear(OUT),
                    Err(e) => return Poll::Ready(Err(e.into())),
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
        match splice(&self.fd, None, pipe, None, most, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
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
        match splice(pipe, None, &self.fd, None, most, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
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
        let _gone = shutdown(&self.fd, Shutdown::Write);
    }

    /// Closes it so that the peer learns that this is no proper end (RST).
    pub fn reset(self) {
        let _gone = sockopt::set_socket_linger(&self.fd, Some(Duration::ZERO));
    }
}
