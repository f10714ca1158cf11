//! Pods as the data path asks for them: who is at an address, and who may come to it.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use smi::contract::Name;
use smi::gate::{Gate, Peer, Verdict};
use smi::model::{Entry, Kept, Key, Mode, Policy, Transport, Workload};

/// A pod.
#[derive(Debug)]
pub struct Member {
    pub(super) identity: Arc<str>,
    pub(super) mode: Mode,
    addresses: Vec<IpAddr>,
    /// Where a policy guards it.
    gate: Option<Arc<Gate>>,
}

impl Member {
    /// Whether a policy guards it.
    pub(super) fn is_guarded(&self) -> bool {
        self.gate.is_some()
    }

    /// Whether an address is its own.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// What becomes of a connection to one of its ports.
    pub(super) fn connection(&self, peer: &Peer<'_>, port: u16) -> Verdict {
        match (self.mode, &self.gate) {
            // Outside the mesh nobody stands before it.
            (Mode::Outside, _) => Verdict::Allowed,
            (Mode::Strict, _) if peer.identity.is_none() => Verdict::Refused,
            (_, Some(gate)) => gate.connection(peer, Transport::Tcp, port),
            (_, None) => Verdict::Allowed,
        }
    }

    /// Whether a request may be made over such a connection.
    pub(super) fn request(&self, peer: &Peer<'_>, port: u16, head: &impl smi::matching::Head) -> bool {
        match (self.mode, &self.gate) {
            (Mode::Outside, _) => true,
            (Mode::Strict, _) if peer.identity.is_none() => false,
            (_, Some(gate)) => gate.request(peer, port, head),
            (_, None) => true,
        }
    }
}

/// All pods that are known.
#[derive(Debug, Default)]
pub(super) struct Members {
    names: HashMap<Name, Arc<Member>>,
    addresses: HashMap<IpAddr, Arc<Member>>,
}

impl Members {
    pub(super) fn by_name(&self, name: &Name) -> Option<&Arc<Member>> {
        self.names.get(name)
    }

    pub(super) fn by_address(&self, address: IpAddr) -> Option<&Arc<Member>> {
        self.addresses.get(&address)
    }
}

/// Makes them of a model that changes. Gates are compiled when one of their policies changes, and shared by all pods that have the same.
#[derive(Debug, Default)]
pub(super) struct Workloads {
    pods: HashMap<Name, Kept>,
    policies: HashMap<Name, Kept>,
    gates: HashMap<Vec<Name>, Arc<Gate>>,
    /// What was made last, unless something has changed since.
    made: Option<Arc<Members>>,
}

impl Workloads {
    pub(super) fn put(&mut self, name: &Name, workload: Kept) {
        self.pods.insert(name.clone(), workload);
        self.made = None;
    }

    pub(super) fn put_policy(&mut self, name: &Name, policy: Kept) {
        self.policies.insert(name.clone(), policy);
        self.forget(name);
    }

    pub(super) fn remove(&mut self, key: &Key) {
        match key {
            Key::Workload(name) => {
                self.pods.remove(name);
                self.made = None;
            }
            Key::Policy(name) => {
                self.policies.remove(name);
                self.forget(name);
            }
            _ => {}
        }
    }

    /// A policy is another now.
    fn forget(&mut self, policy: &Name) {
        self.gates.retain(|policies, _| !policies.contains(policy));
        self.made = None;
    }

    /// What holds now.
    pub(super) fn members(&mut self) -> Arc<Members> {
        if let Some(made) = &self.made {
            return made.clone();
        }
        let mut members = Members::default();
        let mut used: BTreeSet<&[Name]> = BTreeSet::new();
        for (name, kept) in &self.pods {
            let Entry::Workload(workload) = &**kept else { continue };
            let gate = gate(workload, &self.policies, &mut self.gates);
            if gate.is_some() {
                used.insert(&workload.policies);
            }
            let member = Arc::new(Member {
                identity: workload.identity.as_str().into(),
                mode: workload.mode,
                addresses: workload.addresses.clone(),
                gate,
            });
            for address in &workload.addresses {
                // Of two that claim an address, as one that ends and one that begins, a member counts: it is never asked in plain text.
                let there = members.addresses.entry(*address).or_insert_with(|| member.clone());
                if there.mode == Mode::Outside {
                    *there = member.clone();
                }
            }
            members.names.insert(name.clone(), member);
        }
        self.gates.retain(|policies, _| used.contains(policies.as_slice()));
        let members = Arc::new(members);
        self.made = Some(members.clone());
        members
    }
}

