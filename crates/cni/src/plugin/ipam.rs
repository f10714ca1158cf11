//! Addresses from another plugin, which the configuration's `ipam` names.

use ledger::Record;

use crate::contract::{AddResult, Code, Error, Request};

/// The IPAM plugin of a request's configuration, if it has one.
#[derive(Debug)]
pub(super) struct Ipam {
    kind: Option<String>,
}

impl Ipam {
    pub(super) fn of(request: &Request<'_>) -> Result<Self, Error> {
        Ok(Self { kind: request.conf.ipam_type()?.map(str::to_owned) })
    }

    /// The configuration names one.
    pub(super) fn is_asked(&self) -> bool {
        self.kind.is_some()
    }

    /// Addresses and routes; nothing if none are asked for.
    pub(super) fn add(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<AddResult, Error> {
        let Some(kind) = &self.kind else { return Ok(AddResult::default()) };
        let result = request.delegate.add(kind, request, record)?;
        if result.ips.is_empty() {
            return Err(Error::new(
                Code::InvalidConfig,
                format!("cannot attach: the IPAM plugin {kind:?} gave no address"),
            ));
        }
        Ok(result)
    }

    pub(super) fn del(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<(), Error> {
        self.kind.as_ref().map_or(Ok(()), |kind| request.delegate.del(kind, request, record))
    }

    pub(super) fn check(&self, request: &Request<'_>) -> Result<(), Error> {
        self.kind.as_ref().map_or(Ok(()), |kind| request.delegate.check(kind, request))
    }

    pub(super) fn status(&self, request: &Request<'_>) -> Result<(), Error> {
        self.kind.as_ref().map_or(Ok(()), |kind| request.delegate.status(kind, request))
    }

    pub(super) fn gc(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<(), Error> {
        self.kind.as_ref().map_or(Ok(()), |kind| request.delegate.gc(kind, request, record))
    }
}
