//! Images that dm-crypt encrypts: their file systems are on a device over the loop device.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use grpc::Failure;

use super::{IMAGE, devices, open_image};
use crate::plugin::backend::crypt::Crypt;
use crate::plugin::backend::encryption::Encryption;
use crate::plugin::backend::filesystem::root;
use crate::plugin::backend::{Mounting, Secrets, failed};
use crate::plugin::pool::record::Volume;

/// The devices of a place: those of its image, for another pool may be a copy of this one, with the same names.
pub(super) fn of(place: &Path) -> Crypt {
    let (device, inode) = fs::metadata(place.join(IMAGE)).map_or((0, 0), |image| (image.dev(), image.ino()));
    Crypt(format!("{}-{device:x}-{inode:x}", devices::tag(place)))
}

/// Has the devices see that the image is larger.
pub(super) fn widen(place: &Path, volume: &Volume, bytes: u64) -> Result<(), Failure> {
    if Encryption::of(volume) == Encryption::DmCrypt { of(place).widen(bytes) } else { Ok(()) }
}

/// Attaches the image: the loop device's number and bytes. It goes with what is over it.
fn attach(place: &Path) -> Result<(String, u64, File), Failure> {
    devices::idle(place)?;
    // Writable even for a mount that is not: a journal may have to be replayed.
    let image = open_image(place, true)?;
    let bytes = image.metadata().map_err(|e| failed("look at", place, &e))?.len();
    let (path, device) = devices::attach_for_mount(&image, place)?;
    let number = root::number(&path).ok_or_else(|| failed("look at", &path, &"it is gone"))?;
    Ok((format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number)), bytes, device))
}

/// Opens a block device, which stays until it is closed.
pub(super) fn unlock(place: &Path, volume: &Volume, secrets: &Secrets) -> Result<(), Failure> {
    of(place).unlock(place, volume, secrets, || attach(place))
}

/// Mounts what is in the image. All devices go with the mount, also where that fails.
pub(super) fn mount(place: &Path, volume: &Volume, how: &Mounting<'_>) -> Result<OwnedFd, Failure> {
    let (number, bytes, _device) = attach(place)?;
    of(place).mount(place, volume, how, &number, bytes)
}
