use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

use super::{Image, Result, Store};
use crate::contract::{Algorithm, Digest};

/// What the store takes.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Each image.
    pub images: Vec<ImageUsage>,
    /// Bytes of blobs that images need, each counted once.
    pub blobs: u64,
    /// Bytes of unpacked layers that images need, each counted once.
    pub layers: u64,
}

/// Everything that has its name in the store, whether or not an image needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Bytes of disk of blobs, and bytes of file data in unpacked layers.
    pub bytes: u64,
    /// Blobs, and entries of unpacked layers.
    pub inodes: u64,
}

/// What one image takes, blobs and unpacked layers together.
#[derive(Clone, Debug)]
pub struct ImageUsage {
    /// The image.
    pub image: Image,
    /// Bytes, shared ones included.
    pub total: u64,
    /// Bytes that no other image needs: what removing it frees.
    pub unique: u64,
}

/// What an image is made of, with the size of each.
type Pieces = BTreeMap<Piece, u64>;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Piece {
    Blob(Digest),
    Layer(Digest),
}

impl Store {
    /// Measures what each image takes. An image whose documents cannot be read counts as its manifest alone.
    pub fn usage(&self) -> Result<Usage> {
        let images = self.images()?;
        let pieces: Vec<Pieces> = images.iter().map(|i| self.pieces(i)).collect();
        // Two names of one image share everything and still are one image.
        let mut owners: BTreeMap<&Piece, BTreeSet<&Digest>> = BTreeMap::new();
        for (image, pieces) in images.iter().zip(&pieces) {
            for piece in pieces.keys() {
                owners.entry(piece).or_default().insert(&image.manifest.digest);
            }
        }
        let mut usage = Usage::default();
        let all: Pieces = pieces.iter().flatten().map(|(p, n)| (p.clone(), *n)).collect();
        for (piece, size) in all {
            *match piece {
                Piece::Blob(_) => &mut usage.blobs,
                Piece::Layer(_) => &mut usage.layers,
            } += size;
        }
        for (image, pieces) in images.iter().zip(&pieces) {
            let alone = |p: &Piece| owners.get(p).is_some_and(|o| o.len() == 1);
            usage.images.push(ImageUsage {
                image: image.clone(),
                total: pieces.values().sum(),
                unique: pieces.iter().filter(|(p, _)| alone(p)).map(|(_, n)| n).sum(),
            });
        }
        Ok(usage)
    }

    /// The folders whose modification times change when [`Store::content`] does.
    pub fn content_folders(&self) -> Vec<PathBuf> {
        let folder = |kind: &str, algorithm: Algorithm| self.root().join(kind).join(algorithm.name());
        Algorithm::ALL.into_iter().flat_map(|a| [folder("blobs", a), folder("layers", a)]).collect()
    }

    /// Measures everything that has a name. Each blob and each layer costs one look at a file.
    pub fn content(&self) -> Result<Content> {
        let mut content = Content::default();
        for digest in self.listed("blobs")? {
            // One that is collected meanwhile takes nothing.
            content.bytes += self.blob_path(&digest).metadata().map_or(0, |m| m.blocks() * 512);
            content.inodes += 1;
        }
        for digest in self.listed("layers")? {
            if let Ok(meta) = self.layer_meta(&digest) {
                content.bytes += meta.size;
                content.inodes += meta.entries;
            }
        }
        Ok(content)
    }

    fn pieces(&self, image: &Image) -> Pieces {
        let mut pieces = Pieces::new();
        let mut blob = |digest: &Digest| {
            let size = self.blob_path(digest).metadata().map_or(0, |m| m.size());
            pieces.insert(Piece::Blob(digest.clone()), size);
        };
        blob(&image.manifest.digest);
        blob(&image.target);
        let Ok(details) = self.details(image) else { return pieces };
        blob(&details.id);
        details.manifest.layers.iter().for_each(|l| blob(&l.digest));
        for diff_id in details.config.rootfs.diff_ids {
            let size = self.layer_meta(&diff_id).map_or(0, |m| m.size);
            pieces.insert(Piece::Layer(diff_id), size);
        }
        pieces
    }
}
