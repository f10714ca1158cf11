//! Routes to the pods of other nodes (`nodeRoutes`): what is wanted of them, by the file and the nodes, and what people, and the
//! condition of this node, are told of what came of it. `routes::Keeper` does the rest.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use client::cache::Name;
use client::events::{EventType, Events};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource as _};
use metal::NodeRoutes;
use routes::{Keeper, Report, Why};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::nodes::{Nodes, Seen, UNAVAILABLE, ways};

/// Who tells.
const COMPONENT: &str = "sextant-routes";
/// What the condition says of a node that has its routes, and of one that has not: as Kubernetes' controller of routes has it.
const MADE: (&str, &str) = ("False", "RouteCreated");
const FAILED: (&str, &str) = ("True", "NoRouteCreated");
/// What is not so for long is not told: nodes come with their addresses after their names.
const GRACE: Duration = Duration::from_secs(3);
/// What lasts is told again after this long: servers forget an event an hour after it was written.
const AGAIN: Duration = Duration::from_mins(30);
/// Between two writes of the condition, so that the cache shows the first before the second.
const PAUSE: Duration = Duration::from_secs(2);
/// After a write that was refused.
const REFUSED: Duration = Duration::from_secs(10);
/// So many routes that are missing are named.
const NAMED: usize = 8;
/// Reasons of events: a route could not be made, somebody else has one, all are there.
const ROUTE_FAILED: &str = "RouteFailed";
const ROUTE_FOREIGN: &str = "RouteForeign";
const ROUTES_MADE: &str = "RoutesMade";

/// Keeps them, as one of the nodes of a cluster.
pub(super) struct Routing {
    command: &'static str,
    node: String,
    client: Client,
    events: Events,
    keeper: RefCell<Option<Keeper>>,
    /// Whether any are wanted.
    is_on: Cell<bool>,
    /// What came of what is wanted; nothing, where nothing is, or nothing has come of it yet.
    report: watch::Sender<Option<Report>>,
    /// This node, as it was seen last.
    own: RefCell<Option<Arc<Seen>>>,
    /// It is another.
    bell: Notify,
    /// Nothing of ours is left.
    is_clean: Cell<bool>,
    /// The last warning.
    warned: RefCell<String>,
}

impl Routing {
    /// For `command` on a node, in the current runtime. Nothing is touched before it is told what is wanted.
    pub(super) fn new(command: &'static str, client: &Client, node: &str) -> Self {
        Self {
            command,
            node: node.into(),
            client: client.clone(),
            events: Events::new(client, COMPONENT, node),
            keeper: RefCell::default(),
            is_on: Cell::new(false),
            report: watch::Sender::new(None),
            own: RefCell::default(),
            bell: Notify::new(),
            is_clean: Cell::new(false),
            warned: RefCell::default(),
        }
    }

    /// Whether nothing is left to do where routes are wanted, or are not, before nodes change.
    pub(super) fn is_settled(&self, is_wanted: bool) -> bool {
        if is_wanted { self.keeper.borrow().is_some() } else { self.is_clean.get() }
    }

    /// Takes which routes are wanted, and nodes as they are now. Where none are, all that were made are taken away, also by an earlier
    /// process.
    pub(super) fn want(&self, wanted: &NodeRoutes, nodes: &Nodes) {
        if !wanted.are_wanted() {
            return self.stop();
        }
        // Until they are known whole nothing is said of them.
        let Nodes::Whole(nodes) = nodes else { return };
        self.is_clean.set(false);
        self.is_on.set(true);
        *self.own.borrow_mut() = nodes.get(&Name::global(&self.node));
        let mut keeper = self.keeper.borrow_mut();
        if keeper.is_none() {
            let report = self.report.clone();
            match Keeper::start(move |told| drop(report.send_replace(Some(told)))) {
                Ok(started) => *keeper = Some(started),
                Err(e) => self.warn(format!("cannot keep routes to other nodes' pods: {e}")),
            }
        }
        if let Some(keeper) = &*keeper {
            keeper.want(ways(&nodes.all(), &self.node, wanted));
        }
        self.bell.notify_one();
    }

    fn stop(&self) {
        if self.is_clean.get() {
            return;
        }
        self.is_on.set(false);
        // It makes none any more once it is dropped.
        drop(self.keeper.borrow_mut().take());
        self.report.send_replace(None);
        match routes::remove() {
            Ok(count) => {
                self.is_clean.set(true);
                if count > 0 {
                    let command = self.command;
                    eprintln!(
                        "sextant {command}: nodeRoutes is not set: {count} routes to other nodes' pods are taken away"
                    );
                }
            }
            Err(e) => self.warn(format!("cannot take away the routes to other nodes' pods: {e}")),
        }
    }

