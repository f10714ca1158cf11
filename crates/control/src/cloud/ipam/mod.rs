//! Ranges of addresses for nodes' pods: each node gets its own part of the cluster's, once.

mod ranges;
#[cfg(test)]
mod situations;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use client::cache::{Change, Name};
use client::events::Events;
use client::queue::{Next, Queue};
use cpi::contract::Cidr;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::{Context, Failed, Metrics, pod_cidrs};
use ranges::Ranges;

/// So many nodes are looked at at the same time.
const WORKERS: usize = 30;

/// How large a node's part of the cluster's ranges is, by the bits that all its addresses have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masks {
    /// Of IPv4.
    pub v4: u8,
    /// Of IPv6.
    pub v6: u8,
}

impl Default for Masks {
    fn default() -> Self {
        Self { v4: 24, v6: 64 }
    }
}

/// What is given out: parts of each range. Whoever uses some is noted once, and gives back what was noted, so that nothing is freed that
/// another uses, too: a part may be that of several nodes, or one of theirs larger than it, where masks or ranges were others before.
#[derive(Debug)]
struct Given {
    ranges: Vec<Ranges>,
    /// What nodes have, by their uids.
    had: BTreeMap<String, Vec<Cidr>>,
    /// What they were given of which it is not yet known that they have it.
    meant: BTreeMap<String, Vec<Cidr>>,
}

impl Given {
    fn new(clusters: &[Cidr], services: &[Cidr], masks: Masks) -> Result<Self, String> {
        if clusters.is_empty() {
            return Err("cannot give nodes their ranges: --allocate-node-cidrs needs --cluster-cidr".into());
        }
        let length = |range: &Cidr| if range.is_v6() { masks.v6 } else { masks.v4 };
        let ranges =
            clusters.iter().map(|range| Ranges::new(*range, length(range))).collect::<Result<_, _>>()?;
        let mut given = Self { ranges, had: BTreeMap::new(), meant: BTreeMap::new() };
        services.iter().for_each(|range| given.occupy(range));
        Ok(given)
    }

    fn occupy(&mut self, range: &Cidr) {
        self.ranges.iter_mut().filter(|ranges| ranges.is_like(range)).for_each(|ranges| ranges.occupy(range));
    }

    /// Notes what a node has; what of that is none of the cluster's ranges.
    fn has(&mut self, node: &Node) -> Vec<String> {
        let (mut has, mut foreign) = (Vec::new(), Vec::new());
        for text in pod_cidrs(node) {
            let range = text.parse::<Cidr>();
            if !range.as_ref().is_ok_and(|range| self.ranges.iter().any(|ranges| ranges.covers(range))) {
                foreign.push(text.clone());
            }
            has.extend(range);
        }
        // Noted before anything is given back: that may be the same.
        has.iter().for_each(|range| self.occupy(range));
        self.gone(node);
        self.had.insert(uid(node), has);
        foreign
    }

    fn release(&mut self, range: &Cidr) {
        self.ranges
            .iter_mut()
            .filter(|ranges| ranges.is_like(range))
            .for_each(|ranges| ranges.release(range));
    }

    /// What a node is to have: what it was meant to have already, or a free part of each range. `None` where there is none.
    fn take(&mut self, node: &Node) -> Option<Vec<Cidr>> {
        if let Some(meant) = self.meant.get(&uid(node)) {
            return Some(meant.clone());
        }
        let taken: Vec<Option<Cidr>> = self.ranges.iter_mut().map(Ranges::take).collect();
        let whole: Option<Vec<Cidr>> = taken.iter().copied().collect();
        match &whole {
            Some(all) => drop(self.meant.insert(uid(node), all.clone())),
            None => taken.iter().flatten().for_each(|range| self.release(range)),
        }
        whole
    }

    /// Tells how much of each range is in use.
    fn count(&self, metrics: &Metrics) {
        for (range, parts) in self.ranges.iter().map(Ranges::counted) {
            metrics.parts_are(range, parts);
        }
    }

    /// A node is gone: what is noted of it is given back.
    fn gone(&mut self, node: &Node) {
        let noted = [self.had.remove(&uid(node)), self.meant.remove(&uid(node))];
        noted.iter().flatten().flatten().for_each(|range| self.release(range));
    }
}

fn uid(node: &Node) -> String {
    node.metadata.uid.clone().unwrap_or_default()
}

/// The controller.
pub(super) struct Ipam {
    context: Arc<Context>,
    given: Arc<Mutex<Given>>,
    queue: Arc<Queue<String>>,
    events: Events,
}

