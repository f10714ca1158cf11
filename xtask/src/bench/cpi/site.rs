//! An API server with an audit log, a provider, and the controllers between them.

use std::path::{Path, PathBuf};

use super::super::Meter;
use super::super::api::client::Endpoint;
use super::super::api::side::{kubeconfig, serve, sextant, spawn};
use super::super::ended::Ended;
use super::super::meter::Beside;
use super::audit::Audit;
use super::provider::Cloud;
use crate::Result;

/// Addresses of all pods: 1,024 nodes' worth of /24.
const PODS: &str = "10.64.0.0/14";
/// MiB, which no audit log of a round comes to.
const LOG: &str = "100000";

/// A site; its processes end with it, in this order: a provider waits for who still asks it.
pub(super) struct Site {
    control: Option<Ended>,
    /// The provider, which is this process, has as much of the processors.
    beside: Option<Beside>,
    pub(super) cloud: Cloud,
    api: Ended,
    pub(super) endpoint: Endpoint,
    pub(super) audit: Audit,
    program: PathBuf,
    place: tempfile::TempDir,
}

impl Site {
    /// Without controllers.
    pub(super) async fn start(program: &Path, meter: &Meter) -> Result<Self> {
        let place = meter.folder()?;
        let audit = place.path().join("audit.log");
        let more = ["--audit-log-size".as_ref(), LOG.as_ref(), "--audit-log".as_ref(), audit.as_os_str()];
        let (api, endpoint, _) = serve(program, meter, place.path(), &more).await?;
        let cloud = Cloud::serve(place.path().join("cloud.sock"))?;
        let (program, audit) = (program.to_owned(), Audit::new(&audit));
        let beside = Some(meter.beside()?);
        Ok(Self { control: None, beside, cloud, api, endpoint, audit, program, place })
    }

    /// Starts the controllers; those that ran are killed first.
    pub(super) fn control(&mut self, meter: &Meter) -> Result<()> {
        // To start a program takes this process out: it is put back beside it then.
        (self.control, self.beside) = (None, None);
        let place = self.place.path();
        let mut control = sextant(&self.program, place);
        let cloud = format!("unix://{}", place.join("cloud.sock").display());
        control.args([
            "control",
            "--cloud-provider",
            &cloud,
            "--cluster-cidr",
            PODS,
            "--allocate-node-cidrs",
        ]);
        control.arg("--kubeconfig").arg(kubeconfig(place));
        self.control = Some(spawn(meter, control, &place.join("control.log"))?);
        self.beside = Some(meter.beside()?);
        Ok(())
    }

    /// KiB that the controllers have had resident at most.
    pub(super) fn peak(&self) -> Result<f64> {
        self.control.as_ref().ok_or("no controllers run")?.peak()
    }

    /// Whether its programs run: what has ended does nothing any more, and nobody need wait for it.
    pub(super) fn runs(&mut self) -> Result<()> {
        let api = self.api.0.try_wait()?;
        let control = self.control.as_mut().map(|control| control.0.try_wait()).transpose()?.flatten();
        for (name, ended) in [("the API server", api), ("sextant control", control)] {
            if let Some(status) = ended {
                let words = self.words();
                return Err(format!("{name} has ended ({status}); the controllers said last: {words}").into());
            }
        }
        Ok(())
    }

    /// What the controllers have said at last, for errors.
    pub(super) fn words(&self) -> String {
        let log = std::fs::read_to_string(self.place.path().join("control.log")).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        last.join("; ")
    }
}
