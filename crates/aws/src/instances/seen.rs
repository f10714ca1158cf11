//! Instances that were looked at a moment ago: many nodes are asked about in one call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::Instant;

use crate::api::{Client, Failed};
use crate::ec2::{self, FILTERED, Instance};

/// What was seen is true for so long: a round over all nodes costs a call for each 200.
const FRESH: Duration = Duration::from_secs(3);
/// An instance that nobody has asked about for so long is not looked at along with others.
const KEPT: Duration = Duration::from_secs(660);
/// What EC2 says of ids that it does not know.
const UNKNOWN: &[&str] = &["InvalidInstanceID.NotFound"];

/// How an instance was found.
#[derive(Clone, Debug)]
struct Look {
    /// `None`: EC2 does not know it.
    found: Option<Arc<Instance>>,
    at: Instant,
}

#[derive(Debug, Default)]
struct State {
    looks: HashMap<String, Look>,
    asked: HashMap<String, Instant>,
    /// Instances of nodes, by the nodes' names.
    nodes: HashMap<String, String>,
    began: Option<Instant>,
}

/// What is known of instances, and of nodes' names.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    state: Mutex<State>,
    /// Who looks; the others wait, and find what they wait for.
    turn: tokio::sync::Mutex<()>,
}

impl Seen {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at all instances that have the cluster's tag, as their nodes will be asked about.
    pub(crate) async fn begin(&self, client: &Client, mark: &str) -> Result<(), Failed> {
        let all = ec2::instances_by(client, &[("tag-key", &[mark.to_owned()])]).await?;
        let now = Instant::now();
        self.keep(all, now);
        self.state().began.get_or_insert(now);
        Ok(())
    }

    /// How long ago the first controllers began; nothing where none has.
    pub(crate) fn age(&self) -> Duration {
        self.state().began.map(|began| began.elapsed()).unwrap_or_default()
    }

    fn keep(&self, all: Vec<Instance>, at: Instant) {
        let mut state = self.state();
        for one in all {
            state.looks.insert(one.id.clone(), Look { found: Some(Arc::new(one)), at });
        }
    }

    /// Notes that a node has this instance.
    pub(crate) fn note(&self, node: &str, id: &str) {
        let mut state = self.state();
        if state.nodes.get(node).map(String::as_str) != Some(id) {
            // Another node had it under its former name.
            state.nodes.retain(|_, other| other != id);
            state.nodes.insert(node.into(), id.into());
        }
    }

    /// The instance that a node is known to have.
    pub(crate) fn of_node(&self, node: &str) -> Option<String> {
        self.state().nodes.get(node).cloned()
    }

    /// The node that is known to have an instance.
    pub(crate) fn node_of(&self, id: &str) -> Option<String> {
        self.state().nodes.iter().find(|(_, its)| *its == id).map(|(node, _)| node.clone())
    }

    /// Forgets which instance a node has, as it has another.
    pub(crate) fn forget(&self, node: &str) {
        self.state().nodes.remove(node);
    }

    /// Instances that go by this name, as far as they were seen, and are not gone.
    pub(crate) fn called(&self, name: &str) -> Vec<Arc<Instance>> {
        let state = self.state();
        let all = state.looks.values().filter_map(|look| look.found.clone());
        all.filter(|one| one.private_dns == name && !one.is_gone()).collect()
    }

    /// What was seen a moment ago.
    fn held(&self, id: &str) -> Option<Look> {
        self.state().looks.get(id).filter(|look| look.at.elapsed() < FRESH).cloned()
    }

    /// The instance as it is now, or was a moment ago; `None` where EC2 does not know it.
    pub(crate) async fn by_id(&self, client: &Client, id: &str) -> Result<Option<Arc<Instance>>, Failed> {
        self.state().asked.insert(id.into(), Instant::now());
        if let Some(look) = self.held(id) {
            return Ok(look.found);
        }
        let _turn = self.turn.lock().await;
        if let Some(look) = self.held(id) {
            return Ok(look.found);
        }
        let ids = self.stale(id);
        let calls = ids
            .chunks(FILTERED)
            .map(|some| async move { ec2::instances_by(client, &[("instance-id", some)]).await });
        let found = try_join_all(calls).await?;
        // From the answer on: a slow one would be stale as it comes, and each who waits would ask anew.
        let at = Instant::now();
        self.keep(found.into_iter().flatten().collect(), at);
        if let Some(look) = self.held(id) {
            return Ok(look.found);
        }
        // A filter finds nothing where an id finds an error: only that is believed.
        let found = match ec2::instances_of(client, &[id.to_owned()]).await {
            Ok(found) => match found.into_iter().find(|one| one.id == id) {
                Some(one) => Some(Arc::new(one)),
                None => {
                    let why = format!("it neither has {id} nor says that there is none");
                    return Err(Failed::not_understood("ec2:DescribeInstances", &why));
                }
            },
            Err(failed) if failed.is(UNKNOWN) => None,
            Err(failed) => return Err(failed),
        };
        self.state().looks.insert(id.into(), Look { found: found.clone(), at });
        Ok(found)
    }

    /// This instance, and all others that somebody has asked about lately and that are not fresh.
    fn stale(&self, id: &str) -> Vec<String> {
        let mut state = self.state();
        state.asked.retain(|_, asked| asked.elapsed() < KEPT);
        let State { looks, asked, .. } = &mut *state;
        looks.retain(|id, look| asked.contains_key(id) || look.at.elapsed() < KEPT);
        let is_stale = |id: &&String| {
            looks.get(*id).is_none_or(|look| look.found.is_some() && look.at.elapsed() >= FRESH)
        };
        let others = asked.keys().filter(|other| *other != id).filter(is_stale);
        std::iter::once(id.to_owned()).chain(others.cloned()).collect()
    }

    /// Several instances, in no order; those that EC2 does not know are left out.
    pub(crate) async fn all(&self, client: &Client, ids: &[String]) -> Result<Vec<Arc<Instance>>, Failed> {
        let now = Instant::now();
        self.state().asked.extend(ids.iter().map(|id| (id.clone(), now)));
        let found = try_join_all(ids.iter().map(|id| self.by_id(client, id))).await?;
        Ok(found.into_iter().flatten().collect())
    }
}
