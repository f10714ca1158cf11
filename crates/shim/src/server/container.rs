//! The container: made, started, started again, ended.

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kernel::cgroup::Cgroup;
use oci_runtime::contract::{Spec, State, Status};
use oci_runtime::{Created, Setup};
use serde_json::json;

use super::connection::Refusal;
use super::log::Log;
use super::process::Process;
use crate::protocol::{Code, CreateRequest, Exited, Restart, Rootfs};

/// Waits between restarts: doubled each time up to the longest, and begun anew after a run of some length.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const LONG_RUN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Container {
    pub(super) request: CreateRequest,
    pub(super) spec: Spec,
    pub(super) cgroup: Option<Cgroup>,
    pub(super) log: Option<Log>,
    pub(super) paused: bool,
    pub(super) stopping: bool,
    pub(super) restarts: u32,
    pub(super) ever_started: bool,
    started: Instant,
    wait: Duration,
}

impl Container {
    /// Reads the configuration and makes the cgroup.
    pub(super) fn new(request: CreateRequest) -> Result<(Self, Vec<String>), Refusal> {
        let config = Path::new(&request.bundle).join("config.json");
        let invalid = |e: &dyn std::fmt::Display| Refusal::new(Code::InvalidArgument, e.to_string());
        let bytes =
            fs::read(&config).map_err(|e| invalid(&format!("cannot read {}: {e}", config.display())))?;
        let spec = oci_runtime::contract::parse(&bytes).map_err(|e| invalid(&e))?;
        oci_runtime::contract::validate(&spec).map_err(|e| invalid(&e))?;
        let limits = oci_runtime::limits(&spec).map_err(|e| invalid(&e))?;
        let path = spec.linux.as_ref().map_or("", |l| l.cgroups_path.as_str());
        let mut warnings = Vec::new();
        let cgroup = if path.is_empty() {
            None
        } else {
            let cgroup = Cgroup::at(Path::new(path)).map_err(|e| invalid(&e))?;
            cgroup.create().map_err(Refusal::internal)?;
            for name in cgroup.apply(&limits).map_err(Refusal::internal)? {
                warnings.push(format!("cannot limit {name}: no cgroup controller of this machine does"));
            }
            Some(cgroup)
        };
        let log = match request.log.as_str() {
            "" => None,
            path => Some(
                Log::open(Path::new(path))
                    .map_err(|e| Refusal::internal(format!("cannot open the log {path}: {e}")))?,
            ),
        };
        let container = Self {
            request,
            spec,
            cgroup,
            log,
            paused: false,
            stopping: false,
            restarts: 0,
            ever_started: false,
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
            eprintln!("sextant-shim: {warning}");
        }
    }

    /// Makes the container's process, which waits to be started.
    pub(super) fn create(&self, process: &mut Process) -> Result<Created, Refusal> {
        let bundle = self.bundle();
        let terminal = self.spec.process.as_ref().is_some_and(|p| p.terminal);
        let stdio =
            if terminal { None } else { Some(process.pipes(self.request.stdin).map_err(Refusal::internal)?) };
        let root = root(self.request.rootfs.as_ref().unwrap_or(&Rootfs::default()))?;
        let setup = Setup {
            id: &self.request.id,
            bundle: &bundle,
            root,
            stage: &bundle,
            shares_mounts: false,
            cgroup: self.cgroup.as_ref(),
            rdt: None,
            held: false,
            stdio,
            preserved: 0,
            keyring: true,
            listener: None,
        };
        let mut created = oci_runtime::create(&self.spec, setup).map_err(refusal)?;
        process.terminal = terminal;
        if let Some(console) = created.console.take() {
            process.set_console(console).map_err(Refusal::internal)?;
        }
        Ok(created)
    }

    /// A new cgroup in place of the old one, for the next run: one that was killed takes no newborn process.
    pub(super) fn renew_cgroup(&self) -> Result<(), Refusal> {
        let Some(cgroup) = &self.cgroup else { return Ok(()) };
        let limits = oci_runtime::limits(&self.spec).map_err(refusal)?;
        cgroup.kill().and_then(|()| cgroup.remove()).map_err(Refusal::internal)?;
        cgroup.create().and_then(|()| cgroup.apply(&limits)).map(drop).map_err(Refusal::internal)
    }

    /// Notes the numbers of the processes where a newcomer finds them.
    pub(super) fn write_numbers(&self, pid: i32) -> Result<(), Refusal> {
        let own = std::process::id() as i32;
        let numbers = json!({
            "pid": pid, "startTime": kernel::process::start_time(pid).ok(),
            "shim": {"pid": own, "startTime": kernel::process::start_time(own).ok()},
        });
        replace(&self.bundle().join("process.json"), numbers.to_string().as_bytes())
            .map_err(Refusal::internal)
    }

    pub(super) fn note_start(&mut self) {
        self.started = Instant::now();
        self.ever_started = true;
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

    /// How it ended.
    pub(super) fn exited(&self, code: i32) -> Exited {
        let oom = self.cgroup.as_ref().and_then(|c| c.usage().oom_kills).is_some_and(|n| n > 0);
        exited(code, oom)
    }

    /// Keeps the exit where it outlives this process and, without an fsync, a reboot.
    pub(super) fn write_exit(&self, exited: &Exited) -> std::io::Result<()> {
        if self.request.state.is_empty() {
            return Ok(());
        }
        let seconds = UNIX_EPOCH + Duration::from_nanos(exited.at.max(0) as u64);
        let text = json!({"code": exited.code, "oom": exited.oom, "at": crate::timestamp(seconds)});
        replace(&Path::new(&self.request.state).join("exit.json"), text.to_string().as_bytes())
    }
}

pub(super) fn exited(code: i32, oom: bool) -> Exited {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Exited { code, at: at.as_nanos() as i64, oom }
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

fn root(rootfs: &Rootfs) -> Result<OwnedFd, Refusal> {
    if !rootfs.directory.is_empty() {
        let path = kernel::process::cstring(rootfs.directory.as_bytes()).map_err(Refusal::internal)?;
        return kernel::mount::clone_tree(rustix::fs::CWD, &path, true)
            .map_err(|e| Refusal::internal(format!("cannot open the root {}: {e}", rootfs.directory)));
    }
    if !rootfs.work.is_empty() {
        // The kernel's note that an earlier volatile mount was never synced. It was the same container's: go on.
        let note = Path::new(&rootfs.work).join("work/incompat");
        match fs::remove_dir_all(&note) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Refusal::internal(format!("cannot remove {}: {e}", note.display())));
            }
            _ => {}
        }
    }
    let upper = (!rootfs.upper.is_empty()).then(|| (Path::new(&rootfs.upper), Path::new(&rootfs.work)));
    let overlay = kernel::mount::Overlay {
        lower: rootfs.lower.iter().map(Path::new).collect(),
        upper,
        // Nobody waits for a sync when it is unmounted; what a container wrote is not promised past a power cut.
        volatile: true,
    };
    kernel::mount::overlay(&overlay).map_err(Refusal::internal)
}

/// Writes a file so that a reader sees the old one or the new one.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
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
    if let Some(cgroup) = &container.cgroup {
        // Best effort: whoever removes the cgroup kills again and hears of errors.
        let _ = cgroup.kill();
    }
}

/// The container's first process as a joiner names it.
pub(super) fn first(process: &Process) -> Option<&OwnedFd> {
    process.child.as_ref().map(|c| &c.pidfd)
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
