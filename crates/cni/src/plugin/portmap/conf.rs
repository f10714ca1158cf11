use kernel::netlink::IpNet;

use crate::contract::{AddResult, Code, Error, Keys, PortMapping, Request};
use crate::plugin::table::Table;

/// What the plugin `portmap` is told.
#[derive(Debug)]
pub(super) struct Conf {
    pub(super) mappings: Vec<PortMapping>,
    pub(super) table: Table,
}

/// Keys of the reference plugin that this one does not have: the last three only mean something to iptables.
const NOT_YET: &[&str] = &["masqAll", "conditionsV4", "conditionsV6", "markMasqBit", "externalSetMarkChain"];

impl Conf {
    pub(super) fn of(request: &Request<'_>) -> Result<Self, Error> {
        let keys = request.keys();
        keys.unsupported(NOT_YET)?;
        if keys.get("snat") == Some(&false.into()) {
            return Err(Error::new(
                Code::UnsupportedField,
                "portmap does not support the field \"snat\" with the value false",
            ));
        }
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
        let runtime = keys.object("runtimeConfig")?.map(|runtime| Keys::new(runtime, "\"runtimeConfig\""));
        let mappings: Vec<PortMapping> =
            runtime.map(|runtime| runtime.decode("portMappings")).transpose()?.flatten().unwrap_or_default();
        if let Some((runtime, _)) =
            runtime.zip(mappings.iter().find(|m| m.host_port == 0 || m.container_port == 0))
        {
            return Err(runtime.refuse("portMappings", "ports from 1 to 65535"));
        }
        Ok(Self { mappings, table: Table::of(&keys)? })
    }
}

/// The container's first address of each family.
pub(super) fn container_addresses(previous: &AddResult) -> Vec<IpNet> {
    let inside = |interface: Option<usize>| {
        interface.is_none_or(|i| previous.interfaces.get(i).is_none_or(|link| !link.sandbox.is_empty()))
    };
    let all = || previous.ips.iter().filter(|ip| inside(ip.interface)).map(|ip| ip.address);
    all().find(|net| net.is_ipv4()).into_iter().chain(all().find(|net| !net.is_ipv4())).collect()
}
