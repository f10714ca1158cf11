use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{At, Claim, Error, Result, Store};
use crate::contract::{Digest, ImageConfig};

/// What is known of an unpacked layer: `meta.json` beside its `fs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerMeta {
    /// The digest of its tar.
    pub diff_id: Digest,
    /// Bytes of file data in it.
    pub size: u64,
    /// Entries in its tar.
    pub entries: u64,
    /// Directories that the tar took for granted; their attributes come from the layers below.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub implied: Vec<String>,
    /// Whether those directories have got their attributes.
    #[serde(default)]
    pub settled: bool,
}

impl Store {
    /// The folder of the layer `diff_id`: `fs` in it is what overlayfs takes.
    pub(crate) fn layer_folder(&self, diff_id: &Digest) -> PathBuf {
        self.root().join("layers").join(diff_id.algorithm().name()).join(diff_id.hex())
    }

    /// Whether the layer is unpacked here.
    pub fn has_layer(&self, diff_id: &Digest) -> bool {
        self.layer_folder(diff_id).join("meta.json").exists()
    }

    /// The directory of an unpacked layer.
    pub fn layer_path(&self, diff_id: &Digest) -> Result<PathBuf> {
        if !self.has_layer(diff_id) {
            return Err(Error::Missing { what: "layer", digest: diff_id.clone() });
        }
        Ok(self.layer_folder(diff_id).join("fs"))
    }

    /// The directories of an image's layers, lowest first.
    pub fn layer_paths(&self, config: &ImageConfig) -> Result<Vec<PathBuf>> {
        config.rootfs.diff_ids.iter().map(|d| self.layer_path(d)).collect()
    }

    /// What is known of an unpacked layer.
    pub fn layer_meta(&self, diff_id: &Digest) -> Result<LayerMeta> {
        let path = self.layer_folder(diff_id).join("meta.json");
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Missing { what: "layer", digest: diff_id.clone() });
            }
            other => other.at("read", &path)?,
        };
        serde_json::from_slice(&bytes).map_err(io::Error::from).at("read", &path)
    }

    /// Rewrites what is known of a layer.
    pub(crate) fn set_layer_meta(&self, meta: &LayerMeta) -> Result<()> {
        let path = self.layer_folder(&meta.diff_id).join("meta.json");
        self.replace(&path, &encoded(meta, &path)?)
    }

    /// The claim to unpack the layer; `None` when another has done it meanwhile.
    pub(crate) fn claim_layer(
        &self,
        diff_id: &Digest,
        waiting: impl FnMut() -> bool,
    ) -> Result<Option<Claim>> {
        let name = format!("{}-{}.lock", diff_id.algorithm().name(), diff_id.hex());
        let path = self.root().join("ingest/layers").join(name);
        Claim::wait(&path, || self.has_layer(diff_id), waiting)
    }
}

/// Writes `meta.json` into the folder of a layer that has no name yet; the sync before it gets one covers it.
pub(crate) fn write_meta(folder: &Path, meta: &LayerMeta) -> Result<()> {
    let path = folder.join("meta.json");
    fs::write(&path, encoded(meta, &path)?).at("write", &path)
}

fn encoded(meta: &LayerMeta, path: &Path) -> Result<Vec<u8>> {
    serde_json::to_vec(meta).map_err(io::Error::from).at("write", path)
}
