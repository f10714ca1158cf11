//! Nodes that come and go: all load balancers are led to those that there are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use client::cache::Name;
use client::queue::Queue;
use cpi::contract::{CloudProvider, Error, Node, Service};

use super::{Controller, Failed, Known, Led, lock, plan};

/// Services that nodes' news are for, and have not been looked at since.
#[derive(Debug, Default)]
pub(super) struct Round {
    began: Option<Instant>,
    left: BTreeSet<Name>,
}

impl Controller<'_> {
    /// Has every service that was looked at looked at again when other nodes are there. What is not known yet reads them anyway.
    pub(super) fn follow_nodes(&self, queue: &Arc<Queue<Name>>, provider: &Arc<dyn CloudProvider>) {
        let (queue, seen, provider) = (queue.clone(), self.seen.clone(), provider.clone());
        // Of one that is known to be led the provider has said so; of one that fails or is being made it is asked.
        let follows = move |service: &Service, led: Option<bool>| {
            let asked =
                || provider.load_balancers().is_some_and(|balancers| balancers.follows_nodes(service));
            led.unwrap_or_else(asked)
        };
        self.context.nodes.listen(move |change| {
            let (old, new) = (change.old.as_deref(), change.new.as_deref());
            let is_of_all = plan::is_nodes_news(old, new);
            if !is_of_all && !plan::is_addresses_news(old, new) {
                return;
            }
            let known = |(name, known): (&Name, &Known)| {
                (name.clone(), known.service.clone(), known.led.as_ref().map(|led| led.is_of_nodes))
            };
            let all: Vec<_> = lock(&seen).services.iter().map(known).collect();
            // Without the lock: a provider may look at services.
            let names = all.into_iter().filter(|(_, service, led)| is_of_all || follows(service, *led));
            let names: Vec<Name> = names.map(|(name, ..)| name).collect();
            let mut seen = lock(&seen);
            if !names.is_empty() {
                seen.round.began.get_or_insert_with(Instant::now);
            }
            seen.round.left.extend(names.iter().cloned());
            queue.add_all(names);
        });
    }

    /// Has services looked at again for which the provider may do something else now: those whose load balancers failed, where it
    /// says so, and those that come to be of the nodes' addresses, or come to be not.
    pub(super) async fn follow_provider(&self, queue: &Queue<Name>, provider: &dyn CloudProvider) {
        let mut seen = provider.revision();
        loop {
            tokio::time::sleep(self.context.setup.node_monitor).await;
            let revision = provider.revision();
            let has_changed = std::mem::replace(&mut seen, revision) != revision;
            let known = |(name, known): (&Name, &Known)| {
                (name.clone(), known.service.clone(), known.led.as_ref().map(|led| led.is_of_nodes))
            };
            let all: Vec<_> = self.seen().services.iter().map(known).collect();
            // Without the lock: a provider may look at services.
            let is_due = |service: &Service, led: Option<bool>| {
                led.map_or(has_changed, |was| was != self.balancers.follows_nodes(service))
            };
            let due = all.into_iter().filter(|(_, service, led)| is_due(service, *led));
            queue.add_all(due.map(|(name, ..)| name));
        }
    }

    /// Nodes as a load balancer knows them apart.
    pub(super) fn known_by(&self, nodes: &[Node], is_of_nodes: bool) -> Led {
        let mut known = plan::known_by(nodes);
        if is_of_nodes {
            for node in nodes {
                let name = node.metadata.name.clone().unwrap_or_default();
                known.entry(name).or_default().push_str(&plan::addresses(node));
            }
        }
        Led { is_of_nodes, nodes: known }
    }

    /// A service was looked at; the last of a round ends it.
    pub(super) fn led(&self, name: &Name) {
        let mut seen = self.seen();
        if seen.round.left.remove(name)
            && seen.round.left.is_empty()
            && let Some(began) = seen.round.began.take()
        {
            self.context.metrics.nodes_synced(began.elapsed().as_secs_f64());
        }
    }

    /// Leads a load balancer, which is else as it is wanted, to the nodes that there are, if it leads to others. Where that fails it is
    /// made as wanted the next time.
    pub(super) async fn lead(&self, name: &Name, service: &Service, led: &Led) -> Result<(), Failed> {
        let nodes = plan::led_to(&self.context.nodes.all());
        let known = self.known_by(&nodes, led.is_of_nodes);
        if known == *led {
            return Ok(());
        }
        let began = Instant::now();
        let updated = self.balancers.update_load_balancer(self.cluster(), service, &nodes).await;
        self.context.metrics.hosts_updated(began.elapsed().as_secs_f64());
        match updated {
            Ok(()) => self.tell_led(service, &nodes).await,
            Err(Error::ImplementedElsewhere) => {}
            Err(error) => {
                self.context.metrics.nodes_not_synced();
                self.note(name, None);
                self.tell_not_led(service, &nodes, &error).await;
                return Err(Failed::of("failed to update load balancer with new hosts", error));
            }
        }
        self.note(name, Some(known));
        Ok(())
    }

    async fn tell_led(&self, service: &Service, nodes: &[Node]) {
        if nodes.is_empty() {
            self.tell_of_none(service).await;
        } else {
            self.events.normal(service, "UpdatedLoadBalancer", "Updated load balancer with new hosts").await;
        }
    }

    pub(super) async fn tell_of_none(&self, service: &Service) {
        let text = "There are no available nodes for LoadBalancer";
        self.events.warning(service, "UnAvailableLoadBalancer", text).await;
    }

    /// Tells that a load balancer could not be led, if it is there: else it is about to be made.
    async fn tell_not_led(&self, service: &Service, nodes: &[Node], error: &Error) {
        if matches!(self.balancers.get_load_balancer(self.cluster(), service).await, Ok(None)) {
            return;
        }
        let text = format!(
            "Error updating load balancer with new hosts {} [node names limited, total number of nodes: {}], error: {error}",
            plan::named(nodes),
            nodes.len()
        );
        self.events.warning(service, "UpdateLoadBalancerFailed", text).await;
    }
}
