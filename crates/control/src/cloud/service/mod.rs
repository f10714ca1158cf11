//! Services that want to be reached from outside: each gets a load balancer of the provider, and loses it.

mod nodes;
mod plan;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::cache::{Cache, Name};
use client::events::Events;
use client::queue::{Next, Pace, Queue};
use cpi::contract::{CloudProvider, Error, LoadBalancerStatus, LoadBalancers, Service};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::Context;
use crate::csi::finalizers;
use plan::{FINALIZER, Wish};
use view::View;

/// What fails is tried again after this long, and then twice as long each time.
const FIRST: Duration = Duration::from_secs(5);
/// The longest of these waits.
const LONGEST: Duration = Duration::from_secs(300);
/// What this controller is called in events.
pub(super) const COMPONENT: &str = "service-controller";
/// The reason of events of load balancers that are not as they are to be.
pub(super) const FAILED: &str = "SyncLoadBalancerFailed";

/// Whether a service waits for a load balancer that it does not have.
pub(super) fn waits(service: &Service) -> bool {
    plan::wants(service) && plan::status(service).ingress.is_none_or(|all| all.is_empty())
}

/// Where a load balancer leads, and how nodes were told apart when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Led {
    /// Whether its status is made of the nodes' addresses, which are then part of what nodes are told apart by.
    is_of_nodes: bool,
    nodes: BTreeMap<String, String>,
}

/// What is known of a service that was looked at.
#[derive(Debug)]
struct Known {
    /// As it was last seen.
    service: Arc<Service>,
    /// Where its load balancer leads, which is as that service wants it; `None`: it is not known to be.
    led: Option<Led>,
}

/// What was last seen of services that were looked at.
#[derive(Debug, Default)]
struct Seen {
    services: BTreeMap<Name, Known>,
    round: nodes::Round,
}

/// Why a look failed.
#[derive(Debug)]
enum Failed {
    /// It is to be looked at again after this long.
    After(Duration, String),
    /// It is to be looked at again, later each time.
    Again(String),
}

impl Failed {
    fn of(act: &str, error: Error) -> Self {
        let text = format!("{act}: {error}");
        match error {
            Error::RetryAfter { after, .. } => Self::After(after, text),
            _ => Self::Again(text),
        }
    }

    fn server(act: &str, error: &kube::Error) -> Self {
        Self::Again(format!("{act}: {}", client::causes(error)))
    }

    fn text(&self) -> &str {
        match self {
            Self::After(_, text) | Self::Again(text) => text,
        }
    }
}

struct Controller<'a> {
    context: Arc<Context>,
    balancers: &'a dyn LoadBalancers,
    services: Arc<View>,
    events: Events,
    seen: Arc<Mutex<Seen>>,
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Works until it is dropped.
pub(super) async fn run(
    context: Arc<Context>,
    provider: Arc<dyn CloudProvider>,
    services: Arc<Cache<Service>>,
) {
    let Some(balancers) = provider.load_balancers() else { return };
    services.filled().await;
    let view = Arc::new(View::of(services.clone(), context.nodes.clone()));
    provider.see_services(view.clone());
    let pace =
        Pace { workers: context.setup.service_syncs, first: FIRST, longest: LONGEST, spread: 0, rate: None };
    let queue = Queue::new(pace);
    let its = queue.clone();
    services.listen(move |change| match &change.new {
        Some(new) if plan::is_news(change.old.as_deref(), new) => its.add(Name::of(&**new)),
        Some(_) => {}
        None => its.add(Name::of(&**change.object())),
    });
    let events = context.events(COMPONENT);
    let seen = Arc::default();
    let it = &Controller { context, balancers, services: view, events, seen };
    it.follow_nodes(&queue, &provider);
    let looking = queue.clone().run(|name| async move { it.look(&name).await });
    tokio::join!(looking, it.follow_provider(&queue, &*provider));
}

