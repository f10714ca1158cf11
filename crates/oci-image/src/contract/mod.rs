//! The image-spec 1.1 as types: what registries, layouts and archives say, parsed strictly and without I/O.
//!
//! Docker's schema 2 documents have the same shape under other media types, so one set of types reads both.
//! Unknown fields are ignored, as the spec asks; nothing is lost by that, because documents are stored and passed
//! on as the bytes they came in. Every parser bounds its input and names the field it refuses.

mod config;
mod descriptor;
mod digest;
mod error;
mod index;
mod json;
mod manifest;
mod media_type;
mod platform;

pub use config::{ContainerConfig, Healthcheck, History, ImageConfig, RootFs, parse_config};
pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, Hasher};
pub(crate) use error::shortened;
pub use error::{Error, Result};
pub use index::{ImageIndex, parse_index};
pub use manifest::{Document, ImageManifest, parse_document, parse_manifest};
pub use media_type::{Compression, MediaType};
pub use platform::Platform;

/// The most bytes a manifest or an index may have: the limit registries themselves keep (distribution-spec, "Pushing
/// Manifests": 4 MiB).
pub const MANIFEST_LIMIT: u64 = 4 << 20;
/// The most bytes an image's configuration may have.
pub const CONFIG_LIMIT: u64 = 8 << 20;
/// The most layers an image may have: what one overlay mount takes.
pub const LAYER_LIMIT: usize = 500;

/// Annotations: the spec's free-form string to string map.
pub type Annotations = std::collections::BTreeMap<String, String>;

/// Annotation keys this crate reads and writes (image-spec, "Annotations").
pub mod annotation {
    /// In an index: the reference that names the image.
    pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
    /// What containerd's exports call the full reference.
    pub const CONTAINERD_NAME: &str = "io.containerd.image.name";
    /// BuildKit's mark on an entry that describes another one and is no image.
    pub const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
}
