//! Bytes from one connection to another, unread: splice(2) over a pipe.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::task::Poll;

use rustix::pipe::{PipeFlags, pipe_with};

use super::Proxy;
use crate::hbone::{FILLED, PIECES};
use crate::reactor::{Elapsed, Filled, Led, Reactor, Socket};
use crate::telemetry::add;

/// So many pipes are kept for whoever needs one next.
const SPARE: usize = 64;
/// As much as a pipe holds.
const PIPE: usize = 64 << 10;
/// As much is read at first where something has to be copied; four times as much whenever that was not enough, up to what a pipe holds.
const FIRST: usize = 4 << 10;
/// After so many moves without a wait the others have their turn.
const TURNS: usize = 32;

/// Pipes that are empty.
#[derive(Debug, Default)]
pub(super) struct Pipes(RefCell<Vec<Pipe>>);

#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipes {
    fn take(&self) -> io::Result<Pipe> {
        if let Some(pipe) = self.0.borrow_mut().pop() {
            return Ok(pipe);
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Pipe { read, write })
    }

    fn give_back(&self, pipe: Pipe) {
        let mut spare = self.0.borrow_mut();
        if spare.len() < SPARE {
            spare.push(pipe);
        }
    }
}

/// Why not all was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Torn {
    /// Where it comes from has ended before, or sends nothing.
    From,
    /// Where it goes to is gone.
    To,
    /// Where it goes to takes nothing.
    Stuck,
    /// There is no descriptor for a pipe.
    Own,
}

/// One way of a connection. It has a pipe only while there is something in it, and where one of both is carried by another connection it
/// has a piece of memory instead.
struct Flow<'a> {
    from: &'a Socket,
    to: &'a Socket,
    pipes: &'a Pipes,
    pipe: Option<Pipe>,
    piece: Vec<u8>,
    /// All of it was filled, and it may become larger.
    filled: bool,
    /// Much comes at a time: it is read to where it is sent from, if there is such a place. Little goes with what others send.
    bulk: bool,
    /// Where it goes takes nothing now.
    stuck: bool,
    /// Where in the piece that is which was not passed on.
    start: usize,
    within: usize,
    ended: bool,
    /// What comes is not counted down, so it may go on by itself.
    endless: bool,
    /// It does, to where it goes.
    led: Option<Led<'a>>,
    left: u64,
    /// Where it is counted how much has been moved.
    meters: [&'a Cell<u64>; 2],
}

impl<'a> Flow<'a> {
    fn new(
        (from, to): (&'a Socket, &'a Socket),
        pipes: &'a Pipes,
        left: u64,
        meters: [&'a Cell<u64>; 2],
    ) -> Self {
        Self {
            from,
            to,
            pipes,
            pipe: None,
            piece: Vec::new(),
            filled: false,
            bulk: false,
            stuck: false,
            start: 0,
            within: 0,
            ended: false,
            endless: left == u64::MAX,
            led: None,
            left,
            meters,
        }
    }

    /// `Ready` when all of it has been moved, or there has been enough for one turn (false).
    fn poll(&mut self) -> Poll<Result<bool, Torn>> {
        if !self.from.splices() || !self.to.splices() {
            return self.poll_copying();
        }
        for _ in 0..TURNS {
            if self.within > 0 {
                let Some(pipe) = &self.pipe else { return Poll::Ready(Ok(true)) };
                match self.to.poll_splice_out(pipe.read.as_fd(), self.within) {
                    Poll::Ready(Ok(moved)) => {
                        self.within -= moved.min(self.within);
                        self.count(moved);
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Torn::To)),
                    Poll::Pending => return Poll::Pending,
                }
                continue;
            }
            if self.ended || self.left == 0 {
                self.release();
                return Poll::Ready(Ok(true));
            }
            let pipe = match self.pipe.take() {
                Some(pipe) => pipe,
                None if !self.from.is_readable() => {
                    // Registers the wait; nothing is moved without a pipe.
                    return self.wait();
                }
                None => match self.pipes.take() {
                    Ok(pipe) => pipe,
                    Err(_) => return Poll::Ready(Err(Torn::Own)),
                },
            };
            let most = usize::try_from(self.left).unwrap_or(PIPE).min(PIPE);
            let moved = self.from.poll_splice_in(pipe.write.as_fd(), most);
            self.pipe = Some(pipe);
            match moved {
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(moved)) => {
                    self.within = moved;
                    self.left -= moved as u64;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Torn::From)),
                Poll::Pending => {
                    self.release();
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(false))
    }