impl Controller<'_> {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    fn cluster(&self) -> &str {
        &self.context.setup.cluster_name
    }

    fn api(&self, name: &Name) -> Api<Service> {
        let client: Client = self.context.client.clone();
        Api::namespaced(client, &name.namespace)
    }

    async fn look(&self, name: &Name) -> Next {
        self.context.metrics.load_balancer_synced();
        let looked = match self.services.get(name) {
            Some(service) => self.look_at(name, &service).await,
            None => self.look_at_gone(name).await,
        };
        self.led(name);
        match looked {
            Ok(()) => Next::Done,
            Err(failed) => {
                eprintln!("sextant control: warning: cannot look after service {name}: {}", failed.text());
                match failed {
                    Failed::After(after, _) => Next::After(after),
                    Failed::Again(_) => Next::Again,
                }
            }
        }
    }

    /// A service that went without its finalizer: somebody has taken that away. What is known of it is enough to take away the rest.
    async fn look_at_gone(&self, name: &Name) -> Result<(), Failed> {
        let known = self.seen().services.get(name).map(|known| known.service.clone());
        let Some(service) = known else { return Ok(()) };
        self.delete(&service).await?;
        self.forget(name);
        Ok(())
    }

    fn forget(&self, name: &Name) {
        self.seen().services.remove(name);
    }

    /// Notes where a load balancer leads, or that it is not known to be as it is wanted.
    fn note(&self, name: &Name, led: Option<Led>) {
        if let Some(known) = self.seen().services.get_mut(name) {
            known.led = led;
        }
    }

    /// Takes away the load balancer of a service that is not there any more, whatever it was last seen as: what is still known here was
    /// not taken away to its end, also where somebody took the finalizer off while that failed.
    async fn delete(&self, service: &Service) -> Result<(), Failed> {
        self.events.normal(service, "DeletingLoadBalancer", "Deleting load balancer").await;
        match self.balancers.ensure_load_balancer_deleted(self.cluster(), service).await {
            Ok(()) | Err(Error::ImplementedElsewhere) => {
                self.events.normal(service, "DeletedLoadBalancer", "Deleted load balancer").await;
                Ok(())
            }
            Err(error) => {
                let text = format!("Error deleting load balancer: {error}");
                self.events.warning(service, "DeleteLoadBalancerFailed", text).await;
                Err(Failed::of("cannot delete the load balancer", error))
            }
        }
    }

    /// Whether the service has changed or only the nodes have is seen here, and nowhere else: so never two calls run for one service.
    async fn look_at(&self, name: &Name, service: &Arc<Service>) -> Result<(), Failed> {
        let before = self.seen().services.get(name).map(|known| (known.service.clone(), known.led.clone()));
        if let Some((before, led)) = before {
            if before.metadata.uid != service.metadata.uid {
                self.delete(&before).await?;
            } else if let Some(led) = led
                && !plan::is_news(Some(&before), service)
            {
                let is_of_nodes = self.balancers.follows_nodes(service);
                if !is_of_nodes && !led.is_of_nodes {
                    return self.lead(name, service, &led).await;
                }
                if self.known_by(&plan::led_to(&self.context.nodes.all()), is_of_nodes) == led {
                    return Ok(());
                }
            }
        }
        self.seen().services.insert(name.clone(), Known { service: service.clone(), led: None });
        let done = match plan::wish(service) {
            Wish::Ensured => self.ensure(name, service).await,
            Wish::Gone => {
                let gone = self.clean_up(name, service).await;
                if gone.is_ok() {
                    self.forget(name);
                }
                gone
            }
        };
        if let Err(failed) = &done {
            let text = format!("Error syncing load balancer: {}", failed.text());
            self.events.warning(&**service, FAILED, text).await;
        }
        done
    }

    async fn ensure(&self, name: &Name, service: &Service) -> Result<(), Failed> {
        self.events.normal(service, "EnsuringLoadBalancer", "Ensuring load balancer").await;
        // Written down before anything is made: the service does not go before its load balancer.
        let held;
        let service = if finalizers::has(service, FINALIZER) {
            service
        } else {
            let added = finalizers::add(&self.api(name), service, FINALIZER).await;
            held = added.map_err(|e| Failed::server("failed to add load balancer cleanup finalizer", &e))?;
            &held
        };
        let nodes = plan::led_to(&self.context.nodes.all());
        if nodes.is_empty() {
            self.tell_of_none(service).await;
        }
        // Before it is asked: where that changes meanwhile, this is looked at once more.
        let led = self.known_by(&nodes, self.balancers.follows_nodes(service));
        match self.balancers.ensure_load_balancer(self.cluster(), service, &nodes).await {
            Ok(status) => {
                self.events.normal(service, "EnsuredLoadBalancer", "Ensured load balancer").await;
                self.tell(name, service, &status).await?;
            }
            Err(Error::ImplementedElsewhere) => {}
            Err(error) => return Err(Failed::of("failed to ensure load balancer", error)),
        }
        self.note(name, Some(led));
        Ok(())
    }

    async fn clean_up(&self, name: &Name, service: &Service) -> Result<(), Failed> {
        let is_held = finalizers::has(service, FINALIZER);
        let is_there = match self.balancers.get_load_balancer(self.cluster(), service).await {
            // Whoever does it elsewhere takes it away as well.
            Ok(None) | Err(Error::ImplementedElsewhere) => false,
            Ok(Some(_)) => true,
            Err(_) if is_held => true,
            Err(error) => {
                return Err(Failed::of("failed to check if load balancer exists before cleanup", error));
            }
        };
        if is_there {
            self.events.normal(service, "DeletingLoadBalancer", "Deleting load balancer").await;
        }
        // One that is held may have been made in part, which is not found as one.
        if is_there || is_held {
            match self.balancers.ensure_load_balancer_deleted(self.cluster(), service).await {
                Ok(()) | Err(Error::ImplementedElsewhere) => {}
                Err(error) => return Err(Failed::of("failed to delete load balancer", error)),
            }
        }
        // Before the finalizer: without it the service may be gone at once, and nobody could write it.
        if service.metadata.deletion_timestamp.is_none() {
            self.tell(name, service, &LoadBalancerStatus::default()).await?;
        }
        // As it was written a moment ago: another state of it would be refused once.
        let newest = self.services.newest(service);
        let removed = finalizers::remove(&self.api(name), &*newest, FINALIZER, &[]).await;
        removed.map_err(|e| Failed::server("failed to remove load balancer cleanup finalizer", &e))?;
        self.events.normal(service, "DeletedLoadBalancer", "Deleted load balancer").await;
        Ok(())
    }

    /// Writes the status of a load balancer where it is another than the service has.
    async fn tell(&self, name: &Name, service: &Service, status: &LoadBalancerStatus) -> Result<(), Failed> {
        // What was written a moment ago may not have come back yet.
        if plan::is_same(&plan::status(&self.services.newest(service)), status) {
            return Ok(());
        }
        let ingress = status.ingress.as_ref().filter(|all| !all.is_empty());
        let patch = json!({"metadata": {"uid": service.metadata.uid}, "status": {"loadBalancer": {"ingress": ingress}}});
        match self.api(name).patch_status(&name.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            // It went meanwhile; with its finalizer nobody has to know where it could be reached.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Ok(written) => {
                self.services.wrote(written);
                Ok(())
            }
            Err(error) => Err(Failed::server("failed to update load balancer status", &error)),
        }
    }
}
