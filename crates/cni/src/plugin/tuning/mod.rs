//! `tuning`: sysctls of the container's network, and attributes of its interface, which DEL restores.

mod backup;
mod conf;
mod sysctl;

use kernel::netlink::Link;
use ledger::Record;

use super::inside::Inside;
use super::interface::broken;
use crate::contract::{AddResult, Code, Error, Plugin, Request};
use conf::{Conf, Settings, data_dir};

/// The plugin `tuning`.
#[derive(Debug)]
pub(super) struct Tuning;

impl Plugin for Tuning {
    fn add(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<AddResult, Error> {
        let conf = Conf::of(request)?;
        sysctl::refuse_unless_allowed(&conf.sysctls)?;
        let mut result = previous(request)?.clone();
        let netns = Inside::file(request.attachment.netns()?)?;
        // No record: they go with the namespace.
        sysctl::write(&netns, &conf.sysctls)?;
        if conf.link.is_empty() {
            return Ok(result);
        }
        let mut inside = Inside::open(request.attachment.netns()?)?;
        let link = find(&mut inside, request)?;
        let before = conf.link.as_they_are(&link);
        backup::keep(&data_dir(&request.keys())?, request, before.clone(), record)?;
        let changed = change(&mut inside, &link, &conf.link);
        changed.inspect_err(|_| drop(change(&mut inside, &link, &before)))?;
        tell(&mut result, request, &conf.link);
        Ok(result)
    }

    /// What cannot be restored is no error: the interface is about to go, and with an error nothing after it would.
    fn del(&self, request: &Request<'_>, _record: &mut dyn Record) -> Result<(), Error> {
        let path = backup::path(&data_dir(&request.keys())?, request);
        let Some(before) = backup::read(&path)? else { return backup::forget(&path) };
        let inside = match request.attachment.netns.as_ref().map(|netns| Inside::open(netns)) {
            None => None,
            Some(Err(e)) if e.code == Code::UnknownContainer => None,
            Some(inside) => Some(inside?),
        };
        let Some(mut inside) = inside else { return backup::forget(&path) };
        let Some(link) = inside.link(&request.attachment.ifname)? else { return backup::forget(&path) };
        match change(&mut inside, &link, &before) {
            Ok(()) => backup::forget(&path),
            Err(_) => Ok(()),
        }
    }

    fn check(&self, request: &Request<'_>) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        previous(request)?;
        let netns = Inside::file(request.attachment.netns()?)?;
        sysctl::check(&netns, &conf.sysctls)?;
        if conf.link.is_empty() {
            return Ok(());
        }
        let link = find(&mut Inside::open(request.attachment.netns()?)?, request)?;
        match conf.link.differs(&conf.link.as_they_are(&link)) {
            Some((key, wanted, there)) => {
                Err(broken(format!("{key} of link {} is {there}, not {wanted}", link.name)))
            }
            None => Ok(()),
        }
    }

    fn status(&self, request: &Request<'_>) -> Result<(), Error> {
        data_dir(&request.keys())?;
        sysctl::refuse_unless_allowed(&Conf::of(request)?.sysctls)
    }

    fn gc(&self, request: &Request<'_>, _record: &mut dyn Record) -> Result<(), Error> {
        backup::forget_stale(&data_dir(&request.keys())?, &request.valid_holders()?)
    }
}

fn previous<'a>(request: &Request<'a>) -> Result<&'a AddResult, Error> {
    request.previous.ok_or_else(|| {
        let text = "cannot tune: tuning must come after a plugin that attaches (prevResult is missing)";
        Error::new(Code::InvalidConfig, text)
    })
}

fn find(inside: &mut Inside, request: &Request<'_>) -> Result<Link, Error> {
    let ifname = &request.attachment.ifname;
    inside.link(ifname)?.ok_or_else(|| broken(format!("link {ifname} is not there")))
}

/// Changes what is set. One attribute that is refused does not hinder the others; the first refusal is returned.
fn change(inside: &mut Inside, link: &Link, settings: &Settings) -> Result<(), Error> {
    let mut outcome = Ok(());
    for (key, change) in settings.changes(link.index) {
        let refused = |e| Error::because(format!("cannot use {key:?} of tuning for {}", link.name), e);
        outcome = outcome.and(inside.change(&change).map_err(refused));
    }
    outcome
}

/// The result says of the interface what is true now.
fn tell(result: &mut AddResult, request: &Request<'_>, settings: &Settings) {
    for link in result.interfaces.iter_mut().filter(|link| link.name == request.attachment.ifname) {
        if let Some(mac) = settings.mac {
            link.mac = mac.to_string();
        }
        if link.mtu.is_some() && settings.mtu.is_some() {
            link.mtu = settings.mtu;
        }
    }
}
