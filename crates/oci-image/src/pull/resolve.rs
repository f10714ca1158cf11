//! From a reference to one image's manifest and configuration, both verified.

use super::{Error, Options, Result, Source};
use crate::{
    contract::{
        CONFIG_LIMIT, Descriptor, Digest, Document, ImageConfig, ImageIndex, ImageManifest, MANIFEST_LIMIT,
        Platform, parse_config, parse_document,
    },
    layer::{LimitExceeded, Limits},
    store::{Batch, Ingest, Store},
};

/// How many indexes may lead from one to the next.
const NESTING: usize = 4;

/// An image whose documents are in the store and safe from collection, though not yet recorded.
pub(super) struct Resolved {
    /// What the reference points at.
    pub(super) target: Digest,
    /// The manifest.
    pub(super) descriptor: Descriptor,
    pub(super) manifest: ImageManifest,
    pub(super) config: ImageConfig,
}

/// Resolves with the caller's own credentials, always: that a store has an image does not mean that the caller may.
pub(super) fn resolve(
    store: &Store,
    ingest: &Ingest,
    name: Option<&str>,
    source: &dyn Source,
    options: &Options,
) -> Result<Resolved> {
    let (top, bytes) = top(store, name, source)?;
    let mut documents = vec![(top.digest.clone(), bytes)];
    let mut descriptor = top.clone();
    let manifest = loop {
        let Some((_, bytes)) = documents.last() else { continue };
        match document(&descriptor, bytes)? {
            Document::Manifest(manifest) => break *manifest,
            Document::Index(index) => {
                descriptor = child(&index, &descriptor.digest, documents.len(), options)?;
                let bytes = match descriptor.embedded().or_else(|| kept(store, &descriptor)) {
                    Some(bytes) => bytes,
                    None => source.child_manifest(&descriptor).map_err(Error::Resolve)?,
                };
                documents.push((descriptor.digest.clone(), bytes));
            }
        }
    };
    check(&manifest, &options.limits)?;
    ingest.lease(store, needs(&documents, &manifest, &[]))?;
    let config_bytes = configuration(store, source, &manifest.config)?;
    let document = |source| Error::Document { digest: manifest.config.digest.clone(), source };
    let config = parse_config(&config_bytes).map_err(document)?;
    let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers != diff_ids {
        return Err(Error::Count { layers, diff_ids });
    }
    suits(&config, options)?;
    ingest.lease(store, needs(&documents, &manifest, &config.rootfs.diff_ids))?;
    let mut batch = Batch::new(store);
    for (digest, bytes) in &documents {
        store.stage_blob(ingest, &mut batch, digest, bytes)?;
    }
    store.stage_blob(ingest, &mut batch, &manifest.config.digest, &config_bytes)?;
    batch.commit()?;
    if descriptor.platform.is_none() {
        descriptor.platform = Some(config.platform());
    }
    Ok(Resolved { target: top.digest, descriptor, manifest, config })
}

/// What the reference points at. Where the store has an image of this name, the source is asked first whether it is
/// still that: the content need not come again.
fn top(store: &Store, name: Option<&str>, source: &dyn Source) -> Result<(Descriptor, Vec<u8>)> {
    let known = name.is_some() && store.images()?.iter().any(|image| image.name.as_deref() == name);
    if known {
        match source.current() {
            Ok(Some(descriptor)) => {
                if let Some(bytes) = kept(store, &descriptor) {
                    return Ok((descriptor, bytes));
                }
            }
            Err(e) if e.transient => return Err(Error::Resolve(e)),
            // What it means by that, its answer to the whole question says.
            Ok(None) | Err(_) => {}
        }
    }
    source.manifest().map_err(Error::Resolve)
}

/// A document that the store has, whole.
fn kept(store: &Store, descriptor: &Descriptor) -> Option<Vec<u8>> {
    let bytes = store.read_blob(&descriptor.digest, MANIFEST_LIMIT).ok()?;
    (bytes.len() as u64 == descriptor.size).then_some(bytes)
}

/// Verifies a document against the descriptor that named it, and parses it.
fn document(descriptor: &Descriptor, bytes: &[u8]) -> Result<Document> {
    verify("manifest", descriptor, bytes, MANIFEST_LIMIT)?;
    parse_document(bytes, Some(&descriptor.media_type))
        .map_err(|source| Error::Document { digest: descriptor.digest.clone(), source })
}

