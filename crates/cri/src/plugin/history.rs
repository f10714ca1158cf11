//! What was done for each pod and how it went, for whoever asks why: the last of it, in memory.
//!
//! Pods that came to be tell most of their story by themselves (their status has times, codes and reasons). Here is what no
//! status has: how long things took, what failed and was taken back, what is under way, and containers that are gone.

use std::collections::{HashMap, VecDeque};
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::{Value, json};

use super::clock;
use super::container::Container;
use crate::contract::v1::PodSandboxConfig;

/// Moments that are kept of a pod.
const MOMENTS: usize = 32;
/// Pods that moments are kept of; one that was never made is among them until it is the oldest.
const PODS: usize = 256;
/// Bytes of an error's text that are kept.
const TEXT: usize = 1024;

/// A pod as its kubelet means it, whatever sandboxes it has had.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Who {
    namespace: String,
    name: String,
    uid: String,
}

impl Who {
    pub(crate) fn of(config: &PodSandboxConfig) -> Self {
        let metadata = config.metadata.clone().unwrap_or_default();
        Self { namespace: metadata.namespace, name: metadata.name, uid: metadata.uid }
    }
}

/// Something that was done, or happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Moment {
    /// When it began, the last time if there were several; nanoseconds since 1970.
    at: i64,
    /// The call, `AttachNetwork` within one, or `End` of a container.
    what: &'static str,
    /// The container's or the image's name; empty if it is the pod itself.
    name: String,
    /// What it made, or what it was done to.
    id: String,
    /// Nanoseconds that it took.
    took: i64,
    /// How often in a row it came to the same.
    times: u32,
    /// Why it failed, or how a container ended.
    message: String,
    failed: bool,
}

#[derive(Debug, Default)]
struct Past {
    moments: VecDeque<Moment>,
    under_way: Vec<UnderWay>,
    /// When something was last noted.
    touched: i64,
}

#[derive(Debug, Clone, Serialize)]
struct UnderWay {
    since: i64,
    what: &'static str,
    name: String,
    #[serde(skip)]
    number: u64,
}

/// All pods' pasts, since this process has begun.
#[derive(Debug, Default)]
pub(crate) struct History {
    pods: Mutex<HashMap<Who, Past>>,
    numbers: std::sync::atomic::AtomicU64,
}

impl History {
    fn lock(&self) -> MutexGuard<'_, HashMap<Who, Past>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_past(&self, who: &Who, change: impl FnOnce(&mut Past)) {
        let mut pods = self.lock();
        if pods.len() >= PODS && !pods.contains_key(who) {
            let idle = pods.iter().filter(|(_, past)| past.under_way.is_empty());
            let oldest = idle.min_by_key(|(_, past)| past.touched).map(|(who, _)| who.clone());
            oldest.map(|who| pods.remove(&who));
        }
        let past = pods.entry(who.clone()).or_default();
        past.touched = clock::now();
        change(past);
    }

    /// Something begins for a pod.
    pub(crate) fn begin(self: &Arc<Self>, who: Who, what: &'static str, name: &str) -> Doing {
        let number = self.numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let since = clock::now();
        let under_way = UnderWay { since, what, name: name.to_owned(), number };
        self.with_past(&who, |past| past.under_way.push(under_way));
        Doing { history: Arc::clone(self), who, what, name: name.to_owned(), since, number }
    }

    /// A container has ended.
    pub(crate) fn ended(&self, who: &Who, container: &Container) {
        let live = container.live();
        let metadata = container.record.config.metadata.clone().unwrap_or_default();
        let message = match live.message.is_empty() {
            true => format!("{}, code {}", live.reason, live.exit_code),
            false => format!("{}, code {}: {}", live.reason, live.exit_code, live.message),
        };
        self.with_past(who, |past| {
            past.add(Moment {
                at: live.finished_at,
                what: "End",
                name: metadata.name,
                id: container.id().to_owned(),
                took: 0,
                times: 1,
                message: cut(message),
                failed: live.exit_code != 0,
            });
        });
    }

    /// Nobody will ask for this pod any more.
    pub(crate) fn forget(&self, who: &Who) {
        self.lock().remove(who);
    }

    /// What is known of a pod.
    pub(crate) fn told(&self, who: &Who) -> Value {
        self.lock().get(who).map_or_else(|| json!({}), told)
    }

    /// The pasts of pods that are not in `there`: those that could not be made.
    pub(crate) fn told_of_others(&self, there: impl Fn(&Who) -> bool) -> Value {
        let pods = self.lock();
        let others = pods.iter().filter(|(who, _)| !there(who)).map(|(who, past)| {
            let mut all = told(past);
            all["pod"] = json!({"namespace": who.namespace, "name": who.name, "uid": who.uid});
            all
        });
        others.collect()
    }
}

