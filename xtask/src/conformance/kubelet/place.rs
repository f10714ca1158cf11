//! The programs below the API server, and where they keep what they keep.

use std::path::{Path, PathBuf};
use std::process::Command;

use cri::contract::v1::{
    ListPodSandboxRequest, PodSandboxState, RemovePodSandboxRequest, StopPodSandboxRequest,
};
use serde_json::json;

use super::api::soon;
use super::servers::Server;
use super::walk::{Process, Programs};
use crate::Result;
use crate::program::quiet;

pub(super) const DRIVER: &str = "csi.sextant.dev";
pub(super) const NODE: &str = "node-1";
/// What pods run.
pub(super) const IMAGE: &str = "busybox:1";
/// Where the kubelet tells of volumes, without asking who wants to know.
pub(super) const STATISTICS: &str = "127.0.0.1:10255";
/// The node's, on a bridge of the walk's network: a kubelet wants one that is not loopback's.
const ADDRESS: &str = "192.0.2.1";
/// What the image's program is called in it.
const APPLETS: [&str; 13] =
    ["awk", "cat", "dd", "df", "echo", "head", "id", "sh", "sleep", "stat", "sync", "touch", "wc"];

/// Where all of it is.
pub(super) struct Place {
    pub(super) programs: Programs,
    pub(super) suite: PathBuf,
}

impl Place {
    /// With the network and the image that pods want.
    pub(super) fn new(sextant: &Path, suite: PathBuf, out: &Path) -> Result<Self> {
        // Not in /tmp, which may be in memory: overlay mounts and images of volumes want a real file system.
        let programs = Programs::new(sextant, "/var/tmp", "sextant-kubelet-", out)?;
        programs.forget(&["api", "control", "driver", "etcd", "kubelet", "node"]);
        for args in [
            &["link", "add", "sx-walk", "type", "bridge"][..],
            &["address", "add", &format!("{ADDRESS}/24"), "dev", "sx-walk"],
            &["link", "set", "sx-walk", "up"],
        ] {
            quiet(Command::new("ip").args(args))?;
        }
        let place = Self { programs, suite };
        place.load_image()?;
        Ok(place)
    }

