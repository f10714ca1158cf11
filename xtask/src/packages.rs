//! Debian packages, installed only where they are missing.

use std::process::Command;

use crate::Result;
use crate::program::{call, output, quiet};

/// What the rings beyond the first need: neighbours to talk to, a machine in a machine.
pub(crate) const NEEDED: &[&str] = &[
    "apparmor",
    "btrfs-progs",
    "buildah",
    "busybox-static",
    "containerd",
    "containernetworking-plugins",
    "cpio",
    "crun",
    "curl",
    "dbus",
    "debootstrap",
    "dnsmasq-base",
    "docker-registry",
    "e2fsprogs",
    "g++",
    "iproute2",
    "iptables",
    "nftables",
    "podman",
    "prometheus",
    "qemu-system-x86",
    "runc",
    "skopeo",
    "tzdata",
    "umoci",
    "xfsprogs",
    "xz-utils",
    "zstd",
];

/// Installs what is missing of `packages`, as root.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        return Err(
            format!("only root can install packages; run: apt-get install {}", missing.join(" ")).into()
        );
    }
    println!("installing {}", missing.join(" "));
    // Lists may be missing or old; a mirror may be busy for a moment.
    let updated = apt().arg("update").status().is_ok_and(|status| status.success());
    if !updated {
        std::thread::sleep(std::time::Duration::from_secs(5));
        call(apt().arg("update"))?;
    }
    call(apt().args(["install", "-y", "--no-install-recommends"]).args(&missing))
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.args(["-q", "-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=120"]);
    // A package whose service starts at once would be one more neighbour than asked for.
    apt.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    apt
}

fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    if output(Command::new("dpkg-query").arg("--version")).is_err() {
        return Err(
            "this is no Debian machine: dpkg-query is missing; the rings need Debian's packages".into()
        );
    }
    let list = output(
        Command::new("dpkg-query").args(["-W", "-f", "${Package} ${db:Status-Status}\n"]).args(packages),
    )?;
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let installed = |package: &str| list.lines().any(|line| line == format!("{package} installed"));
    Ok(packages.iter().copied().filter(|package| !installed(package)).collect())
}

/// The machine's package architecture.
pub(crate) fn architecture() -> Result<String> {
    Ok(quiet(Command::new("dpkg").arg("--print-architecture"))?.trim().to_owned())
}
