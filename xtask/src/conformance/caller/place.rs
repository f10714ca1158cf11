//! The processes: the driver, the controllers and the registrar, and what a kubelet does beside them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use csi::caller::Driver;
use csi::caller::registration::{Event, watch};
use rustix::process::{Pid, Signal, kill_process};

use super::api::soon;
use crate::Result;
use crate::program::quiet;

pub(super) const DRIVER: &str = "hostpath.csi.k8s.io";
pub(super) const NODE: &str = "node-1";

/// Where all of it is, below one folder, and what is started there.
pub(super) struct Place {
    dir: tempfile::TempDir,
    sextant: PathBuf,
    hostpath: PathBuf,
    /// Where the processes' words are kept.
    out: PathBuf,
}

impl Place {
    pub(super) fn new(sextant: &Path, hostpath: &Path, out: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("sextant-caller-").tempdir_in("/tmp")?;
        for folder in ["plugin", "registry", "pods"] {
            std::fs::create_dir(dir.path().join(folder))?;
        }
        let [sextant, hostpath, out] = [sextant, hostpath, out].map(std::path::absolute);
        Ok(Self { dir, sextant: sextant?, hostpath: hostpath?, out: out? })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.path("plugin/csi.sock")
    }

    /// The host-path driver with all that it can do, and so much room: 10 GiB of kind `fast`, 1 GiB of `small`.
    pub(super) async fn driver(&self) -> Result<(Process, Driver)> {
        let mut command = Command::new(&self.hostpath);
        command.arg(format!("--endpoint=unix://{}", self.socket().display()));
        command.arg(format!("--statedir={}", self.path("state").display()));
        command.args([format!("--drivername={DRIVER}"), format!("--nodeid={NODE}")]);
        command.args(["--capacity=fast=10Gi", "--capacity=small=1Gi", "--max-volume-size=8589934592"]);
        command.args(["--enable-attach", "--check-volume-lifecycle", "--enable-controller-modify-volume"]);
        command.args(["--accepted-mutable-parameter-names=tier", "-v=5"]);
        // A socket of one that was killed would be taken for this one's.
        let _none = std::fs::remove_file(self.socket());
        let process = self.spawn("driver", command)?;
        let connected = soon(async || Ok(Driver::connect(&self.socket()).await.ok())).await?;
        let driver =
            connected.ok_or_else(|| format!("the driver does not serve: {}", self.words("driver")))?;
        Ok((process, driver))
    }

    /// `sextant control`, which does all that a cluster's controllers of volumes would.
    pub(super) fn control(&self, kubeconfig: &Path) -> Result<Process> {
        let mut command = self.sextant();
        command.args(["control", "--bind", "--kubeconfig"]).arg(kubeconfig);
        command.arg("--csi-socket").arg(self.socket());
        self.spawn("control", command)
    }

    /// The same with a scheduler.
    pub(super) fn control_of_pods(&self, kubeconfig: &Path) -> Result<Process> {
        let mut command = self.sextant();
        command.args(["control", "--bind", "--workloads", "--kubeconfig"]).arg(kubeconfig);
        command.arg("--csi-socket").arg(self.socket());
        self.spawn("control", command)
    }

    /// `sextant node`, with the image that examples have.
    pub(super) fn node(&self) -> Result<Process> {
        quiet(self.sextant().args(["demo", "--image"]))?;
        let mut command = self.sextant();
        // The machine's own configuration is nothing to this.
        std::fs::write(self.path("node.toml"), "")?;
        command.args(["node", "--builtin-network=always", "--config"]).arg(self.path("node.toml"));
        self.spawn("node", command)
    }

    /// `sextant agent`, which looks for drivers in [`Place::drivers`].
    pub(super) fn agent(&self, kubeconfig: &Path) -> Result<Process> {
        let mut command = self.sextant();
        command.args(["agent", "--node", NODE, "--listen", "127.0.0.1:0", "--kubeconfig"]).arg(kubeconfig);
        command.arg("--logs").arg(self.path("logs"));
        // How full the machine's disk is, is nothing to this.
        command.args(["--eviction-hard", "memory.available<1Mi", "--image-gc-high-threshold", "100"]);
        self.spawn("agent", command)
    }

