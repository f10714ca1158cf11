//! What was written into nodes, until the cache shows it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use client::cache::{Cache, Name};
use k8s_openapi::api::core::v1::Node;

/// By the uids of nodes, the resource versions at which they were written.
#[derive(Debug, Default)]
pub(super) struct Written(Mutex<BTreeMap<String, u64>>);

/// Of the two of a node the larger one is the later one.
fn version(node: &Node) -> Option<u64> {
    node.metadata.resource_version.as_deref()?.parse().ok()
}

fn uid(node: &Node) -> String {
    node.metadata.uid.clone().unwrap_or_default()
}

impl Written {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node was written, and is so now.
    pub(super) fn note(&self, node: &Node, cache: &Cache<Node>) {
        if let Some(version) = version(node) {
            self.all().insert(uid(node), version);
        }
        // The cache may have shown it, or its end, before the answer came.
        match cache.get(&Name::of(node)) {
            Some(shown) if uid(&shown) == uid(node) => self.shown(&shown),
            _ => self.gone(node),
        }
    }

    /// Whether a node was written later than it is here.
    pub(super) fn is_newer(&self, node: &Node) -> bool {
        let here = version(node);
        self.all().get(&uid(node)).is_some_and(|written| here.is_some_and(|here| here < *written))
    }

    /// The cache shows a node as it is here.
    pub(super) fn shown(&self, node: &Node) {
        if !self.is_newer(node) {
            self.all().remove(&uid(node));
        }
    }

    /// A node is gone.
    pub(super) fn gone(&self, node: &Node) {
        self.all().remove(&uid(node));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(uid: &str, version: &str) -> Node {
        let metadata = json!({"name": "n", "uid": uid, "resourceVersion": version});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    #[test]
    fn a_node_is_newer_until_it_is_shown_so() {
        let written = Written::default();
        written.all().insert("a".into(), 10);
        for (uid, version, is_newer) in
            [("a", "9", true), ("a", "10", false), ("a", "100", false), ("b", "9", false), ("a", "x", false)]
        {
            assert_eq!(written.is_newer(&node(uid, version)), is_newer, "{uid} {version}");
        }
        written.shown(&node("a", "9"));
        assert!(written.is_newer(&node("a", "9")), "that is what it was before");
        written.shown(&node("a", "10"));
        assert!(!written.is_newer(&node("a", "9")) && written.all().is_empty());
        written.all().insert("a".into(), 10);
        written.gone(&node("a", "9"));
        assert!(written.all().is_empty());
    }
}
