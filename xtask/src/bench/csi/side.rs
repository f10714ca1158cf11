//! The drivers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use csi::caller::Driver;
use rustix::process::{Pid, Signal, kill_process};

use super::super::Meter;
use super::super::ended::Ended;
use crate::Result;

/// A driver that is measured.
pub(super) enum Side {
    /// `sextant csi-driver`, and what classes say.
    Ours { program: PathBuf, backend: &'static str },
    /// The CSI project's host-path driver.
    HostPath(PathBuf),
}

const AGAIN: Duration = Duration::from_millis(5);
const START: Duration = Duration::from_secs(30);

impl Side {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Ours { backend, .. } => (*backend).to_owned(),
            Self::HostPath(_) => "host-path".to_owned(),
        }
    }

    pub(super) fn backend(&self) -> Option<&'static str> {
        match self {
            Self::Ours { backend, .. } => Some(backend),
            Self::HostPath(_) => None,
        }
    }

    /// Whether what is written to a volume goes through more than the disk's own file system.
    pub(super) fn is_written_through(&self) -> bool {
        matches!(self.backend(), Some("image" | "btrfs"))
    }

    /// Starts it with nothing in its store.
    pub(super) async fn start(&self, meter: &Meter, place: &Path) -> Result<Running> {
        let socket = place.join("csi.sock");
        let mut command = match self {
            Self::Ours { program, .. } => {
                let mut command = Command::new(program);
                command
                    .arg("--run-dir")
                    .arg(place.join("run"))
                    .arg("csi-driver")
                    .arg("--socket")
                    .arg(&socket);
                command.arg("--pool").arg(format!("pool={}", place.join("pool").display()));
                command.args(["--node-id", "node-1"]);
                command
            }
            Self::HostPath(program) => {
                let mut command = Command::new(program);
                command.arg(format!("--endpoint=unix://{}", socket.display()));
                command.arg(format!("--statedir={}", place.join("state").display()));
                command.args(["--drivername=hostpath.csi.k8s.io", "--nodeid=node-1"]);
                command
            }
        };
        let log = place.join("log");
        let file = std::fs::File::create(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let mut child = Ended(meter.spawn(&mut command)?);
        let began = Instant::now();
        let driver = loop {
            match Driver::connect(&socket).await {
                Ok(driver) => break driver,
                Err(error) if began.elapsed() > START || child.0.try_wait()?.is_some() => {
                    let said = std::fs::read_to_string(&log).unwrap_or_default();
                    let last = said.lines().last().unwrap_or_default().to_owned();
                    return Err(format!("it does not come up: {error}; it said last: {last}").into());
                }
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        };
        Ok(Running { driver, child })
    }
}

/// A driver that runs; killed when this is dropped.
pub(super) struct Running {
    pub(super) driver: Driver,
    child: Ended,
}

impl Running {
    /// KiB that it had resident at most.
    pub(super) fn peak(&self) -> Result<f64> {
        self.child.peak()
    }

    /// The name of the program that it is by now.
    pub(super) fn program(&self) -> Result<String> {
        let file = std::fs::read_link(format!("/proc/{}/exe", self.child.0.id()))?;
        Ok(file.file_name().unwrap_or_default().to_string_lossy().into_owned())
    }

    /// Tells it to end, and waits until it has.
    pub(super) async fn end(mut self) -> Result<()> {
        if let Some(pid) = Pid::from_raw(self.child.0.id().cast_signed()) {
            kill_process(pid, Signal::TERM)?;
        }
        let began = Instant::now();
        while self.child.0.try_wait()?.is_none() {
            if began.elapsed() > START {
                return Err("it does not end at SIGTERM".into());
            }
            tokio::time::sleep(AGAIN).await;
        }
        Ok(())
    }
}
