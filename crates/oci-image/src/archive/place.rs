//! Where the bytes of a local image are, and a source for a pull made of such places.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Arc,
};

use crate::{
    contract::{Descriptor, Digest, MANIFEST_LIMIT},
    pull::{Source, SourceError},
};

/// Some bytes on this machine.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// A file.
    Path(PathBuf),
    /// A part of an open file.
    Slice { file: Arc<File>, offset: u64, size: u64 },
    /// Memory.
    Bytes(Arc<[u8]>),
}

impl Place {
    /// Reads from `skip` on.
    pub(super) fn open(&self, skip: u64) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Path(path) => {
                let file = Arc::new(File::open(path)?);
                let size = file.metadata()?.len();
                Box::new(Slice { file, offset: skip, left: size.saturating_sub(skip) })
            }
            Self::Slice { file, offset, size } => {
                let skip = skip.min(*size);
                Box::new(Slice { file: Arc::clone(file), offset: offset + skip, left: size - skip })
            }
            Self::Bytes(bytes) => {
                let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
                Box::new(io::Cursor::new(bytes.get(skip..).unwrap_or_default().to_vec()))
            }
        })
    }

    /// How many bytes there are.
    pub(super) fn size(&self) -> io::Result<u64> {
        match self {
            Self::Path(path) => Ok(path.metadata()?.len()),
            Self::Slice { size, .. } => Ok(*size),
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
        }
    }

    /// Reads all of it, at most `limit` bytes and one more.
    pub(super) fn read(&self, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(0)?.take(limit + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

struct Slice {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Read for Slice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.read_at(buffer.get_mut(..wanted).unwrap_or_default(), self.offset)?;
        self.offset += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// The blobs of a local image.
#[derive(Clone, Debug)]
pub(super) enum Blobs {
    /// A layout's folder.
    Folder(PathBuf),
    /// Wherever each of them is.
    Map(Arc<BTreeMap<Digest, Place>>),
}

impl Blobs {
    fn find(&self, digest: &Digest) -> Result<Place, SourceError> {
        match self {
            Self::Folder(root) => Ok(Place::Path(root.join(digest.blob_path()))),
            Self::Map(map) => map
                .get(digest)
                .cloned()
                .ok_or_else(|| SourceError::fatal(format!("{digest} is not in the archive"))),
        }
    }

    pub(super) fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, SourceError> {
        self.find(digest)?.read(limit).map_err(|e| SourceError::fatal(format!("blob {digest}: {e}")))
    }
}

/// One image of a layout or an archive.
pub(super) struct Local {
    pub(super) top: Descriptor,
    pub(super) blobs: Blobs,
}

impl Source for Local {
    fn manifest(&self) -> Result<(Descriptor, Vec<u8>), SourceError> {
        Ok((self.top.clone(), self.blobs.read(&self.top.digest, MANIFEST_LIMIT)?))
    }

    fn child_manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, SourceError> {
        self.blobs.read(&descriptor.digest, MANIFEST_LIMIT)
    }

    fn open(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        let place = self.blobs.find(&descriptor.digest)?;
        place.open(offset).map_err(|e| SourceError::fatal(format!("blob {}: {e}", descriptor.digest)))
    }
}
