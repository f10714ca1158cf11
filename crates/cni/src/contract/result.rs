use std::net::IpAddr;

use kernel::netlink::{IpNet, Link};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Code, Error, Version};

/// What ADD made, in the terms of version 1.1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddResult {
    /// The links, on the host and inside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// The addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<Ip>,
    /// The routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Name service.
    #[serde(default, skip_serializing_if = "Dns::is_empty")]
    pub dns: Dns,
    /// What plugins of this process have seen meanwhile.
    #[serde(skip)]
    pub seen: Seen,
}

/// Links of the host as plugins of this process saw them in this very ADD: who comes after them need not ask again. It is
/// no part of what a result says: it is not written, and by it no two results differ.
#[derive(Debug, Clone, Default)]
pub struct Seen(Vec<(Link, Vec<IpNet>)>);

impl Seen {
    /// The link that leads to `address`: the host has an address of its network there.
    pub fn link_to(&self, address: IpAddr) -> Option<&Link> {
        let leads = |networks: &[IpNet]| networks.iter().any(|network| network.contains(address));
        self.0.iter().find(|(_, networks)| leads(networks)).map(|(link, _)| link)
    }

    /// A link was seen, on which the host has these addresses.
    pub fn add(&mut self, link: Link, addresses: Vec<IpNet>) {
        self.0.push((link, addresses));
    }
}

impl PartialEq for Seen {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Seen {}

/// A result in the words of a version, to be written.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Versioned<'a> {
    /// As it is: with the keys of [`AddResult`].
    Latest {
        #[serde(rename = "cniVersion")]
        version: &'static str,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        interfaces: &'a [Interface],
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        ips: &'a [Ip],
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        routes: &'a [Route],
        #[serde(skip_serializing_if = "says_nothing")]
        dns: &'a Dns,
    },
    /// Turned into another.
    Older(Value),
}

/// A link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its link-layer address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Its MTU (1.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The network namespace it is in; empty for the host's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// The path of a socket that stands for it (1.1).
    #[serde(default, rename = "socketPath", skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// The PCI device that stands for it (1.1).
    #[serde(default, rename = "pciID", skip_serializing_if = "String::is_empty")]
    pub pci_id: String,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ip {
    /// With its prefix.
    #[serde(with = "text")]
    pub address: IpNet,
    /// The default gateway of its network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Which entry of `interfaces` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where to.
    #[serde(with = "text")]
    pub dst: IpNet,
    /// The next hop; the gateway of the address if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// The path MTU (1.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The TCP segment size to advertise (1.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// The metric (1.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// The table (1.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// The scope (1.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

impl Route {
    /// A route with nothing else said.
    pub fn to(dst: IpNet, gw: Option<IpAddr>) -> Self {
        Self { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }
}

/// Name service, for whoever writes resolv.conf.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Servers, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Domains to search.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Resolver options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// Nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn says_nothing(dns: &&Dns) -> bool {
    dns.is_empty()
}

/// Addresses with prefix, as text.
mod text {
    use kernel::netlink::IpNet;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(net: &IpNet, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(net)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpNet, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl AddResult {
    /// Reads a result of any published version.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let value = serde_json::from_slice(bytes)
            .map_err(|e| Error::because("cannot read a plugin's result", e).code(Code::Decode))?;
        Self::from_value(value)
    }

    /// Reads a decoded result of any published version: it says which one in `cniVersion`.
    pub fn from_value(mut value: Value) -> Result<Self, Error> {
        let text = value.get("cniVersion").and_then(Value::as_str).unwrap_or_default();
        let result: Self = if text.parse::<Version>()? <= Version::V0_2_0 {
            return Old::deserialize(value).map_err(undecodable).map(Self::from);
        } else {
            // "gateway": "" and "gw": "" mean none.
            for (list, key) in [("ips", "gateway"), ("routes", "gw")] {
                for entry in value.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                    if let Some(entry) = entry.as_object_mut().filter(|e| e.get(key) == Some(&json!(""))) {
                        entry.remove(key);
                    }
                }
            }
            Self::deserialize(value).map_err(undecodable)?
        };
        match result.ips.iter().filter_map(|ip| ip.interface).find(|i| *i >= result.interfaces.len()) {
            Some(index) if !result.interfaces.is_empty() => Err(Error::new(
                Code::Decode,
                format!(
                    "cannot read a plugin's result: \"interface\" {index} of \"ips\" is not in \"interfaces\""
                ),
            )),
            _ => Ok(result),
        }
    }

    /// The result as `version` has it, without a detour through [`to_value`](Self::to_value) where there need be none.
    pub(crate) fn of_version(&self, version: Version) -> Versioned<'_> {
        if version < Version::V1_1_0 {
            return Versioned::Older(self.to_value(version));
        }
        let Self { interfaces, ips, routes, dns, seen: _ } = self;
        Versioned::Latest { version: version.as_str(), interfaces, ips, routes, dns }
    }

    /// Writes the result as `version` has it.
    pub fn to_value(&self, version: Version) -> Value {
        if version <= Version::V0_2_0 {
            return self.to_old(version);
        }
        let mut value = serde_json::to_value(self).unwrap_or_else(|_| json!({}));
        if let Some(object) = value.as_object_mut() {
            object.insert("cniVersion".into(), json!(version.as_str()));
            if version < Version::V1_1_0 {
                strip(object, "interfaces", &["mtu", "socketPath", "pciID"]);
                strip(object, "routes", &["mtu", "advmss", "priority", "table", "scope"]);
            }
            if version < Version::V1_0_0 {
                for ip in object.get_mut("ips").and_then(Value::as_array_mut).into_iter().flatten() {
                    let v6 = ip.get("address").and_then(Value::as_str).is_some_and(|a| a.contains(':'));
                    ip["version"] = json!(if v6 { "6" } else { "4" });
                }
            }
        }
        value
    }

    fn to_old(&self, version: Version) -> Value {
        let mut value = json!({ "cniVersion": version.as_str(), "dns": self.dns });
        for (key, v4) in [("ip4", true), ("ip6", false)] {
            let Some(ip) = self.ips.iter().find(|ip| ip.address.is_ipv4() == v4) else { continue };
            let routes: Vec<_> = self.routes.iter().filter(|r| r.dst.is_ipv4() == v4).collect();
            let routes: Vec<_> = routes.iter().map(|r| Route::to(r.dst, r.gw)).collect();
            value[key] = json!({ "ip": ip.address.to_string(), "routes": routes });
            if let Some(gateway) = ip.gateway {
                value[key]["gateway"] = json!(gateway);
            }
        }
        value
    }
}