    /// Says what is wrong, unless it was said last.
    fn warn(&self, text: String) {
        if *self.warned.borrow() != text {
            eprintln!("sextant {}: warning: {text}", self.command);
            *self.warned.borrow_mut() = text;
        }
    }

    /// Tells people, and says in the node's condition, what comes of it, until it is dropped.
    pub(super) async fn follow(&self) -> Infallible {
        let mut reports = self.report.subscribe();
        let (mut troubles, mut saying) = (Troubles::default(), Saying::default());
        loop {
            let report = reports.borrow_and_update().clone();
            let next = match &report {
                Some(report) => {
                    let next = self.tell(&mut troubles, report).await;
                    [next, self.say(&mut saying, report).await].into_iter().flatten().min()
                }
                // What an earlier process has said stands until more is known.
                None if self.is_on.get() => None,
                None => {
                    troubles = Troubles::default();
                    self.unsay(&mut saying).await
                }
            };
            let until = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The sender lives in `self`.
                _changed = reports.changed() => {}
                () = self.bell.notified() => {}
                () = until => {}
            }
        }
    }

    /// Tells what is wrong, or is over; when there will be more to tell.
    async fn tell(&self, troubles: &mut Troubles, report: &Report) -> Option<Instant> {
        let told = troubles.update(texts(report), Instant::now());
        let own = self.own.borrow().clone().map(|own| own.object_ref(&()));
        for (text, reason) in told.wrong {
            eprintln!("sextant {}: warning: {text}", self.command);
            if let Some(own) = &own {
                self.events.tell(own, EventType::Warning, reason, reason, text).await;
            }
        }
        if told.is_over {
            let text = "routes lead to the pods of all other nodes of the same link";
            eprintln!("sextant {}: {text}", self.command);
            if let Some(own) = &own {
                self.events.tell(own, EventType::Normal, ROUTES_MADE, ROUTES_MADE, text.into()).await;
            }
        }
        told.next
    }

    /// Sees that the node's condition says what is so; when that is to be looked at again.
    async fn say(&self, saying: &mut Saying, report: &Report) -> Option<Instant> {
        let own = self.own.borrow().clone()?;
        // Of a node without pods of its own nobody says so.
        if own.ranges().is_empty() {
            return None;
        }
        let (now, refused) = (Instant::now(), report.refused());
        let since = refused.is_some().then(|| saying.since.unwrap_or(now));
        saying.since = since;
        if let Some(at) = since.map(|since| since + GRACE).filter(|at| *at > now) {
            return Some(at);
        }
        let wanted = if refused.is_some() { FAILED } else { MADE };
        if own.said() == Some(wanted) {
            return None;
        }
        if let Some(at) = saying.not_before.filter(|at| *at > now) {
            return Some(at);
        }
        let (status, reason) = wanted;
        let message =
            refused.unwrap_or_else(|| "Routes lead to the pods of the other nodes of the same link".into());
        let at = format!("{:.0}", Timestamp::now());
        let condition = json!({"type": UNAVAILABLE, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": at, "lastHeartbeatTime": at});
        if self.write(saying, &own, condition).await {
            saying.has_said = true;
        }
        saying.not_before
    }

    /// Takes back what the condition says; when that is to be tried again.
    async fn unsay(&self, saying: &mut Saying) -> Option<Instant> {
        let own = self.own.borrow().clone()?;
        let is_ours = own.said().is_some_and(|said| [MADE, FAILED].contains(&said));
        if !saying.has_said && !is_ours {
            return None;
        }
        if let Some(at) = saying.not_before.filter(|at| *at > Instant::now()) {
            return Some(at);
        }
        if self.write(saying, &own, json!({"type": UNAVAILABLE, "$patch": "delete"})).await {
            saying.has_said = false;
            // Nodes are not looked at so closely any more: nobody tells that it is gone.
            *self.own.borrow_mut() = None;
            return None;
        }
        saying.not_before
    }

    /// Writes the condition; whether it is written, or its node is gone.
    async fn write(&self, saying: &mut Saying, own: &Seen, condition: Value) -> bool {
        let api: Api<Node> = Api::all(self.client.clone());
        let patch = json!({"metadata": {"uid": own.meta().uid}, "status": {"conditions": [condition]}});
        let done = api.patch_status(&self.node, &PatchParams::default(), &Patch::Strategic(patch)).await;
        let why = match done {
            Ok(_) => None,
            // It is gone, or another: that is heard of soon.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => None,
            Err(error) => Some(client::causes(&error)),
        };
        saying.not_before = Some(Instant::now() + if why.is_none() { PAUSE } else { REFUSED });
        match why {
            None => true,
            Some(why) => {
                let node = &self.node;
                self.warn(format!("cannot write condition {UNAVAILABLE} of node {node}: {why}"));
                false
            }
        }
    }
}

/// What is known of the node's condition.
#[derive(Debug, Default)]
struct Saying {
    /// Since when routes are refused.
    since: Option<Instant>,
    /// There is no write before this.
    not_before: Option<Instant>,
    /// It was written here.
    has_said: bool,
}

/// What is wrong, for people, each with the reason of its event.
fn texts(report: &Report) -> Vec<(String, &'static str)> {
    let reason = |why: &Why| if matches!(why, Why::Foreign { .. }) { ROUTE_FOREIGN } else { ROUTE_FAILED };
    let named = report.missing.iter().take(NAMED).map(|one| (one.to_string(), reason(&one.why)));
    let more = (report.missing.len() > NAMED)
        .then(|| ("no route leads to the pods of more nodes than are named".to_owned(), ROUTE_FAILED));
    let failed = report.failed.iter().map(|why| (why.clone(), ROUTE_FAILED));
    named.chain(more).chain(failed).collect()
}

/// What is wrong, since when, and when it was told.
#[derive(Debug, Default)]
struct Troubles(BTreeMap<String, (Instant, Option<Instant>)>);

/// What is to be told of it now.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    wrong: Vec<(String, &'static str)>,
    /// Nothing of what was told is wrong any more.
    is_over: bool,
    /// When there will be more.
    next: Option<Instant>,
}

