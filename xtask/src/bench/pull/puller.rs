//! The three that pull: ours, containerd, podman. Each round has a store of its own.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Yard, memory};
use crate::Result;
use crate::bench::Meter;
use crate::bench::meter::Memory;
use crate::program::{built, quiet, shown};

/// Who pulls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Puller {
    Sextant,
    Containerd,
    Podman,
}

/// What one pull cost.
#[derive(Debug)]
pub(super) struct Cost {
    /// Seconds, of the command.
    pub(super) wall: f64,
    /// Seconds, of the command, what it forked and the daemon, without the daemon's start.
    pub(super) cpu: f64,
    pub(super) memory: Memory,
    /// Names in the unpacked layers.
    pub(super) entries: u64,
    /// What ours reports of its stages.
    pub(super) report: Option<Value>,
}

impl Puller {
    pub(super) const ALL: [Self; 3] = [Self::Sextant, Self::Containerd, Self::Podman];

    /// For the table.
    pub(super) fn name(self) -> Result<String> {
        let of = |program| -> Result<String> { quiet(Command::new(program).arg("--version")) };
        Ok(match self {
            Self::Sextant => "sextant".to_owned(),
            Self::Containerd => {
                let said = of("containerd")?;
                let version = said.split_whitespace().nth(2).unwrap_or("?");
                format!("containerd {}", version.split('~').next().unwrap_or(version))
            }
            Self::Podman => of("podman")?.trim().replace(" version", ""),
        })
    }

    /// Pulls into a store that did not exist.
    pub(super) fn pull(self, yard: &Yard, reference: &str) -> Result<Cost> {
        let dir = yard.fresh()?;
        // Nobody writes back what another has written.
        rustix::fs::sync();
        memory::touch()?;
        let meter = Meter::new()?;
        let (mut daemon, mut command, layers) = match self {
            Self::Sextant => (None, sextant(yard, &dir, reference)?, dir.join("data/images/layers")),
            Self::Containerd => {
                let (daemon, command) = containerd(&meter, yard, &dir, reference)?;
                (Some(daemon), command, dir.join("root/io.containerd.snapshotter.v1.overlayfs/snapshots"))
            }
            Self::Podman => (None, podman(yard, &dir, reference), dir.join("root/overlay")),
        };
        let watch = meter.watch();
        let (before, began) = (meter.cpu()?, Instant::now());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = meter.spawn(&mut command).and_then(|child| Ok(child.wait_with_output()?));
        let wall = began.elapsed().as_secs_f64();
        let cpu = meter.cpu()?.saturating_sub(before).as_secs_f64();
        let memory = watch.stop();
        if let Some(daemon) = &mut daemon {
            daemon.stop()?;
        }
        let output = output?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            let last: String = words.chars().rev().take(2000).collect::<Vec<_>>().into_iter().rev().collect();
            return Err(format!("{} failed: {}\n{last}", shown(&command), output.status).into());
        }
        let report = (self == Self::Sextant).then(|| serde_json::from_slice(&output.stdout)).transpose()?;
        Ok(Cost { wall, cpu, memory, entries: self.entries(&layers)?, report })
    }

    /// Names in the layers; the layers' own roots left out.
    fn entries(self, layers: &Path) -> Result<u64> {
        let (places, root) = match self {
            Self::Sextant => (layers.join("sha256"), "fs"),
            Self::Containerd => (layers.to_owned(), "fs"),
            Self::Podman => (layers.to_owned(), "diff"),
        };
        let listed = fs::read_dir(&places).map_err(|e| format!("cannot list {}: {e}", places.display()))?;
        let mut sum = 0;
        for layer in listed {
            let root = layer?.path().join(root);
            if root.is_dir() {
                sum += count(&root)?;
            }
        }
        Ok(sum)
    }
}

fn count(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        sum += 1;
        if entry.file_type()?.is_dir() {
            sum += count(&entry.path())?;
        }
    }
    Ok(sum)
}

fn sextant(yard: &Yard, dir: &Path, reference: &str) -> Result<Command> {
    let mut command = Command::new(built("release")?.join("sextant"));
    command.arg("--data-dir").arg(dir.join("data")).arg("--run-dir").arg(yard.short());
    command.args(["pull", "--plain-http", "-o", "json", reference]);
    Ok(command)
}

fn podman(yard: &Yard, dir: &Path, reference: &str) -> Command {
    let mut command = Command::new("podman");
    command.args(["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--root"]);
    command.arg(dir.join("root")).arg("--runroot").arg(yard.short());
    command.args(["pull", "--quiet", "--tls-verify=false", reference]);
    command
}

/// A daemon of its own in the metered cgroup, ready, and the client's command. Of its plugins only those are left out
/// that a pull does not need.
fn containerd(meter: &Meter, yard: &Yard, dir: &Path, reference: &str) -> Result<(Daemon, Command)> {
    let (config, socket) = (dir.join("config.toml"), yard.short().join("containerd.sock"));
    fs::create_dir_all(yard.short())?;
    let text = format!(
        "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {socket:?}\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\npath = {:?}\n",
        dir.join("opt")
    );
    fs::write(&config, text)?;
    let log = fs::File::create(dir.join("containerd.log"))?;
    let mut command = Command::new("containerd");
    command.arg("--config").arg(&config).arg("--root").arg(dir.join("root"));
    command.arg("--state").arg(yard.short().join("state")).arg("--address").arg(&socket);
    // As on a machine without pigz, which containerd does not ask for.
    command.env("CONTAINERD_DISABLE_PIGZ", "1");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let daemon = Daemon(meter.spawn(&mut command)?);
    let client = || {
        let mut client = Command::new("ctr");
        client.arg("--address").arg(&socket).args(["--namespace", "bench"]);
        client
    };
    let end = Instant::now() + Duration::from_secs(20);
    while !client().arg("version").output()?.status.success() {
        if Instant::now() > end {
            let log = fs::read_to_string(dir.join("containerd.log")).unwrap_or_default();
            return Err(format!("containerd does not answer\n{log}").into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut pull = client();
    pull.args(["images", "pull", "--plain-http", reference]);
    Ok((daemon, pull))
}

/// Ended when this is dropped.
struct Daemon(Child);

impl Daemon {
    fn stop(&mut self) -> Result<()> {
        let ended = self.0.try_wait()?;
        if let Some(status) = ended {
            return Err(format!("containerd ended: {status}").into());
        }
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
