//! One thread that waits for many sockets: an epoll, tasks, and times to wake them at.
//!
//! A task is a future that owns its sockets. An event marks a socket as readable or writable and runs the task that waits for it; the future
//! looks at those marks, so there are no wakers, and a socket is registered once in its life (edge-triggered). What a task waits for in time
//! is one instant, kept lazily: setting a later one costs nothing.

mod buffer;
mod socket;
mod stream;
mod wait;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

pub use buffer::Buffer;
pub use socket::Socket;
pub(crate) use socket::{Filled, Led, Sink, keep_alive, tcp};
pub(crate) use stream::{Came, Carried, Marks};
pub use wait::{Elapsed, race};

/// No task.
const NOBODY: u32 = u32::MAX;
/// So many events are taken at a time.
const EVENTS: usize = 256;
/// So often a task reads, writes or takes a connection before the others have their turn, however much there is.
const TURNS: u32 = 64;
/// So many times may be kept for each task, and so many in any case, before those that nobody waits for are thrown away.
const TIMES: usize = 4;
const TIMES_ANYWAY: usize = 64;

const IN: u8 = 1;
const OUT: u8 = 2;
/// The peer sends nothing more.
const END: u8 = 4;
/// The connection is gone both ways.
const DEAD: u8 = 8;

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// The thread's loop; clones are the same. A task that has not ended keeps its sockets, and the loop, for as long as there is the process.
#[derive(Clone)]
pub struct Reactor {
    core: Rc<Core>,
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reactor").field("tasks", &self.tasks()).finish_non_exhaustive()
    }
}

struct Core {
    epoll: OwnedFd,
    sources: RefCell<Sources>,
    tasks: RefCell<Vec<Task>>,
    free: RefCell<Vec<u32>>,
    ready: RefCell<VecDeque<u32>>,
    timers: RefCell<BinaryHeap<Reverse<(Instant, u32)>>>,
    now: Cell<Instant>,
    current: Cell<u32>,
    /// When the current task wants to be woken.
    wake: Cell<Option<Instant>>,
    /// Whether the current task goes on as soon as the others have had their turn.
    again: Cell<bool>,
    /// How often the current task may still read or write in this turn.
    turns: Cell<u32>,
    stopped: Cell<bool>,
    spare: RefCell<Vec<Vec<u8>>>,
}

#[derive(Default)]
struct Task {
    work: Option<Work>,
    queued: bool,
    wake: Option<Instant>,
    /// When its entry among the timers is due.
    armed: Option<Instant>,
}

#[derive(Default)]
struct Sources {
    slots: Vec<(u32, Option<Rc<Source>>)>,
    free: Vec<u32>,
}

/// What events say of a socket, and whose it is.
struct Source {
    marks: Cell<u8>,
    task: Cell<u32>,
}

impl Reactor {
    /// With nothing to do.
    ///
    /// # Errors
    /// The kernel's: no descriptor is left.
    pub fn new() -> io::Result<Self> {
        let core = Core {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            sources: RefCell::default(),
            tasks: RefCell::default(),
            free: RefCell::default(),
            ready: RefCell::default(),
            timers: RefCell::default(),
            now: Cell::new(Instant::now()),
            current: Cell::new(NOBODY),
            wake: Cell::new(None),
            again: Cell::new(false),
            turns: Cell::new(0),
            stopped: Cell::new(false),
            spare: RefCell::default(),
        };
        Ok(Self { core: Rc::new(core) })
    }

