//! What is told of objects that fail in one respect: each failure once, again each half hour as long as it lasts, and once that it is
//! over; not at each time that it is tried again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::events::{EventType, Events};
use k8s_openapi::api::core::v1::{Event, ObjectReference};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ListParams};
use tokio::time::Instant;

use super::LAST_WORDS;

/// Events of what is in no namespace are here.
pub(super) const NAMESPACE: &str = "default";
/// So many failures of an object are known: of a few that take turns each is told once.
const KNOWN: usize = 4;
/// What was told so long ago, and lasts, is told again: servers forget an event an hour after it was last written.
const AGAIN: Duration = Duration::from_mins(30);

/// Failures that were told, the last at the end, each with when it was.
#[derive(Debug, Default)]
pub(super) struct Known(Vec<(String, Instant)>);

impl Known {
    /// Whether something is to be told, which it is then from now on: it is not among what is known, or was told long ago. Of what is
    /// known only so much is kept.
    fn is_news_of(&mut self, what: String, most: usize) -> bool {
        let now = Instant::now();
        if self.0.iter().any(|(one, at)| *one == what && now.duration_since(*at) < AGAIN) {
            return false;
        }
        self.0.retain(|(one, _)| *one != what);
        self.0.push((what, now));
        self.0.drain(..self.0.len().saturating_sub(most));
        true
    }

    /// The same of a text for people.
    pub(super) fn is_news(&mut self, text: &str) -> bool {
        self.is_news_of(gist(text), KNOWN)
    }
}

/// What of a text tells failures apart: its words without those that have digits. Times, ages and ids of requests are others each time.
fn gist(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '-');
    let is_lasting = |word: &&str| !word.is_empty() && !word.contains(|c: char| c.is_ascii_digit());
    words.filter(is_lasting).collect::<Vec<_>>().join(" ")
}

