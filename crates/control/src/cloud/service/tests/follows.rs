//! What is looked at again where the provider may do something else, by a clock that the test sets.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use client::cache::{Cache, Name};
use client::queue::{Next, Pace, Queue};
use cpi::contract::{Answer, CloudProvider, Error, LoadBalancerStatus, LoadBalancers, Node, Service};

use super::super::super::tests::stand::Server;
use super::super::{Controller, Known, Led, View};

/// A provider that says how often it has changed.
#[derive(Default)]
struct Changing {
    revision: AtomicU64,
    is_of_nodes: AtomicBool,
    /// Of each service by itself.
    follows_nodes: AtomicBool,
}

impl CloudProvider for Changing {
    fn name(&self) -> &str {
        "changing"
    }

    fn revision(&self) -> u64 {
        self.revision.load(Ordering::SeqCst)
    }
}

fn unasked<T: Send + 'static>() -> Answer<'static, T> {
    Box::pin(std::future::ready(Err(Error::NotImplemented)))
}

impl LoadBalancers for Changing {
    fn is_of_nodes(&self) -> bool {
        self.is_of_nodes.load(Ordering::SeqCst)
    }

    fn follows_nodes(&self, _: &Service) -> bool {
        self.is_of_nodes() || self.follows_nodes.load(Ordering::SeqCst)
    }

    fn get_load_balancer<'a>(&'a self, _: &'a str, _: &'a Service) -> Answer<'a, Option<LoadBalancerStatus>> {
        unasked()
    }

    fn ensure_load_balancer<'a>(
        &'a self,
        _: &'a str,
        _: &'a Service,
        _: &'a [Node],
    ) -> Answer<'a, LoadBalancerStatus> {
        unasked()
    }

    fn update_load_balancer<'a>(&'a self, _: &'a str, _: &'a Service, _: &'a [Node]) -> Answer<'a, ()> {
        unasked()
    }

    fn ensure_load_balancer_deleted<'a>(&'a self, _: &'a str, _: &'a Service) -> Answer<'a, ()> {
        unasked()
    }
}

#[tokio::test(start_paused = true)]
async fn services_that_failed_are_looked_at_again_as_the_provider_changes() {
    let (server, provider) = (Server::default(), Changing::default());
    let context = server.context().await;
    let services = Cache::<Service>::start(&context.client);
    let view = Arc::new(View::of(services, context.nodes.clone()));
    let period = context.setup.node_monitor;
    let events = context.events("service-controller");
    let it = Controller { context, balancers: &provider, services: view, events, seen: Arc::default() };
    let led = Led { is_of_nodes: false, nodes: Default::default() };
    for (name, led) in [("failed", None), ("well", Some(led))] {
        let known = Known { service: Arc::new(super::service(&[])), led };
        it.seen().services.insert(Name::new("shop", name), known);
    }
    let first = Duration::from_secs(1000);
    let queue = Queue::new(Pace { workers: 1, first, longest: first, spread: 0, rate: None });
    let looked = Mutex::new(Vec::new());
    let looks = queue.clone().run(|name: Name| {
        looked.lock().unwrap().push(name.name);
        std::future::ready(Next::Done)
    });
    let follows = async { tokio::join!(it.follow_provider(&queue, &provider), looks) };
    let script = async {
        let at_last = async || {
            tokio::time::sleep(period * 3).await;
            let mut names = std::mem::take(&mut *looked.lock().unwrap());
            names.sort();
            names
        };
        assert_eq!(at_last().await, [""; 0], "nothing has changed");
        provider.revision.store(7, Ordering::SeqCst);
        assert_eq!(at_last().await, ["failed"], "once");
        provider.is_of_nodes.store(true, Ordering::SeqCst);
        // Until it is looked at, which nobody does here.
        let names = at_last().await;
        assert!(!names.is_empty() && names.iter().all(|name| name == "well"), "{names:?}");
        provider.is_of_nodes.store(false, Ordering::SeqCst);
        // The last look of before may come at the same moment.
        at_last().await;
        assert_eq!(at_last().await, [""; 0], "it is as it was");
        provider.follows_nodes.store(true, Ordering::SeqCst);
        let names = at_last().await;
        assert!(!names.is_empty() && names.iter().all(|name| name == "well"), "{names:?}");
    };
    tokio::select! {
        _ = follows => unreachable!("it goes on until it is dropped"),
        () = script => {}
    }
}
