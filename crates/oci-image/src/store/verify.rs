use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    os::fd::AsFd,
};

use super::{At, Error, Image, Ingest, Result, Store, ingest, lock};
use crate::{
    contract::{Descriptor, Digest, Hasher},
    layer::{self, Inflate, Limits, Untold, compare, open_root, tar, unpack},
};

/// What an image is made of in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A manifest, an index, a configuration, or a layer as it came.
    Blob,
    /// A layer, unpacked.
    Layer,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blob => "blob",
            Self::Layer => "layer",
        })
    }
}

/// A part that is not what its digest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What it is.
    pub part: Part,
    /// Its name: a blob's digest, a layer's diffID.
    pub digest: Digest,
    /// What is wrong with it.
    pub reason: String,
}

/// Verifies images one after the other, what they share once: every blob against its digest, every unpacked layer
/// against what its blob unpacks to.
///
/// Nothing is believed because it has a name: not that a file is whole because the filesystem says so, not what
/// `meta.json` says. It reads all there is and needs room for one unpacked layer at a time.
#[derive(Debug)]
pub struct Verifier<'a> {
    store: &'a Store,
    ingest: Ingest,
    leased: BTreeSet<Digest>,
    /// What was looked at, and what is wrong with it.
    known: BTreeMap<(Part, Digest), Option<String>>,
}

impl Store {
    /// A verifier that has seen nothing yet.
    pub fn verifier(&self) -> Result<Verifier<'_>> {
        let (leased, known) = (BTreeSet::new(), BTreeMap::new());
        Ok(Verifier { store: self, ingest: self.ingest()?, leased, known })
    }

    /// Takes damaged parts out of the store, so that the next pull of their images brings them anew; those that are
    /// still there afterwards are told. A layer that `in_use` claims stays, and so does what a running pull counts on.
    pub fn discard(&self, damage: &[Damage], in_use: &dyn Fn(&Digest) -> bool) -> Result<Vec<Damage>> {
        let trash = self.ingest()?;
        let mut kept = Vec::new();
        {
            let _lock = lock::exclusive(&self.root().join("lock"))?;
            let leased = self.leases()?;
            for (n, damage) in damage.iter().enumerate() {
                let path = match damage.part {
                    Part::Blob => self.blob_path(&damage.digest),
                    Part::Layer => self.layer_folder(&damage.digest),
                };
                if leased.contains(&damage.digest) || damage.part == Part::Layer && in_use(&damage.digest) {
                    kept.push(damage.clone());
                    continue;
                }
                match fs::rename(&path, trash.path().join(n.to_string())) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).at("remove", &path)?,
                    _ => {}
                }
            }
        }
        ingest::remove(trash.path())?;
        Ok(kept)
    }
}

