//! Routes in the cloud's network, to the pods of each node.

mod plan;
#[cfg(test)]
mod tests;
mod times;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use client::events::EventType;
use cpi::contract::{CloudProvider, Error, Node, Route, Routes};
use futures_util::StreamExt as _;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Context;
use super::trouble::{Failing, Trouble};
use times::Times;

/// So many calls run at the same time.
const CALLS: usize = 200;
/// How often what was in somebody's way is tried.
const TRIES: u32 = 5;
/// How long is waited between these.
const PAUSE: Duration = Duration::from_millis(100);
/// Reasons of events of a node to which a route could not be made, and to which it could.
const REASONS: [&str; 2] = ["FailedToCreateRoute", "RouteCreated"];

struct Controller<'a> {
    context: Arc<Context>,
    routes: &'a dyn Routes,
    /// Nodes to which no route can be made yet.
    waiting: Arc<Failing>,
}

/// Works until it is dropped. A provider may come to have routes, or have none any more, while it runs.
pub(super) async fn run(context: Arc<Context>, provider: Arc<dyn CloudProvider>, trouble: &Trouble) {
    let mut times = Times::of(&context.nodes, context.setup.route_period);
    let (waiting, mut had) = (waiting(&context), false);
    loop {
        times.next().await;
        let Some(routes) = provider.routes() else {
            trouble.no_routes().await;
            // Each time: what was said a moment ago may not be known yet, and what could not be written is to be.
            if had {
                withdraw(&context).await;
            }
            continue;
        };
        had = true;
        let it = Controller { context: context.clone(), routes, waiting: waiting.clone() };
        it.round(trouble).await;
    }
}

fn waiting(context: &Context) -> Arc<Failing> {
    Arc::new(Failing::new(context.events("route_controller"), REASONS))
}

/// Takes back what was said of nodes that wait for a route: nobody makes it any more, and nothing would be scheduled there for ever.
async fn withdraw(context: &Context) {
    for node in context.nodes.find(plan::waits) {
        write(context, &node, plan::nothing_said()).await;
    }
}

/// Writes a condition of a node, as it is in a patch.
async fn write(context: &Context, node: &Node, condition: Value) {
    let api: Api<Node> = Api::all(context.client.clone());
    let patch = json!({"metadata": {"uid": node.metadata.uid}, "status": {"conditions": [condition]}});
    let patch = Patch::Strategic(patch);
    for left in (0..TRIES).rev() {
        match api.patch_status(&node.name_any(), &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.code == 409 && left > 0 => {
                tokio::time::sleep(PAUSE).await
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return,
            Ok(_) => return,
            Err(error) => {
                let (name, why) = (node.name_any(), client::causes(&error));
                eprintln!("sextant control: warning: cannot write the condition of node {name}: {why}");
                return;
            }
        }
    }
}

/// Why a look failed.
#[derive(Debug)]
struct Failed {
    text: String,
    /// The provider says when it can do it: nothing is wrong.
    is_passing: bool,
}

impl Failed {
    fn of(act: &str, error: &Error) -> Self {
        let is_passing = matches!(error, Error::RetryAfter { .. });
        Self { text: format!("cannot {act}: {error}"), is_passing }
    }
}

impl Controller<'_> {
    fn cluster(&self) -> &str {
        &self.context.setup.cluster_name
    }

    /// Looks once, and tells what comes of it. What passes by itself is not told of the cluster, and is no end of what was told before.
    async fn round(&self, trouble: &Trouble) {
        self.context.metrics.routes_synced();
        match self.look().await {
            Ok(()) => trouble.routes(&Ok(())).await,
            Err(Failed { text, is_passing }) => {
                eprintln!("sextant control: warning: {text}");
                if !is_passing {
                    trouble.routes(&Err(text)).await;
                }
            }
        }
    }

    /// The first thing that failed and that no node is told of.
    async fn look(&self) -> Result<(), Failed> {
        let listed = self.routes.list_routes(self.cluster()).await;
        let listed = listed.map_err(|error| Failed::of("list routes", &error))?;
        let nodes = self.context.nodes.all();
        let plan = plan::plan(nodes.iter().map(|node| &**node), &listed, &self.context.setup.cluster_cidrs);
        let deleted = self.delete(&plan.delete);
        let (missing, deleted) = if plan.in_turn {
            let deleted = deleted.await;
            (self.create(&nodes, &plan.create).await, deleted)
        } else {
            tokio::join!(self.create(&nodes, &plan.create), deleted)
        };
        let uids: BTreeSet<&str> = nodes.iter().filter_map(|node| node.metadata.uid.as_deref()).collect();
        self.waiting.keep(|uid| uids.contains(uid));
        let told = futures_util::stream::iter(&nodes).for_each_concurrent(CALLS, async |node| {
            let name = node.name_any();
            if let Some(has_ranges) = plan.nodes.get(&name) {
                self.tell(node, has_ranges.is_some() && !missing.contains(&name)).await;
            }
        });
        told.await;
        deleted
    }

    /// Takes routes away; the first failure, of those that do not pass and by the routes' names.
    async fn delete(&self, routes: &[Route]) -> Result<(), Failed> {
        let deleted = futures_util::stream::iter(routes).map(async |route| {
            let (name, to) = (&route.name, &route.destination_cidr);
            let deleted = self.routes.delete_route(self.cluster(), route).await;
            deleted.map_err(|error| Failed::of(&format!("delete route {name} to {to}"), &error))
        });
        let failed = deleted.buffer_unordered(CALLS).filter_map(async |deleted| deleted.err());
        let failed: Vec<Failed> = failed.collect().await;
        let first = failed.into_iter().min_by(|a, b| (a.is_passing, &a.text).cmp(&(b.is_passing, &b.text)));
        first.map_or(Ok(()), Err)
    }

    /// Makes routes; the names of nodes that miss one.
    async fn create(&self, nodes: &[Arc<Node>], routes: &[(String, Route)]) -> BTreeSet<String> {
        let made = futures_util::stream::iter(routes).map(async |(uid, route)| {
            let node = nodes.iter().find(|node| node.metadata.uid.as_deref() == Some(uid));
            let is_made = self.create_one(uid, route, node.map(|node| &**node)).await;
            (!is_made).then(|| route.target_node.clone())
        });
        made.buffer_unordered(CALLS).filter_map(std::future::ready).collect().await
    }

    /// Makes a route, again and again while another is in its way; whether it is there.
    async fn create_one(&self, uid: &str, route: &Route, node: Option<&Node>) -> bool {
        for left in (0..TRIES).rev() {
            let began = Instant::now();
            let Err(error) = self.routes.create_route(self.cluster(), uid, route).await else { return true };
            let (to, name, took) = (&route.destination_cidr, &route.target_node, began.elapsed());
            let text = format!("Could not create route {uid} {to} for node {name} after {took:?}: {error}");
            if let Some(of) = node.map(|node| node.object_ref(&())) {
                let [failed, _] = REASONS;
                match error {
                    // What the provider waits for is told once.
                    Error::RetryAfter { .. } => drop(self.waiting.fails(&of, &text).await),
                    _ => {
                        self.waiting.events().tell(&of, EventType::Warning, failed, failed, text).await;
                    }
                }
            }
            if left == 0 || !matches!(error, Error::AlreadyExists(_)) {
                return false;
            }
            tokio::time::sleep(PAUSE).await;
        }
        false
    }

    /// Says of a node whether its pods are reached.
    async fn tell(&self, node: &Node, is_reached: bool) {
        if let Some(condition) = plan::said(node, is_reached, Timestamp::now()) {
            write(&self.context, node, condition).await;
        }
    }
}
