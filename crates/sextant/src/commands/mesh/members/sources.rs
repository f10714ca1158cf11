//! Members send from their own addresses, or not at all: others let them in by these.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::IpAddr;

use ledger::{Effect, Owner, Record as _};
use mesh::sources::{self, End, Ends, FAMILIES};
use smi::contract::Name;

use super::Members;
use crate::failure::Result;

/// What is looked at on the node.
#[derive(Debug)]
pub(super) struct Sources {
    table: String,
    is_on: bool,
    /// What is there; none where that is what one before this has left, or something has failed.
    there: Option<Ends>,
    /// What has failed, as it was told.
    said: Option<String>,
}

/// The node's ends of a pod's links.
#[derive(Debug, Default)]
pub(super) struct Links {
    ends: Vec<End>,
    /// They were found before the pod's first container: the addresses that they had nobody in the pod has chosen.
    pub(super) is_early: bool,
    /// It was told that there is none to be looked at.
    said: bool,
}

impl Links {
    /// What may come from which of them, if these are the addresses in the pod's status.
    fn held_to(&self, own: &BTreeSet<IpAddr>) -> Ends {
        // An end without any of them may be that of the sandbox before or behind the one that the addresses are of.
        let is_its = |end: &&End| match own.is_empty() {
            true => self.is_early,
            false => !end.addresses.is_disjoint(own),
        };
        let may = |end: &End| {
            let mut addresses = own.clone();
            if self.is_early {
                addresses.extend(end.addresses.iter().filter(|address| !passes_anyway(address)));
            }
            (end.link, addresses)
        };
        // An end with none at all is not looked at.
        self.ends.iter().filter(is_its).map(may).filter(|(_, addresses)| !addresses.is_empty()).collect()
    }
}

/// Of one link, and looked at nowhere: as one of a pod's addresses it would have all others of IPv6 dropped.
fn passes_anyway(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

impl Sources {
    /// If it is not `on`, what one before this has left is taken away.
    pub(super) fn new(table: &str, is_on: bool, owner: &mut Owner) -> Self {
        let found = Self { table: table.into(), is_on, there: None, said: None };
        if !is_on {
            let effects = found.effects();
            for (record, _) in owner.records().into_iter().filter(|(_, effect)| effects.contains(effect)) {
                if let Err(error) = owner.undo(record) {
                    eprintln!("sextant mesh: warning: {error}");
                }
            }
        }
        found
    }

    fn effects(&self) -> [Effect; 2] {
        FAMILIES.map(|family| Effect::NftTable { family: family.to_string(), table: self.table.clone() })
    }

    /// Has it so, and on record first.
    fn make(&mut self, ends: &Ends, owner: &mut Owner) -> Result<()> {
        let known: Vec<Effect> = owner.records().into_iter().map(|(_, effect)| effect).collect();
        for effect in self.effects() {
            if !known.contains(&effect) {
                owner.record(effect)?;
            }
        }
        Ok(sources::check(&self.table, ends)?)
    }
}

impl Members {
    /// Finds the node's ends of a pod's links, while its programs, if they have begun, have had little time to move its addresses.
    pub(super) fn ends_of(&self, name: &Name, netns: &File) -> Links {
        if !self.sources.is_on || self.certificates.is_none() {
            return Links::default();
        }
        let ends = sources::ends(netns).unwrap_or_else(|error| {
            eprintln!("sextant mesh: warning: cannot find the node's end of pod {name}'s link: {error}");
            Vec::new()
        });
        Links { ends, is_early: false, said: false }
    }

    /// Sees that what members send comes from their own addresses, where the node's end of their link is known.
    pub(super) fn check_sources(&mut self) {
        if !self.sources.is_on || self.certificates.is_none() {
            return;
        }
        // What one before this has left stays as it is until somebody is there anew.
        if self.captured.is_empty() && self.barred.is_empty() && !self.old.is_empty() {
            self.known.counters().look_at(BTreeMap::new());
            return;
        }
        let (mut wanted, mut whose): (Ends, _) = (BTreeMap::new(), BTreeMap::new());
        let captured = self.captured.iter_mut().map(|(name, pod)| (name, &mut pod.links));
        let barred = self.barred.iter_mut().map(|(name, pod)| (name, &mut pod.links));
        for (name, links) in captured.chain(barred) {
            let own: BTreeSet<_> = self.admissions.addresses(name).iter().copied().collect();
            let ends = links.held_to(&own);
            if ends.is_empty() && !own.is_empty() && !links.said {
                links.said = true;
                eprintln!(
                    "sextant mesh: no link of pod {name} with its address ends in this node's own network: where its \
                     packets say that they come from is not looked at"
                );
            }
            whose.extend(ends.keys().map(|link| (*link, name.clone())));
            wanted.extend(ends);
        }
        self.known.counters().look_at(whose);
        if self.sources.there.as_ref() == Some(&wanted) {
            return;
        }
        // Nothing was ever there.
        if wanted.is_empty() && self.sources.there.is_none() && self.sources.said.is_none() {
            let effects = self.sources.effects();
            if !self.owner.records().iter().any(|(_, effect)| effects.contains(effect)) {
                return;
            }
        }
        match self.sources.make(&wanted, &mut self.owner) {
            Ok(()) => (self.sources.there, self.sources.said) = (Some(wanted), None),
            Err(failure) => {
                let text =
                    format!("where packets of members come from is not looked at everywhere: {failure}");
                if self.sources.said.as_ref() != Some(&text) {
                    eprintln!("sextant mesh: warning: {text}; tries again");
                    self.sources.said = Some(text);
                }
                self.sources.there = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(all: &[&str]) -> BTreeSet<IpAddr> {
        all.iter().map(|one| one.parse().unwrap()).collect()
    }

    fn links(is_early: bool) -> Links {
        let end = |link, addresses: &[&str]| End { link, addresses: set(addresses) };
        let ends =
            vec![end(7, &["10.0.0.2", "10.0.1.2", "fe80::2"]), end(8, &["10.9.0.2"]), end(9, &["fe80::3"])];
        Links { ends, is_early, said: false }
    }

    #[test]
    fn a_pod_that_was_there_before_is_held_to_its_status_alone() {
        assert_eq!(links(false).held_to(&set(&[])), Ends::new());
        assert_eq!(links(false).held_to(&set(&["10.0.0.3"])), Ends::new());
        let own = set(&["10.0.0.2", "fd00::2"]);
        assert_eq!(links(false).held_to(&own), Ends::from([(7, own)]));
    }

    #[test]
    fn a_pod_that_has_not_begun_is_held_to_what_its_links_had() {
        let links = links(true);
        let all = Ends::from([(7, set(&["10.0.0.2", "10.0.1.2"])), (8, set(&["10.9.0.2"]))]);
        assert_eq!(links.held_to(&set(&[])), all);
        // Its status takes over, and what else its link had goes on.
        let more = set(&["10.0.0.2", "10.0.1.2", "fd00::2"]);
        assert_eq!(links.held_to(&set(&["10.0.0.2", "fd00::2"])), Ends::from([(7, more)]));
        assert_eq!(links.held_to(&set(&["10.0.0.3"])), Ends::new());
    }
}
