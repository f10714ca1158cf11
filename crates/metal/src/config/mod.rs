//! The provider's file.

mod check;
mod range;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;

use cpi::contract::{Cidr, NodeAddress};
use serde::Deserialize;
use serde_json::Value;

pub use range::Range;

/// No file of people is larger.
const LARGEST: u64 = 4 * 1024 * 1024;

/// What the provider's file says, in YAML or JSON. All of it has been found right: see [`Config::parse`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Addresses for load balancers. With none, these have the addresses of nodes.
    pub pools: Vec<Pool>,
    /// The machines that there are; `None`: each node is taken for one.
    pub instances: Option<Vec<Instance>>,
    /// Whether nodes have routes to the pods of other nodes of the same link, which they make themselves.
    pub node_routes: NodeRoutes,
}

/// To which pods nodes have routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodeRoutes {
    /// To none.
    #[default]
    None,
    /// To those of each node.
    All,
    /// To those whose addresses are in one of these networks, of which there is at least one: no node can have packets for others led to it.
    Within(Vec<Cidr>),
}

impl NodeRoutes {
    /// Whether there are any.
    #[must_use]
    pub fn are_wanted(&self) -> bool {
        *self != Self::None
    }

    /// Whether a node's range of pods' addresses is one that routes may lead to.
    #[must_use]
    pub fn admit(&self, range: &Cidr) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Within(networks) => networks.iter().any(|network| network.covers(range)),
        }
    }
}

/// Addresses that services get of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// What services ask for it by, unique.
    pub name: String,
    /// The addresses, at least one range. None is in two pools, or twice in one.
    pub addresses: Vec<Range>,
    /// Whether it is for services that do not ask for it.
    pub auto_assign: bool,
    /// Whether those that end in .0 or .255 are left out, which old machines take for those of networks.
    pub avoid_network_addresses: bool,
    /// The namespaces whose services may have it; none: all.
    pub namespaces: Vec<String>,
    /// The labels that services that may have it have.
    pub labels: BTreeMap<String, String>,
    /// Lower ones are taken first, at least 1; those without one at last.
    pub priority: Option<u32>,
    /// The links that its addresses are announced on; none: all those that they belong to.
    pub links: Vec<String>,
}

/// A machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Instance {
    /// The node's name, unique.
    pub name: String,
    /// Its id, unique: nodes have it as `metal://ID`.
    pub id: String,
    /// Its addresses; none: those that its kubelet tells.
    pub addresses: Vec<NodeAddress>,
    /// The kind of machine, or nothing.
    pub kind: String,
    /// Where it is, as to failures, or nothing.
    pub zone: String,
    /// Where zones are, or nothing.
    pub region: String,
    /// More labels of its node.
    pub labels: BTreeMap<String, String>,
    /// Whether it is switched off.
    pub shutdown: bool,
}

impl Eq for Instance {}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {file}: {cause}")]
    Unread {
        /// Its path.
        file: String,
        /// What the kernel says.
        cause: String,
    },
    /// It is no YAML and no JSON, or has a field that there is not or that is not of its type.
    #[error("cannot read the configuration: {0}")]
    Malformed(String),
    /// A field cannot be as it is.
    #[error("cannot use the configuration: {field}: {what}")]
    Field {
        /// Where it stands: `pools[0].addresses[1]`.
        field: String,
        /// The value, what is wrong with it, and what to do.
        what: String,
    },
    /// The same of a file.
    #[error("{error} (in {file})")]
    In {
        /// Its path.
        file: String,
        /// What is wrong.
        error: Box<Self>,
    },
}

impl ConfigError {
    fn field(field: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Field { field: field.into(), what: what.into() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    pools: Vec<PoolDocument>,
    instances: Option<Vec<InstanceDocument>>,
    #[serde(default)]
    node_routes: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PoolDocument {
    name: String,
    addresses: Vec<String>,
    #[serde(default = "yes")]
    auto_assign: bool,
    #[serde(default)]
    avoid_network_addresses: bool,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default)]
    service_selector: SelectorDocument,
    priority: Option<u32>,
    #[serde(default)]
    links: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SelectorDocument {
    #[serde(default)]
    match_labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct InstanceDocument {
    name: String,
    id: Option<String>,
    #[serde(default)]
    addresses: Vec<AddressDocument>,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    zone: String,
    #[serde(default)]
    region: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    shutdown: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddressDocument {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

fn yes() -> bool {
    true
}

impl Config {
    /// Reads a text of YAML or JSON. Fields that there are not are refused, and so is what could not work: see [`ConfigError`].
    ///
    /// # Errors
    /// The first thing that is wrong, with the field, its value and what to do.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let malformed = |words: String| {
            // Parsers show the lines around what is wrong; an error here is one line.
            ConfigError::Malformed(
                words.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(600).collect(),
            )
        };
        let value: Value = serde_saphyr::from_str(text).map_err(|error| malformed(error.to_string()))?;
        if value.is_null() {
            return Err(malformed("it is empty; write {} for one that says nothing".into()));
        }
        let document: Document = serde_path_to_error::deserialize(value).map_err(|error| {
            let hint = if error.inner().to_string().contains("expected a string") {
                "; write it in quotes"
            } else {
                ""
            };
            malformed(format!("{}: {}{hint}", error.path(), error.inner()))
        })?;
        check::checked(document)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or [`Config::parse`] refuses what it says.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let unread = |cause: String| ConfigError::Unread { file: file.clone(), cause };
        let mut text = String::new();
        let opened = File::open(path).map_err(|e| unread(e.to_string()))?;
        let size = opened.take(LARGEST + 1).read_to_string(&mut text).map_err(|e| unread(e.to_string()))?;
        if size as u64 > LARGEST {
            return Err(unread(format!("it has more than {LARGEST} bytes")));
        }
        Self::parse(&text).map_err(|error| ConfigError::In { file, error: Box::new(error) })
    }

    /// The pool that an address is of.
    #[must_use]
    pub fn pool_of(&self, address: IpAddr) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.contains(address))
    }
}

impl Pool {
    /// Whether services can get this address of it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        !self.avoids(address) && self.addresses.iter().any(|range| range.contains(address))
    }

    /// Whether an address is left out, wherever it is: what [`Pool::avoid_network_addresses`] says of IPv4, and of IPv6 those that end
    /// in 64 zeros.
    #[must_use]
    pub fn avoids(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.avoid_network_addresses && matches!(v4.octets()[3], 0 | 255),
            // All routers of a network have this one (RFC 4291, 2.6.1): nodes, for one.
            IpAddr::V6(v6) => v6.to_bits() as u64 == 0,
        }
    }

    /// Its ranges of one family.
    pub fn ranges(&self, v6: bool) -> impl Iterator<Item = &Range> {
        self.addresses.iter().filter(move |range| range.is_v6() == v6)
    }
}
