//! Events in the name of a controller of Kubernetes, each text for itself: two pods that were made are two events.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use client::events::cut;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde_json::json;

/// What is said again within this time is counted; later it is an event of its own.
const SERIES: SignedDuration = SignedDuration::from_mins(6);

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

/// Tells events.
#[derive(Clone)]
pub(super) struct Tell {
    client: Client,
    component: &'static str,
    host: String,
    told: Arc<Mutex<BTreeMap<Said, Told>>>,
}

impl Tell {
    /// Events of `component`, as Kubernetes calls it, told by the process on `host`.
    pub(super) fn new(client: &Client, component: &'static str, host: &str) -> Self {
        Self { client: client.clone(), component, host: host.into(), told: Arc::default() }
    }

    /// Something went as it should.
    pub(super) async fn normal<K>(&self, of: &K, reason: &str, text: impl Into<String>)
    where
        K: Resource<DynamicType = ()>,
    {
        self.tell(of, "Normal", reason, reason, text.into()).await;
    }

    /// Something did not.
    pub(super) async fn warning<K>(&self, of: &K, reason: &str, text: impl Into<String>)
    where
        K: Resource<DynamicType = ()>,
    {
        self.tell(of, "Warning", reason, reason, text.into()).await;
    }

    /// The same, with the action that it is about.
    pub(super) async fn tell<K>(&self, of: &K, kind: &str, reason: &str, action: &str, text: String)
    where
        K: Resource<DynamicType = ()>,
    {
        let regarding = of.object_ref(&());
        let namespace = regarding.namespace.clone().unwrap_or_else(|| "default".into());
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let text = cut(text);
        let uid = regarding.uid.clone().unwrap_or_default();
        let said = Said { uid, reason: reason.into(), text: text.clone() };
        let now = Timestamp::now();
        let again = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.retain(|_, told| told.at + SERIES > now);
            told.get_mut(&said).map(|told| {
                (told.count, told.at) = (told.count + 1, now);
                (told.name.clone(), told.count)
            })
        };
        // An event is a service to people; what it tells is in the object, too.
        if let Some((name, count)) = again {
            let series = json!({"series": {"count": count, "lastObservedTime": micro(now)}});
            let _ = api.patch(&name, &PatchParams::default(), &Patch::Merge(series)).await;
            return;
        }
        let name = format!("{}.{:x}", regarding.name.as_deref().unwrap_or_default(), now.as_nanosecond());
        let event = json!({
            "metadata": {"name": name, "namespace": namespace}, "type": kind, "reason": reason, "action": action,
            "note": text, "regarding": regarding, "eventTime": micro(now),
            "reportingController": self.component, "reportingInstance": format!("{}-{}", self.component, self.host),
        });
        let Ok(event) = serde_json::from_value::<Event>(event) else { return };
        if api.create(&PostParams::default(), &event).await.is_ok() {
            let told = Told { name, count: 1, at: now };
            self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(said, told);
        }
    }
}

fn micro(at: Timestamp) -> String {
    format!("{at:.6}")
}
