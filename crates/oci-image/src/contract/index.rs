use serde::{Deserialize, Serialize};

use super::{
    Annotations, Descriptor, MANIFEST_LIMIT, MediaType, Platform, annotation,
    error::{Error, Result},
    json,
};

const DOCUMENT: &str = "image index";

/// An image index, or Docker's manifest list (image-spec, "Image Index").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type; OCI documents may leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The type of the artifact, when this is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The images.
    #[serde(default, deserialize_with = "json::null_default")]
    pub manifests: Vec<Descriptor>,
    /// What this index is about, when it is about another document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free-form properties.
    #[serde(default, skip_serializing_if = "Annotations::is_empty", deserialize_with = "json::null_default")]
    pub annotations: Annotations,
}

impl ImageIndex {
    /// An index of `manifests`.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MediaType::OCI_INDEX),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: Annotations::new(),
        }
    }

    /// The entry that suits `wanted` best: the nearest variant first, then the earliest entry. Attestations and other
    /// entries that are no image are passed over; an entry without a platform suits when nothing else does.
    pub fn choose(&self, wanted: &Platform) -> Option<&Descriptor> {
        let images = || {
            self.manifests.iter().filter(|d| {
                (d.media_type.is_manifest() || d.media_type.is_index())
                    && d.annotation(annotation::REFERENCE_TYPE).is_none()
            })
        };
        images()
            .filter_map(|d| Some((wanted.distance(d.platform.as_ref()?)?, d)))
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, d)| d)
            .or_else(|| images().find(|d| d.platform.is_none()))
    }

    /// The platforms on offer, for a message.
    pub fn platforms(&self) -> Vec<String> {
        self.manifests
            .iter()
            .filter_map(|d| d.platform.as_ref())
            .filter(|p| p.os != "unknown")
            .map(Platform::to_string)
            .collect()
    }
}

/// Parses an index or a manifest list.
pub fn parse_index(bytes: &[u8]) -> Result<ImageIndex> {
    let index: ImageIndex = json::parse(DOCUMENT, MANIFEST_LIMIT, bytes)?;
    if index.schema_version != 2 {
        let reason = format!("it is {}, and only 2 is known", index.schema_version);
        return Err(Error::Invalid { document: DOCUMENT, field: "schemaVersion".into(), reason });
    }
    if let Some(media_type) = index.media_type.as_ref().filter(|m| !m.is_index()) {
        let reason = format!("{media_type:?} is not the media type of an index");
        return Err(Error::Invalid { document: DOCUMENT, field: "mediaType".into(), reason });
    }
    Ok(index)
}
