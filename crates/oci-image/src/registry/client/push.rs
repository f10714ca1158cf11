//! Pushing: blobs that are not there yet, then the manifest that names them.

use std::io::{self, Read};

use ureq::http::header::CONTENT_TYPE;
use ureq::http::{Method, StatusCode};

use super::auth::Scope;
use super::call::{Call, CallBody};
use super::manifest::announced_digest;
use super::repository::{Repository, Target};
use super::{Client, Error};
use crate::contract::{Descriptor, Digest, MediaType};
use crate::reference::Reference;

/// Opens what is pushed at an offset; called again when an upload has to go on or start over.
pub type OpenAt<'a> = dyn Fn(u64) -> io::Result<Box<dyn Read + Send>> + 'a;

/// How a blob got there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The repository had it.
    Existed,
    /// Another repository of the registry had it.
    Mounted,
    /// It was sent.
    Uploaded,
}

impl Client {
    /// Pushes a blob to the repository of `to`, if it is not there. `mount_from` names a repository of the same
    /// registry that may have it.
    pub fn push_blob(
        &self,
        to: &Reference,
        blob: &Descriptor,
        mount_from: Option<&str>,
        open: &OpenAt<'_>,
    ) -> Result<Pushed, Error> {
        let repository = Repository::of(self, to)?;
        let act = format!("push blob {}@{}", to.name(), blob.digest);
        let target = repository.to_push(&act)?;
        let scope = Scope::push(target.repository);
        let call =
            Call::new(self, Method::HEAD, format!("{}/blobs/{}", repository.path(), blob.digest), &act);
        let reply = self.call(&target, &scope, &call, &[StatusCode::OK, StatusCode::NOT_FOUND])?;
        if reply.response.status() == StatusCode::OK {
            return Ok(Pushed::Existed);
        }
        let mounted = match mount_from.filter(|from| *from != target.repository) {
            Some(from) => self.mount(&target, &repository, &blob.digest, from, &act),
            None => None,
        };
        let location = match mounted {
            Some(Mount::Done) => return Ok(Pushed::Mounted),
            Some(Mount::Upload(location)) => Some(location),
            None => None,
        };
        self.upload(&target, &repository, blob, location, open, &act)?;
        Ok(Pushed::Uploaded)
    }

    /// A mount is a favour: whatever speaks against it, the blob is uploaded instead.
    fn mount(
        &self,
        target: &Target<'_>,
        repository: &Repository,
        digest: &Digest,
        from: &str,
        act: &str,
    ) -> Option<Mount> {
        let scope = Scope::push(target.repository).and_pull(from);
        let call = Call::new(self, Method::POST, format!("{}/blobs/uploads/", repository.path()), act)
            .query("mount", digest.to_string())
            .query("from", from);
        let reply = self.call(target, &scope, &call, &[StatusCode::CREATED, StatusCode::ACCEPTED]).ok()?;
        match reply.response.status() {
            StatusCode::CREATED => Some(Mount::Done),
            _ => super::upload::location(&reply).ok().map(Mount::Upload),
        }
    }

    /// Pushes a manifest or an index under the tag or digest of `to`; its parts must be there. Returns its digest.
    ///
    /// A manifest with a `subject` is added to the subject's referrers where the registry does not do it itself.
    pub fn push_manifest(
        &self,
        to: &Reference,
        media_type: &MediaType,
        bytes: &[u8],
    ) -> Result<Digest, Error> {
        let repository = Repository::of(self, to)?;
        let act = format!("push manifest {to}");
        let target = repository.to_push(&act)?;
        let digest = match to.digest() {
            Some(wanted) => {
                let digest = Digest::of(wanted.algorithm(), bytes);
                if digest != *wanted {
                    let (url, expected) = (target.url(), wanted.clone());
                    return Err(Error::Digest { what: act, url, expected, actual: digest });
                }
                digest
            }
            None => Digest::sha256(bytes),
        };
        self.put_manifest(&target, &repository, &to.selector(), media_type, bytes, &digest)?;
        Ok(digest)
    }

    pub(super) fn put_manifest(
        &self,
        target: &Target<'_>,
        repository: &Repository,
        selector: &str,
        media_type: &MediaType,
        bytes: &[u8],
        digest: &Digest,
    ) -> Result<(), Error> {
        let act = format!("push manifest {} as {selector}", repository.reference.name());
        let call = Call::new(self, Method::PUT, format!("{}/manifests/{selector}", repository.path()), &act)
            .header(CONTENT_TYPE, media_type.as_str())
            .body(CallBody::Bytes(bytes));
        let expected = [StatusCode::CREATED, StatusCode::OK, StatusCode::ACCEPTED];
        let reply = self.call(target, &Scope::push(target.repository), &call, &expected)?;
        if let Some(actual) = announced_digest(&reply)?
            && actual.algorithm() == digest.algorithm()
            && actual != *digest
        {
            return Err(Error::Digest { what: act, url: reply.url, expected: digest.clone(), actual });
        }
        let knows_subjects = reply.header("oci-subject").is_some();
        match super::referrers::subject(bytes) {
            Some(subject) if !knows_subjects => {
                self.add_referrer(target, repository, &subject, media_type, bytes, digest)
            }
            _ => Ok(()),
        }
    }
}

enum Mount {
    Done,
    Upload(String),
}
