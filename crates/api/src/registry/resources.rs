//! Which resources there are: those that are built in, and those of custom resource definitions, which come and go.

use crate::resource::Resource;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The resources at one moment.
#[derive(Clone, Default)]
pub struct Resources {
    built_in: Vec<Arc<Resource>>,
    custom: BTreeMap<String, Vec<Arc<Resource>>>,
    by_path: HashMap<(String, String, String), Arc<Resource>>,
    version: u64,
}

static VERSION: AtomicU64 = AtomicU64::new(1);

impl Resources {
    /// The resources that are built in.
    #[must_use]
    pub fn new(built_in: Vec<Resource>) -> Resources {
        let built_in = built_in.into_iter().map(Arc::new).collect();
        Resources { built_in, ..Resources::default() }.indexed()
    }

    /// The same with those of a definition replaced.
    #[must_use]
    pub fn with_custom(&self, definition: &str, resources: Vec<Resource>) -> Resources {
        let mut changed = self.clone();
        if resources.is_empty() {
            changed.custom.remove(definition);
        } else {
            let resources = resources.into_iter().map(Arc::new).collect();
            changed.custom.insert(definition.to_owned(), resources);
        }
        changed.indexed()
    }

    fn indexed(mut self) -> Resources {
        self.version = VERSION.fetch_add(1, Ordering::Relaxed);
        self.by_path = self
            .iter()
            .map(|resource| {
                let names = &resource.names;
                let path = (names.group.to_string(), names.version.to_string(), names.plural.to_string());
                (path, Arc::clone(resource))
            })
            .collect();
        self
    }

    /// All of them: those that are built in first, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.built_in.iter().chain(self.custom.values().flatten())
    }

    /// The resource at a path.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        let path = (group.to_owned(), version.to_owned(), plural.to_owned());
        self.by_path.get(&path).map(Arc::clone)
    }

    /// The resource of a kind.
    #[must_use]
    pub fn by_kind(&self, api_version: &str, kind: &str) -> Option<Arc<Resource>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.iter()
            .find(|resource| {
                let names = &resource.names;
                names.kind == kind && names.version == version && names.group == group
            })
            .map(Arc::clone)
    }

    /// One resource for each kind of objects that are kept: in the version in which they are.
    #[must_use]
    pub fn kept(&self) -> Vec<Arc<Resource>> {
        let mut kept: BTreeMap<&str, &Arc<Resource>> = BTreeMap::new();
        for resource in self.iter().filter(|resource| resource.verbs.read) {
            let at = kept.entry(&resource.stored_as).or_insert(resource);
            if is_kept_version(resource) && !is_kept_version(at) {
                *at = resource;
            }
        }
        kept.into_values().map(Arc::clone).collect()
    }

    /// A number that is another whenever the set is.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }
}

/// Whether the version of the resource is the one in which its objects are kept.
pub(super) fn is_kept_version(resource: &Resource) -> bool {
    match resource.storage_version.split_once('/') {
        Some((group, version)) => group == resource.names.group && version == resource.names.version,
        None => resource.names.group.is_empty() && resource.storage_version == resource.names.version,
    }
}
