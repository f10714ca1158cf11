//! Who wants what: elements with the number of those who want them, and fronts with the Service that has them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use client::cache::Name;

use super::Elements;
use crate::plan::{Answer, At, Front, Plan};
use crate::table::{Held, Pick, of_plan};

/// A set and a key in it.
pub(super) type Key = (&'static str, Vec<u8>);

#[derive(Debug, Default)]
pub(super) struct Books {
    /// What was planned, and what of it is entered.
    plans: BTreeMap<Name, (Plan, Vec<Held>)>,
    wanted: HashMap<Key, (Held, usize)>,
    /// Who has a front: the first to come, until he lets it go.
    taken: BTreeMap<Front, Name>,
    /// Who would have it else.
    waiting: BTreeMap<Front, BTreeSet<Name>>,
    networks: Vec<Held>,
    touched: BTreeSet<Key>,
    picks: BTreeSet<Pick>,
    /// Addresses behind Services that are new.
    addresses: BTreeSet<IpAddr>,
}

impl Books {
    /// Has a plan in place of the one of this name.
    pub(super) fn enter(&mut self, name: Name, plan: Option<Plan>) {
        let mut names = vec![(name, plan)];
        while let Some((name, plan)) = names.pop() {
            for freed in self.enter_one(name, plan) {
                // They are entered anew, and one of them has it now.
                for other in self.waiting.remove(&freed).unwrap_or_default() {
                    let plan = self.plans.get(&other).map(|(plan, _)| plan.clone());
                    names.push((other, plan));
                }
            }
        }
    }

    /// The fronts that it has no longer.
    fn enter_one(&mut self, name: Name, plan: Option<Plan>) -> Vec<Front> {
        let mut freed = BTreeSet::new();
        if let Some((old, held)) = self.plans.remove(&name) {
            held.iter().for_each(|held| self.drop(held));
            for front in old.fronts.keys() {
                match self.taken.get(front) {
                    Some(by) if *by == name => {
                        self.taken.remove(front);
                        freed.insert(*front);
                    }
                    _ => self.wait_no_longer(front, &name),
                }
            }
        }
        let Some(plan) = plan else { return freed.into_iter().collect() };
        let mut mine = plan.clone();
        mine.fronts.retain(|front, _| {
            // Who comes from outside reaches the Service that all others reach; their front comes first.
            let may = !front.outside || self.taken.get(&Front { outside: false, ..*front }) == Some(&name);
            if may && self.taken.entry(*front).or_insert_with(|| name.clone()) == &name {
                freed.remove(front);
                return true;
            }
            self.waiting.entry(*front).or_default().insert(name.clone());
            false
        });
        mine.ranges.retain(|front, _| mine.fronts.contains_key(front));
        let (held, picks) = of_plan(&name, &mine);
        held.iter().for_each(|held| self.want(held));
        self.picks.extend(picks);
        self.addresses.extend(mine.fronts.values().flat_map(|answer| match answer {
            Answer::Targets { targets, .. } => targets.iter().map(|target| target.ip()).collect(),
            Answer::Reject | Answer::Drop => Vec::new(),
        }));
        self.plans.insert(name, (plan, held));
        freed.into_iter().collect()
    }

    fn wait_no_longer(&mut self, front: &Front, name: &Name) {
        if let Some(waiting) = self.waiting.get_mut(front) {
            waiting.remove(name);
            if waiting.is_empty() {
                self.waiting.remove(front);
            }
        }
    }

    /// Has these elements tell of the machine.
    pub(super) fn enter_networks(&mut self, held: Vec<Held>) {
        let old = std::mem::replace(&mut self.networks, held.clone());
        old.iter().for_each(|held| self.drop(held));
        held.iter().for_each(|held| self.want(held));
    }

    fn want(&mut self, held: &Held) {
        let key = (held.set, held.key.clone());
        self.touched.insert(key.clone());
        let (_, count) = self.wanted.entry(key).or_insert_with(|| (held.clone(), 0));
        *count += 1;
    }

    fn drop(&mut self, held: &Held) {
        let key = (held.set, held.key.clone());
        if let Some((_, count)) = self.wanted.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.wanted.remove(&key);
            }
        }
        self.touched.insert(key);
    }

    /// The element that is to be there.
    pub(super) fn wanted(&self, set: &'static str, key: &[u8]) -> Option<Held> {
        self.wanted.get(&(set, key.to_vec())).map(|(held, _)| held.clone())
    }

    /// What changes may have been made to since that was last asked.
    pub(super) fn take_touched(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.touched)
    }

    /// All that is wanted, and all that is there.
    pub(super) fn all(&mut self, there: &Elements) -> BTreeSet<Key> {
        self.touched.clear();
        // Chains that were made are not known to be there.
        self.picks.extend(self.plans.iter().flat_map(|(name, (plan, _))| of_plan(name, plan).1));
        let there = there.iter().flat_map(|(set, elements)| elements.keys().map(|key| (*set, key.clone())));
        self.wanted.keys().cloned().chain(there).collect()
    }

    /// Chains that new elements lead to.
    pub(super) fn picks(&self) -> &BTreeSet<Pick> {
        &self.picks
    }

    /// Addresses that packets may be sent to since a short while.
    pub(super) fn addresses(&self) -> &BTreeSet<IpAddr> {
        &self.addresses
    }

    /// All of this is true.
    pub(super) fn settled(&mut self) {
        self.picks.clear();
        self.addresses.clear();
    }

    pub(super) fn contested(&self) -> Vec<String> {
        let words = |front: &Front| {
            let at = match front.at {
                At::Address(address) => address.to_string(),
                At::Node { .. } => "the node".into(),
            };
            format!("port {} of {at}", front.port)
        };
        let of_inside = self.waiting.iter().filter(|(front, _)| !front.outside);
        of_inside
            .filter_map(|(front, names)| {
                let (by, first) = (self.taken.get(front)?, names.first()?);
                Some(format!(
                    "{} is of Service {by}, and not of {first}, which asks for it, too",
                    words(front)
                ))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Protocol;
    use crate::table::Kind;

    fn front(outside: bool) -> Front {
        let at = At::Address("198.51.100.9".parse().unwrap());
        Front { outside, at, protocol: Protocol::Tcp, port: 80 }
    }

    /// Of a Service with this external address, and with `externalTrafficPolicy: Local` or not.
    fn plan(pod: &str, local: bool) -> Plan {
        let answer = Answer::Targets { targets: vec![pod.parse().unwrap()], affinity: None };
        let fronts = [front(false)].into_iter().chain(local.then(|| front(true)));
        Plan { fronts: fronts.map(|front| (front, answer.clone())).collect(), ..Plan::default() }
    }

    #[test]
    fn who_has_a_front_has_it_for_those_who_come_from_outside_too() {
        let mut books = Books::default();
        let (a, b) = (Name::new("default", "a"), Name::new("default", "b"));
        let having = |books: &Books| {
            [false, true].map(|outside| {
                let (front, kind) = (front(outside), Kind::of(&front(outside)));
                books.wanted(kind.fronts(), &Kind::key(&front).into_bytes()).and_then(|held| held.comment)
            })
        };
        let (of_a, of_b) = (Some("default/a".to_owned()), Some("default/b".to_owned()));
        books.enter(a.clone(), Some(plan("10.9.0.1:80", false)));
        books.enter(b.clone(), Some(plan("10.9.0.2:80", true)));
        assert_eq!(having(&books), [of_a.clone(), None]);
        assert_eq!(books.contested().len(), 1);
        books.enter(a.clone(), None);
        assert_eq!(having(&books), [of_b.clone(), of_b.clone()]);
        books.enter(a.clone(), Some(plan("10.9.0.1:80", true)));
        assert_eq!(having(&books), [of_b.clone(), of_b.clone()]);
        books.enter(b.clone(), Some(plan("10.9.0.2:80", false)));
        assert_eq!(having(&books), [of_b, None]);
        books.enter(b, None);
        assert_eq!(having(&books), [of_a.clone(), of_a]);
        books.enter(a, None);
        assert_eq!(having(&books), [None, None]);
        assert!(books.wanted.is_empty() && books.taken.is_empty() && books.waiting.is_empty());
    }
}
