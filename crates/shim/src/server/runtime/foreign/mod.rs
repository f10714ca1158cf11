//! Containers run by a shim of others, as containerd drives one: its Task API, in version 2 or 3.
//!
//! The first container that is made is the pod's sandbox: the shim is started for it. Its events come to this process's own
//! socket. What is asked for a container's making, start and change is waited for; what a process inside could hold up
//! (bringing one in, ends) is answered when it is answered.

mod action;
mod link;
mod options;
mod streams;

use std::cell::{OnceCell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kernel::process::Child;
use prost::Message;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use super::super::connection::Refusal;
use super::super::container::Container;
use super::super::process::Process;
use super::super::{FIRST, Key};
use super::call::cause;
use super::{Newcomer, check_program};
use crate::protocol::task::{
    Any, CloseTask, Connected, CreateTask, ExecTask, KillTask, Mount, ResizeTask, ShutdownTask, TaskPid,
    TaskProcess, TaskWaited, UpdateTask,
};
use crate::protocol::{Code, Empty, Exited, OtherRuntime, Rootfs, Size};
use action::Action;
use link::Link;
pub(in super::super) use link::{Answer, Awaited};

/// How long a container's making and start may take: a virtual machine may come with them.
const LONG: Duration = Duration::from_secs(60);
/// How long anything else may.
const SHORT: Duration = Duration::from_secs(20);
/// How long a process may take to end that is killed.
const LAST: Duration = Duration::from_secs(5);

/// A shim of others, once it is there.
#[derive(Debug)]
pub(in super::super) struct Foreign {
    other: OtherRuntime,
    /// For files of the shim's actions.
    directory: PathBuf,
    /// Where our events endpoint is, as others reach it.
    events: String,
    _held: Option<OwnedFd>,
    live: RefCell<Live>,
    /// For an epoll: the connection (a copy of its own), and the FIFO of what the shim has to say to an operator.
    watched: OnceCell<[OwnedFd; 2]>,
    /// The shim's process, once it is known.
    pidfd: OnceCell<OwnedFd>,
}

#[derive(Debug, Default)]
struct Live {
    link: Option<Link>,
    /// The containers it knows of, and their bundles. The sandbox's came first.
    tasks: BTreeMap<String, PathBuf>,
    sandbox: String,
    /// Where it listens.
    socket: PathBuf,
}

/// A process that another shim brings into a container.
#[derive(Debug)]
pub(in super::super) struct Joining {
    deadline: Instant,
    what: String,
}

impl Joining {
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// It is advanced by answers; by itself only the time is over.
    pub(super) fn advance(&self) -> Result<bool, Refusal> {
        if Instant::now() < self.deadline {
            return Ok(false);
        }
        Err(Refusal::internal(format!("{}: no answer within {} s", self.what, LONG.as_secs())))
    }
}

impl Foreign {
    pub(super) fn new(other: &OtherRuntime, directory: &Path) -> Result<Self, Refusal> {
        check_program(other)?;
        let own = directory.join("runtime");
        fs::create_dir_all(&own)
            .map_err(|e| Refusal::internal(format!("cannot create {}: {e}", own.display())))?;
        let (events, held) = action::for_others(&directory.join("shim.sock")).map_err(Refusal::internal)?;
        let live = RefCell::default();
        let (watched, pidfd) = (OnceCell::new(), OnceCell::new());
        Ok(Self { other: other.clone(), directory: own, events, _held: held, live, watched, pidfd })
    }

    fn action<'a>(&'a self, id: &'a str, bundle: &'a Path) -> Action<'a> {
        Action {
            handler: &self.other.handler,
            program: &self.other.program,
            directory: &self.directory,
            events: &self.events,
            id,
            bundle,
        }
    }

    /// The connection, with the error that names whom it is to.
    fn link(&self) -> Result<RefMut<'_, Link>, Refusal> {
        let gone = || {
            let message = format!("handler {}: its shim has ended", self.other.handler);
            Refusal::new(Code::FailedPrecondition, message)
        };
        RefMut::filter_map(self.live.borrow_mut(), |live| live.link.as_mut().filter(|link| link.is_open()))
            .map_err(|_| gone())
    }

    fn call<A: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
        limit: Duration,
    ) -> Result<A, Refusal> {
        let answer = self.link()?.call(method, request, limit);
        answer.map_err(|refusal| self.named(method, refusal))
    }

    /// A refusal that says whose it is.
    pub(in super::super) fn named(&self, method: &str, refusal: Refusal) -> Refusal {
        let Refusal { code, message } = refusal;
        let code = if code == Code::Internal { cause(&message) } else { code };
        Refusal::new(code, format!("handler {}: {method}: {message}", self.other.handler))
    }

    fn ask(&self, method: &str, request: &impl Message, awaited: Awaited) {
        // Of one that is gone the answer is that, so that whoever waits goes on.
        if let Some(link) = self.live.borrow_mut().link.as_mut() {
            link.ask(method, request, awaited);
        }
    }

    /// Starts the shim for its first container.
    fn start_shim(&self, id: &str, bundle: &Path, options: Option<&Any>) -> Result<(), Refusal> {
        // It opens this when it begins to serve, and waits for a reader.
        let log = bundle.join("log");
        drop(fs::remove_file(&log));
        let made = mknodat(CWD, &log, FileType::Fifo, Mode::from_raw_mode(0o600), 0);
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = made.and_then(|()| rustix::fs::open(&log, flags, Mode::empty()));
        let opened = opened.map_err(|e| Refusal::internal(format!("cannot make {}: {e}", log.display())))?;
        let given = options.map(Message::encode_to_vec).unwrap_or_default();
        let bootstrap = self.action(id, bundle).start(&given)?;
        let reached = action::reach(&bootstrap.socket).and_then(|fd| Link::new(fd, bootstrap.service()));
        let link = reached.map_err(|e| {
            let at = bootstrap.socket.display();
            Refusal::internal(format!("handler {}: cannot reach its shim at {at}: {e}", self.other.handler))
        })?;
        let watched = link.fd().try_clone_to_owned().map_err(Refusal::internal)?;
        let _ = self.watched.set([watched, opened]);
        let mut live = self.live.borrow_mut();
        live.link = Some(link);
        live.socket = bootstrap.socket;
        live.sandbox = id.to_owned();
        Ok(())
    }

    /// Makes a container, and its shim if it is the first. The number of its process, and the shim's socket.
    pub(super) fn create(
        &self,
        container: &Container,
        process: &mut Process,
    ) -> Result<(i32, Option<String>), Refusal> {
        let (id, bundle) = (&container.request.id, Path::new(&container.request.bundle));
        let options = options::of(&self.other, &self.directory, container.place.is_unit());
        let first = self.live.borrow().sandbox.is_empty();
        if first {
            // However far it came: that program knows what it has begun.
            let started = self.start_shim(id, bundle, options.as_ref());
            started.inspect_err(|_| drop(self.action(id, bundle).delete()))?;
        }
        let made = self.try_create(container, process, options).and_then(|pid| {
            let socket = || self.live.borrow().socket.display().to_string();
            let shim = if first { self.find_process(id).map(|()| Some(socket()))? } else { None };
            Ok((pid, shim))
        });
        made.inspect_err(|_| self.undo(id, first))
    }

    /// Takes back a container's making, however far it came, and with the first the shim.
    pub(super) fn undo(&self, id: &str, first: bool) {
        self.forget(id);
        if first {
            self.tell_to_end();
            self.end();
        }
    }

    fn try_create(
        &self,
        container: &Container,
        process: &mut Process,
        options: Option<Any>,
    ) -> Result<i32, Refusal> {
        let (id, bundle) = (&container.request.id, Path::new(&container.request.bundle));
        process.terminal = container.spec.process.as_ref().is_some_and(|p| p.terminal);
        let root = container.spec.root.as_ref().map_or("rootfs", |root| root.path.as_str());
        let failed = |e: io::Error| Refusal::internal(format!("cannot prepare {}: {e}", bundle.display()));
        fs::create_dir_all(bundle.join(root)).map_err(failed)?;
        let names = streams::make(process, bundle, "", container.request.stdin).map_err(failed)?;
        let request = CreateTask {
            id: id.clone(),
            bundle: container.request.bundle.clone(),
            rootfs: vec![mount(container.request.rootfs.as_ref().unwrap_or(&Rootfs::default()))?],
            terminal: process.terminal,
            stdin: names.stdin,
            stdout: names.stdout,
            stderr: names.stderr,
            checkpoint: String::new(),
            options,
        };
        self.live.borrow_mut().tasks.insert(id.clone(), bundle.to_owned());
        let made: TaskPid = self.call("Create", &request, LONG)?;
        Ok(made.pid.cast_signed())
    }

    /// Finds the shim's own process, which is a child of this one.
    fn find_process(&self, id: &str) -> Result<(), Refusal> {
        let connected: Connected = self.call("Connect", &process(id, FIRST), SHORT)?;
        let pid = connected.shim_pid.cast_signed();
        let shim = Child { pid, pidfd: kernel::process::pidfd(pid).map_err(Refusal::internal)? };
        // It is ended by this number in the end: another process's must not be.
        if !shim.is_own() {
            let message = format!(
                "handler {}: process {pid}, which its shim says it is, is no child of this one",
                self.other.handler
            );
            return Err(Refusal::internal(message));
        }
        let _ = self.pidfd.set(shim.pidfd);
        Ok(())
    }

    /// Executes a container's program: its number.
    pub(super) fn start(&self, id: &str) -> Result<i32, Refusal> {
        let started: TaskPid = self.call("Start", &process(id, FIRST), LONG)?;
        Ok(started.pid.cast_signed())
    }

    /// Begins to bring a process in: [`Awaited::Added`], then [`Awaited::Started`] tell of it.
    pub(super) fn join(
        &self,
        container: &Container,
        joining: &mut Process,
        newcomer: &Newcomer<'_>,
        key: Key,
    ) -> Result<Joining, Refusal> {
        let bundle = Path::new(&container.request.bundle);
        let prefix = format!("exec-{}-", newcomer.exec_id);
        let names = streams::make(joining, bundle, &prefix, newcomer.stdin)
            .map_err(|e| Refusal::internal(format!("cannot make the process's streams: {e}")))?;
        let value = serde_json::to_vec(newcomer.process).map_err(Refusal::internal)?;
        let request = ExecTask {
            id: container.request.id.clone(),
            exec_id: newcomer.exec_id.to_owned(),
            terminal: newcomer.process.terminal,
            stdin: names.stdin,
            stdout: names.stdout,
            stderr: names.stderr,
            spec: Some(json("Process", value)),
        };
        self.link()?.ask("Exec", &request, Awaited::Added(key));
        Ok(Joining { deadline: Instant::now() + LONG, what: format!("handler {}: exec", self.other.handler) })
    }

    /// The process that was added is to be started.
    pub(in super::super) fn start_added(&self, id: &str, exec_id: &str, key: Key) {
        self.ask("Start", &process(id, exec_id), Awaited::Started(key, id.into(), exec_id.into()));
    }

    /// Tells of a process's end by [`Awaited::Ended`].
    pub(in super::super) fn watch(&self, id: &str, exec_id: &str, key: Key) {
        self.ask("Wait", &process(id, exec_id), Awaited::Ended(key));
    }

    /// A process that has ended is forgotten there, once its output is complete: [`Awaited::Deleted`].
    pub(in super::super) fn delete(&self, id: &str, exec_id: &str, key: Key, exited: Exited) {
        if exec_id == FIRST {
            self.live.borrow_mut().tasks.remove(id);
        }
        self.ask("Delete", &process(id, exec_id), Awaited::Deleted(key, exited));
    }

    /// Ends and forgets a process that nobody here wants any more.
    pub(in super::super) fn abandon(&self, id: &str, exec_id: &str) {
        let signal = libc::SIGKILL.unsigned_abs();
        let kill = KillTask { id: id.into(), exec_id: exec_id.into(), signal, all: false };
        self.ask("Kill", &kill, Awaited::Nothing);
        self.ask("Delete", &process(id, exec_id), Awaited::Nothing);
    }

    /// Sends a signal. A process that is gone counts as done.
    pub(super) fn kill(&self, id: &str, exec_id: &str, signal: i32) -> Result<(), Refusal> {
        let signal = signal.unsigned_abs();
        let kill = KillTask { id: id.into(), exec_id: exec_id.into(), signal, all: false };
        match self.call::<Empty>("Kill", &kill, SHORT) {
            Err(refusal) if refusal.code == Code::NotFound => Ok(()),
            done => done.map(drop),
        }
    }

    pub(super) fn freeze(&self, id: &str, frozen: bool) -> Result<(), Refusal> {
        let method = if frozen { "Pause" } else { "Resume" };
        self.call::<Empty>(method, &process(id, FIRST), SHORT).map(drop)
    }

    pub(super) fn update(&self, id: &str, resources: &[u8]) -> Result<(), Refusal> {
        let resources = Some(json("LinuxResources", resources.to_vec()));
        self.call::<Empty>("Update", &UpdateTask { id: id.to_owned(), resources }, SHORT).map(drop)
    }

    pub(in super::super) fn resize(&self, id: &str, exec_id: &str, size: Size) {
        let (width, height) = (size.columns, size.rows);
        let request = ResizeTask { id: id.into(), exec_id: exec_id.into(), width, height };
        self.ask("ResizePty", &request, Awaited::Nothing);
    }

    /// The end of a process's input, which is the end of our FIFO only if the shim closes its own, too.
    pub(in super::super) fn close_input(&self, id: &str, exec_id: &str) {
        let request = CloseTask { id: id.into(), exec_id: exec_id.into(), stdin: true };
        self.ask("CloseIO", &request, Awaited::Nothing);
    }

    /// Takes away what there is of a container that does not run; what is wrong with it is not worth a word.
    pub(super) fn forget(&self, id: &str) {
        // Its turn is over before another begins.
        let known = self.live.borrow_mut().tasks.remove(id).is_some();
        if known && self.link().is_ok() {
            let _ = self.kill(id, FIRST, libc::SIGKILL);
            let _ = self.call::<TaskWaited>("Wait", &process(id, FIRST), LAST);
            let _ = self.call::<Empty>("Delete", &process(id, FIRST), SHORT);
        }
    }

    /// The next answer that has come.
    pub(in super::super) fn take(&self) -> Option<Answer> {
        self.live.borrow_mut().link.as_mut()?.take()
    }

    /// Reads and writes what can be: false once the shim is gone.
    pub(in super::super) fn advance(&self) -> bool {
        let mut live = self.live.borrow_mut();
        let Some(link) = &mut live.link else { return true };
        link.advance();
        link.is_open()
    }

    pub(in super::super) fn wants_to_write(&self) -> bool {
        self.live.borrow().link.as_ref().is_some_and(Link::wants_to_write)
    }

    /// The connection, for an epoll.
    pub(in super::super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.watched.get().map(|[link, _]| link.as_fd())
    }

    /// What the shim has to say to an operator, for an epoll.
    pub(in super::super) fn log(&self) -> Option<BorrowedFd<'_>> {
        self.watched.get().map(|[_, log]| log.as_fd())
    }

    /// The shim's process, for an epoll.
    pub(in super::super) fn process(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.get().map(AsFd::as_fd)
    }

    /// Hands on what that is.
    pub(in super::super) fn read_log(&self) {
        let mut piece = [0; 4096];
        if let Some(Ok(n)) = self.log().map(|log| rustix::io::read(log, &mut piece)) {
            let _ = rustix::io::write(rustix::stdio::stderr(), &piece[..n]);
        }
    }

    /// Whether the shim was started for this container.
    pub(in super::super) fn is_sandbox(&self, id: &str) -> bool {
        self.live.borrow().sandbox == id
    }

    /// The shim is gone: its own program takes away what it left of each container.
    pub(in super::super) fn clean_up(&self) {
        let tasks = std::mem::take(&mut self.live.borrow_mut().tasks);
        for (id, bundle) in &tasks {
            if let Err(refusal) = self.action(id, bundle).delete() {
                crate::complain(&refusal.message);
            }
        }
        self.remove_socket();
    }

    fn remove_socket(&self) {
        let live = self.live.borrow();
        if !live.socket.as_os_str().is_empty() {
            drop(fs::remove_file(&live.socket));
        }
    }

    /// Tells the shim to end, with what it still has. It tells of events until it does.
    pub(in super::super) fn tell_to_end(&self) {
        let left: Vec<String> = self.live.borrow().tasks.keys().cloned().collect();
        left.iter().for_each(|id| self.forget(id));
        let sandbox = self.live.borrow().sandbox.clone();
        self.ask("Shutdown", &ShutdownTask { id: sandbox, now: false }, Awaited::Nothing);
    }

    /// The shim has ended, or does now.
    pub(in super::super) fn end(&self) {
        if let Some(pidfd) = self.pidfd.get() {
            let _ = kernel::process::signal(pidfd.as_fd(), libc::SIGKILL);
            let _ = kernel::process::await_end(pidfd.as_fd(), Some(LAST), None);
        }
        self.live.borrow_mut().link = None;
        self.remove_socket();
    }
}

