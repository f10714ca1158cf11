use std::net::IpAddr;

use client::cache::Name;
use kernel::netlink::IpNet;
use kernel::nft::{Element, Value as Bytes};

use super::{
    ALLOWED, DROP, GUARDED, HAIRPIN, Kind, NEIGHBOURS, NODES, PODS, Pick, REJECT, REMOTE, SERVICES, of_family,
};
use crate::plan::{Answer, Front, Plan};

/// What an element leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// Nothing: it is of a set.
    Nothing,
    /// An address and a port.
    Target(Vec<u8>),
    /// A chain.
    Chain(String),
    /// Nothing: it is an interval, and this is its last key.
    Until(Vec<u8>),
}

/// An element that somebody holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) set: &'static str,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Value,
    /// Whose it is, for people.
    pub(crate) comment: Option<String>,
}

impl Held {
    fn new(set: &'static str, key: Bytes, value: Value) -> Self {
        Self { set, key: key.into_bytes(), value, comment: None }
    }

    fn interval(set: &'static str, first: Bytes, last: Bytes) -> Self {
        Self::new(set, first, Value::Until(last.into_bytes()))
    }

    /// As the kernel takes it; where it leads to a chain, that is said apart.
    pub(crate) fn element(&self) -> Element {
        let (key, comment) = (self.key.clone(), self.comment.clone());
        let (mut key_end, mut value) = (None, None);
        match &self.value {
            Value::Nothing | Value::Chain(_) => {}
            Value::Target(target) => value = Some(target.clone()),
            Value::Until(last) => key_end = Some(last.clone()),
        }
        Element { key, key_end, value, comment }
    }
}

/// The elements of a Service, and the chains that they lead to.
pub(crate) fn of_plan(name: &Name, plan: &Plan) -> (Vec<Held>, Vec<Pick>) {
    let (mut held, mut picks) = (Vec::new(), Vec::new());
    for (front, answer) in &plan.fronts {
        let kind = Kind::of(front);
        let chain = match answer {
            Answer::Reject => REJECT.to_owned(),
            Answer::Drop => DROP.to_owned(),
            Answer::Targets { targets, affinity } => {
                let number = u32::try_from(targets.len()).unwrap_or(u32::MAX);
                let pick = Pick { kind, targets: number, affinity: *affinity };
                picks.push(pick);
                for (target, number) in targets.iter().zip(0_u32..) {
                    let value = Bytes::new().address(target.ip()).port(target.port()).into_bytes();
                    let key = Kind::key(front).mark(number);
                    held.push(Held::new(kind.targets(), key, Value::Target(value)));
                    held.push(itself(target.ip()));
                }
                pick.name()
            }
        };
        let mut one = Held::new(kind.fronts(), Kind::key(front), Value::Chain(chain));
        one.comment = Some(name.to_string());
        held.push(one);
    }
    for address in &plan.remote {
        let set = of_family(REMOTE, address.is_ipv4());
        held.push(Held::new(set, Bytes::new().address(*address), Value::Nothing));
    }
    for (front, nets) in &plan.ranges {
        held.extend(guard(front, nets));
    }
    (held, picks)
}

fn itself(address: IpAddr) -> Held {
    let key = Bytes::new().address(address).address(address);
    Held::new(of_family(HAIRPIN, address.is_ipv4()), key, Value::Nothing)
}

fn guard<'a>(front: &'a Front, nets: &'a [IpNet]) -> impl Iterator<Item = Held> + 'a {
    let ipv4 = front.at.is_ipv4();
    let guarded = Held::new(of_family(GUARDED, ipv4), Kind::key(front), Value::Nothing);
    let key = |address| Kind::key(front).address(address);
    let allowed = nets.iter().map(move |net| {
        Held::interval(of_family(ALLOWED, ipv4), key(net.network().address()), key(net.last()))
    });
    std::iter::once(guarded).chain(allowed)
}

/// The elements that tell of the machine: networks of pods, and of Services, networks with the bridge that they are behind, and the
/// addresses with node ports, first and last of each range.
pub(crate) fn node_networks(
    pods: &[IpNet],
    services: &[IpNet],
    bridges: &[(String, IpNet)],
    nodes: &[(IpAddr, IpAddr)],
) -> Vec<Held> {
    let any = |ends: (IpAddr, IpAddr), sets| {
        let (first, last) =
            (Bytes::new().protocol(0).address(ends.0), Bytes::new().protocol(255).address(ends.1));
        Held::interval(of_family(sets, ends.0.is_ipv4()), first, last)
    };
    let ends = |net: &IpNet| (net.network().address(), net.last());
    let mut held: Vec<Held> = pods.iter().map(|net| any(ends(net), PODS)).collect();
    held.extend(services.iter().map(|net| any(ends(net), SERVICES)));
    held.extend(nodes.iter().map(|ends| any(*ends, NODES)));
    held.extend(bridges.iter().map(|(link, net)| {
        let key = |address| Bytes::new().ifname(link).address(address);
        let set = of_family(NEIGHBOURS, net.is_ipv4());
        Held::interval(set, key(net.network().address()), key(net.last()))
    }));
    held
}
