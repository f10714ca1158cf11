//! The operations on objects: create, get, list, watch, update, patch and delete, for HTTP and for controllers in the
//! process alike.
//!
//! A write goes: decode, default, own ([`crate::merge::managed`]), admission, the rules of the kind, admission again,
//! [`crate::store`]. It is retried on what somebody else wrote meanwhile, unless the client said which version it means.
//! What is read in the version in which it is kept is sent as it is kept, without a look at it.
//!
//! - [`Registry`] is the entry, cheap to clone; a [`Target`] says what a request is about, a [`Context`] who asks and how.
//! - [`options`] are the query parameters and bodies of requests; [`client`] is for the process itself.
//! - [`services`] gives addresses and ports to services; [`rules`] are facts of kinds that only this module needs.

mod change;
pub mod client;
mod context;
mod create;
mod cursor;
mod delete;
mod document;
mod hooks;
mod list;
mod meta;
pub mod options;
mod parts;
mod patch;
mod pods;
mod quotas;
mod read;
mod resources;
mod rules;
mod scale;
mod selection;
pub mod services;
mod shown;
mod target;
mod token;
mod view;
mod watch;

#[cfg(test)]
mod tests;

pub use context::{Context, MayCreate, Notes, Warnings};
pub(crate) use cursor::Cursor;
pub use hooks::{BoxFuture, Reviewer, TokenIssuer};
pub use list::{Listing, Ration};
pub(crate) use meta::suffix as name_suffix;
pub use meta::{now_text, uid};
pub(crate) use pods::{set_condition, set_condition_at};
pub use quotas::Turn;
pub use resources::Resources;
pub use rules::{part_name, part_named};
pub(crate) use scale::{of as scale_of, scaled};
pub use target::{Answer, Body, Include, Meta, PatchKind, Target, View};
pub use watch::Watching;

use crate::admission::Admission;
use crate::aggregation::Aggregation;
use crate::contract::{Object, Result, Status};
use crate::lane::Lanes;
use crate::resource::Resource;
use crate::store::{self, Key, Scope, Store, Stored};
use hooks::Hooks;
use services::Services;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch as watch_channel;

/// What the server is told once.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where services get addresses and ports.
    pub services: services::Settings,
}

/// The operations on objects.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    store: Store,
    resources: RwLock<Arc<Resources>>,
    admission: Vec<Arc<dyn Admission>>,
    services: Services,
    aggregation: Aggregation,
    quotas: quotas::Quotas,
    hooks: Hooks,
    lanes: Lanes,
    set_changes: watch_channel::Sender<u64>,
}

impl Registry {
    /// A registry of `resources` over a store.
    #[must_use]
    pub fn new(
        store: Store,
        resources: Vec<Resource>,
        admission: Vec<Arc<dyn Admission>>,
        settings: Settings,
    ) -> Registry {
        Registry(Arc::new(Inner {
            store,
            resources: RwLock::new(Arc::new(Resources::new(resources))),
            admission,
            services: Services::new(settings.services),
            aggregation: Aggregation::default(),
            quotas: quotas::Quotas::default(),
            hooks: Hooks::default(),
            lanes: Lanes::default(),
            set_changes: watch_channel::Sender::new(0),
        }))
    }

    /// Where the objects are kept.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Where long computations go.
    pub(crate) fn lanes(&self) -> &Lanes {
        &self.0.lanes
    }

