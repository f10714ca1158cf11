//! What this leaves on a machine, with its owner and its inverses: the table, and the addresses of DNS.

use std::net::IpAddr;

use kernel::netlink::{self, Address, Batch, IpNet, Protocol, Socket};
use ledger::{Effect, Owner, OwnerId, Record as _};
use rustix::io::Errno;

/// The link that gets addresses which no other link has: it is always there and always up.
const LOOPBACK: &str = "lo";

/// Whose it is. It is alive until it is [undone](Owner::undo_all): the table works on while no process looks after it.
///
/// # Panics
/// Never: the name can be a folder.
pub fn owner() -> OwnerId {
    OwnerId::new("services").unwrap_or_else(|_| OwnerId::node())
}

/// Records the table, before it is made.
///
/// # Errors
/// The record cannot be written.
pub fn claim_table(owner: &mut Owner, table: &str) -> Result<(), ledger::Error> {
    claim(owner, Effect::NftTable { family: "inet".into(), table: table.into() })
}

/// Sees that an address is one of the machine's: one that no link has is given to loopback.
///
/// Packets from pods come to it as to any address of their gateway. It needs no translation, and it is there before any network is.
///
/// # Errors
/// The record cannot be written, or the kernel refuses the address.
pub fn claim_address(
    owner: &mut Owner,
    address: IpAddr,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut socket = Socket::open(Protocol::Route)?;
    let net = IpNet::host(address);
    let effect = Effect::Address { link: LOOPBACK.into(), net: net.to_string() };
    let there = netlink::addresses(&mut socket, None)?;
    let recorded = owner.records().iter().any(|(_, known)| *known == effect);
    if there.iter().any(|known| known.net.address() == address) && !recorded {
        return Ok(());
    }
    claim(owner, effect)?;
    let loopback = netlink::link_by_name(&mut socket, LOOPBACK)?;
    let Some(loopback) = loopback else { return Err(format!("there is no link {LOOPBACK}").into()) };
    let mut batch = Batch::new();
    batch.add_address(&Address::new(loopback.index, net));
    match socket.run(&batch) {
        Err(e) if e.errno() == Some(Errno::EXIST) => Ok(()),
        outcome => Ok(outcome?),
    }
}

/// Records an effect, once.
fn claim(owner: &mut Owner, effect: Effect) -> Result<(), ledger::Error> {
    if owner.records().iter().any(|(_, known)| *known == effect) {
        return Ok(());
    }
    owner.record(effect).map(drop)
}
