//! From whom a pod takes datagrams: its policies as addresses.
//!
//! Over UDP nobody proves anything, so a policy can only be held against where a datagram says that it comes from. Whose address that is the
//! model says; that it is the sender's is for whoever looks at the sender's end of its link (docs/adr/0034-datagrams-by-their-source.md). Nothing here knows
//! the kernel: [`capture::admit`](crate::capture::admit) makes rules of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use smi::contract::Name;
use smi::model::{Delta, Entry, Kept, Key, Mode, Policy, Ports, Workload};

/// What a pod takes: of each list of ports the addresses that may send there. What is in none of them is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admitted(BTreeMap<Ports, BTreeSet<IpAddr>>);

impl Admitted {
    /// Whether a datagram from this address to this port of the pod is let in.
    #[must_use]
    pub fn has(&self, source: IpAddr, port: u16) -> bool {
        self.0.iter().any(|(ports, sources)| ports.has(port) && sources.contains(&source))
    }

    /// The lists, in an order that is the same for the same lists of ports. No list of ports is empty; one of addresses may be.
    pub fn lists(&self) -> impl Iterator<Item = (&Ports, &BTreeSet<IpAddr>)> {
        self.0.iter()
    }

    /// Whether this differs from another in nothing but addresses.
    #[must_use]
    pub fn has_ports_of(&self, other: &Self) -> bool {
        self.0.keys().eq(other.0.keys())
    }

    fn add(&mut self, ports: &Ports, sources: impl IntoIterator<Item = IpAddr>) {
        if *ports != Ports::none() {
            self.0.entry(ports.clone()).or_default().extend(sources);
        }
    }
}

/// Follows the model as far as it says who may send datagrams to whom.
#[derive(Debug, Default)]
pub struct Admissions {
    /// Pods that are in the mesh. Others are nobody here: their ends of their links are not looked at, and a node is not told of those elsewhere.
    members: BTreeMap<Name, Kept>,
    policies: BTreeMap<Name, Kept>,
    /// Who is where, unless a member has changed since it was asked last.
    places: Option<Places>,
    /// What was made since the last change, by the policies of pods that share it.
    made: BTreeMap<Vec<Name>, Arc<Admitted>>,
}

impl Admissions {
    /// Takes a change; whether somebody may be let in, or refused, who was not before.
    pub fn take(&mut self, delta: &Delta) -> bool {
        let (mut pods, mut policies) = (false, false);
        for key in &delta.removed {
            match key {
                Key::Workload(name) => pods |= self.members.remove(name).is_some(),
                Key::Policy(name) => policies |= self.policies.remove(name).is_some(),
                Key::Frontend { .. } | Key::Endpoints { .. } => {}
            }
        }
        for shared in &delta.set {
            match (&shared.key, &*shared.entry) {
                (Key::Workload(name), Entry::Workload(workload)) if workload.mode != Mode::Outside => {
                    pods |= put(&mut self.members, name, &shared.entry);
                }
                (Key::Workload(name), _) => pods |= self.members.remove(name).is_some(),
                (Key::Policy(name), Entry::Policy(_)) => {
                    policies |= put(&mut self.policies, name, &shared.entry);
                }
                _ => {}
            }
        }
        if pods {
            self.places = None;
        }
        if pods || policies {
            self.made.clear();
        }
        pods || policies
    }

