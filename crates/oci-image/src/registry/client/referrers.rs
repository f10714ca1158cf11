//! Referrers (end-12), and the tag that stands in for them where a registry does not know the API.

use serde::Deserialize;
use ureq::http::{Method, StatusCode};

use super::auth::Scope;
use super::call::Call;
use super::repository::{Capability, Repository, Target};
use super::tags::{PAGES_MAX, next_page, page};
use super::{Client, Error};
use crate::contract::{Annotations, Descriptor, Digest, ImageIndex, MediaType, parse_index};
use crate::reference::Reference;

/// What a manifest with a subject says about itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Referring {
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default)]
    annotations: Option<Annotations>,
}

/// The subject of a manifest, if it has one.
pub(super) fn subject(manifest: &[u8]) -> Option<Digest> {
    serde_json::from_slice::<Referring>(manifest).ok()?.subject.map(|subject| subject.digest)
}

/// The tag of the fallback schema: `sha256-<hex>`.
fn fallback_tag(subject: &Digest) -> String {
    format!("{}-{}", subject.algorithm().name(), subject.hex().get(..64).unwrap_or(subject.hex()))
}

impl Client {
    /// Descriptors of the manifests that refer to `subject` in the repository of `reference`, of one artifact type if
    /// given.
    pub fn referrers(
        &self,
        reference: &Reference,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, Error> {
        let repository = Repository::of(self, reference)?;
        let act = format!("list referrers of {}@{subject}", reference.name());
        let mut found = repository.at_each(Capability::Resolve, &act, |target| {
            match self.referrers_by_api(target, &repository, subject, artifact_type, &act)? {
                Some(found) => Ok(found),
                None => Ok(self.referrers_by_tag(target, &repository, subject)?.manifests),
            }
        })?;
        // Filtering is the registry's to offer, not its duty.
        found.retain(|one| artifact_type.is_none_or(|wanted| one.artifact_type.as_deref() == Some(wanted)));
        Ok(found)
    }

    /// `None` when the registry does not know the API.
    fn referrers_by_api(
        &self,
        target: &Target<'_>,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        act: &str,
    ) -> Result<Option<Vec<Descriptor>>, Error> {
        let mut found = Vec::new();
        let mut call =
            Call::new(self, Method::GET, format!("{}/referrers/{subject}", repository.path()), act);
        if let Some(artifact_type) = artifact_type {
            call = call.query("artifactType", artifact_type);
        }
        for _ in 0..PAGES_MAX {
            let expected = [StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
            let mut reply = self.call(target, &Scope::pull(target.repository), &call, &expected)?;
            let is_index = reply.header("content-type").is_some_and(|text| MediaType::new(text).is_index());
            if reply.response.status() != StatusCode::OK || !is_index {
                return Ok(None);
            }
            let bytes = page(&mut reply, act)?;
            found.extend(parse_index(&bytes).map_err(|error| reply.malformed(error.to_string()))?.manifests);
            match next_page(&reply, target)? {
                Some(next) => call = Call::new(self, Method::GET, next, act),
                None => return Ok(Some(found)),
            }
        }
        Err(Error::Answer { url: target.url(), fault: format!("its list has more than {PAGES_MAX} pages") })
    }

    /// The index under the fallback tag; an empty one when there is no such tag.
    fn referrers_by_tag(
        &self,
        target: &Target<'_>,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<ImageIndex, Error> {
        let malformed = |fault: String| Error::Answer { url: target.url(), fault };
        match self.manifest_at(target, repository, &fallback_tag(subject), None) {
            Ok((_, bytes)) => parse_index(&bytes).map_err(|error| malformed(error.to_string())),
            Err(error) if error.status() == Some(404) => Ok(ImageIndex::new(Vec::new())),
            Err(error) => Err(error),
        }
    }

    /// Adds a manifest to its subject's fallback tag, as a client must where the registry does not.
    pub(super) fn add_referrer(
        &self,
        target: &Target<'_>,
        repository: &Repository,
        subject: &Digest,
        media_type: &MediaType,
        manifest: &[u8],
        digest: &Digest,
    ) -> Result<(), Error> {
        let mut index = self.referrers_by_tag(target, repository, subject)?;
        if index.manifests.iter().any(|known| known.digest == *digest) {
            return Ok(());
        }
        let malformed =
            |error: serde_json::Error| Error::Answer { url: target.url(), fault: error.to_string() };
        let referring: Referring = serde_json::from_slice(manifest).map_err(malformed)?;
        let mut descriptor = Descriptor::new(media_type.clone(), digest.clone(), manifest.len() as u64);
        let own = referring.artifact_type.filter(|own| !own.is_empty());
        descriptor.artifact_type =
            own.or_else(|| referring.config.map(|config| config.media_type.as_str().to_owned()));
        descriptor.annotations = referring.annotations.unwrap_or_default();
        index.manifests.push(descriptor);
        let bytes = serde_json::to_vec(&index).map_err(malformed)?;
        let tag = fallback_tag(subject);
        self.put_manifest(target, repository, &tag, &MediaType::OCI_INDEX, &bytes, &Digest::sha256(&bytes))
    }
}
