//! Groups that others serve: a handler in this process, or a service of the cluster (`APIService`).
//!
//! [`Aggregation`] knows the group versions that are not this server's own, and who answers for them; requests are handed on
//! as the front proxy that [`Connector`] proves to be. `controllers::available` asks each service whether it is there and
//! what it serves, and discovery tells that beside what is built in.

mod connect;
mod order;
mod place;
mod told;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::contract::{Object, Result};
use crate::registry::{BoxFuture, Registry};
use crate::resource::Asker;

pub use connect::Connector;
pub(crate) use connect::{Asked, said};
pub(crate) use order::{CUSTOM, Priorities, groups as group_order, versions as version_order};
pub use place::Place;
#[cfg(test)]
pub(crate) use place::Trust;
pub(crate) use place::{Found, Unavailable};
pub(crate) use told::resources as told;

/// Under which name the store keeps who serves which group.
pub(crate) const KIND: &str = "apiservices.apiregistration.k8s.io";

/// Who answers the requests of a group version in this process.
///
/// The server has said who asks and that they may; everything else (forms, selectors, refusals) is the handler's.
pub trait Handler: Send + Sync {
    /// What it serves: the `resources` of an `APIResourceList`.
    fn resources(&self) -> Vec<Value>;

    /// Answers a request below `/apis/GROUP/VERSION/`, whose body has been read.
    ///
    /// # Errors
    /// What the client is told instead.
    fn answer<'a>(
        &'a self,
        asker: &'a Asker,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'a, Result<http::Response<Content>>>;
}

/// The body of a handler's answer.
pub enum Content {
    /// All of it.
    Whole(Bytes),
    /// Piece by piece, until the sender is dropped.
    Stream(mpsc::Receiver<Bytes>),
}

/// Who answers for a group version.
#[derive(Clone)]
pub(crate) enum Backend {
    /// In this process.
    Handler(Arc<dyn Handler>),
    /// Behind a service.
    Service(Place),
}

/// A group version that is not this server's own.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) priorities: Priorities,
    pub(crate) backend: Backend,
    /// Whether it can be asked.
    pub(crate) available: bool,
    /// What it serves, as it last said (`resources` of an `APIResourceList`).
    pub(crate) resources: Arc<Vec<Value>>,
    /// Where its index of OpenAPI v3 says that its document is, with a hash.
    pub(crate) openapi: Option<String>,
}

impl Entry {
    /// What its APIService is called.
    pub(crate) fn name(&self) -> String {
        name_of(&self.group, &self.version)
    }

    /// Whether another program answers.
    pub(crate) fn is_of_service(&self) -> bool {
        matches!(self.backend, Backend::Service(_))
    }

    fn is_of(&self, group: &str, version: &str) -> bool {
        self.group == group && self.version == version
    }
}

/// What the APIService of a group version is called.
pub(crate) fn name_of(group: &str, version: &str) -> String {
    format!("{version}.{group}")
}

/// The group versions that others serve. Cheap to clone.
#[derive(Clone, Default)]
pub struct Aggregation(Arc<Inner>);

#[derive(Default)]
struct Inner {
    entries: RwLock<Arc<Vec<Arc<Entry>>>>,
    handlers: RwLock<BTreeMap<(String, String), Arc<dyn Handler>>>,
    connector: OnceLock<Connector>,
    handlers_changed: watch::Sender<()>,
}

impl Aggregation {
    /// From now on `handler` answers for a group version. An APIService with a service of that group version takes its
    /// place for as long as it is there.
    pub fn serve(&self, group: &str, version: &str, handler: Arc<dyn Handler>) {
        let place = (group.to_owned(), version.to_owned());
        self.0.handlers.write().unwrap_or_else(PoisonError::into_inner).insert(place, handler);
        self.0.handlers_changed.send_replace(());
    }

    /// As whom services are asked. Without it requests are not handed on to them. The first call counts.
    pub fn connect_by(&self, connector: Connector) {
        let _ = self.0.connector.set(connector);
    }

