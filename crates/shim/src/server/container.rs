//! A container: made, started, started again, ended.

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kernel::cgroup::OomWatch;
use oci_runtime::contract::{Spec, State, Status};
use oci_runtime::{Created, Setup};
use serde_json::json;

use super::cgroups::{self, Place};
use super::connection::Refusal;
use super::log::Log;
use super::process::{Process, StreamRef};
use super::{Key, rootfs, task};
use crate::protocol::task::Mount;
use crate::protocol::{Code, CreateRequest, Exited, Restart, Rootfs};

/// Waits between restarts: doubled each time up to the longest, and begun anew after a run of some length.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const LONG_RUN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Container {
    pub(super) request: CreateRequest,
    pub(super) spec: Spec,
    pub(super) place: Place,
    /// The root, where the Task API says what it is.
    pub(super) mounts: Option<Vec<Mount>>,
    pub(super) log: Option<Log>,
    /// Its own process.
    pub(super) own: Key,
    /// Who waits for its end after a stop.
    pub(super) stoppers: Vec<StreamRef>,
    pub(super) paused: bool,
    pub(super) stopping: bool,
    pub(super) restarts: u32,
    pub(super) ever_started: bool,
    /// For good.
    pub(super) ended: bool,
    pub(super) started_at: i64,
    pub(super) oom_watch: Option<OomWatch>,
    /// How many of its processes the out-of-memory killer has killed, as far as was told.
    pub(super) oom_kills: u64,
    started: Instant,
    wait: Duration,
}

impl Container {
    /// Reads the configuration, opens the log and, if `makes_cgroup`, makes the cgroup.
    pub(super) fn new(request: CreateRequest, makes_cgroup: bool) -> Result<(Self, Vec<String>), Refusal> {
        let config = Path::new(&request.bundle).join("config.json");
        let invalid = |e: &dyn std::fmt::Display| Refusal::new(Code::InvalidArgument, e.to_string());
        let bytes =
            fs::read(&config).map_err(|e| invalid(&format!("cannot read {}: {e}", config.display())))?;
        let spec = oci_runtime::contract::parse(&bytes).map_err(|e| invalid(&e))?;
        oci_runtime::contract::validate(&spec).map_err(|e| invalid(&e))?;
        let limits = oci_runtime::limits(&spec).map_err(|e| invalid(&e))?;
        let place = Place::of(&spec, &request.id)?;
        let log = match request.log.as_str() {
            "" => None,
            path => Some(
                Log::open(Path::new(path))
                    .map_err(|e| Refusal::internal(format!("cannot open the log {path}: {e}")))?,
            ),
        };
        // Last: whoever gets no container has nothing to take this back by.
        let missing = if makes_cgroup { place.make(&limits)? } else { Vec::new() };
        let warnings = cgroups::warnings(&missing);
        let container = Self {
            request,
            spec,
            place,
            mounts: None,
            log,
            own: 0,
            stoppers: Vec::new(),
            paused: false,
            stopping: false,
            restarts: 0,
            ever_started: false,
            ended: false,
            started_at: 0,
            oom_watch: None,
            oom_kills: 0,
            started: Instant::now(),
            wait: FIRST_WAIT,
        };
        Ok((container, warnings))
    }

    fn bundle(&self) -> PathBuf {
        PathBuf::from(&self.request.bundle)
    }

    /// The container as its hooks and agents hear of it; `pid` is its first process.
    pub(super) fn state(&self, pid: i32) -> State {
        State {
            oci_version: oci_runtime::contract::VERSION.to_owned(),
            id: self.request.id.clone(),
            status: Status::Running,
            pid,
            bundle: self.request.bundle.clone(),
            annotations: self.spec.annotations.clone(),
        }
    }

    /// Runs the hooks for the end of a run. What they complain about goes where this process does.
    pub(super) fn run_poststop(&self) {
        for warning in oci_runtime::hooks::poststop(self.spec.hooks.as_ref(), &self.state(0)) {
            crate::complain(&warning);
        }
    }

    /// Makes the container's process, which waits to be started. `namespace` is containerd's, for a logger.
    pub(super) fn create(&mut self, process: &mut Process, namespace: &str) -> Result<Created, Refusal> {
        let bundle = self.bundle();
        let terminal = self.spec.process.as_ref().is_some_and(|p| p.terminal);
        let stdio = match &mut process.streams {
            Some(streams) if terminal => {
                streams.open_terminal(&self.request.id, namespace)?;
                None
            }
            None if terminal => None,
            Some(streams) => Some(streams.open(&self.request.id, namespace)?),
            None => Some(process.pipes(self.request.stdin).map_err(Refusal::internal)?),
        };
        let root = match &self.mounts {
            Some(mounts) => {
                let path = self.spec.root.as_ref().map_or("rootfs", |root| root.path.as_str());
                task::root(mounts, &bundle.join(path))?
            }
            None => rootfs::root(self.request.rootfs.as_ref().unwrap_or(&Rootfs::default()), &bundle)?,
        };
        let scope = self.place.prepare(&self.request.id, &self.spec)?;
        let setup = Setup {
            id: &self.request.id,
            bundle: &bundle,
            root,
            stage: &bundle,
            shares_mounts: false,
            cgroup: self.place.cgroup(),
            rdt: None,
            held: scope.is_some(),
            stdio,
            preserved: 0,
            keyring: true,
            listener: None,
        };
        let mut created = oci_runtime::begin(&self.spec, setup).map_err(refusal)?;
        if let Some(scope) = scope {
            let limits = oci_runtime::limits(&self.spec).map_err(refusal)?;
            let missing = self.place.place(scope, &mut created, &limits)?;
            created.warnings.extend(cgroups::warnings(&missing));
        }
        if let Err(error) = created.until_ready() {
            self.place.forget();
            return Err(refusal(error));
        }
        process.terminal = terminal;
        if let Some(console) = created.console.take() {
            process.set_console(console).map_err(Refusal::internal)?;
        }
        Ok(created)
    }

