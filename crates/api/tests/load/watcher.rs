//! A watcher that outlives servers: it goes on with the last version that it has seen, and misses nothing.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::client::Client;
use crate::server::PATIENCE;

/// What is told of an object: its version, and the number in it.
pub(crate) type Seen = (u64, u64);

/// A change as a watcher was told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) name: String,
    /// `None` of a deletion.
    pub(crate) number: Option<u64>,
}

/// A watcher of a collection, or of a selection of it.
pub(crate) struct Watcher {
    path: String,
    selector: &'static str,
    /// The last version that it was told.
    pub(crate) at: u64,
    /// What there is, by all that it was told.
    pub(crate) mirror: BTreeMap<String, Seen>,
    /// What it was told, since somebody has last looked.
    pub(crate) told: Vec<Change>,
    pub(crate) events: u64,
}

impl Watcher {
    /// One that has seen nothing, of an empty collection at a version.
    pub(crate) fn new(path: &str, selector: &'static str, at: u64) -> Watcher {
        let (mirror, told) = (BTreeMap::new(), Vec::new());
        Watcher { path: path.to_owned(), selector, at, mirror, told, events: 0 }
    }

    /// Whether it does not watch everything.
    pub(crate) fn is_selective(&self) -> bool {
        self.selector.starts_with("label")
    }

    /// Watches from where it is until it has been told of a version, or until the server is gone.
    pub(crate) async fn follow(&mut self, client: &Client, until: u64) {
        let (path, selector, at) = (&self.path, self.selector, self.at);
        let path = format!("{path}?watch=1&allowWatchBookmarks=true&resourceVersion={at}&{selector}");
        let Ok(mut connection) = client.connect().await else { return };
        let Ok(mut lines) = connection.watch(&path).await else { return };
        while self.at < until {
            let next = tokio::time::timeout(PATIENCE, lines.next()).await;
            let Some(event) = next.unwrap_or_else(|_| panic!("{path}: not told of {until}")) else { return };
            self.take(&event);
        }
    }

    /// Each change fits to what it knows.
    fn take(&mut self, event: &Value) {
        let (kind, object) = (event["type"].as_str().unwrap(), &event["object"]);
        assert!(matches!(kind, "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK"), "{event}");
        let revision = version(object);
        if kind == "BOOKMARK" {
            assert!(revision >= self.at, "a bookmark goes back from {} to {revision}", self.at);
            self.at = revision;
            return;
        }
        assert!(revision > self.at, "after {} it is told of {event}", self.at);
        self.at = revision;
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let number = number(object);
        let before = match kind {
            "DELETED" => self.mirror.remove(&name),
            _ => self.mirror.insert(name.clone(), (revision, number)),
        };
        assert_eq!(before.is_some(), kind != "ADDED", "{before:?} was there before {event}");
        self.told.push(Change { revision, name, number: (kind != "DELETED").then_some(number) });
        self.events += 1;
    }
}

/// The version of an object or a list.
pub(crate) fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
        .parse()
        .unwrap_or_else(|_| panic!("{object}"))
}

/// The number in an object.
pub(crate) fn number(object: &Value) -> u64 {
    object["spec"]["leaseTransitions"].as_u64().unwrap_or_else(|| panic!("{object}"))
}