fn told(past: &Past) -> Value {
    json!({"moments": past.moments, "underWay": past.under_way})
}

impl Past {
    fn add(&mut self, moment: Moment) {
        if let Some(last) = self.moments.back_mut()
            && (last.what, &last.name, &last.message) == (moment.what, &moment.name, &moment.message)
            && last.failed
            && moment.failed
            && moment.what != "End"
        {
            let times = last.times.saturating_add(1);
            *last = Moment { times, ..moment };
            return;
        }
        if self.moments.len() == MOMENTS {
            self.moments.pop_front();
        }
        self.moments.push_back(moment);
    }
}

/// Something that is under way; dropped it is not any more, whatever came of it.
#[derive(Debug)]
pub(crate) struct Doing {
    history: Arc<History>,
    who: Who,
    what: &'static str,
    name: String,
    since: i64,
    number: u64,
}

impl Doing {
    /// It has ended so; `id` is what it made, or what it was done to.
    pub(crate) fn end<T, E: Display>(self, result: &Result<T, E>, id: impl FnOnce(&T) -> String) {
        let (id, message) = match result {
            Ok(made) => (id(made), String::new()),
            Err(error) => (String::new(), cut(error.to_string())),
        };
        let moment = Moment {
            at: self.since,
            what: self.what,
            name: self.name.clone(),
            id,
            took: clock::now() - self.since,
            times: 1,
            message,
            failed: result.is_err(),
        };
        // Of a pod that was removed meanwhile nothing is remembered any more.
        if let Some(past) = self.history.lock().get_mut(&self.who) {
            past.touched = clock::now();
            past.add(moment);
        }
    }
}

impl Drop for Doing {
    fn drop(&mut self) {
        if let Some(past) = self.history.lock().get_mut(&self.who) {
            past.under_way.retain(|one| one.number != self.number);
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT {
        let end = (0..=TEXT).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(name: &str) -> Who {
        Who { namespace: "n".into(), name: name.into(), uid: "u".into() }
    }

    fn failed(history: &Arc<History>, name: &str, why: &str) {
        history.begin(who(name), "RunPodSandbox", "").end(&Err::<(), _>(why.to_owned()), |()| String::new());
    }

    #[test]
    fn what_fails_alike_is_one_moment_and_what_is_dropped_is_none() {
        let history = Arc::new(History::default());
        drop(history.begin(who("a"), "PullImage", "image"));
        failed(&history, "a", "no network");
        failed(&history, "a", "no network");
        failed(&history, "a", "another");
        let doing = history.begin(who("a"), "RunPodSandbox", "");
        let told = history.told(&who("a"));
        let moments = told["moments"].as_array().unwrap();
        let seen: Vec<_> =
            moments.iter().map(|m| (m["message"].as_str().unwrap(), m["times"].as_u64().unwrap())).collect();
        assert_eq!(seen, [("no network", 2), ("another", 1)]);
        assert_eq!(told["underWay"][0]["what"], "RunPodSandbox");
        doing.end(&Ok::<_, String>("id"), |id| (*id).to_owned());
        let told = history.told(&who("a"));
        assert_eq!(
            (&told["moments"][2]["id"], told["underWay"].as_array().unwrap().len()),
            (&json!("id"), 0)
        );
        history.forget(&who("a"));
        assert_eq!(history.told(&who("a")), json!({}));
    }

    #[test]
    fn it_is_bounded_in_every_direction() {
        let history = Arc::new(History::default());
        let held = history.begin(who("held"), "RunPodSandbox", "");
        for number in 0..2 * PODS {
            failed(&history, &number.to_string(), "x");
        }
        assert_eq!(history.lock().len(), PODS);
        assert!(history.lock().contains_key(&who("held")), "what is under way is not forgotten");
        drop(held);
        for number in 0..2 * MOMENTS {
            failed(&history, "a", &number.to_string());
        }
        let told = history.told(&who("a"));
        assert_eq!(told["moments"].as_array().unwrap().len(), MOMENTS);
        assert_eq!(told["moments"][MOMENTS - 1]["message"], (2 * MOMENTS - 1).to_string());
        failed(&history, "a", &"ä".repeat(TEXT));
        assert!(
            history.told(&who("a"))["moments"][MOMENTS - 1]["message"].as_str().unwrap().len() <= TEXT + 3
        );
        let others = history.told_of_others(|who| who.name != "a");
        assert_eq!((others.as_array().unwrap().len(), &others[0]["pod"]["name"]), (1, &json!("a")));
    }
}