    /// When this turn of the loop began.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.core.now.get()
    }

    /// How many tasks there are.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.core.tasks.borrow().len() - self.core.free.borrow().len()
    }

    /// Begins a task. It runs before the loop waits again.
    pub fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        let task = Task { work: Some(Box::pin(work)), queued: true, ..Task::default() };
        let mut tasks = self.core.tasks.borrow_mut();
        let reused = self.core.free.borrow_mut().pop();
        let id = match reused.and_then(|id| Some((id, tasks.get_mut(index(id))?))) {
            // What is left among the timers of the one before wakes nobody.
            Some((id, slot)) => {
                *slot = task;
                id
            }
            None => {
                tasks.push(task);
                u32::try_from(tasks.len() - 1).unwrap_or(NOBODY)
            }
        };
        self.core.ready.borrow_mut().push_back(id);
    }

    /// Runs until this has ended; other tasks stay as they are.
    ///
    /// # Errors
    /// The kernel's, of epoll.
    pub fn run<T: 'static>(&self, work: impl Future<Output = T> + 'static) -> io::Result<T> {
        let result = Rc::new(Cell::new(None));
        let (reactor, told) = (self.clone(), result.clone());
        self.core.stopped.set(false);
        self.spawn(async move {
            told.set(Some(work.await));
            reactor.core.stopped.set(true);
        });
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            self.core.turn(&mut events)?;
            if let Some(value) = result.take() {
                return Ok(value);
            }
        }
    }

    /// The task that runs.
    pub(crate) fn current(&self) -> u32 {
        self.core.current.get()
    }

    /// Runs a task once, for what no event tells of.
    pub(crate) fn wake(&self, task: u32) {
        self.core.queue(task);
    }

    /// Runs every task once, for what no event tells of.
    pub fn wake_all(&self) {
        let count = u32::try_from(self.core.tasks.borrow().len()).unwrap_or(NOBODY);
        (0..count).for_each(|id| self.core.queue(id));
    }

    /// Drops all tasks with the sockets that they have: for who runs it no more.
    pub fn abandon(&self) {
        let tasks = std::mem::take(&mut *self.core.tasks.borrow_mut());
        self.core.free.borrow_mut().clear();
        self.core.ready.borrow_mut().clear();
        self.core.timers.borrow_mut().clear();
        drop(tasks);
    }

    /// Takes a descriptor that does not block into the loop.
    ///
    /// # Errors
    /// The kernel's, of epoll.
    pub fn socket(&self, fd: OwnedFd) -> io::Result<Socket> {
        let source = Rc::new(Source { marks: Cell::new(OUT), task: Cell::new(NOBODY) });
        let key = self.core.sources.borrow_mut().put(source.clone());
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let added = epoll::add(&self.core.epoll, fd.as_fd(), EventData::new_u64(key), flags);
        let socket = Socket::new(fd, source, key, self.core.clone());
        added?;
        Ok(socket)
    }
}

/// Throws away the times of those who have ended or want to be woken earlier: each time a task waits for less long than before leaves one.
fn forget(timers: &mut BinaryHeap<Reverse<(Instant, u32)>>, tasks: &[Task]) {
    let armed = (0..).zip(tasks).filter_map(|(id, task)| Some(Reverse((task.armed?, id))));
    *timers = armed.collect();
}

fn index(id: u32) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}

impl Sources {
    /// Keeps one under a key that no other had: a slot, and how often it was used.
    fn put(&mut self, source: Rc<Source>) -> u64 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let Some((used, place)) = self.slots.get_mut(index(slot)) else { return u64::MAX };
        *place = Some(source);
        u64::from(*used) << 32 | u64::from(slot)
    }

    fn get(&self, key: u64) -> Option<&Rc<Source>> {
        let (used, source) = self.slots.get(usize::try_from(key & u64::from(u32::MAX)).ok()?)?;
        source.as_ref().filter(|_| u64::from(*used) == key >> 32)
    }

    fn remove(&mut self, key: u64) {
        let Ok(slot) = u32::try_from(key & u64::from(u32::MAX)) else { return };
        if let Some((used, source)) = self.slots.get_mut(index(slot)) {
            *source = None;
            *used = used.wrapping_add(1);
            self.free.push(slot);
        }
    }
}

