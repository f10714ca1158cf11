//! Whose an address is.

use std::net::IpAddr;

use sha2::{Digest as _, Sha256};

/// Which of `nodes` answers for `address`: the same one whoever asks, others for other addresses, and none that changes when another node
/// comes or goes, but for what that one has or had (rendezvous hashing). MetalLB's layer 2 mode has the same rule.
pub(crate) fn owner<'a>(address: IpAddr, nodes: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    nodes.min_by_key(|node| <[u8; 32]>::from(Sha256::digest(format!("{node}#{address}"))))
}

/// What distinguishes a cluster from others on the same link, made of any text that does.
#[must_use]
pub fn cluster_of(text: &str) -> [u8; 16] {
    let [digest @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
        <[u8; 32]>::from(Sha256::digest(text));
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_spread_and_move_only_with_their_owner() {
        let nodes = ["a", "b", "c"];
        let addresses = (0..=255).map(|last| IpAddr::from([192, 0, 2, last]));
        let mut of = [0; 3];
        for address in addresses {
            let first = owner(address, nodes.into_iter()).unwrap();
            assert_eq!(owner(address, nodes.into_iter().rev()), Some(first));
            let without_last = owner(address, nodes[..2].iter().copied()).unwrap();
            assert!(first == "c" || first == without_last);
            of[nodes.iter().position(|node| *node == first).unwrap()] += 1;
        }
        assert!(of.iter().all(|count| *count > 60), "{of:?}");
        assert_eq!(owner([192, 0, 2, 1].into(), [].into_iter()), None);
    }
}
