//! Pods to which not everybody may come: closed for when nobody serves them, and for as long as they cannot be served.

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernel::netlink::{Protocol, Socket, addresses};
use mesh::capture;
use smi::contract::Name;

use super::datagrams::Datagrams;
use super::sources::Links;
use super::{Kept, Members};
use crate::failure::{Failure, Result};

/// A pod that is closed and that nobody serves: there is nothing yet that proves who it is.
pub(super) struct Barred {
    pub(super) sandbox: String,
    /// Where its network namespace is.
    pub(super) path: PathBuf,
    pub(super) kept: Kept,
    pub(super) netns: Arc<File>,
    /// From whom it takes datagrams now.
    pub(super) datagrams: Datagrams,
    /// Where its links end.
    pub(super) links: Links,
}

impl Members {
    /// Whether not everybody may come to a member, where it can be told who comes.
    pub(super) fn is_guarded(&self, name: &Name) -> bool {
        self.certificates.is_some() && self.wanted.get(name).is_some_and(|wanted| wanted.is_guarded)
    }

    /// Sees that pods to which not everybody may come are closed for when nobody serves them, and to datagrams of others at any time; and that others are
    /// not.
    pub(super) fn guard(&mut self) {
        if self.certificates.is_none() {
            return;
        }
        let mut troubles = Vec::new();
        for (name, captured) in &mut self.captured {
            let Some(wanted) = self.wanted.get(name) else { continue };
            if captured.is_closed == Some(wanted.is_guarded) {
                continue;
            }
            let done = match wanted.is_guarded {
                true => own_addresses().and_then(|node| {
                    capture::close(&captured.netns, &self.names, &node).map_err(Failure::from)
                }),
                false => capture::open(&captured.netns, &self.names).map_err(Failure::from),
            };
            match done {
                Ok(()) => {
                    if wanted.is_guarded || captured.is_closed.is_some() {
                        let word = if wanted.is_guarded { "closed" } else { "open" };
                        eprintln!("sextant mesh: pod {name} is {word} to others for when nobody serves it");
                    }
                    captured.is_closed = Some(wanted.is_guarded);
                }
                Err(failure) => troubles.push((name.clone(), failure)),
            }
        }
        for (name, failure) in troubles {
            let text = format!("pod {name} is not guarded while nobody serves it: {failure}");
            self.trouble(Some(name), text);
        }
        self.admit();
        self.check_sources();
    }

    /// Closes a pod that cannot be served, if not everybody may come to it: nobody could say who comes. But for the node's own addresses.
    pub(super) fn bar(&mut self, name: &Name, sandbox: &str, path: &Path) -> Result<()> {
        if !self.is_guarded(name) || self.barred.contains_key(name) {
            return Ok(());
        }
        let node = own_addresses()?;
        let (netns, inode) = self.namespace_at(path)?;
        let mut kept = self.keep(path, inode)?;
        let closed = self
            .prepare(&netns, path, &mut kept)
            .and_then(|()| capture::close(&netns, &self.names, &node).map_err(Failure::from));
        if let Err(failure) = closed {
            self.forget(kept);
            return Err(failure);
        }
        eprintln!("sextant mesh: pod {name} is closed to others until it can be served");
        let (sandbox, path) = (sandbox.to_owned(), path.to_owned());
        let (datagrams, links) = (Datagrams::default(), self.ends_of(name, &netns));
        let netns = Arc::new(netns);
        self.barred.insert(name.clone(), Barred { sandbox, path, kept, netns, datagrams, links });
        Ok(())
    }

    /// Opens pods that are barred, if `is_needless` says so.
    pub(super) fn unbar(&mut self, is_needless: impl Fn(&Self, &Name) -> bool) {
        let all = &*self;
        let needless: Vec<Name> = all.barred.keys().filter(|&name| is_needless(all, name)).cloned().collect();
        for name in needless {
            let Some(barred) = self.barred.remove(&name) else { continue };
            // What one before this has left there may keep the table for now.
            if let Err(error) = capture::open(&barred.netns, &self.names) {
                eprintln!("sextant mesh: warning: pod {name} stays closed to others: {error}");
            }
            self.admit_all(&name, &barred.netns);
            self.forget(barred.kept);
            eprintln!("sextant mesh: pod {name} is open to others");
        }
    }

    /// A pod that was barred is served now, or its sandbox is gone: what is there is another's business.
    pub(super) fn pass(&mut self, name: &Name) {
        if let Some(barred) = self.barred.remove(name) {
            self.forget(barred.kept);
        }
    }
}

/// The node's own addresses, which probes of its pods come from.
pub(super) fn own_addresses() -> Result<Vec<IpAddr>> {
    let all = addresses(&mut Socket::open(Protocol::Route)?, None)?;
    let mut own: Vec<IpAddr> = all.iter().map(|address| address.net.address()).collect();
    own.retain(|address| !address.is_loopback());
    own.sort_unstable();
    own.dedup();
    Ok(own)
}
