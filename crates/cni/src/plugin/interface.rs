//! What the plugins that make links have in common: what they are told of MACs and link names, and how they say what
//! they made.

use std::net::IpAddr;

use kernel::netlink::{self, Link, Mac, Protocol, Socket};
use ledger::{Effect, Record};

use super::table::Table;
use crate::contract::{AddResult, Attachment, Code, Dns, Error, Holders, Interface, Ip, Keys, Request, hash};

/// The MAC that somebody chose for the container's interface: `MAC` of `CNI_ARGS`, then `args.cni.mac`, then the
/// capability `mac`; the later wins.
pub(super) fn chosen_mac(request: &Request<'_>) -> Result<Option<Mac>, Error> {
    let keys = request.keys();
    let of_env = request.attachment.arg("MAC").filter(|mac| !mac.is_empty());
    let of_env: Option<Mac> = of_env
        .map(str::parse)
        .transpose()
        .map_err(|e| Error::new(Code::InvalidEnvironment, format!("cannot use MAC of CNI_ARGS: {e}")))?;
    let cni =
        keys.object("args")?.map(|args| Keys::new(args, "\"args\"").object("cni")).transpose()?.flatten();
    let of_args = cni.map(|cni| Keys::new(cni, "\"args.cni\"").parse("mac")).transpose()?.flatten();
    let runtime = keys.object("runtimeConfig")?;
    let of_runtime = runtime.map(|r| Keys::new(r, "\"runtimeConfig\"").parse("mac")).transpose()?.flatten();
    Ok(of_runtime.or(of_args).or(of_env))
}

/// The same, for plugins whose configuration can say it too (`mac`): that counts least.
pub(super) fn configured_mac(request: &Request<'_>) -> Result<Option<Mac>, Error> {
    let of_conf = request.keys().parse("mac")?;
    Ok(chosen_mac(request)?.or(of_conf))
}

/// A MAC made from the address: whoever gets the address next has the same one, so no neighbour's cache is stale.
pub(super) fn mac_of(address: IpAddr) -> Mac {
    let [a, b, c, d] = match address {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            ((bits ^ bits >> 32 ^ bits >> 64 ^ bits >> 96) as u32).to_be_bytes()
        }
    };
    Mac([0x0a, 0x58, a, b, c, d])
}

/// The name of a link on the host, from a key that must be one; none if the key is absent.
pub(super) fn link_name<'a>(keys: &Keys<'a>, key: &str) -> Result<Option<&'a str>, Error> {
    let Some(name) = keys.text(key)?.filter(|name| !name.is_empty()) else { return Ok(None) };
    if name.len() > 15
        || name.contains(['/', ':'])
        || name.contains(char::is_whitespace)
        || matches!(name, "." | "..")
    {
        return Err(keys.refuse(key, "a link name: 15 bytes at most, without '/', ':' and spaces"));
    }
    Ok(Some(name))
}

/// Name service: what the configuration says of it, if it says anything, or what the IPAM plugin did.
pub(super) fn name_service(request: &Request<'_>, of_ipam: Dns) -> Result<Dns, Error> {
    Ok(chosen_dns(&request.keys())?.unwrap_or(of_ipam))
}

/// The addresses of a result that are this attachment's interface's.
pub(super) fn own_addresses<'a>(request: &Request<'_>, result: &'a AddResult) -> Vec<&'a Ip> {
    let ifname = &request.attachment.ifname;
    let of = |ip: &&Ip| {
        let named = ip.interface.and_then(|index| result.interfaces.get(index));
        named.is_none_or(|interface| interface.name == *ifname)
    };
    result.ips.iter().filter(of).collect()
}

/// What the plugins before this one made, which a plugin of a chain cannot do without.
pub(super) fn previous<'a>(request: &Request<'a>) -> Result<&'a AddResult, Error> {
    request.previous.ok_or_else(|| {
        let kind = &request.conf.kind;
        Error::new(
            Code::InvalidConfig,
            format!("cannot do without \"prevResult\": {kind} is chained behind another plugin"),
        )
    })
}

/// `ipMasqBackend`: one that is not ours is refused, for somebody relies on its rules.
pub(super) fn only_nftables(keys: &Keys<'_>) -> Result<(), Error> {
    match keys.text("ipMasqBackend")? {
        None | Some("" | "nftables") => Ok(()),
        Some(backend) => Err(Error::new(
            Code::UnsupportedField,
            format!("cannot use the field \"ipMasqBackend\" with the value {backend:?}: it is not supported"),
        )
        .hint("this plugin speaks nftables only")),
    }
}

/// The name service that the configuration chooses: none, if it says nothing of it. Then what IPAM says stays.
pub(super) fn chosen_dns(keys: &Keys<'_>) -> Result<Option<Dns>, Error> {
    let Some(object) = keys.object("dns")? else { return Ok(None) };
    let dns = Keys::new(object, "\"dns\"");
    let list = |key: &str| -> Result<Option<Vec<String>>, Error> { dns.decode(key) };
    let (nameservers, search, options) = (list("nameservers")?, list("search")?, list("options")?);
    let domain = dns.text("domain")?.filter(|domain| !domain.is_empty());
    // An empty list is an answer too: no name servers.
    let says = nameservers.is_some() || search.is_some() || options.is_some() || domain.is_some();
    Ok(says.then(|| Dns {
        nameservers: nameservers.unwrap_or_default(),
        domain: domain.unwrap_or_default().to_owned(),
        search: search.unwrap_or_default(),
        options: options.unwrap_or_default(),
    }))
}

