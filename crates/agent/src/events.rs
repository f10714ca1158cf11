//! What people are told, in its order and by a task of its own: no pod waits for it.

use client::events::EventType;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Client, Resource};
use tokio::sync::mpsc;

/// As many wait to be told; more are not told at all.
const WAITING: usize = 4096;

/// What an event is about.
pub(crate) trait About {
    /// As events name it.
    fn reference(&self) -> ObjectReference;
}

impl<K: Resource<DynamicType = ()>> About for K {
    fn reference(&self) -> ObjectReference {
        self.object_ref(&())
    }
}

/// A part of an object: a container of a pod.
#[derive(Clone, Debug)]
pub(crate) struct PartOf(pub(crate) ObjectReference);

impl About for PartOf {
    fn reference(&self) -> ObjectReference {
        self.0.clone()
    }
}

struct Told {
    of: ObjectReference,
    type_: EventType,
    reason: String,
    text: String,
}

/// Events of the node and its pods.
#[derive(Debug)]
pub(crate) struct Events {
    sender: mpsc::Sender<Told>,
}

impl Events {
    /// Those of a node's agent, told by a task of the current runtime.
    pub(crate) fn start(client: &Client, node: &str) -> Self {
        // Who reads events looks for this name.
        let events = client::events::Events::new(client, "kubelet", node);
        let (sender, mut receiver) = mpsc::channel::<Told>(WAITING);
        tokio::spawn(async move {
            while let Some(told) = receiver.recv().await {
                events.tell(&told.of, told.type_, &told.reason, &told.reason, told.text).await;
            }
        });
        Self { sender }
    }

    /// Something went as it should.
    pub(crate) fn normal(&self, of: &impl About, reason: &str, text: impl Into<String>) {
        self.tell(of, EventType::Normal, reason, text.into());
    }

    /// Something did not.
    pub(crate) fn warning(&self, of: &impl About, reason: &str, text: impl Into<String>) {
        self.tell(of, EventType::Warning, reason, text.into());
    }

    fn tell(&self, of: &impl About, type_: EventType, reason: &str, text: String) {
        let told = Told { of: of.reference(), type_, reason: reason.into(), text };
        // An event is a service to people; what it tells is in the object, too.
        let _ = self.sender.try_send(told);
    }
}
