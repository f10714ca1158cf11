//! What tests of this controller work with: a provider that says what it is told, and services.

use std::sync::{Arc, Mutex};

use client::cache::{Cache, Name};
use cpi::contract::{Answer, CloudProvider, Error, LoadBalancerStatus, LoadBalancers, Node, Service};
use serde_json::{Value, json};

use super::super::super::tests::stand::{SHOP, Server};
use super::super::{COMPONENT, Controller, Known, Led, View, plan};

/// A provider that says this of every load balancer.
#[derive(Default)]
pub(super) struct Cloud {
    /// Whether it is there.
    pub(super) exists: bool,
    /// What comes of each call that makes, changes or deletes one.
    pub(super) failure: Mutex<Option<Error>>,
    /// Another controller does all of it.
    pub(super) is_elsewhere: bool,
    /// Which calls came: `create web node1 node2`.
    pub(super) calls: Mutex<Vec<String>>,
}

impl Cloud {
    pub(super) fn there() -> Self {
        Self { exists: true, ..Self::default() }
    }

    pub(super) fn fails(self, error: Error) -> Self {
        *self.failure.lock().unwrap() = Some(error);
        self
    }

    /// The calls until now, in the order of the alphabet; they are forgotten.
    pub(super) fn calls(&self) -> Vec<String> {
        let mut calls = std::mem::take(&mut *self.calls.lock().unwrap());
        calls.sort();
        calls
    }

    fn called<T: Send + 'static>(
        &self,
        act: &str,
        service: &Service,
        nodes: &[Node],
        said: T,
    ) -> Answer<'static, T> {
        let names = nodes.iter().map(|node| node.metadata.name.clone().unwrap());
        let words: Vec<String> =
            [act.to_owned(), service.metadata.name.clone().unwrap()].into_iter().chain(names).collect();
        self.calls.lock().unwrap().push(words.join(" "));
        let failure = match (self.is_elsewhere, act) {
            (true, _) => Some(Error::ImplementedElsewhere),
            (false, "get") => None,
            (false, _) => self.failure.lock().unwrap().clone(),
        };
        Box::pin(std::future::ready(failure.map_or(Ok(said), Err)))
    }
}

fn status() -> LoadBalancerStatus {
    serde_json::from_value(json!({"ingress": [{"ip": "192.0.2.1"}]})).unwrap()
}

impl CloudProvider for Cloud {
    fn name(&self) -> &str {
        "fake"
    }

    fn load_balancers(&self) -> Option<&dyn LoadBalancers> {
        Some(self)
    }
}

impl LoadBalancers for Cloud {
    fn get_load_balancer<'a>(
        &'a self,
        _: &'a str,
        service: &'a Service,
    ) -> Answer<'a, Option<LoadBalancerStatus>> {
        self.called("get", service, &[], self.exists.then(status))
    }

    fn ensure_load_balancer<'a>(
        &'a self,
        _: &'a str,
        service: &'a Service,
        nodes: &'a [Node],
    ) -> Answer<'a, LoadBalancerStatus> {
        self.called("create", service, nodes, status())
    }

    fn update_load_balancer<'a>(
        &'a self,
        _: &'a str,
        service: &'a Service,
        nodes: &'a [Node],
    ) -> Answer<'a, ()> {
        self.called("update", service, nodes, ())
    }

    fn ensure_load_balancer_deleted<'a>(&'a self, _: &'a str, service: &'a Service) -> Answer<'a, ()> {
        self.called("delete", service, &[], ())
    }
}

/// A service of this name with other or more fields.
pub(super) fn named(name: &str, fields: &[(&str, Value)]) -> Value {
    let mut service = serde_json::to_value(super::service(fields)).unwrap();
    service["metadata"]["name"] = json!(name);
    service["metadata"]["namespace"] = json!(SHOP);
    service
}

pub(super) fn read(service: Value) -> Arc<Service> {
    Arc::new(serde_json::from_value(service).unwrap())
}

pub(super) fn key(name: &str) -> Name {
    Name::new(SHOP, name)
}

/// A server with a node `node1` and these services.
pub(super) fn serving(services: impl IntoIterator<Item = Value>) -> Server {
    let server = Server::with([json!({"metadata": {"name": "node1"}})]);
    services.into_iter().for_each(|service| server.put_service(service));
    server
}

pub(super) async fn controller<'a>(server: &Server, cloud: &'a Cloud) -> Controller<'a> {
    let context = server.context().await;
    let services = Cache::<Service>::start(&context.client);
    services.filled().await;
    let view = Arc::new(View::of(services, context.nodes.clone()));
    let events = context.events(COMPONENT);
    Controller { context, balancers: cloud, services: view, events, seen: Arc::default() }
}

impl Controller<'_> {
    /// What was told until now.
    pub(super) async fn told(&self, server: &Server) -> Vec<String> {
        self.events.told().await;
        std::mem::take(&mut server.state().told)
    }

    /// Has seen a service of the server, whose load balancer leads there.
    pub(super) fn saw(&self, name: &str, led: Option<Led>) {
        let service = self.services.get(&key(name)).unwrap();
        self.seen().services.insert(key(name), Known { service, led });
    }

    /// Leads to these nodes.
    pub(super) fn led_to(&self, nodes: &[Arc<Node>]) -> Led {
        self.known_by(&plan::led_to(nodes), false)
    }

    /// Whether the load balancer of this service is known to lead somewhere.
    pub(super) fn is_led(&self, name: &str) -> bool {
        self.seen().services.get(&key(name)).is_some_and(|known| known.led.is_some())
    }

    /// A line of its metrics.
    pub(super) fn has_counted(&self, line: &str) -> bool {
        self.context.metrics.render().lines().any(|one| one == line)
    }
}
