//! Deleting manifests, tags and blobs (end-9, end-10), where a registry allows it.

use ureq::http::{Method, StatusCode};

use super::auth::Scope;
use super::call::Call;
use super::repository::Repository;
use super::{Client, Error};
use crate::contract::Digest;
use crate::reference::Reference;

impl Client {
    /// Deletes what the reference names: the manifest if it has a digest, else the tag.
    pub fn delete_manifest(&self, reference: &Reference) -> Result<(), Error> {
        self.delete(reference, &format!("manifests/{}", reference.selector()))
    }

    /// Deletes a blob of the reference's repository.
    pub fn delete_blob(&self, reference: &Reference, digest: &Digest) -> Result<(), Error> {
        self.delete(reference, &format!("blobs/{digest}"))
    }

    fn delete(&self, reference: &Reference, what: &str) -> Result<(), Error> {
        let repository = Repository::of(self, reference)?;
        let act = format!("delete {}/{what}", reference.name());
        let target = repository.to_push(&act)?;
        let call = Call::new(self, Method::DELETE, format!("{}/{what}", repository.path()), &act);
        let expected = [StatusCode::ACCEPTED, StatusCode::OK, StatusCode::NO_CONTENT];
        self.call(&target, &Scope::delete(target.repository), &call, &expected)?;
        Ok(())
    }
}
