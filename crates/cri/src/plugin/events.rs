//! What happens to pods and containers, for whoever listens.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use tokio::sync::broadcast;

use super::clock;
use super::container::Container;
use super::node::Node;
use super::pod::Pod;
use crate::contract::v1::{ContainerEventResponse, ContainerEventType};

/// Events that a listener may be behind before it is cut off, and has to list anew.
const ROOM: usize = 1024;

/// One thing that happened.
#[derive(Debug, Clone)]
pub(crate) struct Happened {
    pub(crate) kind: ContainerEventType,
    /// Nanoseconds since 1970.
    pub(crate) at: i64,
    /// The container's id, or the pod's.
    pub(crate) id: String,
    /// The pod's id.
    pub(crate) pod: String,
    /// The pod of what was removed, which may be gone itself by the time that this is told: a kubelet drops what comes
    /// without a pod.
    removed_of: Option<Arc<Pod>>,
}

/// The one stream that everything is told on.
#[derive(Debug)]
pub(crate) struct Events {
    sender: broadcast::Sender<Happened>,
    /// The last of each pod and container since nobody listens: for whoever comes back.
    unheard: Mutex<BTreeMap<String, Happened>>,
    /// A file whose time of change is that of the last end that was told.
    seen: PathBuf,
}

impl Events {
    /// Nobody listens yet. `seen` is a file that outlives this process.
    pub(crate) fn new(seen: PathBuf) -> Self {
        Self { sender: broadcast::channel(ROOM).0, unheard: Mutex::default(), seen }
    }

    /// When the last end was told, by this process or one before it; nanoseconds since 1970, 0 if none was.
    pub(crate) fn last_seen(&self) -> i64 {
        let changed = std::fs::metadata(&self.seen).and_then(|m| m.modified()).ok();
        let since = changed.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }

    /// What happened last to each while nobody listened, and everything that happens from now on.
    pub(crate) fn listen(&self) -> (Vec<Happened>, broadcast::Receiver<Happened>) {
        let mut unheard = self.unheard.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut *unheard).into_values().collect(), self.sender.subscribe())
    }

    /// Events that [`listen`](Self::listen) gave and that were not heard after all, of what `is_there` says is: nobody else
    /// would take away those of what was removed meanwhile.
    pub(crate) fn give_back(
        &self,
        unheard: impl IntoIterator<Item = Happened>,
        is_there: impl Fn(&str) -> bool,
    ) {
        let mut all = self.unheard.lock().unwrap_or_else(PoisonError::into_inner);
        for happened in unheard.into_iter().filter(|happened| is_there(&happened.id)) {
            // What happened since is newer.
            all.entry(happened.id.clone()).or_insert(happened);
        }
    }

    /// A listener leaves. What it had not heard, the `first` of it taken already, is kept for whoever comes next, unless
    /// somebody else has heard it.
    pub(crate) fn leave(
        &self,
        first: Option<Happened>,
        mut listener: broadcast::Receiver<Happened>,
        is_there: impl Fn(&str) -> bool,
    ) {
        // Nothing is told meanwhile, and what is told afterwards finds nobody.
        let mut all = self.unheard.lock().unwrap_or_else(PoisonError::into_inner);
        if self.sender.receiver_count() > 1 {
            return;
        }
        let rest = std::iter::from_fn(|| {
            loop {
                match listener.try_recv() {
                    Ok(happened) => return Some(happened),
                    Err(broadcast::error::TryRecvError::Lagged(_)) => {}
                    Err(_) => return None,
                }
            }
        });
        for happened in first.into_iter().chain(rest).filter(|happened| is_there(&happened.id)) {
            all.insert(happened.id.clone(), happened);
        }
        drop(listener);
    }

    /// Tells whoever listens; whether somebody does.
    fn tell(&self, kind: ContainerEventType, id: &str, pod: &str) -> bool {
        let (id, pod) = (id.to_owned(), pod.to_owned());
        let happened = Happened { kind, at: clock::now(), id, pod, removed_of: None };
        let mut unheard = self.unheard.lock().unwrap_or_else(PoisonError::into_inner);
        let Err(broadcast::error::SendError(happened)) = self.sender.send(happened) else { return true };
        unheard.insert(happened.id.clone(), happened);
        false
    }

    /// Tells that something of the pod was removed, and keeps nothing of it for those who listen later.
    fn tell_removed(&self, id: &str, pod: &str, removed_of: Option<Arc<Pod>>) {
        let kind = ContainerEventType::ContainerDeletedEvent;
        let (id, pod) = (id.to_owned(), pod.to_owned());
        let mut unheard = self.unheard.lock().unwrap_or_else(PoisonError::into_inner);
        unheard.remove(&id);
        drop(self.sender.send(Happened { kind, at: clock::now(), id, pod, removed_of }));
    }

    /// Every end up to now has been told, so that another process need not tell it again.
    pub(crate) fn see(&self) {
        let seen = self.seen.clone();
        // Where that fails an end is told twice.
        drop(tokio::task::spawn_blocking(move || std::fs::File::create(seen)));
    }

    pub(crate) fn pod_started(&self, pod: &Pod) {
        self.tell(ContainerEventType::ContainerCreatedEvent, pod.id(), pod.id());
        self.tell(ContainerEventType::ContainerStartedEvent, pod.id(), pod.id());
    }

    pub(crate) fn pod_stopped(&self, pod: &Pod) {
        self.tell(ContainerEventType::ContainerStoppedEvent, pod.id(), pod.id());
    }

    pub(crate) fn pod_deleted(&self, pod: &Arc<Pod>) {
        self.tell_removed(pod.id(), pod.id(), Some(Arc::clone(pod)));
    }

    pub(crate) fn container_created(&self, container: &Arc<Container>) {
        self.tell(ContainerEventType::ContainerCreatedEvent, container.id(), &container.record.pod);
    }

    pub(crate) fn container_started(&self, container: &Arc<Container>) {
        self.tell(ContainerEventType::ContainerStartedEvent, container.id(), &container.record.pod);
    }

    pub(crate) fn container_stopped(&self, container: &Arc<Container>) {
        if self.tell(ContainerEventType::ContainerStoppedEvent, container.id(), &container.record.pod) {
            self.see();
        }
    }

    pub(crate) fn container_deleted(&self, container: &Arc<Container>, pod: Option<Arc<Pod>>) {
        self.tell_removed(container.id(), &container.record.pod, pod);
    }
}