    /// What a pod takes; `None` of one that takes datagrams from anybody: one that is no member, or permissive and guarded by no policy. Of those
    /// that are `strict` and guarded by none, members are let in, whatever the port. It is the same object for as long as nothing has changed.
    pub fn of(&mut self, pod: &Name) -> Option<Arc<Admitted>> {
        let workload = workload(self.members.get(pod)?)?;
        if workload.mode == Mode::Permissive && workload.policies.is_empty() {
            return None;
        }
        if let Some(made) = self.made.get(&workload.policies) {
            return Some(made.clone());
        }
        let places = self.places.get_or_insert_with(|| Places::of(self.members.values()));
        let mut admitted = Admitted::default();
        if workload.policies.is_empty() {
            admitted.add(&Ports::All, places.all());
        }
        // What one that is not there (yet) allows is not known.
        for policy in workload.policies.iter().filter_map(|name| policy(self.policies.get(name)?)) {
            admitted.add(&policy.udp, places.sources(policy));
        }
        let made = Arc::new(admitted);
        self.made.insert(workload.policies.clone(), made.clone());
        Some(made)
    }

    /// The addresses of a member.
    #[must_use]
    pub fn addresses(&self, pod: &Name) -> &[IpAddr] {
        match self.members.get(pod).and_then(workload) {
            Some(workload) => &workload.addresses,
            None => &[],
        }
    }

    /// Who is taken to have sent what comes from this address; `None` where that is no member, or more than one of them.
    pub fn holder(&mut self, address: IpAddr) -> Option<&str> {
        let places = self.places.get_or_insert_with(|| Places::of(self.members.values()));
        places.holders.get(&address)?.as_deref()
    }
}

/// Makes an entry so; whether it was not.
fn put(map: &mut BTreeMap<Name, Kept>, name: &Name, entry: &Kept) -> bool {
    let before = map.insert(name.clone(), entry.clone());
    before.is_none_or(|before| before != *entry)
}

fn workload(kept: &Kept) -> Option<&Workload> {
    match &**kept {
        Entry::Workload(workload) => Some(workload),
        _ => None,
    }
}

fn policy(kept: &Kept) -> Option<&Policy> {
    match &**kept {
        Entry::Policy(policy) => Some(policy),
        _ => None,
    }
}

/// Where members are.
#[derive(Debug, Default)]
struct Places {
    /// The identity of who has an address. `None` where members of different identities say that they have it, as one that ends and one that begins
    /// there may for a moment: nobody knows which of them sends.
    holders: BTreeMap<IpAddr, Option<Arc<str>>>,
    /// Addresses by the identity of who has them.
    identities: BTreeMap<Arc<str>, BTreeSet<IpAddr>>,
}

