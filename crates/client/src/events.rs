//! Events: what people are told of an object, as `kubectl describe` shows it. Each text is one event: two pods that were made are two.
//!
//! They are told in their order by a task of its own: what a controller does next does not wait for what people are told of the last.
//! What is left to tell when the process ends is not told, unless it is waited for ([`Events::told`]).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
pub use kube::runtime::events::EventType;

use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Error, Resource};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

/// Kubernetes takes no longer text.
const LONGEST: usize = 1024;
/// What is said again within this time is counted; later it is an event of its own.
const SERIES: SignedDuration = SignedDuration::from_mins(6);
/// Of so many texts is it known whether they were said.
const KNOWN: usize = 4096;
/// So much of an object's name is part of its events'.
const NAME: usize = 230;
/// As many wait to be told; who has more to say waits.
const WAITING: usize = 1024;

/// Tells events in the name of one controller.
#[derive(Clone, Debug)]
pub struct Events {
    sender: mpsc::Sender<Message>,
}

/// What the task that tells is sent.
#[derive(Debug)]
enum Message {
    Said(Box<Said>),
    /// To be answered: all that was said before is told.
    Asked(oneshot::Sender<()>),
}

#[derive(Debug)]
struct Said {
    of: ObjectReference,
    type_: EventType,
    reason: String,
    action: String,
    text: String,
    at: Timestamp,
}

impl Events {
    /// Events of `controller`, told by the process that is called `instance`, in a task of the current runtime that ends when nobody
    /// holds this any more and all is told.
    #[must_use]
    pub fn new(client: &Client, controller: &str, instance: &str) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Message>(WAITING);
        let (client, controller, instance) = (client.clone(), controller.to_owned(), instance.to_owned());
        tokio::spawn(async move {
            let mut known = Known::default();
            while let Some(message) = receiver.recv().await {
                match message {
                    Message::Said(said) => tell(&client, &controller, &instance, &said, &mut known).await,
                    // Who has asked may be gone.
                    Message::Asked(asked) => drop(asked.send(())),
                }
            }
        });
        Self { sender }
    }

    /// Something went as it should.
    pub async fn normal<K: Resource<DynamicType = ()>>(&self, of: &K, reason: &str, text: impl Into<String>) {
        self.tell(&of.object_ref(&()), EventType::Normal, reason, reason, text.into()).await;
    }

    /// Something did not.
    pub async fn warning<K: Resource<DynamicType = ()>>(
        &self,
        of: &K,
        reason: &str,
        text: impl Into<String>,
    ) {
        self.tell(&of.object_ref(&()), EventType::Warning, reason, reason, text.into()).await;
    }

    /// What happened to an object, or did not go as it should, and in which action that was. It waits only where very much is to be
    /// told already.
    pub async fn tell(
        &self,
        of: &ObjectReference,
        type_: EventType,
        reason: &str,
        action: &str,
        text: String,
    ) {
        let said = Said {
            of: of.clone(),
            type_,
            reason: reason.into(),
            action: action.into(),
            text: cut(text),
            at: Timestamp::now(),
        };
        // Its other end goes with the runtime alone.
        let _ = self.sender.send(Message::Said(Box::new(said))).await;
    }

    /// Waits until all that was said is told, or refused: for a process that is about to end.
    pub async fn told(&self) {
        let (asked, told) = oneshot::channel();
        if self.sender.send(Message::Asked(asked)).await.is_ok() {
            let _ = told.await;
        }
    }
}

/// An event is a service to people; what it tells is in the object, too. So one that is refused is not told again.
async fn tell(client: &Client, controller: &str, instance: &str, said: &Said, known: &mut Known) {
    // Where Kubernetes keeps events of what is in no namespace.
    let namespace = said.of.namespace.as_deref().unwrap_or("default");
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    if let Some((name, count)) = known.again(said) {
        let series = json!({"series": {"count": count, "lastObservedTime": micro(said.at)}});
        match api.patch(&name, &PatchParams::default(), &Patch::Merge(series)).await {
            // A server keeps events for an hour or so, however often they are said.
            Err(Error::Api(status)) if status.code == 404 => {}
            _ => return,
        }
    }
    let name = name(said);
    let type_ = match said.type_ {
        EventType::Normal => "Normal",
        EventType::Warning => "Warning",
    };
    let event: Value = json!({
        "metadata": {"name": name, "namespace": namespace}, "type": type_, "reason": said.reason,
        "action": said.action, "note": said.text, "regarding": said.of, "eventTime": micro(said.at),
        "reportingController": controller, "reportingInstance": instance,
    });
    let Ok(event) = serde_json::from_value::<Event>(event) else { return };
    if api.create(&PostParams::default(), &event).await.is_ok() {
        known.put(said, name);
    }
}

