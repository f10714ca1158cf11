//! Other people's engines with our CNI plugins: a container's published port answers, and nothing of it stays.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::host::Host;
use super::{Site, ignored};
use crate::Result;
use crate::packages;
use crate::program::quiet;

/// Asks for pods as a kubelet does.
const POD: &str = include_str!("pod.py");
/// What is served: a file of the image.
const PAGE: &str = "/page";
const WORDS: &str = "served from inside";
const PORT: &str = "18080";

/// An image whose first process serves [`PAGE`] on port 80.
fn server(site: &Site) -> Result<String> {
    site.busybox()?;
    let root = site.path("busybox-root");
    std::fs::write(root.join("page"), WORDS)?;
    site.build(&root, &["httpd", "-f", "-p", "80", "-h", "/"], "server")
        .map(|image| format!("{image}:latest"))
}

/// The same as a file, for engines that do not reach the registry from where they are.
pub(super) fn archive(site: &Site, image: &str) -> Result<PathBuf> {
    let archive = site.path("image.tar");
    let _ = std::fs::remove_file(&archive);
    let to = format!("oci-archive:{}:{image}", archive.display());
    let from = format!("docker://{image}");
    quiet(Command::new("skopeo").args(["copy", "--quiet", "--src-tls-verify=false", &from, &to]))?;
    Ok(archive)
}

fn answers(host: &Host) -> Result<()> {
    let said = host.ask(&format!("http://127.0.0.1:{PORT}{PAGE}"))?;
    if said.trim() == WORDS { Ok(()) } else { Err(format!("the published port says {said:?}").into()) }
}

/// What a network has is made with its first container: `come_and_go` is done twice, and the second time leaves no trace.
fn leaves_nothing(host: &Host, bridge: &str, come_and_go: impl Fn() -> Result<()>) -> Result<()> {
    come_and_go()?;
    let before = host.networks()?;
    before.nobody(bridge)?;
    if !before.rules.contains("table inet sextant") {
        return Err("there is no table of ours: other plugins were called".into());
    }
    come_and_go()?;
    host.networks()?.same_as(&before)
}

/// podman's own configuration of its default network: bridge, host-local, portmap, firewall, tuning.
pub(super) fn podman(site: &Site) -> Result<()> {
    let image = server(site)?;
    let runtime = site.runtime()?;
    let host = Host::start(site)?;
    let conf = site.path("containers.conf");
    let text = format!(
        "[network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [\"{}\"]\nnetwork_config_dir = \"/etc/cni/net.d\"\n",
        host.plugins.display()
    );
    std::fs::write(&conf, text)?;
    let with = |mut podman: Command| {
        podman.args(["--storage-driver", "vfs", "--root"]).arg(site.path("podman"));
        podman.arg("--runroot").arg(site.path("podman-run"));
        podman.args(["--cgroup-manager", "cgroupfs", "--runtime"]).arg(&runtime);
        podman.env("CONTAINERS_CONF", &conf);
        podman
    };
    // The registry is on the loopback of the machine itself.
    quiet(with(Command::new("podman")).args(["pull", "--quiet", "--tls-verify=false", &image]))?;
    let podman = || with(host.command("podman"));
    let publish = format!("{PORT}:80");
    leaves_nothing(&host, "cni-podman0", || {
        quiet(podman().args(["run", "-d", "--name", "web", "-p", &publish, &image]))?;
        let inside = ["exec", "web", "wget", "-q", "-O", "-", "http://127.0.0.1/page"];
        let served = answers(&host).and_then(|()| quiet(podman().args(inside)));
        let removed = quiet(podman().args(["rm", "--force", "--time", "0", "web"]));
        served?;
        removed.map(|_| ())
    })
}

/// containerd's CRI plugin: a pod with a port of the host's.
pub(super) fn containerd(site: &Site) -> Result<()> {
    packages::install(&["python3-grpcio"])?;
    let image = server(site)?;
    let archive = archive(site, &image)?;
    let _cgroups = Cgroups;
    let host = Host::start(site)?;
    let ipam = json!({ "type": "host-local", "ranges": [[{ "subnet": "10.77.0.0/24" }], [{ "subnet": "fd77::/64" }]] });
    host.configure(
        "10-pods.conflist",
        &json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": [
            { "type": "bridge", "bridge": "pods0", "isDefaultGateway": true, "ipMasq": true, "ipam": ipam },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ]}),
    )?;
    let daemon = Daemon::start(&site.path("cri"), &host, &image)?;
    quiet(daemon.ctr(&host).args(["images", "import"]).arg(&archive))?;
    let pod = |words: &[&str]| {
        quiet(host.command("/usr/bin/python3").args(["-c", POD, &daemon.socket()]).args(words))
    };
    leaves_nothing(&host, "pods0", || {
        let said = pod(&["run", "web", PORT, "80"])?;
        let (id, address) = said.trim().split_once(' ').ok_or("pod.py names no pod")?;
        let served = answers(&host).and_then(|()| host.ask(&format!("http://{address}{PAGE}")));
        let removed = pod(&["stop", id]);
        served?;
        removed.map(|_| ())
    })
}

/// Each key of each plugin beside the reference's (crates/cni/tests/matrix).
pub(super) fn beside_the_reference(_: &Site) -> Result<()> {
    packages::install(&["containernetworking-plugins", "iptables"])?;
    ignored("matrix", &["each_key_of_each_plugin", "--nocapture"], &[])
}

/// The pods' parent in every hierarchy, as pod.py names it; gone with this.
struct Cgroups;

impl Drop for Cgroups {
    fn drop(&mut self) {
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
        for parent in hierarchies.chain([root.to_owned()]) {
            let _ = std::fs::remove_dir(parent.join("sextant-interop"));
        }
    }
}

/// A containerd on a host.
pub(super) struct Daemon {
    dir: PathBuf,
    child: Child,
}

impl Daemon {
    /// All of it is in `dir`; `pause` is the image of the process that a pod begins with.
    pub(super) fn start(dir: &Path, host: &Host, pause: &str) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let config = dir.join("config.toml");
        let text = format!(
            "version = 2\nroot = '{0}/root'\nstate = '{0}/state'\n[grpc]\naddress = '{0}/sock'\n\
             [plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = '{pause}'\nrestrict_oom_score_adj = true\n\
             disable_apparmor = true\n\
             [plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir = '{1}'\nconf_dir = '/etc/cni/net.d'\n",
            dir.display(),
            host.plugins.display()
        );
        std::fs::write(&config, text)?;
        let log = std::fs::File::create(dir.join("log"))?;
        let mut command = host.command("containerd");
        command.arg("--config").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().map_err(|e| format!("cannot run containerd: {e}"))?;
        let daemon = Self { dir: dir.to_owned(), child };
        let end = Instant::now() + Duration::from_secs(180);
        while quiet(host.command("ctr").args(["--address", &daemon.socket(), "version"])).is_err() {
            if Instant::now() > end {
                return Err("containerd does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(daemon)
    }

    pub(super) fn socket(&self) -> String {
        self.dir.join("sock").display().to_string()
    }

    /// Its own client, in the namespace of Kubernetes.
    pub(super) fn ctr(&self, host: &Host) -> Command {
        let mut ctr = host.command("ctr");
        ctr.args(["--address", &self.socket(), "--namespace", "k8s.io"]);
        ctr
    }

    /// What it has said.
    pub(super) fn words(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
