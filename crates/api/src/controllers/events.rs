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
    let mut told = None;
    loop {
        tokio::time::sleep(EVERY).await;
        match forget(client.registry().store(), Timestamp::now()).await {
            Ok(unreadable) => {
                // It stays, and would be told each time.
                if let Some(cause) = unreadable.as_ref().filter(|cause| told.as_ref() != Some(*cause)) {
                    eprintln!("sextant: cannot forget old events: {cause}");
                }
                told = unreadable;
            }
            Err(status) => eprintln!("sextant: cannot forget old events: {status}"),
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

/// Forgets the events that are old by `now`. There may be many, and no more than a page of them is held. One that cannot be
/// read stays; the first of these is told.
async fn forget(store: &Store, now: Timestamp) -> Result<Option<String>> {
    let mut unreadable = None;
    let scope = Scope { resource: KIND.to_owned(), namespace: None };
    let mut cursor = Cursor::new(store, &scope, None, None);
    while !cursor.has_ended() {
        let page = cursor.next().map_err(Status::internal)?;
        cursor.renew();
        let mut old = Vec::new();
        for event in page {
            match last_written(&event) {
                Ok(written) if now.duration_since(written) < KEPT => {}
                Ok(_) => {
                    old.push(Write { key: event.key, expect: Expect::Revision(event.revision), value: None })
                }
                Err(cause) => {
                    let (namespace, name) = (&event.key.namespace, &event.key.name);
                    unreadable
                        .get_or_insert_with(|| format!("cannot read event {namespace}/{name}: {cause}"));
                }
            }
        }
        delete(store, old).await?;
    }
    Ok(unreadable)
}

/// Deletes those that are still as they were: all of them at once, if they all are.
async fn delete(store: &Store, old: Vec<Write>) -> Result<()> {
    if old.is_empty() {
        return Ok(());
    }
    match store.commit(old.clone()).await {
        Ok(_) => return Ok(()),
        Err(Error::Unexpected { .. }) => {}
        Err(error) => return Err(Status::internal(error)),
    }
    for write in old {
        match store.commit(vec![write]).await {
            // It was written again, or deleted.
            Ok(_) | Err(Error::Unexpected { .. }) => {}
            Err(error) => return Err(Status::internal(error)),
        }
    }
    Ok(())
}

/// The latest of the times that an event tells.
fn last_written(event: &Stored) -> serde_json::Result<Timestamp> {
    let times: Times = serde_json::from_slice(&event.json)?;
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
        // And before all of them one that cannot be read.
        writes.push(kept::write(KIND, "a", "a", r#"{"metadata":{"resourceVersion":"""#));
        store.commit(writes).await.unwrap();
        let told = forget(&store, "2026-01-01T12:00:00Z".parse().unwrap()).await.unwrap().unwrap();
        assert!(told.starts_with("cannot read event a/a: "), "{told}");
        let scope = Scope { resource: KIND.to_owned(), namespace: None };
        let left = store.list(&scope, None, None, None).unwrap().items;
        let left: Vec<&str> = left.iter().map(|stored| stored.key.name.as_str()).collect();
        assert_eq!(left, ["a", "e0-kept", "e1-kept", "e2-kept"]);
    }

    #[tokio::test]
    async fn an_event_that_was_written_again_keeps_no_other() {
        let (_folder, store) = kept::store();
        let event = r#"{"metadata":{"resourceVersion":""}}"#;
        let names = ["a", "b", "c"];
        store.commit(names.map(|name| kept::write(KIND, "a", name, event)).into()).await.unwrap();
        let scope = Scope { resource: KIND.to_owned(), namespace: None };
        let left = || store.list(&scope, None, None, None).unwrap().items;
        let deletion =
            |event: Stored| Write { key: event.key, expect: Expect::Revision(event.revision), value: None };
        let old: Vec<Write> = left().into_iter().map(deletion).collect();
        store.commit(vec![kept::write(KIND, "a", "b", event)]).await.unwrap();
        delete(&store, old).await.unwrap();
        let left: Vec<String> = left().into_iter().map(|event| event.key.name).collect();
        assert_eq!(left, ["b"]);
    }
}
