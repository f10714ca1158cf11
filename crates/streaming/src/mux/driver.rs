//! What reads a connection, deals out what arrives, and ends it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::Shared;
use super::protocol::Malformed;
use super::scratch::with_scratch;
use super::state::{End, State};

/// Control frames that may wait for the socket before nothing more is read: whoever sends pings must read the answers.
const OUTGOING_MAX: usize = 64 * 1024;

/// How often a peer whose pings cannot be read, because nobody takes what it sends, is shown that this side lives:
/// kubectl gives up after a minute.
const SIGN: Duration = Duration::from_secs(10);

/// How long a peer that took its leave, or broke the rules, may take to read the answer.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection's life: to be polled until it is over. It ends when the peer is gone, when the connection was closed and
/// the peer has had its time, or when nothing happened for too long.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    timer: Pin<Box<Sleep>>,
    idle: Duration,
    pings: Option<Pings>,
    /// When the next sign of life is due, while pings are not read.
    sign: Option<Instant>,
    leaving: Leaving,
    complaint: Option<Malformed>,
}

/// How it is found out that a silent peer is gone.
#[derive(Debug, Clone, Copy)]
struct Pings {
    every: Duration,
    next: Instant,
}

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    Not,
    /// All is sent, and the peer may take until then to close.
    Until(Instant),
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>) -> Driver {
        let timer = Box::pin(tokio::time::sleep(Duration::ZERO));
        Driver {
            shared,
            timer,
            idle: Duration::MAX,
            pings: None,
            sign: None,
            leaving: Leaving::Not,
            complaint: None,
        }
    }

    /// Ends the connection once nothing has come or gone for so long.
    pub(crate) fn idle(mut self, idle: Duration) -> Driver {
        self.idle = idle;
        self
    }

    /// Asks the peer for a sign of life; it is given up when it has sent nothing for `patience`.
    pub(crate) fn pings(mut self, every: Duration, patience: Duration) -> Driver {
        self.pings = Some(Pings { every, next: Instant::now() + every });
        self.idle = patience;
        self
    }

    /// Does what time demands; true if the connection is to end.
    fn tick(&mut self, state: &mut State, context: &mut Context<'_>) -> bool {
        loop {
            let now = Instant::now();
            let last = if self.pings.is_some() {
                state.last_received
            } else {
                state.last_received.max(state.last_sent)
            };
            // A peer is not silent while nobody here listens.
            let last = if state.stalled.is_some() && self.pings.is_some() { now } else { last };
            let idle = last.checked_add(self.idle);
            let leave = match self.leaving {
                Leaving::Until(when) => Some(when),
                Leaving::Not => idle,
            };
            if leave.is_some_and(|when| when <= now) {
                return true;
            }
            let mut next = leave;
            if state.stalled.is_some() {
                let due = *self.sign.get_or_insert(now + SIGN);
                if due <= now {
                    state.protocol.alive(&mut state.outgoing);
                    self.sign = Some(now + SIGN);
                }
                next = next.min(self.sign).or(self.sign);
            } else {
                self.sign = None;
            }
            if let Some(pings) = &mut self.pings
                && state.gone.is_none()
            {
                if pings.next <= now {
                    pings.next = now + pings.every;
                    state.protocol.ping(&mut state.outgoing);
                }
                next = Some(next.map_or(pings.next, |next| next.min(pings.next)));
            }
            let Some(next) = next else { return false };
            // Set anew only where it has to be: activity comes often, the timer's end seldom.
            if self.timer.is_elapsed() || self.timer.deadline().into_std() > next {
                self.timer.as_mut().reset(next.into());
            }
            if self.timer.as_mut().poll(context).is_pending() {
                return false;
            }
        }
    }

    /// Sends what waits, and ends what is to end. Ready once the connection is over.
    fn send(&mut self, state: &mut State) -> Poll<()> {
        let waker = self.shared.wakers.waker();
        let mut socket = Context::from_waker(&waker);
        let leaves = state.closing.or(state.gone.map(|_| FAREWELL));
        match state.flush(&mut socket) {
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(())) if leaves.is_some() && self.leaving == Leaving::Not => {}
            Poll::Pending if state.gone.is_some() && self.leaving == Leaving::Not => {
                self.leaving = Leaving::Until(Instant::now() + FAREWELL);
                return Poll::Pending;
            }
            _ => return Poll::Pending,
        }
        let Some(transport) = &mut state.transport else { return Poll::Ready(()) };
        match Pin::new(transport).poll_shutdown(&mut socket) {
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(())) => {
                self.leaving = Leaving::Until(Instant::now() + leaves.unwrap_or(FAREWELL));
            }
            Poll::Pending => {}
        }
        Poll::Pending
    }

    /// Reads until there is nothing, or nothing may be read. Ready once the peer has closed.
    fn receive(&mut self, state: &mut State, context: &mut Context<'_>) -> Poll<Result<(), Malformed>> {
        loop {
            let leaving = state.gone.is_some() || state.closing.is_some();
            if leaving {
                // Nobody wants what comes now; it is read so that the peer is not cut off before it has read.
                state.stalled = None;
                state.unparsed = Vec::new();
            } else if !state.resume() || state.outgoing.len() > OUTGOING_MAX {
                return Poll::Pending;
            }
            if !state.unparsed.is_empty() {
                let mut bytes = std::mem::take(&mut state.unparsed);
                deal(state, &mut bytes)?;
                continue;
            }
            let read = with_scratch(|scratch| {
                let Some(transport) = &mut state.transport else { return Poll::Ready(Ok(0)) };
                let mut buffer = ReadBuf::new(scratch);
                match Pin::new(transport).poll_read(context, &mut buffer) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(_)) => Poll::Ready(Ok(0)),
                    Poll::Ready(Ok(())) => {
                        let length = buffer.filled().len();
                        if !leaving {
                            deal(state, buffer.filled_mut())?;
                        }
                        Poll::Ready(Ok(length))
                    }
                }
            });
            match read {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(malformed)) => return Poll::Ready(Err(malformed)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {
                    state.last_received = Instant::now();
                    // The transport may have answers of its own to send: a tunnel's to pings.
                    state.unflushed = true;
                }
            }
        }
    }
}

