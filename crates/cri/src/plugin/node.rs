//! A node: its pods, containers and images, and what they share.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kernel::capability::{Capability, Sets};
use kernel::process::Child;
use ledger::{Effect, Owner, OwnerId, Record as _};
use oci_image::store::Store;
use shim::protocol::Exited;
use shim::spawn::Binary;

use super::cgroup::{Driver, kill_all};
use super::config::Config;
use super::container::{self, Container};
use super::events::Events;
use super::handlers::Handlers;
use super::history::{Doing, History, Who};
use super::images::{self, Images};
use super::nri::Nri;
use super::operations::Operations;
use super::pod::{self, Networks, Pod};
use super::run::Setup;
use super::state::State;
use super::stats::{Layers, Rates};
use super::{Place, files, shims};
use crate::contract::Error;

/// Under memory pressure everything of a pod's goes before the shim that keeps it, and the kubelet (-999) after it.
const SHIM_OOM_SCORE_ADJ: i32 = -998;

/// Everything of a node that serves CRI.
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) config: Config,
    pub(crate) boot: String,
    pub(crate) state: State,
    pub(crate) store: Arc<Store>,
    pub(crate) images: Arc<Images>,
    pub(crate) networks: Networks,
    pub(crate) cni: cni::caller::Caller,
    pub(crate) handlers: Handlers,
    pub(crate) binary: Binary,
    /// Where shims are to be, if not where this process is.
    pub(crate) shim_scope: Option<Arc<shims::Scope>>,
    /// Those that this process has started.
    shims: Mutex<Vec<Child>>,
    pub(crate) cgroup_driver: Driver,
    /// What shims are asked to give themselves; `None` where they would be refused it.
    pub(crate) shim_oom_score_adj: Option<i32>,
    pub(crate) events: Events,
    pub(crate) history: Arc<History>,
    pub(crate) layers: Layers,
    pub(crate) rates: Rates,
    pub(crate) nri: Nri,
    pub(crate) pods_in_making: Arc<Operations<pod::Key, Result<String, Error>>>,
    /// Whether somebody else than pods and containers stands for what an owner has: `sextant run`.
    pub(crate) others: Box<dyn Fn(&OwnerId) -> bool + Send + Sync>,
    pub(crate) containers_in_making: Arc<Operations<container::Key, Result<String, Error>>>,
}

impl Node {
    /// A node without pods yet: [`recover`](super::recover) finds them.
    pub(crate) fn new(setup: Setup) -> Result<Self, Error> {
        let Setup { place, config, store, builtins, built_in_network, others, layers_of_others, .. } = setup;
        let store = Arc::new(store);
        let grace = Duration::from_secs(config.runtime.grace);
        Ok(Self {
            boot: boot_id()?,
            state: State::default(),
            images: Arc::new(Images::new(
                Arc::clone(&store),
                &config.images,
                layers_in_use(&place, layers_of_others),
                &place.containers(),
            )),
            networks: Networks::new(&config.network.conf_dir, built_in_network),
            cni: pod::caller(&place, builtins, &config.network.bin_dirs),
            handlers: Handlers::new(&config, &|line| eprintln!("sextant node: {line}"))?,
            binary: Binary::find()?,
            shim_scope: shims::Scope::of(&place.name),
            shims: Mutex::default(),
            cgroup_driver: config.runtime.cgroup_driver,
            shim_oom_score_adj: shim_oom_score_adj()?,
            history: Arc::default(),
            events: Events::new(place.run.join("cri-seen")),
            pods_in_making: Arc::new(Operations::new(grace)),
            containers_in_making: Arc::new(Operations::new(grace)),
            layers: Layers::default(),
            rates: Rates::default(),
            nri: Nri::new(place.clone()),
            others,
            store,
            place,
            config,
        })
    }

    /// Says something to the operator.
    pub(crate) fn log(&self, line: &str) {
        eprintln!("sextant node: {line}");
    }

    /// Says what could not be done in full for a pod or a container.
    pub(crate) fn warn(&self, id: &str, warnings: &[String]) {
        for warning in warnings {
            self.log(&format!("{id}: warning: {warning}"));
        }
    }

    /// Makes `owner` a user of the cgroup that containers without a parent are in.
    pub(crate) fn share_cgroup(&self, owner: &mut Owner) -> Result<(), Error> {
        let parent = Path::new(&self.place.name);
        owner
            .share(&format!("cgroup-{}", self.place.name), &mut |node| {
                node.record(Effect::Cgroup { path: parent.to_owned() })?;
                Ok(kernel::cgroup::Cgroup::at(parent)?.create()?)
            })
            .map_err(Error::of)?;
        Ok(())
    }

    /// A shim that this process has started, and whose end it has to take.
    pub(crate) fn adopt(&self, child: Child) {
        self.shims.lock().unwrap_or_else(PoisonError::into_inner).push(child);
    }

    /// Takes the ends of shims, now that one is ending: their codes are nobody's, for what a pod has to say is in files.
    pub(crate) fn reap_soon(self: &Arc<Self>) {
        let node = Arc::clone(self);
        tokio::spawn(async move {
            for wait in [20, 200, 2000] {
                tokio::time::sleep(Duration::from_millis(wait)).await;
                let mut shims = node.shims.lock().unwrap_or_else(PoisonError::into_inner);
                shims.retain(|child| matches!(child.try_wait(), Ok(None)));
            }
        });
    }

