use std::fmt::Write;

use kernel::netlink::{self, Batch, Kind, Link, NewLink, SetLink, Socket};
use ledger::{Effect, Record};
use sha2::{Digest, Sha512};

use crate::contract::{Error, Request};
use crate::plugin::interface::vanished;

/// The names that a container's IFB may have. The first is the reference plugin's, so that what it has attached can be
/// detached here; a second interface of the container on the same network takes the second, where the reference fails.
fn names(request: &Request<'_>) -> [String; 2] {
    let whole = format!("{}{}", request.network, request.attachment.container_id);
    [hashed(&whole), hashed(&format!("{whole}/{}", request.attachment.ifname))]
}

/// `bwp` and as much of the SHA-512 as a link's name takes.
fn hashed(text: &str) -> String {
    Sha512::digest(text.as_bytes()).iter().take(6).fold("bwp".to_owned(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}

/// The container's IFB. One without an alias is of the reference plugin's making.
pub(super) fn find(request: &Request<'_>, socket: &mut Socket) -> Result<Option<Link>, Error> {
    for name in names(request) {
        let link = netlink::link_by_name(socket, &name)?.filter(|link| is_ours(link, request));
        if link.is_some() {
            return Ok(link);
        }
    }
    Ok(None)
}

fn is_ours(link: &Link, request: &Request<'_>) -> bool {
    link.kind == "ifb" && link.alias.as_ref().is_none_or(|alias| *alias == request.alias())
}

/// Makes the container's IFB, with the MTU of the host's end.
pub(super) fn make(
    request: &Request<'_>,
    mtu: u32,
    socket: &mut Socket,
    record: &mut dyn Record,
) -> Result<Link, Error> {
    let [first, second] = names(request);
    let of_another = netlink::link_by_name(socket, &first)?.is_some_and(|link| !is_ours(&link, request));
    let name = if of_another { second } else { first };
    record.record(Effect::Link { name: name.clone() })?;
    let alias = request.alias();
    let mut batch = Batch::new();
    // Its discipline alone decides how much waits.
    batch.add_link(&NewLink {
        mtu: Some(mtu),
        tx_queue_len: Some(0),
        up: true,
        ..NewLink::new(&name, Kind::Ifb)
    });
    batch.set_link(&SetLink::named(&name).alias(&alias));
    socket.run(&batch).map_err(|e| {
        let there = e.errno() == Some(rustix::io::Errno::EXIST);
        let error = Error::from(e);
        if there { error.hint(format!("{name} is there: DEL comes before a second ADD")) } else { error }
    })?;
    netlink::link_by_name(socket, &name)?.ok_or_else(|| vanished(&name))
}

/// Deletes the container's IFB, under whichever name.
pub(super) fn delete(request: &Request<'_>, socket: &mut Socket) -> Result<(), Error> {
    while let Some(link) = find(request, socket)? {
        netlink::delete_link_on(socket, &link.name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_reference_plugins() {
        assert_eq!(hashed("cni-plugin-bandwidth-testdummy"), "bwpa8eda89404b7");
    }
}
