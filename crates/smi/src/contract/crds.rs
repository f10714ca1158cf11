//! The definitions of SMI's stored kinds, as an API server takes them.
//!
//! Every version that was published is served, and nothing converted: an object is stored as it came, whatever version it says it is
//! of, since the one schema takes the shapes of all. Where the specification contradicts itself, the schema is open; where a value can
//! mean nothing in any reading, it refuses it.

/// A CustomResourceDefinition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crd {
    /// Its name, as `trafficsplits.split.smi-spec.io`.
    pub name: &'static str,
    /// It, in YAML.
    pub yaml: &'static str,
}

macro_rules! crds {
    ($($name:literal,)*) => {
        &[$(Crd { name: $name, yaml: include_str!(concat!("../../crds/", $name, ".yaml")) }),*]
    };
}

/// All of them. `metrics.smi-spec.io` has none: it is an aggregated API.
pub const CRDS: &[Crd] = crds! {
    "httproutegroups.specs.smi-spec.io",
    "identitybindings.access.smi-spec.io",
    "tcproutes.specs.smi-spec.io",
    "trafficsplits.split.smi-spec.io",
    "traffictargets.access.smi-spec.io",
    "udproutes.specs.smi-spec.io",
};

impl Crd {
    /// It as JSON, for who speaks to an API server.
    ///
    /// # Errors
    /// It is no YAML, which the tests of this crate see to.
    pub fn to_json(self) -> Result<serde_json::Value, serde_saphyr::Error> {
        serde_saphyr::from_str(self.yaml)
    }
}