/// Failures of objects in one respect.
#[derive(Debug)]
pub(in crate::cloud) struct Failing {
    events: Events,
    /// Of the failure, and of its end.
    reasons: [&'static str; 2],
    /// What was told of objects that fail, by their uids, or where they have none, their names.
    told: Mutex<BTreeMap<String, Known>>,
    /// Each number in a text matters, as people change them; and of an object the last failure alone is known.
    is_exact: bool,
}

fn key(of: &ObjectReference) -> String {
    of.uid.clone().or_else(|| of.name.clone()).unwrap_or_default()
}

impl Failing {
    pub(in crate::cloud) fn new(events: Events, reasons: [&'static str; 2]) -> Self {
        Self { events, reasons, told: Mutex::default(), is_exact: false }
    }

    /// Failures that are others wherever their texts are; also one that was told before another is news.
    pub(super) fn exact(events: Events, reasons: [&'static str; 2]) -> Self {
        Self { is_exact: true, ..Self::new(events, reasons) }
    }

    /// What it tells with.
    pub(in crate::cloud) fn events(&self) -> &Events {
        &self.events
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What tells a failure of this text apart.
    fn what(&self, text: &str) -> String {
        if self.is_exact { text.to_owned() } else { gist(text) }
    }

    /// An object fails: it is told of that, unless it was a short time ago. Whether it is now.
    pub(in crate::cloud) async fn fails(&self, of: &ObjectReference, text: &str) -> bool {
        let most = if self.is_exact { 1 } else { KNOWN };
        if !self.told().entry(key(of)).or_default().is_news_of(self.what(text), most) {
            return false;
        }
        let [reason, _] = self.reasons;
        self.events.tell(of, EventType::Warning, reason, reason, text.into()).await;
        true
    }

    /// An object does not fail: it is told of that, if it failed.
    pub(in crate::cloud) async fn works(&self, of: &ObjectReference, text: &str) {
        if self.told().remove(&key(of)).is_some() {
            let [_, reason] = self.reasons;
            self.events.tell(of, EventType::Normal, reason, reason, text.into()).await;
        }
    }

    /// Forgets an object that is gone, or that somebody else has told of.
    pub(in crate::cloud) fn forget(&self, of: &ObjectReference) {
        self.told().remove(&key(of));
    }

    /// Forgets all that are not there any more.
    pub(in crate::cloud) fn keep(&self, is_there: impl Fn(&str) -> bool) {
        self.told().retain(|uid, _| is_there(uid));
    }

    /// Has it be told of an object that it works, also where it is not known that it failed.
    pub(super) fn doubt(&self, of: &ObjectReference) {
        self.told().entry(key(of)).or_default();
    }

    /// Takes for told what others have told that fails, by these events, of objects of which nothing is known here.
    pub(super) fn learn(&self, events: &[Event]) {
        let mut of: BTreeMap<String, Vec<&Event>> = BTreeMap::new();
        for event in events {
            of.entry(key(&event.involved_object)).or_default().push(event);
        }
        let mut told = self.told();
        for (object, its) in of {
            let Some(last) = last(its, self.reasons) else { continue };
            let what = self.what(last.message.as_deref().unwrap_or_default());
            told.entry(object).or_insert_with(|| Known(vec![(what, since(last))]));
        }
    }
}

/// When an event was last seen.
fn time(event: &Event) -> Option<Timestamp> {
    let series =
        event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let once = event.event_time.as_ref().map(|time| time.0);
    series.or(once).or_else(|| event.last_timestamp.as_ref().map(|time| time.0))
}

/// The same by the clock of this process; now, where it has no time, or one to come.
fn since(event: &Event) -> Instant {
    let age = time(event).and_then(|at| Duration::try_from(Timestamp::now().duration_since(at)).ok());
    let now = Instant::now();
    now.checked_sub(age.unwrap_or_default()).unwrap_or(now)
}

/// What was told at last, if that was that something fails.
fn last<'a>(events: impl IntoIterator<Item = &'a Event>, reasons: [&str; 2]) -> Option<&'a Event> {
    let is_of_it = |event: &&Event| event.reason.as_deref().is_some_and(|reason| reasons.contains(&reason));
    let last = events.into_iter().filter(is_of_it).max_by_key(|event| time(event))?;
    (last.reason.as_deref() == Some(reasons[0])).then_some(last)
}

/// Why events are not listed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unlisted {
    /// This process may not do that.
    Forbidden,
    /// The server did not answer in time, or something else is wrong with it.
    Unanswered,
}

/// The events of what is in no namespace that `fields` selects, as the server has them.
pub(super) async fn list(client: &Client, fields: &str) -> Result<Vec<Event>, Unlisted> {
    let api: Api<Event> = Api::namespaced(client.clone(), NAMESPACE);
    match tokio::time::timeout(LAST_WORDS, api.list(&ListParams::default().fields(fields))).await {
        Ok(Ok(all)) => Ok(all.items),
        Ok(Err(kube::Error::Api(status))) if status.code == 403 => Err(Unlisted::Forbidden),
        Ok(Err(_)) | Err(_) => Err(Unlisted::Unanswered),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::stand::Server;
    use super::super::tests::event;
    use super::super::{CHECK, CONFIG, NODE, PROVIDER, ROUTES};
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_told_at_last_is_what_fails_still() {
        let [failed, well] = PROVIDER;
        let mut all = vec![event(failed, 2, "two"), event(failed, 1, "one"), event(CONFIG[0], 3, "file")];
        let told = |all: &[Event], reasons| {
            last(all, reasons).map(|event| event.message.clone().unwrap_or_default())
        };
        assert_eq!(told(&all, PROVIDER).as_deref(), Some("two"));
        assert_eq!((told(&all, CONFIG).as_deref(), told(&all, ROUTES)), (Some("file"), None));
        all.push(event(well, 4, "ready"));
        assert_eq!(told(&all, PROVIDER), None);
        // It was said again since.
        let series = json!({"count": 2, "lastObservedTime": "2026-01-01T00:00:05.000000Z"});
        all[0].series = Some(serde_json::from_value(series).unwrap());
        assert_eq!(told(&all, PROVIDER).as_deref(), Some("two"));
    }

    #[test]
    fn failures_are_told_apart_by_more_than_their_numbers() {
        assert_eq!(gist("expired at 10:01:02, 3 s ago"), gist("expired at 11:02:03, 45 s ago"));
        assert_ne!(gist("AuthFailure"), gist("UnauthorizedOperation"));
        let [one, other] = ["6f8dabc1-3c2e-4b3a-9f00-aa12bb34cc56", "b0c9e7fe-17d4-4c1e-8d55-ffeeddccbbaa"]
            .map(|id| format!("denied (request id: {id}): see https://x.example/{id}?at=1"));
        assert_eq!(gist(&one), gist(&other));
        assert_eq!(gist(&one), "denied request id see https x example at");
    }

    #[tokio::test]
    async fn failures_that_take_turns_are_told_once_each() {
        let server = Server::default();
        let events = server.context().await.events("test");
        let (failing, of) = (Failing::new(events, NODE), ObjectReference::default());
        let mut told = Vec::new();
        for text in ["a 1", "b", "a 2", "b 3", "c", "d", "b 4", "e"] {
            told.push(failing.fails(&of, text).await);
        }
        assert_eq!(told, [true, true, false, false, true, true, false, true]);
        // Of so many the first is forgotten, and all are once it is over.
        assert!(failing.fails(&of, "a").await);
        failing.works(&of, "well").await;
        assert!(failing.fails(&of, "a").await);
        failing.events.told().await;
        assert_eq!(server.state().told.iter().filter(|one| *one == NODE[1]).count(), 1);
    }

    /// Servers keep an event for an hour: what lasts longer would be told nowhere.
    #[tokio::test(start_paused = true)]
    async fn what_lasts_is_told_again_each_half_hour() {
        let server = Server::default();
        let events = server.context().await.events("test");
        let of = ObjectReference::default();
        for failing in [Failing::new(events.clone(), NODE), Failing::exact(events, CONFIG)] {
            server.state().told.clear();
            let mut told = Vec::new();
            for minutes in [0, 29, 2, 28, 3] {
                tokio::time::advance(Duration::from_mins(minutes)).await;
                told.push(failing.fails(&of, "denied").await);
            }
            assert_eq!(told, [true, false, true, false, true]);
            failing.works(&of, "well").await;
            failing.events.told().await;
            let [failed, well] = failing.reasons;
            assert_eq!(server.state().told, [failed, failed, failed, well]);
        }
    }

    /// Each object's, and those of one reason alone.
    #[tokio::test]
    async fn what_others_have_told_is_known_as_long_as_it_would_be_here() {
        let server = Server::default();
        let failing = Failing::new(server.context().await.events("test"), NODE);
        let of = |uid: &str| ObjectReference { uid: Some(uid.into()), ..ObjectReference::default() };
        let told = |uid: &str, reason: &str, minutes: i64| {
            let at = Timestamp::now().as_second() - minutes * 60;
            let at = format!("{:.6}", Timestamp::from_second(at).unwrap());
            let whole = json!({"metadata": {"name": "e"}, "involvedObject": {"uid": uid}, "reason": reason, "message": "denied 1",
                "eventTime": at});
            serde_json::from_value::<Event>(whole).unwrap()
        };
        failing.learn(&[
            told("new", NODE[0], 10),
            told("old", NODE[0], 40),
            told("over", NODE[0], 20),
            told("over", NODE[1], 10),
            told("other", CHECK[0], 10),
        ]);
        for (uid, is_told) in [("new", false), ("old", true), ("over", true), ("other", true)] {
            assert_eq!(failing.fails(&of(uid), "denied 2").await, is_told, "{uid}");
        }
        for uid in ["new", "old", "over", "other", "none"] {
            failing.works(&of(uid), "well").await;
        }
        failing.events.told().await;
        assert_eq!(server.state().told.iter().filter(|one| *one == NODE[1]).count(), 4);
    }
}
