//! Directories that are encrypted by their file system (fscrypt, policies of version 2).
//!
//! A key is given to a mounted file system and goes with its last mount. Directories name the key by an identifier that
//! the kernel computes of it.
//!
//! Directories are opened for reading: what fsmount(2) gives is a place alone (`O_PATH`), and answers `EBADF`.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::ioctl::{Setter, Updater, ioctl, opcode};

use crate::{Act, Error, Result};

/// What the kernel calls a key: a hash of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identifier(pub [u8; 16]);

/// Bytes that a key has at least: those of the contents' cipher (AES-256-XTS).
pub const KEY_AT_LEAST: usize = 32;
/// Bytes that a key has at most.
pub const KEY_AT_MOST: usize = 64;

const BY_IDENTIFIER: u32 = 2;
const AES_256_XTS: u8 = 1;
const AES_256_CTS: u8 = 4;
/// Names are padded to 32 bytes, so that their lengths say little.
const PAD_32: u8 = 3;

#[repr(C)]
#[derive(Clone, Copy)]
struct Specifier {
    kind: u32,
    reserved: u32,
    identifier: [u8; 16],
    rest: [u8; 16],
}

impl Specifier {
    fn of(identifier: [u8; 16]) -> Self {
        Self { kind: BY_IDENTIFIER, reserved: 0, identifier, rest: [0; 16] }
    }
}

/// `struct fscrypt_add_key_arg` without the key, which is what its number counts.
#[repr(C)]
#[derive(Clone, Copy)]
struct AddHeader {
    key: Specifier,
    size: u32,
    id: u32,
    reserved: [u32; 8],
}

#[repr(C)]
struct Add {
    header: AddHeader,
    raw: [u8; KEY_AT_MOST],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Policy {
    version: u8,
    contents: u8,
    names: u8,
    flags: u8,
    reserved: [u8; 4],
    identifier: [u8; 16],
}

#[repr(C)]
struct GetPolicy {
    size: u64,
    policy: Policy,
}

/// The number counts the policy of version 1.
const SET_POLICY: u32 = opcode::read::<[u8; 12]>(b'f', 19);
const GET_POLICY_EX: u32 = opcode::read_write::<[u8; 9]>(b'f', 22);
const ADD_KEY: u32 = opcode::read_write::<AddHeader>(b'f', 23);

/// Gives `key` (32 to 64 bytes) to the mounted file system that `root` is an open directory of. The same key twice is no
/// error. Returns what directories call it.
///
/// # Errors
/// `EOPNOTSUPP` where the file system was made without encryption, `ENOTTY` where it has none, `EINVAL` for another
/// length.
pub fn add_key(root: impl AsFd, key: &[u8]) -> Result<Identifier> {
    let object = || "a key to a file system";
    if !(KEY_AT_LEAST..=KEY_AT_MOST).contains(&key.len()) {
        return Err(Error::new("add", format!("a key of {} bytes (32 to 64)", key.len()), Errno::INVAL));
    }
    let header = AddHeader { key: Specifier::of([0; 16]), size: key.len() as u32, id: 0, reserved: [0; 8] };
    let mut add = Add { header, raw: [0; KEY_AT_MOST] };
    add.raw[..key.len()].copy_from_slice(key);
    // SAFETY: the request's own structure, followed by as many bytes of key as it says; live for the call.
    let done = unsafe { ioctl(root, Updater::<ADD_KEY, Add>::new(&mut add)) };
    // Not left on the stack; the compiler is not to see that nobody reads it again.
    add.raw.fill(0);
    std::hint::black_box(&add.raw);
    done.act("add", object)?;
    Ok(Identifier(add.header.key.identifier))
}

/// Has `directory`, which is empty, encrypt what is made in it: contents by AES-256-XTS, names by AES-256-CTS, with the
/// key that the file system was given as `identifier`. The same policy twice is no error.
///
/// # Errors
/// `ENOTEMPTY`, `ENOKEY` where the file system has no such key, `EEXIST` where the directory has another policy,
/// `EOPNOTSUPP` where the file system was made without encryption.
pub fn set_policy(directory: impl AsFd, identifier: Identifier) -> Result<()> {
    let policy = Policy {
        version: 2,
        contents: AES_256_XTS,
        names: AES_256_CTS,
        flags: PAD_32,
        reserved: [0; 4],
        identifier: identifier.0,
    };
    // SAFETY: the kernel reads the structure of the version that its first byte names.
    let done = unsafe { ioctl(directory, Setter::<SET_POLICY, Policy>::new(policy)) };
    done.act("set", || "the encryption policy of a directory")
}

/// The key that `directory` is encrypted with; none where it is not encrypted.
///
/// # Errors
/// `EOVERFLOW` and `EINVAL` where its policy is none of version 2.
pub fn policy(directory: impl AsFd) -> Result<Option<Identifier>> {
    let object = || "the encryption policy of a directory";
    let empty = Policy { version: 0, contents: 0, names: 0, flags: 0, reserved: [0; 4], identifier: [0; 16] };
    let mut get = GetPolicy { size: size_of::<Policy>() as u64, policy: empty };
    // SAFETY: the request's own structure, which says how much room its policy has; live for the call.
    match unsafe { ioctl(directory, Updater::<GET_POLICY_EX, GetPolicy>::new(&mut get)) } {
        Ok(()) if get.policy.version == 2 => Ok(Some(Identifier(get.policy.identifier))),
        Ok(()) => Err(Error::new("read", object(), Errno::INVAL)),
        Err(Errno::NODATA) => Ok(None),
        Err(e) => Err(Error::new("read", object(), e)),
    }
}
