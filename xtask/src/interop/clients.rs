//! Other people's client libraries against our API.

use std::process::Command;

use super::Site;
use super::kubectl::Server;
use crate::Result;
use crate::packages;
use crate::program::{quiet, target};

/// One version, so that a run says the same tomorrow.
const PYTHON: &str = "kubernetes==37.0.2";
const SCRIPT: &str = include_str!("clients.py");

/// PyPI's `kubernetes`: lists, watches, patches, its dynamic client and its leader election.
pub(super) fn python(site: &Site) -> Result<()> {
    let libraries = target().join("interop").join(PYTHON);
    if !libraries.is_dir() {
        packages::install(&["python3", "python3-pip"])?;
        let fetching = target().join("interop").join("python.fetching");
        let _ = std::fs::remove_dir_all(&fetching);
        let args =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--target"];
        let mut pip = Command::new("python3");
        quiet(pip.args(args).arg(&fetching).arg(PYTHON).env("PIP_ROOT_USER_ACTION", "ignore"))?;
        std::fs::rename(&fetching, &libraries)?;
    }
    let server = Server::start(site)?;
    let mut python = Command::new("timeout");
    python.args(["--kill-after", "5", "300", "python3", "-c", SCRIPT]).arg(server.kubeconfig());
    let said = quiet(python.env("PYTHONPATH", &libraries)).map_err(|e| format!("{e}\n{}", server.stop()))?;
    if said.trim_end().ends_with("parts went well") {
        Ok(())
    } else {
        Err(format!("it says {said:?}").into())
    }
}
