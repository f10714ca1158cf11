//! What people are told: events of the Services concerned, and lines of the log.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use announce::Said;
use client::cache::Name;
use client::events::Events;
use kube::Client;
use services::world::World;

use super::wanted::Wishes;

/// A warning that is given again within that time is left: a host that has an address of ours is found each few seconds.
const QUIET: Duration = Duration::from_secs(60);

/// Who tells.
#[derive(Debug)]
pub(super) struct People {
    command: &'static str,
    events: Events,
    world: Arc<World>,
    node: String,
    recent: BTreeMap<String, Instant>,
}

/// What there is to tell.
#[derive(Debug)]
struct Told {
    /// The Services that have an event of it.
    about: Vec<Name>,
    /// Why: `None` for what is in the log alone.
    reason: Option<&'static str>,
    is_warning: bool,
    text: String,
}

impl People {
    /// For `command` on a node, in the current runtime.
    pub(super) fn new(command: &'static str, client: &Client, world: &Arc<World>, node: &str) -> Self {
        let events = Events::new(client, "sextant-announce", node);
        Self { command, events, world: world.clone(), node: node.into(), recent: BTreeMap::new() }
    }

    /// Tells what has become of an address.
    pub(super) async fn tell(&mut self, what: &Said, wishes: &RefCell<Wishes>) {
        let told = told(what, &self.node, &wishes.borrow());
        if told.is_warning && !is_new(&mut self.recent, &told.text, Instant::now()) {
            return;
        }
        let begun = if told.is_warning { "warning: " } else { "" };
        eprintln!("sextant {}: {begun}{}", self.command, told.text);
        let Some(reason) = told.reason else { return };
        for name in &told.about {
            let service = self.world.read().service(name).cloned();
            match service {
                Some(service) if told.is_warning => self.events.warning(&*service, reason, &told.text).await,
                Some(service) => self.events.normal(&*service, reason, &told.text).await,
                None => {}
            }
        }
    }
}

fn told(what: &Said, node: &str, wishes: &Wishes) -> Told {
    let of = |address| wishes.at(address);
    match what {
        Said::Announced { address, link } => Told {
            about: of(*address),
            reason: Some("Announced"),
            is_warning: false,
            text: format!("address {address} is answered for on link {link} by node {node}"),
        },
        Said::Withdrawn { address, link } => Told {
            about: Vec::new(),
            reason: None,
            is_warning: false,
            text: format!("address {address} is answered for on link {link} by node {node} no longer"),
        },
        Said::Defended { address, link, mac } => Told {
            about: of(*address),
            reason: Some("AnnounceDefended"),
            is_warning: true,
            text: format!(
                "host {mac} on link {link} says that it has address {address}, and was contradicted by node {node}; \
                 if it is to have it, take the address out of pool {}",
                wishes.pool_of(*address)
            ),
        },
        Said::Contested { address, link, mac } => Told {
            about: of(*address),
            reason: Some("AnnounceContested"),
            is_warning: true,
            text: format!(
                "address {address} is not answered for on link {link}: host {mac}, which is no node of this cluster, has it; \
                 give that host another one, or take the address out of pool {}",
                wishes.pool_of(*address)
            ),
        },
        Said::Nowhere { address } => Told {
            about: of(*address),
            // Elsewhere there may be such a link.
            reason: wishes.is_only_here(*address).then_some("AnnounceFailed"),
            is_warning: true,
            text: format!(
                "address {address} is not answered for by node {node}: no link that is up is for it; see the links of pool {}",
                wishes.pool_of(*address)
            ),
        },
        Said::Failed { link, cause } => Told {
            // The log has it; of very many services some show it.
            about: wishes.on(link).into_iter().take(16).collect(),
            reason: Some("AnnounceFailed"),
            is_warning: true,
            text: format!("node {node} cannot answer for addresses on link {link}: {cause}"),
        },
    }
}

/// Whether it was not said a short time ago; it is now.
fn is_new(recent: &mut BTreeMap<String, Instant>, text: &str, now: Instant) -> bool {
    recent.retain(|_, at| *at + QUIET > now);
    if recent.contains_key(text) {
        return false;
    }
    recent.insert(text.to_owned(), now);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_given_once_in_a_minute() {
        let (mut recent, now) = (BTreeMap::new(), Instant::now());
        assert!(is_new(&mut recent, "a", now) && is_new(&mut recent, "b", now + QUIET / 2));
        assert!(!is_new(&mut recent, "a", now + QUIET / 2));
        assert!(
            is_new(&mut recent, "a", now + QUIET),
            "it is a minute since it was given, not since it was left"
        );
        assert!(!is_new(&mut recent, "b", now + QUIET) && recent.len() == 2);
    }
}
