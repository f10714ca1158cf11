use std::collections::BTreeMap;
use std::net::IpAddr;

use super::layout::{BLOCK, BLOCK_SIZE, address, number};

/// Which addresses are taken: a bitmap of each 256 neighbours of which one is.
#[derive(Debug, Default)]
pub(super) struct Bitmaps {
    /// By the first address: where the bitmap is in the file, and its bits.
    blocks: BTreeMap<u128, (u64, [u8; 32])>,
    /// Places in the file that have no bit any more.
    vacant: Vec<u64>,
    /// Places there are.
    places: u64,
}

impl Bitmaps {
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut bitmaps = Self::default();
        for bytes in bytes.as_chunks::<BLOCK>().0 {
            let place = bitmaps.places;
            bitmaps.places += 1;
            let (Some((first, bits)), mut map) = (bytes.split_first_chunk::<16>(), [0; 32]) else { break };
            map.copy_from_slice(bits);
            let first = u128::from_be_bytes(*first) / BLOCK_SIZE * BLOCK_SIZE;
            if map == [0; 32] || bitmaps.blocks.contains_key(&first) {
                bitmaps.vacant.push(place);
            } else {
                bitmaps.blocks.insert(first, (place, map));
            }
        }
        bitmaps
    }

    /// How many places the file has to have.
    pub(super) fn places(&self) -> u64 {
        self.places
    }

    pub(super) fn is_taken(&self, address: IpAddr) -> bool {
        let number = number(address);
        let bit = (number % BLOCK_SIZE) as usize;
        let block = self.blocks.get(&(number - number % BLOCK_SIZE));
        block.is_some_and(|(_, map)| map[bit / 8] & 1 << (bit % 8) != 0)
    }

    /// Marks an address. The place in the file and what belongs there.
    pub(super) fn set(&mut self, address: IpAddr, taken: bool) -> (u64, [u8; BLOCK]) {
        let number = number(address);
        let bit = (number % BLOCK_SIZE) as usize;
        let first = number - number % BLOCK_SIZE;
        let (place, mut map) = self.blocks.remove(&first).unwrap_or_else(|| {
            let place = self.vacant.pop().unwrap_or(self.places);
            self.places = self.places.max(place + 1);
            (place, [0; 32])
        });
        let mask = 1 << (bit % 8);
        map[bit / 8] = if taken { map[bit / 8] | mask } else { map[bit / 8] & !mask };
        if map == [0; 32] {
            self.vacant.push(place);
        } else {
            self.blocks.insert(first, (place, map));
        }
        let mut bytes = [0; BLOCK];
        bytes[..16].copy_from_slice(&first.to_be_bytes());
        bytes[16..].copy_from_slice(&map);
        (place, bytes)
    }

    /// The first address from `from` to `to` that is not taken and is not `but`.
    pub(super) fn free(&self, from: IpAddr, to: IpAddr, but: IpAddr) -> Option<IpAddr> {
        let (mut at, last, but) = (number(from), number(to), number(but));
        while at <= last {
            let first = at - at % BLOCK_SIZE;
            let end = last.min(first + (BLOCK_SIZE - 1));
            let map = self.blocks.get(&first).map_or([0; 32], |(_, map)| *map);
            let free = |n: &u128| {
                let bit = (n - first) as usize;
                map[bit / 8] & 1 << (bit % 8) == 0 && *n != but
            };
            let found = if map == [0xff; 32] { None } else { (at..=end).find(free) };
            if let Some(found) = found {
                return Some(address(found));
            }
            at = end.checked_add(1)?;
        }
        None
    }

    /// All of it, as the file has it.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.places).unwrap_or(0) * BLOCK];
        for (first, (place, map)) in &self.blocks {
            let at = usize::try_from(*place).unwrap_or(0) * BLOCK;
            if let Some(place) = bytes.get_mut(at..at + BLOCK) {
                place[..16].copy_from_slice(&first.to_be_bytes());
                place[16..].copy_from_slice(map);
            }
        }
        bytes
    }
}