impl Core {
    fn turn(&self, events: &mut Vec<Event>) -> io::Result<()> {
        let queued = self.ready.borrow().len();
        for _ in 0..queued {
            let Some(id) = self.ready.borrow_mut().pop_front() else { break };
            self.poll(id);
        }
        if self.stopped.get() {
            return Ok(());
        }
        let timeout =
            if self.ready.borrow().is_empty() { self.until_timer() } else { Some(Timespec::default()) };
        events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        self.now.set(Instant::now());
        let sources = self.sources.borrow();
        for event in &*events {
            let (key, flags) = (event.data.u64(), event.flags);
            let Some(source) = sources.get(key) else { continue };
            let mut marks = source.marks.get();
            if flags.intersects(EventFlags::IN) {
                marks |= IN;
            }
            if flags.intersects(EventFlags::OUT) {
                marks |= OUT;
            }
            if flags.intersects(EventFlags::RDHUP) {
                marks |= IN | END;
            }
            if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
                marks |= IN | OUT | END | DEAD;
            }
            source.marks.set(marks);
            self.queue(source.task.get());
        }
        drop(sources);
        self.fire();
        Ok(())
    }

    fn queue(&self, id: u32) {
        if let Some(task) = self.tasks.borrow_mut().get_mut(index(id))
            && !task.queued
            && task.work.is_some()
        {
            task.queued = true;
            self.ready.borrow_mut().push_back(id);
        }
    }

    fn poll(&self, id: u32) {
        let taken = self.tasks.borrow_mut().get_mut(index(id)).and_then(|task| {
            task.queued = false;
            task.work.take()
        });
        let Some(mut work) = taken else { return };
        self.current.set(id);
        self.wake.set(None);
        self.again.set(false);
        self.turns.set(TURNS);
        let polled = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        self.current.set(NOBODY);
        match polled {
            Poll::Ready(()) => {
                drop(work);
                if let Some(task) = self.tasks.borrow_mut().get_mut(index(id)) {
                    (task.wake, task.armed) = (None, None);
                }
                self.free.borrow_mut().push(id);
            }
            Poll::Pending => {
                let wake = self.wake.get();
                let mut tasks = self.tasks.borrow_mut();
                let Some(task) = tasks.get_mut(index(id)) else { return };
                task.work = Some(work);
                task.wake = wake;
                if let Some(at) = wake
                    && task.armed.is_none_or(|armed| at < armed)
                {
                    task.armed = Some(at);
                    let mut timers = self.timers.borrow_mut();
                    timers.push(Reverse((at, id)));
                    if timers.len() > TIMES_ANYWAY + TIMES * tasks.len() {
                        forget(&mut timers, &tasks);
                    }
                }
                let Some(task) = tasks.get_mut(index(id)) else { return };
                if self.again.get() && !task.queued {
                    task.queued = true;
                    self.ready.borrow_mut().push_back(id);
                }
            }
        }
    }

    fn until_timer(&self) -> Option<Timespec> {
        let timers = self.timers.borrow();
        let Reverse((at, _)) = timers.peek()?;
        let left = at.saturating_duration_since(Instant::now());
        Timespec::try_from(left).ok()
    }

    /// Wakes those whose time has come; of the others that were woken earlier than they now want, the time is set anew.
    fn fire(&self) {
        let now = self.now.get();
        loop {
            let mut timers = self.timers.borrow_mut();
            let Some(Reverse((at, id))) = timers.peek().copied().filter(|Reverse((at, _))| *at <= now) else {
                return;
            };
            timers.pop();
            let mut tasks = self.tasks.borrow_mut();
            let Some(task) = tasks.get_mut(index(id)).filter(|task| task.work.is_some()) else { continue };
            if task.armed == Some(at) {
                task.armed = None;
            }
            match task.wake {
                Some(wake) if wake <= now => {
                    drop((tasks, timers));
                    self.queue(id);
                }
                Some(wake) if task.armed.is_none_or(|armed| wake < armed) => {
                    task.armed = Some(wake);
                    timers.push(Reverse((wake, id)));
                }
                _ => {}
            }
        }
    }

    /// Whether the current task may go on reading and writing. If not, it is polled again when the others have had their turn.
    fn goes_on(&self) -> bool {
        match self.turns.get().checked_sub(1) {
            Some(left) => {
                self.turns.set(left);
                true
            }
            None => {
                self.again.set(true);
                false
            }
        }
    }

    /// The current task wants to be woken then at the latest.
    fn wake_at(&self, at: Instant) {
        if self.wake.get().is_none_or(|wake| at < wake) {
            self.wake.set(Some(at));
        }
    }
}
