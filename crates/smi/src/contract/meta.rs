//! Names and kinds.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use super::Refused;

/// A namespaced name; as text `NAMESPACE/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Its namespace.
    pub namespace: String,
    /// Its name there.
    pub name: String,
}

impl Name {
    /// Of its two parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parts = text.split_once('/').filter(|(namespace, name)| is_name(namespace) && is_name(name));
        let (namespace, name) =
            parts.ok_or_else(|| de::Error::custom(format!("{text:?} is not NAMESPACE/NAME")))?;
        Ok(Self::new(namespace, name))
    }
}

/// Whether it may name an object: RFC 1123, as Kubernetes has it.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let part = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        part.bytes().all(|byte| inner(byte) || byte == b'-')
            && part.bytes().next().is_some_and(inner)
            && part.bytes().last().is_some_and(inner)
    };
    text.len() <= 253 && text.split('.').all(part)
}

/// Which API an object is of. SMI and Gateway API both have a TCPRoute and a UDPRoute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// `access.smi-spec.io` TrafficTarget.
    TrafficTarget,
    /// `access.smi-spec.io` IdentityBinding.
    IdentityBinding,
    /// `specs.smi-spec.io` HTTPRouteGroup.
    HttpRouteGroup,
    /// `specs.smi-spec.io` TCPRoute.
    TcpPorts,
    /// `specs.smi-spec.io` UDPRoute.
    UdpPorts,
    /// `split.smi-spec.io` TrafficSplit.
    TrafficSplit,
    /// `gateway.networking.k8s.io` HTTPRoute.
    HttpRoute,
    /// `gateway.networking.k8s.io` GRPCRoute.
    GrpcRoute,
    /// `gateway.networking.k8s.io` TLSRoute.
    TlsRoute,
    /// `gateway.networking.k8s.io` TCPRoute.
    TcpRoute,
    /// `gateway.networking.k8s.io` UDPRoute.
    UdpRoute,
}

/// Kind, its group, its name there, its plural, its versions, newest first.
type Row = (Kind, &'static str, &'static str, &'static str, &'static [&'static str]);

const KINDS: [Row; 11] = {
    const ACCESS: &str = "access.smi-spec.io";
    const SPECS: &str = "specs.smi-spec.io";
    const GATEWAY: &str = "gateway.networking.k8s.io";
    const SPECS_VERSIONS: &[&str] = &["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"];
    const GATEWAY_VERSIONS: &[&str] = &["v1", "v1beta1", "v1alpha3", "v1alpha2"];
    [
        (
            Kind::TrafficTarget,
            ACCESS,
            "TrafficTarget",
            "traffictargets",
            &["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"],
        ),
        (Kind::IdentityBinding, ACCESS, "IdentityBinding", "identitybindings", &["v1alpha4"]),
        (Kind::HttpRouteGroup, SPECS, "HTTPRouteGroup", "httproutegroups", SPECS_VERSIONS),
        (Kind::TcpPorts, SPECS, "TCPRoute", "tcproutes", SPECS_VERSIONS),
        (Kind::UdpPorts, SPECS, "UDPRoute", "udproutes", SPECS_VERSIONS),
        (
            Kind::TrafficSplit,
            "split.smi-spec.io",
            "TrafficSplit",
            "trafficsplits",
            &["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"],
        ),
        (Kind::HttpRoute, GATEWAY, "HTTPRoute", "httproutes", GATEWAY_VERSIONS),
        (Kind::GrpcRoute, GATEWAY, "GRPCRoute", "grpcroutes", GATEWAY_VERSIONS),
        (Kind::TlsRoute, GATEWAY, "TLSRoute", "tlsroutes", GATEWAY_VERSIONS),
        (Kind::TcpRoute, GATEWAY, "TCPRoute", "tcproutes", GATEWAY_VERSIONS),
        (Kind::UdpRoute, GATEWAY, "UDPRoute", "udproutes", GATEWAY_VERSIONS),
    ]
};

impl Kind {
    /// Every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().map(|row| row.0)
    }

    fn row(self) -> &'static Row {
        // The table has every kind, which a test sees to; its first row stands in for the compiler.
        KINDS.iter().find(|row| row.0 == self).unwrap_or(&KINDS[0])
    }

    /// Of an object's `apiVersion` and `kind`.
    #[must_use]
    pub fn of(api_version: &str, kind: &str) -> Option<Self> {
        let (group, version) = api_version.split_once('/')?;
        let row = KINDS.iter().find(|row| row.1 == group && row.2 == kind)?;
        row.4.contains(&version).then_some(row.0)
    }

    /// Its API group.
    #[must_use]
    pub fn group(self) -> &'static str {
        self.row().1
    }

    /// Its name in that group.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().2
    }

    /// Its name in paths.
    #[must_use]
    pub fn plural(self) -> &'static str {
        self.row().3
    }

    /// The versions that are read, newest first.
    #[must_use]
    pub fn versions(self) -> &'static [&'static str] {
        self.row().4
    }

    pub(super) fn known() -> String {
        let names: Vec<String> = KINDS.iter().map(|row| format!("{} of {}", row.2, row.1)).collect();
        names.join(", ")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Id {
    /// Of which API.
    pub kind: Kind,
    /// Called what.
    pub name: Name,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// What of an object's metadata matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// What it is called.
    pub name: Name,
    /// Which of all that were called so; events need it.
    pub uid: String,
    /// What conditions refer to.
    pub generation: i64,
    /// When it was made, RFC 3339 in UTC, which is in order as text. What has no time is younger than all that have one.
    pub created: String,
}

impl Meta {
    pub(super) fn read(value: &Value, kind: Kind) -> Result<Self, Refused> {
        let meta = &value["metadata"];
        let text = |field: &str| meta[field].as_str().unwrap_or_default().to_owned();
        let named = |field: &'static str| {
            let value = text(field);
            if is_name(&value) { Ok(value) } else { Err(Refused::Unnamed { kind, field, value }) }
        };
        let created = text("creationTimestamp");
        Ok(Self {
            name: Name::new(named("namespace")?, named("name")?),
            uid: text("uid"),
            generation: meta["generation"].as_i64().unwrap_or_default(),
            created,
        })
    }

    /// By age, the oldest first, then by name.
    #[must_use]
    pub fn seniority(&self) -> (bool, &str, &Name) {
        (self.created.is_empty(), &self.created, &self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_both_families_are_told_apart_by_their_group() {
        assert_eq!(Kind::of("specs.smi-spec.io/v1alpha4", "TCPRoute"), Some(Kind::TcpPorts));
        assert_eq!(Kind::of("gateway.networking.k8s.io/v1alpha2", "TCPRoute"), Some(Kind::TcpRoute));
        assert_eq!(Kind::of("specs.smi-spec.io/v1", "TCPRoute"), None);
        for kind in Kind::all() {
            assert_eq!(kind.row().0, kind);
            for version in kind.versions() {
                assert_eq!(Kind::of(&format!("{}/{version}", kind.group()), kind.as_str()), Some(kind));
            }
        }
    }

    #[test]
    fn names_are_those_of_rfc_1123() {
        for good in ["a", "web-v1", "a.b", "0"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a..b", "a/b", "a_b", &"a".repeat(254)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
