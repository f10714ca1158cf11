use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn entry(holder: u16, address: u16) -> Entry {
    Entry { holder: hash(&format!("c{holder}\r\neth0")), address: ip(address), modified: i64::from(holder) }
}

fn ip(n: u16) -> IpAddr {
    let [a, b] = n.to_be_bytes();
    if n.is_multiple_of(2) {
        [10, 1, a, b].into()
    } else {
        std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n).into()
    }
}

fn same(a: &Index, b: &Index) -> bool {
    let sorted = |index: &Index| {
        let mut entries = index.entries().unwrap();
        entries.sort_by_key(|e| (e.address, e.holder));
        entries
    };
    sorted(a) == sorted(b)
}

proptest! {
    #[test]
    fn knows_what_a_map_knows(changes in proptest::collection::vec((any::<bool>(), 0u16..40, 0u16..600), 0..400)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let mut index = Index::of(&[], [7; 16]);
        index.save(&dir.path().join("new"), &path).unwrap();
        let mut model: BTreeMap<u16, u16> = BTreeMap::new();
        for (add, holder, address) in changes {
            if add && !model.contains_key(&address) {
                model.insert(address, holder);
                index.insert(entry(holder, address)).unwrap();
            } else if let (false, Some(holder)) = (add, model.get(&address).copied()) {
                model.remove(&address);
                index.remove(entry(holder, address).holder, ip(address)).unwrap();
            }
            if index.is_crowded() {
                index = Index::of(&index.entries().unwrap(), [7; 16]);
                index.save(&dir.path().join("new"), &path).unwrap();
            }
        }
        index.seal(index.identity()).unwrap();
        let read = Index::open(open_options().open(&path).unwrap()).unwrap();
        prop_assert!(same(&read, &index));
        for address in 0..600 {
            prop_assert_eq!(read.is_taken(ip(address)), model.contains_key(&address));
        }
        for holder in 0..40 {
            let mut found = read.find(entry(holder, 0).holder).unwrap();
            found.sort();
            let mut wanted: Vec<_> = model.iter().filter(|(_, h)| **h == holder).map(|(a, _)| ip(*a)).collect();
            wanted.sort();
            prop_assert_eq!(found, wanted);
        }
    }

    #[test]
    fn the_first_free_address_is_the_first(taken in proptest::collection::btree_set(0u32..1200, 0..900), from in 0u32..1200, but in 0u32..1200) {
        let address = |n: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n));
        let entries: Vec<_> = taken.iter().map(|n| Entry { holder: 7, address: address(*n), modified: 0 }).collect();
        let wanted = (from..1200).find(|n| !taken.contains(n) && *n != but).map(address);
        prop_assert_eq!(Index::of(&entries, [7; 16]).free(address(from), address(1199), address(but)), wanted);
    }
}

#[test]
fn the_highest_addresses_are_the_end() {
    let top: IpAddr = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
    let index = Index::of(&[Entry { holder: 7, address: top, modified: 0 }], [7; 16]);
    assert_eq!(index.free(top, top, [0; 4].into()), None);
    let broadcast = [255; 4].into();
    assert_eq!(Index::of(&[], [7; 16]).free(broadcast, broadcast, broadcast), None);
}

#[test]
fn other_bytes_are_no_index() {
    let full = Index::of(&[entry(1, 2), entry(3, 4)], [7; 16]);
    let Place::Memory(bytes) = full.place else { unreachable!("built in memory") };
    for cut in [0, 7, HEADER, HEADER + 100, bytes.len() - 1] {
        assert!(Index::read(Place::Memory(bytes[..cut].to_vec())).is_err(), "{cut}");
    }
    for at in [0, 56, 64, 72] {
        let mut other = bytes.clone();
        other[at + 7] ^= 0x80;
        assert!(Index::read(Place::Memory(other)).is_err(), "{at}");
    }
    exercise(&bytes);
}