/// What an event is called: after its object, and its time.
fn name(said: &Said) -> String {
    let about = said.of.name.as_deref().unwrap_or_default();
    let about = &about[..about.floor_char_boundary(NAME)];
    format!("{}.{:x}", about.trim_end_matches(['.', '-']), said.at.as_nanosecond())
}

/// The events that were told a short time ago, by their objects (uid, and the part of it), reasons and texts.
#[derive(Debug, Default)]
struct Known(BTreeMap<(String, String, String, String), Told>);

#[derive(Debug)]
struct Told {
    name: String,
    count: i32,
    at: Timestamp,
}

impl Known {
    fn key(said: &Said) -> (String, String, String, String) {
        let of = |text: &Option<String>| text.clone().unwrap_or_default();
        (of(&said.of.uid), of(&said.of.field_path), said.reason.clone(), said.text.clone())
    }

    /// The event that has said the same a short time ago, and how often it was said now.
    fn again(&mut self, said: &Said) -> Option<(String, i32)> {
        let told = self.0.get_mut(&Self::key(said)).filter(|told| told.at + SERIES > said.at)?;
        (told.count, told.at) = (told.count.saturating_add(1), said.at);
        Some((told.name.clone(), told.count))
    }

    /// It was told as an event of its own, of this name.
    fn put(&mut self, said: &Said, name: String) {
        self.0.retain(|_, told| told.at + SERIES > said.at);
        if self.0.len() >= KNOWN
            && let Some(oldest) = self.0.iter().min_by_key(|(_, told)| told.at).map(|(key, _)| key.clone())
        {
            self.0.remove(&oldest);
        }
        self.0.insert(Self::key(said), Told { name, count: 1, at: said.at });
    }
}

fn micro(at: Timestamp) -> String {
    format!("{at:.6}")
}

/// A text that is no longer than Kubernetes takes it in events and errors.
#[must_use]
pub fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST - 3));
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(about: &str, text: &str, second: i64) -> Said {
        let of = ObjectReference {
            name: Some(about.into()),
            uid: Some(about.into()),
            ..ObjectReference::default()
        };
        let (reason, at) = ("Reason".to_owned(), Timestamp::from_second(second).unwrap());
        Said { of, type_: EventType::Normal, action: reason.clone(), reason, text: text.into(), at }
    }

    #[test]
    fn what_is_said_again_soon_is_counted_and_later_told_anew() {
        let mut known = Known::default();
        assert_eq!(known.again(&said("a", "text", 0)), None);
        known.put(&said("a", "text", 0), "first".into());
        assert_eq!(known.again(&said("a", "text", 300)), Some(("first".into(), 2)));
        assert_eq!(known.again(&said("a", "text", 600)), Some(("first".into(), 3)));
        assert_eq!(known.again(&said("a", "other", 600)), None);
        assert_eq!(known.again(&said("b", "text", 600)), None);
        let mut of_part = said("a", "text", 600);
        of_part.of.field_path = Some("spec.containers{c}".into());
        assert_eq!(known.again(&of_part), None, "it is about a part of it");
        assert_eq!(known.again(&said("a", "text", 960)), None, "it is six minutes since");
    }

    #[test]
    fn no_more_texts_are_remembered_than_there_may_be() {
        let mut known = Known::default();
        let most = i64::try_from(KNOWN).unwrap();
        // All at about the same time: none of them is old.
        (0..most + 10)
            .for_each(|number| known.put(&said("a", &number.to_string(), number / 100), "n".into()));
        assert_eq!(known.0.len(), KNOWN);
        let last = (most + 9) / 100;
        assert!(known.again(&said("a", &(most + 9).to_string(), last)).is_some());
        // What is too old anyway goes first, all of it.
        known.put(&said("a", "late", last + 3600), "n".into());
        assert_eq!(known.0.len(), 1);
    }

    #[test]
    fn names_are_those_of_objects_and_short_enough() {
        let long = said(&"x.".repeat(126), "text", 1_800_000_000);
        let its = name(&long);
        assert!(its.len() <= 253 && !its.contains(".."), "{its}");
        assert_eq!(name(&said("web-0", "text", 1)), "web-0.3b9aca00");
        let early =
            Said { at: Timestamp::from_nanosecond(1_000_000_001).unwrap(), ..said("web-0", "text", 1) };
        assert_ne!(name(&early), name(&said("web-0", "text", 1)));
    }

    #[test]
    fn texts_are_cut_between_letters() {
        assert_eq!(cut("short".into()), "short");
        let long = cut("ä".repeat(600));
        assert!(long.len() <= LONGEST && long.ends_with("ä..."), "{long}");
    }
}
