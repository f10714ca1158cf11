//! What a superblock says of the file system in it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::kind::Kind;

/// What is asked of a superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plugin::backend) struct Superblock {
    /// Bytes that the file system takes itself for.
    pub(in crate::plugin::backend) size: u64,
    /// It has found itself damaged, and wants its checker before it is mounted.
    pub(in crate::plugin::backend) damaged: bool,
}

/// Reads the superblock of a file system of this kind; none where there is no such file system.
pub(in crate::plugin::backend) fn read(image: &File, kind: Kind) -> std::io::Result<Option<Superblock>> {
    let at = match kind {
        Kind::Block => return Ok(None),
        Kind::Ext4 => 1024,
        Kind::Xfs => 0,
        Kind::Btrfs => 65_536,
    };
    let mut bytes = [0; 1024];
    match image.read_exact_at(&mut bytes, at) {
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        other => other.map(|()| parse(&bytes, kind)),
    }
}

fn parse(bytes: &[u8; 1024], kind: Kind) -> Option<Superblock> {
    match kind {
        Kind::Block => None,
        Kind::Ext4 => ext4(bytes),
        Kind::Xfs => xfs(bytes),
        Kind::Btrfs => btrfs(bytes),
    }
}

/// Any bytes as a superblock of each kind.
pub(super) fn exercise(bytes: &[u8]) {
    let mut block = [0; 1024];
    block.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    for kind in [Kind::Block, Kind::Ext4, Kind::Xfs, Kind::Btrfs] {
        parse(&block, kind);
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// `struct ext4_super_block`, little-endian.
fn ext4(bytes: &[u8]) -> Option<Superblock> {
    const HAS_64_BITS: u32 = 0x80;
    const ERRORS: u16 = 2;
    if field(bytes, 0x38)? != 0xef53_u16.to_le_bytes() {
        return None;
    }
    let low = u32::from_le_bytes(field(bytes, 0x4)?);
    let incompatible = u32::from_le_bytes(field(bytes, 0x60)?);
    let high = if incompatible & HAS_64_BITS != 0 { u32::from_le_bytes(field(bytes, 0x150)?) } else { 0 };
    let shift = u32::from_le_bytes(field(bytes, 0x18)?);
    let block = 1024_u64.checked_shl(shift).filter(|_| shift <= 6)?;
    let size = (u64::from(high) << 32 | u64::from(low)).checked_mul(block)?;
    Some(Superblock { size, damaged: u16::from_le_bytes(field(bytes, 0x3a)?) & ERRORS != 0 })
}

/// `struct xfs_dsb`, big-endian.
fn xfs(bytes: &[u8]) -> Option<Superblock> {
    if &field::<4>(bytes, 0)? != b"XFSB" {
        return None;
    }
    let block = u64::from(u32::from_be_bytes(field(bytes, 4)?));
    let size = u64::from_be_bytes(field(bytes, 8)?).checked_mul(block)?;
    Some(Superblock { size, damaged: false })
}

/// `struct btrfs_super_block`, little-endian.
fn btrfs(bytes: &[u8]) -> Option<Superblock> {
    if &field::<8>(bytes, 0x40)? != b"_BHRfS_M" {
        return None;
    }
    Some(Superblock { size: u64::from_le_bytes(field(bytes, 0x70)?), damaged: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_superblock_is_none() {
        for kind in [Kind::Block, Kind::Ext4, Kind::Xfs, Kind::Btrfs] {
            for byte in [0, 0xff] {
                assert_eq!(parse(&[byte; 1024], kind), None, "{kind:?}");
            }
        }
    }

    #[test]
    fn numbers_that_cannot_be_are_none() {
        let mut bytes = [0xff; 1024];
        bytes[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        assert_eq!(parse(&bytes, Kind::Ext4), None);
        bytes[..4].copy_from_slice(b"XFSB");
        assert_eq!(parse(&bytes, Kind::Xfs), None);
    }
}
