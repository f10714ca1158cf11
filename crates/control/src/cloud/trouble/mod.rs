//! What fails is told where people look: as events of the objects that wait for it, and where none does, of the cluster's own
//! namespace.

mod failing;

use std::sync::Arc;
use std::time::Duration;

use client::cache::Cache;
use client::events::{Events, cut};
use cpi::contract::{CloudProvider, Node, Service};
use k8s_openapi::api::core::v1::{Event, ObjectReference};
use kube::{Client, Resource as _};
use tokio::time::Instant;

use super::{Context, UNINITIALIZED, lifecycle, node, service, taints};
pub(super) use failing::Failing;
use failing::{Known, Unlisted, list};

/// What is nobody else's is told of this namespace.
const HOME: &str = "kube-system";
/// Who tells of it.
const CONTROLLER: &str = "cloud-controller-manager";
/// Reasons of events of nodes whose instances cannot be asked about, and of those that could be again.
const NODE: [&str; 2] = ["SyncNodeFailed", "Synced"];
/// The same of nodes that are not ready, and of which it is asked whether their instances are there.
const CHECK: [&str; 2] = ["InstanceCheckFailed", "InstanceChecked"];
/// The provider cannot be reached, does not initialize, or cannot be used; it is ready.
const PROVIDER: [&str; 2] = ["CloudProviderFailed", "CloudProviderReady"];
/// What it goes by, its file, cannot be used as it is; it is in use.
const CONFIG: [&str; 2] = ["CloudConfigFailed", "CloudConfigTaken"];
/// Routes cannot be listed or deleted; they can.
const ROUTES: [&str; 2] = ["SyncRoutesFailed", "SyncedRoutes"];
/// Who has come to wait is told this long afterwards at most.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is looked for what other processes have told.
const LEARN: Duration = Duration::from_secs(300);
/// How long the server is waited for, to tell or to be told.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Failures of the provider, which no object has.
#[derive(Debug)]
pub(super) struct Trouble {
    home: ObjectReference,
    provider: Failing,
    config: Failing,
    routes: Failing,
}

impl Trouble {
    /// With what the process before has told, as long as the server keeps that: one that is started again and again says no more than
    /// one that goes on.
    pub(super) async fn start(client: &Client, host: &str) -> Self {
        let events = Events::new(client, CONTROLLER, &format!("{CONTROLLER}-{host}"));
        let home = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Namespace".into()),
            name: Some(HOME.into()),
            ..ObjectReference::default()
        };
        let of = |reasons| Failing::new(events.clone(), reasons);
        // Of a file it is told what is wrong now, also where that was so before something else was.
        let config = Failing::exact(events.clone(), CONFIG);
        let it = Self { home, provider: of(PROVIDER), config, routes: of(ROUTES) };
        let all = [&it.provider, &it.config, &it.routes];
        match it.events(client).await {
            Ok(events) => all.iter().for_each(|failing| failing.learn(&events)),
            // Whoever may not list them is told again after a start: what fails, and also that nothing does, as the process before may
            // have told otherwise.
            Err(Unlisted::Forbidden) => all.iter().for_each(|failing| failing.doubt(&it.home)),
            // What was told is forgotten by the server within the hour; what never failed is not told to be over.
            Err(Unlisted::Unanswered) => {}
        }
        it
    }

    /// What others have told, as the server has it.
    async fn events(&self, client: &Client) -> Result<Vec<Event>, Unlisted> {
        list(client, &format!("involvedObject.kind=Namespace,involvedObject.name={HOME}")).await
    }

    /// The provider is not there, or not ready.
    pub(super) async fn provider_fails(&self, text: &str) {
        self.provider.fails(&self.home, &cut(text.into())).await;
    }

    pub(super) async fn provider_works(&self, name: &str) {
        self.provider.works(&self.home, &format!("Cloud provider {name} is ready")).await;
    }

    /// Tells what is wrong with what the provider goes by.
    pub(super) async fn config(&self, provider: &str, trouble: Option<String>) {
        match trouble.map(cut) {
            Some(text) => drop(self.config.fails(&self.home, &text).await),
            None => {
                let text = format!("What cloud provider {provider} goes by is in use as it is");
                self.config.works(&self.home, &text).await;
            }
        }
    }

    /// Whether routes can be kept, and else why not.
    pub(super) async fn routes(&self, done: &Result<(), String>) {
        match done {
            Ok(()) => self.routes.works(&self.home, "Routes are as they are to be").await,
            Err(why) => drop(self.routes.fails(&self.home, &cut(why.clone())).await),
        }
    }

    /// Nobody wants routes. Whoever kept them before may have told that they fail.
    pub(super) async fn no_routes(&self) {
        self.routes.works(&self.home, "No routes are kept").await;
    }

    /// Waits until all is told.
    pub(super) async fn told(&self) {
        let _late = tokio::time::timeout(LAST_WORDS, self.provider.events().told()).await;
    }
}

