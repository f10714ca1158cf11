//! Referrers (end-12): what was pushed about a manifest.

use hyper::{Response, StatusCode, Uri};
use serde_json::{Value, json};

use super::Shared;
use super::manifests::Document;
use super::reply::{Failure, Payload, reply};
use super::route;
use crate::contract::{Digest, MediaType};

pub(super) fn list(
    shared: &Shared,
    uri: &Uri,
    name: &str,
    subject: &Digest,
) -> Result<Response<Payload>, Failure> {
    let stored = shared.storage.referrers(name, subject)?;
    let mut manifests: Vec<Value> =
        stored.iter().filter_map(|bytes| serde_json::from_slice(bytes).ok()).collect();
    let mut headers = vec![("content-type", MediaType::OCI_INDEX.as_str().to_owned())];
    if let Some(wanted) = route::parameter(uri, "artifactType") {
        manifests
            .retain(|descriptor| descriptor.get("artifactType").and_then(Value::as_str) == Some(&wanted));
        headers.push(("oci-filters-applied", "artifactType".to_owned()));
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_INDEX.as_str(),
        "manifests": manifests,
    });
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Ok(reply(StatusCode::OK, &headers, Payload::full(index.to_string())))
}

/// How a manifest with a subject appears in its subject's list.
pub(super) fn descriptor(document: &Document, media_type: &MediaType, digest: &Digest, size: u64) -> Value {
    let mut descriptor =
        json!({ "mediaType": media_type.as_str(), "digest": digest.to_string(), "size": size });
    let own = document.artifact_type.clone().filter(|own| !own.is_empty());
    let artifact =
        own.or_else(|| document.config.as_ref().map(|config| config.media_type.as_str().to_owned()));
    if let (Some(fields), Some(artifact)) = (descriptor.as_object_mut(), artifact) {
        fields.insert("artifactType".to_owned(), artifact.into());
    }
    if let (Some(fields), Some(annotations)) = (descriptor.as_object_mut(), &document.annotations) {
        fields.insert("annotations".to_owned(), annotations.clone().into());
    }
    descriptor
}