impl Node {
    /// An event as CRI tells it, with the pod as it is now.
    pub(crate) fn event(&self, happened: &Happened) -> ContainerEventResponse {
        let containers = self.state.containers_of(&happened.pod);
        let pod = self.state.pod(&happened.pod).ok().or_else(|| happened.removed_of.clone());
        ContainerEventResponse {
            container_id: happened.id.clone(),
            container_event_type: happened.kind.into(),
            created_at: happened.at,
            pod_sandbox_status: pod.map(|pod| pod.status()),
            containers_statuses: containers.iter().map(|container| container.status()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_what_is_gone_are_not_kept() {
        let (events, created) =
            (Events::new("/nonexistent".into()), ContainerEventType::ContainerCreatedEvent);
        for id in ["stays", "goes", "is-gone"] {
            events.tell(created, id, "pod");
        }
        let (unheard, listener) = events.listen();
        assert_eq!(unheard.len(), 3);
        events.give_back(unheard, |id| id != "is-gone");
        // Somebody hears that it goes, and not of the rest.
        events.tell_removed("goes", "pod", None);
        drop(listener);
        let kept: Vec<String> = events.listen().0.into_iter().map(|happened| happened.id).collect();
        assert_eq!(kept, ["stays"]);
    }

    #[test]
    fn what_a_listener_that_leaves_had_before_it_is_kept() {
        let events = Events::new("/nonexistent".into());
        let tell = |id| events.tell(ContainerEventType::ContainerStartedEvent, id, "pod");
        let (_, mut listener) = events.listen();
        assert!(tell("taken") && tell("waits") && tell("is-gone"));
        let first = listener.try_recv().ok();
        events.leave(first, listener, |id| id != "is-gone");
        assert!(!tell("later"));
        let kept = |listened: Vec<Happened>| listened.into_iter().map(|h| h.id).collect::<Vec<_>>();
        let (unheard, one) = events.listen();
        assert_eq!(kept(unheard), ["later", "taken", "waits"]);
        // Another hears it all.
        let (_, _other) = events.listen();
        assert!(tell("waits"));
        events.leave(None, one, |_| true);
        assert!(kept(events.listen().0).is_empty());
    }
}