    /// A new cgroup in place of the old one, for the next run.
    pub(super) fn renew_cgroup(&mut self) -> Result<(), Refusal> {
        let limits = oci_runtime::limits(&self.spec).map_err(refusal)?;
        self.oom_kills = 0;
        self.place.renew(&limits)
    }

    /// Notes the numbers of the processes where a newcomer finds them.
    pub(super) fn write_numbers(&self, pid: i32) -> Result<(), Refusal> {
        let numbers = json!({
            "pid": pid, "startTime": kernel::process::start_time(pid).ok(),
            "shim": numbers_of(std::process::id() as i32),
        });
        replace(&self.bundle().join("process.json"), numbers.to_string().as_bytes())
            .map_err(Refusal::internal)
    }

    pub(super) fn note_start(&mut self) {
        self.started = Instant::now();
        self.started_at = nanoseconds();
        self.ever_started = true;
    }

    /// Asks to be told when it runs out of memory.
    pub(super) fn watch_oom(&mut self) {
        // Without it the count at the end tells.
        self.oom_watch = self.place.cgroup().and_then(|c| c.watch_oom().ok()).flatten();
    }

    /// How many of its processes the out-of-memory killer has killed; `None` if nobody counts (any more).
    pub(super) fn count_oom(&self) -> Option<u64> {
        self.place.cgroup()?.oom_kills()
    }

    /// When to start again after an exit with `code`, if at all.
    pub(super) fn restart_at(&mut self, code: i32) -> Option<Instant> {
        let wanted = match self.request.restart() {
            Restart::No => false,
            Restart::OnFailure => code != 0,
            Restart::Always => true,
        };
        let limit = self.request.restart_limit;
        if !wanted || self.stopping || (limit > 0 && self.restarts >= limit) {
            return None;
        }
        if self.started.elapsed() > LONG_RUN {
            self.wait = FIRST_WAIT;
        }
        let at = Instant::now() + self.wait;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        self.restarts += 1;
        Some(at)
    }

    /// Lets go of what only a running container needs.
    pub(super) fn release(&mut self) {
        self.oom_watch = None;
    }

    /// Keeps the exit where it outlives this process and, without an fsync, a reboot.
    pub(super) fn write_exit(&self, exited: &Exited) -> std::io::Result<()> {
        if self.request.state.is_empty() {
            return Ok(());
        }
        let time = |at: i64| crate::timestamp(UNIX_EPOCH + Duration::from_nanos(at.max(0) as u64));
        let mut text = json!({"code": exited.code, "oom": exited.oom, "at": time(exited.at)});
        if self.started_at > 0 {
            text["startedAt"] = time(self.started_at).into();
        }
        replace(&Path::new(&self.request.state).join("exit.json"), text.to_string().as_bytes())
    }
}

pub(super) fn exited(code: i32, oom: bool) -> Exited {
    Exited { code, at: nanoseconds(), oom }
}

/// Now, since 1970.
pub(super) fn nanoseconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as i64
}

/// A process as it is found again: its number, and when it began.
pub(super) fn numbers_of(pid: i32) -> serde_json::Value {
    json!({"pid": pid, "startTime": kernel::process::start_time(pid).ok()})
}

/// The gRPC code is for programs, the message for people; the exit code of a command line goes in between.
pub(super) fn refusal(error: oci_runtime::Error) -> Refusal {
    let code = match (&error, error.exit_code()) {
        (_, 127) => Code::NotFound,
        (_, 126) => Code::FailedPrecondition,
        (oci_runtime::Error::Config(_) | oci_runtime::Error::Unsupported { .. }, _) => Code::InvalidArgument,
        _ => Code::Internal,
    };
    Refusal::new(code, error.to_string())
}

/// Writes a file so that a reader sees the old one or the new one.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let next = path.with_extension("next");
    let mut file = fs::File::create(&next)?;
    file.write_all(bytes)?;
    fs::rename(&next, path)
}

/// Kills what a container without a PID namespace of its own leaves behind.
pub(super) fn kill_rest(container: &Container) {
    let own_pids = |n: &oci_runtime::contract::Namespace| {
        n.kind == oci_runtime::contract::NamespaceType::Pid && n.path.is_empty()
    };
    if container.spec.linux.iter().flat_map(|l| &l.namespaces).any(own_pids) {
        return; // The end of its first process was that of all.
    }
    if let Some(cgroup) = container.place.cgroup() {
        // Best effort, as the pod's others wait meanwhile: whoever removes the cgroup kills again and hears of errors.
        let _ = cgroup.kill_within(100);
    }
}

/// The container's first process as a joiner names it.
pub(super) fn first(process: &Process) -> Option<&OwnedFd> {
    process.child().map(|c| &c.pidfd)
}

/// Starts the program at `file` with `args`, with this process's standard streams.
pub(super) fn run_on_exit(file: &OwnedFd, args: &[String]) -> kernel::Result<()> {
    let null = rustix::fs::open(
        c"/dev/null",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(|e| kernel::Error::new("open", "/dev/null", e))?;
    let program = kernel::process::Program {
        file: file.as_fd(),
        args: kernel::process::CStrings::new(args)?,
        env: kernel::process::CStrings::new([
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ])?,
        fds: vec![null.as_fd(), null.as_fd(), null.as_fd()],
    };
    kernel::process::spawn(&program).map(drop)
}
