use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, Read, Write},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

use super::{
    Error, Result, docker,
    error::At,
    place::{Blobs, Local, Place},
    tarball::Tarball,
};
use crate::{
    contract::{Algorithm, Descriptor, Digest, MANIFEST_LIMIT, annotation, parse_index},
    layer::Inflate,
    pull::{Options, Progress, PullReport, pull_image},
    reference::Reference,
    store::{Store, check_layout},
};

/// The most an archive may inflate to: what a disk may be asked to hold for a moment.
const ARCHIVE_LIMIT: u64 = 1 << 40;

/// Where images are imported from.
pub enum Input<'a> {
    /// The folder of an OCI layout.
    Folder(&'a Path),
    /// A tar on disk: an OCI layout or a docker archive, perhaps compressed.
    File(File),
    /// The same from a pipe. It is written to disk first, because archives name last what they have first.
    Stream(&'a mut dyn Read),
}

/// Imports every image of a layout or archive, under the names they have there; `name`, a complete reference, is for
/// one that has none.
///
/// # Errors
/// The first image that cannot be imported ends it; those before it are in the store.
pub fn import(
    store: &Store,
    input: Input<'_>,
    name: Option<&str>,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<PullReport>> {
    let spool;
    let images = match input {
        Input::Folder(path) => folder(path)?,
        Input::File(file) if plain(&file)? => tarball(file)?,
        Input::File(mut file) => {
            spool = spooled(store, &mut file)?;
            tarball(spool)?
        }
        Input::Stream(stream) => {
            spool = spooled(store, stream)?;
            tarball(spool)?
        }
    };
    if images.is_empty() {
        return Err(Error::Format("there is no image in it".into()));
    }
    let mut reports = Vec::new();
    for (names, local) in images {
        let mut names: Vec<String> = names.iter().filter_map(|n| full(n)).collect();
        if names.is_empty() {
            names.extend(name.map(str::to_owned));
        }
        let report = pull_image(store, names.first().map(String::as_str), &local, options, progress)?;
        for other in names.iter().skip(1) {
            let image = store.find(&report.manifest.to_string())?;
            store.tag(&image, other)?;
        }
        reports.push(report);
    }
    Ok(reports)
}

/// A name as the store has it; what is none (a layout may call an image `1.0`) is dropped.
fn full(name: &str) -> Option<String> {
    let has_repository = name.contains(['/', ':', '@']) || name.parse::<Digest>().is_ok();
    if !has_repository {
        return None;
    }
    Reference::parse(name).ok().map(|r| r.to_string())
}

/// The images of a layout's folder.
fn folder(path: &Path) -> Result<Vec<(Vec<String>, Local)>> {
    let mark = path.join("oci-layout");
    check_layout(&mark, &std::fs::read(&mark).at("read", mark.display())?)?;
    let index = path.join("index.json");
    let bytes = Place::Path(index.clone()).read(MANIFEST_LIMIT).at("read", index.display())?;
    layout(&bytes, &Blobs::Folder(path.to_owned()))
}

/// The names and top documents of the images in an archive that is no folder and not compressed; nothing is stored.
pub fn contents(file: File) -> Result<Vec<(Vec<String>, Descriptor)>> {
    Ok(tarball(file)?.into_iter().map(|(names, local)| (names, local.top)).collect())
}

/// The images of a tar.
fn tarball(file: File) -> Result<Vec<(Vec<String>, Local)>> {
    let tarball = Tarball::read(&Arc::new(file))?;
    let Some(index) = tarball.get("index.json") else { return docker::images(&tarball) };
    let mark = tarball
        .get("oci-layout")
        .ok_or_else(|| Error::Format("it has index.json and no oci-layout".into()))?;
    check_layout(Path::new("oci-layout"), &mark.read(MANIFEST_LIMIT).at("read", "oci-layout")?)?;
    let mut blobs = BTreeMap::new();
    for (name, place) in tarball.files() {
        let digest = name.strip_prefix("blobs/").and_then(|n| n.replacen('/', ":", 1).parse::<Digest>().ok());
        blobs.extend(digest.map(|d| (d, place.clone())));
    }
    let bytes = index.read(MANIFEST_LIMIT).at("read", "index.json")?;
    layout(&bytes, &Blobs::Map(Arc::new(blobs)))
}

/// The images of an index.json; entries of one digest are one image with several names.
fn layout(index: &[u8], blobs: &Blobs) -> Result<Vec<(Vec<String>, Local)>> {
    let index = parse_index(index).map_err(|source| Error::Document { what: "index.json".into(), source })?;
    let mut images: Vec<(Vec<String>, Local)> = Vec::new();
    for record in index.manifests {
        let image = record.media_type.is_manifest() || record.media_type.is_index();
        if !image || record.annotation(annotation::REFERENCE_TYPE).is_some() {
            continue;
        }
        let name =
            [annotation::CONTAINERD_NAME, annotation::REF_NAME].iter().find_map(|k| record.annotation(k));
        let name = name.map(str::to_owned);
        match images.iter_mut().find(|(_, l)| l.top.digest == record.digest) {
            Some((names, _)) => names.extend(name),
            None => {
                let top = Descriptor { annotations: BTreeMap::new(), ..record };
                images.push((name.into_iter().collect(), Local { top, blobs: blobs.clone() }));
            }
        }
    }
    Ok(images)
}

/// Whether a file can be read as a tar where it is: it is not compressed, and no pipe.
fn plain(file: &File) -> Result<bool> {
    let mut start = [0; 4];
    match file.read_at(&mut start, 0) {
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::SPIPE.raw_os_error()) => Ok(false),
        Err(e) => Err(e).at("read", "the archive"),
        Ok(_) => Ok(!start.starts_with(&[0x1f, 0x8b]) && start != [0x28, 0xb5, 0x2f, 0xfd]),
    }
}

/// Writes a stream, inflated, to a file without a name that vanishes with its last descriptor.
fn spooled(store: &Store, stream: &mut dyn Read) -> Result<File> {
    let ingest = store.ingest()?;
    let path = ingest.path().join("archive");
    let mut file =
        File::options().read(true).write(true).create_new(true).open(&path).at("create", path.display())?;
    let mut inflate = Inflate::new(stream, Algorithm::Sha256, ARCHIVE_LIMIT);
    loop {
        // What is wrong with the archive is not the disk's fault.
        let piece = inflate.fill_buf().at("read", "the archive")?;
        let length = piece.len();
        if length == 0 {
            return Ok(file);
        }
        file.write_all(piece).at("write", path.display())?;
        inflate.consume(length);
    }
}
