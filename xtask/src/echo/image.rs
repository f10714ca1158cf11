//! The image.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{CLIENT, SERVER};
use crate::Result;
use crate::bench::CLIENTS;
use crate::interop::Site;
use crate::program::{built, cargo, quiet};

/// Builds this program and packs it, as `reference`, into an archive in the site.
pub(crate) fn image(site: &Site, reference: &str) -> Result<PathBuf> {
    cargo(["build", "--quiet", "--profile", CLIENTS, "--locked", "--package", "xtask"])?;
    let root = site.path("echo-root");
    let programs = root.join("bin");
    std::fs::create_dir_all(&programs)?;
    let program = built(CLIENTS)?.join("xtask");
    quiet(Command::new("strip").arg("-o").arg(programs.join(SERVER)).arg(program))?;
    std::os::unix::fs::symlink(SERVER, programs.join(CLIENT))?;
    let archive = site.path("echo.tar");
    pack(site, &root, reference, &archive)?;
    Ok(archive)
}

fn pack(site: &Site, root: &Path, reference: &str, archive: &Path) -> Result<()> {
    let container = quiet(site.buildah().args(["from", "scratch"]))?;
    let container = container.trim();
    quiet(site.buildah().args(["copy", "--quiet", container]).arg(root).arg("/"))?;
    let server = format!("[\"/bin/{SERVER}\"]");
    quiet(site.buildah().args(["config", "--env", "PATH=/bin", "--entrypoint", &server, container]))?;
    let to = format!("docker-archive:{}:{reference}", archive.display());
    quiet(site.buildah().args(["commit", "--quiet", "--rm", container, &to])).map(drop)
}