impl Verifier<'_> {
    /// What is wrong with `image`, in the order of its parts; nothing if it is whole. `None` if it was removed
    /// meanwhile.
    ///
    /// # Errors
    /// Only what prevents the verification itself, such as a full disk. What cannot be read is damaged.
    pub fn image(&mut self, image: &Image) -> Result<Option<Vec<Damage>>> {
        self.lease([&image.manifest.digest, &image.target])?;
        // Leased first: what is recorded now is not collected from now on.
        let same = |i: &Image| i.manifest.digest == image.manifest.digest;
        if !self.store.images()?.iter().any(same) {
            return Ok(None);
        }
        let mut damage = Vec::new();
        self.blob(&image.target, &mut damage)?;
        self.blob(&image.manifest.digest, &mut damage)?;
        let Ok(manifest) = self.store.manifest(&image.manifest.digest) else { return Ok(Some(damage)) };
        self.lease(manifest.layers.iter().map(|l| &l.digest).chain([&manifest.config.digest]))?;
        self.blob(&manifest.config.digest, &mut damage)?;
        let config = self.store.config(&manifest.config.digest).ok();
        let diff_ids = config.map(|c| c.rootfs.diff_ids).unwrap_or_default();
        self.lease(&diff_ids)?;
        for (n, descriptor) in manifest.layers.iter().enumerate() {
            let whole = self.blob(&descriptor.digest, &mut damage)?;
            // What a damaged blob unpacks to says nothing about the layer.
            if let Some(diff_id) = diff_ids.get(n).filter(|_| whole) {
                self.layer(descriptor, diff_id, &mut damage)?;
            }
        }
        Ok(Some(damage))
    }

    fn lease<'d>(&mut self, digests: impl IntoIterator<Item = &'d Digest>) -> Result<()> {
        self.leased.extend(digests.into_iter().cloned());
        self.ingest.lease(self.store, &self.leased)
    }

    /// Whether the blob is whole.
    fn blob(&mut self, digest: &Digest, damage: &mut Vec<Damage>) -> Result<bool> {
        let key = (Part::Blob, digest.clone());
        let verdict = match self.known.get(&key) {
            Some(verdict) => verdict.clone(),
            None => self.store.blob_fault(digest),
        };
        Ok(self.judge(key, verdict, damage))
    }

    fn layer(&mut self, descriptor: &Descriptor, diff_id: &Digest, damage: &mut Vec<Damage>) -> Result<()> {
        let key = (Part::Layer, diff_id.clone());
        let verdict = match self.known.get(&key) {
            Some(verdict) => verdict.clone(),
            None => self.layer_fault(descriptor, diff_id)?,
        };
        self.judge(key, verdict, damage);
        Ok(())
    }

    fn judge(&mut self, key: (Part, Digest), verdict: Option<String>, damage: &mut Vec<Damage>) -> bool {
        if let Some(reason) = &verdict {
            let found = Damage { part: key.0, digest: key.1.clone(), reason: reason.clone() };
            // An image may have a part twice.
            if !damage.contains(&found) {
                damage.push(found);
            }
        }
        let whole = verdict.is_none();
        self.known.insert(key, verdict);
        whole
    }

    /// What is wrong with an unpacked layer: unpacked once more, from a blob known to be whole, and compared.
    fn layer_fault(&self, descriptor: &Descriptor, diff_id: &Digest) -> Result<Option<String>> {
        let meta = match self.store.layer_meta(diff_id) {
            Ok(meta) => meta,
            Err(Error::Missing { .. }) => return Ok(Some("is missing".into())),
            Err(e) => return Ok(Some(e.to_string())),
        };
        let found = match open_root(&self.store.layer_folder(diff_id).join("fs")) {
            Ok(found) => found,
            Err(e) => return Ok(Some(format!("cannot be opened: {}", io::Error::from(e)))),
        };
        let scratch = self.ingest.path().join("layer");
        ingest::remove(&scratch)?;
        fs::create_dir(&scratch).at("create", &scratch)?;
        let expected = open_root(&scratch).at("open", &scratch)?;
        let again = expected.try_clone().at("open", &scratch)?;
        let (blob, _) = self.store.open_blob(&descriptor.digest)?;
        let limits = Limits::default();
        let inflate = Inflate::new(blob, diff_id.algorithm(), limits.bytes_for(descriptor.size));
        let mut reader = tar::Reader::new(inflate);
        let unpacked = match unpack(&mut reader, again, &limits) {
            Ok(unpacked) => unpacked,
            Err(layer::Error::Write { source, .. }) => return Err(source).at("unpack a layer in", &scratch),
            Err(e) => return Ok(Some(format!("cannot be compared: {e}"))),
        };
        if reader.into_inner().finish() != *diff_id {
            return Ok(Some("cannot be compared: the image's blob is of another layer".into()));
        }
        let told = (unpacked.entries, unpacked.bytes);
        if (meta.entries, meta.size, &meta.diff_id) != (told.0, told.1, diff_id) {
            return Ok(Some("its meta.json is of another layer".into()));
        }
        let implied = unpacked.implied.into_iter().collect();
        let untold = Untold { implied: &implied, root: !unpacked.root };
        let differences = compare(expected.as_fd(), found.as_fd(), &untold).at("read", &scratch)?;
        ingest::remove(&scratch)?;
        Ok(differences.first.map(|first| match differences.count {
            0 | 1 => first,
            more => format!("{first}; and {} more", more - 1),
        }))
    }
}

impl Store {
    /// What is wrong with a blob.
    fn blob_fault(&self, digest: &Digest) -> Option<String> {
        let hash = || -> Result<(Digest, u64)> {
            let (mut file, size) = self.open_blob(digest)?;
            let mut hasher = Hasher::new(digest.algorithm());
            let mut buffer = vec![0; 128 << 10];
            loop {
                match io::Read::read(&mut file, &mut buffer).at("read", &self.blob_path(digest))? {
                    0 => return Ok((hasher.finish(), size)),
                    n => hasher.update(buffer.get(..n).unwrap_or_default()),
                }
            }
        };
        match hash() {
            Ok((found, _)) if found == *digest => None,
            Ok((found, size)) => Some(format!("its {size} bytes have the digest {found}")),
            Err(Error::Missing { .. }) => Some("is missing".into()),
            Err(e) => Some(e.to_string()),
        }
    }
}
