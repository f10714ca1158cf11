//! `dist DIR`: everything as installed. What has no code yet (units) is not there.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::Result;
use crate::program::{built, call, cargo_command, quiet, read, root};

/// Shells that completions are written for.
const SHELLS: &[(&str, &str)] = &[("bash", "sextant"), ("zsh", "_sextant"), ("fish", "sextant.fish")];

/// Lays everything out as installed.
#[derive(Debug, Args)]
pub(crate) struct Dist {
    /// The directory, made if need be; what is in it is replaced
    dir: PathBuf,
}

pub(crate) fn run(dist: &Dist) -> Result<()> {
    for what in [
        &["--release", "--package", "sextant"][..],
        &["--profile", "shim", "--package", "shim"],
        &["--profile", "shim", "--package", "cni", "--bin", "sextant-cni"],
    ] {
        call(cargo_command().args(["build", "--locked"]).args(what).env("SEXTANT_COMMIT", commit()))?;
    }
    let bin = dist.dir.join("bin");
    fresh(&bin)?;
    let sextant = bin.join("sextant");
    std::fs::copy(built("release")?.join("sextant"), &sextant)?;
    let shim = bin.join("sextant-shim");
    std::fs::copy(built("shim")?.join("sextant-shim"), &shim)?;
    // One file under three names.
    std::fs::hard_link(&shim, bin.join("sextant-oci"))?;
    std::fs::hard_link(&shim, bin.join("containerd-shim-sextant-v1"))?;
    let plugins = dist.dir.join("cni");
    fresh(&plugins)?;
    link_plugins(&plugins)?;
    let completions = dist.dir.join("completions");
    fresh(&completions)?;
    for (shell, file) in SHELLS {
        let text = quiet(std::process::Command::new(&sextant).args(["completions", shell]))?;
        std::fs::write(completions.join(file), text)?;
    }
    let man = dist.dir.join("man");
    fresh(&man)?;
    quiet(std::process::Command::new(&sextant).arg("man").arg(&man))?;
    println!("laid out in {}", dist.dir.display());
    Ok(())
}

/// What is built, for `sextant-oci --version`.
fn commit() -> String {
    let tree = root();
    let words = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"].map(OsStr::new);
    let described = read("git", [OsStr::new("-C"), tree.as_os_str()].into_iter().chain(words));
    // An unpacked archive has no history.
    described.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// Every CNI plugin, as links to the one program that has been built.
pub(crate) fn link_plugins(dir: &Path) -> Result<()> {
    let program = dir.join("sextant-cni");
    std::fs::copy(built("shim")?.join("sextant-cni"), &program)?;
    quiet(std::process::Command::new(&program).arg("link").arg(dir))?;
    Ok(())
}

fn fresh(dir: &Path) -> Result<()> {
    let _ = std::fs::remove_dir_all(dir);
    Ok(std::fs::create_dir_all(dir)?)
}
