use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read, Write},
    path::PathBuf,
    sync::Arc,
};

use flate2::{Compression as Level, write::GzEncoder};

use super::{
    Error, Result,
    error::At,
    place::{Blobs, Local, Place},
};
use crate::{
    contract::{
        Algorithm, Compression, ContainerConfig, Descriptor, Digest, Hasher, ImageConfig, ImageManifest,
        MediaType, Platform,
    },
    layer::tar::{Header, Writer},
    pull::{Options, PullReport, Silent, pull},
    store::Store,
};

/// One thing in an image made on the spot. Everything belongs to root and has time 0.
#[derive(Clone, Debug)]
pub struct Part {
    /// Where it goes, from the image's root. Missing parents are made, mode 0755.
    pub path: String,
    /// What it is.
    pub content: Content,
    /// Its permission bits; a link has none of its own.
    pub mode: u32,
}

/// What a [`Part`] is.
#[derive(Clone, Debug)]
pub enum Content {
    /// A file with these bytes.
    Bytes(Vec<u8>),
    /// A file with the bytes of this file.
    File(PathBuf),
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Symlink(String),
}

/// Makes an image of one layer, for this machine, and records it as `name`, a complete reference. The same parts and
/// configuration give the same digests. `compression` is of the layer's blob: none or gzip.
pub fn build(
    store: &Store,
    name: &str,
    parts: &[Part],
    config: ContainerConfig,
    compression: Compression,
) -> Result<PullReport> {
    let parts = sorted(parts)?;
    let ingest = store.ingest()?;
    let path = ingest.path().join("layer");
    let file = File::create(&path).at("create", path.display())?;
    let (layer, diff_id) = write(&parts, file, compression)?;
    let mut blobs = BTreeMap::from([(layer.digest.clone(), Place::Path(path))]);
    let mut add = |media_type, bytes: Vec<u8>| {
        let descriptor = Descriptor::of(media_type, &bytes);
        blobs.insert(descriptor.digest.clone(), Place::Bytes(bytes.into()));
        descriptor
    };
    let json =
        |e: serde_json::Error| Error::Io { act: "write", object: "a document".into(), source: e.into() };
    let config = ImageConfig::new(&Platform::host(), config, vec![diff_id]);
    let config = add(MediaType::OCI_CONFIG, serde_json::to_vec(&config).map_err(json)?);
    let manifest = ImageManifest::new(config, vec![layer]);
    let top = add(MediaType::OCI_MANIFEST, serde_json::to_vec(&manifest).map_err(json)?);
    let source = Local { top, blobs: Blobs::Map(Arc::new(blobs)) };
    Ok(pull(store, name, &source, &Options::default(), &Silent)?)
}

/// The parts by path, with every directory that they take for granted.
fn sorted(parts: &[Part]) -> Result<BTreeMap<String, Part>> {
    let mut all = BTreeMap::new();
    for part in parts {
        let path = part.path.trim_matches('/');
        let bad = |reason| Error::Part { path: part.path.clone(), reason };
        if path.is_empty() || path.contains('\0') {
            return Err(bad("this is no path below the root"));
        }
        if path.split('/').any(|c| matches!(c, "" | "." | "..") || c.starts_with(".wh.")) {
            return Err(bad("its path has a component that is empty, `.`, `..` or a whiteout"));
        }
        if all.insert(path.to_owned(), Part { path: path.to_owned(), ..part.clone() }).is_some() {
            return Err(bad("it is there twice"));
        }
    }
    let parents: BTreeSet<String> = all
        .keys()
        .flat_map(|p| p.match_indices('/').filter_map(|(i, _)| p.get(..i)).map(str::to_owned))
        .collect();
    for path in parents {
        let parent = Part { path: path.clone(), content: Content::Directory, mode: 0o755 };
        if !matches!(all.entry(path.clone()).or_insert(parent).content, Content::Directory) {
            return Err(Error::Part { path, reason: "something is below it, and it is no directory" });
        }
    }
    Ok(all)
}

/// Writes the layer; its descriptor and its diffID.
fn write(
    parts: &BTreeMap<String, Part>,
    file: File,
    compression: Compression,
) -> Result<(Descriptor, Digest)> {
    let blob = Hashed::new(file);
    let (blob, diff_id, media_type) = match compression {
        Compression::None => {
            let (tar, diff_id) = tar(parts, blob)?;
            (tar, diff_id, MediaType::OCI_LAYER)
        }
        Compression::Gzip => {
            let (gzip, diff_id) = tar(parts, GzEncoder::new(blob, Level::fast()))?;
            (gzip.finish().at("write", "the layer")?, diff_id, MediaType::OCI_LAYER_GZIP)
        }
        Compression::Zstd => {
            return Err(Error::Part {
                path: String::new(),
                reason: "a layer made on the spot is plain or gzip",
            });
        }
    };
    let (size, digest) = (blob.size, blob.hasher.finish());
    Ok((Descriptor::new(media_type, digest, size), diff_id))
}

fn tar<W: Write>(parts: &BTreeMap<String, Part>, output: W) -> Result<(W, Digest)> {
    let mut tar = Writer::new(Hashed::new(output));
    for (path, part) in parts {
        let (header, mut data): (Header, Box<dyn Read>) = match &part.content {
            Content::Bytes(bytes) => {
                (Header::file(path, part.mode, bytes.len() as u64), Box::new(bytes.as_slice()))
            }
            Content::File(from) => {
                let file = File::open(from).at("open", from.display())?;
                let size = file.metadata().at("look at", from.display())?.len();
                (Header::file(path, part.mode, size), Box::new(file))
            }
            Content::Directory => (Header::directory(path, part.mode), Box::new(io::empty())),
            Content::Symlink(target) => (Header::symlink(path, target), Box::new(io::empty())),
        };
        tar.append(&header, &mut data).at("write", path)?;
    }
    let hashed = tar.finish().at("write", "the layer")?;
    Ok((hashed.output, hashed.hasher.finish()))
}

/// Hashes and counts what goes through.
struct Hashed<W> {
    output: W,
    hasher: Hasher,
    size: u64,
}

impl<W> Hashed<W> {
    fn new(output: W) -> Self {
        Self { output, hasher: Hasher::new(Algorithm::Sha256), size: 0 }
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.output.write(bytes)?;
        self.hasher.update(bytes.get(..n).unwrap_or_default());
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
