use super::{Error, Image, Result, Store};
use crate::{
    contract::{
        CONFIG_LIMIT, Digest, ImageConfig, ImageManifest, MANIFEST_LIMIT, parse_config, parse_manifest,
    },
    reference::Reference,
};

/// An image's documents.
#[derive(Clone, Debug)]
pub struct Details {
    /// The image's id as people know it: its configuration's digest.
    pub id: Digest,
    /// Its manifest.
    pub manifest: ImageManifest,
    /// Its configuration.
    pub config: ImageConfig,
}

impl Store {
    /// The image that a person means: by name (`busybox`, `localhost:5000/x:1`, `name@sha256:...`), by id or the
    /// beginning of one, or by digest.
    pub fn find(&self, text: &str) -> Result<Image> {
        let images = self.images()?;
        if let Some(image) = images.iter().find(|i| i.name.as_deref() == Some(text)) {
            return Ok(image.clone());
        }
        if let Some(image) = by_reference(&images, text) {
            return Ok(image.clone());
        }
        self.by_id(&images, text)
    }

    /// Reads an image's documents.
    pub fn details(&self, image: &Image) -> Result<Details> {
        let manifest = self.manifest(&image.manifest.digest)?;
        let id = manifest.config.digest.clone();
        let config = self.config(&id)?;
        Ok(Details { id, manifest, config })
    }

    /// Reads a manifest.
    pub fn manifest(&self, digest: &Digest) -> Result<ImageManifest> {
        let bytes = self.read_blob(digest, MANIFEST_LIMIT)?;
        parse_manifest(&bytes).map_err(|source| Error::Document { what: format!("blob {digest}"), source })
    }

    /// Reads a configuration.
    pub fn config(&self, digest: &Digest) -> Result<ImageConfig> {
        let bytes = self.read_blob(digest, CONFIG_LIMIT)?;
        parse_config(&bytes).map_err(|source| Error::Document { what: format!("blob {digest}"), source })
    }

    /// By the beginning of an id (a configuration's digest) or of a manifest's digest.
    fn by_id(&self, images: &[Image], text: &str) -> Result<Image> {
        let hex = text.strip_prefix("sha256:").or_else(|| text.strip_prefix("sha512:")).unwrap_or(text);
        let mut found: Vec<(Digest, &Image)> = Vec::new();
        if hex.len() >= 2 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            for image in images {
                // An image whose manifest is damaged has no id; it can still be meant by name.
                let id = self.manifest(&image.manifest.digest).map(|m| m.config.digest);
                let digests = [Some(&image.manifest.digest), Some(&image.target), id.as_ref().ok()];
                if digests.into_iter().flatten().any(|d| d.hex().starts_with(hex)) {
                    found.push((image.manifest.digest.clone(), image));
                }
            }
        }
        let mut distinct: Vec<&Digest> = found.iter().map(|(d, _)| d).collect();
        distinct.sort_unstable();
        distinct.dedup();
        match (distinct.as_slice(), found.first()) {
            ([_], Some((_, image))) => Ok((*image).clone()),
            ([], _) | (_, None) => Err(Error::NoImage(text.to_owned())),
            (several, _) => {
                let candidates = several.iter().map(|d| d.to_string()).collect();
                Err(Error::Ambiguous { text: text.to_owned(), candidates })
            }
        }
    }
}

/// By name; a digest in the reference is the manifest's or that of the index it came from.
fn by_reference<'a>(images: &'a [Image], text: &str) -> Option<&'a Image> {
    let reference = Reference::parse(text).ok()?;
    let full = reference.to_string();
    if let Some(image) = images.iter().find(|i| i.name.as_deref() == Some(full.as_str())) {
        return Some(image);
    }
    let digest = reference.digest()?;
    let same_name = |image: &Image| {
        let own = image.name.as_deref().and_then(|n| Reference::parse(n).ok());
        own.is_some_and(|r| r.name() == reference.name())
    };
    images.iter().find(|i| (i.manifest.digest == *digest || i.target == *digest) && same_name(i))
}
