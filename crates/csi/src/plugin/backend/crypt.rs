//! Volumes that are encrypted as a whole, by dm-crypt: AES-256-XTS over all their sectors.
//!
//! The key of a volume is made of the class's secret and of a salt of the volume's own, so that one secret may serve many. What
//! tells a wrong secret is made of both, too, by a way that leads back to neither (HKDF with SHA-512). Salt and check are in the
//! volume's place; the key is the kernel's alone, from when the volume is staged to when it is unstaged.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use grpc::Failure;
use kernel::dm::{self, Info, SECTOR, Target};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha512};

use super::encryption::{self, Encryption, KEY, Key};
use super::filesystem::kind::Kind;
use super::filesystem::{self, program, root};
use super::{Mounting, Secrets};
use crate::plugin::pool::record::{self, Volume};
use crate::plugin::text;

const FORMAT: u32 = 1;
const FILE: &str = "crypt.json";
/// What the names of the devices end with, the lower one first.
const PARTS: [&str; 2] = ["crypt", "crypt-ro"];
/// Bytes of a block of SHA-512.
const BLOCK: usize = 128;

/// What is kept of a key: enough to tell it, and nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Lock {
    format: u32,
    salt: String,
    check: String,
}

/// Refuses where the kernel has no device mapper.
pub(super) fn is_here() -> Result<(), Failure> {
    dm::version().map(drop).map_err(|e| {
        let hint = "load the modules dm-mod and dm-crypt (CONFIG_BLK_DEV_DM, CONFIG_DM_CRYPT)";
        let failure = Failure::precondition(format!("dm-crypt needs device mapper: {e}; {hint}"));
        Failure { field: Some(format!("parameters[{}]", encryption::PARAMETER)), ..failure }
    })
}

impl Lock {
    /// A lock for a key.
    pub(super) fn new(key: &Key) -> Result<Lock, Failure> {
        let salt = text::random()?;
        let check = hex(&derived(&key.0, &salt, "check").0[..32]);
        Ok(Lock { format: FORMAT, salt, check })
    }

    /// That of a place; none where nothing was ever written to the volume.
    pub(super) fn find(place: &Path) -> Result<Option<Lock>, Failure> {
        record::find(place, FILE, |lock: &Lock| record::is_known(lock.format, FORMAT))
    }

    /// Writes it into a place, durably.
    pub(super) fn write(&self, place: &Path) -> Result<(), Failure> {
        record::put(place, FILE, self)
    }

    /// Gives a copy of a volume its origin's lock, if that has one.
    pub(super) fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
        Lock::find(from)?.map_or(Ok(()), |lock| lock.write(to))
    }

    /// Refuses another key than the volume's.
    pub(super) fn is_for(&self, volume: &str, key: &Key) -> Result<(), Failure> {
        if hex(&derived(&key.0, &self.salt, "check").0[..32]) == self.check {
            return Ok(());
        }
        Err(Failure::precondition(format!(
            "cannot unlock volume {volume}: the secret {KEY:?} is not its key"
        )))
    }
}

/// What is made of a key.
struct Derived([u8; 64]);

