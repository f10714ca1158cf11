//! STATUS of the plugins that attach: can this host do it, and will another program's rules let packets through?

use kernel::namespace::in_new_netns;
use kernel::netlink::{Batch, Kind, NewLink, Protocol, Socket};
use kernel::nft::{self, BaseInfo, ChainInfo, Family, Transaction};
use kernel::xtables;

use crate::contract::{Code, Error, Keys};

/// The kernel has what the plugins need: tried in a network namespace that vanishes with the attempt.
pub(super) fn host_can(vlans: bool) -> Result<(), Error> {
    let tried = in_new_netns(|| {
        let mut batch = Batch::new();
        let kind = Kind::Bridge { mcast_snooping: None, vlan_filtering: vlans.then_some(true) };
        batch.add_link(&NewLink::new("probe", kind));
        Socket::open(Protocol::Route)?.run(&batch)?;
        let mut change = Transaction::new();
        for family in [Family::Inet, Family::Bridge] {
            change.add_table(family, "probe", true, None);
        }
        change.commit(&mut Socket::open(Protocol::Netfilter)?)
    });
    tried.map_err(|e| Error::from(e).code(Code::NotAvailable))
}

/// No other program drops what is forwarded. In nftables a drop is final in whatever chain it is, and no accept of ours is:
/// where another's chain drops by its policy, containers reach nobody but each other, unless a rule there lets them.
///
/// A chain whose table has a rule that accepts and names the containers' link is taken for one that an operator has opened.
/// `"sextant": {"forwardDrop": "ignore"}` says that all is well with the others.
pub(super) fn forwards(keys: &Keys<'_>, link: &str) -> Result<(), Error> {
    if is_ignored(keys)? {
        return Ok(());
    }
    let mut socket = Socket::open(Protocol::Netfilter)?;
    for chain in nft::chains(&mut socket)?.iter().filter(|chain| drops_forwarded(chain)) {
        if !is_opened(chain, link, &mut socket)? {
            return Err(refusal(
                &format!("nftables chain {} {} {}", chain.family, chain.table, chain.name),
                link,
            ));
        }
    }
    for (ipv4, program) in [(true, "iptables-legacy"), (false, "ip6tables-legacy")] {
        // Whether the older table can be read is no matter of ours.
        let there = xtables::forward(ipv4).ok().flatten();
        if there.is_some_and(|forward| forward.drops && !forward.names(link)) {
            return Err(refusal(&format!("chain FORWARD of {program}"), link));
        }
    }
    Ok(())
}

fn is_ignored(keys: &Keys<'_>) -> Result<bool, Error> {
    let Some(own) = keys.object("sextant")? else { return Ok(false) };
    let own = Keys::new(own, "\"sextant\"");
    match own.text("forwardDrop")? {
        None | Some("report") => Ok(false),
        Some("ignore") => Ok(true),
        Some(_) => Err(own.refuse("forwardDrop", "\"report\" or \"ignore\"")),
    }
}

fn drops_forwarded(chain: &ChainInfo) -> bool {
    let base = chain.base.as_ref().filter(|_| chain.family != Family::Bridge);
    base.is_some_and(|base| base.drops && base.hook == BaseInfo::FORWARD && base.kind == "filter")
}

/// A rule of its table accepts and names the link, by its whole name or by how it begins (`cni+`).
fn is_opened(chain: &ChainInfo, link: &str, socket: &mut Socket) -> Result<bool, Error> {
    let names = |value: &Vec<u8>| {
        let name: &[u8] = value.split(|byte| *byte == 0).next().unwrap_or_default();
        let ends = value.len() > name.len();
        !name.is_empty() && if ends { name == link.as_bytes() } else { link.as_bytes().starts_with(name) }
    };
    let rules = nft::rules(socket, chain.family, &chain.table)?;
    Ok(rules.iter().any(|rule| rule.accepts && rule.compared.iter().any(names)))
}

fn refusal(chain: &str, link: &str) -> Error {
    let error =
        format!("cannot forward what containers send: {chain} of another program drops it (policy drop)");
    Error::new(Code::NotAvailableLimited, error).hint(format!(
        "set its policy to accept, or add a rule there that accepts what comes in by {link} and what goes out by it \
         (Docker: chain DOCKER-USER; ufw: `ufw route allow`); \"sextant\": {{\"forwardDrop\": \"ignore\"}} in the \
         plugin's configuration hides this"
    ))
}
