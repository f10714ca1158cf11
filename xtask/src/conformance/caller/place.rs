//! The processes: the driver, the controllers and the registrar, and what a kubelet does beside them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use csi::caller::Driver;
use csi::caller::registration::{Event, watch};

use super::api::soon;
use super::walk::{Process, Programs};
use crate::Result;
use crate::program::quiet;

pub(super) const DRIVER: &str = "hostpath.csi.k8s.io";
pub(super) const NODE: &str = "node-1";

/// Where all of it is, below one folder, and what is started there.
pub(super) struct Place {
    programs: Programs,
    hostpath: PathBuf,
}

impl Place {
    pub(super) fn new(sextant: &Path, hostpath: &Path, out: &Path) -> Result<Self> {
        let programs = Programs::new(sextant, "/tmp", "sextant-caller-", out)?;
        for folder in ["plugin", "registry", "pods"] {
            std::fs::create_dir(programs.path(folder))?;
        }
        Ok(Self { programs, hostpath: std::path::absolute(hostpath)? })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.programs.path(name)
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
        let process = self.programs.start("driver", command)?;
        let connected = soon(async || Ok(Driver::connect(&self.socket()).await.ok())).await?;
        let driver = connected
            .ok_or_else(|| format!("the driver does not serve: {}", self.programs.words("driver")))?;
        Ok((process, driver))
    }

    /// `sextant control`, which does all that a cluster's controllers of volumes would.
    pub(super) fn control(&self, kubeconfig: &Path) -> Result<Process> {
        let mut command = self.programs.sextant();
        command.args(["control", "--bind", "--kubeconfig"]).arg(kubeconfig);
        command.arg("--csi-socket").arg(self.socket());
        self.programs.start("control", command)
    }

    /// The same with a scheduler.
    pub(super) fn control_of_pods(&self, kubeconfig: &Path) -> Result<Process> {
        let mut command = self.programs.sextant();
        command.args(["control", "--bind", "--workloads", "--kubeconfig"]).arg(kubeconfig);
        command.arg("--csi-socket").arg(self.socket());
        self.programs.start("control", command)
    }

    /// `sextant node`, with the image that examples have.
    pub(super) fn node(&self) -> Result<Process> {
        quiet(self.programs.sextant().args(["demo", "--image"]))?;
        let mut command = self.programs.sextant();
        // The machine's own configuration is nothing to this.
        std::fs::write(self.path("node.toml"), "")?;
        command.args(["node", "--builtin-network=always", "--config"]).arg(self.path("node.toml"));
        self.programs.start("node", command)
    }

    /// `sextant agent`, which looks for drivers in [`Place::drivers`].
    pub(super) fn agent(&self, kubeconfig: &Path) -> Result<Process> {
        let mut command = self.programs.sextant();
        command.args(["agent", "--node", NODE, "--listen", "127.0.0.1:0", "--kubeconfig"]).arg(kubeconfig);
        command.arg("--logs").arg(self.path("logs"));
        // How full the machine's disk is, is nothing to this.
        command.args(["--eviction-hard", "memory.available<1Mi", "--image-gc-high-threshold", "100"]);
        self.programs.start("agent", command)
    }

    /// Takes away what node and agent have made.
    pub(super) fn reset(&self) -> Result<()> {
        let mut command = self.programs.sextant();
        command.args(["reset", "--yes", "--images", "--node-config"]).arg(self.path("node.toml"));
        quiet(&mut command).map(drop)
    }

    /// Where the agent looks for drivers.
    pub(super) fn drivers(&self) -> PathBuf {
        self.path("data/agent/plugins_registry")
    }

    /// `sextant csi register`, with who looks into this folder.
    pub(super) fn registrar(&self, folder: &Path) -> Result<Process> {
        let mut command = self.programs.sextant();
        command.args(["csi", "register", "--socket"]).arg(self.socket());
        command.arg("--registration-dir").arg(folder);
        self.programs.start("registrar", command)
    }

    /// Takes the words of an earlier run away.
    pub(super) fn forget(&self) {
        self.programs.forget(&["driver", "control", "registrar", "node", "agent"]);
    }

    /// Waits until a process has said something.
    pub(super) async fn hear(&self, name: &str, what: &str) -> Result<()> {
        self.programs.hear(name, what).await
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
