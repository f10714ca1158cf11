//! `sextant up` as a user starts it, in a network of its own: pods run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::Site;
use crate::Result;
use crate::program::quiet;

/// What the pods' image is called here, and by the steps.
const IMAGE: &str = "busybox:1";

/// A machine with nothing in it but an image; it ends with this.
pub(in crate::interop) struct Machine {
    /// Not in /tmp, which may be in memory: overlay mounts want a real file system.
    dir: tempfile::TempDir,
    program: PathBuf,
    /// Holds the network.
    holder: Child,
}

impl Machine {
    pub(in crate::interop) fn start(site: &Site) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("sextant-up-").tempdir_in("/var/tmp")?;
        let mut unshare = Command::new("unshare");
        // Programs of a machine reach Services only where there is a way to everywhere.
        unshare.args([
            "--net",
            "sh",
            "-c",
            "ip link set lo up && ip route add default dev lo && exec sleep infinity",
        ]);
        kernel::command::dies_with_thread(&mut unshare);
        let holder = unshare.stdin(Stdio::null()).spawn().map_err(|e| format!("cannot run unshare: {e}"))?;
        let machine = Self { dir, program: site.program().to_owned(), holder };
        let from = site.busybox()?;
        quiet(&mut machine.sextant(&["pull", "--plain-http", &from]))?;
        quiet(&mut machine.sextant(&["tag", &from, IMAGE]))?;
        // The network is there once loopback is up in it.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(180);
        while quiet(machine.within("ip").args(["route", "get", "10.96.0.1"])).is_err() {
            if std::time::Instant::now() > end {
                return Err("the machine's network did not come up".into());
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let mut up = machine.within(&machine.program);
        // Whatever else is on this machine's disk.
        up.args(machine.places()).args([
            "up",
            "-d",
            "--node-name",
            "here",
            "--eviction-hard",
            "memory.available<1Mi",
        ]);
        quiet(&mut up)?;
        Ok(machine)
    }

    fn places(&self) -> [std::ffi::OsString; 4] {
        let dir = self.dir.path();
        ["--data-dir".into(), dir.join("data").into(), "--run-dir".into(), dir.join("run").into()]
    }

    /// Our program, outside: it needs no network of the machine's.
    fn sextant(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(self.places()).args(words);
        command
    }

    /// A program in the machine's network.
    pub(in crate::interop) fn within(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id())).arg("--").arg(program);
        command
    }

    /// Its folder, in which steps run.
    pub(in crate::interop) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The administrator's.
    pub(in crate::interop) fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("data/kubeconfig")
    }

    /// Where its network is.
    pub(in crate::interop) fn network(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// What its programs said.
    pub(in crate::interop) fn words(&self) -> String {
        let read = |name: &str| {
            std::fs::read_to_string(self.dir.path().join(format!("data/log/{name}.log"))).unwrap_or_default()
        };
        ["node", "api", "services", "control", "agent"].map(read).join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let mut reset = self.within(&self.program);
        reset.args(self.places()).args(["reset", "--yes", "--images"]);
        if let Err(error) = quiet(&mut reset) {
            eprintln!("{error}");
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
