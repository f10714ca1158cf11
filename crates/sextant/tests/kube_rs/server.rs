//! The product's own program, and clients of it.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rustix::process::{Pid, Signal, kill_process};

use super::PATIENCE;

/// `sextant api` with fresh data; it ends with this.
pub(super) struct Server {
    dir: tempfile::TempDir,
    child: Child,
}

impl Server {
    pub(super) fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("sextant-kube-").tempdir_in("/tmp").unwrap();
        let path = |name: &str| dir.path().join(name);
        let words = File::create(path("words")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sextant"));
        command.arg("--data-dir").arg(path("data")).arg("--run-dir").arg(path("run"));
        command.args(["api", "--listen", "127.0.0.1:0", "--kubeconfig"]).arg(path("kubeconfig"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(words).spawn().unwrap();
        let server = Self { dir, child };
        let began = Instant::now();
        while !server.words().contains("serves on") {
            assert!(began.elapsed() < PATIENCE, "it does not serve: {}", server.words());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        server
    }

    fn words(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("words")).unwrap()
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// How the administrator connects, by certificate.
    pub(super) async fn config(&self) -> Config {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig()).unwrap();
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap()
    }

    /// The administrator's client.
    pub(super) async fn client(&self) -> Client {
        Client::try_from(self.config().await).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.child.wait();
    }
}
