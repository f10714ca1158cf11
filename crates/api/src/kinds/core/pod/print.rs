//! The row of a pod.

use crate::contract::Object;
use crate::kinds::base::{Fields, table};
use crate::resource::Column;
use serde_json::{Map, Value};

pub(super) fn columns() -> Vec<Column> {
    let restarts = "The number of times the containers in this pod have been restarted and when the last container in this \
                    pod has restarted.";
    let (column, wide) = (table::column, table::wide);
    vec![
        table::name(),
        column("Ready", "string", "The aggregate readiness state of this pod for accepting traffic."),
        column("Status", "string", "The aggregate status of the containers in this pod."),
        column("Restarts", "string", restarts),
        table::age(),
        wide("IP", "string", "PodStatus.podIP"),
        wide("Node", "string", "PodSpec.nodeName"),
        wide("Nominated Node", "string", "PodStatus.nominatedNodeName"),
        wide("Readiness Gates", "string", "PodSpec.readinessGates"),
    ]
}

/// What the containers say of themselves.
struct Summary {
    word: String,
    ready: usize,
    restarts: i64,
    /// When the last of the restarted ones had ended.
    ended: String,
}

impl Summary {
    fn restarted(&mut self, status: &Value) {
        self.restarts += status.int("restartCount").unwrap_or(0);
        let ended = status.field("lastState").field("terminated").text("finishedAt");
        if table::seconds(ended) > table::seconds(&self.ended) {
            ended.clone_into(&mut self.ended);
        }
    }
}

pub(super) fn row(object: &Object, now: i64) -> Vec<Value> {
    let empty = Map::new();
    let (spec, status) = (object.spec().unwrap_or(&empty), object.status().unwrap_or(&empty));
    let sidecars = spec.list("initContainers").iter().filter(|container| is_sidecar(container)).count();
    let summary = summary(spec, status);
    let word = word(object, status, &summary);
    let mut restarts = summary.restarts.to_string();
    if summary.restarts != 0 && !summary.ended.is_empty() {
        restarts = format!("{restarts} ({} ago)", table::since(&summary.ended, now));
    }
    let or_none = |text: &str| Value::from(if text.is_empty() { "<none>" } else { text });
    vec![
        object.name().into(),
        format!("{}/{}", summary.ready, spec.list("containers").len() + sidecars).into(),
        word.into(),
        restarts.into(),
        table::age_of(object, now),
        or_none(status.list("podIPs").first().map_or("", |ip| ip.text("ip"))),
        or_none(spec.text("nodeName")),
        or_none(status.text("nominatedNodeName")),
        gates(object, spec).into(),
    ]
}

fn is_sidecar(container: &Value) -> bool {
    container.text("restartPolicy") == "Always"
}

/// The last word: a pod that goes says so whatever its containers do.
fn word(object: &Object, status: &Map<String, Value>, summary: &Summary) -> String {
    let terminal = matches!(status.text("phase"), "Failed" | "Succeeded");
    match object.is_terminating() {
        true if status.text("reason") == "NodeLost" => "Unknown".to_owned(),
        true if !terminal => "Terminating".to_owned(),
        _ => summary.word.clone(),
    }
}

fn summary(spec: &Map<String, Value>, status: &Map<String, Value>) -> Summary {
    let mut word = match status.text("reason") {
        "" => status.text("phase"),
        reason => reason,
    };
    let gated = |condition: &&Value| {
        condition.text("type") == "PodScheduled" && condition.text("reason") == "SchedulingGated"
    };
    if status.list("conditions").iter().any(|condition| gated(&condition)) {
        word = "SchedulingGated";
    }
    let mut all = Summary { word: word.to_owned(), ready: 0, restarts: 0, ended: String::new() };
    let mut sidecars = Summary { word: String::new(), ready: 0, restarts: 0, ended: String::new() };
    let initializing = init(spec, status, &mut all, &mut sidecars);
    if !initializing || condition(status, "Initialized") == Some("True") {
        (all.restarts, all.ended) = (sidecars.restarts, sidecars.ended);
        ordinary(status, &mut all);
    }
    all
}

fn condition<'a>(status: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    let found = status.list("conditions").iter().find(|condition| condition.text("type") == name)?;
    Some(found.text("status"))
}

/// Whether a container that runs before is not done.
fn init(
    spec: &Map<String, Value>,
    status: &Map<String, Value>,
    all: &mut Summary,
    sidecars: &mut Summary,
) -> bool {
    let containers = spec.list("initContainers");
    for (index, status) in status.list("initContainerStatuses").iter().enumerate() {
        let name = status.text("name");
        let sidecar =
            containers.iter().rfind(|container| container.text("name") == name).is_some_and(is_sidecar);
        all.restarted(status);
        if sidecar {
            sidecars.restarted(status);
        }
        let ended = status.field("state").field("terminated");
        if ended.is_some_and(|ended| ended.int("exitCode").unwrap_or(0) == 0) {
            continue;
        }
        if sidecar && status.is("started") {
            all.ready += usize::from(status.is("ready"));
            continue;
        }
        let waiting = status.field("state").field("waiting").text("reason");
        all.word = match ended {
            Some(ended) => format!("Init:{}", ending(ended)),
            None if !matches!(waiting, "" | "PodInitializing") => format!("Init:{waiting}"),
            None => format!("Init:{index}/{}", containers.len()),
        };
        return true;
    }
    false
}

/// Why a container has ended.
fn ending(ended: &Value) -> String {
    match (ended.text("reason"), ended.int("signal").unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", ended.int("exitCode").unwrap_or(0)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// The first container that has something to say says it.
fn ordinary(status: &Map<String, Value>, all: &mut Summary) {
    let (mut running, mut failed) = (false, None);
    for container in status.list("containerStatuses").iter().rev() {
        all.restarted(container);
        let state = container.field("state");
        let waiting = state.field("waiting").text("reason");
        if !waiting.is_empty() {
            waiting.clone_into(&mut all.word);
        } else if let Some(ended) = state.field("terminated") {
            all.word = ending(ended);
            if ended.int("exitCode").unwrap_or(0) != 0 {
                failed = Some(all.word.clone());
            }
        } else if container.is("ready") && state.has("running") {
            running = true;
            all.ready += 1;
        }
    }
    if all.word == "Completed" {
        if running && condition(status, "Ready") == Some("True") {
            "Running".clone_into(&mut all.word);
        } else if let Some(failed) = failed {
            all.word = failed;
        } else if running {
            "NotReady".clone_into(&mut all.word);
        }
    }
}

/// `1/2`: how many of the readiness gates are open.
fn gates(object: &Object, spec: &Map<String, Value>) -> String {
    let gates = spec.list("readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let open = |gate: &&Value| {
        table::condition(object, gate.text("conditionType"))
            .is_some_and(|found| found.text("status") == "True")
    };
    format!("{}/{}", gates.iter().filter(open).count(), gates.len())
}