impl Places {
    fn of<'k>(members: impl Iterator<Item = &'k Kept>) -> Self {
        let mut places = Self::default();
        for workload in members.filter_map(workload) {
            let identity: Arc<str> = workload.identity.as_str().into();
            for address in &workload.addresses {
                let holder = places.holders.entry(*address).or_insert_with(|| Some(identity.clone()));
                if holder.as_ref() != Some(&identity) {
                    *holder = None;
                }
            }
        }
        for (address, holder) in &places.holders {
            if let Some(identity) = holder {
                places.identities.entry(identity.clone()).or_default().insert(*address);
            }
        }
        places
    }

    /// The addresses of all members, of whatever identity.
    fn all(&self) -> impl Iterator<Item = IpAddr> {
        self.holders.keys().copied()
    }

    /// The addresses from which a policy lets somebody in.
    fn sources(&self, policy: &Policy) -> BTreeSet<IpAddr> {
        let mut found = BTreeSet::new();
        for source in &policy.sources {
            let Some(held) = self.identities.get(source.identity.as_str()) else { continue };
            match &source.addresses {
                None => found.extend(held),
                Some(meant) => found.extend(meant.iter().filter(|address| held.contains(*address))),
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use smi::gate::{Gate, Peer, Verdict};
    use smi::model::{Principal, Shared, TcpAllow, Transport};

    use super::*;

    fn name(name: &str) -> Name {
        Name::new("shop", name)
    }

    fn at(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn identity(of: &str) -> String {
        format!("spiffe://cluster.local/ns/shop/sa/{of}")
    }

    /// A pod of the account `of`.
    fn pod(pod: &str, of: &str, last: u8, mode: Mode, policies: &[&str]) -> Shared {
        let policies = policies.iter().map(|policy| name(policy)).collect();
        let workload =
            Workload { addresses: vec![at(last)], node: None, identity: identity(of), mode, policies };
        Shared { key: Key::Workload(name(pod)), entry: Arc::new(Entry::Workload(workload)) }
    }

    fn policy(policy: &str, sources: &[(&str, Option<&[u8]>)], udp: Ports) -> Shared {
        let source = |(of, addresses): &(&str, Option<&[u8]>)| Principal {
            identity: identity(of),
            addresses: addresses.map(|last| last.iter().map(|last| at(*last)).collect()),
        };
        let sources = sources.iter().map(source).collect();
        let tcp = TcpAllow { ports: Ports::All, http: None };
        let entry = Arc::new(Entry::Policy(Policy { sources, tcp, udp }));
        Shared { key: Key::Policy(name(policy)), entry }
    }

    fn set(set: Vec<Shared>) -> Delta {
        Delta { set, removed: Vec::new() }
    }

    fn listed(ports: &[u16]) -> Ports {
        Ports::Listed(ports.to_vec())
    }

    /// From which of ten addresses the pod `dns` takes datagrams to a port.
    fn sources(admissions: &mut Admissions, port: u16) -> Vec<u8> {
        let admitted = admissions.of(&name("dns")).unwrap();
        (0..10).filter(|last| admitted.has(at(*last), port)).collect()
    }

    #[test]
    fn policies_let_in_the_addresses_of_the_accounts_that_they_name() {
        let mut admissions = Admissions::default();
        assert!(admissions.take(&set(vec![
            pod("dns", "dns", 1, Mode::Permissive, &["a", "b", "gone"]),
            pod("front-1", "front", 2, Mode::Permissive, &[]),
            pod("front-2", "front", 3, Mode::Strict, &[]),
            pod("back-1", "back", 4, Mode::Permissive, &[]),
            pod("back-2", "back", 5, Mode::Permissive, &[]),
            pod("outside", "front", 6, Mode::Outside, &[]),
            policy("a", &[("front", None)], listed(&[53])),
            // Who has the address, but is somebody else, is not meant.
            policy("b", &[("back", Some(&[5, 2, 9]))], listed(&[53, 5353])),
            policy("c", &[("back", None)], Ports::All),
        ])));
        assert_eq!(sources(&mut admissions, 53), [2, 3, 5]);
        assert_eq!(sources(&mut admissions, 5353), [5]);
        assert_eq!(sources(&mut admissions, 80), [0_u8; 0]);
        // A policy that comes lets in at once, on all ports here.
        admissions.take(&set(vec![policy("gone", &[("back", None)], Ports::All)]));
        assert_eq!(sources(&mut admissions, 80), [4, 5]);
        admissions.take(&Delta { set: Vec::new(), removed: vec![Key::Policy(name("gone"))] });
        assert_eq!(sources(&mut admissions, 80), [0_u8; 0]);
    }

    #[test]
    fn it_says_what_a_gate_says() {
        let policies = [
            policy("a", &[("front", None)], listed(&[53])),
            policy("b", &[("back", Some(&[4]))], Ports::All),
        ];
        let mut admissions = Admissions::default();
        admissions.take(&set(vec![
            pod("dns", "dns", 1, Mode::Strict, &["a", "b"]),
            pod("front", "front", 2, Mode::Permissive, &[]),
            pod("back-1", "back", 4, Mode::Permissive, &[]),
            pod("back-2", "back", 5, Mode::Permissive, &[]),
            policies[0].clone(),
            policies[1].clone(),
        ]));
        let gate = Gate::new(policies.iter().filter_map(|shared| super::policy(&shared.entry))).unwrap();
        let admitted = admissions.of(&name("dns")).unwrap();
        for last in 0..10 {
            let holder = admissions.holder(at(last)).map(str::to_owned);
            let peer = Peer { identity: holder.as_deref(), address: at(last) };
            for port in [53, 54] {
                let allowed = gate.connection(&peer, Transport::Udp, port) == Verdict::Allowed;
                assert_eq!(admitted.has(at(last), port), allowed, "{last} to {port}");
            }
        }
    }

    #[test]
    fn who_is_not_guarded_takes_what_comes_and_who_is_strict_takes_it_from_members() {
        let mut admissions = Admissions::default();
        admissions.take(&set(vec![
            pod("open", "open", 1, Mode::Permissive, &[]),
            pod("outside", "outside", 2, Mode::Outside, &["a"]),
            pod("dns", "dns", 3, Mode::Strict, &[]),
            // It is guarded, and nothing says by what: nobody is let in.
            pod("closed", "closed", 4, Mode::Permissive, &["a"]),
            pod("tcp", "tcp", 5, Mode::Permissive, &["tcp"]),
            policy("tcp", &[("open", None)], Ports::none()),
        ]));
        for open in ["open", "outside", "nobody"] {
            assert_eq!(admissions.of(&name(open)), None, "{open}");
        }
        assert_eq!(sources(&mut admissions, 9), [1, 3, 4, 5]);
        for closed in ["closed", "tcp"] {
            assert_eq!(admissions.of(&name(closed)).as_deref(), Some(&Admitted::default()), "{closed}");
        }
    }

    #[test]
    fn an_address_of_two_is_nobodys() {
        let mut admissions = Admissions::default();
        let entries = vec![
            pod("dns", "dns", 1, Mode::Permissive, &["a"]),
            pod("front-1", "front", 2, Mode::Permissive, &[]),
            pod("front-2", "front", 2, Mode::Permissive, &[]),
            policy("a", &[("front", None)], listed(&[53])),
        ];
        admissions.take(&set(entries));
        assert_eq!(sources(&mut admissions, 53), [2]);
        admissions.take(&set(vec![pod("other", "other", 2, Mode::Permissive, &[])]));
        assert_eq!(sources(&mut admissions, 53), [0_u8; 0]);
        assert_eq!(admissions.holder(at(2)), None);
        admissions.take(&Delta { set: Vec::new(), removed: vec![Key::Workload(name("other"))] });
        assert_eq!(sources(&mut admissions, 53), [2]);
    }

    #[test]
    fn what_changes_nothing_is_told_so() {
        let mut admissions = Admissions::default();
        let all = || {
            set(vec![
                pod("dns", "dns", 1, Mode::Permissive, &["a"]),
                pod("dns-2", "dns", 2, Mode::Strict, &["a"]),
                policy("a", &[("dns", None)], listed(&[53])),
            ])
        };
        assert!(admissions.take(&all()));
        let first = admissions.of(&name("dns")).unwrap();
        // Pods with the same policies share it.
        assert!(Arc::ptr_eq(&first, &admissions.of(&name("dns-2")).unwrap()));
        assert!(!admissions.take(&all()));
        assert!(!admissions.take(&set(vec![pod("far", "dns", 3, Mode::Outside, &[])])));
        assert!(Arc::ptr_eq(&first, &admissions.of(&name("dns")).unwrap()));
        // Another pod is a matter of addresses alone; another port is not.
        admissions.take(&set(vec![pod("dns-3", "dns", 3, Mode::Permissive, &[])]));
        let more = admissions.of(&name("dns")).unwrap();
        assert!(*more != *first && more.has_ports_of(&first));
        admissions.take(&set(vec![policy("a", &[("dns", None)], listed(&[53, 54]))]));
        assert!(!admissions.of(&name("dns")).unwrap().has_ports_of(&more));
        // Who leaves the mesh is nobody.
        admissions.take(&set(vec![pod("dns-3", "dns", 3, Mode::Outside, &[])]));
        assert_eq!(sources(&mut admissions, 54), [1, 2]);
    }
}