    /// The administrator's.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.programs.path("kubeconfig")
    }

    /// The driver's socket, where a kubelet's plugins have theirs.
    pub(super) fn socket(&self) -> PathBuf {
        self.programs.path("kubelet/plugins/csi.sextant.dev/csi.sock")
    }

    pub(super) fn pool(&self) -> PathBuf {
        self.programs.path("pool")
    }

    /// Loads an image with nothing but busybox, as an archive of docker's.
    fn load_image(&self) -> Result<()> {
        let image = self.programs.path("image");
        let bin = image.join("root/bin");
        std::fs::create_dir_all(&bin)?;
        std::fs::copy("/bin/busybox", bin.join("busybox"))?;
        for name in APPLETS {
            std::os::unix::fs::symlink("busybox", bin.join(name))?;
        }
        let tar = |args: &[&str]| quiet(Command::new("tar").args(args).current_dir(&image)).map(drop);
        tar(&["-cf", "layer.tar", "--owner=0", "--group=0", "-C", "root", "bin"])?;
        let digest = quiet(Command::new("sha256sum").arg(image.join("layer.tar")))?;
        let digest = digest.split_whitespace().next().ok_or("sha256sum says nothing")?;
        let config = json!({"architecture": std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"),
            "os": "linux", "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]}});
        std::fs::write(image.join("config.json"), config.to_string())?;
        let manifest = json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]);
        std::fs::write(image.join("manifest.json"), manifest.to_string())?;
        tar(&["-cf", "image.tar", "manifest.json", "config.json", "layer.tar"])?;
        let mut load = self.programs.sextant();
        quiet(load.args(["load", "--input"]).arg(image.join("image.tar"))).map(drop)
    }

    /// `sextant node`, once it serves.
    pub(super) async fn node(&self) -> Result<Process> {
        let config = self.programs.path("node.toml");
        std::fs::write(&config, "[nri]\nenabled = false\n")?;
        let mut command = self.programs.sextant();
        command.arg("node").arg("--config").arg(&config).arg("--builtin-network=always");
        let process = self.programs.start("node", command)?;
        let served = soon(async || Ok(self.runtime().await.ok())).await?;
        served.ok_or_else(|| format!("the node does not serve: {}", self.programs.words("node")))?;
        Ok(process)
    }

    async fn runtime(&self) -> Result<cri::caller::Client> {
        Ok(cri::caller::Client::connect(&self.programs.path("run/cri.sock")).await?)
    }

    /// `sextant csi-driver`, which registers itself with the kubelet.
    pub(super) fn driver(&self) -> Result<Process> {
        if let Some(folder) = self.socket().parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut command = self.programs.sextant();
        command.args(["csi-driver", "--node-id", NODE, "--socket"]).arg(self.socket());
        command.arg("--pool").arg(format!("pool={}", self.pool().display()));
        command.arg("--registration-dir").arg(self.programs.path("kubelet/plugins_registry"));
        self.programs.start("driver", command)
    }

    /// `sextant control`, in place of every controller and of the scheduler.
    pub(super) fn control(&self) -> Result<Process> {
        let mut command = self.programs.sextant();
        command.args(["control", "--bind", "--workloads", "--kubeconfig"]).arg(self.kubeconfig());
        command.arg("--csi-socket").arg(self.socket());
        self.programs.start("control", command)
    }

    /// The kubelet.
    pub(super) fn kubelet(&self, server: &Server) -> Result<Process> {
        let config = self.programs.path("kubelet.yaml");
        std::fs::write(&config, self.configuration(server).to_string())?;
        let root = self.programs.path("kubelet");
        let mut command = Command::new(self.suite.join("kubelet"));
        command.arg("--config").arg(&config).arg("--kubeconfig").arg(self.kubeconfig());
        command.arg("--root-dir").arg(&root).arg("--cert-dir").arg(root.join("pki"));
        command.args(["--hostname-override", NODE, "--node-ip", ADDRESS, "--v=2"]);
        self.programs.start("kubelet", command)
    }

    /// On its machine a kubelet is usually alone: here it is to leave others' cgroups, images and rules of the firewall as they are.
    fn configuration(&self, server: &Server) -> serde_json::Value {
        let at = |name: &str| self.programs.path(name).display().to_string();
        json!({"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "address": "127.0.0.1", "readOnlyPort": 10255, "healthzPort": 0,
            "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": false},
                "x509": {"clientCAFile": server.authority.display().to_string()}},
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": format!("unix://{}", at("run/cri.sock")),
            "podLogsDir": at("logs"), "volumePluginDir": at("flex"),
            "cgroupsPerQOS": false, "enforceNodeAllocatable": [], "failCgroupV1": false, "failSwapOn": false,
            "makeIPTablesUtilChains": false, "imageGCHighThresholdPercent": 100, "resolvConf": "",
            "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
            "syncFrequency": "10s", "volumeStatsAggPeriod": "2s", "enableControllerAttachDetach": true})
    }

    /// Removes the pods that the runtime has, and says how many of them were not at their end: of others a kubelet leaves the sandbox
    /// until it collects what is over, each minute.
    pub(super) async fn remove_pods(&self) -> Result<usize> {
        let runtime = self.runtime().await?;
        let list = runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await?.items;
        for pod in &list {
            let id = pod.id.clone();
            runtime.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id.clone() }).await?;
            runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id }).await?;
        }
        Ok(list.iter().filter(|pod| pod.state() == PodSandboxState::SandboxReady).count())
    }

    /// What is mounted below the folder.
    pub(super) fn mounts(&self) -> Result<Vec<String>> {
        let dir = self.programs.path("").display().to_string();
        let mounts = std::fs::read_to_string("/proc/thread-self/mounts")?;
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        Ok(points.filter(|point| point.starts_with(&dir)).map(str::to_owned).collect())
    }

    /// Loop devices of the pool's images.
    pub(super) fn devices(&self) -> Result<Vec<String>> {
        let pool = self.pool().display().to_string();
        let mut found = Vec::new();
        for device in std::fs::read_dir("/sys/block")?.flatten() {
            let file = std::fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
            if file.starts_with(&pool) {
                found.push(format!("{} of {}", device.file_name().display(), file.trim_end()));
            }
        }
        Ok(found)
    }
}
