use std::path::Path;

use kernel::netlink::IpNet;
use serde_json::{Value, json};

use super::Directory;
use crate::contract::{Code, Error, NetworkList};

/// The names that an instance's effects carry, so that two instances never touch each other's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its name; empty for the installed one.
    name: String,
}

impl Instance {
    /// The instance called `name` (a name as container ids are; empty for the installed one).
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    /// Its nftables table: `sextant`, or `sextant-` and the name.
    pub fn table(&self) -> String {
        if self.name.is_empty() { "sextant".into() } else { format!("sextant-{}", self.name) }
    }

    /// Its default bridge: 15 bytes at most.
    pub fn bridge(&self) -> String {
        let hash = crate::contract::hash(&["bridge", &self.name]);
        if self.name.is_empty() {
            "sextant0".into()
        } else {
            format!("sx-{}", hash.get(..10).unwrap_or_default())
        }
    }
}

/// What `--network` chose.
#[derive(Debug, Clone, PartialEq)]
pub enum Network {
    /// The host's own namespace: no CNI.
    Host,
    /// A configuration list.
    List(Box<NetworkList>),
}

impl Network {
    /// Reads `--network`: `host`, `none` (loopback alone), `bridge` (the instance's default), or the name of a
    /// configuration list in `conf_dir` (*.conflist, *.conf, *.json).
    pub fn choose(
        choice: &str,
        instance: &Instance,
        subnets: &[IpNet],
        run_dir: &Path,
        conf_dir: &Path,
    ) -> Result<Self, Error> {
        match choice {
            "host" => Ok(Self::Host),
            "none" => loopback_network().map(|list| Self::List(Box::new(list))),
            "bridge" | "default" | "" => {
                default_network(instance, subnets, run_dir).map(|list| Self::List(Box::new(list)))
            }
            name => Directory::new(conf_dir).find(name).map(|list| Self::List(Box::new(list))).map_err(|e| {
                let hint = format!("{}; host, none and bridge need no configuration", e.details);
                e.hint(hint)
            }),
        }
    }
}

/// The network of `sextant run`: a bridge of the instance's own, host-local addresses, masquerade, published ports.
/// Leases are below `run_dir`.
pub fn default_network(instance: &Instance, subnets: &[IpNet], run_dir: &Path) -> Result<NetworkList, Error> {
    if subnets.is_empty() {
        return Err(Error::new(Code::InvalidConfig, "cannot make a network without a subnet"));
    }
    let ranges: Vec<Value> =
        subnets.iter().map(|net| json!([{ "subnet": net.network().to_string() }])).collect();
    let routes: Vec<Value> = [("0.0.0.0/0", true), ("::/0", false)]
        .into_iter()
        .filter(|(_, v4)| subnets.iter().any(|net| net.is_ipv4() == *v4))
        .map(|(dst, _)| json!({ "dst": dst }))
        .collect();
    let ours = json!({ "table": instance.table() });
    NetworkList::from_value(json!({
        "cniVersion": "1.1.0",
        "name": instance.table(),
        "plugins": [
            {
                "type": "bridge",
                "bridge": instance.bridge(),
                "isGateway": true,
                "ipMasq": true,
                "ipMasqBackend": "nftables",
                "hairpinMode": true,
                "sextant": ours,
                "ipam": {
                    "type": "host-local",
                    "dataDir": run_dir.join("cni/networks"),
                    "ranges": ranges,
                    "routes": routes,
                },
            },
            { "type": "portmap", "backend": "nftables", "capabilities": { "portMappings": true }, "sextant": ours },
        ],
    }))
}

/// The network of `--network none`: loopback and nothing else.
pub fn loopback_network() -> Result<NetworkList, Error> {
    NetworkList::from_value(
        json!({ "cniVersion": "1.1.0", "name": "none", "plugins": [{ "type": "loopback" }] }),
    )
}