    /// The resources there are now.
    #[must_use]
    pub fn resources(&self) -> Arc<Resources> {
        Arc::clone(&self.0.resources.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The groups that others serve.
    #[must_use]
    pub fn aggregation(&self) -> &Aggregation {
        &self.0.aggregation
    }

    /// Replaces the resources of a custom resource definition; none take them away.
    pub fn set_custom(&self, definition: &str, resources: Vec<Resource>) {
        let mut held = self.0.resources.write().unwrap_or_else(PoisonError::into_inner);
        *held = Arc::new(held.with_custom(definition, resources));
        self.0.set_changes.send_replace(held.version());
    }

    /// Whether a resource is among those that are served.
    pub(crate) fn serves(&self, resource: &Resource) -> bool {
        let names = &resource.names;
        self.resources().find(&names.group, &names.version, &names.plural).is_some()
    }

    /// Wakes whenever the set of resources is another.
    pub(crate) fn set_changes(&self) -> watch_channel::Receiver<u64> {
        self.0.set_changes.subscribe()
    }

    /// The address that the service `kubernetes` has: the first of the first range.
    #[must_use]
    pub fn first_service_address(&self) -> Option<std::net::IpAddr> {
        self.0.services.first_address()
    }

    /// The ranges from which services get addresses.
    pub(crate) fn service_ranges(&self) -> Vec<String> {
        self.0.services.ranges().iter().map(|range| range.canonical()).collect()
    }

    /// Waits until nobody else takes off the quotas of a namespace.
    pub(crate) async fn quota_turn(&self, namespace: &str) -> Turn {
        self.0.quotas.turn(namespace).await
    }

    /// Waits until something is given back to quotas, and returns the namespaces in which.
    pub(crate) async fn freed(&self) -> std::collections::BTreeSet<String> {
        self.0.quotas.freed().await
    }

    /// An object as it is kept, by the name under which its kind is kept.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn peek(&self, stored_as: &str, namespace: &str, name: &str) -> Result<Option<Object>> {
        let key =
            Key { resource: stored_as.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() };
        match self.0.store.get(&key).map_err(unavailable)? {
            Some(stored) => document::parse(&stored.json).map(Some),
            None => Ok(None),
        }
    }

    /// The objects of a target's collection, in its version; of all namespaces where it names none.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(crate) fn objects(&self, target: &Target) -> Result<Vec<Object>> {
        let namespace = Some(target.namespace.as_str()).filter(|namespace| !namespace.is_empty());
        let resource = &target.resource;
        self.read(&resource.stored_as, namespace, |json| document::open(resource, json))
    }

    /// All objects of a kind as they are kept, of one namespace or of all (`None`).
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn every(&self, stored_as: &str, namespace: Option<&str>) -> Result<Vec<Object>> {
        self.read(stored_as, namespace, document::parse)
    }

    /// What `open` makes of all objects of a kind, of one namespace or of all.
    fn read(
        &self,
        stored_as: &str,
        namespace: Option<&str>,
        open: impl Fn(&[u8]) -> Result<Object>,
    ) -> Result<Vec<Object>> {
        let scope = Scope { resource: stored_as.to_owned(), namespace: namespace.map(str::to_owned) };
        let page = self.0.store.list(&scope, None, None, None).map_err(unavailable)?;
        page.items.iter().map(|stored| open(&stored.json)).collect()
    }

    /// Who has a say before something is kept.
    pub(crate) fn admission(&self) -> &[Arc<dyn Admission>] {
        &self.0.admission
    }

    fn stored(&self, target: &Target) -> Result<Option<Stored>> {
        self.0.store.get(&target.key()).map_err(unavailable)
    }
}

impl Target {
    /// What the store calls it.
    fn key(&self) -> Key {
        Key {
            resource: self.resource.stored_as.to_string(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }

    fn not_found(&self) -> Status {
        let names = &self.resource.names;
        Status::not_found(&names.group, &names.plural, &self.name)
    }

    fn conflict(&self, cause: &str) -> Status {
        let names = &self.resource.names;
        Status::conflict(&names.group, &names.plural, &self.name, cause)
    }
}

/// What a failing store means to a client.
pub(crate) fn unavailable(error: store::Error) -> Status {
    match error {
        store::Error::Compacted { .. } => {
            Status::expired("The resourceVersion for the provided list is too old.")
        }
        store::Error::Future { asked, current } => too_large(asked, current),
        // What clients get of Kubernetes, whose store says so.
        store::Error::Large { .. } => {
            Status::new(500, crate::contract::Reason::Unknown, "etcdserver: request is too large")
        }
        other => Status::internal(other),
    }
}

/// 504 of a version that is yet to come.
fn too_large(asked: u64, current: u64) -> Status {
    let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
    let cause = crate::contract::Cause {
        reason: "ResourceVersionTooLarge".to_owned(),
        message: "Too large resource version".to_owned(),
        field: String::new(),
    };
    Status::new(504, crate::contract::Reason::Timeout, message).with(crate::contract::Details {
        causes: vec![cause],
        retry_after_seconds: 1,
        ..crate::contract::Details::default()
    })
}