fn undecodable(source: serde_json::Error) -> Error {
    Error::because("cannot read a plugin's result", source).code(Code::Decode)
}

fn strip(object: &mut Map<String, Value>, list: &str, keys: &[&str]) {
    for entry in object.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(entry) = entry.as_object_mut() {
            entry.retain(|key, _| !keys.contains(&key.as_str()));
        }
    }
}

/// The result of 0.1.0 and 0.2.0.
#[derive(Deserialize)]
struct Old {
    ip4: Option<OldIp>,
    ip6: Option<OldIp>,
    #[serde(default)]
    dns: Dns,
}

#[derive(Deserialize)]
struct OldIp {
    #[serde(with = "text")]
    ip: IpNet,
    gateway: Option<IpAddr>,
    #[serde(default)]
    routes: Option<Vec<Route>>,
}

impl From<Old> for AddResult {
    fn from(old: Old) -> Self {
        let mut result = Self { dns: old.dns, ..Self::default() };
        for ip in [old.ip4, old.ip6].into_iter().flatten() {
            let gateway = ip.gateway;
            result.ips.push(Ip { address: ip.ip, gateway, interface: None });
            let routes = ip.routes.unwrap_or_default().into_iter();
            result.routes.extend(routes.map(|r| Route { gw: r.gw.or(gateway), ..r }));
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> AddResult {
        AddResult {
            interfaces: vec![Interface { name: "eth0".into(), mtu: Some(1400), ..Interface::default() }],
            ips: vec![Ip {
                address: "10.0.0.2/24".parse().unwrap(),
                gateway: Some([10, 0, 0, 1].into()),
                interface: Some(0),
            }],
            routes: vec![Route::to("0.0.0.0/0".parse().unwrap(), Some([10, 0, 0, 1].into()))],
            dns: Dns::default(),
            seen: Seen::default(),
        }
    }

    #[test]
    fn what_was_seen_is_not_said() {
        let mut result = sample();
        result.seen.add(link("br0"), vec!["10.0.0.1/24".parse().unwrap()]);
        assert_eq!(result.seen.link_to([10, 0, 0, 9].into()).map(|link| link.name.as_str()), Some("br0"));
        assert!(result.seen.link_to([10, 0, 1, 9].into()).is_none());
        assert!(result == sample() && result.to_value(Version::LATEST) == sample().to_value(Version::LATEST));
        for version in Version::ALL {
            let written = serde_json::to_value(result.of_version(version)).unwrap();
            assert_eq!(written, result.to_value(version), "{version}");
        }
    }

    fn link(name: &str) -> Link {
        Link {
            index: 7,
            name: name.into(),
            kind: "bridge".into(),
            mac: None,
            mtu: 1500,
            tx_queue_len: 0,
            flags: 0,
            master: None,
            peer: None,
            peer_netns: None,
            alias: None,
            operstate: 6,
            route_localnet: false,
            hairpin: false,
            isolated: false,
            detail: None,
        }
    }

    #[test]
    fn every_version_reads_back_what_it_can_say() {
        for version in Version::ALL {
            let value = sample().to_value(version);
            assert_eq!(value["cniVersion"], version.as_str());
            let back = AddResult::from_value(value).unwrap();
            assert_eq!(back.ips[0].address, sample().ips[0].address, "{version}");
            assert_eq!(back.routes, sample().routes, "{version}");
            assert_eq!(back == sample(), version == Version::V1_1_0, "{version}");
        }
        assert_eq!(sample().to_value(Version::V0_4_0)["ips"][0]["version"], "4");
    }

    #[test]
    fn results_of_others_are_judged() {
        for bad in [
            r#"{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.1"}]}"#,
            r#"{"cniVersion":"1.1.0","ips":7}"#,
            r#"{"cniVersion":"7"}"#,
            r#"{"cniVersion":"1.0.0","interfaces":[{"name":"a"}],"ips":[{"address":"10.0.0.1/8","interface":1}]}"#,
            "[",
        ] {
            assert!(AddResult::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let lax = r#"{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.1/8","gateway":""}],"x":1}"#;
        assert_eq!(AddResult::parse(lax.as_bytes()).unwrap().ips[0].gateway, None);
    }
}
