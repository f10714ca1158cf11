use std::{collections::BTreeSet, fs, io};

use super::{At, Error, Result, Store, lock, sync_directory};
use crate::{
    contract::{Descriptor, Digest, ImageIndex, MediaType, annotation, parse_index},
    reference::Reference,
};

/// On a record: the digest that the name resolved to in the registry, when that was an index.
const TARGET: &str = "io.sextant.target";
/// On a record: the image is not to be removed.
const PINNED: &str = "io.sextant.pinned";

/// A name and the image it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The complete reference, as in `docker.io/library/busybox:latest`; `None` in a layout that names nothing.
    pub name: Option<String>,
    /// The image's manifest.
    pub manifest: Descriptor,
    /// What the name resolved to where it was pulled: the manifest, or an index that led to it.
    pub target: Digest,
    /// Whether it is kept even when nothing uses it.
    pub pinned: bool,
}

impl Image {
    pub(crate) fn from_record(mut record: Descriptor) -> Self {
        // What only the record says is no part of the descriptor: two names of an image have the same one.
        let mut take = |key| record.annotations.remove(key);
        let (name, target, pinned) = (take(annotation::REF_NAME), take(TARGET), take(PINNED));
        Self {
            name,
            target: target.and_then(|t| t.parse().ok()).unwrap_or_else(|| record.digest.clone()),
            pinned: pinned.as_deref() == Some("true"),
            manifest: record,
        }
    }

    fn into_record(self) -> Descriptor {
        let mut record = self.manifest;
        if let Some(name) = self.name {
            record.annotations.insert(annotation::REF_NAME.into(), name);
        }
        if self.target != record.digest {
            record.annotations.insert(TARGET.into(), self.target.to_string());
        }
        if self.pinned {
            record.annotations.insert(PINNED.into(), "true".into());
        }
        record
    }
}

/// Records `image` in the place of whatever had its name.
fn put(images: &mut Vec<Image>, mut image: Image) {
    let same = |i: &Image| i.manifest.digest == image.manifest.digest;
    let replaced = |i: &Image| i.name == image.name && (i.name.is_some() || same(i));
    let pinned = images.iter().any(|i| replaced(i) && i.pinned);
    images.retain(|i| !replaced(i));
    image.pinned |= pinned;
    images.push(image);
}

/// The same image, named by what its name resolved to; `None` where it has no name in a registry.
fn by_digest(image: &Image) -> Option<Image> {
    let name = Reference::parse(image.name.as_deref()?).ok()?;
    let name = name.with_digest(image.target.clone()).canonical().to_string();
    Some(Image { name: Some(name), pinned: false, ..image.clone() })
}

impl Store {
    /// Every name and its image, in the order they were recorded.
    pub fn images(&self) -> Result<Vec<Image>> {
        let records = self.read_index()?.manifests;
        // Other tools may have put indexes there; an image is what has a manifest.
        Ok(records.into_iter().filter(|d| !d.media_type.is_index()).map(Image::from_record).collect())
    }

    /// Records `image` under its name; a name that stood for another image stands for this one from now on. A name that
    /// is pinned stays so.
    pub fn record(&self, image: Image) -> Result<()> {
        self.change(|images| {
            put(images, image);
            Ok(())
        })
    }

    /// Like [`Store::record`], but an image that loses its name by that is kept as `repository@digest`: whoever has
    /// looked it up by then still finds it. It goes when it is removed.
    pub fn record_beside(&self, image: Image) -> Result<()> {
        self.change(|images| {
            let replaced = images.iter().find(|i| i.name.is_some() && i.name == image.name);
            let kept = replaced.filter(|old| old.target != image.target).and_then(by_digest);
            if let Some(kept) = kept
                && !images.iter().any(|i| i.name == kept.name)
            {
                images.push(kept);
            }
            put(images, image);
            Ok(())
        })
    }

    /// Whether exactly this is recorded, pinned or not.
    pub(crate) fn is_recorded(&self, image: &Image) -> Result<bool> {
        let same = |i: &Image| Image { pinned: image.pinned, ..i.clone() } == *image;
        Ok(self.images()?.iter().any(same))
    }