fn verify(what: &'static str, descriptor: &Descriptor, bytes: &[u8], limit: u64) -> Result<()> {
    let found = bytes.len() as u64;
    if found > limit {
        let source = crate::contract::Error::TooLarge { document: what, size: found, limit };
        return Err(Error::Document { digest: descriptor.digest.clone(), source });
    }
    if found != descriptor.size {
        return Err(Error::Size {
            what,
            digest: descriptor.digest.clone(),
            expected: descriptor.size,
            found,
        });
    }
    let found = Digest::of(descriptor.digest.algorithm(), bytes);
    if found != descriptor.digest {
        return Err(Error::Mismatch { what, expected: descriptor.digest.clone(), found });
    }
    Ok(())
}

/// The index's image for the platform.
fn child(index: &ImageIndex, digest: &Digest, depth: usize, options: &Options) -> Result<Descriptor> {
    if depth > NESTING {
        let reason = format!("indexes lead to indexes more than {NESTING} deep");
        let source =
            crate::contract::Error::Invalid { document: "image index", field: "manifests".into(), reason };
        return Err(Error::Document { digest: digest.clone(), source });
    }
    let wanted = options.platform.clone().unwrap_or_else(Platform::host);
    index
        .choose(&wanted)
        .cloned()
        .ok_or_else(|| Error::Platform { wanted: wanted.to_string(), offered: index.platforms() })
}

/// Whether it is an image to run: its configuration and all its layers are of types that are known.
fn check(manifest: &ImageManifest, limits: &Limits) -> Result<()> {
    let refuse = |d: &Descriptor, what| {
        Err(Error::MediaType { digest: d.digest.clone(), media_type: d.media_type.clone(), what })
    };
    if !manifest.config.media_type.is_config() {
        return refuse(&manifest.config, "image configuration: it is an artifact and not a container image");
    }
    if let Some(layer) = manifest.layers.iter().find(|l| l.media_type.layer().is_none()) {
        return refuse(layer, "layer of files");
    }
    // What may not unpack to more need not be downloaded either.
    match manifest.layers.iter().find(|l| l.size > limits.bytes) {
        Some(layer) => {
            let source = LimitExceeded::Bytes(limits.bytes).into();
            Err(Error::Unpack { digest: layer.digest.clone(), source })
        }
        None => Ok(()),
    }
}

/// An image asked for by platform must be for it. Without an index nothing was chosen, so the configuration tells; only
/// an explicit wish is held against it, as other runtimes do.
fn suits(config: &ImageConfig, options: &Options) -> Result<()> {
    let Some(wanted) = &options.platform else { return Ok(()) };
    let offered = config.platform();
    let unknown = config.os.is_empty() || config.architecture.is_empty();
    if unknown || wanted.distance(&offered).is_some() {
        return Ok(());
    }
    Err(Error::Platform { wanted: wanted.to_string(), offered: vec![offered.to_string()] })
}

fn configuration(store: &Store, source: &dyn Source, descriptor: &Descriptor) -> Result<Vec<u8>> {
    if descriptor.size > CONFIG_LIMIT {
        let source = crate::contract::Error::TooLarge {
            document: "image configuration",
            size: descriptor.size,
            limit: CONFIG_LIMIT,
        };
        return Err(Error::Document { digest: descriptor.digest.clone(), source });
    }
    if let Ok(bytes) = store.read_blob(&descriptor.digest, CONFIG_LIMIT) {
        return Ok(bytes);
    }
    if let Some(bytes) = descriptor.embedded() {
        return Ok(bytes);
    }
    let bytes = super::fetch::small(source, descriptor)?;
    verify("configuration", descriptor, &bytes, CONFIG_LIMIT)?;
    Ok(bytes)
}

fn needs<'a>(
    documents: &'a [(Digest, Vec<u8>)],
    manifest: &'a ImageManifest,
    diff_ids: &'a [Digest],
) -> impl Iterator<Item = &'a Digest> {
    let blobs = manifest.layers.iter().map(|l| &l.digest).chain([&manifest.config.digest]);
    documents.iter().map(|(d, _)| d).chain(blobs).chain(diff_ids)
}
