//! The index as bytes: a header, a hash table of holders, and bitmaps of what is taken.

use std::net::{IpAddr, Ipv6Addr};

use super::Identity;

pub(super) const HEADER: usize = 96;
pub(super) const SLOT: usize = 32;
pub(super) const BLOCK: usize = 48;
/// Addresses of one bitmap.
pub(super) const BLOCK_SIZE: u128 = 256;
/// The fewest slots of a table, and the most: 16 million leases are 512 MiB of it.
pub(super) const MIN_CAPACITY: u64 = 256;
const MAX_CAPACITY: u64 = 1 << 24;
const MAGIC: &[u8; 8] = b"sxlease1";

/// What the index says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) identity: Identity,
    /// Slots of the table: a power of two.
    pub(super) capacity: u64,
    /// Slots that are not empty: holders, and those that went.
    pub(super) used: u64,
    pub(super) blocks: u64,
}

impl Header {
    pub(super) fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let id = self.identity;
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..24].copy_from_slice(&id.boot);
        let numbers = [
            id.seconds.cast_unsigned(),
            id.nanoseconds,
            id.inode,
            id.device,
            self.capacity,
            self.used,
            self.blocks,
        ];
        for (place, number) in bytes[24..].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// Reads a header; none if it is not one, or if it promises more than any index has.
    pub(super) fn from_bytes(bytes: &[u8; HEADER]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (boot, rest) = rest.split_first_chunk::<16>()?;
        let mut numbers = rest.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let mut next = || numbers.next();
        let identity = Identity {
            boot: *boot,
            seconds: next()?.cast_signed(),
            nanoseconds: next()?,
            inode: next()?,
            device: next()?,
        };
        let header = Self { identity, capacity: next()?, used: next()?, blocks: next()? };
        let sane = magic == MAGIC
            && header.capacity.is_power_of_two()
            && (MIN_CAPACITY..=MAX_CAPACITY).contains(&header.capacity)
            && header.used <= header.capacity
            && header.blocks <= header.capacity;
        sane.then_some(header)
    }
}

/// A line of the table: who (by hash) has which address since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) hash: u64,
    pub(super) address: IpAddr,
    /// Modification time of the lease's file, in nanoseconds.
    pub(super) modified: i64,
}

/// Hash of a slot that nobody has used.
pub(super) const EMPTY: u64 = 0;
/// Hash of a slot that somebody had: a search goes on behind it.
pub(super) const GONE: u64 = 1;

impl Slot {
    pub(super) fn gone() -> Self {
        Self { hash: GONE, address: Ipv6Addr::UNSPECIFIED.into(), modified: 0 }
    }

    pub(super) fn to_bytes(self) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        bytes[..8].copy_from_slice(&self.hash.to_le_bytes());
        bytes[8..24].copy_from_slice(&number(self.address).to_be_bytes());
        bytes[24..].copy_from_slice(&self.modified.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; SLOT]) -> Self {
        let mut hash = [0; 8];
        let mut address = [0; 16];
        let mut modified = [0; 8];
        hash.copy_from_slice(&bytes[..8]);
        address.copy_from_slice(&bytes[8..24]);
        modified.copy_from_slice(&bytes[24..]);
        Self {
            hash: u64::from_le_bytes(hash),
            address: Ipv6Addr::from(address).to_canonical(),
            modified: i64::from_le_bytes(modified),
        }
    }
}

/// An address as a number: an IPv4 address is its IPv4-mapped IPv6 address.
pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The inverse of [`number`].
pub(super) fn address(number: u128) -> IpAddr {
    Ipv6Addr::from_bits(number).to_canonical()
}

/// Who holds a lease, as the table has it: FNV-1a, which never is one of the two marks.
pub(in super::super) fn hash(holder: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = holder.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    // The low bits choose the slot: they get all of it.
    let hash = (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = hash ^ hash >> 29;
    if hash <= GONE { hash + 2 } else { hash }
}
