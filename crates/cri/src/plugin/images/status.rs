//! ListImages and ImageStatus.

use std::collections::BTreeMap;
use std::sync::Arc;

use oci_image::contract::{Digest, ImageConfig};
use oci_image::reference::Reference;
use serde_json::json;

use super::entry::Entry;
use super::{Images, Snapshot};
use crate::contract::Error;
use crate::contract::v1::{Image, ImageSpec, ImageStatusResponse};
use crate::plugin::node::blocking;

impl Images {
    /// All images, or those that `filter` means: by id, by name, or by a name without a tag.
    pub(super) async fn list(self: &Arc<Self>, filter: &str) -> Result<Vec<Image>, Error> {
        let snapshot = self.snapshot().await?;
        Ok(match filter {
            "" => snapshot.entries.iter().map(|entry| entry.image.clone()).collect(),
            filter => filtered(&snapshot, filter).into_iter().map(|entry| entry.image.clone()).collect(),
        })
    }

    /// The image that `spec` means; none if it is not there, or means nothing.
    pub(super) async fn status(
        self: &Arc<Self>,
        spec: &ImageSpec,
        verbose: bool,
    ) -> Result<ImageStatusResponse, Error> {
        let snapshot = self.snapshot().await?;
        let Ok((entry, _)) = snapshot.find(&spec.image) else { return Ok(ImageStatusResponse::default()) };
        let mut image = entry.image.clone();
        if let Some(told) = &mut image.spec {
            told.user_specified_image.clone_from(&spec.user_specified_image);
        }
        let mut info = BTreeMap::new();
        if verbose {
            let (images, id) = (Arc::clone(self), entry.id.clone());
            info.insert("info".into(), blocking(move || images.info(&id)).await?);
        }
        Ok(ImageStatusResponse { image: Some(image), info })
    }

    /// What `crictl inspecti` shows: the configuration, and the digest of all its layers.
    fn info(&self, id: &Digest) -> Result<String, Error> {
        let config = self.store.config(id).map_err(Error::of)?;
        Ok(json!({"chainID": chain_id(&config), "imageSpec": config}).to_string())
    }
}

/// Each image once, in the order of the list.
fn filtered<'a>(snapshot: &'a Snapshot, filter: &str) -> Vec<&'a Arc<Entry>> {
    if let Ok((entry, _)) = snapshot.find(filter) {
        return vec![entry];
    }
    // `busybox` may mean any tag of it.
    let last = filter.rsplit('/').next().unwrap_or_default();
    match Reference::parse(filter) {
        Ok(reference) if !last.contains([':', '@']) => {
            let repository = reference.name();
            let of_it = |entry: &&Arc<Entry>| entry.names.iter().any(|name| name.repository == repository);
            snapshot.entries.iter().filter(of_it).collect()
        }
        _ => Vec::new(),
    }
}

/// What layers on top of each other are called (image-spec, "Layer ChainID").
fn chain_id(config: &ImageConfig) -> String {
    let mut ids = config.rootfs.diff_ids.iter();
    let first = ids.next().map(ToString::to_string).unwrap_or_default();
    ids.fold(first, |below, id| Digest::sha256(format!("{below} {id}").as_bytes()).to_string())
}
