//! `apiVersion` and `kind` of a body.

use super::Expected;
use crate::schema::{Schema, builtin};

/// A group, a version and a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gvk {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
}

impl Gvk {
    pub(super) fn of(api_version: &str, kind: &str) -> Result<Gvk, String> {
        let (group, version) = match (api_version, api_version.matches('/').count()) {
            ("" | "/", _) => ("", ""),
            (version, 0) => ("", version),
            (both, 1) => both.split_once('/').unwrap_or_default(),
            _ => return Err(format!("unexpected GroupVersion string: {api_version}")),
        };
        Ok(Gvk { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() })
    }

    /// What the body does not say is what is expected.
    pub(super) fn or(mut self, expected: &Gvk) -> Gvk {
        if self.kind.is_empty() {
            self.kind.clone_from(&expected.kind);
        }
        if self.version.is_empty() && (self.group.is_empty() || self.group == expected.group) {
            self.group.clone_from(&expected.group);
            self.version.clone_from(&expected.version);
        }
        self
    }

    /// `apps/v1`
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The built-in type of that name. Lists are known too, as if they were the empty type.
    pub(super) fn schema(&self) -> Option<Schema<'static>> {
        let package = self.package();
        let name = format!("io.k8s.api.{package}.{}.{}", self.version, self.kind);
        let listed = name.strip_suffix("List").and_then(builtin);
        let meta = || match self.kind.as_str() {
            "Status" | "DeleteOptions" | "WatchEvent" => {
                builtin(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{}", self.kind))
            }
            _ => None,
        };
        builtin(&name).filter(|schema| schema.field("apiVersion").is_some()).or(listed).or_else(meta)
    }

    /// The last part of the Go package of the group's types.
    pub(super) fn package(&self) -> &str {
        match self.group.split('.').next().unwrap_or_default() {
            "" => "core",
            package => package,
        }
    }

    /// The same of the types that the API server works with.
    pub(super) fn internal_package(&self) -> &str {
        match self.package() {
            "events" => "core",
            package => package,
        }
    }

    pub(super) fn expected(expected: &Expected<'_>) -> Gvk {
        Gvk::of(expected.api_version, expected.kind).unwrap_or_else(|_| Gvk {
            group: String::new(),
            version: expected.api_version.to_owned(),
            kind: expected.kind.to_owned(),
        })
    }
}
