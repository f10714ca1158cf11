//! `dist DIR`: everything as installed; `--tar FILE`: the same as one archive.

mod archive;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::Result;
use crate::program::{built, call, cargo_command, quiet, read, root, target};

/// Shells that completions are written for.
const SHELLS: &[(&str, &str)] = &[("bash", "sextant"), ("zsh", "_sextant"), ("fish", "sextant.fish")];

/// What builds the small CSI driver.
pub(crate) const SMALL_DRIVER: &[&str] = &["--profile", "shim", "--package", "csi", "--bin", "sextant-csi"];

/// Units of systemd.
const UNITS: &[(&str, &str)] = &[
    ("sextant-node.service", include_str!("sextant-node.service")),
    ("sextant-up.service", include_str!("sextant-up.service")),
];

/// Lays everything out as installed.
#[derive(Debug, Args)]
pub(crate) struct Dist {
    /// The directory, made if need be; what is in it is replaced [default, with --tar: target/dist]
    #[arg(required_unless_present = "tar")]
    dir: Option<PathBuf>,
    /// One archive of it for any Linux (.tar, .tar.gz, .tar.xz, .tar.zst); the same files make the same bytes
    #[arg(long, value_name = "FILE")]
    tar: Option<PathBuf>,
}

pub(crate) fn run(dist: &Dist) -> Result<()> {
    let dir = dist.dir.clone().unwrap_or_else(|| target().join("dist"));
    build()?;
    lay_out(&dir)?;
    println!("laid out in {}", dir.display());
    if let Some(file) = &dist.tar {
        archive::pack(&dir, &["bin", "cni", "completions", "man", "systemd"], file, archive::time()?)?;
        println!("packed into {}", file.display());
    }
    Ok(())
}

fn build() -> Result<()> {
    for what in [
        &["--release", "--package", "sextant"][..],
        &["--profile", "shim", "--package", "shim"],
        &["--profile", "shim", "--package", "cni", "--bin", "sextant-cni"],
        SMALL_DRIVER,
    ] {
        call(cargo_command().args(["build", "--locked"]).args(what).env("SEXTANT_COMMIT", commit()))?;
    }
    Ok(())
}

fn lay_out(dir: &Path) -> Result<()> {
    let sextant = lay_out_programs(&dir.join("bin"))?;
    lay_out_driver(&dir.join("bin"))?;
    let plugins = dir.join("cni");
    fresh(&plugins)?;
    link_plugins(&built("shim")?.join("sextant-cni"), &plugins)?;
    let systemd = dir.join("systemd");
    fresh(&systemd)?;
    for (name, text) in UNITS {
        std::fs::write(systemd.join(name), text)?;
    }
    let completions = dir.join("completions");
    fresh(&completions)?;
    for (shell, file) in SHELLS {
        let text = quiet(std::process::Command::new(&sextant).args(["completions", shell]))?;
        std::fs::write(completions.join(file), text)?;
    }
    let man = dir.join("man");
    fresh(&man)?;
    quiet(std::process::Command::new(&sextant).arg("man").arg(&man))?;
    Ok(())
}

/// Puts the programs that are built into `bin` as installed; where `sextant` is then.
pub(crate) fn lay_out_programs(bin: &Path) -> Result<PathBuf> {
    fresh(bin)?;
    let sextant = bin.join("sextant");
    std::fs::copy(built("release")?.join("sextant"), &sextant)?;
    // Not older than the program whose shim it is, or that would not take it for one of its own version.
    let shim = bin.join("sextant-shim");
    std::fs::copy(built("shim")?.join("sextant-shim"), &shim)?;
    // One file under three names.
    std::fs::hard_link(&shim, bin.join("sextant-oci"))?;
    std::fs::hard_link(&shim, bin.join("containerd-shim-sextant-v1"))?;
    Ok(sextant)
}

/// Puts the small CSI driver beside them, which [`SMALL_DRIVER`] has built: younger than `sextant`, as the shim.
pub(crate) fn lay_out_driver(bin: &Path) -> Result<()> {
    std::fs::copy(built("shim")?.join("sextant-csi"), bin.join("sextant-csi"))?;
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

/// Every CNI plugin, as links to a copy of the one program that has been built.
pub(crate) fn link_plugins(built: &Path, dir: &Path) -> Result<()> {
    let program = dir.join("sextant-cni");
    std::fs::copy(built, &program)?;
    quiet(std::process::Command::new(&program).arg("link").arg(dir))?;
    Ok(())
}

fn fresh(dir: &Path) -> Result<()> {
    let _ = std::fs::remove_dir_all(dir);
    Ok(std::fs::create_dir_all(dir)?)
}
