//! A whole Debian with systemd as PID 1, on a disk: for what an initramfs cannot show.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Kernel;
use crate::program::{find, make_dir, run};
use crate::{Error, Result};

/// What the system has besides what debootstrap's smallest variant brings.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,udev,kmod,iproute2,nftables,\
     apparmor,procps,ca-certificates,busybox-static,python3,\
     btrfs-progs,xfsprogs";
const SUITE: &str = "bookworm";
/// Raised when this file makes another system than before.
const VERSION: u32 = 5;
const SIZE_MIB: u64 = 2048;

/// The system's disk in `cache`, made if it is not there yet (a minute or two). Guests get it as a
/// [`super::Disk::Scratch`], so it stays as it was made.
///
/// It runs `/tests/run` from the disk labelled `tests` (see [`tests_disk`]) once it is up, says how that ended, and
/// powers off.
pub fn disk(cache: &Path, kernel: &Kernel) -> Result<PathBuf> {
    let image = cache.join(format!("{SUITE}-{VERSION}-{}.ext4", kernel.version));
    if image.is_file() {
        return Ok(image);
    }
    make_dir(cache)?;
    let root = cache.join("debootstrap");
    let _ = std::fs::remove_dir_all(&root);
    let include = format!("--include={PACKAGES}");
    run(Command::new(find("debootstrap")?).args(["--variant=minbase", &include, SUITE]).arg(&root))?;
    furnish(&root, kernel)?;
    let unfinished = image.with_extension("unfinished");
    write_image(&root, &unfinished, SIZE_MIB, "root")?;
    std::fs::rename(&unfinished, &image).map_err(|e| Error::access("rename", &unfinished, e))?;
    std::fs::remove_dir_all(&root).map_err(|e| Error::access("remove", &root, e))?;
    Ok(image)
}

/// A disk labelled `tests` that holds the files of `from` and of the directories below, among them the script `run`.
pub fn tests_disk(from: &Path, image: &Path) -> Result<()> {
    write_image(from, image, size(from)? / (1 << 20) * 5 / 4 + 32, "tests")
}

/// The bytes in all files below.
fn size(dir: &Path) -> Result<u64> {
    super::kernel::list(dir)?.iter().try_fold(0, |sum, path| {
        let meta = path.symlink_metadata().map_err(|e| Error::access("look at", path, e))?;
        Ok(sum + if meta.is_dir() { size(path)? } else { meta.len() })
    })
}

fn furnish(root: &Path, kernel: &Kernel) -> Result<()> {
    let modules = root.join("lib/modules").join(&kernel.version);
    make_dir(&modules)?;
    let from = kernel.modules.parent().unwrap_or(&kernel.modules);
    run(Command::new("cp").arg("-a").arg(from.join(".")).arg(&modules))?;
    run(Command::new("chroot").arg(root).args(["depmod", &kernel.version]))?;
    write(&root.join("etc/hostname"), "sextant-vm\n")?;
    write(&root.join("etc/fstab"), "LABEL=tests /tests ext4 ro 0 0\ntmpfs /tmp tmpfs mode=1777 0 0\n")?;
    make_dir(&root.join("tests"))?;
    write(&root.join("etc/systemd/system/sextant-tests.service"), UNIT)?;
    let wants = root.join("etc/systemd/system/multi-user.target.wants");
    make_dir(&wants)?;
    let link = wants.join("sextant-tests.service");
    std::os::unix::fs::symlink("../sextant-tests.service", &link)
        .map_err(|e| Error::access("create", link, e))?;
    // Nothing to log in to, nothing that wakes up by itself.
    for unit in ["getty.target", "serial-getty@ttyS0.service", "apt-daily.timer", "apt-daily-upgrade.timer"] {
        let mask = root.join("etc/systemd/system").join(unit);
        let _ = std::fs::remove_file(&mask);
        std::os::unix::fs::symlink("/dev/null", &mask).map_err(|e| Error::access("create", mask, e))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|e| Error::access("write", path, e))
}

fn write_image(from: &Path, image: &Path, size_mib: u64, label: &str) -> Result<()> {
    let size = format!("{size_mib}M");
    let _ = std::fs::remove_file(image);
    run(Command::new("/sbin/mkfs.ext4")
        .args(["-q", "-F", "-L", label, "-d"])
        .arg(from)
        .arg(image)
        .arg(size))?;
    Ok(())
}

/// `Type=idle`: after everything else, so that `systemctl is-system-running` can be asked with `--wait`.
const UNIT: &str = r#"[Unit]
Description=Tests of Sextant
RequiresMountsFor=/tests
After=multi-user.target

[Service]
Type=idle
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
Delegate=yes
ExecStart=/bin/sh -c 'echo "sextant-vm: up after $(cut -d" " -f1 /proc/uptime) s"; sh /tests/run; echo "sextant-vm: status $?"; sync; systemctl poweroff --force --force'
"#;
