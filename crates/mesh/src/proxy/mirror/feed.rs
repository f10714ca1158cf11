//! What of a request is on its way to a copy of it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::super::Proxy;
use crate::h2::Fields;
use crate::reactor::Buffer;
use crate::telemetry::Unmirrored;

/// As long as that at most a copy may take when the request itself has ended and the proxy is drained: who ends would wait for it.
const DRAINED: Duration = Duration::from_secs(1);

/// Who gives a request to its copies as it passes, until it ends.
#[derive(Default)]
pub(in crate::proxy) struct Copies(Vec<Rc<Feed>>);

impl std::fmt::Debug for Copies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Copies").field(&self.0.len()).finish()
    }
}

impl Copies {
    pub(super) fn add(&mut self, feed: &Rc<Feed>) {
        self.0.push(feed.clone());
    }

    /// Whether one of them wants what is still to come.
    pub(in crate::proxy) fn are_wanted(&self) -> bool {
        self.0.iter().any(|feed| feed.is_open())
    }

    /// A piece of the request goes on.
    pub(in crate::proxy) fn push(&self, bytes: &[u8]) {
        self.0.iter().for_each(|feed| feed.push(bytes));
    }

    /// All of it has gone on, with these trailers behind it, if it has some.
    pub(in crate::proxy) fn end(&self, trailers: Option<&Fields>) {
        self.0.iter().for_each(|feed| feed.end(trailers));
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        self.0.iter().for_each(|feed| feed.leave());
    }
}

/// Bytes that wait for one copy.
pub(super) struct Feed {
    proxy: Rc<Proxy>,
    fed: RefCell<Fed>,
}

#[derive(Default)]
struct Fed {
    bytes: Buffer,
    trailers: Option<Fields>,
    /// So many bytes are kept beside those until nobody wants any: of trailers, and of a head that does not wait as bytes.
    beside: usize,
    state: State,
    /// When the request itself has ended.
    over: Option<Instant>,
    /// Whose copy it is.
    task: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// More comes.
    #[default]
    Open,
    /// Nothing comes behind what waits.
    Whole,
    /// Nobody wants what comes.
    Closed,
    /// It is given up.
    Lost(Unmirrored),
}

impl Feed {
    /// With what there is of the request.
    pub(super) fn new(proxy: &Rc<Proxy>, first: &[u8], whole: bool) -> Rc<Self> {
        let state = if whole { State::Whole } else { State::Open };
        let mut bytes = Buffer::default();
        bytes.push(first);
        let waiting = &proxy.mirrors.waiting;
        waiting.set(waiting.get() + first.len());
        let fed = RefCell::new(Fed { bytes, state, ..Fed::default() });
        Rc::new(Self { proxy: proxy.clone(), fed })
    }

    /// So many bytes more are kept for it until nobody wants any.
    pub(super) fn keep_beside(&self, count: usize) {
        self.fed.borrow_mut().beside += count;
        let waiting = &self.proxy.mirrors.waiting;
        waiting.set(waiting.get() + count);
    }

    fn is_open(&self) -> bool {
        self.fed.borrow().state == State::Open
    }

    /// Whether so many bytes more may wait, which count then. Where that is too much it is given up: nobody waits for it.
    fn admits(&self, fed: &mut Fed, count: usize) -> bool {
        let (settings, waiting) = (&self.proxy.settings, &self.proxy.mirrors.waiting);
        let of_one = fed.bytes.data().len() + count;
        let of_all = waiting.get() + count;
        let has_room = of_one <= settings.mirror_queue && of_all <= settings.mirror_queues;
        if has_room {
            waiting.set(of_all);
        } else {
            self.empty(fed);
            fed.state = State::Lost(Unmirrored::Slow);
        }
        has_room
    }

    /// A piece comes.
    fn push(&self, bytes: &[u8]) {
        let mut fed = self.fed.borrow_mut();
        if fed.state != State::Open || bytes.is_empty() {
            return;
        }
        if self.admits(&mut fed, bytes.len()) {
            fed.bytes.push(bytes);
        }
        self.wake(&fed);
    }

    fn end(&self, trailers: Option<&Fields>) {
        let mut fed = self.fed.borrow_mut();
        if fed.state != State::Open {
            return;
        }
        if trailers.is_none_or(|trailers| self.admits(&mut fed, trailers.size())) {
            fed.beside += trailers.map_or(0, Fields::size);
            (fed.trailers, fed.state) = (trailers.cloned(), State::Whole);
        }
        self.wake(&fed);
    }

    /// The request itself has ended. What did not come whole by then never will.
    fn leave(&self) {
        let mut fed = self.fed.borrow_mut();
        fed.over = Some(self.proxy.reactor.now());
        if fed.state == State::Open {
            self.empty(&mut fed);
            fed.state = State::Lost(Unmirrored::Unfinished);
        }
        self.wake(&fed);
    }

    /// Nobody wants what waits, and what comes.
    pub(super) fn close(&self) {
        let mut fed = self.fed.borrow_mut();
        self.empty(&mut fed);
        (fed.trailers, fed.state) = (None, State::Closed);
    }

    fn empty(&self, fed: &mut Fed) {
        self.used(fed.bytes.data().len() + fed.beside);
        (fed.bytes, fed.beside) = (Buffer::default(), 0);
    }

    /// So many bytes wait no more.
    fn used(&self, count: usize) {
        let waiting = &self.proxy.mirrors.waiting;
        waiting.set(waiting.get().saturating_sub(count));
    }

    fn wake(&self, fed: &Fed) {
        if let Some(task) = fed.task {
            self.proxy.reactor.wake(task);
        }
    }

    /// Shows what waits to whoever sends it, with whether nothing comes behind it and the trailers that do. It says how many bytes it has taken. The
    /// task that runs is woken when there is more.
    ///
    /// # Errors
    /// It is given up.
    pub(super) fn look<T>(
        &self,
        take: impl FnOnce(&[u8], bool, &mut Option<Fields>) -> (usize, T),
    ) -> Result<T, Unmirrored> {
        let mut fed = self.fed.borrow_mut();
        let fed = &mut *fed;
        fed.task = Some(self.proxy.reactor.current());
        let whole = match fed.state {
            State::Lost(lost) => return Err(lost),
            State::Open => false,
            State::Whole | State::Closed => true,
        };
        let (count, value) = take(fed.bytes.data(), whole, &mut fed.trailers);
        let count = count.min(fed.bytes.data().len());
        fed.bytes.consume(count);
        if fed.bytes.is_empty() {
            // What waits for more needs no memory.
            fed.bytes = Buffer::default();
        }
        self.used(count);
        Ok(value)
    }

    /// Waits until it is given up, or late: at `limit`, or some time after the request itself has ended.
    pub(super) async fn ended(&self, limit: Option<Instant>) -> Unmirrored {
        poll_fn(|_| {
            let mut fed = self.fed.borrow_mut();
            let reactor = &self.proxy.reactor;
            fed.task = Some(reactor.current());
            if let State::Lost(lost) = fed.state {
                return Poll::Ready(lost);
            }
            let most = if self.proxy.draining.get() { DRAINED } else { Duration::MAX };
            let behind = fed.over.map(|over| over + self.proxy.settings.mirror_behind.min(most));
            match [limit, behind].into_iter().flatten().min() {
                Some(at) if reactor.now() >= at => Poll::Ready(Unmirrored::Late),
                Some(at) => {
                    reactor.wake_at(at);
                    Poll::Pending
                }
                None => Poll::Pending,
            }
        })
        .await
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let fed = self.fed.get_mut();
        let left = fed.bytes.data().len() + fed.beside;
        self.used(left);
    }
}
