//! An endpoint: the one link that a plugin makes in the container, with its addresses. Nothing of it is on the host, so
//! nothing is recorded: it goes with the namespace, or with DEL.

use kernel::netlink::{Link, SetLink};
use ledger::Record;

use super::inside::{Inside, Manner};
use super::interface::{all, broken, describe, name_service, previous, readable, sandbox, vanished};
use super::ipam::Ipam;
use crate::contract::{AddResult, Error, Interface, Plugin, Request, hash};

/// A plugin whose whole work is one endpoint.
pub(super) trait Endpoint: Send + Sync {
    /// The kernel's word for links of its kind.
    const KIND: &'static str;
    /// How its links get their addresses.
    const MANNER: Manner;

    /// Whether the configuration can be used, as far as that shows without the container.
    fn judge(&self, request: &Request<'_>) -> Result<(), Error>;

    /// Where its addresses come from.
    fn ipam(&self, request: &Request<'_>) -> Result<Ipam, Error> {
        Ipam::of(request)
    }

    /// STATUS: what ADD needs of the host is there.
    fn is_ready(&self, _request: &Request<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Makes the link, and leaves nothing if it cannot.
    fn make(&self, request: &Request<'_>, inside: &mut Inside) -> Result<Link, Error>;

    /// CHECK: a link of this kind, with the right MAC, is as the configuration says.
    fn check(&self, request: &Request<'_>, inside: &mut Inside, link: &Link) -> Result<(), Error>;
}

impl<E: Endpoint> Plugin for E {
    /// The link is first: a DHCP client speaks through it.
    fn add(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<AddResult, Error> {
        self.judge(request)?;
        let ipam = self.ipam(request)?;
        let mut inside = Inside::open(request.attachment.netns()?)?;
        let link = self.make(request, &mut inside)?;
        let added = configure(request, record, &ipam, E::MANNER, &mut inside, &link);
        if added.is_err() {
            // The error at hand says more than one of this would; DEL tries again.
            let _ = inside.delete(&link.name);
        }
        added
    }

    fn del(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<(), Error> {
        let (ipam, read) = readable(Ipam::of(request));
        let freed = ipam.del_with(request, record, |_| {
            let Some(mut inside) = Inside::if_there(request)? else { return Ok(()) };
            // Under the first name it is found if ADD was killed.
            for name in [&temporary_name(request), &request.attachment.ifname] {
                let ours = |link: &Link| link.kind == E::KIND && is_own(link, request);
                if inside.link(name)?.as_ref().is_some_and(ours) {
                    inside.delete(name)?;
                }
            }
            Ok(())
        });
        all([freed, read])
    }

    fn check(&self, request: &Request<'_>) -> Result<(), Error> {
        self.judge(request)?;
        self.ipam(request)?.check(request)?;
        let (mut inside, link) = checked_link(request)?;
        if link.kind != E::KIND {
            return Err(broken(format!(
                "link {} is a {} link, not a {} link",
                link.name,
                link.kind,
                E::KIND
            )));
        }
        Endpoint::check(self, request, &mut inside, &link)?;
        inside.check(&link, request)
    }

    fn status(&self, request: &Request<'_>) -> Result<(), Error> {
        self.judge(request)?;
        self.is_ready(request)?;
        Ipam::of(request)?.status(request)
    }

    fn gc(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<(), Error> {
        Ipam::of(request)?.gc(request, record)
    }
}

/// The addresses and the result of a link that is in the container.
pub(super) fn configure(
    request: &Request<'_>,
    record: &mut dyn Record,
    ipam: &Ipam,
    manner: Manner,
    inside: &mut Inside,
    link: &Link,
) -> Result<AddResult, Error> {
    let mut result = ipam.add(request, record)?;
    inside.configure(link, &result, manner)?;
    result.interfaces = vec![describe(link, &sandbox(request)?)];
    for ip in &mut result.ips {
        ip.interface = Some(0);
    }
    result.dns = name_service(request, result.dns)?;
    Ok(result)
}

/// It is not another attachment's. One that another implementation made has no alias.
fn is_own(link: &Link, request: &Request<'_>) -> bool {
    link.alias.as_ref().is_none_or(|alias| *alias == request.alias())
}

/// The attachment's link, up and with the MAC that ADD said.
pub(super) fn checked_link(request: &Request<'_>) -> Result<(Inside, Link), Error> {
    let made = made(request)?;
    let mut inside = Inside::open(request.attachment.netns()?)?;
    let link = inside.link(&made.name)?.ok_or_else(|| broken(format!("link {} is not there", made.name)))?;
    if !link.is_up() {
        return Err(broken(format!("link {} is down", link.name)));
    }
    let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    if !made.mac.is_empty() && !made.mac.eq_ignore_ascii_case(&mac) {
        return Err(broken(format!("link {} has the MAC {mac}, not {}", link.name, made.mac)));
    }
    Ok((inside, link))
}

/// What ADD said of the attachment's interface.
pub(super) fn made<'a>(request: &Request<'a>) -> Result<&'a Interface, Error> {
    let ifname = &request.attachment.ifname;
    let sandbox = sandbox(request)?;
    let previous = previous(request)?;
    let named = previous
        .interfaces
        .iter()
        .find(|interface| interface.name == *ifname && !interface.sandbox.is_empty());
    let made =
        named.ok_or_else(|| broken(format!("\"prevResult\" has no interface {ifname} in a container")))?;
    if made.sandbox == sandbox {
        Ok(made)
    } else {
        Err(broken(format!("{ifname} was made in {}, not in {sandbox}", made.sandbox)))
    }
}

/// The name that a link has until it has the one it is for: the kernel refuses to make a link whose name the host has too.
/// It is this attachment's alone.
pub(super) fn temporary_name(request: &Request<'_>) -> String {
    let hash = hash(&["temporary", &request.holder()]);
    format!("cni{}", hash.get(..12).unwrap_or_default())
}

/// Gives a new link its name, and the words by which DEL knows it; if that cannot be the link is deleted.
pub(super) fn name(request: &Request<'_>, inside: &mut Inside, temporary: &str) -> Result<Link, Error> {
    let ifname = &request.attachment.ifname;
    let named = rename(request, inside, temporary);
    if named.is_err() {
        let _ = inside.delete(temporary);
    }
    named?;
    inside.link(ifname)?.ok_or_else(|| vanished(ifname))
}

fn rename(request: &Request<'_>, inside: &mut Inside, temporary: &str) -> Result<(), Error> {
    let ifname = &request.attachment.ifname;
    let link = inside.link(temporary)?.ok_or_else(|| vanished(temporary))?;
    let alias = request.alias();
    let mut batch = kernel::netlink::Batch::new();
    batch.set_link(&SetLink::index(link.index).rename(ifname).alias(&alias));
    let message = format!("cannot call the new {} link {ifname} in the container", link.kind);
    inside.run(&batch).map_err(|e| Error::because(message, e).hint("DEL comes before a second ADD"))
}
