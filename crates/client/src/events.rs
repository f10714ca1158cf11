//! Events: what people are told of an object, as `kubectl describe` shows it.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

/// Kubernetes takes no longer text.
const LONGEST: usize = 1024;

/// Tells events in the name of one controller.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// Events of `controller`, told by the process on `host`.
    #[must_use]
    pub fn new(client: &Client, controller: &str, host: &str) -> Self {
        let reporter = Reporter { controller: controller.into(), instance: Some(host.into()) };
        Self { recorder: Recorder::new(client.clone(), reporter) }
    }

    /// Something went as it should.
    pub async fn normal<K: Resource<DynamicType = ()>>(&self, of: &K, reason: &str, text: impl Into<String>) {
        self.tell(&of.object_ref(&()), EventType::Normal, reason, text.into()).await;
    }

    /// Something did not.
    pub async fn warning<K: Resource<DynamicType = ()>>(
        &self,
        of: &K,
        reason: &str,
        text: impl Into<String>,
    ) {
        self.tell(&of.object_ref(&()), EventType::Warning, reason, text.into()).await;
    }

    /// What happened to an object, or did not go as it should.
    pub async fn tell(&self, of: &ObjectReference, type_: EventType, reason: &str, text: String) {
        let note = Some(cut(text));
        let event = Event { type_, reason: reason.into(), note, action: reason.into(), secondary: None };
        // An event is a service to people; what it tells is in the object, too.
        let _ = self.recorder.publish(&event, of).await;
    }
}

/// A text that is no longer than Kubernetes takes it in events and errors.
#[must_use]
pub fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST - 3));
        text.push_str("...");
    }
    text
}
