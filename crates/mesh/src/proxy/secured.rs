//! Connections to members: streams of HBONE, whose connections are kept for all of a pod that go to one address.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use smi::model::Mode;

use super::{Network, Origin, Proxy};
use crate::hbone::{Link, NoStream, PORT};
use crate::identity::Held;
use crate::reactor::Socket;

/// How an address is reached.
pub(super) enum Way {
    Plain,
    Secured(Secured),
}

/// A member at an address.
pub(super) struct Secured {
    /// What proves who asks.
    held: Arc<Held>,
    /// Who has to answer.
    identity: Arc<str>,
    /// It takes plain text as well, from anybody.
    is_open: bool,
}

/// Nobody can be shown who asks.
#[derive(Debug, thiserror::Error)]
#[error("there is no certificate, or none that has not expired, for this pod's identity {0}")]
pub(super) struct NoCertificate(Arc<str>);

/// No more is opened to a peer.
#[derive(Debug, thiserror::Error)]
#[error(
    "this pod has {1} connections of the mesh to {0} already, as many as it may, and none of them has room"
)]
pub(super) struct Full(IpAddr, usize);

/// Connections of each pod to each peer.
type Peers = HashMap<(Network, IpAddr), Vec<Rc<Link>>>;

/// Connections of HBONE that the pods of this node have made.
#[derive(Debug, Default)]
pub(super) struct Links {
    list: RefCell<Peers>,
    /// Who has answered over HBONE, where: it is not asked in plain text any more.
    spoken: RefCell<HashSet<(IpAddr, Arc<str>)>>,
}

impl Links {
    /// Forgets those that are over.
    pub(super) fn sweep(&self) {
        self.list.borrow_mut().retain(|(_, at), links| {
            links.iter().for_each(|link| self.note_parted(*at, link));
            links.retain(|link| !link.is_over());
            !links.is_empty()
        });
    }

    /// Of who has said, and proved who it is, that nobody serves it any more it is not remembered that it has answered: as before it first did, it may be
    /// asked in plain text, if it takes that from anybody.
    fn note_parted(&self, at: IpAddr, link: &Link) {
        if link.take_parted() {
            self.spoken.borrow_mut().remove(&(at, link.identity.clone()));
        }
    }

    /// Ends those of a network with their last streams.
    pub(super) fn forget(&self, network: Network) {
        self.list.borrow_mut().retain(|(of, _), links| {
            if *of == network {
                links.iter().for_each(|link| link.retire());
            }
            *of != network
        });
    }

    /// Of who is no member there any more, nothing is remembered.
    pub(super) fn forget_spoken(&self, is_member: impl Fn(IpAddr, &str) -> bool) {
        self.spoken.borrow_mut().retain(|(address, identity)| is_member(*address, identity));
    }
}

impl Proxy {
    /// How an address is reached from a pod: where both are members, over HBONE.
    ///
    /// # Errors
    /// The pod cannot prove who it is.
    pub(super) fn way(&self, origin: &dyn Origin, to: SocketAddr) -> io::Result<Way> {
        let certificates = self.certificates.borrow();
        // What goes to the application of a pod has come to where it was going.
        let (Some(certificates), Some(name), None) = (&*certificates, origin.workload(), origin.inside())
        else {
            return Ok(Way::Plain);
        };
        let tables = self.tables.borrow();
        let (Some(own), Some(peer)) = (tables.member(name), tables.member_at(to.ip())) else {
            return Ok(Way::Plain);
        };
        let is_outside = own.mode == Mode::Outside || peer.mode == Mode::Outside;
        // What a pod says to itself leaves nowhere.
        if is_outside || Arc::ptr_eq(own, peer) {
            return Ok(Way::Plain);
        }
        let held = certificates.held(&own.identity, SystemTime::now());
        let held = held.ok_or_else(|| io::Error::other(NoCertificate(own.identity.clone())))?;
        let is_open = peer.mode == Mode::Permissive && !peer.is_guarded();
        Ok(Way::Secured(Secured { held, identity: peer.identity.clone(), is_open }))
    }

    /// A stream to a member, if there is one in time.
    ///
    /// # Errors
    /// There is no connection to it, or it lets this pod not connect there.
    pub(super) async fn reach_secured(
        &self,
        origin: &dyn Origin,
        to: SocketAddr,
        secured: Secured,
        limit: Instant,
    ) -> io::Result<Socket> {
        let mut fresh = false;
        loop {
            let (link, was_there) = self.link(origin, to, &secured, fresh)?;
            let Ok(opened) = self.reactor.before(Some(limit), link.open(to)).await else {
                link.doubt();
                return Err(io::ErrorKind::TimedOut.into());
            };
            // Whatever it has answered: it was there.
            if link.has_asked() && !self.has_spoken(to.ip(), &secured) {
                self.links.spoken.borrow_mut().insert((to.ip(), secured.identity.clone()));
            }
            let failed = match opened {
                Ok(socket) => return Ok(socket),
                // One that had ended, or was about to, says nothing about the next one.
                Err(NoStream::Leaving) if !fresh => {
                    fresh = true;
                    continue;
                }
                Err(NoStream::Failed(e))
                    if was_there && !fresh && e.kind() == io::ErrorKind::ConnectionReset =>
                {
                    fresh = true;
                    continue;
                }
                Err(NoStream::Leaving) => io::ErrorKind::ConnectionAborted.into(),
                Err(NoStream::Failed(e)) => e,
            };
            // A member that nobody serves yet, as while it joins: it takes plain text from anybody anyway.
            if link.is_refused() && secured.is_open && !self.has_spoken(to.ip(), &secured) {
                return Socket::connect_over(&self.reactor, origin.socket(to.is_ipv4())?, to).await;
            }
            return Err(failed);
        }
    }

    /// Whether this member has answered over HBONE there.
    fn has_spoken(&self, at: IpAddr, secured: &Secured) -> bool {
        self.links.spoken.borrow().contains(&(at, secured.identity.clone()))
    }

    /// A connection to a member that has room for a stream, and whether it was there before.
    fn link(
        &self,
        origin: &dyn Origin,
        to: SocketAddr,
        secured: &Secured,
        fresh: bool,
    ) -> io::Result<(Rc<Link>, bool)> {
        let mut list = self.links.list.borrow_mut();
        let links = list.entry((origin.network(), to.ip())).or_default();
        links.retain(|link| {
            self.links.note_parted(to.ip(), link);
            // Those with a certificate that was replaced, or to who has the address no more, are left to their streams.
            let is_good = link.serial == secured.held.serial && link.identity == secured.identity;
            // So are those whose peer bears no more of what is broken off: it would end all of them.
            if !link.is_over() && (!is_good || link.is_weary()) {
                link.retire();
            }
            is_good && !link.is_over()
        });
        let now = SystemTime::now();
        if !fresh && let Some(link) = links.iter().find(|link| link.has_room(now)) {
            return Ok((link.clone(), true));
        }
        if links.len() >= self.settings.links {
            return Err(io::Error::other(Full(to.ip(), links.len())));
        }
        let at = SocketAddr::new(to.ip(), PORT);
        let (patience, stall) = (self.settings.connect, self.settings.stall);
        let link = Link::client(&self.reactor, &secured.held, (at, secured.identity.clone()), patience);
        let link = link.map_err(io::Error::other)?;
        self.reactor.spawn(link.clone().reach(origin.socket(to.is_ipv4())?, at, (patience, stall)));
        links.push(link.clone());
        self.count(|counts| counts.linked += 1);
        Ok((link, false))
    }
}
