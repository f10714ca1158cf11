//! One image as CRI shows it.

use std::collections::{BTreeMap, BTreeSet};

use oci_image::contract::{Digest, ImageConfig};
use oci_image::reference::Reference;
use oci_image::store::{self, Store};

use crate::contract::v1::{Image, ImageSpec, Int64Value};

/// An image: all that has one configuration.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: Digest,
    pub(super) names: Vec<Named>,
    /// The manifests that it is recorded by.
    pub(super) manifests: BTreeSet<Digest>,
    pub(super) image: Image,
}

/// A name of an image, as it is recorded.
#[derive(Debug)]
pub(super) struct Named {
    /// `docker.io/library/busybox:latest`, or `docker.io/library/busybox@sha256:...`.
    pub(super) full: String,
    /// `docker.io/library/busybox`; empty for what is no reference.
    pub(super) repository: String,
    /// What the name resolved to: the manifest, or an index that led to it.
    pub(super) target: Digest,
    pub(super) manifest: Digest,
}

/// What an image's documents say.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) id: Digest,
    /// Bytes of its documents and layers, as they came and unpacked.
    size: u64,
    /// `USER` without the group.
    user: String,
    annotations: BTreeMap<String, String>,
}

impl Facts {
    /// Reads them.
    pub(super) fn read(store: &Store, image: &store::Image) -> Result<Self, store::Error> {
        let details = store.details(image)?;
        let manifest = &details.manifest;
        let blobs: u64 = manifest.layers.iter().map(|layer| layer.size).sum();
        let unpacked: u64 = distinct(&details.config)
            .map(|diff_id| store.layer_meta(diff_id).map_or(0, |meta| meta.size))
            .sum();
        let user = details.config.config.user.split(':').next().unwrap_or_default();
        Ok(Self {
            id: details.id,
            size: image.manifest.size + manifest.config.size + blobs + unpacked,
            user: user.to_owned(),
            annotations: manifest.annotations.clone(),
        })
    }
}

fn distinct(config: &ImageConfig) -> impl Iterator<Item = &Digest> {
    config.rootfs.diff_ids.iter().collect::<BTreeSet<_>>().into_iter()
}

impl Entry {
    /// The image that all of `records` are; pinned by the record, or because it has a name that is.
    pub(super) fn new(facts: &Facts, records: Vec<store::Image>, is_pinned: impl Fn(&str) -> bool) -> Self {
        let pinned = records.iter().any(|r| r.pinned || r.name.as_deref().is_some_and(&is_pinned));
        let manifests = records.iter().map(|r| r.manifest.digest.clone()).collect();
        let names: Vec<Named> = records.into_iter().filter_map(Named::of).collect();
        let (mut tags, mut digests) = (BTreeSet::new(), BTreeSet::new());
        for name in &names {
            if !name.repository.is_empty() {
                digests.insert(format!("{}@{}", name.repository, name.target));
            }
            if !name.full.contains('@') {
                tags.insert(name.full.clone());
            }
        }
        let uid = facts.user.parse().ok().map(|value| Int64Value { value });
        let image = Image {
            id: facts.id.to_string(),
            repo_tags: tags.into_iter().collect(),
            repo_digests: digests.into_iter().collect(),
            size: facts.size,
            username: if uid.is_none() { facts.user.clone() } else { String::new() },
            uid,
            spec: Some(ImageSpec {
                image: facts.id.to_string(),
                annotations: facts.annotations.clone(),
                ..ImageSpec::default()
            }),
            pinned,
        };
        Self { id: facts.id.clone(), names, manifests, image }
    }
}

impl Named {
    fn of(record: store::Image) -> Option<Self> {
        let full = record.name?;
        let reference = Reference::parse(&full).map(Reference::canonical);
        // The command line may have recorded a name with both a tag and a digest: the digest is what it stands for.
        let (full, repository) = match reference {
            Ok(reference) if reference.digest().is_some() => (reference.to_string(), reference.name()),
            Ok(reference) => (full, reference.name()),
            Err(_) => (full, String::new()),
        };
        Some(Self { full, repository, target: record.target, manifest: record.manifest.digest })
    }
}