impl Drop for Derived {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

/// HKDF (RFC 5869) with SHA-512, of one block.
fn derived(key: &[u8], salt: &str, purpose: &str) -> Derived {
    let extracted = hmac(salt.as_bytes(), &[key]);
    hmac(&extracted.0, &[b"sextant-csi dm-crypt ", purpose.as_bytes(), &[1]])
}

/// HMAC (RFC 2104) with SHA-512, of a key no longer than a block.
fn hmac(key: &[u8], message: &[&[u8]]) -> Derived {
    let padded = |with: u8| {
        let mut block = [with; BLOCK];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let mut inner = Sha512::new_with_prefix(padded(0x36));
    message.iter().for_each(|part| inner.update(part));
    let outer = Sha512::new_with_prefix(padded(0x5c)).chain_update(inner.finalize());
    Derived(outer.finalize().into())
}

fn hex(bytes: &[u8]) -> String {
    let digit = |digit: u8| char::from_digit(digit.into(), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
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

fn sync(device: &Path) -> Result<(), Failure> {
    let synced = File::open(device).and_then(|device| device.sync_all());
    synced.map_err(|e| Failure::internal(format!("cannot sync {}: {e}", device.display())))
}

/// What was done to a device; none where it has gone meanwhile, as that of a mount does with its last user.
pub(super) fn there<T>(done: Result<T, kernel::Error>) -> Result<Option<T>, kernel::Error> {
    match done {
        Err(e) if e.errno() == Some(Errno::NXIO) => Ok(None),
        done => done.map(Some),
    }
}

/// Has devices go on that a killed driver held still. The lower ones come first.
pub(super) fn go_on(devices: &[(String, Info)]) -> Result<(), Failure> {
    for (name, _) in devices.iter().filter(|(_, info)| info.suspended && info.active) {
        there(dm::resume(name))?;
    }
    Ok(())
}

/// The devices of one volume, by what their names begin with.
pub(super) struct Crypt(pub(super) String);

impl Crypt {
    fn name(&self, part: &str) -> String {
        format!("{}-{part}", self.0)
    }

    /// Opens a volume whose sectors are at `below`, a device's number.
    pub(super) fn open(&self, key: &Key, lock: &Lock, below: &str, bytes: u64) -> Result<Info, Failure> {
        let volume_key = derived(&key.0, &lock.salt, "key");
        // The target overwrites its text when it is used no more. It has room for all of it, so none is left elsewhere.
        let mut parameters = String::with_capacity(512);
        parameters.push_str("aes-xts-plain64 ");
        for byte in volume_key.0 {
            for digit in [byte >> 4, byte & 15] {
                parameters.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
            }
        }
        parameters.push_str(" 0 ");
        parameters.push_str(below);
        parameters.push_str(" 0 1 sector_size:4096");
        let target = Target { start: 0, length: bytes / SECTOR, kind: "crypt".into(), parameters };
        Ok(dm::create(&self.name("crypt"), &[target], false)?)
    }

    /// Opens a volume and mounts what is in it; its file system is made where there is none yet. The device goes with the mount,
    /// also where that fails. `below` is the number of a device of so many bytes.
    pub(super) fn mount(
        &self,
        place: &Path,
        volume: &Volume,
        how: &Mounting<'_>,
        below: &str,
        bytes: u64,
    ) -> Result<OwnedFd, Failure> {
        let (key, lock) = key(place, volume, how.secrets)?;
        if lock.is_none() && how.read_only {
            return Err(Failure::precondition(format!(
                "cannot mount volume {} read-only: nothing was ever written; mount it for writing first",
                volume.id
            )));
        }
        let is_new = lock.is_none();
        let lock = lock.map_or_else(|| Lock::new(&key), Ok)?;
        let path = self.open(&key, &lock, below, bytes)?.path();
        drop(key);
        let mounted = || {
            let kind = Kind::in_volume(volume)?;
            if is_new {
                program::make(kind, &path, volume.capacity, Encryption::DmCrypt)?;
                sync(&path)?;
                // From now on there is a file system that the key is for. Who is killed before makes another.
                lock.write(place)?;
            }
            filesystem::mount_whole(volume, kind, &path, bytes, how)
        };
        match (mounted(), self.close()) {
            (Ok(mount), closed) => closed.map(|()| mount),
            (Err(error), Ok(())) => Err(error),
            (Err(error), Err(after)) => Err(error.and(&after)),
        }
    }

    /// Opens a block device, which stays until it is closed. `below` brings up what is below it, a device's number and how many
    /// bytes that has. One that is open is not opened again, but its key is looked at.
    pub(super) fn unlock<T>(
        &self,
        place: &Path,
        volume: &Volume,
        secrets: &Secrets,
        below: impl FnOnce() -> Result<(String, u64, T), Failure>,
    ) -> Result<(), Failure> {
        let (key, lock) = key(place, volume, secrets)?;
        if self.device(&volume.id, false).is_ok() {
            return Ok(());
        }
        // What a killed driver left half made.
        self.close()?;
        let lock = match lock {
            Some(lock) => lock,
            None => {
                let lock = Lock::new(&key)?;
                lock.write(place)?;
                lock
            }
        };
        // What holds the lower one is let go when the upper one holds it.
        let (number, bytes, _held) = below()?;
        self.open(&key, &lock, &number, bytes).map(drop)
    }

    /// Has what was written to open block devices be below them.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        self.devices()?.iter().try_for_each(|(_, info)| sync(&info.path()))
    }

    /// The devices that are there, the lower one first.
    pub(super) fn devices(&self) -> Result<Vec<(String, Info)>, Failure> {
        let mut found = Vec::new();
        for part in PARTS {
            let name = self.name(part);
            if let Some(info) = dm::info(&name)? {
                found.push((name, info));
            }
        }
        Ok(found)
    }

    /// Tells a number of one of the devices.
    pub(super) fn is_its(&self, number: u64) -> bool {
        let is = |(_, info): &(String, Info)| root::number(&info.path()) == Some(number);
        self.devices().is_ok_and(|devices| devices.iter().any(is))
    }

    /// Where the volume can be read and written, or only read, once it is open.
    pub(super) fn device(&self, volume: &str, read_only: bool) -> Result<PathBuf, Failure> {
        let devices = self.devices()?;
        let open =
            devices.iter().find(|(name, info)| name.ends_with("-crypt") && info.active && !info.deferred);
        let Some((_, open)) = open else {
            let message =
                format!("volume {volume} is not unlocked: unstage it, and stage it with its secret");
            return Err(Failure::precondition(message));
        };
        if !read_only {
            return Ok(open.path());
        }
        match devices.iter().find(|(name, _)| name.ends_with("-ro")) {
            Some((_, info)) if info.active => return Ok(info.path()),
            // What a killed driver left half made.
            Some((name, _)) => dm::remove(name, false)?,
            None => {}
        }
        let (name, below) = (self.name("crypt-ro"), open.name());
        let length = dm::table(&self.name("crypt"))?.first().map_or(0, |target| target.length);
        let target = Target { start: 0, length, kind: "linear".into(), parameters: format!("{below} 0") };
        Ok(dm::create(&name, &[target], true)?.path())
    }

    /// Has the devices be as large as what is below them has become. The kernel has the key.
    pub(super) fn widen(&self, bytes: u64) -> Result<(), Failure> {
        for (name, info) in self.devices()? {
            let mut table = dm::table(&name)?;
            for target in &mut table {
                target.length = bytes / SECTOR;
            }
            let widened = dm::load(&name, &table, info.read_only)
                .and_then(|()| dm::suspend(&name, false))
                .and_then(|()| dm::resume(&name));
            there(widened)?;
        }
        Ok(())
    }

    /// Takes the devices away, and the key with them; those in use go with their last user.
    pub(super) fn close(&self) -> Result<(), Failure> {
        for (name, _) in self.devices()?.iter().rev() {
            dm::remove(name, true)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_the_standards() {
        // RFC 4231, test case 2.
        let sum = hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        let wanted = "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
                      9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737";
        assert_eq!(hex(&sum.0), wanted);
    }

    #[test]
    fn a_lock_tells_its_key_and_shows_nothing_of_it() {
        let (right, wrong) = (Key(vec![7; 32]), Key(vec![8; 32]));
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Lock::find(dir.path()).unwrap(), None);
        let lock = Lock::new(&right).unwrap();
        lock.write(dir.path()).unwrap();
        let copy = tempfile::tempdir().unwrap();
        Lock::copy(dir.path(), copy.path()).unwrap();
        let read = Lock::find(copy.path()).unwrap().unwrap();
        assert_eq!(read, lock);
        read.is_for("v", &right).unwrap();
        let error = read.is_for("v", &wrong).unwrap_err();
        assert!(error.message.contains("is not its key"), "{error}");
        // The same secret makes another key of each volume.
        let other = Lock::new(&right).unwrap();
        assert_ne!((&other.check, &other.salt), (&lock.check, &lock.salt));
        let (key, check) = (derived(&right.0, &lock.salt, "key"), derived(&right.0, &lock.salt, "check"));
        assert_ne!(key.0, check.0);
    }
}
