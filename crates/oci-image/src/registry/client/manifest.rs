//! Manifests and indexes (end-3, end-2 of the distribution spec): found by tag or digest, verified.

use std::io::Read;

use ureq::http::header::ACCEPT;
use ureq::http::{Method, StatusCode};

use super::auth::Scope;
use super::call::{Call, Reply};
use super::repository::{Capability, Repository, Target};
use super::{Client, Error};
use crate::contract::{Descriptor, Digest, MANIFEST_LIMIT, MediaType};
use crate::reference::Reference;

const DIGEST_HEADER: &str = "docker-content-digest";

impl Client {
    /// What a reference points to, without its content: a HEAD request, or a GET where the registry does not say the
    /// digest.
    pub fn resolve(&self, reference: &Reference) -> Result<Descriptor, Error> {
        self.resolve_in(&Repository::of(self, reference)?)
    }

    pub(super) fn resolve_in(&self, repository: &Repository) -> Result<Descriptor, Error> {
        let reference = &repository.reference;
        let act = format!("resolve {reference}");
        repository.at_each(capability(reference), &act, |target| {
            let call = manifest_call(self, repository, Method::HEAD, &reference.selector(), &act);
            let reply = self.call(target, &Scope::pull(target.repository), &call, &[StatusCode::OK])?;
            let size = reply.header("content-length").and_then(|length| length.parse().ok());
            match (announced_digest(&reply)?, media_type(&reply, b""), size) {
                (Some(digest), Some(media_type), Some(size)) => {
                    if let Some(pinned) = reference.digest().filter(|pinned| **pinned != digest) {
                        return Err(wrong_digest(&act, &reply.url, pinned, &digest));
                    }
                    Ok(Descriptor::new(media_type, digest, size))
                }
                _ => self
                    .manifest_at(target, repository, &reference.selector(), reference.digest())
                    .map(|(d, _)| d),
            }
        })
    }

    /// What a reference points to: its descriptor (the media type as the registry announces it) and its bytes,
    /// verified against the digest in the reference or announced. At most 4 MiB are read.
    pub fn manifest(&self, reference: &Reference) -> Result<(Descriptor, Vec<u8>), Error> {
        let repository = Repository::of(self, reference)?;
        self.manifest_in(&repository)
    }

    pub(super) fn manifest_in(&self, repository: &Repository) -> Result<(Descriptor, Vec<u8>), Error> {
        let reference = &repository.reference;
        repository.at_each(capability(reference), &format!("pull {reference}"), |target| {
            self.manifest_at(target, repository, &reference.selector(), reference.digest())
        })
    }

    /// A manifest that an index names, verified against its digest and size.
    pub(super) fn child_in(&self, repository: &Repository, child: &Descriptor) -> Result<Vec<u8>, Error> {
        let selector = child.digest.to_string();
        let act = format!("pull {} {selector}", repository.reference.name());
        repository.at_each(Capability::Pull, &act, |target| {
            let (found, bytes) = self.manifest_at(target, repository, &selector, Some(&child.digest))?;
            match found.size == child.size {
                true => Ok(bytes),
                false => Err(Error::Answer {
                    url: target.url(),
                    fault: format!("{selector} has {} bytes, and its index says {}", found.size, child.size),
                }),
            }
        })
    }

    pub(super) fn manifest_at(
        &self,
        target: &Target<'_>,
        repository: &Repository,
        selector: &str,
        pinned: Option<&Digest>,
    ) -> Result<(Descriptor, Vec<u8>), Error> {
        let act = format!("pull manifest {}/{}:{selector}", target.registry, target.repository);
        let call = manifest_call(self, repository, Method::GET, selector, &act);
        let mut reply = self.call(target, &Scope::pull(target.repository), &call, &[StatusCode::OK])?;
        let bytes = document(&mut reply, &act)?;
        let announced = announced_digest(&reply)?;
        // A pinned digest names the content, whatever the registry calls it.
        let expected = pinned.cloned().or(announced).unwrap_or_else(|| Digest::sha256(&bytes));
        let actual = Digest::of(expected.algorithm(), &bytes);
        if actual != expected {
            return Err(wrong_digest(&act, &reply.url, &expected, &actual));
        }
        let Some(media_type) = media_type(&reply, &bytes) else {
            return Err(reply.malformed("neither Content-Type nor mediaType says what it is"));
        };
        Ok((Descriptor::new(media_type, expected, bytes.len() as u64), bytes))
    }
}

/// A tag must be resolved by who may; a digest can be pulled from anywhere.
fn capability(reference: &Reference) -> Capability {
    match reference.digest() {
        Some(_) => Capability::Pull,
        None => Capability::Resolve,
    }
}

fn manifest_call<'a>(
    client: &Client,
    repository: &Repository,
    method: Method,
    selector: &str,
    act: &str,
) -> Call<'a> {
    let accept = MediaType::MANIFESTS.iter().map(MediaType::as_str).collect::<Vec<_>>().join(", ");
    let path = format!("{}/manifests/{selector}", repository.path());
    Call::new(client, method, path, act).header(ACCEPT, format!("{accept}, */*;q=0.1"))
}

/// Reads a manifest, and no byte more than one may have.
pub(super) fn document(reply: &mut Reply, what: &str) -> Result<Vec<u8>, Error> {
    let too_large =
        |url: &str| Error::TooLarge { what: what.to_owned(), url: url.to_owned(), limit: MANIFEST_LIMIT };
    let length = reply.header("content-length").and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > MANIFEST_LIMIT) {
        return Err(too_large(&reply.url));
    }
    let mut bytes = Vec::new();
    let reader = reply.response.body_mut().as_reader();
    let read = reader.take(MANIFEST_LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|source| Error::Body { url: reply.url.clone(), source })?;
    match bytes.len() as u64 > MANIFEST_LIMIT {
        true => Err(too_large(&reply.url)),
        false => Ok(bytes),
    }
}

/// `Docker-Content-Digest`, if it is there.
pub(super) fn announced_digest(reply: &Reply) -> Result<Option<Digest>, Error> {
    match reply.header(DIGEST_HEADER) {
        None => Ok(None),
        Some(text) => match text.trim().parse() {
            Ok(digest) => Ok(Some(digest)),
            Err(error) => Err(reply.malformed(format!("Docker-Content-Digest: {error}"))),
        },
    }
}

/// `Content-Type`; where a static file server says nothing useful, the document's own `mediaType`.
fn media_type(reply: &Reply, bytes: &[u8]) -> Option<MediaType> {
    #[derive(serde::Deserialize)]
    struct Typed {
        #[serde(rename = "mediaType")]
        media_type: String,
    }
    let header = reply.header("content-type").map(MediaType::new).filter(|media_type| {
        let generic = ["application/json", "application/octet-stream", "text/plain", "text/html", ""];
        !generic.contains(&media_type.as_str())
    });
    header
        .or_else(|| serde_json::from_slice::<Typed>(bytes).ok().map(|typed| MediaType::new(typed.media_type)))
}

fn wrong_digest(what: &str, url: &str, expected: &Digest, actual: &Digest) -> Error {
    Error::Digest {
        what: what.to_owned(),
        url: url.to_owned(),
        expected: expected.clone(),
        actual: actual.clone(),
    }
}
