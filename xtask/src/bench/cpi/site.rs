//! An API server with an audit log, a provider, and the controllers between them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::super::Meter;
use super::super::api::client::Endpoint;
use super::super::api::side::{API, spawn, wait};
use super::audit::Audit;
use super::provider::Cloud;
use crate::Result;

/// Addresses of all pods: 1,024 nodes' worth of /24.
const PODS: &str = "10.64.0.0/14";
/// MiB, which no audit log of a round comes to.
const LOG: &str = "100000";

/// A site; its processes end with it.
pub(super) struct Site {
    pub(super) endpoint: Endpoint,
    pub(super) audit: Audit,
    pub(super) cloud: Cloud,
    program: PathBuf,
    control: Option<Ended>,
    _api: Ended,
    place: tempfile::TempDir,
}

struct Ended(Child);

impl Site {
    /// Without controllers.
    pub(super) async fn start(program: &Path, meter: &Meter) -> Result<Self> {
        let place = tempfile::Builder::new().prefix("sextant-bench-").tempdir_in("/var/tmp")?;
        let (log, audit) = (place.path().join("api.log"), place.path().join("audit.log"));
        let mut api = command(program, place.path());
        api.args(["api", "--listen", &API.to_string(), "--audit-log-size", LOG, "--audit-log"]).arg(&audit);
        let began = Instant::now();
        let api = Ended(spawn(meter, api, &log)?);
        let kubeconfig = place.path().join("data/api/kubeconfig");
        let endpoint = loop {
            if let Ok(endpoint) = Endpoint::of_kubeconfig(API, &kubeconfig) {
                break endpoint;
            }
            wait(began, &log).await?;
        };
        endpoint.until_ready("/readyz", began).await?;
        let cloud = Cloud::serve(place.path().join("cloud.sock"))?;
        let (program, audit) = (program.to_owned(), Audit::new(&audit));
        Ok(Self { endpoint, audit, cloud, program, control: None, _api: api, place })
    }

    /// Starts the controllers; those that ran are killed first.
    pub(super) fn control(&mut self, meter: &Meter) -> Result<()> {
        self.control = None;
        let place = self.place.path();
        let mut control = command(&self.program, place);
        let cloud = format!("unix://{}", place.join("cloud.sock").display());
        control.args([
            "control",
            "--cloud-provider",
            &cloud,
            "--cluster-cidr",
            PODS,
            "--allocate-node-cidrs",
        ]);
        control.arg("--kubeconfig").arg(place.join("data/api/kubeconfig"));
        self.control = Some(Ended(spawn(meter, control, &place.join("control.log"))?));
        Ok(())
    }

    /// KiB that the controllers have had resident at most.
    pub(super) fn peak(&self) -> Result<f64> {
        let control = self.control.as_ref().ok_or("no controllers run")?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", control.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// What the controllers have said at last, for errors.
    pub(super) fn words(&self) -> String {
        let log = std::fs::read_to_string(self.place.path().join("control.log")).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        last.join("; ")
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

fn command(program: &Path, place: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--data-dir").arg(place.join("data")).arg("--run-dir").arg(place.join("run"));
    command
}
