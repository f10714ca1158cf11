//! `sextant api` as a user starts it.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Program, Site};
use crate::Result;

/// A server with fresh data; it ends with this.
pub(crate) struct Server {
    /// Its data, kubeconfig and words; removed with it.
    pub(super) dir: tempfile::TempDir,
    child: Child,
}

impl Server {
    pub(crate) fn start(site: &Site) -> Result<Self> {
        Self::start_with(site.program())
    }

    /// `program` is a sextant.
    pub(crate) fn start_with(program: &std::path::Path) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("sextant-api-").tempdir_in("/tmp")?;
        let words = File::create(dir.path().join("words"))?;
        let mut command = Command::new(program);
        command.arg("--data-dir").arg(dir.path().join("data")).arg("--run-dir").arg(dir.path().join("run"));
        command.args(["api", "--listen", "127.0.0.1:0", "--kubeconfig"]).arg(dir.path().join("kubeconfig"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(words);
        let child = command.spawn().map_err(|e| format!("cannot run {}: {e}", program.display()))?;
        let mut server = Self { dir, child };
        let end = Instant::now() + Duration::from_secs(180);
        while !server.words().contains("serves on") {
            if server.child.try_wait()?.is_some() || Instant::now() > end {
                return Err(format!("sextant api does not serve: {}", server.words()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// The administrator's.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// A kubectl as its administrator, which keeps what it found with the server.
    pub(crate) fn asked_by(&self, kubectl: &Program) -> Command {
        let mut command = Command::new(&kubectl.path);
        command.arg("--kubeconfig").arg(self.kubeconfig());
        command.arg("--cache-dir").arg(self.dir.path().join("cache"));
        command
    }

    /// What it said on standard error.
    fn words(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("words")).unwrap_or_default()
    }

    /// Ends it; what it said.
    pub(crate) fn stop(self) -> String {
        self.words()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
