//! What happens to pods and containers, for whoever listens.

use std::sync::Arc;

use tokio::sync::broadcast;

use super::clock;
use super::container::Container;
use super::pod::Pod;
use crate::contract::v1::ContainerEventType;

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
}

/// The one stream that everything is told on.
#[derive(Debug)]
pub(crate) struct Events {
    sender: broadcast::Sender<Happened>,
}

impl Default for Events {
    fn default() -> Self {
        Self { sender: broadcast::channel(ROOM).0 }
    }
}

impl Events {
    /// Everything that happens from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Happened> {
        self.sender.subscribe()
    }

    fn tell(&self, kind: ContainerEventType, id: &str, pod: &str) {
        // Nobody has to listen.
        let _ = self.sender.send(Happened { kind, at: clock::now(), id: id.to_owned(), pod: pod.to_owned() });
    }

    pub(crate) fn pod_started(&self, pod: &Pod) {
        self.tell(ContainerEventType::ContainerCreatedEvent, pod.id(), pod.id());
        self.tell(ContainerEventType::ContainerStartedEvent, pod.id(), pod.id());
    }

    pub(crate) fn pod_stopped(&self, pod: &Pod) {
        self.tell(ContainerEventType::ContainerStoppedEvent, pod.id(), pod.id());
    }

    pub(crate) fn pod_deleted(&self, pod: &Pod) {
        self.tell(ContainerEventType::ContainerDeletedEvent, pod.id(), pod.id());
    }

    pub(crate) fn container_created(&self, container: &Arc<Container>) {
        self.tell(ContainerEventType::ContainerCreatedEvent, container.id(), &container.record.pod);
    }

    pub(crate) fn container_started(&self, container: &Arc<Container>) {
        self.tell(ContainerEventType::ContainerStartedEvent, container.id(), &container.record.pod);
    }

    pub(crate) fn container_stopped(&self, container: &Arc<Container>) {
        self.tell(ContainerEventType::ContainerStoppedEvent, container.id(), &container.record.pod);
    }

    pub(crate) fn container_deleted(&self, container: &Arc<Container>) {
        self.tell(ContainerEventType::ContainerDeletedEvent, container.id(), &container.record.pod);
    }
}
