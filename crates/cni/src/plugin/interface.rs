//! What the plugins that make links have in common: what they are told of MACs and link names, and how they say what
//! they made.

use std::net::IpAddr;

use kernel::netlink::{Link, Mac};

use crate::contract::{AddResult, Code, Dns, Error, Interface, Ip, Keys, Request};

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
    let said = request.keys().object("dns")?.is_some_and(|dns| dns.values().any(|value| !value.is_null()));
    let of_conf = request.keys().decode("dns")?;
    Ok(of_conf.filter(|_| said).unwrap_or(of_ipam))
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
