use std::process::Command;

use super::Site;
use crate::Result;
use crate::packages::architecture;
use crate::program::{quiet, target};

fn same(what: &str, found: &str, expected: &str) -> Result<()> {
    if found.trim_end() == expected {
        return Ok(());
    }
    Err(format!("{what}: expected {expected:?}, found {found:?}").into())
}

pub(super) fn built_and_run(site: &Site) -> Result<()> {
    let image = site.busybox()?;
    quiet(&mut site.sextant(["pull", &image]))?;
    let said = quiet(&mut site.sextant(["run", "--rm", &image, "echo", "hi"]))?;
    same("echo", &said, "hi")?;
    // And without the pull before.
    quiet(&mut site.sextant(["rmi", &image]))?;
    let said = quiet(&mut site.sextant(["run", "--rm", &image, "sh", "-c", "echo $((6 * 7))"]))?;
    same("sh", &said, "42")
}

pub(super) fn pushed_back(site: &Site) -> Result<()> {
    let (from, to) = (site.busybox()?, site.reference("mirrored"));
    quiet(&mut site.sextant(["pull", &from]))?;
    quiet(&mut site.sextant(["tag", &from, &to]))?;
    quiet(&mut site.sextant(["push", &to]))?;
    let remote = format!("docker://{to}");
    quiet(Command::new("skopeo").args(["inspect", "--tls-verify=false", &remote]))?;
    let copy = format!("oci:{}:mirrored", site.path("copied").display());
    quiet(Command::new("skopeo").args(["copy", "--quiet", "--src-tls-verify=false", &remote, &copy]))?;
    let mut podman = Command::new("podman");
    podman.args(["--storage-driver", "vfs", "--root"]).arg(site.path("podman"));
    podman.arg("--runroot").arg(site.path("podman-run"));
    quiet(podman.args(["pull", "--quiet", "--tls-verify=false", &to])).map(|_| ())
}

pub(super) fn layout_is_read(site: &Site) -> Result<()> {
    let image = site.busybox()?;
    quiet(&mut site.sextant(["pull", &image]))?;
    let archive = site.path("saved.tar");
    let to = archive.display().to_string();
    quiet(&mut site.sextant(["save", "--format", "oci", "-o", &to, &image]))?;
    let layout = site.path("saved");
    std::fs::create_dir_all(&layout)?;
    quiet(Command::new("tar").arg("-C").arg(&layout).arg("-xf").arg(&archive))?;
    let index: serde_json::Value = serde_json::from_slice(&std::fs::read(layout.join("index.json"))?)?;
    let name = index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"].as_str();
    let tag = name.ok_or("index.json gives the image no org.opencontainers.image.ref.name")?;
    let place = format!("{}:{tag}", layout.display());
    quiet(Command::new("skopeo").args(["inspect", &format!("oci:{place}")]))?;
    let bundle = site.path("bundle");
    quiet(Command::new("umoci").args(["unpack", "--image", &place]).arg(&bundle))?;
    if bundle.join("rootfs/bin/busybox").is_file() {
        Ok(())
    } else {
        Err("umoci unpacked no /bin/busybox".into())
    }
}

/// 300 MB and more of somebody else's files, links, owners and modes.
pub(super) fn debian(site: &Site) -> Result<()> {
    let cached = target().join("interop").join(format!("debian-{}", architecture()?));
    if !cached.join("usr/bin/apt").is_file() {
        let _ = std::fs::remove_dir_all(&cached);
        std::fs::create_dir_all(cached.parent().unwrap_or(&cached))?;
        quiet(Command::new("/usr/sbin/debootstrap").args(["--variant=minbase", "bookworm"]).arg(&cached))?;
    }
    let image = site.build(&cached, &["apt", "--version"], "debian")?;
    let said = quiet(&mut site.sextant(["run", "--rm", &image]))?;
    if said.starts_with("apt ") { Ok(()) } else { Err(format!("apt says {said:?}").into()) }
}
