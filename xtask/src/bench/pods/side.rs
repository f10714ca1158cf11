//! Two runtimes of a node, each with directories of its own, started anew for each round.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::Meter;
use crate::Result;
use crate::bench::meter::Beside;
use crate::interop::Site;
use crate::program::quiet;

/// Where Debian has the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";
/// The bridges of ours and of the peer's pods, which outlive them.
const BRIDGES: [&str; 2] = ["ours0", "peer0"];

/// A runtime of a node.
pub(super) struct Side {
    /// For the table.
    pub(super) name: String,
    command: Vec<String>,
    pub(super) socket: PathBuf,
    /// Links that were there before any pod.
    stay: Vec<String>,
    /// Where network namespaces are pinned.
    netns: PathBuf,
    log: PathBuf,
}

impl Side {
    /// `sextant node` of `bin`, as `dist` lays it out.
    pub(super) fn ours(site: &Site, bin: &Path) -> Result<Self> {
        let (conf, run) = (site.path("ours-net"), Path::new("/run/sextant-bench"));
        network(&conf, BRIDGES[0], "10.91.0.0/16", &site.path("ours-leases"))?;
        let config = site.path("node.toml");
        std::fs::write(&config, format!("[network]\nconf_dir = '{}'\n", conf.display()))?;
        let text = |path: &Path| path.display().to_string();
        let command = vec![
            text(&bin.join("sextant")),
            "--data-dir".into(),
            text(&site.data_dir()),
            "--run-dir".into(),
            text(run),
            "node".into(),
            "--config".into(),
            text(&config),
        ];
        Ok(Self {
            name: "sextant".into(),
            command,
            socket: run.join("cri.sock"),
            stay: links()?,
            netns: run.join("netns"),
            log: site.path("ours.log"),
        })
    }

    /// Debian's containerd and runc, with the reference plugins; `pause` is the image that its pods begin with.
    pub(super) fn peer(site: &Site, pause: &str) -> Result<Self> {
        let conf = site.path("peer-net");
        network(&conf, BRIDGES[1], "10.92.0.0/16", &site.path("peer-leases"))?;
        let config = site.path("containerd.toml");
        let (root, state) = (site.path("containerd"), "/run/containerd-bench");
        let text = format!(
            "version = 2\nroot = '{}'\nstate = '{state}/state'\n\
             [grpc]\naddress = '{state}/sock'\n[ttrpc]\naddress = '{state}/ttrpc'\n\
             [plugins.'io.containerd.internal.v1.opt']\npath = '{}/opt'\n\
             [plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = '{pause}'\nrestrict_oom_score_adj = true\n\
             disable_apparmor = true\ndisable_hugetlb_controller = true\ntolerate_missing_hugetlb_controller = true\n\
             [plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir = '{REFERENCE}'\nconf_dir = '{}'\n\
             [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n",
            root.display(),
            root.display(),
            conf.display(),
        );
        std::fs::write(&config, text)?;
        let version = quiet(Command::new("containerd").arg("--version"))?;
        let version = version.split_whitespace().nth(2).unwrap_or_default();
        Ok(Self {
            name: format!("containerd {}", version.split('~').next().unwrap_or_default()),
            command: vec!["containerd".into(), "--config".into(), config.display().to_string()],
            socket: PathBuf::from(state).join("sock"),
            stay: links()?,
            netns: "/run/netns".into(),
            log: site.path("peer.log"),
        })
    }

    /// Starts it in the meter's cgroup.
    pub(super) fn start(&self, meter: &Meter) -> Result<Daemon> {
        let log = std::fs::File::options().append(true).create(true).open(&self.log)?;
        let [program, arguments @ ..] = self.command.as_slice() else { return Err("no command".into()) };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = meter.spawn(&mut command)?;
        Ok(Daemon { child, _beside: meter.beside()? })
    }

    /// The last that it said.
    pub(super) fn words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last: Vec<&str> = text.lines().rev().take(15).collect();
        last.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Waits until no pod has left a network namespace, a link or a cgroup.
    pub(super) fn settle(&self, meter: &Meter) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let (links, pinned) = (links()?, entries(&self.netns));
            let others: Vec<_> = links
                .iter()
                .filter(|link| !self.stay.contains(link) && !BRIDGES.contains(&link.as_str()))
                .collect();
            let cgroups = meter.below();
            if others.is_empty() && pinned.is_empty() && cgroups.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                let left = format!("links {others:?}, namespaces {pinned:?}, cgroups {cgroups:?}");
                return Err(format!("{} left behind for 30 s: {left}", self.name).into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// bridge with host-local, portmap: what a pod is attached to.
fn network(conf: &Path, bridge: &str, subnet: &str, leases: &Path) -> Result<()> {
    std::fs::create_dir_all(conf)?;
    let ipam = json!({
        "type": "host-local", "dataDir": leases, "ranges": [[{ "subnet": subnet }]],
        "routes": [{ "dst": "0.0.0.0/0" }],
    });
    let plugins = json!([
        { "type": "bridge", "bridge": bridge, "isGateway": true, "ipMasq": true, "hairpinMode": true, "ipam": ipam },
        { "type": "portmap", "capabilities": { "portMappings": true } },
    ]);
    let list = json!({ "cniVersion": "1.0.0", "name": bridge, "plugins": plugins });
    Ok(std::fs::write(conf.join("10-pods.conflist"), list.to_string())?)
}

/// The links of this network namespace; `/sys/class/net` would be those of the namespace that sysfs was mounted in.
fn links() -> Result<Vec<String>> {
    let table = std::fs::read_to_string("/proc/self/net/dev")?;
    let names = table.lines().filter_map(|line| line.split_once(':'));
    Ok(names.map(|(name, _)| name.trim().to_owned()).collect())
}

fn entries(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// One that runs, with this process beside it.
pub(super) struct Daemon {
    child: Child,
    _beside: Beside,
}

impl Daemon {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to end, and waits.
    pub(super) fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("it has no pid")?;
        kill_process(pid, Signal::TERM)?;
        let end = Instant::now() + Duration::from_secs(20);
        while self.child.try_wait()?.is_none() {
            if Instant::now() > end {
                return Err("the daemon did not end within 20 s of SIGTERM".into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
