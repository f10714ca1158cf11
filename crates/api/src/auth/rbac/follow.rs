//! The policy as the store has it, kept up to date.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::super::{Attributes, Authorizer, Decision};
use super::Rule;
use super::policy::{Policy, Reference};
use crate::contract::Object;
use crate::resource::Asker;
use crate::store::{Error, Kind, Scope, Store, Stored};

/// The four resources, as they are kept; the last of each pair is in namespaces.
const ROLES: [&str; 2] = ["clusterroles.rbac.authorization.k8s.io", "roles.rbac.authorization.k8s.io"];
const BINDINGS: [&str; 2] =
    ["clusterrolebindings.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io"];

/// How long to wait before a store that failed is read again.
const AGAIN: Duration = Duration::from_secs(1);

/// Decides by roles and bindings. Its tasks end when it is dropped.
pub struct Rbac {
    shared: Arc<Shared>,
    following: Mutex<JoinSet<()>>,
}

struct Shared {
    policy: RwLock<Policy>,
    /// Whether what is in memory may be behind what is kept for long.
    failing: AtomicBool,
    /// A cluster role has changed.
    changed: Notify,
}

impl Rbac {
    /// Reads all roles and bindings, and follows them from now on.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn start(store: &Store) -> Result<Rbac, Box<Error>> {
        let shared = Arc::new(Shared {
            policy: RwLock::new(Policy::default()),
            failing: AtomicBool::new(false),
            changed: Notify::new(),
        });
        let mut following = JoinSet::new();
        for resource in ROLES.into_iter().chain(BINDINGS) {
            let from = shared.read(store, resource)?;
            following.spawn(follow(Arc::clone(&shared), store.clone(), resource, from));
        }
        Ok(Rbac { shared, following: Mutex::new(following) })
    }

    /// Follows no longer: the store is let go.
    pub async fn stop(&self) {
        let following = std::mem::take(&mut *self.following.lock().unwrap_or_else(PoisonError::into_inner));
        { following }.shutdown().await;
    }

    /// The check of its health, under this name.
    #[must_use]
    pub fn check(&self, name: &'static str) -> super::super::access::Check {
        let shared = Arc::clone(&self.shared);
        let check = move || {
            if shared.failing.load(Ordering::Relaxed) {
                return Err(
                    "the roles and bindings in memory may be old: the store does not tell changes".to_owned()
                );
            }
            Ok(())
        };
        (name, Box::new(check))
    }

    /// Every rule that holds for `asker` in `namespace`, and which roles are missing.
    pub(crate) fn rules_for(&self, asker: &Asker, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        self.shared.policy().rules_for(asker, namespace)
    }

    /// The rules of the role to which a binding in `namespace` refers.
    pub(super) fn rules_of(&self, reference: &Reference, namespace: &str) -> Option<Arc<[Rule]>> {
        self.shared.policy().rules_of(reference, namespace)
    }

    /// Waits until a cluster role has changed.
    pub(super) async fn changed(&self) {
        self.shared.changed.notified().await;
    }
}

impl Authorizer for Rbac {
    fn authorize(&self, asker: &Asker, attributes: &Attributes) -> Decision {
        self.shared.policy().decide(asker, attributes)
    }
}

impl Shared {
    fn policy(&self) -> std::sync::RwLockReadGuard<'_, Policy> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads all of a resource; the revision as of which it is.
    fn read(&self, store: &Store, resource: &str) -> Result<u64, Box<Error>> {
        let scope = Scope { resource: resource.to_owned(), namespace: None };
        let page = store.list(&scope, None, None, None).map_err(Box::new)?;
        let name = |stored: &Stored| (stored.key.namespace.clone(), stored.key.name.clone());
        let names: HashSet<(String, String)> = page.items.iter().map(name).collect();
        let gone = self.policy().others(ROLES.contains(&resource), resource.starts_with("cluster"), &names);
        for name in gone {
            self.set(resource, name, None);
        }
        for stored in &page.items {
            self.set(resource, name(stored), Some(&stored.json));
        }
        Ok(page.revision)
    }

    fn set(&self, resource: &str, name: (String, String), json: Option<&[u8]>) {
        let object = json.and_then(|json| serde_json::from_slice(json).ok()).map(Object);
        let mut policy = self.policy.write().unwrap_or_else(PoisonError::into_inner);
        if ROLES.contains(&resource) {
            policy.set_role(name, object.as_ref());
        } else {
            policy.set_binding(name, object.as_ref());
        }
        drop(policy);
        if resource == ROLES[0] {
            self.changed.notify_one();
        }
    }
}

async fn follow(shared: Arc<Shared>, store: Store, resource: &'static str, mut from: u64) {
    loop {
        match watch(&shared, &store, resource, from).await {
            Error::Closed => return,
            _ => shared.failing.store(true, Ordering::Relaxed),
        }
        // What was missed is read anew.
        tokio::time::sleep(AGAIN).await;
        if let Ok(revision) = shared.read(&store, resource) {
            from = revision;
            shared.failing.store(false, Ordering::Relaxed);
        }
    }
}

/// Follows until the store fails.
async fn watch(shared: &Shared, store: &Store, resource: &str, from: u64) -> Error {
    let scope = Scope { resource: resource.to_owned(), namespace: None };
    let mut watch = match store.watch(scope, from) {
        Ok(watch) => watch,
        Err(error) => return error,
    };
    loop {
        match watch.next().await {
            Ok(event) => {
                let name = (event.key.namespace.clone(), event.key.name.clone());
                let json = (event.kind == Kind::Put).then_some(&event.json[..]);
                shared.set(resource, name, json);
            }
            Err(error) => return error,
        }
    }
}
