//! Events of what is wrong with an object: each thing once, again each half hour as long as it lasts, and once that nothing is.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::events::{EventType, Events, cut};
use k8s_openapi::api::core::v1::{Event, ObjectReference};
use kube::Client;
use kube::api::{Api, ListParams};
use smi::contract::Finding;
use tokio::time::{Instant, timeout};

/// Who tells.
pub(super) const CONTROLLER: &str = "sextant-mesh";
/// The reason of the event that nothing is wrong any more.
const OVER: &str = "Resolved";
/// What was told so long ago, and lasts, is told again: servers forget an event an hour after it was last written.
pub(super) const AGAIN: Duration = Duration::from_mins(30);
/// How long a server may take to tell of the events that there are.
const PATIENCE: Duration = Duration::from_secs(10);

/// A reason and a text.
type What = (String, String);

/// What is wrong with an object and was told; when, by this process' clock.
#[derive(Debug, Default)]
struct Known {
    told: BTreeMap<What, Instant>,
    /// Some of it is a warning.
    is_wrong: bool,
}

/// What was told.
#[derive(Debug)]
pub(super) struct Told {
    events: Events,
    /// By the objects' uids.
    known: Mutex<BTreeMap<String, Known>>,
}

fn what(finding: &Finding) -> What {
    (finding.reason.as_str().to_owned(), cut(finding.to_string()))
}

/// What somebody else has told and is not over, by the objects' uids.
fn learned(events: &[Event]) -> BTreeMap<String, Known> {
    let mut all: Vec<&Event> = events.iter().collect();
    // Those of one object in the order in which they were told. Texts of RFC 3339 in one form are so.
    all.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    let now = Instant::now();
    for event in all {
        let (Some(uid), Some(reason)) = (event.involved_object.uid.clone(), event.reason.clone()) else {
            continue;
        };
        if reason == OVER {
            known.remove(&uid);
            continue;
        }
        let its = known.entry(uid).or_default();
        its.is_wrong |= event.type_.as_deref() == Some("Warning");
        its.told.insert((reason, event.message.clone().unwrap_or_default()), now);
    }
    known
}

/// What there is to tell of an object, as its events' types, reasons and texts.
fn news(known: &mut Known, findings: &[Finding], now: Instant) -> Vec<(EventType, String, String)> {
    let wanted: Vec<(What, bool)> =
        findings.iter().map(|finding| (what(finding), finding.reason.is_warning())).collect();
    known.told.retain(|one, _| wanted.iter().any(|(what, _)| what == one));
    let mut news = Vec::new();
    for ((reason, text), is_warning) in &wanted {
        let key = (reason.clone(), text.clone());
        if known.told.get(&key).is_some_and(|at| now.duration_since(*at) < AGAIN) {
            continue;
        }
        known.told.insert(key, now);
        let type_ = if *is_warning { EventType::Warning } else { EventType::Normal };
        news.push((type_, reason.clone(), text.clone()));
    }
    let is_wrong = wanted.iter().any(|(_, is_warning)| *is_warning);
    if std::mem::replace(&mut known.is_wrong, is_wrong) && !is_wrong {
        news.push((EventType::Normal, OVER.into(), "Nothing is wrong with it any more".into()));
    }
    news
}

impl Told {
    /// With what others have told, as far as the server says that.
    pub(super) async fn start(client: &Client, host: &str) -> Self {
        let api: Api<Event> = Api::all(client.clone());
        let theirs = ListParams::default().fields(&format!("reportingComponent={CONTROLLER}"));
        let known = match timeout(PATIENCE, api.list(&theirs)).await {
            Ok(Ok(events)) => learned(&events.items),
            // Then some of it is told once more.
            Ok(Err(_)) | Err(_) => BTreeMap::new(),
        };
        let events = Events::new(client, CONTROLLER, &format!("{CONTROLLER}-{host}"));
        Self { events, known: Mutex::new(known) }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This is what there is to say of an object.
    pub(super) async fn say(&self, of: &ObjectReference, findings: &[Finding]) {
        let uid = of.uid.clone().unwrap_or_default();
        let news = {
            let mut known = self.known();
            let news = news(known.entry(uid.clone()).or_default(), findings, Instant::now());
            if findings.is_empty() {
                known.remove(&uid);
            }
            news
        };
        for (type_, reason, text) in news {
            self.events.tell(of, type_, &reason, &reason, text).await;
        }
    }

    /// An object is gone.
    pub(super) fn forget(&self, uid: &str) {
        self.known().remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use smi::contract::Reason;

    use super::*;

    fn finding(reason: Reason, value: &str) -> Finding {
        Finding { reason, field: "spec.service".into(), value: value.into(), advice: "mend it".into() }
    }

    fn reasons(news: &[(EventType, String, String)]) -> Vec<&str> {
        news.iter().map(|(_, reason, _)| reason.as_str()).collect()
    }

    #[test]
    fn a_thing_is_told_once_and_that_it_is_over_once() {
        let (mut known, start) = (Known::default(), Instant::now());
        let both = [finding(Reason::NotFound, "a"), finding(Reason::Tolerated, "b")];
        assert_eq!(reasons(&news(&mut known, &both, start)), ["NotFound", "Tolerated"]);
        assert_eq!(reasons(&news(&mut known, &both, start)), [""; 0]);
        // Another value is another thing.
        let other = [finding(Reason::NotFound, "c"), both[1].clone()];
        assert_eq!(reasons(&news(&mut known, &other, start)), ["NotFound"]);
        assert_eq!(reasons(&news(&mut known, &both[1..], start)), ["Resolved"]);
        assert_eq!(reasons(&news(&mut known, &[], start)), [""; 0], "what was only tolerated was not wrong");
        assert_eq!(reasons(&news(&mut known, &both[..1], start)), ["NotFound"], "and it is news again");
    }

    #[test]
    fn what_lasts_is_told_again_before_the_server_forgets_it() {
        let (mut known, start) = (Known::default(), Instant::now());
        let one = [finding(Reason::Conflicted, "a")];
        let told = [0, 29, 30, 59, 60]
            .map(|minutes| news(&mut known, &one, start + Duration::from_mins(minutes)).len());
        assert_eq!(told, [1, 0, 1, 0, 1]);
    }

    #[test]
    fn what_a_process_before_has_told_is_not_told_again() {
        let event = |uid: &str, second: u32, reason: &str, text: &str| -> Event {
            serde_json::from_value(
                json!({"metadata": {"name": "e"}, "involvedObject": {"uid": uid}, "reason": reason,
                "message": text, "type": if reason == OVER { "Normal" } else { "Warning" },
                "eventTime": format!("2026-01-01T00:00:{second:02}.000000Z")}),
            )
            .unwrap()
        };
        let one = finding(Reason::NotFound, "a");
        let text = one.to_string();
        // As a server lists them: by name, which is no order.
        let mut known = learned(&[
            event("b", 3, OVER, "over"),
            event("a", 1, "NotFound", &text),
            event("b", 2, "NotFound", &text),
        ]);
        assert!(!known.contains_key("b"));
        let its = known.get_mut("a").unwrap();
        assert_eq!(reasons(&news(its, std::slice::from_ref(&one), Instant::now())), [""; 0]);
        assert_eq!(reasons(&news(its, &[], Instant::now())), ["Resolved"]);
    }
}
