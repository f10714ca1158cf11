//! Manifests and indexes (end-3, 7, 9).

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::{Request, Response, StatusCode};

use super::Shared;
use super::referrers;
use super::reply::{Code, Failure, Payload, reply};
use super::route::Selector;
use super::storage::Link;
use crate::contract::{Descriptor, Digest, MANIFEST_LIMIT, MediaType};

/// The parts of any manifest or index that the registry looks at.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    pub(super) media_type: Option<String>,
    pub(super) artifact_type: Option<String>,
    pub(super) config: Option<Descriptor>,
    #[serde(default)]
    pub(super) layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    pub(super) manifests: Option<Vec<Descriptor>>,
    pub(super) subject: Option<Descriptor>,
    #[serde(default)]
    pub(super) annotations: Option<serde_json::Map<String, serde_json::Value>>,
}

pub(super) fn get(
    shared: &Shared,
    head: bool,
    name: &str,
    selector: &Selector,
) -> Result<Response<Payload>, Failure> {
    let digest = resolve(shared, name, selector)?;
    let (Some(media_type), Some((file, size))) =
        (shared.storage.media_type(name, &digest)?, shared.storage.open_blob(name, Link::Manifest, &digest)?)
    else {
        return Err(unknown(shared, name, selector));
    };
    let (text, length) = (digest.to_string(), size.to_string());
    let headers = [
        ("content-type", media_type.as_str()),
        ("docker-content-digest", text.as_str()),
        ("content-length", length.as_str()),
    ];
    Ok(reply(StatusCode::OK, &headers, if head { Payload::None } else { Payload::File(file, size) }))
}

pub(super) async fn put(
    shared: &Shared,
    request: Request<Incoming>,
    name: &str,
    selector: &Selector,
) -> Result<Response<Payload>, Failure> {
    let content_type =
        request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(MediaType::new);
    let bytes = receive(request.into_body()).await?;
    let document: Document = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
    let media_type = match (content_type, &document.media_type) {
        (Some(sent), Some(own)) if sent.as_str() != own => {
            return Err(invalid(format!("Content-Type is {sent:?}, and mediaType {own:?}")));
        }
        (Some(sent), _) => sent,
        (None, Some(own)) => MediaType::new(own.clone()),
        (None, None) => return Err(invalid("neither Content-Type nor mediaType is there".to_owned())),
    };
    let digest = match selector {
        Selector::Tag(_) => Digest::sha256(&bytes),
        Selector::Digest(wanted) => Digest::of(wanted.algorithm(), &bytes),
    };
    if let Selector::Digest(wanted) = selector
        && *wanted != digest
    {
        let words = format!("the manifest's digest is {digest}, not {wanted}");
        return Err(Failure::new(StatusCode::BAD_REQUEST, Code::DigestInvalid, words));
    }
    let _held = shared.storage.lock();
    check_parts(shared, name, &document)?;
    shared.storage.put_manifest(name, &digest, media_type.as_str(), &bytes)?;
    if let Some(subject) = &document.subject {
        let descriptor = referrers::descriptor(&document, &media_type, &digest, bytes.len() as u64);
        shared.storage.add_referrer(name, &subject.digest, &digest, descriptor.to_string().as_bytes())?;
    }
    if let Selector::Tag(tag) = selector {
        shared.storage.set_tag(name, tag, &digest)?;
    }
    let (location, text) = (format!("/v2/{name}/manifests/{digest}"), digest.to_string());
    let subject = document.subject.map(|subject| subject.digest.to_string());
    let mut headers = vec![("location", location.as_str()), ("docker-content-digest", text.as_str())];
    headers.extend(subject.as_deref().map(|subject| ("oci-subject", subject)));
    Ok(reply(StatusCode::CREATED, &headers, Payload::None))
}

pub(super) fn delete(shared: &Shared, name: &str, selector: &Selector) -> Result<Response<Payload>, Failure> {
    let _held = shared.storage.lock();
    let storage = &shared.storage;
    let known = match selector {
        Selector::Tag(tag) => storage.remove_tag(name, tag)?,
        Selector::Digest(digest) if storage.has(name, Link::Manifest, digest) => {
            for tag in storage.tags(name)? {
                if storage.tag(name, &tag)?.as_ref() == Some(digest) {
                    storage.remove_tag(name, &tag)?;
                }
            }
            let document = serde_json::from_slice::<Document>(&storage.read_blob(digest)?).ok();
            if let Some(subject) = document.and_then(|document| document.subject) {
                storage.remove_referrer(name, &subject.digest, digest)?;
            }
            storage.unlink(name, Link::Manifest, digest)?
        }
        Selector::Digest(_) => false,
    };
    match known {
        true => Ok(reply(StatusCode::ACCEPTED, &[], Payload::None)),
        false => Err(unknown(shared, name, selector)),
    }
}

async fn receive(body: Incoming) -> Result<Bytes, Failure> {
    let limit = usize::try_from(MANIFEST_LIMIT).unwrap_or(usize::MAX);
    let collected =
        Limited::new(body, limit).collect().await.map_err(|error| match error
            .is::<http_body_util::LengthLimitError>()
        {
            true => {
                let words = format!("a manifest has at most {MANIFEST_LIMIT} bytes");
                Failure::new(StatusCode::PAYLOAD_TOO_LARGE, Code::SizeInvalid, words)
            }
            false => invalid(format!("the body was cut: {error}")),
        })?;
    Ok(collected.to_bytes())
}

/// Everything a manifest needs must be there before it; only a subject may come later.
fn check_parts(shared: &Shared, name: &str, document: &Document) -> Result<(), Failure> {
    let missing = |what: &str, digest: &Digest| {
        let words = format!("{what} {digest} was not pushed to {name}");
        Failure::new(StatusCode::BAD_REQUEST, Code::ManifestBlobUnknown, words)
    };
    if let Some(config) = &document.config
        && !shared.storage.has(name, Link::Blob, &config.digest)
    {
        return Err(missing("config", &config.digest));
    }
    for layer in document.layers.iter().flatten().filter(|layer| !layer.media_type.is_nondistributable()) {
        if !shared.storage.has(name, Link::Blob, &layer.digest) {
            return Err(missing("layer", &layer.digest));
        }
    }
    for child in document.manifests.iter().flatten() {
        if !shared.storage.has(name, Link::Manifest, &child.digest) {
            return Err(missing("manifest", &child.digest));
        }
    }
    Ok(())
}

fn resolve(shared: &Shared, name: &str, selector: &Selector) -> Result<Digest, Failure> {
    match selector {
        Selector::Digest(digest) => Ok(digest.clone()),
        Selector::Tag(tag) => shared.storage.tag(name, tag)?.ok_or_else(|| unknown(shared, name, selector)),
    }
}

fn unknown(shared: &Shared, name: &str, selector: &Selector) -> Failure {
    if !shared.storage.has_repository(name) {
        return Failure::new(
            StatusCode::NOT_FOUND,
            Code::NameUnknown,
            format!("there is no repository {name}"),
        );
    }
    let words = match selector {
        Selector::Tag(tag) => format!("{name} has no tag {tag}"),
        Selector::Digest(digest) => format!("{name} has no manifest {digest}"),
    };
    Failure::new(StatusCode::NOT_FOUND, Code::ManifestUnknown, words)
}

fn invalid(words: String) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, Code::ManifestInvalid, words)
}