fn lock(given: &Mutex<Given>) -> MutexGuard<'_, Given> {
    given.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ipam {
    /// With what nodes have already, as the cache that is filled knows them; `None` where nodes get no ranges here.
    pub(super) fn new(context: Arc<Context>) -> Result<Option<Self>, String> {
        let setup = &context.setup;
        let Some(masks) = setup.masks.filter(|_| setup.controllers.ipam) else { return Ok(None) };
        let given = Given::new(&setup.cluster_cidrs, &setup.service_cidrs, masks)?;
        given.count(&context.metrics);
        let queue = Queue::new(super::of_client_go(WORKERS));
        let events = context.events("cidrAllocator");
        let it = Self { context, given: Arc::new(Mutex::new(given)), queue, events };
        it.listen();
        Ok(Some(it))
    }

    /// Notes what nodes have, all of them now: that is not read apart from listening, so none goes unseen in between.
    fn listen(&self) {
        let (queue, given) = (self.queue.clone(), self.given.clone());
        let (nodes, metrics) = (Arc::downgrade(&self.context.nodes), self.context.metrics.clone());
        self.context.nodes.listen(move |change: &Change<Node>| match &change.new {
            None => {
                let mut given = lock(&given);
                given.gone(change.object());
                given.count(&metrics);
                drop(given);
                // Who has waited for a part that is free need not wait longer.
                let nodes = nodes.upgrade().map(|nodes| nodes.find(|node| pod_cidrs(node).is_empty()));
                queue.add_all(nodes.iter().flatten().map(|node| node.name_any()));
            }
            Some(node) if pod_cidrs(node).is_empty() => queue.add(node.name_any()),
            // What a node has never changes, and is noted.
            Some(_) if change.old.as_ref().is_some_and(|old| !pod_cidrs(old).is_empty()) => {}
            Some(node) => {
                let mut given = lock(&given);
                let foreign = given.has(node);
                given.count(&metrics);
                drop(given);
                for foreign in foreign {
                    let name = node.name_any();
                    eprintln!(
                        "sextant control: warning: node {name} has range {foreign}, which is none of --cluster-cidr"
                    );
                }
            }
        });
    }

    /// Works until it is dropped.
    pub(super) async fn run(&self) {
        let queue = self.queue.clone();
        let looking = queue
            .run(|name| async move { super::told("give a range to node", &name, self.look(&name).await) });
        looking.await;
    }

    /// A node that is to get ranges, and those that it is to get. Both are read at once: of a node that goes afterwards it is told
    /// afterwards, too, and it gives back what it was meant to have.
    fn take(&self, name: &str) -> Option<(Arc<Node>, Option<Vec<Cidr>>)> {
        let mut given = lock(&self.given);
        let node = self.context.nodes.get(&Name::global(name)).filter(|node| pod_cidrs(node).is_empty())?;
        let ranges = given.take(&node);
        given.count(&self.context.metrics);
        Some((node, ranges))
    }

    async fn look(&self, name: &str) -> Result<Next, Failed> {
        let Some((node, taken)) = self.take(name) else { return Ok(Next::Done) };
        let Some(ranges) = taken else {
            self.tell(&node, "CIDRNotAvailable").await;
            return Err(Failed::Cloud("all parts of --cluster-cidr are in use".into()));
        };
        let all: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        // What a node has never changes; so it gets it only as it is known here.
        let metadata = json!({"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version});
        let patch =
            Patch::Merge(json!({"metadata": metadata, "spec": {"podCIDR": all.first(), "podCIDRs": all}}));
        let api: Api<Node> = Api::all(self.context.client.clone());
        match api.patch(name, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(Next::Done),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                // It has changed, which comes, or is gone, which gives back what it was meant to have.
                Ok(Next::Again)
            }
            Err(error) => {
                self.tell(&node, "CIDRAssignmentFailed").await;
                Err(error.into())
            }
        }
    }

    async fn tell(&self, node: &Node, reason: &str) {
        let text = format!("Node {} status is now: {reason}", node.name_any());
        self.events.normal(node, reason, text).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, ranges: &[&str]) -> Node {
        let spec = json!({"podCIDRs": ranges, "podCIDR": ranges.first()});
        serde_json::from_value(json!({"metadata": {"name": name, "uid": name}, "spec": spec})).unwrap()
    }

    fn given(clusters: &[&str], services: &[&str], v4: u8) -> Given {
        let read = |all: &[&str]| all.iter().map(|text| text.parse().unwrap()).collect::<Vec<Cidr>>();
        Given::new(&read(clusters), &read(services), Masks { v4, v6: 64 }).unwrap()
    }

    fn taken(given: &mut Given, name: &str) -> Vec<String> {
        given.take(&node(name, &[])).iter().flatten().map(ToString::to_string).collect()
    }

    #[test]
    fn a_node_is_meant_to_have_the_same_until_it_has_it() {
        let mut given = given(&["10.0.0.0/22"], &["10.0.0.0/24"], 24);
        assert_eq!(taken(&mut given, "a"), ["10.0.1.0/24"], "the first is the services'");
        assert_eq!(taken(&mut given, "a"), ["10.0.1.0/24"], "an answer was lost");
        given.has(&node("a", &["10.0.1.0/24"]));
        assert_eq!(taken(&mut given, "b"), ["10.0.2.0/24"]);
        assert_eq!(taken(&mut given, "c"), ["10.0.3.0/24"]);
        assert_eq!(taken(&mut given, "d"), Vec::<String>::new(), "none is left");
        given.gone(&node("a", &["10.0.1.0/24"]));
        assert_eq!(taken(&mut given, "d"), ["10.0.1.0/24"]);
        // It went before it had what it was meant to have.
        given.gone(&node("b", &[]));
        assert_eq!(taken(&mut given, "e"), ["10.0.2.0/24"]);
    }

    #[test]
    fn both_families_or_none() {
        let mut given = given(&["10.0.0.0/23", "fd00::/64"], &[], 24);
        assert_eq!(taken(&mut given, "a"), ["10.0.0.0/24", "fd00::/64"]);
        assert_eq!(taken(&mut given, "b"), Vec::<String>::new(), "there is no second of IPv6");
        given.gone(&node("a", &["10.0.0.0/24", "fd00::/64"]));
        assert_eq!(taken(&mut given, "b").len(), 2, "what was taken of IPv4 was given back");
    }

    #[test]
    fn what_somebody_else_gave_counts() {
        let mut given = given(&["10.0.0.0/22"], &[], 24);
        assert_eq!(taken(&mut given, "a"), ["10.0.0.0/24"]);
        assert!(given.has(&node("a", &["10.0.1.0/24"])).is_empty());
        assert_eq!(given.has(&node("f", &["192.168.0.0/24", "x"])), ["192.168.0.0/24", "x"]);
        let left: Vec<String> = ["b", "c", "d"].iter().flat_map(|name| taken(&mut given, name)).collect();
        assert_eq!(left, ["10.0.2.0/24", "10.0.3.0/24", "10.0.0.0/24"]);
        assert_eq!(taken(&mut given, "g"), Vec::<String>::new());
    }

    /// Of those that go, one has a part of the service's, one a range larger than the cluster's, one what two nodes have, and one parts
    /// of another size.
    #[test]
    fn what_one_gives_back_others_keep() {
        let mut given = given(&["10.0.0.0/22"], &["10.0.0.0/24"], 24);
        for (name, range) in [
            ("old", "10.0.0.128/25"),
            ("twin", "10.0.1.0/24"),
            ("other", "10.0.1.0/24"),
            ("half", "10.0.2.0/25"),
        ] {
            assert!(given.has(&node(name, &[range])).is_empty());
            given.has(&node(name, &[range]));
        }
        assert_eq!(given.has(&node("large", &["10.0.0.0/16"])), ["10.0.0.0/16"]);
        assert_eq!(taken(&mut given, "a"), Vec::<String>::new(), "a larger range has all of them");
        given.gone(&node("large", &["10.0.0.0/16"]));
        assert_eq!(taken(&mut given, "a"), ["10.0.3.0/24"], "the others have theirs still");
        for name in ["old", "twin"] {
            given.gone(&node(name, &[]));
        }
        assert_eq!(taken(&mut given, "b"), Vec::<String>::new(), "of the service's, and of the other");
        given.has(&node("rest", &["10.0.2.128/25"]));
        given.gone(&node("half", &[]));
        given.gone(&node("half", &[]));
        assert_eq!(taken(&mut given, "b"), Vec::<String>::new(), "half of it is in use");
        given.gone(&node("rest", &[]));
        assert_eq!(taken(&mut given, "b"), ["10.0.2.0/24"]);
        given.gone(&node("other", &[]));
        assert_eq!(taken(&mut given, "c"), ["10.0.1.0/24"]);
    }

    #[test]
    fn without_a_range_of_the_cluster_there_is_nothing_to_give() {
        assert!(Given::new(&[], &[], Masks::default()).unwrap_err().contains("--cluster-cidr"));
    }
}
