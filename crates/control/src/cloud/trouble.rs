//! What fails is told where people look: as events of the objects that wait for it, and where none does, of the cluster's own
//! namespace. Each failure is told once, and once that it is over; not at each time that it is tried again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::cache::Cache;
use client::events::{EventType, Events, cut};
use cpi::contract::{CloudProvider, Node, Service};
use k8s_openapi::api::core::v1::{Event, ObjectReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};
use kube::{Client, Resource as _};
use tokio::time::Instant;

use super::{Context, UNINITIALIZED, service, taints};

/// What is nobody else's is told of this namespace.
const HOME: &str = "kube-system";
/// Who tells of it.
const CONTROLLER: &str = "cloud-controller-manager";
/// Events of what is in no namespace are here.
const NAMESPACE: &str = "default";
/// Reasons of events of nodes whose instances cannot be asked about, and of those that could be again.
pub(super) const NODE: [&str; 2] = ["SyncNodeFailed", "Synced"];
/// The same of nodes that are not ready, and of which it is asked whether their instances are there.
pub(super) const CHECK: [&str; 2] = ["InstanceCheckFailed", "InstanceChecked"];
/// The provider cannot be reached, does not initialize, or cannot be used; it is ready.
const PROVIDER: [&str; 2] = ["CloudProviderFailed", "CloudProviderReady"];
/// What it goes by, its file, cannot be used as it is; it is in use.
const CONFIG: [&str; 2] = ["CloudConfigFailed", "CloudConfigTaken"];
/// Routes cannot be listed or deleted; they can.
const ROUTES: [&str; 2] = ["SyncRoutesFailed", "SyncedRoutes"];
/// Who has come to wait is told this long afterwards at most.
const LOOK: Duration = Duration::from_secs(1);
/// So many failures of an object are known: of a few that take turns each is told once.
const KNOWN: usize = 4;
/// How often it is looked for what other processes have told.
const LEARN: Duration = Duration::from_secs(300);
/// How long the server is waited for, to tell or to be told.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Failures of objects in one respect.
#[derive(Debug)]
pub(super) struct Failing {
    events: Events,
    /// Of the failure, and of its end.
    reasons: [&'static str; 2],
    /// What was told of objects that fail, the last at the end, by their uids, or where they have none, their names.
    told: Mutex<BTreeMap<String, Vec<String>>>,
    /// As many of them are known.
    most: usize,
}

fn key(of: &ObjectReference) -> String {
    of.uid.clone().or_else(|| of.name.clone()).unwrap_or_default()
}

/// What of a text tells failures apart: its words without those that have digits. Times, ages and ids of requests are others each time.
fn gist(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '-');
    let is_lasting = |word: &&str| !word.is_empty() && !word.contains(|c: char| c.is_ascii_digit());
    words.filter(is_lasting).collect::<Vec<_>>().join(" ")
}

/// Whether something is not among what is known, where it is from now on; of that only so much is kept.
fn is_news(known: &mut Vec<String>, what: String, most: usize) -> bool {
    if known.contains(&what) {
        return false;
    }
    known.push(what);
    known.drain(..known.len().saturating_sub(most));
    true
}

impl Failing {
    pub(super) fn new(events: Events, reasons: [&'static str; 2]) -> Self {
        Self { events, reasons, told: Mutex::default(), most: KNOWN }
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<String, Vec<String>>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object fails: it is told of that, unless it was. Whether it is now.
    pub(super) async fn fails(&self, of: &ObjectReference, text: &str) -> bool {
        self.fails_as(of, gist(text), text).await
    }

    /// The same, of a failure that is another where `what` is.
    async fn fails_as(&self, of: &ObjectReference, what: String, text: &str) -> bool {
        if !is_news(self.told().entry(key(of)).or_default(), what, self.most) {
            return false;
        }
        let [reason, _] = self.reasons;
        self.events.tell(of, EventType::Warning, reason, reason, text.into()).await;
        true
    }

    /// An object does not fail: it is told of that, if it failed.
    pub(super) async fn works(&self, of: &ObjectReference, text: &str) {
        if self.told().remove(&key(of)).is_some() {
            let [_, reason] = self.reasons;
            self.events.tell(of, EventType::Normal, reason, reason, text.into()).await;
        }
    }

    /// Forgets an object that is gone, or that somebody else has told of.
    pub(super) fn forget(&self, of: &ObjectReference) {
        self.told().remove(&key(of));
    }

    /// Forgets all that are not there any more.
    pub(super) fn keep(&self, is_there: impl Fn(&str) -> bool) {
        self.told().retain(|uid, _| is_there(uid));
    }
}

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
        let config = Failing { most: 1, ..of(CONFIG) };
        let it = Self { home, provider: of(PROVIDER), config, routes: of(ROUTES) };
        let all = [&it.provider, &it.config, &it.routes];
        if !it.learn(client, &all).await {
            // Whoever may not list them is told again after a start: what fails, and also that nothing does, as the process before may
            // have told otherwise.
            for failing in all {
                failing.told().insert(key(&it.home), Vec::new());
            }
        }
        it
    }

    /// Takes for told what others have told that fails, as the server has it. Whether it says that.
    async fn learn(&self, client: &Client, of: &[&Failing]) -> bool {
        let api: Api<Event> = Api::namespaced(client.clone(), NAMESPACE);
        let its = format!("involvedObject.kind=Namespace,involvedObject.name={HOME}");
        let list = ListParams::default().fields(&its);
        let Ok(Ok(all)) = tokio::time::timeout(LAST_WORDS, api.list(&list)).await else { return false };
        for failing in of {
            let Some(text) = last(&all.items, failing.reasons) else { continue };
            let what = if failing.reasons == CONFIG { text.to_owned() } else { gist(text) };
            failing.told().entry(key(&self.home)).or_insert_with(|| vec![what]);
        }
        true
    }

