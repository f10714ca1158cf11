//! Other people's client libraries against our API.

use std::process::Command;

use super::kubectl::Server;
use super::{Site, python_library};
use crate::Result;
use crate::program::quiet;

/// One version, so that a run says the same tomorrow.
const PYTHON: &str = "kubernetes==37.0.2";
const SCRIPT: &str = include_str!("clients.py");

/// PyPI's `kubernetes`: lists, watches, patches, its dynamic client and its leader election.
pub(super) fn python(site: &Site) -> Result<()> {
    let libraries = python_library(PYTHON)?;
    let server = Server::start(site)?;
    let mut python = Command::new("timeout");
    python.args(["--kill-after", "5", "900", "python3", "-c", SCRIPT]).arg(server.kubeconfig());
    let said = quiet(python.env("PYTHONPATH", &libraries)).map_err(|e| format!("{e}\n{}", server.stop()))?;
    if said.trim_end().ends_with("parts went well") {
        Ok(())
    } else {
        Err(format!("it says {said:?}").into())
    }
}
