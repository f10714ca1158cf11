//! The least that a volume in an image asks for: what the kernel and mkfs need, and what makes it durable.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use kernel::loopdev::{self, Options};
use kernel::{mount, reflink};

use super::load::{DATA, SIZE};
use super::table::Rounds;
use crate::Result;
use crate::program::quiet;

const TIMES: usize = 20;
/// The options that the driver has for an ext4 of this size (`csi::plugin`, `backend/filesystem/program.rs`): with mkfs' own the floor
/// would be higher, and what is above it too little.
const MKFS: [&str; 14] = [
    "-q",
    "-F",
    "-b",
    "4096",
    "-I",
    "256",
    "-i",
    "16384",
    "-m",
    "0",
    "-J",
    "size=4",
    "-E",
    "nodiscard,assume_storage_prezeroed=1",
];
const TAG: &str = "sextant-bench-floor";
/// What a driver must remember of a volume.
pub(super) const RECORD: usize = 300;

/// A round of a floor on a disk: volumes live one after the other, each as `one` has it in a directory with the places `stage` and
/// `target`.
pub(super) fn round(
    disk: &Path,
    rounds: &mut Rounds,
    one: impl Fn(&Path, &mut Rounds) -> Result<()>,
) -> Result<()> {
    let place = tempfile::Builder::new().prefix("floor-").tempdir_in(disk)?;
    let dir = place.path();
    for path in ["stage", "target"] {
        fs::create_dir(dir.join(path))?;
    }
    for _ in 0..TIMES {
        let outcome = one(dir, rounds);
        // What a failure leaves would keep the disk.
        for path in ["target", "stage"] {
            let _ = rustix::mount::unmount(dir.join(path), rustix::mount::UnmountFlags::DETACH);
        }
        outcome?;
    }
    Ok(())
}

pub(super) fn timed<T>(
    rounds: &mut Rounds,
    call: &'static str,
    what: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let began = Instant::now();
    let outcome = what().map_err(|e| format!("{call}: {e}"))?;
    rounds.add(call, began.elapsed().as_secs_f64() * 1e3);
    Ok(outcome)
}

/// A volume in an image.
pub(super) fn image(dir: &Path, rounds: &mut Rounds) -> Result<()> {
    let (image, cut, clone) = (dir.join("image"), dir.join("cut"), dir.join("clone"));
    let (stage, target) = (dir.join("stage"), dir.join("target"));
    timed(rounds, "CreateVolume", || {
        let file = File::create(&image)?;
        file.set_len(SIZE + (SIZE >> 3))?;
        quiet(Command::new("/usr/sbin/mkfs.ext4").args(MKFS).arg(&image))?;
        file.sync_all()?;
        record(dir, "volume")
    })?;
    let device = timed(rounds, "NodeStageVolume", || {
        let backing = File::options().read(true).write(true).open(&image)?;
        let options = Options { autoclear: true, direct_io: true, ..Options::default() };
        let (path, device) = loopdev::attach(&backing, TAG, options)?;
        let source = CString::new(path.as_os_str().as_bytes())?;
        let made = mount::filesystem(c"ext4", Some(&source), [], 0)?;
        mount::attach(made, File::open(&stage)?)?;
        Ok(device)
    })?;
    timed(rounds, "NodePublishVolume", || {
        let tree = mount::clone_tree(File::open(&stage)?, c"", false)?;
        Ok(mount::attach(tree, File::open(&target)?)?)
    })?;
    let mut data = File::create(target.join("data"))?;
    data.write_all(&vec![7; DATA])?;
    data.sync_all()?;
    drop(data);
    timed(rounds, "NodeGetVolumeStats", || Ok(rustix::fs::statvfs(&target)?))?;
    let copy = |from: &Path, to: &Path, name| {
        let new = File::create(to)?;
        reflink::clone_file(&new, File::open(from)?)?;
        new.sync_all()?;
        record(dir, name)
    };
    timed(rounds, "CreateSnapshot", || {
        rustix::fs::syncfs(File::open(&stage)?)?;
        copy(&image, &cut, "snapshot")
    })?;
    timed(rounds, "NodeUnpublishVolume", || Ok(mount::detach(&target)?))?;
    timed(rounds, "NodeUnstageVolume", || {
        rustix::mount::unmount(&stage, rustix::mount::UnmountFlags::empty())?;
        drop(device);
        Ok(())
    })?;
    timed(rounds, "CreateVolume, of a volume", || copy(&image, &clone, "clone"))?;
    fs::remove_file(&clone)?;
    timed(rounds, "CreateVolume, of a snapshot", || copy(&cut, &clone, "clone"))?;
    for (call, file, name) in [("DeleteSnapshot", &cut, "snapshot"), ("DeleteVolume", &image, "volume")] {
        timed(rounds, call, || {
            fs::remove_file(dir.join(name))?;
            File::open(dir)?.sync_all()?;
            Ok(fs::remove_file(file)?)
        })?;
    }
    Ok(())
}

/// What is remembered, durable before it has its name.
fn record(dir: &Path, name: &str) -> Result<()> {
    let new = dir.join("new");
    let mut file = File::create(&new)?;
    file.write_all(&[b'x'; RECORD])?;
    file.sync_all()?;
    fs::rename(&new, dir.join(name))?;
    Ok(File::open(dir)?.sync_all()?)
}