    /// Takes away what node and agent have made.
    pub(super) fn reset(&self) -> Result<()> {
        let mut command = self.sextant();
        command.args(["reset", "--yes", "--images", "--node-config"]).arg(self.path("node.toml"));
        quiet(&mut command).map(drop)
    }

    /// Where the agent looks for drivers.
    pub(super) fn drivers(&self) -> PathBuf {
        self.path("data/agent/plugins_registry")
    }

    /// `sextant csi register`, with who looks into this folder.
    pub(super) fn registrar(&self, folder: &Path) -> Result<Process> {
        let mut command = self.sextant();
        command.args(["csi", "register", "--socket"]).arg(self.socket());
        command.arg("--registration-dir").arg(folder);
        self.spawn("registrar", command)
    }

    fn sextant(&self) -> Command {
        let mut command = Command::new(&self.sextant);
        command.arg("--data-dir").arg(self.path("data")).arg("--run-dir").arg(self.path("run"));
        for variable in ["KUBECONFIG", "KUBERNETES_SERVICE_HOST", "CSI_ENDPOINT", "NOTIFY_SOCKET"] {
            command.env_remove(variable);
        }
        command
    }

    fn spawn(&self, name: &str, mut command: Command) -> Result<Process> {
        let words = File::options().create(true).append(true).open(self.said(name))?;
        command.stdin(Stdio::null()).stdout(words.try_clone()?).stderr(words);
        Ok(Process(command.spawn().map_err(|e| format!("cannot start the {name}: {e}"))?))
    }

    fn said(&self, name: &str) -> PathBuf {
        self.out.join(format!("{name}.words"))
    }

    /// Takes the words of an earlier run away.
    pub(super) fn forget(&self) {
        for name in ["driver", "control", "registrar", "node", "agent"] {
            let _none = std::fs::remove_file(self.said(name));
        }
    }

    pub(super) fn words(&self, name: &str) -> String {
        std::fs::read_to_string(self.said(name)).unwrap_or_default()
    }

    /// Waits until a process has said something.
    pub(super) async fn hear(&self, name: &str, what: &str) -> Result<()> {
        let heard = soon(async || Ok(self.words(name).contains(what).then_some(()))).await?;
        heard.ok_or_else(|| format!("the {name} does not say {what:?}").into())
    }
}

/// A process; it is told to end when this is dropped.
pub(super) struct Process(Child);

impl Process {
    /// It has no time to say good-bye.
    pub(super) fn kill(mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// Its exit code, after it was told to end.
    pub(super) async fn end(&mut self) -> Result<Option<i32>> {
        let pid = Pid::from_raw(self.0.id().cast_signed()).ok_or("no process")?;
        kill_process(pid, Signal::TERM)?;
        self.ended().await
    }

    /// Its exit code, once it has ended by itself.
    pub(super) async fn ended(&mut self) -> Result<Option<i32>> {
        let ended = soon(async || Ok(self.0.try_wait()?)).await?;
        Ok(ended.ok_or("it does not end")?.code())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None))
            && let Some(pid) = Pid::from_raw(self.0.id().cast_signed())
        {
            let _ended = kill_process(pid, Signal::TERM);
            for _ in 0..500 {
                if !matches!(self.0.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            let _ended = self.0.kill();
            let _ended = self.0.wait();
        }
    }
}

/// What a kubelet hears of drivers.
#[derive(Clone, Default)]
pub(super) struct Kubelet(Arc<Mutex<Vec<Event>>>);

impl Kubelet {
    /// Watches a folder for registrations from now on.
    pub(super) fn watch(&self, folder: PathBuf) {
        let heard = self.clone();
        tokio::spawn(async move {
            watch(&folder, move |event| {
                heard.events().push(event);
                std::future::ready(Ok(()))
            })
            .await;
        });
    }

    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `which` takes of what was heard, once there is such an event.
    pub(super) async fn hears<T>(&self, what: &str, which: impl Fn(&Event) -> Option<T>) -> Result<T> {
        let heard = soon(async || Ok(self.events().iter().find_map(&which))).await?;
        heard.ok_or_else(|| {
            format!("the kubelet does not hear that {what}; it heard {:?}", self.events()).into()
        })
    }
}