    /// The same where there is no descriptor to splice from or to.
    fn poll_copying(&mut self) -> Poll<Result<bool, Torn>> {
        self.stuck = false;
        self.note_led();
        for _ in 0..TURNS {
            if self.within > 0 {
                let rest = self.piece.get(self.start..self.start + self.within).unwrap_or_default();
                match self.to.poll_write(rest) {
                    Poll::Ready(Ok(count)) => {
                        self.start += count;
                        self.within -= count.min(self.within);
                        self.count(count);
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Torn::To)),
                    Poll::Pending => return Poll::Pending,
                }
                continue;
            }
            if self.ended || self.left == 0 {
                self.piece = Vec::new();
                return Poll::Ready(Ok(true));
            }
            if !self.from.is_readable() {
                (self.piece, self.filled) = (Vec::new(), false);
                if self.endless && self.led.is_none() && self.to.splices() {
                    self.led = self.from.lead(self.to);
                }
                return self.wait();
            }
            let most = usize::try_from(self.left).unwrap_or(PIPE).min(PIPE);
            if !self.from.splices() && self.to.splices() {
                match self.hand_over(most) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(torn)) => return Poll::Ready(Err(torn)),
                    // All was taken.
                    Poll::Pending if !self.from.is_readable() => continue,
                    Poll::Pending => return Poll::Pending,
                }
            }
            if self.bulk && self.from.splices() && !self.to.splices() {
                (self.piece, self.filled) = (Vec::new(), false);
                match self.fill(usize::try_from(self.left).unwrap_or(FILLED).min(FILLED)) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(torn)) => return Poll::Ready(Err(torn)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if std::mem::take(&mut self.filled) {
                self.piece.resize(4 * self.piece.len(), 0);
            }
            // What comes in small pieces needs no more memory than for those.
            if self.piece.is_empty() {
                self.piece.resize(FIRST, 0);
            }
            let room = self.piece.len().min(most).min(if self.to.splices() { PIPE } else { PIECES });
            match self.from.poll_read_into(self.piece.get_mut(..room).unwrap_or_default()) {
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(count)) => {
                    (self.start, self.within) = (0, count);
                    self.filled = count == self.piece.len() && count < PIPE;
                    self.left -= count as u64;
                    self.bulk = count >= FIRST;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Torn::From)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(false))
    }

    /// Has what came read to where it is sent from.
    fn fill(&mut self, most: usize) -> Poll<Result<(), Torn>> {
        let Poll::Ready(filled) = self.to.poll_fill(self.from, most) else { return Poll::Pending };
        match filled {
            Filled::Bytes(count) => {
                self.left -= count as u64;
                self.count(count);
                self.bulk = count >= FIRST;
            }
            Filled::End => self.ended = true,
            Filled::Blocked => {
                self.stuck = true;
                return Poll::Pending;
            }
            Filled::Gone => return Poll::Ready(Err(Torn::To)),
            Filled::Broken => return Poll::Ready(Err(Torn::From)),
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what came on a stream from where it is.
    fn hand_over(&mut self, most: usize) -> Poll<Result<(), Torn>> {
        let (to, mut gone) = (self.to, false);
        let handed = self.from.poll_hand_over(|bytes| {
            match to.poll_write(bytes.get(..most.min(bytes.len())).unwrap_or_default()) {
                Poll::Ready(Ok(count)) => count,
                Poll::Ready(Err(_)) => {
                    gone = true;
                    0
                }
                Poll::Pending => 0,
            }
        });
        if gone {
            return Poll::Ready(Err(Torn::To));
        }
        match handed {
            Poll::Ready(Ok(0)) => {
                self.ended = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(count)) => {
                self.left -= count as u64;
                self.count(count);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(Torn::From)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Counts what has gone by itself.
    fn note_led(&self) {
        let moved = self.led.as_ref().map_or(0, Led::take);
        if moved > 0 {
            self.meters.iter().for_each(|meter| add(meter, moved));
        }
    }

    /// Whether what has gone by itself has met an error: it is reset there, though it would read like an end.
    fn is_torn(&self) -> bool {
        self.led.as_ref().is_some_and(Led::is_gone)
    }

    /// So much has gone where it goes.
    fn count(&self, moved: usize) {
        self.meters.iter().for_each(|meter| add(meter, moved as u64));
    }

    fn wait(&self) -> Poll<Result<bool, Torn>> {
        self.from.park_for_reading();
        Poll::Pending
    }

    fn release(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            self.pipes.give_back(pipe);
        }
    }
}

impl Drop for Flow<'_> {
    fn drop(&mut self) {
        self.note_led();
    }
}

/// Moves what comes from either to the other until both have ended. A half that ends is ended on the other side, too. Bytes of `one` are
/// counted by the first two of the meters, those of the other by the last.
///
/// # Errors
/// One of them was reset. Both should be.
pub(super) async fn tunnel(
    reactor: &Reactor,
    one: &Socket,
    other: &Socket,
    pipes: &Rc<Pipes>,
    [there, back]: [[&Cell<u64>; 2]; 2],
) -> Result<(), Torn> {
    let mut flows =
        [Flow::new((one, other), pipes, u64::MAX, there), Flow::new((other, one), pipes, u64::MAX, back)];
    let mut done = [false, false];
    loop {
        let again = poll_fn(|_| {
            let mut again = false;
            let torn = flows.iter().any(Flow::is_torn);
            for (flow, done) in flows.iter_mut().zip(&mut done) {
                if *done {
                    continue;
                }
                match flow.poll() {
                    // What came before is passed on, but not as all there was.
                    Poll::Ready(Ok(true)) if torn => return Poll::Ready(Err(Torn::To)),
                    Poll::Ready(Ok(true)) => {
                        flow.to.finish();
                        *done = true;
                    }
                    Poll::Ready(Ok(false)) => again = true,
                    Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                    Poll::Pending => {}
                }
            }
            if torn {
                return Poll::Ready(Err(Torn::To));
            }
            if again || done == [true, true] { Poll::Ready(Ok(again)) } else { Poll::Pending }
        })
        .await?;
        if !again {
            return Ok(());
        }
        reactor.yield_now().await;
    }
}

/// Moves so many bytes, as long as some are moved in each `stall`.
///
/// # Errors
/// Whose doing it is that not all was moved.
pub(super) async fn carry(proxy: &Proxy, from: &Socket, to: &Socket, count: u64) -> Result<(), Torn> {
    let (reactor, stall) = (&proxy.reactor, proxy.settings.stall);
    // Whoever carries a body counts it as a whole.
    let nobody = Cell::new(0);
    let mut flow = Flow::new((from, to), &proxy.pipes, count, [&nobody; 2]);
    loop {
        let before = (flow.left, flow.within);
        match reactor.before(Some(reactor.now() + stall), poll_fn(|_| flow.poll())).await {
            Ok(Ok(true)) => break,
            Ok(Ok(false)) => reactor.yield_now().await,
            // What waits for a request makes room.
            Ok(Err(Torn::Own)) if proxy.pool.shed() > 0 => {}
            Ok(Err(torn)) => return Err(torn),
            Err(Elapsed) if before == (flow.left, flow.within) => {
                return Err(if flow.within > 0 || flow.stuck { Torn::Stuck } else { Torn::From });
            }
            Err(Elapsed) => {}
        }
    }
    if flow.left > 0 { Err(Torn::From) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, IoSliceMut};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use rustix::net::sockopt;

    use super::*;
    use crate::reactor::{Came, Carried, Sink};

    /// What does not happen within this time does not happen.
    const PATIENCE: Duration = Duration::from_secs(180);

    /// A stream on which nothing comes but what is written where it leads.
    #[derive(Default)]
    struct Leading {
        sink: RefCell<Option<Sink>>,
        finished: Cell<bool>,
    }

    struct Stream(Rc<Leading>);

    impl Carried for Stream {
        fn take(&self, _: &mut dyn FnMut(&[u8]) -> usize) -> io::Result<Came> {
            Ok(Came::Nothing)
        }

        fn send(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
            Ok(Some(bytes.len()))
        }

        fn fill(&self, _: usize, _: &mut dyn FnMut(&mut [IoSliceMut<'_>]) -> usize) -> io::Result<()> {
            Ok(())
        }

        fn lead(&self, to: Option<Sink>) {
            *self.0.sink.borrow_mut() = to;
        }

        fn finish(&self) {
            self.0.finished.set(true);
        }

        fn reset(&self) {}
    }

    #[test]
    fn a_reset_that_a_stream_hears_in_writing_is_not_passed_on_as_an_end() {
        let reactor = Reactor::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (near, _) = listener.accept().unwrap();
        near.set_nonblocking(true).unwrap();
        let near = reactor.socket(near.into()).unwrap();
        let (marks, leading) = (reactor.marks(), Rc::new(Leading::default()));
        let stream = Socket::carried(&marks, Box::new(Stream(leading.clone())));
        // What the task of the stream's connection does.
        let (turns, told) = (reactor.clone(), leading.clone());
        reactor.spawn(async move {
            while told.sink.borrow().is_none() {
                turns.yield_now().await;
            }
            sockopt::set_socket_linger(&far, Some(Duration::ZERO)).unwrap();
            drop(far);
            while told.sink.borrow().as_ref().is_some_and(|sink| sink.write(&[IoSlice::new(b"x")]) > 0) {}
        });
        let inside = reactor.clone();
        let ended = reactor.run(async move {
            let (pipes, meter) = (Rc::new(Pipes::default()), Cell::new(0));
            let meters = [[&meter; 2]; 2];
            let passed = tunnel(&inside, &near, &stream, &pipes, meters);
            inside.before(Some(inside.now() + PATIENCE), passed).await
        });
        assert!(matches!(ended, Ok(Ok(Err(Torn::To)))), "{ended:?}");
        assert!(!leading.finished.get());
    }
}
