//! A machine within the machine: network, mounts and processes of its own, so that what an engine makes of networks is
//! seen whole, and ends with this.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Site;
use crate::Result;
use crate::program::quiet;

/// Where engines and plugins keep what they know; empty here.
const EMPTY: &[&str] = &["/run", "/var/lib/cni", "/etc/cni", "/dev/shm"];

/// See above.
pub(super) struct Host {
    child: Child,
    /// The first process inside.
    init: String,
    /// Our plugins, as a runtime finds them.
    pub(super) plugins: PathBuf,
}

impl Host {
    /// The site keeps the plugins.
    pub(super) fn start(site: &Site) -> Result<Self> {
        let plugins = site.path("cni-bin");
        if !plugins.is_dir() {
            let program = site.plugins()?;
            std::fs::create_dir(&plugins)?;
            crate::dist::link_plugins(&program, &plugins)?;
        }
        for dir in EMPTY {
            std::fs::create_dir_all(dir)?;
        }
        let script = format!(
            "exec 2>&1; set -e; for dir in {}; do mount -t tmpfs tmpfs $dir; done\nmkdir -p /run/netns /run/lock /etc/cni/net.d\n\
             ip link set lo up\necho up\nexec sleep infinity",
            EMPTY.join(" ")
        );
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]);
        unshare.arg(script).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        kernel::command::dies_with_thread(&mut unshare);
        let mut child = unshare.spawn().map_err(|e| format!("cannot run unshare: {e}"))?;
        let mut said = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut said)?;
        }
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let init = std::fs::read_to_string(children).unwrap_or_default().trim().to_owned();
        let host = Self { child, init, plugins };
        if said.trim() == "up" {
            return Ok(host);
        }
        Err(format!("the host's namespaces did not come up: {}", said.trim()).into())
    }

    /// A command on this host.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init, "--net", "--mount", "--pid", "--"]).arg(program);
        command
    }

    /// Writes a network's configuration where engines look for it.
    pub(super) fn configure(&self, file: &str, list: &serde_json::Value) -> Result<()> {
        // The way into the mount namespace.
        let path = format!("/proc/{}/root/etc/cni/net.d/{file}", self.init);
        Ok(std::fs::write(path, list.to_string())?)
    }

    /// Its network, as a file.
    pub(super) fn network(&self) -> String {
        format!("/proc/{}/ns/net", self.init)
    }

    /// What a server on this host says; it has three minutes to come up.
    pub(super) fn ask(&self, at: &str) -> Result<String> {
        let end = Instant::now() + Duration::from_secs(180);
        loop {
            let args = ["3", "busybox", "wget", "-q", "-O", "-", at];
            match quiet(self.command("timeout").args(args)) {
                Err(e) if Instant::now() > end => return Err(e),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
                said => return said,
            }
        }
    }

    /// Links, rules, leases, results and namespaces: what a container that is gone must not have left.
    pub(super) fn networks(&self) -> Result<Networks> {
        let links = quiet(self.command("ip").args(["-o", "link"]))?;
        let name = |line: &str| line.split(": ").nth(1).map(str::to_owned);
        let mut files = Vec::new();
        for dir in ["/var/lib/cni", "/run/cni", "/run/netns"] {
            let found = self.command("find").args([dir, "-type", "f"]).stderr(Stdio::null()).output()?;
            files.extend(String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned));
        }
        // What is locked, where the next search begins and host-local's index stay.
        let stays = |file: &String| {
            let name = file.rsplit('/').next().unwrap_or_default();
            name.starts_with("last_reserved_ip") || name.contains("lock") || file.contains("/.index/")
        };
        files.retain(|file| !stays(file));
        files.sort();
        Ok(Networks {
            links: links.lines().filter_map(name).collect(),
            rules: quiet(self.command("nft").args(["--stateless", "list", "ruleset"]))?,
            files,
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // With the first process go all others inside, and with them the namespaces: before `unshare` ends.
        match self.init.parse().ok().and_then(Pid::from_raw) {
            Some(init) => drop(kill_process(init, Signal::KILL)),
            None => drop(self.child.kill()),
        }
        let _ = self.child.wait();
    }
}

/// A look at the networks of a host.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Networks {
    pub(super) links: Vec<String>,
    pub(super) rules: String,
    pub(super) files: Vec<String>,
}

impl Networks {
    /// Nothing of any container is here: a bridge may stay, and what belongs to the network.
    pub(super) fn nobody(&self, bridge: &str) -> Result<()> {
        let links: Vec<_> =
            self.links.iter().filter(|link| !["lo", bridge].contains(&link.as_str())).collect();
        match (links.is_empty(), self.files.is_empty()) {
            (true, true) => Ok(()),
            _ => Err(format!("left behind: links {links:?}, files {:?}", self.files).into()),
        }
    }

    /// A container has come and gone since `before`.
    pub(super) fn same_as(&self, before: &Self) -> Result<()> {
        if self == before {
            return Ok(());
        }
        Err(format!("not as it was before: {before:#?} is now {self:#?}").into())
    }
}
