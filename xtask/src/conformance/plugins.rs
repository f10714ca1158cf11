//! The suites of the reference CNI plugins, against a directory of plugins.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Conformance;
use crate::Result;
use crate::packages;
use crate::program::{call, small_plugins};

/// Has the suites' own driver run them: it leaves `results.txt` in `out`.
pub(super) fn run(args: &Conformance, plugins: &Path, out: &Path) -> Result<()> {
    // What the tests look at their work with.
    packages::install(&["dnsmasq-base", "iptables", "iputils-ping"])?;
    let driver = std::path::absolute(&args.suite)?.join(if args.vm { "run-vm" } else { "run" });
    let suites = if args.items.is_empty() { "all".to_owned() } else { args.items.join(",") };
    // Where chains of iptables are looked for there are none: what counts is what comes through.
    let mut run = Command::new(driver);
    call(
        run.arg(suites)
            .arg(std::path::absolute(plugins)?)
            .arg(std::path::absolute(out)?)
            .arg("--traffic-only"),
    )
}

/// The small build under the names of all its plugins.
pub(super) fn ours(out: &Path) -> Result<PathBuf> {
    let program = small_plugins()?;
    let plugins = out.join("cni-bin");
    let _ = std::fs::remove_dir_all(&plugins);
    std::fs::create_dir_all(&plugins)?;
    crate::dist::link_plugins(&program, &plugins)?;
    Ok(plugins)
}
