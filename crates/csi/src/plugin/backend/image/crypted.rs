//! Images that dm-crypt encrypts: their file systems are on a device over the loop device, and are made when the key is here
//! for the first time.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use grpc::Failure;

use super::encryption::{self, Encryption, Key};
use super::{Kind, devices, failed, filesystem, open_image, program, root};
use crate::plugin::backend::crypt::{Crypt, Lock};
use crate::plugin::backend::{Mounting, Secrets};
use crate::plugin::pool::record::Volume;

/// The devices of a place.
pub(super) fn of(place: &Path) -> Crypt {
    Crypt(devices::tag(place))
}

/// The volume's key and its lock; no lock where nothing was ever written to it.
fn key(place: &Path, volume: &Volume, secrets: &Secrets) -> Result<(Key, Option<Lock>), Failure> {
    let key = encryption::key(&volume.id, secrets)?;
    let lock = Lock::find(place)?;
    if let Some(lock) = &lock {
        lock.is_for(&volume.id, &key)?;
    }
    Ok((key, lock))
}

/// Has the devices see that the image is larger.
pub(super) fn widen(place: &Path, volume: &Volume, bytes: u64) -> Result<(), Failure> {
    if Encryption::of(volume) == Encryption::DmCrypt { of(place).widen(bytes) } else { Ok(()) }
}

/// Opens a block device, which stays until it is closed. One that is open is not opened again, but its key is looked at.
pub(super) fn unlock(place: &Path, volume: &Volume, secrets: &Secrets) -> Result<(), Failure> {
    let (key, lock) = key(place, volume, secrets)?;
    let crypt = of(place);
    if crypt.device(&volume.id, false).is_ok() {
        return Ok(());
    }
    // What a killed driver left half made, and what goes with its last user.
    crypt.close()?;
    devices::idle(place)?;
    let lock = match lock {
        Some(lock) => lock,
        None => {
            let lock = Lock::new(&key)?;
            lock.write(place)?;
            lock
        }
    };
    let image = open_image(place, true)?;
    let bytes = image.metadata().map_err(|e| failed("look at", place, &e))?.len();
    // The loop device goes with the one that is over it.
    let (path, _device) = devices::attach_for_mount(&image, place)?;
    crypt.open(&key, &lock, &number(&path)?, bytes).map(drop)
}

/// Has what was written to an open block device be in the image.
pub(super) fn sync(place: &Path) -> Result<(), Failure> {
    for (_, info) in of(place).devices()? {
        let path = info.path();
        let synced = File::open(&path).and_then(|device| device.sync_all());
        synced.map_err(|e| failed("sync", &path, &e))?;
    }
    Ok(())
}

fn number(path: &Path) -> Result<String, Failure> {
    let number = root::number(path).ok_or_else(|| failed("look at", path, &"it is gone"))?;
    Ok(format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number)))
}

/// Opens the image and mounts what is in it. All devices go with the mount, also where that fails.
pub(super) fn mount(place: &Path, volume: &Volume, how: &Mounting<'_>) -> Result<OwnedFd, Failure> {
    let (key, lock) = key(place, volume, how.secrets)?;
    if lock.is_none() && how.read_only {
        return Err(Failure::precondition(format!(
            "cannot mount volume {} read-only: nothing was ever written; mount it for writing first",
            volume.id
        )));
    }
    let crypt = of(place);
    devices::idle(place)?;
    // Writable even for a mount that is not: a journal may have to be replayed.
    let image = open_image(place, true)?;
    let bytes = image.metadata().map_err(|e| failed("look at", place, &e))?.len();
    let (path, _device) = devices::attach_for_mount(&image, place)?;
    let is_new = lock.is_none();
    let lock = lock.map_or_else(|| Lock::new(&key), Ok)?;
    let open = crypt.open(&key, &lock, &number(&path)?, bytes)?.path();
    drop(key);
    let mounted = || {
        let kind = Kind::in_volume(volume)?;
        if is_new {
            program::make(kind, &open, volume.capacity, Encryption::DmCrypt)?;
            File::open(&open).and_then(|device| device.sync_all()).map_err(|e| failed("sync", &open, &e))?;
            // From now on there is a file system that the key is for. Who is killed before makes another.
            lock.write(place)?;
        }
        filesystem::mount_whole(volume, kind, &open, bytes, how)
    };
    // From now on they go with the mount.
    match (mounted(), crypt.close()) {
        (Ok(mount), closed) => closed.map(|()| mount),
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(after)) => Err(error.and(&after)),
    }
}
