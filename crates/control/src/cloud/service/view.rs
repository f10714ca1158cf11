//! All services, each no older than what was written of it here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use client::cache::{Cache, Name};
use cpi::contract::{Node, Service, Services};

/// The services that the API server has told of, and over them those that it has answered with and not told of yet.
#[derive(Debug)]
pub(super) struct View {
    told: Arc<Cache<Service>>,
    nodes: Arc<Cache<Node>>,
    written: Mutex<BTreeMap<Name, Arc<Service>>>,
}

/// Whether `seen` is an older state of the same object than `own`. Versions are numbers that grow, as Kubernetes says since 1.35.
fn is_older(seen: &Service, own: &Service) -> bool {
    let version = |service: &Service| service.metadata.resource_version.as_ref()?.parse::<u128>().ok();
    seen.metadata.uid == own.metadata.uid
        && version(seen).zip(version(own)).is_some_and(|(seen, own)| seen < own)
}

impl View {
    pub(super) fn of(told: Arc<Cache<Service>>, nodes: Arc<Cache<Node>>) -> Self {
        Self { told, nodes, written: Mutex::default() }
    }

    fn written(&self) -> MutexGuard<'_, BTreeMap<Name, Arc<Service>>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The service of this name as the API server last told.
    pub(super) fn get(&self, name: &Name) -> Option<Arc<Service>> {
        self.told.get(name)
    }

    /// Notes what the API server has answered to a change.
    pub(super) fn wrote(&self, service: Service) {
        let (name, service) = (Name::of(&service), Arc::new(service));
        let mut written = self.written();
        self.drop_told(&mut written);
        // Answers may come in another order than the changes were done in.
        if written.get(&name).is_none_or(|own| !is_older(&service, own)) {
            written.insert(name, service);
        }
    }

    /// Without what has been told of since, or is gone.
    fn drop_told(&self, written: &mut BTreeMap<Name, Arc<Service>>) {
        written.retain(|name, own| self.told.get(name).is_some_and(|seen| is_older(&seen, own)));
    }

    /// A service as it is known here, if that is newer.
    pub(super) fn newest(&self, service: &Service) -> Arc<Service> {
        let own = self.written().get(&Name::of(service)).filter(|own| is_older(service, own)).cloned();
        own.unwrap_or_else(|| Arc::new(service.clone()))
    }
}

impl Services for View {
    fn all(&self) -> Vec<Arc<Service>> {
        let mut written = self.written();
        // Before they are listed: what is dropped here is in the list.
        self.drop_told(&mut written);
        let mut all = self.told.all();
        for service in &mut all {
            if let Some(own) = written.get(&Name::of(&**service)).filter(|own| is_older(service, own)) {
                *service = own.clone();
            }
        }
        all
    }

    fn nodes(&self) -> Vec<Arc<Node>> {
        self.nodes.all()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(uid: &str, version: &str) -> Service {
        let metadata = json!({"namespace": "default", "name": "web", "uid": uid, "resourceVersion": version});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    #[test]
    fn what_was_written_is_newer_than_what_was_told_before() {
        let own = service("a", "10");
        for (seen, is) in [
            (service("a", "9"), true),
            (service("a", "10"), false),
            (service("a", "11"), false),
            (service("b", "9"), false),
            (service("a", "x"), false),
        ] {
            assert_eq!(is_older(&seen, &own), is, "{seen:?}");
        }
    }
}
