use std::{
    collections::BTreeMap,
    io::{self, Read},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    contract::{ContainerConfig, Descriptor, Digest, ImageConfig, ImageManifest, MediaType, Platform},
    layer::tar::{Header, Writer},
    pull::{Options, Source, SourceError},
};

/// How a stream ends before its time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Never.
    None,
    /// With an error, after so many bytes of each answer.
    Error(usize),
    /// As if that were all.
    Short(usize),
}

/// An image in memory.
pub(super) struct Memory {
    pub(super) top: Descriptor,
    pub(super) blobs: BTreeMap<Digest, Vec<u8>>,
    pub(super) cut: Cut,
    /// How long each piece of a blob takes.
    pub(super) delay: Duration,
    /// Bytes handed out.
    pub(super) served: AtomicU64,
    /// Each request: digest and offset.
    pub(super) opened: Mutex<Vec<(Digest, u64)>>,
}

impl Memory {
    /// An image of the layers given as media type, blob and tar.
    pub(super) fn new(layers: &[(MediaType, Vec<u8>, Vec<u8>)]) -> Self {
        let mut blobs = BTreeMap::new();
        let mut add = |media_type: MediaType, bytes: &[u8]| {
            let descriptor = Descriptor::of(media_type, bytes);
            blobs.insert(descriptor.digest.clone(), bytes.to_vec());
            descriptor
        };
        let descriptors: Vec<_> = layers.iter().map(|(m, blob, _)| add(m.clone(), blob)).collect();
        let diff_ids = layers.iter().map(|(_, _, tar)| Digest::sha256(tar)).collect();
        let config = ImageConfig::new(&Platform::host(), ContainerConfig::default(), diff_ids);
        let config = add(MediaType::OCI_CONFIG, &serde_json::to_vec(&config).unwrap());
        let manifest = ImageManifest::new(config, descriptors);
        let top = add(MediaType::OCI_MANIFEST, &serde_json::to_vec(&manifest).unwrap());
        Self {
            top,
            blobs,
            cut: Cut::None,
            delay: Duration::ZERO,
            served: AtomicU64::new(0),
            opened: Mutex::default(),
        }
    }

    /// Its manifest, to be changed and put back.
    pub(super) fn manifest(&self) -> ImageManifest {
        serde_json::from_slice(&self.blobs[&self.top.digest]).unwrap()
    }

    pub(super) fn set_manifest(&mut self, manifest: &ImageManifest) {
        let bytes = serde_json::to_vec(manifest).unwrap();
        self.top = self.add(MediaType::OCI_MANIFEST, &bytes);
    }

    pub(super) fn add(&mut self, media_type: MediaType, bytes: &[u8]) -> Descriptor {
        let descriptor = Descriptor::of(media_type, bytes);
        self.blobs.insert(descriptor.digest.clone(), bytes.to_vec());
        descriptor
    }

    fn blob(&self, digest: &Digest) -> Result<&Vec<u8>, SourceError> {
        self.blobs.get(digest).ok_or_else(|| SourceError::fatal("404 not found"))
    }
}

impl Source for Memory {
    fn manifest(&self) -> Result<(Descriptor, Vec<u8>), SourceError> {
        Ok((self.top.clone(), self.blob(&self.top.digest)?.clone()))
    }

    fn child_manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, SourceError> {
        Ok(self.blob(&descriptor.digest)?.clone())
    }

    fn open(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        self.opened.lock().unwrap().push((descriptor.digest.clone(), offset));
        let mut bytes = self.blob(&descriptor.digest)?[usize::try_from(offset).unwrap()..].to_vec();
        let mut fails = false;
        match self.cut {
            Cut::Error(n) | Cut::Short(n) if n < bytes.len() => {
                bytes.truncate(n);
                fails = matches!(self.cut, Cut::Error(_));
            }
            _ => {}
        }
        self.served.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(Box::new(Stream { bytes, at: 0, fails, delay: self.delay }))
    }
}

struct Stream {
    bytes: Vec<u8>,
    at: usize,
    fails: bool,
    delay: Duration,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        std::thread::sleep(self.delay);
        let n = buffer.len().min(self.bytes.len() - self.at).min(10_000);
        if n == 0 && self.fails {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        buffer[..n].copy_from_slice(&self.bytes[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// Bytes that do not compress.
pub(super) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A tar of files.
pub(super) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for &(path, mut data) in files {
        let length = data.len() as u64;
        writer.append(&Header::file(path, 0o644, length), &mut data).unwrap();
    }
    writer.finish().unwrap()
}

/// A gzip layer of files.
pub(super) fn gzip(files: &[(&str, &[u8])]) -> (MediaType, Vec<u8>, Vec<u8>) {
    use std::io::Write;
    let tar = tar(files);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&tar).unwrap();
    (MediaType::OCI_LAYER_GZIP, encoder.finish().unwrap(), tar)
}

/// Options that do not wait long.
pub(super) fn quick() -> Options {
    Options { backoff: Duration::from_millis(1), attempts: 3, ..Options::default() }
}
