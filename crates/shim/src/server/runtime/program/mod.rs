//! Containers run by another OCI runtime's command: runc, crun, and whatever has their command line.
//!
//! This process is the subreaper, so that a container's processes are its children once the command that made them has
//! ended. Their streams are its pipes; terminals come over a console socket. The runtime keeps its state in the pod's run
//! directory. Each command has a time, and is killed beyond it.
//!
//! The root is mounted in a mount namespace of the command's own: neither the host's table of mounts nor anybody's
//! namespace shows it afterwards, but the container's.

mod console;
mod stage;

use std::cell::Cell;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kernel::process::Child;
use rustix::fs::{Mode, OFlags};

use super::super::connection::Refusal;
use super::super::container::Container;
use super::super::process::Process;
use super::super::rootfs;
use super::call::{Call, Env};
use super::{Files, Newcomer, check_program};
use crate::protocol::{OtherRuntime, Rootfs};
use crate::told;
use console::Console;

/// How long a container's making and start may take: a virtual machine may come with them.
const LONG: Duration = Duration::from_secs(60);
/// How long anything else may.
const SHORT: Duration = Duration::from_secs(20);

/// A runtime's command, and where it keeps what.
#[derive(Debug)]
pub(in super::super) struct Program {
    handler: String,
    program: String,
    arguments: Vec<String>,
    /// For the runtime's state and for logs.
    directory: PathBuf,
    logs: Cell<u64>,
}

impl Program {
    /// The command that `other` names, with a directory of its own in `directory`.
    pub(super) fn new(other: &OtherRuntime, directory: &Path) -> Result<Self, Refusal> {
        check_program(other)?;
        let directory = directory.join("runtime");
        let program = Self {
            handler: other.handler.clone(),
            program: other.program.clone(),
            arguments: other.arguments.clone(),
            directory,
            logs: Cell::new(0),
        };
        let made = fs::create_dir_all(program.state());
        made.map_err(|e| Refusal::internal(format!("cannot create {}: {e}", program.state().display())))?;
        Ok(program)
    }

    fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// Begins a command. Without streams it has nothing to read, and complains into its log.
    fn begin(
        &self,
        place: Option<&Container>,
        words: &[&str],
        limit: Duration,
        stdio: Option<&[OwnedFd; 3]>,
    ) -> Result<Call, Refusal> {
        self.logs.set(self.logs.get() + 1);
        let log = self.directory.join(format!("log-{}", self.logs.get()));
        let mut all = vec![self.program.clone()];
        all.extend(self.arguments.iter().cloned());
        all.extend(["--root".into(), self.state().display().to_string()]);
        all.extend(["--log".into(), log.display().to_string(), "--log-format".into(), "json".into()]);
        if place.is_some_and(|container| container.place.is_unit()) {
            all.push("--systemd-cgroup".into());
        }
        all.extend(words.iter().map(|&word| word.to_owned()));
        let command = words.first().copied().unwrap_or_default();
        let what = format!("handler {}: {} {command}", self.handler, self.program);
        let stdio: Vec<BorrowedFd<'_>> = match stdio {
            Some(fds) => fds.iter().map(AsFd::as_fd).collect(),
            None => {
                let (null, complaints) = (null()?, append(&log)?);
                let fds = [null.as_fd(), null.as_fd(), complaints.as_fd()];
                return Call::begin(what, &all, &Env::default(), log, limit, &fds);
            }
        };
        Call::begin(what, &all, &Env::default(), log, limit, &stdio)
    }

    fn run(&self, words: &[&str]) -> Result<(), Refusal> {
        self.begin(None, words, SHORT, None)?.wait()
    }

    /// Makes a container; its process waits, and is a child of this one.
    pub(super) fn create(&self, container: &mut Container, process: &mut Process) -> Result<Child, Refusal> {
        let made = self.try_create(container, process);
        if made.is_err() {
            // However far it came.
            let _ = self.delete(&container.request.id);
        }
        made
    }

    fn try_create(&self, container: &Container, process: &mut Process) -> Result<Child, Refusal> {
        let bundle = Path::new(&container.request.bundle);
        let root = container.spec.root.as_ref().map_or("rootfs", |root| root.path.as_str());
        let root = bundle.join(root);
        let tree = rootfs::root(container.request.rootfs.as_ref().unwrap_or(&Rootfs::default()), bundle)?;
        process.terminal = container.spec.process.as_ref().is_some_and(|p| p.terminal);
        let (console, stdio) = streams(process, container.request.stdin, bundle, "console.sock")?;
        let pid_file = bundle.join("init.pid");
        drop(fs::remove_file(&pid_file));
        let (bundle, pid_file_text) = (text(bundle), text(&pid_file));
        let mut words = vec!["create", "--bundle", &bundle, "--pid-file", &pid_file_text];
        if let Some(console) = &console {
            words.extend(["--console-socket", console.path()]);
        }
        words.push(&container.request.id);
        let call = stage::within(&tree, &root, || self.begin(Some(container), &words, LONG, stdio.as_ref()))?;
        // What the process has now is not this one's to keep.
        drop((tree, stdio));
        call.wait()?;
        let child = adopt(&pid_file)?;
        if let Some(console) = console {
            let console = console.receive().and_then(|fd| Ok(process.set_console(fd)?));
            console.map_err(|e| self.no_terminal(&e))?;
        }
        Ok(child)
    }

    fn no_terminal(&self, error: &std::io::Error) -> Refusal {
        let message =
            format!("handler {}: {} has handed over no terminal: {error}", self.handler, self.program);
        Refusal::internal(message)
    }

    /// Executes a container's program.
    pub(super) fn start(&self, id: &str) -> Result<(), Refusal> {
        self.begin(None, &["start", id], LONG, None)?.wait()
    }

    /// Begins to bring a process in.
    pub(super) fn join(&self, container: &Container, newcomer: Newcomer<'_>) -> Result<Joining, Refusal> {
        let bundle = Path::new(&container.request.bundle);
        let file = |end: &str| bundle.join(format!("exec-{}.{end}", newcomer.exec_id));
        let (wanted, pid_file) = (file("json"), file("pid"));
        let json = serde_json::to_vec(newcomer.process).map_err(Refusal::internal)?;
        fs::write(&wanted, json)
            .map_err(|e| Refusal::internal(format!("cannot write {}: {e}", wanted.display())))?;
        let files = Files(vec![wanted.clone(), pid_file.clone()]);
        let console = match newcomer.process.terminal {
            true => Some(listen(bundle, &format!("exec-{}.sock", newcomer.exec_id))?),
            false => None,
        };
        let (wanted, pid_text) = (text(&wanted), text(&pid_file));
        let mut words = vec!["exec", "--detach", "--process", &wanted, "--pid-file", &pid_text];
        if let Some(console) = &console {
            words.extend(["--console-socket", console.path()]);
        }
        words.push(&container.request.id);
        let call = self.begin(None, &words, LONG, newcomer.stdio.as_ref())?;
        Ok(Joining { call, files, pid_file, socket: console, console: None, child: None })
    }

    /// Sends a signal to a container.
    pub(super) fn kill(&self, id: &str, signal: i32) -> Result<(), Refusal> {
        self.run(&["kill", id, &signal.to_string()])
    }

    pub(super) fn freeze(&self, id: &str, frozen: bool) -> Result<(), Refusal> {
        self.run(&[if frozen { "pause" } else { "resume" }, id])
    }

    /// Changes limits to `json`, `linux.resources` of the runtime specification.
    pub(super) fn update(&self, container: &Container, json: &[u8]) -> Result<(), Refusal> {
        let file = Path::new(&container.request.bundle).join("update.json");
        let files = Files(vec![file.clone()]);
        fs::write(&file, json)
            .map_err(|e| Refusal::internal(format!("cannot write {}: {e}", file.display())))?;
        let words = ["update", "--resources", &text(&file), &container.request.id];
        let updated = self.begin(Some(container), &words, SHORT, None).and_then(Call::wait);
        drop(files);
        updated
    }

    /// Takes away what the runtime keeps of a container; what is wrong with it goes where this process's complaints do.
    pub(super) fn forget(&self, id: &str) {
        if let Err(refusal) = self.delete(id) {
            crate::complain(&refusal.message);
        }
    }

    fn delete(&self, id: &str) -> Result<(), Refusal> {
        self.run(&["delete", "--force", id])
    }
}

