//! What was told of objects at last.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::commands::objects::last_seen;
use crate::objects::text;

/// What says that something begins, and not what has come of it.
const BEGINNINGS: &[&str] = &["EnsuringLoadBalancer", "DeletingLoadBalancer"];

/// Events of objects of a kind, by the objects' namespaces, names and uids.
#[derive(Debug, Default)]
pub(super) struct News(BTreeMap<Key, Vec<Value>>);

type Key = (String, String, String);

fn time(event: &Value) -> Option<Timestamp> {
    last_seen(event).parse().ok()
}

impl News {
    pub(super) fn new(events: Vec<Value>) -> Self {
        let mut all: BTreeMap<Key, Vec<Value>> = BTreeMap::new();
        for event in events {
            let place = |field: &str| text(&event, &format!("/involvedObject/{field}")).to_owned();
            all.entry((place("namespace"), place("name"), place("uid"))).or_default().push(event);
        }
        all.values_mut().for_each(|events| events.sort_by_key(time));
        Self(all)
    }

    /// Those of an object, oldest first. What had the name before is another.
    fn of(&self, object: &Value) -> impl DoubleEndedIterator<Item = &Value> {
        let place = |field: &str| text(object, &format!("/metadata/{field}")).to_owned();
        self.0.get(&(place("namespace"), place("name"), place("uid"))).into_iter().flatten()
    }

    /// The last that was told of an object's load balancer or address, if that was that something fails.
    pub(super) fn failure(&self, object: &Value) -> Option<String> {
        let mut told = self.of(object).rev();
        let last = told.find(|event| !BEGINNINGS.contains(&text(event, "/reason")))?;
        (text(last, "/type") == "Warning").then(|| words(last))
    }

    /// The last of two reasons, that something fails and that it does not any more, if it was the first.
    pub(super) fn failing(&self, object: &Value, reasons: [&str; 2]) -> Option<&Value> {
        let last = self.of(object).rev().find(|event| reasons.contains(&text(event, "/reason")))?;
        (text(last, "/reason") == reasons[0]).then_some(last)
    }

    /// The last of this reason.
    pub(super) fn last(&self, object: &Value, reason: &str) -> Option<&Value> {
        self.of(object).rev().find(|event| text(event, "/reason") == reason)
    }

    /// The nodes that were told to answer for an object's addresses, by address where that is told: of each the last one.
    pub(super) fn announcers(&self, object: &Value) -> Vec<String> {
        let mut by_address: BTreeMap<String, String> = BTreeMap::new();
        for event in self.of(object) {
            let note = text(event, "/message");
            let is_announced = matches!(text(event, "/reason"), "Announced" | "nodeAssigned");
            let Some(node) = announcer(note).filter(|_| is_announced) else { continue };
            let address = note.split_whitespace().find(|word| word.parse::<std::net::IpAddr>().is_ok());
            by_address.insert(address.unwrap_or_default().to_owned(), node.to_owned());
        }
        let mut nodes: Vec<String> = by_address.into_values().collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }
}

/// Why, and what else was said.
pub(super) fn words(event: &Value) -> String {
    format!("{}: {}", text(event, "/reason"), text(event, "/message"))
}

/// The node of which a text says that it announces: `... by node a`, as our own say, or `announcing from node "a" with protocol
/// "layer2"`, as MetalLB has it.
fn announcer(note: &str) -> Option<&str> {
    let (_, rest) = ["by node ", "from node "].iter().find_map(|words| note.split_once(words))?;
    let word = rest.split_whitespace().next()?.trim_matches(['"', '\'', ',', ';', '.']);
    Some(word).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, reason: &str, note: &str, at: &str) -> Value {
        let of = json!({"kind": "Service", "namespace": "default", "name": "web", "uid": "u"});
        json!({"involvedObject": of, "type": kind, "reason": reason, "message": note, "eventTime": at})
    }

    fn web(uid: &str) -> Value {
        json!({"metadata": {"namespace": "default", "name": "web", "uid": uid}})
    }

    #[test]
    fn the_last_outcome_counts() {
        let begun =
            event("Normal", "EnsuringLoadBalancer", "Ensuring load balancer", "2026-01-01T00:00:09.5Z");
        let failed = event("Warning", "SyncLoadBalancerFailed", "pool is empty", "2026-01-01T00:00:09Z");
        let made = |at: &str| event("Normal", "EnsuredLoadBalancer", "Ensured load balancer", at);
        let news = News::new(vec![begun.clone(), failed.clone(), made("2026-01-01T00:00:08.9Z")]);
        assert_eq!(news.failure(&web("u")).as_deref(), Some("SyncLoadBalancerFailed: pool is empty"));
        assert_eq!(news.failure(&web("other")), None, "it was told of what had the name before");
        let news = News::new(vec![made("2026-01-01T00:00:09.1Z"), failed, begun]);
        assert_eq!(news.failure(&web("u")), None, "it has been made since");
        // A series is as old as its last.
        let mut often = event("Warning", "SyncLoadBalancerFailed", "again", "2026-01-01T00:00:00Z");
        often["series"] = json!({"count": 7, "lastObservedTime": "2026-01-01T00:01:00Z"});
        let news = News::new(vec![often, made("2026-01-01T00:00:30Z")]);
        assert_eq!(news.failure(&web("u")).as_deref(), Some("SyncLoadBalancerFailed: again"));
    }

    #[test]
    fn announcers_are_found_in_texts() {
        let told = |note: &str, at: &str| event("Normal", "Announced", note, at);
        let news = News::new(vec![
            told("address 10.0.0.1 is answered for on link eth0 by node old", "2026-01-01T00:00:01Z"),
            told("address 10.0.0.1 is answered for on link eth0 by node b", "2026-01-01T00:00:03Z"),
            told("address fd00::1 is answered for on link eth0 by node a", "2026-01-01T00:00:02Z"),
            event("Normal", "Other", "comes from node c", "2026-01-01T00:00:04Z"),
        ]);
        assert_eq!(news.announcers(&web("u")), ["a", "b"]);
        let note = "announcing from node \"w-1\" with protocol \"layer2\"";
        let news = News::new(vec![event("Normal", "nodeAssigned", note, "2026-01-01T00:00:01Z")]);
        assert_eq!(news.announcers(&web("u")), ["w-1"]);
        assert_eq!((announcer("by node "), announcer("from node ")), (None, None));
    }
}
