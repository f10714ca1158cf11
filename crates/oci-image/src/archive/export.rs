use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write},
    path::Path,
};

use super::{Error, Result, docker::Item, error::At};
use crate::{
    contract::{Descriptor, Digest, ImageIndex, annotation, parse_index},
    layer::tar::{Header, Writer},
    reference::Reference,
    store::{Details, Image, LAYOUT, Store, check_layout},
};

/// What kind of tar to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// An OCI layout, with Docker's `manifest.json` beside it: `docker load`, podman, skopeo and ctr all read it.
    #[default]
    Docker,
    /// An OCI layout and nothing else.
    Oci,
}

/// Writes `images` as a tar. The same images give the same bytes.
pub fn export(store: &Store, images: &[Image], format: Format, output: &mut dyn Write) -> Result<()> {
    let _hold = store.hold()?;
    let images = read(store, images)?;
    let mut tar = Writer::new(output);
    let mut put = |path: &str, bytes: &[u8]| {
        let header = Header::file(path, 0o644, bytes.len() as u64);
        tar.append(&header, &mut &*bytes).at("write", path)
    };
    put("oci-layout", LAYOUT)?;
    put("index.json", &json(&index(&images))?)?;
    if format == Format::Docker {
        put("manifest.json", &json(&items(&images))?)?;
    }
    for digest in blobs(&images) {
        let (mut file, size) = store.open_blob(digest)?;
        let path = digest.blob_path();
        tar.append(&Header::file(&path, 0o644, size), &mut file).at("write", &path)?;
    }
    tar.finish().and_then(|output| output.flush()).at("write", "the archive")
}

/// Writes `images` into the OCI layout in the folder `path`, which is made if it is not there. Images of other names
/// in it stay.
pub fn export_folder(store: &Store, images: &[Image], path: &Path) -> Result<()> {
    let _hold = store.hold()?;
    let images = read(store, images)?;
    for algorithm in crate::contract::Algorithm::ALL {
        let folder = path.join("blobs").join(algorithm.name());
        if algorithm.name() == "sha256" || blobs(&images).iter().any(|d| d.algorithm() == algorithm) {
            fs::create_dir_all(&folder).at("create", folder.display())?;
        }
    }
    let mark = path.join("oci-layout");
    match fs::read(&mark) {
        Ok(bytes) => check_layout(&mark, &bytes)?,
        Err(_) => fs::write(&mark, LAYOUT).at("write", mark.display())?,
    }
    for digest in blobs(&images) {
        let (mut file, size) = store.open_blob(digest)?;
        let to = path.join(digest.blob_path());
        if fs::metadata(&to).is_ok_and(|m| m.len() == size) {
            continue;
        }
        let mut out = fs::File::create(&to).at("create", to.display())?;
        io::copy(&mut file, &mut out).at("write", to.display())?;
    }
    let at = path.join("index.json");
    let mut whole = index(&images);
    if let Ok(bytes) = fs::read(&at) {
        let before = parse_index(&bytes)
            .map_err(|source| Error::Document { what: at.display().to_string(), source })?;
        let name = |d: &Descriptor| d.annotation(annotation::REF_NAME).map(str::to_owned);
        let ours: BTreeSet<_> = whole.manifests.iter().map(name).collect();
        let mut kept: Vec<_> = before.manifests.into_iter().filter(|d| !ours.contains(&name(d))).collect();
        kept.append(&mut whole.manifests);
        whole.manifests = kept;
    }
    fs::write(&at, json(&whole)?).at("write", at.display())
}

fn read(store: &Store, images: &[Image]) -> Result<Vec<(Image, Details)>> {
    images.iter().map(|i| Ok((i.clone(), store.details(i)?))).collect()
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(io::Error::from).at("write", "a document")
}

fn index(images: &[(Image, Details)]) -> ImageIndex {
    let records = images.iter().map(|(image, _)| {
        let mut record = Descriptor { annotations: BTreeMap::new(), ..image.manifest.clone() };
        if let Some(name) = &image.name {
            record.annotations.insert(annotation::REF_NAME.into(), name.clone());
            record.annotations.insert(annotation::CONTAINERD_NAME.into(), name.clone());
        }
        record
    });
    ImageIndex::new(records.collect())
}

/// Docker's table of contents: each image once, with all its names.
fn items(images: &[(Image, Details)]) -> Vec<Item> {
    let mut items: Vec<(Digest, Item)> = Vec::new();
    for (image, details) in images {
        let name = image.name.as_deref().and_then(|n| Reference::parse(n).ok());
        // A reference by digest is no tag.
        let tag = name.filter(|r| r.digest().is_none()).map(|r| r.familiar());
        match items.iter_mut().find(|(digest, _)| *digest == image.manifest.digest) {
            Some((_, item)) => item.repo_tags.get_or_insert_default().extend(tag),
            None => {
                let item = Item {
                    config: details.id.blob_path(),
                    repo_tags: Some(tag.into_iter().collect()),
                    layers: details.manifest.layers.iter().map(|l| l.digest.blob_path()).collect(),
                };
                items.push((image.manifest.digest.clone(), item));
            }
        }
    }
    items.into_iter().map(|(_, item)| item).collect()
}

/// Every blob of the images, once.
fn blobs(images: &[(Image, Details)]) -> BTreeSet<&Digest> {
    let mut all = BTreeSet::new();
    for (image, details) in images {
        all.extend([&image.manifest.digest, &details.id]);
        all.extend(details.manifest.layers.iter().map(|l| &l.digest));
    }
    all
}
