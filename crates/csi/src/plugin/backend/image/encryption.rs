//! Volumes that only a key shows: a directory of an ext4 that the file system encrypts (fscrypt), or all of the image (dm-crypt,
//! in `crypted.rs`).
//!
//! The key is 64 to 128 hexadecimal digits in the secret `key` of the node stage. A file system has it as long as it is
//! mounted.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use grpc::Failure;
use kernel::fscrypt;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::plugin::pool::record::Volume;

/// The parameter of a class that asks for it.
pub(in crate::plugin::backend) const PARAMETER: &str = "encryption";
/// Its values.
pub(super) const FSCRYPT: &str = "fscrypt";
pub(in crate::plugin::backend) const DM_CRYPT: &str = "dm-crypt";
/// The secret.
pub(in crate::plugin::backend) const KEY: &str = "key";
/// The directory that is encrypted.
const DATA: &std::ffi::CStr = c"data";

/// How a volume is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plugin::backend) enum Encryption {
    None,
    Fscrypt,
    DmCrypt,
}

impl Encryption {
    pub(in crate::plugin::backend) fn of(volume: &Volume) -> Encryption {
        match volume.parameters.get(PARAMETER).map(String::as_str) {
            None => Encryption::None,
            Some(DM_CRYPT) => Encryption::DmCrypt,
            Some(_) => Encryption::Fscrypt,
        }
    }
}

/// A key, which is overwritten when it is used no more. The text that it was read from is the request's, and stays in memory
/// until that is used for something else.
pub(in crate::plugin::backend) struct Key(pub(in crate::plugin::backend) Vec<u8>);

impl Drop for Key {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

/// Gives the key to the file system that `mount` is a detached mount of, and returns one of the encrypted directory, which is
/// made the first time.
pub(super) fn unlock(
    mount: &OwnedFd,
    volume: &str,
    secrets: &BTreeMap<String, String>,
) -> Result<OwnedFd, Failure> {
    let key = key(volume, secrets)?;
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
    super::filesystem::below(mount, DATA).map_err(|e| failed("mount the encrypted directory of", volume, &e))
}

fn open(mount: &OwnedFd, name: &std::ffi::CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(mount, name, flags, Mode::empty())
}

fn failed(act: &str, volume: &str, cause: &dyn std::fmt::Display) -> Failure {
    Failure::internal(format!("cannot {act} volume {volume}: {cause}"))
}

/// The key among secrets. Messages never show it.
pub(in crate::plugin::backend) fn key(
    volume: &str,
    secrets: &BTreeMap<String, String>,
) -> Result<Key, Failure> {
    let field = format!("secrets[{KEY}]");
    let Some(text) = secrets.get(KEY) else {
        let hint = "name it in the class (csi.storage.k8s.io/node-stage-secret-name)";
        return Err(Failure::invalid(field, format!("is missing: volume {volume} is encrypted; {hint}")));
    };
    let text = text.trim_ascii();
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let mut key = Key(Vec::with_capacity(text.len() / 2));
    for pair in text.as_bytes().chunks(2) {
        match pair {
            [high, low] => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => key.0.push(high << 4 | low),
                _ => {
                    return Err(Failure::invalid(field, "has what is no hexadecimal digit; write 64 to 128"));
                }
            },
            _ => {
                return Err(Failure::invalid(
                    field,
                    "has an odd number of hexadecimal digits; write 64 to 128",
                ));
            }
        }
    }
    if !(fscrypt::KEY_AT_LEAST..=fscrypt::KEY_AT_MOST).contains(&key.0.len()) {
        let message = format!("has {} hexadecimal digits; write 64 to 128", text.len());
        return Err(Failure::invalid(field, message));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_none_is_refused_without_showing_it() {
        let read = |text: &str| {
            key("v", &BTreeMap::from([(KEY.to_owned(), text.to_owned())])).map(|key| key.0.clone())
        };
        assert_eq!(read(&format!("{}\n", "0aF1".repeat(16))).unwrap(), [0x0a, 0xf1].repeat(16));
        for (text, wanted) in [
            ("abcd".repeat(15), "has 60 hexadecimal digits"),
            ("ab".repeat(65), "has 130 hexadecimal digits"),
            (format!("{}a", "ab".repeat(32)), "odd number"),
            ("xy".repeat(32), "no hexadecimal digit"),
            ("é".repeat(32), "no hexadecimal digit"),
        ] {
            let failure = read(&text).unwrap_err().to_string();
            assert!(failure.contains(wanted) && !failure.contains(&text), "{failure}");
        }
        assert!(key("v", &BTreeMap::new()).err().unwrap().to_string().contains("is missing"));
    }
}
