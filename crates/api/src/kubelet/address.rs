use std::net::IpAddr;

use crate::contract::{Object, Result, Status};
use crate::registry::Registry;
use crate::registry::client::Client;

/// The kubelet's own port, where the node does not tell another.
const PORT: u16 = 10250;
/// Which of a node's addresses is taken, in this order: one that needs no name service first.
const KINDS: [&str; 5] = ["InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS"];

/// Where a kubelet serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    /// As a URL has it.
    pub(super) fn authority(&self) -> String {
        match self.host.parse() {
            Ok(IpAddr::V6(v6)) => format!("[{v6}]:{}", self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

/// Where the kubelet of the node with this name serves, as the node's status says.
pub(super) fn of(registry: &Registry, node: &str) -> Result<Address> {
    let client = Client::new(registry.clone(), "sextant-api");
    let found = client.get(&client.target("v1", "Node", "", node)?)?;
    read(&found).ok_or_else(|| {
        Status::internal(format!("no preferred addresses found; known addresses: {}", known(&found)))
    })
}

fn read(node: &Object) -> Option<Address> {
    let addresses = node.at(&["status", "addresses"])?.as_array()?;
    let of_kind = |kind: &&str| {
        let is = |one: &&serde_json::Value| one.get("type").and_then(|t| t.as_str()) == Some(*kind);
        addresses.iter().filter(is).find_map(|one| one.get("address")?.as_str().filter(|a| !a.is_empty()))
    };
    let host = KINDS.iter().find_map(of_kind)?.to_owned();
    let port = node.at(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]).and_then(|p| p.as_u64());
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0).unwrap_or(PORT);
    Some(Address { host, port })
}

fn known(node: &Object) -> String {
    node.at(&["status", "addresses"]).map_or_else(|| "[]".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_address_that_needs_no_names_comes_first() {
        let node = |status: serde_json::Value| Object::from_value(json!({ "status": status })).unwrap();
        let both = node(json!({
            "addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "fd00::1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10999}},
        }));
        assert_eq!(read(&both).map(|a| a.authority()).as_deref(), Some("[fd00::1]:10999"));
        let name = node(json!({"addresses": [{"type": "Hostname", "address": "n1"}]}));
        assert_eq!(read(&name).map(|a| a.authority()).as_deref(), Some("n1:10250"));
        assert_eq!(read(&node(json!({"addresses": []}))), None);
        assert_eq!(read(&node(json!({}))), None);
    }
}
