//! From the host into the container, and back.
//!
//! A link that is moved must not find its name taken where it arrives, and it is renamed only there. So it travels under a
//! name that is its attachment's alone. Each step is one message, after which the device is somewhere with its alias:
//!
//! 1. on the host, its own name, alias;
//! 2. in the container, the travelling name;
//! 3. in the container, the container's name;
//! 4. in the container, the travelling name;
//! 5. on the host, its own name, no alias. (If somebody took that name since: back to 3.)

use std::fs::File;
use std::os::fd::AsFd;

use kernel::netlink::{self, Batch, Link, SetLink, Socket};

use crate::contract::{Code, Error, Request};
use crate::plugin::endpoint::temporary_name;
use crate::plugin::inside::Inside;
use crate::plugin::interface::vanished;

/// The link under the container's name. If that cannot be the device is as it was.
pub(super) fn give(
    request: &Request<'_>,
    host: &mut Socket,
    inside: &mut Inside,
    link: &Link,
) -> Result<Link, Error> {
    let ifname = &request.attachment.ifname;
    if inside.link(ifname)?.is_some() {
        let error =
            format!("cannot give {} to the container as {ifname}: there is a link of that name", link.name);
        return Err(Error::new(Code::InvalidConfig, error).hint("DEL comes before a second ADD"));
    }
    // The kernel numbers it: one left there by a second device of the same attachment is not in the way.
    let travelling = format!("{}%d", travelling(request));
    let mut batch = Batch::new();
    batch.set_link(&SetLink::index(link.index).alias(&link.name));
    host.run(&batch)?;
    let mut batch = Batch::new();
    batch.set_link(&SetLink::index(link.index).netns(inside.fd()).rename(&travelling));
    let moved = host.run(&batch).map_err(Error::from).and_then(|()| arrive(request, inside));
    if moved.is_err() {
        // A link that was refused is still here, one that could not be named is there.
        let _ = take_back(request, host, inside, link.is_up());
        let mut batch = Batch::new();
        batch.set_link(&SetLink::named(&link.name).alias(link.alias.as_deref().unwrap_or_default()));
        let _ = host.run(&batch);
    }
    moved
}

fn arrive(request: &Request<'_>, inside: &mut Inside) -> Result<Link, Error> {
    let ifname = &request.attachment.ifname;
    let link = on_the_way(request, inside)?.ok_or_else(|| vanished(ifname))?;
    let mut batch = Batch::new();
    batch.set_link(&SetLink::index(link.index).rename(ifname));
    inside.run(&batch)?;
    inside.link(ifname)?.ok_or_else(|| vanished(ifname))
}

/// Brings the device back to the host, under the name that its alias says; `up` if it is to be up there. Nothing to bring
/// counts as done.
pub(super) fn take_back(
    request: &Request<'_>,
    host: &mut Socket,
    inside: &mut Inside,
    up: bool,
) -> Result<(), Error> {
    let ifname = &request.attachment.ifname;
    let there = match on_the_way(request, inside)? {
        Some(link) => Some(link),
        // What has no alias was not given by this plugin.
        None => inside.link(ifname)?.filter(|link| link.alias.is_some()),
    };
    let Some((link, name)) = there.and_then(|link| link.alias.clone().map(|name| (link, name))) else {
        return Ok(());
    };
    let taken = |e: Option<kernel::Error>| {
        let message =
            format!("cannot give {ifname} back to the host as {name}: there is a link of that name");
        let error = match e {
            Some(e) => Error::because(message, e),
            None => Error::new(Code::TryAgain, message),
        };
        error.hint("rename that one, and call DEL again")
    };
    if netlink::link_by_name(host, &name)?.is_some() {
        return Err(taken(None));
    }
    let here = File::open("/proc/thread-self/ns/net")
        .map_err(|e| Error::because("cannot open the host's network namespace", e).code(Code::Io))?;
    let travelling = format!("{}%d", travelling(request));
    let mut batch = Batch::new();
    batch.set_link(&SetLink::index(link.index).up(false));
    if link.name == *ifname {
        batch.set_link(&SetLink::index(link.index).rename(&travelling));
    }
    inside.run(&batch)?;
    let mut batch = Batch::new();
    batch.set_link(&SetLink::index(link.index).netns(here.as_fd()).rename(&name).alias(""));
    let moved = inside.socket().run(&batch);
    if let Err(e) = moved {
        return_inside(request, host, inside, link.is_up())?;
        return Err(taken(Some(e)));
    }
    let mut batch = Batch::new();
    if up {
        batch.set_link(&SetLink::named(&name).up(true));
    }
    Ok(host.run(&batch)?)
}

/// A device that cannot have its name on the host goes back into the container, until that is free.
fn return_inside(
    request: &Request<'_>,
    host: &mut Socket,
    inside: &mut Inside,
    up: bool,
) -> Result<(), Error> {
    if let Some(link) = stranded(request, host)? {
        let mut batch = Batch::new();
        batch.set_link(&SetLink::index(link.index).netns(inside.fd()));
        host.run(&batch)?;
    }
    let link = arrive(request, inside)?;
    let mut batch = Batch::new();
    batch.set_link(&SetLink::index(link.index).up(up));
    inside.run(&batch)
}

/// A device that was left on the host under its travelling name, by a process that was killed just then, gets its own.
pub(super) fn finish(request: &Request<'_>, host: &mut Socket) -> Result<(), Error> {
    let Some(link) = stranded(request, host)? else { return Ok(()) };
    let Some(name) = &link.alias else { return Ok(()) };
    let mut batch = Batch::new();
    batch.set_link(&SetLink::index(link.index).rename(name).alias(""));
    Ok(host.run(&batch)?)
}

/// Room for the kernel's number.
fn travelling(request: &Request<'_>) -> String {
    let mut name = temporary_name(request);
    name.truncate(12);
    name
}

fn on_the_way(request: &Request<'_>, inside: &mut Inside) -> Result<Option<Link>, Error> {
    stranded(request, inside.socket())
}

/// The attachment's device under its travelling name.
fn stranded(request: &Request<'_>, socket: &mut Socket) -> Result<Option<Link>, Error> {
    let begin = travelling(request);
    let own = |link: &Link| link.alias.is_some() && link.name.starts_with(&begin);
    Ok(netlink::links(socket)?.into_iter().find(own))
}