fn process(id: &str, exec_id: &str) -> TaskProcess {
    TaskProcess { id: id.to_owned(), exec_id: exec_id.to_owned() }
}

/// A message of the runtime specification, as containerd names it.
fn json(kind: &str, value: Vec<u8>) -> Any {
    Any { type_url: format!("types.containerd.io/opencontainers/runtime-spec/1/{kind}"), value }
}

/// The root as mount(8) would have it.
fn mount(rootfs: &Rootfs) -> Result<Mount, Refusal> {
    let mapped = !rootfs.uid_mappings.is_empty() || !rootfs.gid_mappings.is_empty();
    if mapped {
        let message = "rootfs: no other shim is given a root with mapped ids (use another handler)";
        return Err(Refusal::new(Code::InvalidArgument, message));
    }
    if !rootfs.directory.is_empty() {
        let options = ["rbind", "ro"].map(str::to_owned).to_vec();
        return Ok(Mount {
            kind: "bind".into(),
            source: rootfs.directory.clone(),
            options,
            ..Mount::default()
        });
    }
    let escaped = |path: &String| path.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,");
    let lower: Vec<String> = rootfs.lower.iter().map(escaped).collect();
    let mut options = vec![format!("lowerdir={}", lower.join(":"))];
    if !rootfs.upper.is_empty() {
        options.push(format!("upperdir={}", escaped(&rootfs.upper)));
        options.push(format!("workdir={}", escaped(&rootfs.work)));
    }
    Ok(Mount { kind: "overlay".into(), source: "overlay".into(), options, ..Mount::default() })
}
