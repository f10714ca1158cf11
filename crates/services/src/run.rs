//! All of it beside an API server.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use client::cache::{Cache, Name};
use kernel::Act as _;
use kernel::netlink::IpNet;
use kernel::nft::{Family, Loss, Monitor};
use kube::Client;
use rustix::event::{PollFd, PollFlags, poll};

use crate::dns::{Listeners, Resolver, announce, serve};
use crate::health::{self, Healths};
use crate::plan::{At, Front, Node, Plan};
use crate::plane::{Networks, Plane};
use crate::world::{Known, World};

/// After a change that the kernel refused.
const AGAIN: Duration = Duration::from_secs(1);

/// What is wanted of a node.
#[derive(Debug)]
pub struct Setup {
    /// The table of nftables, family inet.
    pub table: String,
    /// The node's name.
    pub node: String,
    /// Where pods are.
    pub networks: Networks,
    /// Where names are answered: no Service is to have that.
    pub own: Vec<SocketAddr>,
    /// Those of them that a Service `kube-dns` is to stand for.
    pub announced: Vec<SocketAddr>,
}

/// What the thread that speaks with the kernel is to do.
#[derive(Debug, Default)]
struct Work {
    state: Mutex<Due>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Due {
    /// Services that have changed.
    names: BTreeSet<Name>,
    /// All of them are to be looked at.
    all: bool,
    /// The table may be another than it was.
    distrust: bool,
    ended: bool,
}

impl Work {
    fn tell(&self, make: impl FnOnce(&mut Due)) {
        make(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.more.notify_one();
    }

    /// What is due, once something is.
    fn take(&self) -> Due {
        let mut due = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while due.names.is_empty() && !due.all && !due.distrust && !due.ended {
            due = self.more.wait(due).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::take(&mut due)
    }
}

/// Ends the thread with the future that it works for.
struct Ending(Arc<Work>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.tell(|due| due.ended = true);
    }
}

/// Keeps the table and answers questions until it is dropped. `ready` is called once all Services that there were are in the table.
///
/// The table stays, and works, when this ends.
///
/// # Errors
/// The kernel gives no socket of netlink.
pub async fn run(
    client: Client,
    setup: Setup,
    world: Arc<World>,
    dns: Option<(Arc<Resolver>, Vec<Listeners>)>,
    ready: impl FnOnce(),
) -> kernel::Result<()> {
    let work = Arc::new(Work::default());
    let _ending = Ending(work.clone());
    let nodes: Arc<[IpNet]> = setup.networks.nodes.clone().into();
    let plane = Plane::open(setup.table.clone(), setup.networks)?;
    let (services, slices, namespaces) =
        (Cache::start(&client), Cache::start(&client), Cache::start(&client));
    let tell = work.clone();
    world.listen(move |name| tell.tell(|due| due.names.extend([name.clone()])));
    world.follow(&services, &slices);
    world.follow_namespaces(&namespaces);
    let answering = async {
        match dns {
            Some((resolver, listeners)) => {
                let each = listeners.into_iter().map(|one| serve(resolver.clone(), one));
                futures_util::future::join_all(each).await;
            }
            None => std::future::pending().await,
        }
    };
    let healths = Arc::new(Healths::default());
    let checking = health::serve(healths.clone(), nodes);
    let announcing = async {
        if !setup.announced.is_empty() {
            announce(client.clone(), &setup.announced).await;
        }
        std::future::pending().await
    };
    let (monitor, table, due) = (Monitor::open()?.of_elements(plane.port()?), setup.table, work.clone());
    let (_until, end) = UnixStream::pair().act("make", || "a pair of sockets")?;
    thread("changes of others", move || watch(&due, &table, monitor, &end));
    let keeping = async {
        tokio::join!(services.filled(), slices.filled(), namespaces.filled());
        world.write().completed();
        work.tell(|due| due.all = true);
        let (first, done) = tokio::sync::oneshot::channel();
        let (due, known, node) = (work.clone(), world.clone(), Node { name: setup.node });
        let own = setup.own;
        thread("nftables", move || keep((&due, &known, &healths), (&node, &own), plane, first));
        if done.await.is_ok() {
            ready();
        }
        std::future::pending().await
    };
    tokio::select! {
        () = answering => Ok(()),
        () = keeping => Ok(()),
        () = checking => Ok(()),
        () = announcing => Ok(()),
    }
}

/// Does `work` on a thread of its own: it waits for the kernel.
fn thread(name: &str, work: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name(name.into()).spawn(work) {
        eprintln!("sextant services: warning: cannot start a thread for {name}: {error}");
    }
}

/// Makes all that is due true, until it is told to end.
fn keep(
    (work, world, healths): (&Work, &World, &Healths),
    (node, own): (&Node, &[SocketAddr]),
    mut plane: Plane,
    first: tokio::sync::oneshot::Sender<()>,
) {
    let mut first = Some(first);
    let (mut told, mut contested) = (String::new(), Vec::new());
    loop {
        let due = work.take();
        if due.ended {
            return;
        }
        if due.distrust {
            plane.distrust();
        }
        let outcome = if due.all {
            let plans = all_planned(&world.read(), node, own);
            let told = plans.iter().filter_map(|(name, plan)| Some((name.clone(), plan.health?)));
            healths.enter_all(told);
            plane.settle(plans)
        } else {
            let known = world.read();
            let plans: Vec<_> =
                due.names.iter().map(|name| (name.clone(), planned(&known, name, node, own))).collect();
            drop(known);
            plans
                .iter()
                .for_each(|(name, plan)| healths.enter(name, plan.as_ref().and_then(|plan| plan.health)));
            plane.change(plans)
        };
        match outcome {
            Ok(_) => {
                told.clear();
                first.take().map(|first| first.send(()));
            }
            Err(error) => {
                let text = error.to_string();
                if text != told {
                    eprintln!("sextant services: warning: {text}; tries again");
                    told = text;
                }
                std::thread::sleep(AGAIN);
                work.tell(|due| due.distrust = true);
            }
        }
        let now = plane.contested();
        now.iter().filter(|words| !contested.contains(*words)).for_each(|words| {
            eprintln!("sextant services: warning: {words}");
        });
        contested = now;
    }
}

/// Has the table looked at when somebody deletes of it, until nobody holds the other end of `end`.
fn watch(work: &Work, table: &str, mut monitor: Monitor, end: &UnixStream) {
    loop {
        let mut polled =
            [PollFd::new(&monitor, PollFlags::IN), PollFd::new(end, PollFlags::IN | PollFlags::HUP)];
        let outcome = rustix::io::retry_on_intr(|| poll(&mut polled, None));
        if outcome.is_err() || !polled[1].revents().is_empty() {
            return;
        }
        let ours = |loss: &Loss| match loss {
            Loss::Of { family, table: of } => *family == Family::Inet && of == table,
            Loss::Unknown => true,
        };
        if monitor.losses().is_ok_and(|losses| losses.iter().any(ours)) {
            work.tell(|due| due.distrust = true);
        }
    }
}

/// What is to be in the kernel, the oldest Service first: who is first to claim a front has it. (When it was claimed nobody knows.)
fn all_planned(known: &Known, node: &Node, own: &[SocketAddr]) -> Vec<(Name, Plan)> {
    let mut names: Vec<Name> = known.names().cloned().collect();
    names.sort_by_cached_key(|name| {
        known.service(name).and_then(|one| one.metadata.creation_timestamp.clone())
    });
    names.into_iter().filter_map(|name| Some((name.clone(), planned(known, &name, node, own)?))).collect()
}

/// What is to be in the kernel for a Service: nothing where names are answered, or it would answer for all of them.
fn planned(known: &Known, name: &Name, node: &Node, own: &[SocketAddr]) -> Option<Plan> {
    let mut plan = known.plan(name, node)?;
    let is_own = |front: &Front| match front.at {
        At::Address(address) => own.contains(&SocketAddr::new(address, front.port)),
        At::Node { .. } => false,
    };
    plan.fronts.retain(|front, _| !is_own(front));
    plan.ranges.retain(|front, _| !is_own(front));
    Some(plan)
}

#[cfg(test)]
mod tests {
    use client::cache::Change;
    use serde_json::{Value, json};

