//! What is to be answered for: of what Services, nodes and the provider's file say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use announce::{Claim, Links, Wanted};
use client::cache::Name;
use metal::{NodeRoutes, Pool};
use services::balancers::{Book, Nodes, balancer, takes_part};
use services::world::World;

use super::Changed;
use super::file::ConfigFile;
use super::nodes::Nodes as All;

/// All that is known of it.
#[derive(Debug)]
pub(super) struct Wishes {
    command: &'static str,
    node: String,
    file: ConfigFile,
    book: Book,
    /// The cluster's nodes.
    all: Nodes,
    /// Those of them that may have addresses.
    taking_part: Nodes,
    /// Whether it was told that this node takes no part.
    told: bool,
}

impl Wishes {
    /// Nothing yet, for `command` on a node.
    pub(super) fn new(command: &'static str, node: String, file: ConfigFile) -> Self {
        let (all, taking_part) = Default::default();
        Self { command, node, file, book: Book::default(), all, taking_part, told: false }
    }

    /// Looks at the file; whether something else may be wanted now.
    pub(super) fn look_at_file(&mut self) -> bool {
        self.file.has_changed(self.command)
    }

    /// Which routes are to lead to the pods of other nodes.
    pub(super) fn node_routes(&self) -> &NodeRoutes {
        &self.file.config().node_routes
    }

    /// Looks at what has changed; whether something else may be wanted now.
    pub(super) fn look(&mut self, world: &World, changed: &Changed, nodes: &All) -> bool {
        let mut is_other = false;
        if changed.nodes {
            let (mut all, mut taking_part) = (BTreeSet::new(), BTreeSet::new());
            nodes.each(|node| {
                let name = node.name.clone().unwrap_or_default();
                if takes_part(node) {
                    taking_part.insert(name.clone());
                }
                all.insert(name);
            });
            is_other |= self.enter_nodes(all, taking_part);
        }
        let known = world.read();
        for name in &changed.services {
            let found = known.service(name).and_then(|service| balancer(service, known.slices_of(name)));
            is_other |= self.book.enter(name, found);
        }
        is_other
    }

    fn enter_nodes(&mut self, all: BTreeSet<String>, taking_part: BTreeSet<String>) -> bool {
        let is_other = all != *self.all || taking_part != *self.taking_part;
        (self.all, self.taking_part) = (all.into(), taking_part.into());
        is_other
    }

    /// What is wanted of the node, with the addresses that the file has.
    pub(super) fn wanted(&mut self) -> Wanted {
        self.tell_whether_it_takes_part();
        let config = self.file.config();
        let links: BTreeMap<&str, Arc<Links>> =
            config.pools.iter().map(|pool| (pool.name.as_str(), Arc::new(links(pool)))).collect();
        let links_of = |address| links.get(config.pool_of(address)?.name.as_str()).cloned();
        let of_pools = self
            .book
            .addresses(&self.taking_part)
            .filter_map(|(address, nodes)| Some((address, Claim { nodes, links: links_of(address)? })));
        // The ends of a range are the farthest apart.
        let ends =
            config.pools.iter().flat_map(|pool| &pool.addresses).flat_map(|all| [all.first(), all.last()]);
        let expected = ends.filter_map(|address| Some((address, links_of(address)?)));
        Wanted { nodes: self.all.clone(), addresses: of_pools.collect(), expected: expected.collect() }
    }

    fn tell_whether_it_takes_part(&mut self) {
        let is_out = !self.file.config().pools.is_empty() && !self.taking_part.contains(&self.node);
        if is_out != self.told {
            let (command, node) = (self.command, &self.node);
            match is_out {
                true => eprintln!(
                    "sextant {command}: no address is answered for here while node {node} is no object of the API, goes, \
                     or is excluded from load balancers"
                ),
                false => eprintln!("sextant {command}: addresses may be answered for here, by node {node}"),
            }
            self.told = is_out;
        }
    }

    /// The addresses at which another proxy has a Service: which ports there are is not known here alone.
    pub(super) fn of_others(&self) -> BTreeSet<IpAddr> {
        self.book.of_others()
    }

    /// The Services that have an address.
    pub(super) fn at(&self, address: IpAddr) -> Vec<Name> {
        self.book.at(address).cloned().collect()
    }

    /// The Services whose addresses are answered for on a link, or could be.
    pub(super) fn on(&self, link: &str) -> BTreeSet<Name> {
        let addresses = self.book.addresses(&self.taking_part).filter(|(address, nodes)| {
            let pool = self.file.config().pool_of(*address);
            let is_there = |pool: &Pool| pool.links.is_empty() || pool.links.iter().any(|one| one == link);
            nodes.contains(&self.node) && pool.is_some_and(is_there)
        });
        addresses.flat_map(|(address, _)| self.at(address)).collect()
    }

    /// The pool that has an address.
    pub(super) fn pool_of(&self, address: IpAddr) -> String {
        self.file.config().pool_of(address).map(|pool| pool.name.clone()).unwrap_or_default()
    }

    /// Whether no other node may have an address.
    pub(super) fn is_only_here(&self, address: IpAddr) -> bool {
        self.book.nodes_of(address, &self.taking_part).is_some_and(|nodes| nodes.len() == 1)
    }
}

fn links(pool: &Pool) -> Links {
    match pool.links.as_slice() {
        [] => Links::Fitting,
        names => Links::Named(names.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use client::cache::Change;
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_of_pools_are_wanted_on_their_links_by_nodes_that_take_part() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cloud.yaml");
        let pools = "pools: [{name: a, addresses: [192.0.2.7-192.0.2.9], links: [e1]}, {name: b, addresses: ['2001:db8::/64']}]";
        std::fs::write(&path, pools).unwrap();
        let mut wishes = Wishes::new("test", "node-1".into(), ConfigFile::open(&path).unwrap());
        let set = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        // The second is excluded.
        let enter = |wishes: &mut Wishes| wishes.enter_nodes(set(&["node-1", "node-2"]), set(&["node-1"]));
        assert!(enter(&mut wishes) && !enter(&mut wishes) && !wishes.node_routes().are_wanted());
        let ingress = ["192.0.2.7", "192.0.2.10", "2001:db8::1"].map(|ip| json!({"ip": ip}));
        let service = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"type": "LoadBalancer"},
            "status": {"loadBalancer": {"ingress": ingress}}});
        let world = World::default();
        let new = Some(Arc::new(serde_json::from_value(service).unwrap()));
        let name = world.write().enter_service(&Change { old: None, new });
        let found = world.read().service(&name).and_then(|service| balancer(service, []));
        assert!(wishes.book.enter(&name, found));

        let wanted = wishes.wanted();
        assert_eq!(*wanted.nodes, set(&["node-1", "node-2"]));
        let (four, six) = ("192.0.2.7".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let claims: Vec<_> =
            wanted.addresses.iter().map(|(address, claim)| (*address, &*claim.links)).collect();
        assert_eq!(claims, [(four, &Links::Named(vec!["e1".into()])), (six, &Links::Fitting)]);
        assert!(wanted.addresses.values().all(|claim| *claim.nodes == set(&["node-1"])));
        // The ends of both, but for the first of the /64, which no service gets.
        assert_eq!(wanted.expected.len(), 3);
        assert_eq!((wishes.pool_of(four), wishes.is_only_here(four)), ("a".to_owned(), true));
        // On that link could be those of the second pool, too.
        assert_eq!(wishes.on("e0").len(), 1);
    }
}
