//! What a pod and its containers do now, and what they wait for.

use cri::contract::v1::{ContainerState, ContainerStatus};

use super::Pod;
use super::past::{self, how, repeated};
use crate::output::{ago, short};

/// How long ago that was.
fn since(at: i64, now: i64) -> String {
    ago(((now - at).max(0) / 1_000_000_000).unsigned_abs())
}

fn name(container: &ContainerStatus) -> &str {
    container.metadata.as_ref().map_or("", |m| m.name.as_str())
}

/// The containers that count: of each name the last attempt.
fn last(pod: &Pod) -> Vec<&ContainerStatus> {
    let rank = |c: &ContainerStatus| (c.metadata.as_ref().map_or(0, |m| m.attempt), c.created_at);
    let is_last = |c: &&ContainerStatus| {
        !pod.containers.iter().any(|other| name(other) == name(c) && rank(other) > rank(c))
    };
    let mut last: Vec<_> = pod.containers.iter().filter(is_last).collect();
    last.sort_by_key(|c| c.created_at);
    last
}

/// A line for the pod and for each container.
pub(super) fn states(pod: &Pod, now: i64) -> Vec<String> {
    let mut lines = vec![match &pod.now {
        None => format!("pod {} has no sandbox", pod.name),
        Some(status) => {
            let ip = status.network.as_ref().map_or("", |network| network.ip.as_str());
            let at = if ip.is_empty() { String::new() } else { format!(" at {ip}") };
            let ready = if pod.is_ready() { "ready" } else { "not ready" };
            format!("pod {} is {ready}{at} (sandbox {})", pod.name, short(&status.id))
        }
    }];
    for container in last(pod) {
        let attempt = container.metadata.as_ref().map_or(0, |m| m.attempt);
        let again = match attempt {
            0 => String::new(),
            1 => ", after 1 restart".into(),
            many => format!(", after {many} restarts"),
        };
        let state = match container.state() {
            ContainerState::ContainerCreated => {
                format!("was created {} ago and has not run", since(container.created_at, now))
            }
            ContainerState::ContainerRunning => format!("has run for {}", since(container.started_at, now)),
            ContainerState::ContainerExited => {
                format!("ended {} ago ({})", since(container.finished_at, now), how(container))
            }
            ContainerState::ContainerUnknown => "is in a state that its runtime does not know".into(),
        };
        lines.push(format!("container {} {state}{again}", name(container)));
    }
    lines
}

/// What must happen for it to go on.
pub(super) fn waits(pod: &Pod, now: i64) -> Vec<String> {
    let mut lines = Vec::new();
    for doing in &pod.past.under_way {
        let of = if doing.name.is_empty() { String::new() } else { format!(" of {}", doing.name) };
        lines.push(format!("{}{of}: under way for {}", doing.what, since(doing.since, now)));
    }
    let failed = failures(&pod.past);
    lines.extend(failed.iter().map(|moment| failure(moment, now)));
    let last = last(pod);
    if pod.now.is_none() {
        if pod.past.under_way.is_empty() {
            lines.push("RunPodSandbox: another try".into());
        }
    } else if !pod.is_ready() {
        lines.push("another sandbox, or its removal: it was stopped, or its shim ended".into());
    } else if last.is_empty() {
        lines.push("CreateContainer: it has no container".into());
    }
    let under_way = |what: &str, name: &str| {
        pod.past.under_way.iter().any(|doing| doing.what == what && doing.name == name)
    };
    let has_failed =
        |what: &str, name: &str| failed.iter().any(|moment| moment.what == what && moment.name == name);
    for container in last.iter().filter(|_| pod.is_ready()) {
        let name = name(container);
        match container.state() {
            // One that is under way or failed is told already.
            ContainerState::ContainerCreated
                if under_way("StartContainer", name) || has_failed("StartContainer", name) => {}
            ContainerState::ContainerCreated => lines.push(format!("StartContainer of {name}")),
            ContainerState::ContainerExited => lines.push(format!(
                "another attempt of container {name}, or its removal: whoever made it decides"
            )),
            _ => {}
        }
    }
    for image in &pod.missing_images {
        lines.push(format!(
            "PullImage of {image}, before another container of it can be created: it is not here"
        ));
    }
    lines
}

/// What failed last and has not worked since.
fn failures(past: &past::Past) -> Vec<&past::Noted> {
    let all = &past.moments;
    let open = all.iter().enumerate().filter(|(at, moment)| {
        let later = all.get(at + 1..).unwrap_or_default();
        moment.failed
            && moment.what != "End"
            && !later.iter().any(|m| (&m.what, &m.name) == (&moment.what, &moment.name))
    });
    open.map(|(_, moment)| moment).collect()
}

fn failure(moment: &past::Noted, now: i64) -> String {
    let of = if moment.name.is_empty() { String::new() } else { format!(" of {}", moment.name) };
    let (times, ago) = (repeated(moment.times), since(moment.at, now));
    format!("{}{of} to succeed: it failed{times}, last {ago} ago: {}", moment.what, moment.message)
}
