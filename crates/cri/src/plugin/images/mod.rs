//! Images, as containers and the image service see them.

mod service;

use std::sync::Arc;

use oci_image::contract::{Digest, ImageConfig};
use oci_image::reference::Reference;
use oci_image::store::{self, Store};

use crate::contract::v1::ImageSpec;
use crate::contract::{Code, Error};

pub(crate) use service::Service;

/// The images of the node.
#[derive(Debug)]
pub(crate) struct Images {
    store: Arc<Store>,
}

/// An image that a container is made from.
#[derive(Debug, Clone)]
pub(crate) struct ForContainer {
    /// Its id: its configuration's digest.
    pub(crate) id: String,
    /// Its name, if it has one.
    pub(crate) name: String,
    /// `name@digest`, or the id where it has no name.
    pub(crate) reference: String,
    /// The unpacked layers, the topmost first, by diffID.
    pub(crate) layers: Vec<String>,
    /// Its configuration.
    pub(crate) config: ImageConfig,
}

impl Images {
    /// The images in `store`.
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    /// The store.
    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The image that a container asks for: by id, as the kubelet does, or by name. Reads the disk.
    pub(crate) fn for_container(&self, spec: Option<&ImageSpec>) -> Result<ForContainer, Error> {
        let text = spec.map_or("", |spec| spec.image.as_str());
        if text.is_empty() {
            return Err(Error::invalid("config.image.image", "is empty: give an image's id or name"));
        }
        let image = self.store.find(text).map_err(|e| not_there(text, &e))?;
        let details = self.store.details(&image).map_err(|e| Error::internal(e.to_string()))?;
        let name = image.name.as_deref().and_then(|name| Reference::parse(name).ok());
        let reference = match name {
            Some(name) => format!("{}@{}", name.name(), image.target),
            None => details.id.to_string(),
        };
        Ok(ForContainer {
            id: details.id.to_string(),
            name: image.name.clone().unwrap_or_default(),
            reference,
            layers: details.config.rootfs.diff_ids.iter().rev().map(ToString::to_string).collect(),
            config: details.config,
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
pub(super) fn not_there(text: &str, error: &store::Error) -> Error {
    match error {
        store::Error::NoImage(_) => {
            Error::new(Code::NotFound, format!("no image {text:?} is here (pull it first)"))
        }
        other => Error::internal(format!("cannot find image {text:?}: {other}")),
    }
}