    use super::*;
    use crate::plan::Answer;

    fn enter(known: &mut Known, name: &str, created: &str, mut rest: Value) {
        rest["metadata"] = json!({"name": name, "namespace": "default", "creationTimestamp": created});
        let service = serde_json::from_value(rest).unwrap();
        known.enter_service(&Change { old: None, new: Some(Arc::new(service)) });
    }

    #[test]
    fn no_service_has_the_address_where_names_are_answered() {
        let mut known = Known::default();
        let ports = json!([{"name": "a", "port": 53, "protocol": "UDP", "nodePort": 53}, {"name": "b", "port": 53},
            {"name": "c", "port": 9153}]);
        let greedy = json!({"spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd96::a"],
                "externalIPs": ["192.0.2.53"], "externalTrafficPolicy": "Local", "ports": ports,
                "loadBalancerSourceRanges": ["203.0.113.0/24"]},
            "status": {"loadBalancer": {"ingress": [{"ip": "10.96.0.10"}, {"ip": "192.0.2.53"}]}}});
        enter(&mut known, "greedy", "2026-01-01T00:00:00Z", greedy);
        let own = ["10.96.0.10:53", "[fd96::a]:53", "192.0.2.53:53"].map(|at| at.parse().unwrap());
        let of = |own: &[SocketAddr]| {
            let plan = planned(&known, &Name::new("default", "greedy"), &Node::default(), own).unwrap();
            let fronts = plan.fronts.keys().chain(plan.ranges.keys()).copied().collect::<Vec<_>>();
            fronts.into_iter().filter_map(|front| match front.at {
                At::Address(address) => Some((front.outside, SocketAddr::new(address, front.port))),
                At::Node { .. } => None,
            })
        };
        assert_eq!(of(&[]).filter(|(_, at)| own.contains(at)).count(), 2 * (5 + 2));
        assert_eq!(of(&own).filter(|(_, at)| own.contains(at)).count(), 0);
        assert_eq!(of(&own).filter(|(_, at)| at.port() == 9153).count(), 5 + 2);
    }

    #[test]
    fn the_oldest_comes_first() {
        let mut known = Known::default();
        for (name, created) in
            [("a", "2026-01-03T00:00:00Z"), ("b", "2026-01-01T00:00:00Z"), ("c", "2026-01-02T00:00:00Z")]
        {
            enter(
                &mut known,
                name,
                created,
                json!({"spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 80}]}}),
            );
        }
        let planned = all_planned(&known, &Node::default(), &[]);
        assert!(planned.iter().all(|(_, plan)| plan.fronts.values().all(|answer| *answer == Answer::Reject)));
        let names: Vec<&str> = planned.iter().map(|(name, _)| name.name.as_str()).collect();
        assert_eq!(names, ["b", "c", "a"]);
    }
}
