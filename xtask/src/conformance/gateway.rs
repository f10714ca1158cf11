//! Gateway API's standard channel: its definitions are installed, its examples taken, its invalid examples refused.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Conformance;
use crate::Result;
use crate::interop::{ApiServer, Kubectl, debian_kubectl};
use crate::program::{output, quiet};

const DEFINITIONS: &str = "config/crd/standard";
const VALID: &str = "examples/standard";
const INVALID: &str = "hack/invalid-examples/standard";

/// What an object that the server does not take is answered with; upstream's own test reads the same.
const REFUSALS: &[&str] = &["is invalid", "Invalid value", "Required value", "denied request"];

/// Leaves `results.txt` in `out`.
pub(super) fn run(args: &Conformance, sextant: &Path, out: &Path) -> Result<()> {
    let (server, kubectl) = (ApiServer::start_with(sextant)?, debian_kubectl()?);
    let asked = Asked { suite: std::path::absolute(&args.suite)?, server, kubectl };
    let mut results = String::new();
    for file in asked.files(DEFINITIONS)? {
        asked.judge(&mut results, &file, asked.run(&["create", "--validate=false", "-f", &file])?, true)?;
    }
    quiet(asked.command().args(["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]))?;
    // Namespaces and what else examples share: which file has them is not the matter here.
    asked.run(&["apply", "--validate=false", "--recursive", "-f", VALID])?;
    for file in asked.files(VALID)? {
        asked.judge(&mut results, &file, asked.run(&["apply", "--validate=false", "-f", &file])?, true)?;
    }
    for file in asked.files(INVALID)? {
        asked.judge(&mut results, &file, asked.run(&["apply", "--validate=false", "-f", &file])?, false)?;
    }
    Ok(std::fs::write(out.join("results.txt"), results)?)
}

/// A server that is asked about the suite's files, by Debian's kubectl; it is the server that judges.
struct Asked {
    suite: PathBuf,
    server: ApiServer,
    kubectl: Kubectl,
}

impl Asked {
    fn command(&self) -> Command {
        let mut command = self.server.asked_by(&self.kubectl);
        command.current_dir(&self.suite);
        command
    }

    /// Whether it went well, and what was said.
    fn run(&self, args: &[&str]) -> Result<(bool, String)> {
        let output = output(self.command().args(args))?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// The manifests below a folder, by name.
    fn files(&self, folder: &str) -> Result<Vec<String>> {
        let mut files = Vec::new();
        let mut folders = vec![PathBuf::from(folder)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(self.suite.join(&folder)).into_iter().flatten() {
                let entry = entry?;
                let path = folder.join(entry.file_name());
                if entry.file_type()?.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|kind| kind == "yaml")
                    && !path.ends_with("kustomization.yaml")
                {
                    files.push(path.display().to_string());
                }
            }
        }
        if files.is_empty() {
            let root = self.suite.join(folder);
            let cause = "docs/conformance/README.md says what lies where";
            return Err(format!("{} has no manifests: {cause}", root.display()).into());
        }
        files.sort();
        Ok(files)
    }

    fn judge(
        &self,
        results: &mut String,
        file: &str,
        (taken, said): (bool, String),
        valid: bool,
    ) -> Result<()> {
        let refused = !taken && REFUSALS.iter().any(|words| said.contains(words));
        let line = if valid && taken || !valid && refused {
            format!("{file} ok")
        } else {
            format!("{file} not ok {}", said.lines().next().unwrap_or("it was taken"))
        };
        Ok(writeln!(results, "{line}")?)
    }
}
