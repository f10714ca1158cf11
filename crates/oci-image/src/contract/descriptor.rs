use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::{Annotations, Digest, MediaType, Platform, json};

/// Names content by what it is (image-spec, "Descriptor").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default = "octet_stream", deserialize_with = "json::media_type")]
    pub media_type: MediaType,
    /// The content's digest.
    pub digest: Digest,
    /// The content's size in bytes.
    pub size: u64,
    /// Other places to get the content from.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "json::null_default")]
    pub urls: Vec<String>,
    /// Free-form properties.
    #[serde(default, skip_serializing_if = "Annotations::is_empty", deserialize_with = "json::null_default")]
    pub annotations: Annotations,
    /// The content itself in base64, for small content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The type of the artifact, when this names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// In an index: the platform the image is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// A descriptor with its three required fields.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self {
            media_type,
            digest,
            size,
            urls: Vec::new(),
            annotations: Annotations::new(),
            data: None,
            artifact_type: None,
            platform: None,
        }
    }

    /// The descriptor of `bytes`, under SHA-256.
    pub fn of(media_type: MediaType, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::sha256(bytes), bytes.len() as u64)
    }

    /// The embedded content, when there is some and it is what the digest and size say; anything else there is
    /// ignored, and the content fetched (image-spec, "Embedded content").
    pub fn embedded(&self) -> Option<Vec<u8>> {
        let data = self.data.as_deref()?;
        let bytes = STANDARD.decode(data).ok()?;
        let honest =
            bytes.len() as u64 == self.size && Digest::of(self.digest.algorithm(), &bytes) == self.digest;
        honest.then_some(bytes)
    }

    /// The annotation `key`.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }
}

fn octet_stream() -> MediaType {
    MediaType::from("application/octet-stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_content_counts_only_when_it_is_what_the_digest_says() {
        let mut d = Descriptor::of(MediaType::OCI_EMPTY, b"{}");
        d.data = Some("e30=".into());
        assert_eq!(d.embedded().as_deref(), Some(b"{}".as_slice()));
        d.data = Some("e31=".into());
        assert_eq!(d.embedded(), None);
    }
}
