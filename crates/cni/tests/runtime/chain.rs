//! A network whose plugins are programs, and containers on it.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cni::plugin::program;
use serde_json::{Value, json};

use crate::rig::{self, Netns};

/// The built program under the name of every plugin, as `sextant-cni link DIR` leaves it. That program writes the files: one
/// that this process had open for writing could not be executed while another thread forks.
pub(crate) fn link_plugins(dir: &Path) -> PathBuf {
    let bin = dir.join("bin");
    let linked = Command::new(env!("CARGO_BIN_EXE_sextant-cni")).arg("link").arg(&bin).status().unwrap();
    assert!(linked.success());
    let inodes: BTreeSet<u64> =
        program::names().iter().map(|name| std::fs::metadata(bin.join(name)).unwrap().ino()).collect();
    assert_eq!(inodes.len(), 1, "not one program under all names");
    bin
}

/// Which plugins of `wanted` there are.
fn present(wanted: &[Value]) -> Vec<Value> {
    let there = |conf: &&Value| program::is_plugin(conf["type"].as_str().unwrap());
    wanted.iter().filter(there).cloned().collect()
}

/// bridge with host-local and masquerade, portmap, firewall; everything below `dir`.
pub(crate) fn confs(dir: &Path) -> Vec<Value> {
    let ipam = json!({
        "type": "host-local", "dataDir": dir.join("leases"), "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
        "ranges": [[{ "subnet": "10.71.0.0/24" }], [{ "subnet": "fd71::/112" }]],
    });
    present(&[
        json!({
            "type": "bridge", "bridge": "br71", "isGateway": true, "ipMasq": true, "hairpinMode": true,
            "ipam": ipam,
        }),
        json!({ "type": "portmap" }),
        json!({ "type": "firewall" }),
    ])
}

/// A chain of plugins.
pub(crate) struct Chain {
    pub(crate) bin: PathBuf,
    dir: PathBuf,
    pub(crate) confs: Vec<Value>,
}

/// A container of a runtime's.
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) netns: PathBuf,
    pub(crate) port: u16,
}

impl Container {
    pub(crate) fn new(id: impl Into<String>, netns: &Netns, port: u16) -> Self {
        Self { id: id.into(), netns: netns.path(), port }
    }
}

/// Links, addresses, routes and rules as their tools print them; leases.
pub(crate) type Seen = (String, BTreeSet<PathBuf>);

/// What came of calls that may have been killed.
pub(crate) enum Ended {
    /// With the last plugin's answer.
    Whole(Value),
    Killed,
}

impl Chain {
    /// bridge with host-local and masquerade, portmap, firewall; everything below `dir`.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { bin: link_plugins(dir), dir: dir.to_owned(), confs: confs(dir) }
    }
    fn spawn(&self, verb: &str, conf: &Value, container: &Container, previous: Option<&Value>) -> Child {
        let mut conf = conf.clone();
        conf["cniVersion"] = json!("1.0.0");
        conf["name"] = json!("chain");
        if conf["type"] == "portmap" {
            let mapping =
                |protocol| json!({ "hostPort": container.port, "containerPort": 80, "protocol": protocol });
            conf["runtimeConfig"] = json!({ "portMappings": [mapping("tcp"), mapping("udp")] });
        }
        if let Some(previous) = previous {
            conf["prevResult"] = previous.clone();
        }
        let mut child = Command::new(self.bin.join(conf["type"].as_str().unwrap()))
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &container.id)
            .env("CNI_NETNS", &container.netns)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", &self.bin)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Who is killed reads nothing.
        let _ = child.stdin.take().unwrap().write_all(conf.to_string().as_bytes());
        child
    }

    /// Calls the plugins of `confs` in turn until `deadline`: whoever runs then is killed.
    fn calls(
        &self,
        verb: &str,
        container: &Container,
        given: Option<&Value>,
        deadline: Option<Instant>,
    ) -> Result<Ended, String> {
        let forward = verb == "ADD";
        let mut confs: Vec<_> = self.confs.iter().collect();
        if !forward {
            confs.reverse();
        }
        let mut previous = given.cloned();
        for conf in confs {
            let mut child = self.spawn(verb, conf, container, previous.as_ref());
            let killed = deadline.is_some_and(|deadline| kill_at(&mut child, deadline));
            let output = child.wait_with_output().unwrap();
            if killed && output.status.code().is_none() {
                return Ok(Ended::Killed);
            }
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            if !output.status.success() {
                return Err(format!("{verb} of {} for {}: {said}", conf["type"], container.id));
            }
            if forward {
                previous = Some(serde_json::from_str(&said).unwrap());
            }
        }
        Ok(Ended::Whole(previous.unwrap_or_default()))
    }

    pub(crate) fn add(&self, container: &Container) -> Result<Value, String> {
        match self.calls("ADD", container, None, None)? {
            Ended::Whole(result) => Ok(result),
            Ended::Killed => Err("killed by somebody else".into()),
        }
    }

    pub(crate) fn del(&self, container: &Container, result: Option<&Value>) -> Result<(), String> {
        self.calls("DEL", container, result, None).map(drop)
    }

    pub(crate) fn killed_add(&self, container: &Container, after: Duration) -> Ended {
        self.calls("ADD", container, None, Some(Instant::now() + after)).unwrap()
    }

    pub(crate) fn killed_del(&self, container: &Container, result: &Value, after: Duration) -> Ended {
        self.calls("DEL", container, Some(result), Some(Instant::now() + after)).unwrap()
    }

    /// Links, addresses, routes, rules, and the files of leases: what belongs to containers.
    pub(crate) fn look(&self) -> Seen {
        (rig::snapshot(), leases(&self.dir))
    }
}

/// Every file below the directory of leases. The lock and the last address given stay, and an index is no lease.
pub(crate) fn leases(dir: &Path) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    let mut dirs = vec![dir.join("leases")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap();
            match entry.file_type().unwrap().is_dir() {
                true if name == ".index" => {}
                true => dirs.push(entry.path()),
                false if name == "lock" || name.starts_with("last_reserved_ip.") => {}
                false => drop(files.insert(entry.path())),
            }
        }
    }
    files
}

/// Nothing has changed; a panic shows what has, not the whole machine.
pub(crate) fn assert_same(before: &Seen, after: &Seen, when: impl std::fmt::Display) {
    let parts = |seen: &Seen| -> BTreeSet<String> {
        seen.0
            .split(['{', '\n'])
            .map(str::to_owned)
            .chain(seen.1.iter().map(|p| p.display().to_string()))
            .collect()
    };
    let (was, is) = (parts(before), parts(after));
    let gone: Vec<_> = was.difference(&is).collect();
    let new: Vec<_> = is.difference(&was).collect();
    assert!(gone.is_empty() && new.is_empty() && before == after, "{when}: gone {gone:#?}, new {new:#?}");
}

/// Kills a child that is still there at `deadline`.
fn kill_at(child: &mut Child, deadline: Instant) -> bool {
    loop {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            child.kill().unwrap();
            return true;
        }
        std::thread::sleep(left.min(Duration::from_micros(200)));
    }
}

/// The addresses of a result.
pub(crate) fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().unwrap();
    ips.iter().map(|ip| ip["address"].as_str().unwrap().to_owned()).collect()
}
