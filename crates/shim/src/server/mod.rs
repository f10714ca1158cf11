//! The shim itself: one thread, one epoll, everything it waits for in one table.

mod connection;
mod container;
mod joining;
mod log;
mod process;
mod service;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::Timespec;

use crate::protocol::{Exited, Output};
use connection::{Connection, Refusal};
use container::Container;
use process::{Process, StreamRef};

/// The container's own process among the others.
const FIRST: &str = "";

/// Bytes read from a process at once: as much as a pipe holds.
const PIECE: usize = 64 << 10;

/// Bytes read at most of what a process that has ended left behind: the longest pipe there is. What it started and left
/// running may go on to write for ever.
const LEFT_BEHIND: usize = 1 << 20;

/// Connections at once; more wait until one is closed.
const CONNECTIONS: usize = 128;

/// How long those who hear of the end may take to read it, and how long nobody is taken after a failure to.
const LAST_WORDS: Duration = Duration::from_secs(5);
const DEAF: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Listener,
    Connection(u64),
    End(String),
    Output(String, usize),
    Input(String),
    /// A process that is being brought in.
    Join(String),
}

/// What happens at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Timer {
    /// A container that was asked to stop has not.
    Kill,
    /// A container that ended is started again.
    Restart,
    /// A connection could not be taken; the next may.
    Listen,
    /// The container has ended, and whoever has not read it yet does not.
    Leave,
}

#[derive(Debug)]
pub(crate) struct Server {
    epoll: OwnedFd,
    listener: Option<UnixListener>,
    connections: BTreeMap<u64, Connection>,
    sources: BTreeMap<u64, Registered>,
    next: u64,
    container: Option<Container>,
    processes: BTreeMap<String, Process>,
    /// Waiting for the container's end after a stop.
    stoppers: Vec<StreamRef>,
    timers: Vec<(Instant, Timer)>,
    on_exit: Option<OwnedFd>,
    /// The creator takes care of what is left.
    shutdown: bool,
    ended: bool,
    /// No connection is taken for the moment.
    deaf: bool,
}

#[derive(Debug)]
struct Registered {
    source: Source,
    flags: EventFlags,
}

