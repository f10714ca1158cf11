use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

/// How a layer's tar is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952), perhaps of several members.
    Gzip,
    /// Zstandard (RFC 8878), perhaps of several frames.
    Zstd,
}

/// A media type, as a descriptor names it: the OCI ones, Docker's, or any other.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaType(Cow<'static, str>);

macro_rules! media_types {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl MediaType {
            $($(#[$doc])* pub const $name: Self = Self(Cow::Borrowed($value));)*
        }
    };
}

media_types! {
    /// An OCI image index.
    OCI_INDEX = "application/vnd.oci.image.index.v1+json";
    /// An OCI image manifest.
    OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image configuration.
    OCI_CONFIG = "application/vnd.oci.image.config.v1+json";
    /// The empty JSON object, `{}`.
    OCI_EMPTY = "application/vnd.oci.empty.v1+json";
    /// A plain tar layer.
    OCI_LAYER = "application/vnd.oci.image.layer.v1.tar";
    /// A gzip layer.
    OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A zstd layer.
    OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker's index: a manifest list.
    DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's manifest, schema 2.
    DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's manifest, schema 1, which nobody should make any more and which is refused by name.
    DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json";
    /// Docker's manifest, schema 1, signed.
    DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    /// Docker's image configuration.
    DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json";
    /// Docker's plain layer.
    DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker's gzip layer.
    DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker's zstd layer.
    DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd";
    /// Docker's layer that must not be pushed; readable all the same.
    DOCKER_FOREIGN_GZIP = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    /// Docker's plain layer that must not be pushed.
    DOCKER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar";
    /// A plain layer that must not be pushed (deprecated, readable).
    OCI_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    /// A gzip layer that must not be pushed (deprecated, readable).
    OCI_NONDISTRIBUTABLE_GZIP = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    /// A zstd layer that must not be pushed (deprecated, readable).
    OCI_NONDISTRIBUTABLE_ZSTD = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";
}

impl MediaType {
    /// What a client that pulls puts into `Accept`, best first.
    pub const MANIFESTS: [Self; 4] =
        [Self::OCI_INDEX, Self::OCI_MANIFEST, Self::DOCKER_LIST, Self::DOCKER_MANIFEST];

    /// A media type from its text; parameters (`; charset=utf-8`) are dropped, case is kept.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        match text.split_once(';') {
            Some((essence, _)) => Self(Cow::Owned(essence.trim().to_owned())),
            None => Self(Cow::Owned(text)),
        }
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An index or Docker's manifest list.
    pub fn is_index(&self) -> bool {
        *self == Self::OCI_INDEX || *self == Self::DOCKER_LIST
    }

    /// A manifest of one image.
    pub fn is_manifest(&self) -> bool {
        *self == Self::OCI_MANIFEST || *self == Self::DOCKER_MANIFEST
    }

    /// Docker's obsolete schema 1, in either form.
    pub fn is_schema1(&self) -> bool {
        *self == Self::DOCKER_SCHEMA1 || *self == Self::DOCKER_SCHEMA1_SIGNED
    }

    /// A configuration of a runnable image.
    pub fn is_config(&self) -> bool {
        *self == Self::OCI_CONFIG || *self == Self::DOCKER_CONFIG
    }

    /// One of Docker's own types rather than OCI's.
    pub fn is_docker(&self) -> bool {
        self.0.starts_with("application/vnd.docker.")
    }

    /// A layer that its maker did not want pushed to registries.
    pub fn is_nondistributable(&self) -> bool {
        self.0.starts_with("application/vnd.oci.image.layer.nondistributable.")
            || self.0.starts_with("application/vnd.docker.image.rootfs.foreign.")
    }

    /// For a filesystem layer its compression; `None` for everything else.
    pub fn layer(&self) -> Option<Compression> {
        let plain = [Self::OCI_LAYER, Self::DOCKER_LAYER, Self::DOCKER_FOREIGN, Self::OCI_NONDISTRIBUTABLE];
        let gzip = [
            Self::OCI_LAYER_GZIP,
            Self::DOCKER_LAYER_GZIP,
            Self::DOCKER_FOREIGN_GZIP,
            Self::OCI_NONDISTRIBUTABLE_GZIP,
        ];
        let zstd = [Self::OCI_LAYER_ZSTD, Self::DOCKER_LAYER_ZSTD, Self::OCI_NONDISTRIBUTABLE_ZSTD];
        if plain.contains(self) {
            Some(Compression::None)
        } else if gzip.contains(self) {
            Some(Compression::Gzip)
        } else if zstd.contains(self) {
            Some(Compression::Zstd)
        } else {
            None
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl From<&str> for MediaType {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_dropped() {
        assert_eq!(MediaType::new(format!("{}; charset=utf-8", MediaType::OCI_INDEX)), MediaType::OCI_INDEX);
    }

    #[test]
    fn layers_tell_their_compression() {
        assert_eq!(MediaType::DOCKER_LAYER_GZIP.layer(), Some(Compression::Gzip));
        assert_eq!(MediaType::OCI_NONDISTRIBUTABLE_ZSTD.layer(), Some(Compression::Zstd));
        assert_eq!(MediaType::OCI_LAYER.layer(), Some(Compression::None));
        assert_eq!(MediaType::from("application/vnd.wasm.content.layer.v1+wasm").layer(), None);
    }
}
