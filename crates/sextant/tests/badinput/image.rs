//! Images made byte by byte, to be made wrong.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use oci_image::contract::{
    ContainerConfig, Descriptor, Digest, ImageConfig, ImageIndex, ImageManifest, MediaType, Platform,
};
use oci_image::layer::tar::{Header, Kind, Writer};

/// What a registry has for one name.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) media_type: MediaType,
    pub(crate) manifest: Vec<u8>,
    /// Under the digest that is asked for, whether it is theirs or not.
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
}

/// A layer as it is sent, and the tar that it is said to be.
pub(crate) struct Layer {
    pub(crate) blob: Vec<u8>,
    pub(crate) tar: Vec<u8>,
}

impl Image {
    /// One of these layers, with no command.
    pub(crate) fn new(layers: &[Layer]) -> Self {
        let diff_ids = layers.iter().map(|layer| Digest::sha256(&layer.tar)).collect();
        let config = ImageConfig::new(&Platform::host(), ContainerConfig::default(), diff_ids);
        Self::with_config(layers, serde_json::to_vec(&config).unwrap())
    }

    pub(crate) fn with_config(layers: &[Layer], config: Vec<u8>) -> Self {
        let mut blobs = BTreeMap::new();
        let mut add = |media_type, bytes: Vec<u8>| {
            let descriptor = Descriptor::of(media_type, &bytes);
            blobs.insert(descriptor.digest.clone(), bytes);
            descriptor
        };
        let layers = layers.iter().map(|l| add(MediaType::OCI_LAYER_GZIP, l.blob.clone())).collect();
        let config = add(MediaType::OCI_CONFIG, config);
        let manifest = serde_json::to_vec(&ImageManifest::new(config, layers)).unwrap();
        Self { media_type: MediaType::OCI_MANIFEST, manifest, blobs }
    }

    /// A document of this type, whatever is in it.
    pub(crate) fn document(media_type: MediaType, manifest: impl Into<Vec<u8>>) -> Self {
        Self { media_type, manifest: manifest.into(), blobs: BTreeMap::new() }
    }

    /// An index of manifests that are said to be for these platforms.
    pub(crate) fn index(platforms: &[&str]) -> Self {
        let entry = |platform: &&str| Descriptor {
            platform: Some(platform.parse().unwrap()),
            ..Descriptor::of(MediaType::OCI_MANIFEST, platform.as_bytes())
        };
        let index = ImageIndex::new(platforms.iter().map(entry).collect());
        Self::document(MediaType::OCI_INDEX, serde_json::to_vec(&index).unwrap())
    }

    /// The same with another manifest.
    pub(crate) fn change(mut self, change: impl FnOnce(&mut serde_json::Value)) -> Self {
        let mut manifest = serde_json::from_slice(&self.manifest).unwrap();
        change(&mut manifest);
        self.manifest = serde_json::to_vec(&manifest).unwrap();
        self
    }

    /// The digest of its first layer.
    pub(crate) fn layer(&self) -> Digest {
        serde_json::from_slice::<ImageManifest>(&self.manifest).unwrap().layers[0].digest.clone()
    }

    /// Changes what is sent for the first layer.
    pub(crate) fn change_layer(mut self, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let layer = self.layer();
        change(self.blobs.get_mut(&layer).unwrap());
        self
    }
}

/// A layer of files with these contents.
pub(crate) fn files(files: &[(&str, &[u8])]) -> Layer {
    let entries: Vec<_> =
        files.iter().map(|(path, data)| (Header::file(path, 0o644, data.len() as u64), *data)).collect();
    entries_of(&entries)
}

/// A layer of any entries.
pub(crate) fn entries_of(entries: &[(Header, &[u8])]) -> Layer {
    let mut writer = Writer::new(Vec::new());
    for (header, data) in entries {
        writer.append(header, &mut &**data).unwrap();
    }
    let tar = writer.finish().unwrap();
    Layer { blob: gzip(&tar, Compression::fast()), tar }
}

pub(crate) fn hard_link(path: &str, target: &str) -> Header {
    Header { kind: Kind::HardLink, link: target.into(), ..Header::file(path, 0o644, 0) }
}

pub(crate) fn gzip(bytes: &[u8], level: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that do not compress.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut random = testkit::Random::new(seed);
    std::iter::repeat_with(|| random.number() as u8).take(length).collect()
}
