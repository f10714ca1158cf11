//! Names of objects, and their order.

use super::{Error, Result};

/// The name of one object in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `pods`, `deployments.apps` ([`crate::resource::Resource::stored_as`]).
    pub resource: String,
    /// Empty for what is not in a namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

/// What a list or a watch is about: all objects of a resource, or those in one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// As in [`Key::resource`].
    pub resource: String,
    /// One namespace only.
    pub namespace: Option<String>,
}

/// Between the parts of a key. It sorts as it does in etcd, so lists have the order that Kubernetes gives them: namespace
/// `a-b` before `a`, for `-` is before `/`.
pub(super) const BETWEEN: u8 = b'/';

impl Key {
    /// The key's bytes in the tables, in whose order lists are.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let parts = [("resource", &self.resource), ("namespace", &self.namespace), ("name", &self.name)];
        for (part, text) in parts {
            let empty = part != "namespace" && text.is_empty();
            let divided = part != "name" && text.as_bytes().contains(&BETWEEN);
            if empty || divided || text.as_bytes().contains(&0) {
                return Err(Error::Name { part, text: text.clone() });
            }
        }
        Ok([self.resource.as_bytes(), self.namespace.as_bytes(), self.name.as_bytes()].join(&BETWEEN))
    }

    /// The key of such bytes; `None` if they are none of [`Key::encode`].
    pub(super) fn decode(bytes: &[u8]) -> Option<Key> {
        let mut parts = std::str::from_utf8(bytes).ok()?.splitn(3, char::from(BETWEEN)).map(str::to_owned);
        Some(Key { resource: parts.next()?, namespace: parts.next()?, name: parts.next()? })
    }
}

impl Scope {
    /// Every object of a resource.
    #[must_use]
    pub fn all(resource: impl Into<String>) -> Scope {
        Scope { resource: resource.into(), namespace: None }
    }

    /// The objects of a resource in one namespace.
    #[must_use]
    pub fn within(resource: impl Into<String>, namespace: impl Into<String>) -> Scope {
        Scope { resource: resource.into(), namespace: Some(namespace.into()) }
    }

    /// Whether the object belongs to it.
    #[must_use]
    pub fn holds(&self, key: &Key) -> bool {
        key.resource == self.resource
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace)
    }

    /// What the keys of the scope, and no others, begin with.
    pub(super) fn prefix(&self) -> Vec<u8> {
        let mut prefix = self.resource.clone().into_bytes();
        prefix.push(BETWEEN);
        if let Some(namespace) = &self.namespace {
            prefix.extend_from_slice(namespace.as_bytes());
            prefix.push(BETWEEN);
        }
        prefix
    }
}

/// The first bytes that sort behind everything that begins with `prefix`, which ends with [`BETWEEN`].
pub(super) fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = BETWEEN + 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(resource: &str, namespace: &str, name: &str) -> Key {
        Key { resource: resource.into(), namespace: namespace.into(), name: name.into() }
    }

    #[test]
    fn keys_come_back_and_sort_as_in_etcd() {
        let keys = [
            key("nodes", "", "a"),
            key("pods", "a-b", "x"),
            key("pods", "a", "x"),
            key("pods", "a", "x/y"),
            key("pods", "b", "a"),
            key("pods.other", "b", "a"),
        ];
        for key in &keys {
            assert_eq!(Key::decode(&key.encode().unwrap()).as_ref(), Some(key));
        }
        let encoded: Vec<_> = keys[..5].iter().map(|key| key.encode().unwrap()).collect();
        assert!(encoded.is_sorted());
        assert!(Key::decode(b"pods/a").is_none());
    }

    #[test]
    fn a_scope_is_what_begins_with_its_prefix() {
        let keys = [
            key("pods", "a", "x"),
            key("pods", "a-b", "x"),
            key("pods.other", "a", "x"),
            key("pod", "a", "x"),
        ];
        for scope in [Scope::all("pods"), Scope::within("pods", "a"), Scope::within("pods", "")] {
            let (start, end) = (scope.prefix(), behind(&scope.prefix()));
            for key in &keys {
                let bytes = key.encode().unwrap();
                assert_eq!(start <= bytes && bytes < end, scope.holds(key), "{scope:?} {key:?}");
            }
        }
    }

    #[test]
    fn what_would_be_another_key_is_refused() {
        for bad in [
            key("a/b", "", "x"),
            key("a", "b/c", "x"),
            key("", "", "x"),
            key("a", "b", ""),
            key("a", "b", "x\0"),
        ] {
            assert!(matches!(bad.encode(), Err(Error::Name { .. })), "{bad:?}");
        }
    }
}
