//! A registry as a pull's source.

use std::io::Read;

use super::repository::Repository;
use super::{Client, Error};
use crate::contract::Descriptor;
use crate::pull::{Source, SourceError};
use crate::reference::Reference;

/// One reference at its registry, as one caller sees it.
#[derive(Debug)]
pub struct RegistrySource {
    client: Client,
    repository: Repository,
}

impl Client {
    /// The source that a pull of `reference` reads from. Hosts files are read now, the network is not used yet.
    pub fn source(&self, reference: &Reference) -> Result<RegistrySource, Error> {
        Ok(RegistrySource { client: self.clone(), repository: Repository::of(self, reference)? })
    }
}

impl Source for RegistrySource {
    fn manifest(&self) -> Result<(Descriptor, Vec<u8>), SourceError> {
        Ok(self.client.manifest_in(&self.repository)?)
    }

    fn current(&self) -> Result<Option<Descriptor>, SourceError> {
        Ok(Some(self.client.resolve_in(&self.repository)?))
    }

    fn child_manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, SourceError> {
        Ok(self.client.child_in(&self.repository, descriptor)?)
    }

    fn open(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        Ok(Box::new(self.client.open_in(&self.repository, descriptor, offset)?))
    }
}

impl From<Error> for SourceError {
    fn from(error: Error) -> Self {
        let (transient, retry_after) = (error.is_transient(), error.retry_after());
        Self { source: Box::new(error), transient, retry_after }
    }
}