/// Failures of nodes.
#[derive(Debug)]
pub(super) struct OfNodes {
    /// Their instances cannot be asked about, or what is known of them cannot be written.
    pub(super) sync: Arc<Failing>,
    /// Those that are not ready cannot be looked after.
    pub(super) check: Arc<Failing>,
}

impl OfNodes {
    /// With what the process before has told, as long as the server keeps that, and this process may list it: so it is told once, and
    /// by whoever sees it, that it is over.
    pub(super) async fn start(context: &Context) -> Self {
        let of = |component, reasons| Arc::new(Failing::new(context.events(component), reasons));
        let (sync, check) = (of(node::COMPONENT, NODE), of(lifecycle::COMPONENT, CHECK));
        if let Ok(events) = list(&context.client, "involvedObject.kind=Node").await {
            [&sync, &check].iter().for_each(|failing| failing.learn(&events));
        }
        Self { sync, check }
    }
}

/// Tells that the provider's configuration, or the provider, cannot be used, before a process ends for that: as an event, unless it is
/// told of already. What cannot be told in ten seconds is not.
pub async fn tell_unusable(client: &Client, host: &str, why: &str) {
    let told = async {
        let trouble = Trouble::start(client, host).await;
        trouble.config("", Some(why.to_owned())).await;
        trouble.told().await;
    };
    let _late = tokio::time::timeout(LAST_WORDS, told).await;
}

/// Follows what is wrong with what the provider goes by, until it is dropped. What another process has told, one that could not be
/// started or that waits for its lease, is over where it is not so here; that is looked for now and then.
pub(super) async fn follow(context: &Context, provider: &dyn CloudProvider, trouble: &Trouble) {
    let mut learned = Instant::now();
    loop {
        if learned.elapsed() >= LEARN {
            if let Ok(events) = trouble.events(&context.client).await {
                trouble.config.learn(&events);
            }
            learned = Instant::now();
        }
        trouble.config(provider.name(), provider.trouble()).await;
        tokio::time::sleep(context.setup.node_monitor).await;
    }
}

/// Who waits for the provider: nodes that are to be initialized, and services that want a load balancer.
pub(super) struct Waiting<'a> {
    context: &'a Context,
    trouble: &'a Trouble,
    services: &'a Cache<Service>,
    nodes: &'a Failing,
    balancers: Failing,
}

impl<'a> Waiting<'a> {
    /// `nodes` are failures of nodes' instances.
    pub(super) fn new(
        context: &'a Context,
        trouble: &'a Trouble,
        services: &'a Cache<Service>,
        nodes: &'a Failing,
    ) -> Self {
        let failed = [service::FAILED, "EnsuredLoadBalancer"];
        let balancers = Failing::new(context.events(service::COMPONENT), failed);
        Self { context, trouble, services, nodes, balancers }
    }