/// A process that a command brings into a container.
#[derive(Debug)]
pub(in super::super) struct Joining {
    call: Call,
    files: Files,
    pid_file: PathBuf,
    socket: Option<Console>,
    /// The master of its terminal.
    pub(super) console: Option<OwnedFd>,
    child: Option<Child>,
}

impl Joining {
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.call.descriptor()
    }

    pub(super) fn deadline(&self) -> Instant {
        self.call.deadline()
    }

    pub(super) fn pid(&self) -> i32 {
        self.call.pid()
    }

    pub(super) fn advance(&mut self) -> Result<bool, Refusal> {
        match self.call.try_end() {
            None => return Ok(false),
            Some(ended) => ended?,
        }
        self.child = Some(adopt(&self.pid_file)?);
        if let Some(socket) = self.socket.take() {
            let console = socket.receive();
            self.console = Some(console.map_err(|e| Refusal::internal(format!("no terminal came: {e}")))?);
        }
        Ok(true)
    }

    pub(super) fn into_child(self) -> Result<Child, Refusal> {
        drop(self.files);
        self.child.ok_or_else(|| Refusal::internal("the process is not there yet"))
    }
}

/// The process that a command has left: a child of this one, so that its number is its own until it is reaped.
fn adopt(pid_file: &Path) -> Result<Child, Refusal> {
    let read = fs::read(pid_file);
    let bytes = read.map_err(|e| Refusal::internal(format!("cannot read {}: {e}", pid_file.display())))?;
    let pid = told::pid(&bytes)
        .ok_or_else(|| Refusal::internal(format!("{} has no number of a process", pid_file.display())))?;
    let child = Child { pid, pidfd: kernel::process::pidfd(pid).map_err(Refusal::internal)? };
    if child.is_own() {
        Ok(child)
    } else {
        let message = format!("process {pid} of {} is no child of this shim", pid_file.display());
        Err(Refusal::internal(message))
    }
}

/// What a process is given: a terminal's socket, or its ends of pipes.
fn streams(
    process: &mut Process,
    stdin: bool,
    dir: &Path,
    socket: &str,
) -> Result<(Option<Console>, Option<[OwnedFd; 3]>), Refusal> {
    if process.terminal {
        return Ok((Some(listen(dir, socket)?), None));
    }
    Ok((None, Some(process.pipes(stdin).map_err(Refusal::internal)?)))
}

fn listen(dir: &Path, name: &str) -> Result<Console, Refusal> {
    Console::listen(dir, name)
        .map_err(|e| Refusal::internal(format!("cannot listen in {}: {e}", dir.display())))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn null() -> Result<OwnedFd, Refusal> {
    rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(Refusal::internal)
}

fn append(path: &Path) -> Result<OwnedFd, Refusal> {
    let flags = OFlags::CREATE | OFlags::APPEND | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).map_err(|e| {
        Refusal::internal(format!("cannot open {}: {}", path.display(), std::io::Error::from(e)))
    })
}
