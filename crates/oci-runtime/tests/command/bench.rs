//! A bundle, a root for records, and the command.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{Outcome, check};

/// How long something is waited for that takes a moment on an idle machine.
const LIMIT: Duration = Duration::from_secs(180);
const BUSYBOX: &str = "/bin/busybox";
const APPLETS: [&str; 14] = [
    "sh", "sleep", "true", "cat", "ls", "echo", "id", "env", "kill", "touch", "stty", "readlink", "pwd",
    "mkdir",
];

pub(crate) struct Bench {
    dir: tempfile::TempDir,
    /// The container's id: nobody else has it, and each process of this bench has it in its arguments.
    pub(crate) id: String,
}

/// What a command did.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    /// It must have succeeded.
    pub(crate) fn ok(self) -> Result<Self, Box<dyn std::error::Error>> {
        if self.code == 0 { Ok(self) } else { Err(format!("code {}: {}", self.code, self.err).into()) }
    }

    pub(crate) fn json(&self) -> Result<Value, Box<dyn std::error::Error>> {
        Ok(serde_json::from_str(&self.out).map_err(|e| format!("{e}: {}", self.out))?)
    }
}

/// Executes a program that others hold open for writing a moment longer (ETXTBSY): children of other tests, which have what
/// this process has open until they execute something, and attackers, whose attempt is refused a step later.
pub(crate) fn executed<T>(mut execute: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match execute() {
            Err(error)
                if error.kind() == std::io::ErrorKind::ExecutableFileBusy && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            done => return done,
        }
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::Builder::new().prefix("sextant-oci-").tempdir().expect("a directory");
        let id = format!("sxtest-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let root = dir.path().join("bundle/rootfs");
        for name in ["bin", "proc", "dev", "sys", "tmp", "etc"] {
            fs::create_dir_all(root.join(name)).expect("a root");
        }
        fs::copy(BUSYBOX, root.join("bin/busybox")).expect("busybox (install busybox-static)");
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).expect("an applet");
        }
        let program = fs::canonicalize("/proc/self/exe").expect("this program");
        symlink(program, dir.path().join("sextant-oci")).expect("the command's name");
        let bench = Self { dir, id };
        bench.configure(&bench.spec(&["/bin/true"]));
        bench
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.dir.path().join("bundle")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("records")
    }

    /// A configuration that runs `args`.
    pub(crate) fn spec(&self, args: &[&str]) -> Value {
        json!({
            "ociVersion": "1.3.0",
            "process": {
                "args": args, "cwd": "/", "user": {"uid": 0, "gid": 0},
                "env": ["PATH=/bin", format!("BENCH={}", self.id)],
                "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
            },
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
            ],
            "annotations": {"org.example.bench": self.id},
            "linux": {
                "cgroupsPath": format!("/{}", self.id),
                "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"}],
                "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            },
        })
    }

    /// One that stays.
    pub(crate) fn sleeper(&self) -> Value {
        self.spec(&["/bin/sh", "-c", &format!("trap 'exit 7' TERM; : {}; sleep 100 & wait", self.id)])
    }

    pub(crate) fn configure(&self, spec: &Value) {
        fs::write(self.bundle().join("config.json"), spec.to_string()).expect("a configuration");
    }

    /// The command, ready to be given arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.path("sextant-oci"));
        command.arg("--root").arg(self.root()).current_dir(self.bundle()).stdin(Stdio::null());
        command
    }

    /// Runs the command. Its output goes to files: a container that outlives it would hold a pipe open.
    pub(crate) fn run(&self, args: &[&str]) -> Done {
        self.run_command(self.command().args(args))
    }

    pub(crate) fn run_command(&self, command: &mut Command) -> Done {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let files = ["out", "err"].map(|name| self.path(&format!("{name}-{number}")));
        let open = |path: &Path| fs::File::create(path).expect("a file for output");
        command.stdout(open(&files[0])).stderr(open(&files[1]));
        let status = executed(|| command.status()).expect("the command runs");
        let [out, err] = files.map(|path| fs::read_to_string(path).expect("output"));
        use std::os::unix::process::ExitStatusExt;
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Done { code, out, err }
    }

    /// What a command that ends at once printed.
    pub(crate) fn output(&self, args: &[&str]) -> Output {
        self.command().args(args).output().expect("the command runs")
    }

    pub(crate) fn status(&self) -> Result<String, Box<dyn std::error::Error>> {
        let state = self.run(&["state", &self.id]).ok()?.json()?;
        Ok(state["status"].as_str().unwrap_or_default().to_owned())
    }

    /// Makes and starts a container that stays.
    pub(crate) fn start_sleeper(&self) -> Outcome {
        self.configure(&self.sleeper());
        self.run(&["create", &self.id]).ok()?;
        self.run(&["start", &self.id]).ok()?;
        Ok(())
    }

    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut() -> bool) -> Outcome {
        let deadline = Instant::now() + LIMIT;
        while !holds() {
            check(Instant::now() < deadline, || format!("not after {} s: {what}", LIMIT.as_secs()))?;
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Processes that have this bench's id among their arguments, as all of its have.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        let root = self.root().display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).replace('\0', " ");
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let mark = format!("BENCH={}", self.id);
            let marked = String::from_utf8_lossy(&environment).split('\0').any(|variable| variable == mark);
            if marked || text.contains(&root) || text.split(' ').any(|word| word == self.id) {
                found.push((pid, text));
            }
        }
        found
    }

    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let top = Path::new("/sys/fs/cgroup");
        // Where controllers of v1 share a hierarchy, each has a link to it.
        let trees = fs::read_dir(top).into_iter().flatten().flatten();
        let trees = trees.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path());
        let all = trees.chain([top.to_path_buf()]).map(|tree| tree.join(&self.id));
        all.filter(|path| path.is_dir()).collect()
    }

    /// No process, no cgroup, no record.
    pub(crate) fn nothing_is_left(&self) -> Outcome {
        // A process that was killed may still be on its way out.
        self.until("no process is left", || self.processes().is_empty())
            .map_err(|e| format!("{e}: {:?}", self.processes()))?;
        check(self.cgroups().is_empty(), || format!("cgroups are left: {:?}", self.cgroups()))?;
        let records: Vec<_> = fs::read_dir(self.root()).into_iter().flatten().flatten().collect();
        check(records.is_empty(), || format!("records are left: {records:?}"))?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let dir = self.dir.path().display().to_string();
        check(!mounts.contains(&dir), || "mounts are left".to_owned())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // A test that failed half-way leaves things; this is not what it tests.
        let _ = self.run(&["delete", "--force", &self.id]);
        for (pid, _) in self.processes() {
            if let Ok(pidfd) = kernel::process::pidfd(pid) {
                let _ = kernel::process::signal(std::os::fd::AsFd::as_fd(&pidfd), 9);
            }
        }
        let _ = kernel::cgroup::destroy(Path::new(&self.id));
    }
}
