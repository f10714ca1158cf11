//! Fifty runtimes at once.

use std::collections::BTreeSet;

use crate::chain::{Chain, Container, addresses, assert_same};
use crate::rig::{Netns, on_a_host};

const CONTAINERS: u16 = 50;

#[test]
fn fifty_adds_at_once_give_fifty_addresses_and_fifty_dels_free_them() {
    on_a_host(|host| {
        let chain = Chain::new(host.dir.path());
        let containers: Vec<_> = (0..CONTAINERS)
            .map(|i| {
                let netns = Netns::new();
                let container = Container::new(format!("c{i}"), &netns, 9000 + i);
                (netns, container)
            })
            .collect();
        // Bridge and table are not there yet: whoever comes first makes them.
        let results: Vec<_> = std::thread::scope(|scope| {
            let added: Vec<_> =
                containers.iter().map(|(_, container)| scope.spawn(|| chain.add(container))).collect();
            added.into_iter().map(|added| added.join().unwrap().unwrap()).collect()
        });
        let given: BTreeSet<String> = results.iter().flat_map(addresses).collect();
        assert_eq!(given.len(), 2 * usize::from(CONTAINERS), "{given:?}");
        let full = chain.look();
        std::thread::scope(|scope| {
            let gone: Vec<_> = containers
                .iter()
                .zip(&results)
                .map(|((_, container), result)| scope.spawn(|| chain.del(container, Some(result))))
                .collect();
            gone.into_iter().for_each(|gone| gone.join().unwrap().unwrap());
        });
        let empty = chain.look();
        assert_ne!(full, empty);
        // As one container alone leaves it.
        let netns = Netns::new();
        let alone = Container::new("alone", &netns, 9000);
        let result = chain.add(&alone).unwrap();
        chain.del(&alone, Some(&result)).unwrap();
        assert_same(&empty, &chain.look(), "one more has come and gone");
        assert!(empty.1.is_empty(), "{:?}", empty.1);
        assert!(!empty.0.contains("veth"), "{}", empty.0);
    });
}
