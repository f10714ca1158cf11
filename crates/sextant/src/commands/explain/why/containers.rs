//! What the containers of a pod say of themselves: images, ends, loops, probes.

use serde_json::Value;

use super::{Facts, Reason, after, is_true, last, reason};
use crate::commands::objects::last_seen;
use crate::objects::{age, list, number, text};

/// Where the states of containers are, and what they are called.
const STATUSES: [(&str, &str); 2] =
    [("/status/initContainerStatuses", "init container"), ("/status/containerStatuses", "container")];

/// All that they keep the pod waiting by.
pub(super) fn reasons(pod: &Value, facts: &Facts) -> Vec<Reason> {
    let mut all = Vec::new();
    for (place, what) in STATUSES {
        for one in list(pod, place) {
            all.extend(container(pod, what, one, facts));
        }
        if !all.is_empty() {
            // The others wait for init containers.
            break;
        }
    }
    all
}

/// Those that ended badly, of a pod that has failed.
pub(super) fn ends(pod: &Value) -> Vec<Reason> {
    let all = STATUSES.iter().flat_map(|(place, _)| list(pod, place));
    let bad = all.filter(|one| number(one, "/state/terminated/exitCode") != 0);
    bad.map(|one| ended(pod, one, "/state/terminated")).collect()
}

/// What is typed to see what a container said.
fn log(pod: &Value, name: &str) -> String {
    let (pod, namespace) = (text(pod, "/metadata/name"), text(pod, "/metadata/namespace"));
    format!("sextant logs pod/{pod} -c {name} --namespace {namespace}")
}

/// How a container ended, from `place` in its status.
fn ended(pod: &Value, one: &Value, place: &str) -> Reason {
    let name = text(one, "/name");
    let at = |field: &str| format!("{place}/{field}");
    let code = number(one, &at("exitCode"));
    let (why, message) = (text(one, &at("reason")), text(one, &at("message")));
    let mut what = format!("container {name} ended with code {code}");
    if !matches!(why, "" | "Error" | "Completed") {
        what += &format!(" ({why})");
    }
    if !message.is_empty() {
        what += &format!(": {}", message.trim());
    }
    let previous = if place.starts_with("/lastState") { " --previous" } else { "" };
    let log = log(pod, name) + previous;
    let todo = match (why, code) {
        ("StartError", _) => "see whether its command is in the image and may be executed".into(),
        ("OOMKilled", _) => {
            format!(
                "give it more memory (resources.limits.memory of container {name}), or have it use less; `{log}`"
            )
        }
        (_, 126 | 127) => format!("see whether its command is in the image and may be executed; `{log}`"),
        (_, 137) => format!("it was killed: by a liveness probe, or for want of memory; `{log}`"),
        (_, 0) => format!("its program ends although the pod wants it to go on (restartPolicy); `{log}`"),
        _ => format!("see what it said: `{log}`"),
    };
    reason(what, todo)
}

/// Why the agent itself ended a container that is started again, if it did: the code says nothing of that.
fn killed(pod: &Value, one: &Value, facts: &Facts) -> Option<Reason> {
    let name = text(one, "/name");
    // Statuses tell whole seconds, events parts of them.
    let second = |time: &str| time.get(.."2026-01-01T00:00:00".len()).unwrap_or_default().to_owned();
    let at = |field: &str| second(text(one, &format!("/lastState/terminated/{field}")));
    let is_its_end = |event: &&Value| {
        let when = second(last_seen(event));
        text(event, "/reason") == "Killing"
            && text(event, "/involvedObject/fieldPath").ends_with(&format!("{{{name}}}"))
            && (at("startedAt")..=at("finishedAt")).contains(&when)
    };
    let why = text(facts.events.iter().rev().find(is_its_end)?, "/message");
    let (what, field) = if why.contains("FailedPostStartHook") {
        (
            format!("its hook after the start failed{}", after(&last(facts, &["FailedPostStartHook"]))),
            "lifecycle.postStart",
        )
    } else if why.contains("liveness probe") {
        (format!("its liveness probe failed{}", after(&last(facts, &["Unhealthy"]))), "livenessProbe")
    } else {
        return None;
    };
    Some(reason(
        format!("container {name} was ended, as {what}"),
        format!("correct {field} of container {name}, or see what it says: `{} --previous`", log(pod, name)),
    ))
}

