//! Masquerade, for the plugins that attach: what leaves the host gets the host's address.

use kernel::netlink::IpNet;
use kernel::nft::{Expression, Family, Field, Hook, Meta, Set, Verdict};
use ledger::Record;

use super::table::{Part, Rule, Table, base, packet};
use crate::contract::{AddResult, Error};

/// Link and network behind it whose traffic is masqueraded when it leaves by another link: `link . first-last address`.
const MASQ4: &str = "masq4";
const MASQ6: &str = "masq6";

const CHAIN: &str = "masquerade";

/// What masquerade has in the table.
pub(super) fn part() -> Part {
    let networks = |name, key| Set { name, key, target: None, interval: true };
    let mut rules = Vec::new();
    for v4 in [true, false] {
        let multicast = packet::begins_with(v4, false, if v4 { [0xf0, 0xe0] } else { [0xff, 0xff] });
        rules.push(Rule::new(CHAIN, [multicast, vec![Expression::Verdict(Verdict::Return)]]));
        let set = if v4 { MASQ4 } else { MASQ6 };
        let stays = packet::link_and_address(v4, Meta::OutputName, false, set);
        rules.push(Rule::new(CHAIN, [stays, vec![Expression::Verdict(Verdict::Return)]]));
        let leaves = packet::link_and_address(v4, Meta::InputName, true, set);
        rules.push(Rule::new(CHAIN, [leaves, vec![Expression::Masquerade]]));
    }
    Part {
        family: Family::Inet,
        sets: vec![
            networks(MASQ4, &[Field::IFNAME, Field::IPV4]),
            networks(MASQ6, &[Field::IFNAME, Field::IPV6]),
        ],
        chains: vec![base(CHAIN, "nat", Hook::Postrouting, 100)],
        rules,
    }
}

/// Masquerades what comes in by `link` from the networks of `result`: an element a network, whatever the number of its
/// containers.
pub(super) fn join_networks(
    table: &Table,
    link: &str,
    result: &AddResult,
    record: &mut dyn Record,
) -> Result<(), Error> {
    table.join(Family::Inet, record)?;
    result.ips.iter().map(|ip| ip.address).try_for_each(|address: IpNet| {
        let set = if address.is_ipv4() { MASQ4 } else { MASQ6 };
        table.join_network(set, link, address.network(), record)
    })
}
