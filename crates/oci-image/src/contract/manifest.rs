use serde::{Deserialize, Serialize};

use super::{
    Annotations, Descriptor, LAYER_LIMIT, MANIFEST_LIMIT, MediaType,
    error::{Error, Result},
    index::{ImageIndex, parse_index},
    json,
};

const DOCUMENT: &str = "image manifest";

/// The manifest of one image, OCI's or Docker's schema 2 (image-spec, "Image Manifest").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type; OCI documents may leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The type of the artifact, when this is no image to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(deserialize_with = "json::null_default")]
    pub layers: Vec<Descriptor>,
    /// What this manifest is about, when it is about another document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free-form properties.
    #[serde(default, skip_serializing_if = "Annotations::is_empty", deserialize_with = "json::null_default")]
    pub annotations: Annotations,
}

impl ImageManifest {
    /// An OCI manifest of `config` and `layers`.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MediaType::OCI_MANIFEST),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: Annotations::new(),
        }
    }
}

/// Parses the manifest of one image.
pub fn parse_manifest(bytes: &[u8]) -> Result<ImageManifest> {
    let manifest: ImageManifest = json::parse(DOCUMENT, MANIFEST_LIMIT, bytes)?;
    let invalid =
        |field: &str, reason| Err(Error::Invalid { document: DOCUMENT, field: field.into(), reason });
    if manifest.schema_version != 2 {
        return invalid("schemaVersion", format!("it is {}, and only 2 is known", manifest.schema_version));
    }
    if let Some(media_type) = manifest.media_type.as_ref().filter(|m| !m.is_manifest()) {
        return invalid("mediaType", format!("{media_type:?} is not the media type of a manifest"));
    }
    if manifest.layers.len() > LAYER_LIMIT {
        return invalid(
            "layers",
            format!("{} layers, and {LAYER_LIMIT} are the most", manifest.layers.len()),
        );
    }
    Ok(manifest)
}

/// What a reference can resolve to.
#[derive(Clone, Debug)]
pub enum Document {
    /// Several images, by platform.
    Index(Box<ImageIndex>),
    /// One image.
    Manifest(Box<ImageManifest>),
}

/// Parses a document that is an index or a manifest, by the media type it came under (a `Content-Type` or a
/// descriptor's), else by its own `mediaType`, else by its fields.
///
/// A document that could be read as both is refused, as is one whose `mediaType` contradicts how it was announced
/// (CVE-2021-41190).
pub fn parse_document(bytes: &[u8], announced: Option<&MediaType>) -> Result<Document> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        schema_version: Option<serde_json::Number>,
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
        config: Option<serde::de::IgnoredAny>,
        #[serde(rename = "fsLayers")]
        fs_layers: Option<serde::de::IgnoredAny>,
    }
    let invalid =
        |field: &str, reason: String| Err(Error::Invalid { document: DOCUMENT, field: field.into(), reason });
    let shape: Shape = json::parse(DOCUMENT, MANIFEST_LIMIT, bytes)?;
    let own = shape.media_type.map(MediaType::new);
    let schema1 = shape.fs_layers.is_some()
        || shape.schema_version.is_some_and(|v| v.as_u64() == Some(1))
        || [own.as_ref(), announced].into_iter().flatten().any(MediaType::is_schema1);
    if schema1 {
        let reason = "this is Docker's schema 1, which is obsolete: build and push the image again";
        return invalid("schemaVersion", reason.into());
    }
    let announced = announced.filter(|m| m.is_index() || m.is_manifest());
    if let (Some(own), Some(announced)) = (&own, announced)
        && own != announced
    {
        return invalid("mediaType", format!("it says {own:?} and was announced as {announced:?}"));
    }
    let (index, image) = (shape.manifests.is_some(), shape.layers.is_some() || shape.config.is_some());
    if index && image {
        return invalid(
            "manifests",
            "a document with both `manifests` and `layers` or `config` is ambiguous".into(),
        );
    }
    match own.as_ref().or(announced) {
        Some(m) if m.is_index() => Ok(Document::Index(Box::new(parse_index(bytes)?))),
        Some(m) if m.is_manifest() => Ok(Document::Manifest(Box::new(parse_manifest(bytes)?))),
        Some(m) => invalid("mediaType", format!("{m:?} is neither an image index nor an image manifest")),
        None if index => Ok(Document::Index(Box::new(parse_index(bytes)?))),
        None => Ok(Document::Manifest(Box::new(parse_manifest(bytes)?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: &MediaType) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"sha256:{}","size":3}}"#, "a".repeat(64))
    }

    #[test]
    fn errors_name_the_field() {
        let config = descriptor(&MediaType::OCI_CONFIG);
        let layer = descriptor(&MediaType::OCI_LAYER_GZIP);
        for (text, word) in [
            (
                format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer},{{"digest":"x"}}]}}"#),
                "layers[1].digest",
            ),
            (
                format!(
                    r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#,
                    layer.replace(":3", ":-3")
                ),
                "layers[0].size",
            ),
            (format!(r#"{{"schemaVersion":3,"config":{config},"layers":[]}}"#), "schemaVersion"),
            (r#"{"schemaVersion":2,"layers":[]}"#.into(), "config"),
            (format!(r#"{{"schemaVersion":2,"config":{config}}}"#), "layers"),
            ("[]".into(), "manifest"),
            (String::new(), "EOF"),
            (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}x"#), "trailing"),
            (
                format!(
                    r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#,
                    vec![layer.clone(); 501].join(",")
                ),
                "501 layers",
            ),
        ] {
            let error = parse_manifest(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(word), "{error} lacks {word}");
        }
    }

    #[test]
    fn a_manifest_of_50_mb_is_refused_unread() {
        let error = parse_manifest(&vec![b' '; 50 << 20]).unwrap_err().to_string();
        assert!(error.contains("52428800 bytes"), "{error}");
    }

    #[test]
    fn ambiguous_documents_are_refused() {
        let config = descriptor(&MediaType::OCI_CONFIG);
        let both = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"manifests":[]}}"#);
        assert!(parse_document(both.as_bytes(), None).is_err());
        let index = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, MediaType::OCI_INDEX);
        assert!(matches!(parse_document(index.as_bytes(), None), Ok(Document::Index(_))));
        assert!(parse_document(index.as_bytes(), Some(&MediaType::OCI_MANIFEST)).is_err());
        let schema1 = br#"{"schemaVersion":1,"fsLayers":[]}"#;
        assert!(parse_document(schema1, None).unwrap_err().to_string().contains("schema 1"));
    }
}
