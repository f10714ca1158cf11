//! What the trees of a btrfs say of its subvolumes.

use std::os::fd::{AsFd, AsRawFd};

use rustix::ioctl::{Opcode, opcode};

use super::{BTRFS, ROOT};
use crate::{Act, Result};

/// `struct btrfs_ioctl_search_key`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Key {
    tree: u64,
    objects: [u64; 2],
    offsets: [u64; 2],
    transactions: [u64; 2],
    kinds: [u32; 2],
    items: u32,
    unused: u32,
    unused2: [u64; 4],
}

/// `struct btrfs_ioctl_search_args_v2` without its room, which is what the request's number counts.
#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    key: Key,
    room: u64,
}

const ROOM: usize = 64 << 10;

#[repr(C)]
struct Search {
    header: Header,
    found: [u8; ROOM],
}

const TREE_SEARCH_V2: Opcode = opcode::read_write::<Header>(BTRFS, 17);

/// Trees.
const ROOTS: u64 = 1;
const QUOTAS: u64 = 8;
/// Items.
const INODE_ITEM: u32 = 1;
const ROOT_ITEM: u32 = 132;
const ROOT_REF: u32 = 156;
const QGROUP_INFO: u32 = 242;
/// `struct btrfs_ioctl_search_header`: transaction, object, offset, kind, length.
const ITEM: usize = 32;

/// The items of one kind that an object has in a tree: their offsets, in ascending order, and the number that each begins with.
fn items(directory: impl AsFd, tree: u64, object: u64, kind: u32) -> rustix::io::Result<Vec<(u64, u64)>> {
    let mut all = Vec::new();
    let mut from = 0;
    loop {
        let key = Key {
            tree,
            objects: [object; 2],
            offsets: [from, u64::MAX],
            transactions: [0, u64::MAX],
            kinds: [kind; 2],
            items: u32::MAX,
            unused: 0,
            unused2: [0; 4],
        };
        let mut search = Box::new(Search { header: Header { key, room: ROOM as u64 }, found: [0; ROOM] });
        // SAFETY: the request's own header, followed by as much room as it says; live for the call.
        let rc = unsafe { libc::ioctl(directory.as_fd().as_raw_fd(), TREE_SEARCH_V2 as _, &raw mut *search) };
        if rc < 0 {
            return Err(crate::process::last_errno());
        }
        let before = all.len();
        let mut rest = &search.found[..];
        for _ in 0..search.header.key.items {
            let number = |at: usize| {
                rest.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_ne_bytes)
            };
            let word = |at: usize| {
                rest.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes)
            };
            let (Some(offset), Some(length)) = (number(16), word(28)) else { break };
            all.push((offset, number(ITEM).unwrap_or(0)));
            rest = rest.get(ITEM + length as usize..).unwrap_or_default();
        }
        match all.last() {
            Some(&(last, _)) if all.len() > before && last < u64::MAX => from = last + 1,
            _ => return Ok(all),
        }
    }
}

/// Numbers of the subvolumes that are in the subvolume `id`, those in them included: each after the one that it is in.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn nested(directory: impl AsFd, id: u64) -> Result<Vec<u64>> {
    let mut all = vec![id];
    let mut at = 0;
    while let Some(&next) = all.get(at) {
        let within = items(&directory, ROOTS, next, ROOT_REF);
        let within = within.act("find", || format!("the subvolumes in the subvolume {next}"))?;
        all.extend(within.into_iter().map(|(id, _)| id));
        at += 1;
    }
    all.remove(0);
    Ok(all)
}

/// Whether the subvolume `id` is there, or is still being taken away.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn exists(directory: impl AsFd, id: u64) -> Result<bool> {
    let found = items(directory, ROOTS, id, ROOT_ITEM).act("find", || format!("the subvolume {id}"))?;
    Ok(!found.is_empty())
}

/// Numbers of the subvolumes that have a quota group, whether they are there or not.
///
/// # Errors
/// `ENOENT` where quotas are off; `EPERM` without `CAP_SYS_ADMIN`.
pub fn groups(directory: impl AsFd) -> Result<Vec<u64>> {
    let all = items(directory, QUOTAS, 0, QGROUP_INFO).act("list", || "quota groups")?;
    // The level is in the upper 16 bits.
    Ok(all.into_iter().map(|(group, _)| group).filter(|group| group >> 48 == 0).collect())
}

/// The generation of the root of the subvolume `id`, which tells it from others of its number.
pub(super) fn generation(directory: impl AsFd, id: u64) -> rustix::io::Result<u64> {
    let found = items(directory, id, ROOT, INODE_ITEM)?;
    found.first().map(|(_, generation)| *generation).ok_or(rustix::io::Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_large_as_the_kernels() {
        assert_eq!((size_of::<Key>(), size_of::<Header>()), (104, 112));
    }
}
