//! Who uses a shared effect: its folder has a file `users`, and each user's folder has a second name of that file,
//! `uses-NAME`. So the file's link count tells how many there are, a user whose folder is gone is none, and neither joining
//! nor leaving costs more with the thousandth user than with the first.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, RawDir};
use rustix::io::Errno;

use crate::Error;

const USERS: &str = "users";
const PREFIX: &str = "uses-";

fn file(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// A folder of an owner, or of a shared effect that uses another: open, and as errors name it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User<'a> {
    pub(crate) dir: &'a OwnedFd,
    pub(crate) path: &'a Path,
}

/// How many use the shared effect whose folder is `dir`.
pub(crate) fn count(dir: impl AsFd, folder: &Path) -> Result<u64, Error> {
    counted(rustix::fs::statat(dir, USERS, AtFlags::SYMLINK_NOFOLLOW), folder)
}

/// [`count`] by the folder's path.
pub(crate) fn count_at(folder: &Path) -> Result<u64, Error> {
    counted(rustix::fs::lstat(folder.join(USERS)), folder)
}

fn counted(stat: rustix::io::Result<rustix::fs::Stat>, folder: &Path) -> Result<u64, Error> {
    match stat {
        #[allow(clippy::useless_conversion, reason = "st_nlink has 32 bits on some architectures")]
        Ok(file) => Ok(u64::from(file.st_nlink).saturating_sub(1)),
        Err(Errno::NOENT) => Ok(0),
        Err(e) => Err(Error::access("stat", folder.join(USERS), e)),
    }
}

/// Whether the owner of the folder `user` uses the shared effect `name`, whose folder is `dir`.
pub(crate) fn is_user(dir: &OwnedFd, user: User<'_>, name: &str) -> Result<bool, Error> {
    let file = file(name);
    let theirs = match rustix::fs::statat(user.dir, &file, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(theirs) => theirs,
        Err(Errno::NOENT) => return Ok(false),
        Err(e) => return Err(Error::access("stat", user.path.join(file), e)),
    };
    match rustix::fs::statat(dir, USERS, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(users) => Ok((users.st_dev, users.st_ino) == (theirs.st_dev, theirs.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(e) => Err(Error::access("stat", user.path.join(file), e)),
    }
}

/// Whether the folder `user` has the file that makes its owner a user of the shared effect `name`.
pub(crate) fn has_name(user: User<'_>, name: &str) -> bool {
    let found = rustix::fs::statat(user.dir, file(name), AtFlags::SYMLINK_NOFOLLOW);
    !matches!(found, Err(Errno::NOENT))
}

/// Makes the owner of the folder `user` a user of the shared effect `name`, whose folder is `dir`.
pub(crate) fn enter(dir: &OwnedFd, user: User<'_>, name: &str) -> Result<(), Error> {
    let file = file(name);
    loop {
        match rustix::fs::linkat(dir, USERS, user.dir, &file, AtFlags::empty()) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) if is_user(dir, user, name)? => return Ok(()),
            // Of a shared effect that had the name before.
            Err(Errno::EXIST) => leave(user, name)?,
            Err(e) => return Err(Error::access("link", user.path.join(file), e)),
        }
    }
}

/// Makes the owner of the folder `user` no user of the shared effect `name`. One that is none counts as done.
pub(crate) fn leave(user: User<'_>, name: &str) -> Result<(), Error> {
    remove(user.dir, &file(name), user.path)
}

/// Begins the count, with nobody.
pub(crate) fn begin(dir: &OwnedFd, folder: &Path) -> Result<(), Error> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, USERS, flags, Mode::RUSR | Mode::WUSR) {
        Ok(_) => Ok(()),
        Err(e) => Err(Error::access("create", folder.join(USERS), e)),
    }
}

/// Ends the count: whoever was a user is none.
pub(crate) fn end(dir: &OwnedFd, folder: &Path) -> Result<(), Error> {
    remove(dir, USERS, folder)
}

/// The files in an owner's folder that make it a user of something.
pub(crate) fn names(dir: &OwnedFd, path: &Path) -> Result<Vec<String>, Error> {
    let failed = |e| Error::access("list", path, e);
    let again =
        rustix::fs::openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let again = again.map_err(failed)?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(&again, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(failed)?;
        names.extend(
            entry.file_name().to_str().ok().filter(|name| name.starts_with(PREFIX)).map(str::to_owned),
        );
    }
    Ok(names)
}

fn remove(dir: &OwnedFd, name: &str, folder: &Path) -> Result<(), Error> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(Error::access("remove", folder.join(name), e)),
    }
}
