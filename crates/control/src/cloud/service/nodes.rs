//! Nodes that come and go: all load balancers are led to those that there are.

use std::sync::Arc;
use std::time::Instant;

use client::cache::Name;
use cpi::contract::{Error, Node, Service};
use tokio::sync::Notify;

use super::{Controller, plan};

impl Controller<'_> {
    /// Leads load balancers to other nodes, one after the other, until it is dropped.
    pub(super) async fn follow_nodes(&self) {
        let news = Arc::new(Notify::new());
        let its = news.clone();
        self.context.nodes.listen(move |change| {
            if plan::is_nodes_news(change.old.as_deref(), change.new.as_deref()) {
                its.notify_one();
            }
        });
        loop {
            news.notified().await;
            let (began, services) = (Instant::now(), self.seen().services.clone());
            for (name, service) in services {
                if !self.lead(&name, &service).await {
                    self.context.metrics.nodes_not_synced();
                    self.queue.add(name);
                }
            }
            self.context.metrics.nodes_synced(began.elapsed().as_secs_f64());
        }
    }

    /// Leads one load balancer to the nodes that there are, if it leads to others; whether it does now.
    async fn lead(&self, name: &Name, service: &Service) -> bool {
        if !plan::wants(service) || plan::needs_cleanup(service) {
            return true;
        }
        let nodes = plan::led_to(&self.context.nodes.all());
        let known = plan::known_by(&nodes);
        // Noted first: what fails is led there by the look at the service.
        let before = self.seen().nodes.insert(name.clone(), known.clone());
        if before.is_some_and(|before| before == known) {
            return true;
        }
        let began = Instant::now();
        let updated = self.balancers.update_load_balancer(self.cluster(), service, &nodes).await;
        self.context.metrics.hosts_updated(began.elapsed().as_secs_f64());
        match updated {
            Ok(()) => {
                self.tell_led(service, &nodes).await;
                true
            }
            Err(Error::ImplementedElsewhere) => true,
            Err(error) => !self.is_there(service, &nodes, error).await,
        }
    }

    async fn tell_led(&self, service: &Service, nodes: &[Node]) {
        if nodes.is_empty() {
            let text = "There are no available nodes for LoadBalancer";
            self.events.warning(service, "UnAvailableLoadBalancer", text).await;
        } else {
            self.events.normal(service, "UpdatedLoadBalancer", "Updated load balancer with new hosts").await;
        }
    }

    /// Whether a load balancer that could not be led is there; what went wrong is told then.
    async fn is_there(&self, service: &Service, nodes: &[Node], error: Error) -> bool {
        // Not made yet, or gone already: the look at the service is about that.
        if matches!(self.balancers.get_load_balancer(self.cluster(), service).await, Ok(None)) {
            return false;
        }
        let text = format!(
            "Error updating load balancer with new hosts {} [node names limited, total number of nodes: {}], error: {error}",
            plan::named(nodes),
            nodes.len()
        );
        self.events.warning(service, "UpdateLoadBalancerFailed", text).await;
        true
    }
}