    /// The provider is not there, or not ready.
    pub(super) async fn provider_fails(&self, text: &str) {
        self.provider.fails(&self.home, &cut(text.into())).await;
    }

    pub(super) async fn provider_works(&self, name: &str) {
        self.provider.works(&self.home, &format!("Cloud provider {name} is ready")).await;
    }

    /// Tells what is wrong with what the provider goes by. Each number in it matters: people change them.
    pub(super) async fn config(&self, provider: &str, trouble: Option<String>) {
        match trouble.map(cut) {
            Some(text) => drop(self.config.fails_as(&self.home, text.clone(), &text).await),
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

    /// Waits until all is told.
    pub(super) async fn told(&self) {
        let _late = tokio::time::timeout(LAST_WORDS, self.provider.events.told()).await;
    }
}

/// When an event was last seen.
fn time(event: &Event) -> Option<Timestamp> {
    let series =
        event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let once = event.event_time.as_ref().map(|time| time.0);
    series.or(once).or_else(|| event.last_timestamp.as_ref().map(|time| time.0))
}

/// What was told at last, if that was that something fails.
fn last<'a>(events: &'a [Event], reasons: [&str; 2]) -> Option<&'a str> {
    let is_of_it = |event: &&Event| event.reason.as_deref().is_some_and(|reason| reasons.contains(&reason));
    let last = events.iter().filter(is_of_it).max_by_key(|event| time(event))?;
    (last.reason.as_deref() == Some(reasons[0])).then(|| last.message.as_deref().unwrap_or_default())
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
            trouble.learn(&context.client, &[&trouble.config]).await;
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
    nodes: Failing,
    balancers: Failing,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(context: &'a Context, trouble: &'a Trouble, services: &'a Cache<Service>) -> Self {
        let nodes = Failing::new(context.events(super::node::COMPONENT), NODE);
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
        let (mut wait, mut said) = (first, Vec::new());
        loop {
            let why = match attempt().await {
                Ok(done) => return done,
                Err(why) => why,
            };
            self.trouble.provider_fails(&why).await;
            // The words of each process say why it waits, whatever those before it have told the cluster.
            if is_news(&mut said, gist(&why), KNOWN) {
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

    fn event(reason: &str, second: u32, text: &str) -> Event {
        let at = format!("2026-01-01T00:00:{second:02}.000000Z");
        let whole = json!({"metadata": {"name": "e"}, "involvedObject": {}, "reason": reason, "message": text, "eventTime": at});
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn what_was_told_at_last_is_what_fails_still() {
        let [failed, well] = PROVIDER;
        let mut all = vec![event(failed, 2, "two"), event(failed, 1, "one"), event(CONFIG[0], 3, "file")];
        assert_eq!(last(&all, PROVIDER), Some("two"));
        assert_eq!((last(&all, CONFIG), last(&all, ROUTES)), (Some("file"), None));
        all.push(event(well, 4, "ready"));
        assert_eq!(last(&all, PROVIDER), None);
        // It was said again since.
        let series = json!({"count": 2, "lastObservedTime": "2026-01-01T00:00:05.000000Z"});
        all[0].series = Some(serde_json::from_value(series).unwrap());
        assert_eq!(last(&all, PROVIDER), Some("two"));
    }

    #[test]
    fn failures_are_told_apart_by_more_than_their_numbers() {
        assert_eq!(gist("expired at 10:01:02, 3 s ago"), gist("expired at 11:02:03, 45 s ago"));
        assert_ne!(gist("AuthFailure"), gist("UnauthorizedOperation"));
        let [one, other] = ["6f8dabc1-3c2e-4b3a-9f00-aa12bb34cc56", "b0c9e7fe-17d4-4c1e-8d55-ffeeddccbbaa"]
            .map(|id| format!("denied (request id: {id}): see https://x.example/{id}?at=1"));
        assert_eq!(gist(&one), gist(&other));
        assert_eq!(gist(&one), "denied request id see https x example at");
    }

    #[tokio::test]
    async fn failures_that_take_turns_are_told_once_each() {
        let server = Server::default();
        let events = server.context().await.events("test");
        let (failing, of) = (Failing::new(events, NODE), ObjectReference::default());
        let mut told = Vec::new();
        for text in ["a 1", "b", "a 2", "b 3", "c", "d", "b 4", "e"] {
            told.push(failing.fails(&of, text).await);
        }
        assert_eq!(told, [true, true, false, false, true, true, false, true]);
        // Of so many the first is forgotten, and all are once it is over.
        assert!(failing.fails(&of, "a").await);
        failing.works(&of, "well").await;
        assert!(failing.fails(&of, "a").await);
        failing.events.told().await;
        assert_eq!(server.state().told.iter().filter(|one| *one == NODE[1]).count(), 1);
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
            failed["metadata"]["namespace"] = json!(NAMESPACE);
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

    /// What the process before has told stands there else.
    #[tokio::test]
    async fn who_may_not_list_events_is_told_that_nothing_fails() {
        for (may, told) in [(true, &[][..]), (false, &[PROVIDER[1], CONFIG[1], ROUTES[1]][..])] {
            let server = Server::default();
            server.state().hides_events = !may;
            let context = server.context().await;
            let trouble = Trouble::start(&context.client, "host").await;
            for _ in 0..2 {
                trouble.provider_works("p").await;
                trouble.config("p", None).await;
                trouble.routes(&Ok(())).await;
            }
            trouble.told().await;
            assert_eq!(server.state().told, told, "{may}");
        }
    }
}
