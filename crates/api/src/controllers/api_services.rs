//! Who serves which group: an APIService for each group version that this server has, and whether those of others can be
//! asked ([`crate::aggregation`]).

mod available;
mod local;

use crate::aggregation::KIND;
use crate::contract::Result;
use crate::registry::Registry;
use crate::registry::client::Client;
use crate::store::{Error, Scope, Store};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// What it depends on: who serves what, and where services are.
const KINDS: [&str; 4] = [KIND, "services", "endpointslices.discovery.k8s.io", "endpoints"];
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
        watches.spawn(watch(registry.store().clone(), kind, Arc::clone(&news)));
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

/// Wakes whenever an object of a kind is another.
async fn watch(store: Store, kind: &'static str, news: Arc<Notify>) {
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
                Ok(_) => news.notify_one(),
                Err(Error::Closed) => return,
                // What was missed is in what there is now.
                Err(_) => break,
            }
        }
    }
}