    pub(crate) fn connector(&self) -> Option<&Connector> {
        self.0.connector.get()
    }

    /// Those that there are, in the order in which discovery tells them.
    pub(crate) fn entries(&self) -> Arc<Vec<Arc<Entry>>> {
        Arc::clone(&self.0.entries.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who answers for a group version, if this server itself does not.
    pub(crate) fn find(&self, group: &str, version: &str) -> Option<Arc<Entry>> {
        self.entries().iter().find(|entry| entry.is_of(group, version)).map(Arc::clone)
    }

    /// The group versions that are answered in this process.
    pub(crate) fn handled(&self) -> Vec<(String, String)> {
        self.0.handlers.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Wakes when there is another handler.
    pub(crate) fn handlers_changed(&self) -> watch::Receiver<()> {
        self.0.handlers_changed.subscribe()
    }

    /// Learns from the APIServices that are kept who serves what. What was known of those that stay is kept.
    pub(crate) fn load(&self, registry: &Registry) -> Result<()> {
        let resources = registry.resources();
        let is_built_in = |group: &str, version: &str| {
            resources.iter().any(|resource| {
                !resource.is_custom() && resource.names.group == group && resource.names.version == version
            })
        };
        let objects = registry.every(KIND, None)?;
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        for object in &objects {
            let (group, version) = (object.text(&["spec", "group"]), object.text(&["spec", "version"]));
            let Some(place) = Place::of(object) else { continue };
            if !is_built_in(group, version) {
                entries.push(self.known(object, group, version, place));
            }
        }
        let handlers = self.0.handlers.read().unwrap_or_else(PoisonError::into_inner).clone();
        for ((group, version), handler) in handlers {
            if is_built_in(&group, &version) || entries.iter().any(|entry| entry.is_of(&group, &version)) {
                continue;
            }
            entries.push(Arc::new(Entry {
                priorities: Priorities::of(&group, &version, true),
                resources: Arc::new(handler.resources()),
                backend: Backend::Handler(handler),
                available: true,
                openapi: None,
                group,
                version,
            }));
        }
        entries.sort_by(|a, b| a.priorities.order(&a.group, &a.version, b.priorities, &b.group, &b.version));
        *self.0.entries.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(entries);
        Ok(())
    }

    /// An entry of an APIService with a service.
    fn known(&self, object: &Object, group: &str, version: &str, place: Place) -> Arc<Entry> {
        let before = self.find(group, version).filter(
            |before| matches!(&before.backend, Backend::Service(known) if known.is_same_service(&place)),
        );
        Arc::new(Entry {
            group: group.to_owned(),
            version: version.to_owned(),
            priorities: Priorities::told(object),
            available: is_available(object),
            backend: Backend::Service(place),
            resources: before.as_ref().map(|before| Arc::clone(&before.resources)).unwrap_or_default(),
            openapi: before.and_then(|before| before.openapi.clone()),
        })
    }

    /// Learns what a service said of itself; `None`: it cannot be asked.
    pub(crate) fn learn(&self, of: &Entry, said: Option<(Vec<Value>, Option<String>)>) {
        let mut held = self.0.entries.write().unwrap_or_else(PoisonError::into_inner);
        let mut entries = Vec::clone(&held);
        let Some(entry) = entries.iter_mut().find(|entry| entry.is_of(&of.group, &of.version)) else {
            return;
        };
        let mut changed = Entry::clone(entry);
        changed.available = said.is_some();
        if let Some((resources, openapi)) = said {
            (changed.resources, changed.openapi) = (Arc::new(resources), openapi);
        }
        *entry = Arc::new(changed);
        *held = Arc::new(entries);
    }
}

/// What an APIService says of itself.
fn is_available(object: &Object) -> bool {
    let conditions = object.at(&["status", "conditions"]).and_then(Value::as_array);
    conditions
        .is_some_and(|list| list.iter().any(|one| one["type"] == "Available" && one["status"] == "True"))
}