    /// Tells whoever listens or will ask that a container has ended.
    pub(crate) fn stopped(&self, container: &Arc<Container>) {
        if let Ok(pod) = self.state.pod(&container.record.pod) {
            self.history.ended(&Who::of(&pod.record.config), container);
        }
        self.events.container_stopped(container);
    }

    /// Something begins that is done to a container; nobody asks about one whose pod is gone.
    pub(crate) fn begin_for(&self, container: &Container, what: &'static str) -> Option<Doing> {
        let pod = self.state.pod(&container.record.pod).ok()?;
        let name = container.record.config.metadata.as_ref().map_or("", |m| m.name.as_str());
        Some(self.history.begin(Who::of(&pod.record.config), what, name))
    }

    /// A container's program has ended.
    pub(crate) fn container_exited(self: &Arc<Self>, container: &Arc<Container>, exited: &Exited) {
        if container.set_exited(exited) {
            self.stopped(container);
            self.tell_stopped_soon(container);
        }
    }

    /// A container is gone without its shim having told how.
    pub(crate) async fn container_lost(self: &Arc<Self>, container: &Arc<Container>) {
        if container.set_lost() {
            self.remember_failure(container).await;
            self.stopped(container);
            self.tell_stopped_soon(container);
        }
    }

    /// Writes down how a container ended that no shim can write of.
    pub(crate) async fn remember_failure(&self, container: &Container) {
        let live = container.live();
        let at = |nanoseconds: i64| {
            let since = Duration::from_nanos(nanoseconds.max(0).unsigned_abs());
            shim::timestamp(std::time::UNIX_EPOCH + since)
        };
        let exit = container::Exit {
            code: live.exit_code,
            oom: false,
            at: at(live.finished_at),
            started_at: if live.started_at > 0 { at(live.started_at) } else { String::new() },
            reason: live.reason,
            message: live.message,
        };
        let path = self.place.container(container.id()).join("exit.json");
        if let Err(error) = blocking(move || files::write_json(&path, &exit)).await {
            self.log(&format!("container {}: {error}", container.id()));
        }
    }

    /// The shim of a pod has ended by itself: so have its containers, or they are ended now.
    pub(crate) async fn shim_lost(self: &Arc<Self>, pod: &Arc<Pod>) {
        if !pod.lose_shim() {
            return;
        }
        self.reap_soon();
        self.log(&format!("pod sandbox {}: its shim has ended; its containers end with it", pod.id()));
        let containers = self.state.containers_of(pod.id());
        let cgroups: Vec<_> = containers.iter().map(|c| c.cgroup()).collect();
        if let Err(error) = blocking(move || kill_all(&cgroups)).await {
            self.log(&format!("pod sandbox {}: {error}", pod.id()));
        }
        for container in containers {
            // The shim may have written the exit before it ended.
            let dir = self.place.container(container.id());
            match blocking(move || container::Exit::read(&dir)).await {
                Ok(Some(exit)) => {
                    if container.remember(&exit) {
                        self.stopped(&container);
                        self.tell_stopped_soon(&container);
                    }
                }
                _ => self.container_lost(&container).await,
            }
        }
        self.events.pod_stopped(pod);
    }
}

/// The layers of every container on the machine that is made from the store.
///
/// Read from the records and not from memory: a container has a record before it is known here.
fn layers_in_use(
    place: &Place,
    others: Box<dyn Fn() -> Option<BTreeSet<String>> + Send + Sync>,
) -> images::InUse {
    let data = place.data.clone();
    Arc::new(move || {
        let mut layers = super::layers_in_use(&data)?;
        layers.extend(others()?);
        Some(layers)
    })
}

/// The score that shims can be given, told once: each pod's shim would be refused it alike.
fn shim_oom_score_adj() -> Result<Option<i32>, Error> {
    let path = "/proc/self/oom_score_adj";
    let own = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let may_lower = Sets::current()?.effective.contains(Capability::SysResource);
    let score = oom_score_adj(own, may_lower);
    if score.is_none() {
        eprintln!(
            "sextant node: warning: cannot lower oom_score_adj of shims to {SHIM_OOM_SCORE_ADJ}: that takes \
             CAP_SYS_RESOURCE, or a node that has it (OOMScoreAdjust= of its unit); theirs is the node's, {own}"
        );
    }
    Ok(score)
}

/// Anybody may raise a score, and a shim begins with the node's.
fn oom_score_adj(own: i32, may_lower: bool) -> Option<i32> {
    (may_lower || own <= SHIM_OOM_SCORE_ADJ).then_some(SHIM_OOM_SCORE_ADJ)
}

/// Does `work` on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal(format!("a bug ended the work: {e}")))?
}

fn boot_id() -> Result<String, Error> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text =
        std::fs::read_to_string(path).map_err(|e| Error::internal(format!("cannot read {path}: {e}")))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shims_are_asked_for_no_score_that_is_refused() {
        assert_eq!(oom_score_adj(0, false), None);
        assert_eq!(oom_score_adj(-997, false), None);
        assert_eq!(oom_score_adj(0, true), Some(-998));
        assert_eq!(oom_score_adj(-999, false), Some(-998));
    }
}