/// The host's end of a container's cable: named for its owner, so that undoing by name never hits another's link.
pub(super) fn veth_name(table: &Table, attachment: &Attachment) -> String {
    let hash = hash(&["veth", &table.name, &attachment.container_id, &attachment.ifname]);
    format!("veth{}", hash.get(..11).unwrap_or_default())
}

/// Deletes the host's end of a container's cable. Not there counts as done.
///
/// A program, whose record counts no users, serves runtimes whose containers another implementation may have attached, under
/// a name of its own: that one is in the result of ADD.
pub(super) fn unplug(name: &str, request: &Request<'_>, record: &mut dyn Record) -> Result<(), Error> {
    let mut socket = request.route()?;
    netlink::delete_link_on(&mut socket, name)?;
    record.undone(&Effect::Link { name: name.to_owned() })?;
    let in_process = record.counts_users();
    let made = request.previous.iter().flat_map(|previous| &previous.interfaces);
    for other in made.filter(|link| !in_process && link.sandbox.is_empty() && link.name != name) {
        let link = netlink::link_by_name(&mut socket, &other.name)?;
        let is_theirs = |link: &Link| {
            link.kind == "veth"
                && link.peer_netns.is_some()
                && link.mac.map(|mac| mac.to_string()) == Some(other.mac.clone())
        };
        if link.is_some_and(|link| is_theirs(&link)) {
            netlink::delete_link_on(&mut socket, &other.name)?;
        }
    }
    Ok(())
}

/// GC: deletes the host's ends of cables whose holders are stale; `of` tells which links may be meant.
pub(super) fn collect_cables(holders: &Holders, of: impl Fn(&Link) -> bool) -> Result<(), Error> {
    let mut socket = Socket::open(Protocol::Route)?;
    let links = netlink::links(&mut socket)?;
    let stale = |link: &&Link| {
        link.kind == "veth" && link.alias.as_deref().is_some_and(|alias| holders.is_stale_alias(alias))
    };
    all(links
        .iter()
        .filter(stale)
        .filter(|link| of(link))
        .map(|link| netlink::delete_link_on(&mut socket, &link.name).map_err(Error::from)))
}

/// Does all, whatever fails: the first failure, with the words of the others.
pub(super) fn all(outcomes: impl IntoIterator<Item = Result<(), Error>>) -> Result<(), Error> {
    let mut failures: Vec<Error> = outcomes.into_iter().filter_map(Result::err).collect();
    if failures.is_empty() {
        return Ok(());
    }
    let first = failures.remove(0);
    let details = std::iter::once(first.details.clone()).chain(failures.iter().map(ToString::to_string));
    let details: Vec<String> = details.filter(|words| !words.is_empty()).collect();
    Err(first.hint(details.join("; ")))
}

/// DEL: what can be read of the configuration, and what is wrong with the rest. The configuration may be another than ADD's by
/// now, or come from another version: what can be freed is freed, and what is wrong is said.
pub(super) fn readable<T: Default>(read: Result<T, Error>) -> (T, Result<(), Error>) {
    match read {
        Ok(value) => (value, Ok(())),
        Err(e) => (T::default(), Err(e)),
    }
}

/// CHECK: what ADD answered.
pub(super) fn made<'a>(request: &Request<'a>) -> Result<&'a AddResult, Error> {
    request.previous.ok_or_else(|| {
        Error::new(Code::InvalidConfig, "cannot check the attachment: Required prevResult missing")
    })
}

/// The MAC that ADD said the link `name` in `sandbox` has.
pub(super) fn mac_in(result: Option<&AddResult>, name: &str, sandbox: &str) -> Option<Mac> {
    let link = result?.interfaces.iter().find(|link| link.name == name && link.sandbox == sandbox)?;
    link.mac.parse().ok()
}

/// A link as a result has it; `sandbox` is empty for the host's.
pub(super) fn describe(link: &Link, sandbox: &str) -> Interface {
    Interface {
        name: link.name.clone(),
        mac: link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        mtu: Some(link.mtu),
        sandbox: sandbox.to_owned(),
        ..Interface::default()
    }
}

/// The container's namespace as a result has it.
pub(super) fn sandbox(request: &Request<'_>) -> Result<String, Error> {
    Ok(request.attachment.netns()?.display().to_string())
}

/// A link that was there a moment ago.
pub(super) fn vanished(name: &str) -> Error {
    Error::new(Code::TryAgain, format!("cannot find link {name}: it vanished while it was being set up"))
}

/// CHECK found that something is not as ADD left it.
pub(super) fn broken(what: impl std::fmt::Display) -> Error {
    Error::new(Code::Other(100), format!("attachment is broken: {what}"))
}
