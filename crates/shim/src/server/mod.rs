//! The shim itself: one thread, one epoll, everything it waits for in one table.

mod cgroups;
mod clients;
mod connection;
mod container;
mod ending;
mod events;
mod foreign;
mod joining;
mod lifecycle;
mod log;
mod output;
mod process;
mod publish;
mod rootfs;
mod runtime;
mod sandbox;
mod service;
mod streams;
mod task;
mod timers;
mod waiting;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use connection::{Connection, Refusal};
use container::Container;
use process::{Process, StreamRef};
use publish::Publisher;
use runtime::Runtime;
use sandbox::Pod;
use task::Tasks;
use timers::Timer;
use waiting::{Registered, Source};

/// A container's own process among those of the container.
const FIRST: &str = "";

/// Connections at once; more wait until one is closed.
const CONNECTIONS: usize = 128;

/// A process among all of this shim's.
type Key = u64;

#[derive(Debug)]
pub(crate) struct Server {
    epoll: OwnedFd,
    listener: Option<UnixListener>,
    connections: BTreeMap<u64, Connection>,
    sources: BTreeMap<u64, Registered>,
    next: u64,
    /// Set once this shim is a pod's: then it has any number of containers, and lives until it is told to end.
    pod: Option<Pod>,
    /// Who runs the containers.
    runtime: Runtime,
    /// Tells of children's ends, where some are left to this process that it knows nothing of.
    children: Option<kernel::signal::Signals>,
    /// Set if containerd drives it by the Task API.
    tasks: Option<Tasks>,
    containers: BTreeMap<String, Container>,
    processes: BTreeMap<Key, Process>,
    /// Programs that take output. They end when it does, which may be later than whoever wrote it.
    loggers: BTreeMap<Key, kernel::process::Child>,
    /// Who wants to hear what happens to containers.
    watchers: Vec<StreamRef>,
    timers: Vec<(Instant, Timer)>,
    on_exit: Option<OwnedFd>,
    /// Who waits for the end of a pod whose shim of others is about to end.
    ending: Option<Vec<StreamRef>>,
    /// Of a pod: it is to end. Else: the creator takes care of what is left.
    shutdown: bool,
    /// Who has not read its last words by now does not.
    left: bool,
    /// No connection is taken for the moment.
    deaf: bool,
}

impl Server {
    /// A shim whose creator is connected by `creator`, and which may start the program at `on_exit` at the end.
    pub(crate) fn new(creator: OwnedFd, on_exit: Option<OwnedFd>) -> io::Result<Self> {
        let mut server = Self { on_exit, ..Self::empty()? };
        server.accept(creator, true)?;
        Ok(server)
    }

    /// A shim that containerd drives: it listens on `listener`, whose file is `socket`, and tells of events at `events`.
    pub(crate) fn of_containerd(
        listener: OwnedFd,
        socket: PathBuf,
        events: &str,
        namespace: &str,
    ) -> io::Result<Self> {
        let publisher = (!events.is_empty()).then(|| Publisher::new(events, namespace));
        let mut server = Self {
            pod: Some(Pod::default()),
            tasks: Some(Tasks { namespace: namespace.to_owned(), publisher, socket }),
            ..Self::empty()?
        };
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(true)?;
        server.listener = Some(listener);
        server.listen_for(Source::Listener, EventFlags::IN)?;
        Ok(server)
    }

    fn empty() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            listener: None,
            connections: BTreeMap::new(),
            sources: BTreeMap::new(),
            next: 0,
            pod: None,
            runtime: Runtime::default(),
            children: None,
            tasks: None,
            containers: BTreeMap::new(),
            processes: BTreeMap::new(),
            loggers: BTreeMap::new(),
            watchers: Vec::new(),
            timers: Vec::new(),
            on_exit: None,
            ending: None,
            shutdown: false,
            left: false,
            deaf: false,
        })
    }

    /// Serves until nobody needs this process any more.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let served = self.serve_all();
        if self.pod.as_ref().is_some_and(|pod| pod.init.is_some()) {
            self.end_pod();
        }
        served
    }

    fn serve_all(&mut self) -> io::Result<()> {
        while !self.is_done() {
            self.serve_foreign();
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
        if self.pod.is_none() && !self.has_ended() {
            self.abandon();
        }
        Ok(())
    }

    /// The creator went away before the container was started: nobody but this process knows how far it got, nor that
    /// there is something to take back.
    fn abandon(&mut self) {
        self.thaw_all();
        self.processes.clear();
        for container in self.containers.values_mut() {
            container.place.destroy();
        }
        self.tell_on_exit();
    }

    fn is_done(&self) -> bool {
        let flushed = self.connections.values().all(|c| !c.wants_to_write());
        if self.pod.is_some() {
            let publisher = self.tasks.as_ref().and_then(|t| t.publisher.as_ref());
            let told = self.left || publisher.is_none_or(Publisher::is_idle);
            return self.shutdown && flushed && told;
        }
        let creator_here = self.connections.values().any(|c| c.creator);
        // Nobody made a container and nobody can any more.
        let orphan = self.containers.values().all(|c| !c.ever_started) && !creator_here;
        orphan || (self.has_ended() && flushed && (self.shutdown || !creator_here))
    }

    /// The one container of a shim that is not a pod's has ended for good.
    fn has_ended(&self) -> bool {
        self.pod.is_none() && self.containers.values().any(|c| c.ended)
    }

    fn listen(&mut self, path: &Path) -> io::Result<()> {
        let listener = UnixListener::bind(crate::short_path(path)?.path())?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        self.listener = Some(listener);
        self.listen_for(Source::Listener, EventFlags::IN)
    }

    fn answer(&mut self, to: StreamRef, answer: Result<Vec<u8>, Refusal>) {
        if let Some(connection) = self.connections.get_mut(&to.connection) {
            connection.answer(to.stream, answer);
        }
    }

    /// A process's place among all, by its names.
    fn key(&self, container: &str, exec_id: &str) -> Option<Key> {
        if exec_id == FIRST {
            return self.containers.get(container).map(|c| c.own);
        }
        let same = |p: &Process| p.container == container && p.exec_id == exec_id;
        self.processes.iter().find_map(|(key, p)| same(p).then_some(*key))
    }

    fn new_key(&mut self) -> Key {
        self.next += 1;
        self.next
    }
}