    /// Attempts something until it is done; who waits is told why it is not. `has` says whether nodes and load balancers are the
    /// provider's affair. What failed is tried again after `first`, and then twice as long each time, up to `longest`.
    pub(super) async fn until_done<T>(
        &self,
        (has_nodes, has_balancers): (bool, bool),
        (first, longest): (Duration, Duration),
        mut attempt: impl AsyncFnMut() -> Result<T, String>,
    ) -> T {
        let (mut wait, mut said) = (first, Known::default());
        loop {
            let why = match attempt().await {
                Ok(done) => return done,
                Err(why) => why,
            };
            self.trouble.provider_fails(&why).await;
            // The words of each process say why it waits, whatever those before it have told the cluster.
            if said.is_news(&why) {
                eprintln!("sextant control: warning: {why}; it is tried again");
            }
            let again = Instant::now() + wait;
            loop {
                if has_nodes {
                    self.tell_nodes(&why).await;
                }
                if has_balancers {
                    self.tell_services(&why).await;
                }
                let left = again.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                tokio::time::sleep(left.min(LOOK)).await;
            }
            wait = (wait * 2).min(longest);
        }
    }

    async fn tell_nodes(&self, why: &str) {
        let waits = |node: &Node| taints(node).iter().any(|taint| taint.key == UNINITIALIZED);
        for node in self.context.nodes.find(waits) {
            self.nodes.fails(&node.object_ref(&()), why).await;
        }
    }

    async fn tell_services(&self, why: &str) {
        for service in self.services.find(service::waits) {
            let text = format!("Error syncing load balancer: {why}");
            self.balancers.fails(&service.object_ref(&()), &text).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::stand::{Server, Told};
    use super::*;

    /// What was told of the cluster's own namespace.
    pub(super) fn event(reason: &str, second: u32, text: &str) -> Event {
        let at = format!("2026-01-01T00:00:{second:02}.000000Z");
        let of = json!({"kind": "Namespace", "name": HOME});
        let whole = json!({"metadata": {"name": "e"}, "involvedObject": of, "reason": reason, "message": text, "eventTime": at});
        serde_json::from_value(whole).unwrap()
    }

    /// Another replica could not be started; this one works, and is not started again.
    #[tokio::test(start_paused = true)]
    async fn what_another_process_has_told_is_over_where_it_is_not_so() {
        let server = Server::default();
        let context = server.context().await;
        let trouble = Trouble::start(&context.client, "host").await;
        let provider = Told::default();
        let script = async {
            tokio::time::sleep(context.setup.node_monitor * 2).await;
            let mut failed = serde_json::to_value(event(CONFIG[0], 1, "no such file")).unwrap();
            failed["metadata"]["namespace"] = json!(failing::NAMESPACE);
            server.state().events.push(failed);
            tokio::time::sleep(LEARN + context.setup.node_monitor).await;
            trouble.told().await;
        };
        tokio::select! {
            () = follow(&context, &provider, &trouble) => unreachable!("it goes on until it is dropped"),
            () = script => {}
        }
        assert_eq!(server.state().told, [CONFIG[1]]);
    }

    /// What the process before has told stands there else. Of a server that is in trouble nothing is known, and nothing told.
    #[tokio::test]
    async fn who_may_not_list_events_is_told_that_nothing_fails() {
        let all = [PROVIDER[1], CONFIG[1], ROUTES[1]];
        for (refuses, told) in [(None, &[][..]), (Some(403), &all[..]), (Some(503), &[][..])] {
            let server = Server::default();
            server.state().refuses_events = refuses;
            let context = server.context().await;
            let trouble = Trouble::start(&context.client, "host").await;
            for _ in 0..2 {
                trouble.provider_works("p").await;
                trouble.config("p", None).await;
                trouble.routes(&Ok(())).await;
            }
            trouble.told().await;
            assert_eq!(server.state().told, told, "{refuses:?}");
        }
    }
}
