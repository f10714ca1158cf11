//! Who serves which group: an APIService for each group version that this server has, and whether those of others can be
//! asked ([`crate::aggregation`]).

mod available;
mod local;

use crate::aggregation::{Backend, KIND};
use crate::contract::Result;
use crate::registry::Registry;
use crate::registry::client::Client;
use crate::store::{Error, Event, Scope};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// What it depends on: who serves what, and where services are.
const KINDS: [&str; 4] = [KIND, "services", SLICES, "endpoints"];
const SLICES: &str = "endpointslices.discovery.k8s.io";
/// How often services are asked when nothing has changed.
const EVERY: Duration = Duration::from_secs(30);
/// When one that could not be asked is asked again; twice that the next time.
const AGAIN: Duration = Duration::from_secs(1);
/// What comes together is looked at together.
const TOGETHER: Duration = Duration::from_millis(20);

/// Learns who serves what before anybody is answered.
pub(super) fn load(registry: &Registry) -> Result<()> {
    registry.aggregation().load(registry)
}

/// Keeps APIServices in order, for ever.
pub(super) async fn run(client: Client) {
    let registry = client.registry().clone();
    let news = Arc::new(Notify::new());
    let mut watches = JoinSet::new();
    for kind in KINDS {
        watches.spawn(watch(registry.clone(), kind, Arc::clone(&news)));
    }
    let mut resources = registry.set_changes();
    let mut handlers = registry.aggregation().handlers_changed();
    let mut again = AGAIN;
    loop {
        let wait = if pass(&client).await {
            again = AGAIN;
            EVERY
        } else {
            again = (again * 2).min(EVERY);
            again / 2
        };
        tokio::select! {
            () = news.notified() => {}
            () = tokio::time::sleep(wait) => {}
            changed = resources.changed() => if changed.is_err() { return },
            changed = handlers.changed() => if changed.is_err() { return },
        }
        tokio::time::sleep(TOGETHER).await;
    }
}

/// One look at everything; false where something has to be looked at again soon.
async fn pass(client: &Client) -> bool {
    let mut good = true;
    let mut told = |outcome: Result<()>| {
        if let Err(status) = outcome {
            eprintln!("sextant: cannot keep APIServices in order: {status}");
            good = false;
        }
    };
    told(local::settle(client).await);
    told(load(client.registry()));
    available::ask_all(client).await && good
}

/// Wakes whenever an object of a kind is another, and it matters.
async fn watch(registry: Registry, kind: &'static str, news: Arc<Notify>) {
    let store = registry.store();
    loop {
        let scope = Scope { resource: kind.to_owned(), namespace: None };
        let mut changes = match store.watch(scope, store.revision()) {
            Ok(changes) => changes,
            Err(Error::Closed) => return,
            Err(_) => {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        news.notify_one();
        loop {
            match changes.next().await {
                Ok(event) if matters(&registry, &event) => news.notify_one(),
                Ok(_) => {}
                Err(Error::Closed) => return,
                // What was missed is in what there is now.
                Err(_) => break,
            }
        }
    }
}

/// Whether a change is one of who serves a group, or of where that is. A pass learns of the services that are asked before
/// it looks where they are: a change that comes before that is seen by it.
fn matters(registry: &Registry, event: &Event) -> bool {
    if event.key.resource == KIND {
        return true;
    }
    let entries = registry.aggregation().entries();
    let asked: Vec<&str> = entries
        .iter()
        .filter_map(|entry| match &entry.backend {
            Backend::Service(place) if place.namespace == event.key.namespace => Some(place.name.as_str()),
            _ => None,
        })
        .collect();
    if event.key.resource != SLICES || asked.is_empty() {
        return asked.contains(&event.key.name.as_str());
    }
    let states = [Some(&event.json), event.previous.as_ref()];
    states.into_iter().flatten().any(|json| {
        let slice: Value = serde_json::from_slice(json).unwrap_or_default();
        slice["metadata"]["labels"]["kubernetes.io/service-name"]
            .as_str()
            .is_some_and(|name| asked.contains(&name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::kept;
    use serde_json::json;

    #[tokio::test]
    async fn only_changes_of_services_that_are_asked_matter() {
        let (_folder, store) = kept::store();
        let registry = Registry::new(store.clone(), crate::kinds::builtin(), Vec::new(), Default::default());
        let object = |name: &str, service: &str| {
            json!({
                "metadata": {
                    "name": name, "resourceVersion": "", "labels": {"kubernetes.io/service-name": service},
                },
                "spec": {
                    "group": "sea.example", "version": "v1", "service": {"namespace": "sea", "name": "fish"},
                },
            })
            .to_string()
        };
        let write = |(kind, namespace, name, service): (&str, &str, &str, &str)| {
            kept::write(kind, namespace, name, &object(name, service))
        };
        store.commit(vec![write((KIND, "", "v1.sea.example", ""))]).await.unwrap();
        load(&registry).unwrap();
        for (change, wanted) in [
            (("services", "sea", "fish", ""), true),
            (("endpoints", "sea", "fish", ""), true),
            (("services", "sea", "birds", ""), false),
            (("endpoints", "air", "fish", ""), false),
            ((SLICES, "sea", "fish-1", "fish"), true),
            // It was the service's.
            ((SLICES, "sea", "fish-1", "birds"), true),
            ((SLICES, "sea", "fish-1", "bees"), false),
            ((SLICES, "air", "fish-1", "fish"), false),
            ((KIND, "", "v1.air.example", ""), true),
        ] {
            let scope = Scope { resource: change.0.to_owned(), namespace: None };
            let mut changes = store.watch(scope, store.revision()).unwrap();
            store.commit(vec![write(change)]).await.unwrap();
            let event = changes.next().await.unwrap();
            assert_eq!(matters(&registry, &event), wanted, "{change:?}");
        }
    }
}
