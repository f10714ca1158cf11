//! STATUS of the plugins that attach: can this host do it, and will another program's rules let packets through?

use std::collections::BTreeSet;

use kernel::namespace::in_new_netns;
use kernel::netlink::{self, Batch, Kind, Link, NewLink, Protocol, Socket};
use kernel::nft::{self, BaseInfo, ChainInfo, Family, Transaction};
use kernel::xtables;

use crate::contract::{Code, Error, Keys, Request};

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

/// By which link of the host the containers are reached.
#[derive(Debug, Clone, Copy)]
enum Through<'a> {
    /// This one; or all whose names begin so.
    Link(&'a str),
    /// Whoever attaches knows.
    Unknown,
}

/// What the links are called that Docker makes for containers of its own.
const OF_DOCKER: &[&str] = &["docker", "br-"];

impl Through<'_> {
    /// A rule that asks for the link called `name`, or for all that begin so, is about the containers.
    fn is(&self, name: &[u8], whole: bool) -> bool {
        match self {
            _ if name.is_empty() => false,
            Self::Link(link) if whole => name == link.as_bytes(),
            Self::Link(link) => link.as_bytes().starts_with(name),
            Self::Unknown => {
                let of_a_link = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-@".contains(byte);
                let is_name = name.len() > 1 && name.len() < 16 && name.iter().all(of_a_link);
                whole && is_name && !OF_DOCKER.iter().any(|other| name.starts_with(other.as_bytes()))
            }
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Link(link) => (*link).to_owned(),
            Self::Unknown => "the containers' bridge".to_owned(),
        }
    }
}

/// No other program drops what is forwarded. In nftables a drop is final in whatever chain it is, and no accept of ours is:
/// where another's chain drops by its policy, containers reach nobody but each other, unless a rule there lets them.
///
/// A chain whose table has a rule that accepts and names the containers' link is taken for one that an operator has opened.
/// `"sextant": {"forwardDrop": "ignore"}` says that all is well with the others.
pub(super) fn forwards(keys: &Keys<'_>, link: &str) -> Result<(), Error> {
    if is_ignored(keys)? { Ok(()) } else { passes(Through::Link(link)) }
}

/// The same for a plugin that is not told by which link the containers are reached. Those of this network that are attached
/// show it; with none of them, a rule for any link that is not the other program's own is taken to be for them.
pub(super) fn forwards_attached(request: &Request<'_>) -> Result<(), Error> {
    if is_ignored(&request.keys())? {
        return Ok(());
    }
    let links = netlink::links(&mut Socket::open(Protocol::Route)?)?;
    let ends =
        links.iter().filter(|link| link.alias.as_ref().is_some_and(|alias| request.is_of_network(alias)));
    let by_link = |end: &Link| match end.master {
        Some(master) => links.iter().find(|link| link.index == master).map(|bridge| bridge.name.clone()),
        None => Some(CABLES.to_owned()),
    };
    let by: BTreeSet<String> = ends.filter_map(by_link).collect();
    if by.is_empty() {
        passes(Through::Unknown)
    } else {
        by.iter().try_for_each(|link| passes(Through::Link(link)))
    }
}

/// How the names of the host's ends of cables begin.
pub(super) const CABLES: &str = "veth";

fn passes(through: Through<'_>) -> Result<(), Error> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    for chain in nft::chains(&mut socket)?.iter().filter(|chain| drops_forwarded(chain)) {
        if !is_opened(chain, through, &mut socket)? {
            let ChainInfo { family, table, name, .. } = chain;
            return Err(refusal(&format!("nftables chain {family} {table} {name}"), &through.words()));
        }
    }
    for (ipv4, program) in [(true, "iptables-legacy"), (false, "ip6tables-legacy")] {
        // Whether the older table can be read is no matter of ours.
        let Some(forward) = xtables::forward(ipv4).ok().flatten().filter(|forward| forward.drops) else {
            continue;
        };
        let opened = match through {
            Through::Link(link) => forward.names(link),
            Through::Unknown => forward.links().iter().any(|name| through.is(name.as_bytes(), true)),
        };
        if !opened {
            return Err(refusal(&format!("chain FORWARD of {program}"), &through.words()));
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
fn is_opened(chain: &ChainInfo, through: Through<'_>, socket: &mut Socket) -> Result<bool, Error> {
    let names = |value: &Vec<u8>| {
        let name: &[u8] = value.split(|byte| *byte == 0).next().unwrap_or_default();
        through.is(name, value.len() > name.len())
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