impl Troubles {
    fn update(&mut self, texts: Vec<(String, &'static str)>, now: Instant) -> Told {
        let is_told = |all: &Self| all.0.values().any(|(_, told)| told.is_some());
        let was_told = is_told(self);
        self.0.retain(|known, _| texts.iter().any(|(text, _)| text == known));
        let mut told = Told { wrong: Vec::new(), is_over: was_told && !is_told(self), next: None };
        for (text, reason) in texts {
            let (since, last) = self.0.entry(text.clone()).or_insert((now, None));
            let mut due = last.map_or(*since + GRACE, |last| last + AGAIN);
            if due <= now {
                *last = Some(now);
                due = now + AGAIN;
                told.wrong.push((text, reason));
            }
            told.next = Some(told.next.map_or(due, |next| next.min(due)));
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use routes::Missing;

    use super::*;

    #[test]
    fn what_lasts_is_told_once_and_its_end() {
        let (mut troubles, now) = (Troubles::default(), Instant::now());
        let wrong = |texts: &[&str]| -> Vec<(String, &'static str)> {
            texts.iter().map(|text| ((*text).into(), ROUTE_FAILED)).collect()
        };
        let first = troubles.update(wrong(&["a"]), now);
        assert_eq!((first.wrong.len(), first.next), (0, Some(now + GRACE)));
        // What is over before is never told, and neither is its end.
        assert_eq!(troubles.update(Vec::new(), now), Told { wrong: Vec::new(), is_over: false, next: None });
        troubles.update(wrong(&["a"]), now);
        let told = troubles.update(wrong(&["a", "b"]), now + GRACE);
        assert_eq!((told.wrong, told.next), (wrong(&["a"]), Some(now + GRACE * 2)));
        let told = troubles.update(wrong(&["a", "b"]), now + GRACE * 2);
        assert_eq!((told.wrong, told.is_over), (wrong(&["b"]), false));
        assert_eq!(told.next, Some(now + GRACE + AGAIN));
        let told = troubles.update(wrong(&["a", "b"]), now + GRACE + AGAIN);
        assert_eq!(told.wrong, wrong(&["a"]), "again");
        let told = troubles.update(wrong(&["b"]), now + GRACE + AGAIN);
        assert!(!told.is_over, "something is left");
        assert!(troubles.update(Vec::new(), now + GRACE + AGAIN).is_over);
        assert!(!troubles.update(Vec::new(), now + GRACE + AGAIN).is_over);
    }

    #[test]
    fn a_few_of_many_are_named() {
        let missing = |at: u8| Missing {
            node: format!("node-{at}"),
            range: format!("10.64.{at}.0/24").parse().unwrap(),
            why: if at == 0 { Why::Foreign { protocol: 12, gateway: None } } else { Why::NoAddress },
        };
        let report =
            |count: u8| Report { there: 0, missing: (0..count).map(missing).collect(), failed: None };
        let few = texts(&report(2));
        assert_eq!((few.len(), few[0].1, few[1].1), (2, ROUTE_FOREIGN, ROUTE_FAILED));
        assert!(few[0].0.contains("node node-0") && few[0].0.contains("bird"), "{}", few[0].0);
        assert_eq!(texts(&report(200)).len(), NAMED + 1);
        let failed = Report { failed: Some("cannot list routes".into()), ..report(0) };
        assert_eq!(texts(&failed), [("cannot list routes".to_owned(), ROUTE_FAILED)]);
    }
}
