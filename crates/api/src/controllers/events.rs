//! Events are forgotten an hour after they were last written.

use crate::contract::{Object, Result, Status};
use crate::registry::client::Client;
use crate::store::{Error, Expect, Key, Write};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

const KIND: &str = "events";
const KEPT: SignedDuration = SignedDuration::from_hours(1);
const EVERY: Duration = Duration::from_secs(60);

/// Forgets old events, for ever.
pub(super) async fn run(client: Client) {
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(status) = forget(&client, Timestamp::now()).await {
            eprintln!("sextant: cannot forget old events: {status}");
        }
    }
}

async fn forget(client: &Client, now: Timestamp) -> Result<()> {
    let store = client.registry().store();
    for event in client.registry().every(KIND, None)? {
        if now.duration_since(last_written(&event)) < KEPT {
            continue;
        }
        let key = Key {
            resource: KIND.to_owned(),
            namespace: event.namespace().to_owned(),
            name: event.name().to_owned(),
        };
        let revision = event.resource_version().parse().unwrap_or(0);
        let write = Write { key, expect: Expect::Revision(revision), value: None };
        match store.commit(vec![write]).await {
            // It was written again, or deleted.
            Ok(_) | Err(Error::Unexpected { .. }) => {}
            Err(error) => return Err(Status::internal(error)),
        }
    }
    Ok(())
}

/// The latest of the times that an event tells.
fn last_written(event: &Object) -> Timestamp {
    let paths: [&[&str]; 5] = [
        &["metadata", "creationTimestamp"],
        &["firstTimestamp"],
        &["lastTimestamp"],
        &["eventTime"],
        &["series", "lastObservedTime"],
    ];
    let times = paths.iter().filter_map(|path| event.text(path).parse::<Timestamp>().ok());
    times.max().unwrap_or(Timestamp::UNIX_EPOCH)
}
