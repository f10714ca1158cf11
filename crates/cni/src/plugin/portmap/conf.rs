use std::net::{IpAddr, Ipv6Addr};

use kernel::netlink::IpNet;

use super::conditions::Conditions;
use crate::contract::{AddResult, Code, Error, Keys, PortMapping, Request};
use crate::plugin::table::Table;

/// What the plugin `portmap` is told.
#[derive(Debug)]
pub(super) struct Conf {
    pub(super) mappings: Vec<PortMapping>,
    /// Those who could not be answered otherwise are masqueraded: the container itself, its neighbours, the host's own
    /// loopback.
    pub(super) snat: bool,
    /// Everybody is masqueraded.
    pub(super) masq_all: bool,
    /// For IPv4 and IPv6.
    pub(super) conditions: [Option<Conditions>; 2],
    pub(super) table: Table,
}

impl Conf {
    pub(super) fn of(request: &Request<'_>) -> Result<Self, Error> {
        let keys = request.keys();
        // They only mean something to iptables.
        keys.unsupported(&["markMasqBit", "externalSetMarkChain"])?;
        match keys.text("backend")? {
            None | Some("" | "nftables") => {}
            Some(backend) => {
                return Err(Error::new(
                    Code::UnsupportedField,
                    format!("portmap does not support the field \"backend\" with the value {backend:?}"),
                )
                .hint("this plugin speaks nftables only"));
            }
        }
        let snat = keys.get("snat").is_none() || keys.boolean("snat")?;
        Ok(Self {
            mappings: mappings(&keys)?,
            snat,
            masq_all: keys.boolean("masqAll")? && snat,
            conditions: [Conditions::of(&keys, true)?, Conditions::of(&keys, false)?],
            table: Table::of(&keys)?,
        })
    }

    /// The conditions of one family.
    pub(super) fn conditions(&self, ipv4: bool) -> Option<&Conditions> {
        self.conditions[usize::from(!ipv4)].as_ref()
    }
}

/// The ports to publish.
pub(super) fn mappings(keys: &Keys<'_>) -> Result<Vec<PortMapping>, Error> {
    let Some(runtime) = keys.object("runtimeConfig")? else { return Ok(Vec::new()) };
    let runtime = Keys::new(runtime, "\"runtimeConfig\"");
    let mappings = PortMapping::list(&runtime, "portMappings")?;
    if mappings.iter().any(|m| m.host_port == 0 || m.container_port == 0) {
        return Err(runtime.refuse("portMappings", "ports from 1 to 65535"));
    }
    if mappings.iter().any(|m| m.host_ip == Some(IpAddr::V6(Ipv6Addr::LOCALHOST))) {
        let text = "cannot use \"portMappings\" of \"runtimeConfig\": \"hostIP\" is \"::1\", and Linux sends nothing from \
                    there to a container";
        return Err(Error::new(Code::InvalidConfig, text)
            .hint("publish on 127.0.0.1, on another address of the host, or on all of them"));
    }
    Ok(mappings)
}

/// The container's first address of each family.
pub(super) fn container_addresses(previous: &AddResult) -> Vec<IpNet> {
    let inside = |interface: Option<usize>| {
        interface.is_none_or(|i| previous.interfaces.get(i).is_none_or(|link| !link.sandbox.is_empty()))
    };
    let all = || previous.ips.iter().filter(|ip| inside(ip.interface)).map(|ip| ip.address);
    all().find(|net| net.is_ipv4()).into_iter().chain(all().find(|net| !net.is_ipv4())).collect()
}
