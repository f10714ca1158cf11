//! Events are forgotten an hour after they were last written.

use crate::contract::{Result, Status};
use crate::registry::Cursor;
use crate::registry::client::Client;
use crate::store::{Error, Expect, Scope, Store, Stored, Write};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use std::time::Duration;

const KIND: &str = "events";
const KEPT: SignedDuration = SignedDuration::from_hours(1);
const EVERY: Duration = Duration::from_secs(60);

/// Forgets old events, for ever.
pub(super) async fn run(client: Client) {
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(status) = forget(client.registry().store(), Timestamp::now()).await {
            eprintln!("sextant: cannot forget old events: {status}");
        }
    }
}

/// What an event says of when it was written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Times {
    metadata: Metadata,
    first_timestamp: Option<String>,
    last_timestamp: Option<String>,
    event_time: Option<String>,
    series: Option<Series>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    creation_timestamp: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Series {
    last_observed_time: Option<String>,
}

/// Forgets the events that are old by `now`. There may be many, and no more than a page of them is held.
async fn forget(store: &Store, now: Timestamp) -> Result<()> {
    let scope = Scope { resource: KIND.to_owned(), namespace: None };
    let mut cursor = Cursor::new(store, &scope, None, None);
    while !cursor.has_ended() {
        let page = cursor.next().map_err(Status::internal)?;
        cursor.renew();
        for event in page {
            if now.duration_since(last_written(&event)?) < KEPT {
                continue;
            }
            let write = Write { key: event.key, expect: Expect::Revision(event.revision), value: None };
            match store.commit(vec![write]).await {
                // It was written again, or deleted.
                Ok(_) | Err(Error::Unexpected { .. }) => {}
                Err(error) => return Err(Status::internal(error)),
            }
        }
    }
    Ok(())
}

/// The latest of the times that an event tells.
fn last_written(event: &Stored) -> Result<Timestamp> {
    let times: Times = serde_json::from_slice(&event.json).map_err(Status::internal)?;
    let told = [
        times.metadata.creation_timestamp,
        times.first_timestamp,
        times.last_timestamp,
        times.event_time,
        times.series.and_then(|series| series.last_observed_time),
    ];
    let told = told.iter().flatten().filter_map(|text| text.parse::<Timestamp>().ok());
    Ok(told.max().unwrap_or(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::kept;

    #[tokio::test]
    async fn events_are_forgotten_an_hour_after_they_were_last_written() {
        let (_folder, store) = kept::store();
        let old = r#"{"metadata":{"resourceVersion":"","creationTimestamp":"2026-01-01T10:00:00Z"},"eventTime":null}"#;
        // More than one page of them, and among them some that were written again.
        let later = [
            r#""lastTimestamp":"2026-01-01T11:30:00Z""#,
            r#""series":{"count":2,"lastObservedTime":"2026-01-01T11:30:00.000001Z"}"#,
            r#""eventTime":"2026-01-01T11:30:00.000000Z""#,
        ];
        let fields = |index: usize| old.replace(r#""eventTime":null"#, later[index]);
        let mut writes: Vec<Write> =
            (0..10).map(|index| kept::write(KIND, "a", &format!("e{index}"), old)).collect();
        writes.extend((0..3).map(|index| kept::write(KIND, "a", &format!("e{index}-kept"), &fields(index))));
        store.commit(writes).await.unwrap();
        forget(&store, "2026-01-01T12:00:00Z".parse().unwrap()).await.unwrap();
        let scope = Scope { resource: KIND.to_owned(), namespace: None };
        let left = store.list(&scope, None, None, None).unwrap().items;
        let left: Vec<&str> = left.iter().map(|stored| stored.key.name.as_str()).collect();
        assert_eq!(left, ["e0-kept", "e1-kept", "e2-kept"]);
    }
}
