//! Docker archives: `manifest.json`, configurations and layer tars under any names.

use std::{collections::BTreeMap, io::Read, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    Error, Result,
    error::At,
    place::{Blobs, Local, Place},
    tarball::Tarball,
};
use crate::contract::{
    Algorithm, CONFIG_LIMIT, Descriptor, Digest, Hasher, ImageManifest, MANIFEST_LIMIT, MediaType,
    parse_config,
};

/// One image in `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Item {
    pub(super) config: String,
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    pub(super) layers: Vec<String>,
}

/// The images of a docker archive, each with its names.
pub(super) fn images(tarball: &Tarball) -> Result<Vec<(Vec<String>, Local)>> {
    let place = tarball.get("manifest.json");
    let place = place.ok_or_else(|| Error::Format("it has neither index.json nor manifest.json".into()))?;
    let bytes = place.read(MANIFEST_LIMIT).at("read", "manifest.json")?;
    let items: Vec<Item> = serde_json::from_slice(&bytes)
        .map_err(|e| Error::Format(format!("manifest.json does not parse: {e}")))?;
    items
        .into_iter()
        .map(|item| Ok((item.repo_tags.clone().unwrap_or_default(), image(tarball, &item)?)))
        .collect()
}

/// Gives an image of the archive the manifest that it lacks.
fn image(tarball: &Tarball, item: &Item) -> Result<Local> {
    let find = |name: &str| {
        tarball
            .get(name)
            .ok_or_else(|| Error::Format(format!("manifest.json names {name:?}, which it does not have")))
    };
    let bytes = find(&item.config)?.read(CONFIG_LIMIT).at("read", &item.config)?;
    let config =
        parse_config(&bytes).map_err(|source| Error::Document { what: item.config.clone(), source })?;
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != item.layers.len() {
        let (layers, ids) = (item.layers.len(), diff_ids.len());
        return Err(Error::Format(format!(
            "an image has {layers} layers and its configuration {ids} diff_ids"
        )));
    }
    let mut blobs = BTreeMap::new();
    let mut layers = Vec::new();
    for (name, diff_id) in item.layers.iter().zip(diff_ids) {
        let place = find(name)?;
        let descriptor = layer(place, diff_id).at("read", name)?;
        blobs.insert(descriptor.digest.clone(), place.clone());
        layers.push(descriptor);
    }
    let config = Descriptor::of(MediaType::DOCKER_CONFIG, &bytes);
    blobs.insert(config.digest.clone(), Place::Bytes(bytes.into()));
    let mut manifest = ImageManifest::new(config, layers);
    manifest.media_type = Some(MediaType::DOCKER_MANIFEST);
    let bytes = serde_json::to_vec(&manifest).map_err(std::io::Error::from).at("write", "a manifest")?;
    let top = Descriptor::of(MediaType::DOCKER_MANIFEST, &bytes);
    blobs.insert(top.digest.clone(), Place::Bytes(bytes.into()));
    Ok(Local { top, blobs: Blobs::Map(Arc::new(blobs)) })
}

/// A layer's descriptor. A plain tar's digest is its diffID, which the pull verifies; a compressed one's is computed.
fn layer(place: &Place, diff_id: &Digest) -> std::io::Result<Descriptor> {
    let size = place.size()?;
    let mut start = Vec::new();
    place.open(0)?.take(4).read_to_end(&mut start)?;
    let media_type = match start.as_slice() {
        [0x1f, 0x8b, ..] => MediaType::DOCKER_LAYER_GZIP,
        [0x28, 0xb5, 0x2f, 0xfd] => MediaType::DOCKER_LAYER_ZSTD,
        _ => return Ok(Descriptor::new(MediaType::DOCKER_LAYER, diff_id.clone(), size)),
    };
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; 128 << 10];
    let mut reader = place.open(0)?;
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(Descriptor::new(media_type, hasher.finish(), size)),
            n => hasher.update(buffer.get(..n).unwrap_or_default()),
        }
    }
}
