//! Directories that a layer's tar takes for granted get their attributes from the layers below.
//!
//! A layer with `tmp/x` and no entry for `tmp` has a directory `tmp` once it is unpacked, and overlayfs shows that one's
//! attributes: without this, a world-writable `/tmp` would become root's alone. Layers are unpacked side by side, so the
//! layers below are known only at the end.

use std::{
    ffi::CStr,
    fs::File,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{
        Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, fchmod, fchown, fstat,
        fsync, futimens, lgetxattr, llistxattr, lsetxattr, openat2,
    },
    io::Errno,
};

use crate::{
    contract::Digest,
    store::{At, Result, Store},
};

/// Settles every layer of an image that is not yet, lowest first.
pub(super) fn settle(store: &Store, diff_ids: &[Digest]) -> Result<()> {
    for (i, diff_id) in diff_ids.iter().enumerate() {
        let mut meta = store.layer_meta(diff_id)?;
        if meta.settled {
            continue;
        }
        let own = store.layer_path(diff_id)?;
        let mut below = Vec::new();
        for lower in diff_ids.get(..i).unwrap_or_default().iter().rev() {
            below.push(store.layer_path(lower)?);
        }
        for directory in &meta.implied {
            let model = below.iter().find_map(|lower| open(lower, directory));
            if let (Some(model), Some(own)) = (model, open(&own, directory)) {
                copy(&model, &own).at("set the attributes of", Path::new(directory))?;
            }
        }
        meta.settled = true;
        store.set_layer_meta(&meta)?;
    }
    Ok(())
}

/// The directory at that place in a layer, itself and not what a link leads to.
fn open(layer: &Path, directory: &str) -> Option<OwnedFd> {
    let root = File::open(layer).ok()?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(root.as_fd(), directory, flags, Mode::empty(), resolve).ok()
}

fn copy(model: &OwnedFd, own: &OwnedFd) -> Result<(), Errno> {
    let stat = fstat(model)?;
    fchown(own, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(own, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    copy_xattrs(model, own)?;
    futimens(own, &times(&stat))?;
    fsync(own)
}

fn times(stat: &Stat) -> Timestamps {
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.try_into().unwrap_or_default() };
    Timestamps { last_access: time, last_modification: time }
}

fn copy_xattrs(model: &OwnedFd, own: &OwnedFd) -> Result<(), Errno> {
    let path = |fd: &OwnedFd| format!("/proc/self/fd/{}/.", fd.as_raw_fd());
    let (from, to) = (path(model), path(own));
    let mut names = vec![0; 64 << 10];
    let length = llistxattr(from.as_str(), names.as_mut_slice())?;
    names.truncate(length);
    for name in names.split_inclusive(|&b| b == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        // Whether a layer hides what is below is its own affair.
        if name.to_bytes().starts_with(b"trusted.overlay.") {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let length = lgetxattr(from.as_str(), name, value.as_mut_slice())?;
        lsetxattr(to.as_str(), name, value.get(..length).unwrap_or_default(), XattrFlags::empty())?;
    }
    Ok(())
}