/// What guards a pod; none where no policy does.
fn gate(
    workload: &Workload,
    policies: &HashMap<Name, Kept>,
    gates: &mut HashMap<Vec<Name>, Arc<Gate>>,
) -> Option<Arc<Gate>> {
    if workload.policies.is_empty() || workload.mode == Mode::Outside {
        return None;
    }
    if let Some(gate) = gates.get(&workload.policies) {
        return Some(gate.clone());
    }
    let compiled = Gate::new(workload.policies.iter().filter_map(|name| known(policies, name)));
    // What cannot be compiled allows nothing.
    let gate = compiled.or_else(|_| Gate::new([])).ok().map(Arc::new)?;
    gates.insert(workload.policies.clone(), gate.clone());
    Some(gate)
}

fn known<'p>(policies: &'p HashMap<Name, Kept>, name: &Name) -> Option<&'p Policy> {
    match &**policies.get(name)? {
        Entry::Policy(policy) => Some(policy),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use smi::model::{Ports, Principal, TcpAllow};

    use super::*;

    const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
    const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";

    fn pod(last: u8, mode: Mode, policies: &[&str]) -> Kept {
        let policies = policies.iter().map(|name| Name::new("shop", *name)).collect();
        let addresses = vec![IpAddr::from([10, 0, 0, last])];
        Arc::new(Entry::Workload(Workload { addresses, node: None, identity: WEB.into(), mode, policies }))
    }

    fn policy(port: u16) -> Kept {
        let sources = vec![Principal { identity: CLIENT.into(), addresses: None }];
        let tcp = TcpAllow { ports: Ports::Listed(vec![port]), http: None };
        Arc::new(Entry::Policy(Policy { sources, tcp, udp: Ports::none() }))
    }

    fn verdict(members: &Members, identity: Option<&str>, port: u16) -> Verdict {
        let peer = Peer { identity, address: IpAddr::from([10, 0, 0, 9]) };
        members.by_name(&Name::new("shop", "web")).unwrap().connection(&peer, port)
    }

    #[test]
    fn modes_and_policies_say_who_may_come() {
        let name = Name::new("shop", "web");
        let mut workloads = Workloads::default();
        for (mode, plain, proved) in [
            (Mode::Outside, Verdict::Allowed, Verdict::Allowed),
            (Mode::Permissive, Verdict::Allowed, Verdict::Allowed),
            (Mode::Strict, Verdict::Refused, Verdict::Allowed),
        ] {
            workloads.put(&name, pod(1, mode, &[]));
            let members = workloads.members();
            assert_eq!(verdict(&members, None, 80), plain, "{mode:?}");
            assert_eq!(verdict(&members, Some(CLIENT), 80), proved, "{mode:?}");
        }
        // A policy that is named and not there closes, and one that comes opens what it says.
        workloads.put(&name, pod(1, Mode::Permissive, &["a"]));
        let closed = workloads.members();
        assert_eq!(verdict(&closed, Some(CLIENT), 80), Verdict::Refused);
        workloads.put_policy(&Name::new("shop", "a"), policy(80));
        let members = workloads.members();
        assert_eq!(verdict(&members, Some(CLIENT), 80), Verdict::Allowed);
        assert_eq!(verdict(&members, Some(CLIENT), 81), Verdict::Refused);
        assert_eq!(verdict(&members, Some(WEB), 80), Verdict::Refused);
        assert_eq!(verdict(&members, None, 80), Verdict::Refused);
        assert!(Arc::ptr_eq(&members, &workloads.members()), "nothing has changed");
        // And with another port.
        workloads.put_policy(&Name::new("shop", "a"), policy(81));
        assert_eq!(verdict(&workloads.members(), Some(CLIENT), 81), Verdict::Allowed);
        workloads.remove(&Key::Policy(Name::new("shop", "a")));
        assert_eq!(verdict(&workloads.members(), Some(CLIENT), 81), Verdict::Refused);
        workloads.remove(&Key::Workload(name));
        assert!(workloads.members().by_address(IpAddr::from([10, 0, 0, 1])).is_none());
        assert!(workloads.gates.is_empty());
    }

    #[test]
    fn of_two_at_one_address_the_member_is_there() {
        for names in [["a", "b"], ["b", "a"]] {
            let mut workloads = Workloads::default();
            workloads.put(&Name::new("shop", names[0]), pod(1, Mode::Outside, &[]));
            workloads.put(&Name::new("shop", names[1]), pod(1, Mode::Strict, &[]));
            let members = workloads.members();
            assert_eq!(members.by_address(IpAddr::from([10, 0, 0, 1])).unwrap().mode, Mode::Strict);
        }
    }
}