/// Deals out what was read, as far as it can be.
fn deal(state: &mut State, mut bytes: &mut [u8]) -> Result<(), Malformed> {
    while !bytes.is_empty() && state.gone.is_none() {
        if state.stalled.is_some() {
            state.unparsed = bytes.to_vec();
            return Ok(());
        }
        let (used, event) = state.protocol.read(&mut *bytes, &mut state.outgoing)?;
        state.take(event);
        bytes = bytes.get_mut(used..).unwrap_or_default();
    }
    Ok(())
}

impl Future for Driver {
    /// What the peer did wrong, if that ended the connection.
    type Output = Result<(), Malformed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let shared = Arc::clone(&this.shared);
        shared.wakers.set_driver(context.waker());
        let mut guard = shared.lock();
        let state = &mut *guard;
        let received = match this.receive(state, context) {
            Poll::Ready(Err(malformed)) => {
                state.protocol.complain(malformed, &mut state.outgoing);
                state.go(End::Cut);
                this.complaint = Some(malformed);
                this.receive(state, context)
            }
            received => received,
        };
        let choked = state.outgoing.len() > OUTGOING_MAX;
        let over = received.is_ready() || this.send(state).is_ready() || this.tick(state, context);
        if choked && state.outgoing.len() <= OUTGOING_MAX {
            // Reading was left off for the sake of what is sent now.
            context.waker().wake_by_ref();
        }
        // What the clock has put there goes at once.
        let over = over || (!state.outgoing.is_empty() && this.send(state).is_ready());
        if !over {
            return Poll::Pending;
        }
        state.go(End::Cut);
        state.transport = None;
        drop(guard);
        shared.wakers.wake_writers();
        Poll::Ready(this.complaint.map_or(Ok(()), Err))
    }
}

impl Drop for Driver {
    /// Without it nothing is read and nothing finished: whoever holds a stream is told.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.go(End::Cut);
        state.transport = None;
        drop(state);
        self.shared.wakers.wake_writers();
    }
}
