//! Images, as containers and the image service see them.
//!
//! The store is the truth ([`oci_image::store`]), and the command line works on it beside this process. [`Catalogue`] has
//! what is in it in memory; [`pull`], [`remove`] and [`usage`] are the calls that change or measure it.

mod catalogue;
mod credential;
mod entry;
mod failure;
mod pull;
mod remove;
mod service;
mod status;
mod usage;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use oci_image::contract::{Digest, ImageConfig};
use oci_image::reference::Reference;
use oci_image::store::{self, Store};

use catalogue::{Catalogue, Snapshot};
use pull::{Pulls, Wanted};
use remove::Collector;
use usage::Usage;

pub(crate) use remove::InUse;
pub(crate) use service::Service;

use super::config;
use super::node::blocking;
use crate::contract::v1::{AuthConfig, ImageSpec};
use crate::contract::{Code, Error};

/// The images of the node.
#[derive(Debug)]
pub(crate) struct Images {
    store: Arc<Store>,
    catalogue: Catalogue,
    pulls: Arc<Pulls>,
    collector: Arc<Collector>,
    usage: Usage,
}

/// An image that a container is made from.
#[derive(Debug, Clone)]
pub(crate) struct ForContainer {
    /// Its id: its configuration's digest.
    pub(crate) id: String,
    /// The name it was asked for by, or one that it has; empty if it has none.
    pub(crate) name: String,
    /// `name@digest`, or the id where it has no name.
    pub(crate) reference: String,
    /// The unpacked layers, the topmost first, by diffID.
    pub(crate) layers: Vec<String>,
    /// Its configuration.
    pub(crate) config: ImageConfig,
}

impl Images {
    /// The images in `store`. Layers that `in_use` tells stay when their image goes; writable layers are below
    /// `containers`.
    pub(crate) fn new(store: Arc<Store>, config: &config::Images, in_use: InUse, containers: &Path) -> Self {
        Self {
            catalogue: Catalogue::new(Arc::clone(&store), &config.pinned),
            pulls: Arc::new(Pulls::new(Arc::clone(&store), config)),
            collector: Arc::new(Collector::new(Arc::clone(&store), in_use)),
            usage: Usage::new(Arc::clone(&store), containers.to_owned()),
            store,
        }
    }

    /// The images now. From memory, unless something has changed.
    async fn snapshot(self: &Arc<Self>) -> Result<Arc<Snapshot>, Error> {
        if let Some(snapshot) = self.catalogue.unchanged() {
            return Ok(snapshot);
        }
        let images = Arc::clone(self);
        blocking(move || images.catalogue.now().map_err(Error::of)).await
    }

    /// Pulls the image called `text`, and returns its id.
    pub(super) async fn pull(&self, text: &str, auth: Option<&AuthConfig>) -> Result<String, Error> {
        let reference = Reference::parse(text).map_err(|e| Error::invalid("image.image", e.to_string()))?;
        let reference = reference.canonical();
        let credential = credential::credential(auth, &reference)?;
        self.pulls.pull(Wanted { reference, credential }).await
    }

    /// Removes in the background what nobody needs.
    pub(super) fn collect_soon(&self) {
        self.collector.begin();
    }

    /// The image that a container asks for: by id, as the kubelet does, or by name. Reads the disk.
    ///
    /// Whoever makes a container of it holds the store from before this until it has recorded the layers.
    pub(crate) fn for_container(&self, spec: Option<&ImageSpec>) -> Result<ForContainer, Error> {
        let text = spec.map_or("", |spec| spec.image.as_str());
        if text.is_empty() {
            return Err(Error::invalid("config.image.image", "is empty: give an image's id or name"));
        }
        let snapshot = self.catalogue.now().map_err(Error::of)?;
        let (entry, named) = snapshot.find(text).map_err(|e| not_there(text, &e))?;
        let config = self.store.config(&entry.id).map_err(Error::of)?;
        let reference = match named.or_else(|| entry.names.first()).filter(|n| !n.repository.is_empty()) {
            Some(name) => format!("{}@{}", name.repository, name.target),
            None => entry.id.to_string(),
        };
        let name = match named {
            Some(name) => name.full.clone(),
            None => entry.names.first().map(|name| name.full.clone()).unwrap_or_default(),
        };
        Ok(ForContainer {
            id: entry.id.to_string(),
            name,
            reference,
            layers: config.rootfs.diff_ids.iter().rev().map(ToString::to_string).collect(),
            config,
        })
    }

    /// Where a layer is unpacked.
    pub(crate) fn layer_path(&self, diff_id: &str) -> Result<String, Error> {
        let digest: Digest =
            diff_id.parse().map_err(|_| Error::internal(format!("no layer is called {diff_id:?}")))?;
        let path = self.store.layer_path(&digest).map_err(|e| Error::internal(e.to_string()))?;
        Ok(path.display().to_string())
    }
}

/// What the store says when it has no such image is NotFound; all else is the node's fault.
fn not_there(text: &str, error: &store::Error) -> Error {
    match error {
        store::Error::NoImage(_) => {
            Error::new(Code::NotFound, format!("no image {text:?} is here (pull it first)"))
        }
        store::Error::Ambiguous { .. } => Error::new(Code::NotFound, error.to_string()),
        other => Error::internal(format!("cannot find image {text:?}: {other}")),
    }
}