fn container(pod: &Value, what: &str, one: &Value, facts: &Facts) -> Option<Reason> {
    let name = text(one, "/name");
    let waits = text(one, "/state/waiting/reason");
    let message = text(one, "/state/waiting/message").trim();
    let image = text(one, "/image");
    match waits {
        "" => {}
        "PostStartHookError" => {
            return Some(reason(
                format!("{what} {name} was ended, as its hook after the start failed: {message}"),
                format!("correct lifecycle.postStart of container {name}; `{}`", log(pod, name)),
            ));
        }
        "ErrImagePull"
        | "RegistryUnavailable"
        | "SignatureValidationFailed"
        | "ImagePullBackOff"
        | "ErrImageNeverPull"
        | "InvalidImageName"
        | "ImageInspectError" => {
            return Some(image_missing(pod, name, image, waits, message, facts));
        }
        "CrashLoopBackOff" => {
            let again = number(one, "/restartCount");
            let end = killed(pod, one, facts).unwrap_or_else(|| ended(pod, one, "/lastState/terminated"));
            return Some(reason(
                format!("{}, {again} times already; it is started again later", end.what),
                end.todo,
            ));
        }
        "CreateContainerConfigError" => {
            return Some(reason(format!("{what} {name} cannot be made: {message}"), unmade(message)));
        }
        "PodInitializing" | "ContainerCreating" => return None,
        waits => {
            let last = last(facts, &["Failed", "FailedPostStartHook", "BackOff"]);
            let said = if message.is_empty() { last } else { message.to_owned() };
            return Some(reason(
                format!("{what} {name} waits ({waits}){}", after(&said)),
                "see its command, mounts and limits",
            ));
        }
    }
    if one.pointer("/state/terminated").is_some() && what == "container" {
        return Some(ended(pod, one, "/state/terminated")).filter(|_| !is_true(pod, "Ready"));
    }
    one.pointer("/state/running")?;
    if what == "init container" {
        let is_sidecar = list(pod, "/spec/initContainers")
            .iter()
            .any(|init| text(init, "/name") == name && text(init, "/restartPolicy") == "Always");
        let since = age(text(one, "/state/running/startedAt"));
        return (!is_sidecar && !is_true(pod, "Initialized")).then(|| {
            reason(
                format!("init container {name} runs (for {since}); the others wait for its end"),
                String::new(),
            )
        });
    }
    if one.get("ready") == Some(&Value::Bool(true)) {
        return None;
    }
    let said = last(facts, &["Unhealthy"]);
    let kind = if one.get("started") == Some(&Value::Bool(false)) { "startup" } else { "readiness" };
    Some(reason(
        format!("container {name} runs, and its {kind} probe has not succeeded{}", after(&said)),
        format!(
            "see whether it listens where the probe asks (spec.containers[].{kind}Probe), and what it says: `{}`",
            log(pod, name)
        ),
    ))
}

/// What to do about a container whose configuration cannot be had.
fn unmade(message: &str) -> &'static str {
    if message.contains("non-root") || message.contains("runAsNonRoot") {
        "name a user that is not root (securityContext.runAsUser), or leave runAsNonRoot out"
    } else if message.starts_with("configmap")
        || message.starts_with("secret")
        || message.contains("find key")
    {
        "apply the ConfigMap or Secret it names, in the pod's namespace and with that key, or mark it optional"
    } else {
        "correct its env, its volumeMounts or its securityContext"
    }
}

fn image_missing(pod: &Value, name: &str, image: &str, waits: &str, message: &str, facts: &Facts) -> Reason {
    // While it waits the state only says that it does: the event has the cause.
    let pulled = facts.events.iter().rev().map(|event| text(event, "/message"));
    let cause = pulled
        .into_iter()
        .find(|said| said.contains(image) && said.to_lowercase().contains("failed to pull"));
    let said = if waits == "ImagePullBackOff" { cause.unwrap_or(message) } else { message };
    let said = without_code(said);
    let lower = said.to_lowercase();
    let todo = match waits {
        "ErrImageNeverPull" => format!(
            "its policy is Never: bring the image in (`sextant pull {image}`, `sextant load`), or change imagePullPolicy"
        ),
        "InvalidImageName" => "correct the image's name".to_owned(),
        _ if lower.contains("no space left") => {
            let node = text(pod, "/spec/nodeName");
            format!(
                "make room on the disk of node {node}, or take a smaller image; it is tried again by itself"
            )
        }
        _ if lower.contains("unauthorized")
            || lower.contains("denied")
            || lower.contains("401")
            || lower.contains("403") =>
        {
            format!(
                "the registry wants credentials: name a Secret in imagePullSecrets of pod {}",
                text(pod, "/metadata/name")
            )
        }
        _ if lower.contains("not found") || lower.contains("unknown") || lower.contains("404") => {
            "see whether name and tag are right: the registry has no such image".to_owned()
        }
        _ => format!(
            "see whether the registry is reached: `sextant registry explain {image}`, `sextant pull {image}`"
        ),
    };
    reason(format!("container {name} has no image: {image} ({waits}){}", after(&said)), todo)
}

/// Without the code of a call, which says nothing to people.
fn without_code(said: &str) -> String {
    match said.split_once("rpc error: code = ") {
        Some((before, rest)) => {
            format!("{before}{}", rest.split_once(" desc = ").map_or(rest, |(_, why)| why))
        }
        None => said.to_owned(),
    }
}
