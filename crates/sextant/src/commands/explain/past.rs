//! What happened, in order.

use std::time::{Duration, UNIX_EPOCH};

use cri::contract::v1::ContainerStatus;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Pod;
use crate::output::short;

/// What a node remembers besides what pods and containers are.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Past {
    pub(super) moments: Vec<Noted>,
    pub(super) under_way: Vec<UnderWay>,
}

/// Something that was done, or happened.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Noted {
    pub(super) at: i64,
    pub(super) what: String,
    pub(super) name: String,
    id: String,
    took: i64,
    pub(super) times: u32,
    pub(super) message: String,
    pub(super) failed: bool,
}

/// Something that is done now.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct UnderWay {
    pub(super) since: i64,
    pub(super) what: String,
    pub(super) name: String,
}

impl Past {
    /// As the node writes it; nothing if it is something else.
    pub(super) fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    pub(super) fn of(value: &Value) -> Self {
        Self::deserialize(value).unwrap_or_default()
    }

    /// When something was last done.
    pub(super) fn touched(&self) -> i64 {
        let noted = self.moments.iter().map(|m| m.at);
        noted.chain(self.under_way.iter().map(|u| u.since)).max().unwrap_or_default()
    }

    /// How long a call took that made or did something to `id`.
    fn took(&self, what: &str, id: &str) -> Option<Duration> {
        let done = self.moments.iter().rfind(|m| m.what == what && m.id == id && !m.failed)?;
        Some(Duration::from_nanos(done.took.max(0).unsigned_abs()))
    }
}

/// One line of the timeline.
#[derive(Debug)]
pub(super) struct Moment {
    /// Nanoseconds since 1970.
    at: i64,
    pub(super) text: String,
    pub(super) took: Option<Duration>,
    failed: bool,
}

impl Moment {
    pub(super) fn time(&self) -> String {
        time(self.at)
    }

    pub(super) fn document(&self) -> Value {
        json!({
            "at": format!("{}Z", time(self.at).replace(' ', "T")), "what": self.text, "failed": self.failed,
            "seconds": self.took.map(|took| took.as_secs_f64()),
        })
    }
}

/// To the millisecond.
fn time(at: i64) -> String {
    let text = shim::timestamp(UNIX_EPOCH + Duration::from_nanos(at.max(0).unsigned_abs()));
    text.get(..23).unwrap_or(&text).replace('T', " ")
}

/// As people say it.
pub(super) fn took(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s >= 1.0 => format!("{s:.1} s"),
        s => format!("{:.1} ms", s * 1000.0),
    }
}

/// All that happened to a pod, oldest first.
pub(super) fn timeline(pod: &Pod) -> Vec<Moment> {
    let mut all = Vec::new();
    for sandbox in &pod.sandboxes {
        let attempt = sandbox.metadata.as_ref().map_or(0, |m| m.attempt);
        all.push(Moment {
            at: sandbox.created_at,
            text: format!("sandbox {} made{}", short(&sandbox.id), times(attempt)),
            took: pod.past.took("RunPodSandbox", &sandbox.id),
            failed: false,
        });
    }
    pod.containers.iter().for_each(|container| tell(pod, container, &mut all));
    let is_there = |id: &str| pod.containers.iter().any(|c| c.id == id);
    all.extend(pod.past.moments.iter().filter_map(|noted| noted.tell(is_there(&noted.id))));
    all.sort_by_key(|moment| moment.at);
    all
}

fn times(attempt: u32) -> String {
    if attempt == 0 { String::new() } else { format!(" (attempt {attempt})") }
}

/// A container's own life.
fn tell(pod: &Pod, container: &ContainerStatus, all: &mut Vec<Moment>) {
    let metadata = container.metadata.clone().unwrap_or_default();
    let (name, attempt) = (&metadata.name, times(metadata.attempt));
    let image = container.image.as_ref().map_or("", |image| image.image.as_str());
    all.push(Moment {
        at: container.created_at,
        text: format!("container {name} created{attempt} from {image}"),
        took: pod.past.took("CreateContainer", &container.id),
        failed: false,
    });
    if container.started_at > 0 {
        all.push(Moment {
            at: container.started_at,
            text: format!("container {name} started{attempt}"),
            took: pod.past.took("StartContainer", &container.id),
            failed: false,
        });
    }
    if container.finished_at > 0 {
        all.push(Moment {
            at: container.finished_at,
            text: format!("container {name} ended{attempt}: {}", how(container)),
            took: None,
            failed: container.exit_code != 0,
        });
    }
}

/// How it ended.
pub(super) fn how(container: &ContainerStatus) -> String {
    let ended = format!("{}, code {}", container.reason, container.exit_code);
    if container.message.is_empty() { ended } else { format!("{ended}: {}", container.message) }
}

impl Noted {
    /// A line for what no status tells. `is_there`: the container that it was done to is.
    fn tell(&self, is_there: bool) -> Option<Moment> {
        let name = if self.name.is_empty() { String::new() } else { format!(" of {}", self.name) };
        let text = match (self.what.as_str(), self.failed) {
            ("End", _) if !is_there => {
                format!("container {} ended: {} (removed since)", self.name, self.message)
            }
            ("End", _) => return None,
            // The same is told as the container's end.
            ("StartContainer", true) if is_there => return None,
            (what, true) => format!("{what}{name} failed{}: {}", repeated(self.times), self.message),
            ("AttachNetwork", _) => format!("network attached: {}", self.id),
            ("PullImage", _) => format!("image {} pulled", self.name),
            ("CreateContainer", _) if !is_there => format!("container {} created (removed since)", self.name),
            ("StartContainer", _) if !is_there => format!("container {} started (removed since)", self.name),
            _ => return None,
        };
        let took = (self.took > 0).then(|| Duration::from_nanos(self.took.unsigned_abs()));
        Some(Moment { at: self.at, text, took, failed: self.failed })
    }
}

pub(super) fn repeated(times: u32) -> String {
    if times > 1 { format!(" {times} times") } else { String::new() }
}