    /// Gives an image another name.
    pub fn tag(&self, image: &Image, name: &str) -> Result<()> {
        self.change(|images| {
            if !images.iter().any(|i| i.manifest.digest == image.manifest.digest) {
                return Err(Error::NoImage(image.manifest.digest.to_string()));
            }
            images.retain(|i| i.name.as_deref() != Some(name));
            images.push(Image { name: Some(name.to_owned()), ..image.clone() });
            Ok(())
        })
    }

    /// Takes a name away; the image goes with the next collection if it has no other. `false` if nothing had the name.
    pub fn untag(&self, name: &str) -> Result<bool> {
        self.change(|images| {
            let before = images.len();
            if images.iter().any(|i| i.name.as_deref() == Some(name) && i.pinned) {
                return Err(Error::Pinned(name.to_owned()));
            }
            images.retain(|i| i.name.as_deref() != Some(name));
            Ok(images.len() < before)
        })
    }

    /// Takes every name of an image away, and tells them.
    pub fn remove(&self, image: &Image) -> Result<Vec<String>> {
        self.remove_manifests(&BTreeSet::from([image.manifest.digest.clone()]))
    }

    /// Takes every name of the images with these manifests away, all in one step, and tells the names.
    ///
    /// # Errors
    /// One of them is pinned: then nothing is taken away.
    pub fn remove_manifests(&self, manifests: &BTreeSet<Digest>) -> Result<Vec<String>> {
        self.change(|images| {
            let ours = |i: &Image| manifests.contains(&i.manifest.digest);
            if let Some(pinned) = images.iter().find(|i| ours(i) && i.pinned) {
                return Err(Error::Pinned(
                    pinned.name.clone().unwrap_or_else(|| pinned.manifest.digest.to_string()),
                ));
            }
            let names = images.iter().filter(|i| ours(i)).filter_map(|i| i.name.clone()).collect();
            images.retain(|i| !ours(i));
            Ok(names)
        })
    }

    /// Pins or unpins the image that has this name.
    pub fn pin(&self, name: &str, pinned: bool) -> Result<()> {
        self.change(|images| {
            let image = images.iter_mut().find(|i| i.name.as_deref() == Some(name));
            image.ok_or_else(|| Error::NoImage(name.to_owned()))?.pinned = pinned;
            Ok(())
        })
    }

    fn read_index(&self) -> Result<ImageIndex> {
        let path = self.root().join("index.json");
        match fs::read(&path) {
            Ok(bytes) => parse_index(&bytes)
                .map_err(|source| Error::Document { what: path.display().to_string(), source }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(ImageIndex::new(Vec::new())),
            Err(e) => Err(e).at("read", &path),
        }
    }

    /// Rewrites the record, durably, while no other process does and nothing is collected.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<Image>) -> Result<T>) -> Result<T> {
        let _hold = self.hold()?;
        let _lock = lock::exclusive(&self.root().join("index.lock"))?;
        let mut index = self.read_index()?;
        let before = index.manifests.clone();
        let (others, records): (Vec<_>, Vec<_>) =
            before.iter().cloned().partition(|d| d.media_type.is_index());
        let mut images = records.into_iter().map(Image::from_record).collect();
        let answer = change(&mut images)?;
        index.manifests = others.into_iter().chain(images.into_iter().map(Image::into_record)).collect();
        if index.manifests == before && !before.is_empty() {
            return Ok(answer);
        }
        index.media_type = Some(MediaType::OCI_INDEX);
        let path = self.root().join("index.json");
        let bytes = serde_json::to_vec(&index).map_err(io::Error::from).at("write", &path)?;
        match self.replace(&path, &bytes) {
            // What makes room must not need room.
            Err(Error::Io { source, .. })
                if source.kind() == io::ErrorKind::StorageFull
                    && index.manifests.len() < before.len()
                    && self.use_reserve() =>
            {
                self.replace(&path, &bytes)?;
            }
            done => done?,
        }
        sync_directory(self.root())?;
        Ok(answer)
    }
}