impl Server {
    /// A shim whose creator is connected by `creator`, and which may start the program at `on_exit` at the end.
    pub(crate) fn new(creator: OwnedFd, on_exit: Option<OwnedFd>) -> io::Result<Self> {
        let mut server = Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            listener: None,
            connections: BTreeMap::new(),
            sources: BTreeMap::new(),
            next: 0,
            container: None,
            processes: BTreeMap::new(),
            stoppers: Vec::new(),
            timers: Vec::new(),
            on_exit,
            shutdown: false,
            ended: false,
            deaf: false,
        };
        server.accept(creator, true)?;
        Ok(server)
    }

    /// Serves until the container has ended and nobody needs this process any more.
    pub(crate) fn run(mut self) -> io::Result<()> {
        while !self.is_done() {
            self.update_interests()?;
            let mut events =
                [const { epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) } }; 16];
            let timeout = self.next_timeout();
            let ready = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            for event in &events[..ready] {
                let token = event.data.u64();
                let Some(source) = self.sources.get(&token).map(|r| r.source.clone()) else { continue };
                // Asked for or not, these are told again and again until something is done about them.
                let flags = event.flags;
                let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
                self.handle(&source, broken);
            }
            self.fire_timers();
            self.flush_connections();
        }
        if !self.ended {
            self.abandon();
        }
        Ok(())
    }

    /// The creator went away before the container was started: nobody but this process knows how far it got, nor that
    /// there is something to take back.
    fn abandon(&mut self) {
        self.processes.clear();
        if let Some(cgroup) = self.container.as_mut().and_then(|c| c.cgroup.take()) {
            // The creator's record says the same: whoever replays it hears of errors.
            let _ = kernel::cgroup::destroy(cgroup.path());
        }
        self.tell_on_exit();
    }

    fn is_done(&self) -> bool {
        let creator_here = self.connections.values().any(|c| c.creator);
        // Nobody made a container and nobody can any more.
        let orphan = self.container.as_ref().is_none_or(|c| !c.ever_started) && !creator_here;
        let flushed = self.connections.values().all(|c| !c.wants_to_write());
        orphan || (self.ended && flushed && (self.shutdown || !creator_here))
    }

    fn listen(&mut self, path: &Path) -> io::Result<()> {
        let listener = UnixListener::bind(crate::short_path(path)?.path())?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        self.listener = Some(listener);
        self.listen_for(Source::Listener, EventFlags::IN)
    }

    fn listen_for(&mut self, source: Source, flags: EventFlags) -> io::Result<()> {
        self.next += 1;
        if let Some(fd) = self.descriptor(&source) {
            epoll::add(&self.epoll, fd, EventData::new_u64(self.next), flags)?;
            self.sources.insert(self.next, Registered { source, flags });
        }
        Ok(())
    }

    fn descriptor(&self, source: &Source) -> Option<BorrowedFd<'_>> {
        match source {
            Source::Listener => self.listener.as_ref().map(AsFd::as_fd),
            Source::Connection(id) => self.connections.get(id).map(Connection::fd),
            Source::End(id) => self.processes.get(id)?.child.as_ref().map(|c| c.pidfd.as_fd()),
            Source::Output(id, index) => self.processes.get(id)?.output(*index),
            Source::Input(id) => self.processes.get(id)?.input(),
            Source::Join(id) => self.processes.get(id)?.joining.as_ref().map(oci_runtime::Created::channel),
        }
    }

    /// A closed descriptor leaves the epoll by itself; its entry here must follow.
    fn forget(&mut self, source: &Source) {
        self.sources.retain(|_, r| r.source != *source);
    }

    fn accept(&mut self, socket: OwnedFd, creator: bool) -> io::Result<()> {
        self.next += 1;
        let id = self.next;
        self.connections.insert(id, Connection::new(socket, creator)?);
        self.listen_for(Source::Connection(id), EventFlags::IN)
    }

    /// Tells the kernel what this process can take now: no output of a process whose reader is behind, no input from a
    /// client whose process is behind.
    fn update_interests(&mut self) -> io::Result<()> {
        let mut changes = Vec::new();
        for (token, registered) in &self.sources {
            let wanted = match &registered.source {
                Source::Connection(id) => {
                    let Some(connection) = self.connections.get(id) else { continue };
                    let full = self.processes.values().any(|p| {
                        p.input_is_full() && p.attached.iter().any(|a| a.input && a.connection == *id)
                    });
                    // One who asks and does not read the answers is asked to wait, too.
                    let full = full || connection.is_full();
                    let mut flags = if full { EventFlags::empty() } else { EventFlags::IN };
                    if connection.wants_to_write() {
                        flags |= EventFlags::OUT;
                    }
                    flags
                }
                Source::Output(id, index) => {
                    let behind = self.processes.get(id).is_some_and(|p| {
                        p.attached
                            .iter()
                            .any(|a| self.connections.get(&a.connection).is_some_and(Connection::is_full))
                    });
                    let mut flags = if behind { EventFlags::empty() } else { EventFlags::IN };
                    // A terminal is one descriptor for both ways.
                    let pending = |p: &Process| p.terminal && p.has_pending_input();
                    if *index == 0 && self.processes.get(id).is_some_and(pending) {
                        flags |= EventFlags::OUT;
                    }
                    flags
                }
                Source::Input(id) => {
                    let pending = self.processes.get(id).is_some_and(Process::has_pending_input);
                    if pending { EventFlags::OUT } else { EventFlags::empty() }
                }
                Source::Listener if self.deaf || self.connections.len() >= CONNECTIONS => EventFlags::empty(),
                Source::Listener | Source::End(_) | Source::Join(_) => EventFlags::IN,
            };
            if wanted != registered.flags {
                changes.push((*token, wanted));
            }
        }
        for (token, flags) in changes {
            let Some(registered) = self.sources.get(&token) else { continue };
            let fd = self.descriptor(&registered.source);
            if let Some(fd) = fd {
                epoll::modify(&self.epoll, fd, EventData::new_u64(token), flags)?;
            }
            if let Some(registered) = self.sources.get_mut(&token) {
                registered.flags = flags;
            }
        }
        Ok(())
    }

    fn next_timeout(&self) -> Option<Timespec> {
        let at = self.timers.iter().map(|(at, _)| *at).min()?;
        let left = at.saturating_duration_since(Instant::now());
        Some(Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) })
    }

    fn handle(&mut self, source: &Source, broken: bool) {
        match source {
            Source::Listener => self.take_connection(),
            Source::Connection(id) => self.read_connection(*id),
            Source::End(id) => self.reap(id),
            Source::Output(id, index) => {
                if let Some(process) = self.processes.get_mut(id).filter(|p| p.terminal) {
                    process.flush();
                }
                self.read_output(id, *index);
            }
            Source::Input(id) => {
                if let Some(process) = self.processes.get_mut(id) {
                    process.flush();
                    if broken {
                        process.drop_input();
                        self.forget(source);
                    }
                }
            }
            Source::Join(id) => self.advance_join(id),
        }
    }

    /// No failure here is worth the container: too many descriptors are open, or the client has left again.
    fn take_connection(&mut self) {
        let Some(listener) = &self.listener else { return };
        match listener.accept() {
            Ok((socket, _)) => {
                // The mode of the socket file says the same; this holds even if somebody changes it.
                let trusted = rustix::net::sockopt::socket_peercred(&socket)
                    .is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid());
                if trusted {
                    let _ = self.accept(socket.into(), false);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => {
                self.deaf = true;
                self.timers.push((Instant::now() + DEAF, Timer::Listen));
            }
        }
    }

    fn read_connection(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let mut open = connection.fill().unwrap_or(false);
        loop {
            let Some(connection) = self.connections.get_mut(&id) else { return };
            match connection.frame() {
                Ok(Some(frame)) => self.serve(id, frame),
                Ok(None) => break,
                // Nothing sensible can follow.
                Err(_) => {
                    open = false;
                    break;
                }
            }
        }
        if !open {
            self.drop_connection(id);
        }
    }

    fn drop_connection(&mut self, id: u64) {
        // The last input of a client that is gone is the end of input, if it was the only one.
        for process in self.processes.values_mut() {
            process.attached.retain(|a| a.connection != id);
            process.waiters.retain(|a| a.connection != id);
        }
        self.stoppers.retain(|s| s.connection != id);
        self.drop_abandoned_joins();
        self.forget(&Source::Connection(id));
        let creator = self.connections.remove(&id).is_some_and(|c| c.creator);
        if creator && self.ended && !self.shutdown {
            self.tell_on_exit();
        }
    }

    fn flush_connections(&mut self) {
        let broken: Vec<u64> =
            self.connections.iter_mut().filter_map(|(id, c)| c.flush().is_err().then_some(*id)).collect();
        broken.into_iter().for_each(|id| self.drop_connection(id));
    }

    /// Reads once; the rest is announced again.
    fn read_output(&mut self, id: &str, index: usize) {
        let mut buffer = [0; PIECE];
        let Some(process) = self.processes.get_mut(id) else { return };
        match process.read(index, &mut buffer) {
            Some(n) => self.deliver(id, index, &buffer[..n]),
            None => {
                self.forget(&Source::Output(id.to_owned(), index));
                if id == FIRST
                    && let Some(log) = self.container.as_mut().and_then(|c| c.log.as_mut())
                {
                    // A full disk loses log entries; the container goes on.
                    let _ = log.finish(index);
                }
            }
        }
    }

    fn deliver(&mut self, id: &str, index: usize, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        if id == FIRST
            && let Some(log) = self.container.as_mut().and_then(|c| c.log.as_mut())
        {
            let _ = log.write(index, data);
        }
        let Some(process) = self.processes.get(id) else { return };
        let output = match index {
            0 => Output { stdout: data.to_vec(), ..Output::default() },
            _ => Output { stderr: data.to_vec(), ..Output::default() },
        };
        for attached in &process.attached {
            if let Some(connection) = self.connections.get_mut(&attached.connection) {
                connection.output(attached.stream, &output);
            }
        }
    }

    /// Registers the streams of a process that was just made.
    fn watch_streams(&mut self, id: &str) -> io::Result<()> {
        self.listen_for(Source::Output(id.to_owned(), 0), EventFlags::IN)?;
        self.listen_for(Source::Output(id.to_owned(), 1), EventFlags::IN)?;
        // A terminal is one descriptor for both ways.
        match self.processes.get(id) {
            Some(process) if !process.terminal => {
                self.listen_for(Source::Input(id.to_owned()), EventFlags::empty())
            }
            _ => Ok(()),
        }
    }

    fn watch_end(&mut self, id: &str) -> io::Result<()> {
        self.listen_for(Source::End(id.to_owned()), EventFlags::IN)
    }

    /// A process has ended: what it wrote last is delivered, then everybody who waits hears of it.
    fn reap(&mut self, id: &str) {
        let Some(process) = self.processes.get_mut(id) else { return };
        let Some(Ok(Some(exit))) = process.child.as_ref().map(kernel::process::Child::try_wait) else {
            return;
        };
        process.child = None;
        self.forget(&Source::End(id.to_owned()));
        if id == FIRST
            && let Some(container) = &self.container
        {
            container::kill_rest(container);
        }
        for index in [0, 1] {
            let mut buffer = [0; PIECE];
            let mut left = LEFT_BEHIND;
            while left > 0 {
                let Some(process) = self.processes.get_mut(id) else { return };
                match process.read(index, &mut buffer) {
                    Some(n) if n > 0 => self.deliver(id, index, &buffer[..n]),
                    _ => break,
                }
                left = left.saturating_sub(PIECE);
            }
            if let Some(process) = self.processes.get_mut(id) {
                process.close_output(index);
            }
            self.read_output(id, index);
        }
        self.forget(&Source::Input(id.to_owned()));
        let exited = match &self.container {
            Some(container) if id == FIRST => container.exited(exit.code()),
            _ => container::exited(exit.code(), false),
        };
        if id == FIRST { self.container_ended(&exited) } else { self.announce(id, &exited) }
    }

    /// Answers all who wait for the process.
    fn announce(&mut self, id: &str, exited: &Exited) {
        let Some(process) = self.processes.get_mut(id) else { return };
        process.exited = Some(exited.clone());
        let waiting: Vec<StreamRef> = process.attached.drain(..).chain(process.waiters.drain(..)).collect();
        for waiter in waiting {
            self.answer(waiter, Ok(prost::Message::encode_to_vec(exited)));
        }
        if id != FIRST {
            self.processes.remove(id);
        }
    }

    fn container_ended(&mut self, exited: &Exited) {
        let Some(container) = &mut self.container else { return };
        self.timers.clear();
        self.deaf = false;
        // Whatever froze it has no hold on the next run.
        container.paused = false;
        if let Some(at) = container.restart_at(exited.code) {
            self.timers.push((at, Timer::Restart));
            if let Some(process) = self.processes.get_mut(FIRST) {
                process.exited = Some(exited.clone());
            }
            return;
        }
        self.end(exited);
    }

    /// The end for good.
    fn end(&mut self, exited: &Exited) {
        if let Some(container) = &self.container {
            // Without the file the container is still seen as ended, with an unknown code.
            let _ = container.write_exit(exited);
        }
        self.announce(FIRST, exited);
        if let Some(container) = &self.container {
            container.run_poststop();
        }
        let stoppers = std::mem::take(&mut self.stoppers);
        // Whoever asked for the end takes care of what is left, as the creator does.
        let cared_for = !stoppers.is_empty() || self.connections.values().any(|c| c.creator);
        for stopper in stoppers {
            self.answer(stopper, Ok(prost::Message::encode_to_vec(exited)));
        }
        self.ended = true;
        self.timers.push((Instant::now() + LAST_WORDS, Timer::Leave));
        if !cared_for {
            self.tell_on_exit();
        }
    }

    fn tell_on_exit(&mut self) {
        if let (Some(file), Some(container)) = (self.on_exit.take(), &self.container)
            && !container.request.on_exit.is_empty()
        {
            // If it cannot be started, the next command finds the container ended and does the same.
            let _ = container::run_on_exit(&file, &container.request.on_exit);
        }
    }

    fn answer(&mut self, to: StreamRef, answer: Result<Vec<u8>, Refusal>) {
        if let Some(connection) = self.connections.get_mut(&to.connection) {
            connection.answer(to.stream, answer);
        }
    }

    fn fire_timers(&mut self) {
        let now = Instant::now();
        let due: Vec<Timer> = self.timers.iter().filter(|(at, _)| *at <= now).map(|(_, t)| *t).collect();
        self.timers.retain(|(at, _)| *at > now);
        for timer in due {
            match timer {
                Timer::Kill => {
                    if let Some(process) = self.processes.get(FIRST) {
                        let _ = process.signal(libc::SIGKILL);
                    }
                    self.thaw_killed();
                }
                Timer::Restart => self.start_again(),
                Timer::Listen => self.deaf = false,
                Timer::Leave => {
                    let late = |c: &Connection| !c.creator && c.wants_to_write();
                    let ids: Vec<u64> =
                        self.connections.iter().filter(|(_, c)| late(c)).map(|(id, _)| *id).collect();
                    ids.into_iter().for_each(|id| self.drop_connection(id));
                }
            }
        }
    }

    fn start_again(&mut self) {
        let attached = self.processes.remove(FIRST).map(|p| (p.attached, p.waiters));
        let Some(container) = &self.container else { return };
        let mut process = Process::default();
        let created = container.renew_cgroup().and_then(|()| container.create(&mut process));
        let started = created.and_then(|created| {
            let (child, _) = created.start().map_err(container::refusal)?;
            container.write_numbers(child.pid)?;
            Ok(child)
        });
        (process.attached, process.waiters) = attached.unwrap_or_default();
        match started {
            Ok(child) => {
                process.child = Some(child);
                self.processes.insert(FIRST.into(), process);
                if let Some(container) = &mut self.container {
                    container.note_start();
                }
                // Without epoll there is no telling when it ends: then it ends now.
                if self.watch_streams(FIRST).and_then(|()| self.watch_end(FIRST)).is_err()
                    && let Some(process) = self.processes.get(FIRST)
                {
                    let _ = process.signal(libc::SIGKILL);
                }
            }
            Err(refusal) => {
                if let Some(log) = self.container.as_mut().and_then(|c| c.log.as_mut()) {
                    let _ = log.write(1, format!("{}\n", refusal.message).as_bytes());
                }
                self.processes.insert(FIRST.into(), process);
                let exited = container::exited(125, false);
                self.container_ended(&exited);
            }
        }
    }

    /// The v1 freezer holds even a process that was killed.
    fn thaw_killed(&mut self) {
        if let Some(container) = self.container.as_mut().filter(|c| c.paused)
            && let Some(cgroup) = &container.cgroup
            && cgroup.freeze(false).is_ok()
        {
            container.paused = false;
        }
    }

    fn stop_after(&mut self, timeout: Duration) {
        self.timers.retain(|(_, t)| *t != Timer::Kill);
        self.timers.push((Instant::now() + timeout, Timer::Kill));
    }
}
