//! `dist DIR`: everything as installed. What has no code yet (the containerd shim, units) is not there.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::Result;
use crate::program::{built, cargo, quiet};

/// Shells that completions are written for.
const SHELLS: &[(&str, &str)] = &[("bash", "sextant"), ("zsh", "_sextant"), ("fish", "sextant.fish")];

/// Lays everything out as installed.
#[derive(Debug, Args)]
pub(crate) struct Dist {
    /// The directory, made if need be; what is in it is replaced
    dir: PathBuf,
}

pub(crate) fn run(dist: &Dist) -> Result<()> {
    cargo(["build", "--release", "--locked", "--package", "sextant"])?;
    cargo(["build", "--profile", "shim", "--locked", "--package", "shim"])?;
    cargo(["build", "--profile", "shim", "--locked", "--package", "cni", "--bin", "sextant-cni"])?;
    let bin = dist.dir.join("bin");
    fresh(&bin)?;
    let sextant = bin.join("sextant");
    std::fs::copy(built("release")?.join("sextant"), &sextant)?;
    let shim = bin.join("sextant-shim");
    std::fs::copy(built("shim")?.join("sextant-shim"), &shim)?;
    // One file under two names.
    std::fs::hard_link(&shim, bin.join("sextant-oci"))?;
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
