//! Addresses from another plugin, which the configuration's `ipam` names.

use kernel::netlink::IpNet;
use ledger::Record;

use crate::contract::{AddResult, Code, Error, Request, Version};

/// The IPAM plugin of a request's configuration, if it has one.
#[derive(Debug, Default)]
pub(super) struct Ipam {
    kind: Option<String>,
    /// What there is without one.
    given: AddResult,
}

impl Ipam {
    pub(super) fn of(request: &Request<'_>) -> Result<Self, Error> {
        Ok(Self { kind: request.conf.ipam_type()?.map(str::to_owned), given: AddResult::default() })
    }

    /// Addresses that a plugin before this one got, if the configuration names no IPAM plugin.
    pub(super) fn or_previous(request: &Request<'_>) -> Result<Self, Error> {
        let mut ipam = Self::of(request)?;
        if let (None, Some(previous)) = (&ipam.kind, request.previous) {
            ipam.given = AddResult { interfaces: Vec::new(), ..previous.clone() };
        }
        Ok(ipam)
    }

    /// Without addresses there would be nothing to do.
    pub(super) fn required(self, request: &Request<'_>) -> Result<Self, Error> {
        if self.kind.is_none() && self.given.ips.is_empty() {
            return Err(request
                .keys()
                .refuse("ipam", "an IPAM plugin's configuration, which is needed here"));
        }
        Ok(self)
    }

    /// Whether the addresses come and go by way of the link, so that it has to be there before and after: a DHCP server is
    /// asked for them.
    pub(super) fn needs_link(&self) -> bool {
        self.kind.as_deref() == Some("dhcp")
    }

    /// The configuration names one.
    pub(super) fn is_asked(&self) -> bool {
        self.kind.is_some()
    }

    /// Addresses and routes; nothing if none are asked for.
    pub(super) fn add(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<AddResult, Error> {
        let Some(kind) = &self.kind else { return Ok(self.given.clone()) };
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

    /// DEL of a link and of its addresses. The link is first: nobody else may get an address while this container still
    /// answers to it. But a DHCP server is told through the link.
    pub(super) fn del_with(
        &self,
        request: &Request<'_>,
        record: &mut dyn Record,
        link: impl FnOnce(&mut dyn Record) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.needs_link() {
            let lease = self.del(request, record);
            return link(record).and(lease);
        }
        let link = link(record);
        let lease = self.del(request, record);
        link.and(lease)
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

/// An IPAM plugin's configuration is in `ipam`.
pub(super) fn no_ipam() -> Error {
    Error::new(Code::InvalidConfig, "IPAM config missing 'ipam' key")
}

/// Results before 0.3.0 have room for one address of each family.
pub(super) fn one_per_family(
    request: &Request<'_>,
    nets: impl Iterator<Item = IpNet> + Clone,
) -> Result<(), Error> {
    let (v4, all) = (nets.clone().filter(|net| net.is_ipv4()).count(), nets.count());
    if request.version >= Version::V0_3_0 || (v4 <= 1 && all - v4 <= 1) {
        return Ok(());
    }
    let version = request.version;
    let error = format!("CNI version {version} does not support more than 1 address per family");
    Err(Error::new(Code::InvalidConfig, error))
}
