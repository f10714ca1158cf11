//! `dist DIR`: everything as installed.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::Result;
use crate::program::{built, cargo, quiet, root};

/// Names under which the small build is called by other programs.
const SHIM_NAMES: &[&str] = &["sextant-oci", "containerd-shim-sextant-v1"];
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
    let (bin, cni) = (dist.dir.join("bin"), dist.dir.join("cni"));
    fresh(&bin)?;
    let sextant = bin.join("sextant");
    std::fs::copy(built("release")?.join("sextant"), &sextant)?;
    std::fs::copy(built("shim")?.join("sextant-shim"), bin.join("sextant-shim"))?;
    for name in SHIM_NAMES {
        symlink("sextant-shim", bin.join(name))?;
    }
    fresh(&cni)?;
    // The program itself knows which plugins are built in.
    for plugin in quiet(std::process::Command::new(&sextant).args(["cni", "plugins"]))?.split_whitespace() {
        symlink("../bin/sextant", cni.join(plugin))?;
    }
    units(&dist.dir.join("systemd"))?;
    let completions = dist.dir.join("completions");
    fresh(&completions)?;
    for (shell, file) in SHELLS {
        let text = quiet(std::process::Command::new(&sextant).args(["completion", shell]))?;
        std::fs::write(completions.join(file), text)?;
    }
    let man = dist.dir.join("man");
    fresh(&man)?;
    quiet(std::process::Command::new(&sextant).arg("man").arg(&man))?;
    println!("laid out in {}", dist.dir.display());
    Ok(())
}

/// The units under version control, if there are any yet.
fn units(to: &Path) -> Result<()> {
    fresh(to)?;
    let from = root().join("systemd");
    if from.is_dir() {
        for unit in std::fs::read_dir(from)? {
            let unit = unit?;
            std::fs::copy(unit.path(), to.join(unit.file_name()))?;
        }
    }
    Ok(())
}

fn fresh(dir: &Path) -> Result<()> {
    let _ = std::fs::remove_dir_all(dir);
    Ok(std::fs::create_dir_all(dir)?)
}
