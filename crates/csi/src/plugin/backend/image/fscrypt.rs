//! Images of which fscrypt encrypts a directory: that of the volume's data, in an ext4. A file system has the key as long as it is
//! mounted.

use std::os::fd::OwnedFd;

use grpc::Failure;
use kernel::fscrypt;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::plugin::backend::Secrets;
use crate::plugin::backend::encryption::{self, KEY};
use crate::plugin::backend::filesystem::below;

/// The directory that is encrypted.
const DATA: &std::ffi::CStr = c"data";

/// Gives the key to the file system that `mount` is a detached mount of, and returns one of the encrypted directory, which is
/// made the first time.
pub(super) fn unlock(mount: &OwnedFd, volume: &str, secrets: &Secrets) -> Result<OwnedFd, Failure> {
    let key = encryption::key(volume, secrets)?;
    let root = open(mount, c".").map_err(|e| failed("open", volume, &e))?;
    let identifier = fscrypt::add_key(&root, &key.0).map_err(|e| match e.errno() {
        Some(Errno::OPNOTSUPP | Errno::NOTTY) => Failure::precondition(format!(
            "cannot unlock volume {volume}: the kernel has no encryption of files (CONFIG_FS_ENCRYPTION): {e}"
        )),
        _ => failed("unlock", volume, &e),
    })?;
    match rustix::fs::mkdirat(mount, DATA, Mode::from_raw_mode(0o755)) {
        // Where nothing can be written and it is missing the next line says so.
        Ok(()) | Err(Errno::EXIST | Errno::ROFS) => {}
        Err(e) => return Err(failed("make the encrypted directory of", volume, &e)),
    }
    let data = open(mount, DATA).map_err(|e| match e {
        Errno::NOENT => Failure::precondition(format!(
            "cannot mount volume {volume} read-only: nothing was ever written; mount it for writing first"
        )),
        e => failed("open the encrypted directory of", volume, &e),
    })?;
    match fscrypt::policy(&data)? {
        Some(wanted) if wanted == identifier => {}
        Some(_) => {
            return Err(Failure::precondition(format!(
                "cannot unlock volume {volume}: the secret {KEY:?} is not its key"
            )));
        }
        // The directory is empty: a driver killed here before left it so, or it was made just now.
        None => {
            fscrypt::set_policy(&data, identifier).map_err(|e| failed("encrypt", volume, &e))?;
            rustix::fs::syncfs(&data).map_err(|e| failed("encrypt", volume, &e))?;
        }
    }
    below(mount, DATA).map_err(|e| failed("mount the encrypted directory of", volume, &e))
}

fn open(mount: &OwnedFd, name: &std::ffi::CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(mount, name, flags, Mode::empty())
}

fn failed(act: &str, volume: &str, cause: &dyn std::fmt::Display) -> Failure {
    Failure::internal(format!("cannot {act} volume {volume}: {cause}"))
}
