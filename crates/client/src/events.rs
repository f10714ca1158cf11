//! Events: what people are told of an object, as `kubectl describe` shows it. Each text is one event: two pods that were made are two.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
pub use kube::runtime::events::EventType;

use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde_json::{Value, json};

/// Kubernetes takes no longer text.
const LONGEST: usize = 1024;
/// What is said again within this time is counted; later it is an event of its own.
const SERIES: SignedDuration = SignedDuration::from_mins(6);
/// So much of an object's name is part of its events'.
const NAME: usize = 230;

/// Tells events in the name of one controller.
#[derive(Clone)]
pub struct Events {
    client: Client,
    controller: Arc<str>,
    instance: Arc<str>,
    told: Arc<Mutex<BTreeMap<Said, Told>>>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    uid: String,
    reason: String,
    text: String,
}

struct Told {
    name: String,
    count: i32,
    at: Timestamp,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("controller", &self.controller).finish_non_exhaustive()
    }
}

impl Events {
    /// Events of `controller`, told by the process that is called `instance`.
    #[must_use]
    pub fn new(client: &Client, controller: &str, instance: &str) -> Self {
        Self {
            client: client.clone(),
            controller: controller.into(),
            instance: instance.into(),
            told: Arc::default(),
        }
    }

    /// Something went as it should.
    pub async fn normal<K: Resource<DynamicType = ()>>(&self, of: &K, reason: &str, text: impl Into<String>) {
        self.tell(&of.object_ref(&()), EventType::Normal, reason, reason, text.into()).await;
    }

    /// Something did not.
    pub async fn warning<K: Resource<DynamicType = ()>>(
        &self,
        of: &K,
        reason: &str,
        text: impl Into<String>,
    ) {
        self.tell(&of.object_ref(&()), EventType::Warning, reason, reason, text.into()).await;
    }

    /// What happened to an object, or did not go as it should, and in which action that was.
    pub async fn tell(
        &self,
        of: &ObjectReference,
        type_: EventType,
        reason: &str,
        action: &str,
        text: String,
    ) {
        // Where Kubernetes keeps events of what is in no namespace.
        let namespace = of.namespace.clone().unwrap_or_else(|| "default".into());
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let text = cut(text);
        let said =
            Said { uid: of.uid.clone().unwrap_or_default(), reason: reason.into(), text: text.clone() };
        let now = Timestamp::now();
        // An event is a service to people; what it tells is in the object, too.
        if let Some((name, count)) = self.again(&said, now) {
            let series = json!({"series": {"count": count, "lastObservedTime": micro(now)}});
            let _ = api.patch(&name, &PatchParams::default(), &Patch::Merge(series)).await;
            return;
        }
        let about = of.name.as_deref().unwrap_or_default();
        let about = &about[..about.floor_char_boundary(NAME)];
        let name = format!("{}.{:x}", about.trim_end_matches(['.', '-']), now.as_nanosecond());
        let type_ = match type_ {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        };
        let event: Value = json!({
            "metadata": {"name": name, "namespace": namespace}, "type": type_, "reason": reason, "action": action,
            "note": text, "regarding": of, "eventTime": micro(now),
            "reportingController": &*self.controller, "reportingInstance": &*self.instance,
        });
        let Ok(event) = serde_json::from_value::<Event>(event) else { return };
        if api.create(&PostParams::default(), &event).await.is_ok() {
            let told = Told { name, count: 1, at: now };
            self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(said, told);
        }
    }

    /// The event that has said the same a short time ago, and how often it was said now.
    fn again(&self, said: &Said, now: Timestamp) -> Option<(String, i32)> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, told| told.at + SERIES > now);
        told.get_mut(said).map(|told| {
            (told.count, told.at) = (told.count.saturating_add(1), now);
            (told.name.clone(), told.count)
        })
    }
}

fn micro(at: Timestamp) -> String {
    format!("{at:.6}")
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
