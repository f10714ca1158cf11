//! Pods of a CRI runtime, this one or any other: what there is, and what happens.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use cri::contract::v1::{
    Container, ContainerEventResponse, ContainerEventType, ContainerState, GetEventsRequest,
    ListContainersRequest, ListPodSandboxRequest, PodSandbox, PodSandboxState, PodSandboxStatusRequest,
};
use serde_json::json;

use crate::cli::{EventsArgs, PodsArgs};
use crate::failure::Result;
use crate::output::{self, Table, ago, short, timestamp};
use crate::pods::{self, Runtime};

const SECOND: i64 = 1_000_000_000;

/// A pod with what belongs to it.
struct Row {
    pod: PodSandbox,
    addresses: Vec<String>,
    containers: Vec<Container>,
}

/// `sextant pods`
pub(super) fn list(run_dir: &Path, args: &PodsArgs) -> Result<()> {
    let rows = ask(&Runtime::connect(run_dir, &args.cri)?, args.all)?;
    if args.quiet {
        rows.iter().for_each(|row| println!("{}", short(&row.pod.id)));
        return Ok(());
    }
    if args.output.json() {
        let list: Vec<_> = rows.iter().map(as_json).collect();
        return Ok(output::json(&json!(list))?);
    }
    let mut table = Table::new(["ID", "NAMESPACE", "NAME", "STATUS", "AGE", "IP", "CONTAINERS"]);
    for row in &rows {
        let metadata = row.pod.metadata.clone().unwrap_or_default();
        table.row([
            short(&row.pod.id).into(),
            metadata.namespace,
            metadata.name,
            word(row.pod.state()).into(),
            age(row.pod.created_at),
            row.addresses.first().cloned().unwrap_or_default(),
            row.containers.iter().map(container).collect::<Vec<_>>().join(", "),
        ]);
    }
    Ok(table.print()?)
}

/// `sextant events`
pub(super) fn follow(run_dir: &Path, args: &EventsArgs) -> Result<()> {
    let cri = Runtime::connect(run_dir, &args.cri)?;
    let as_json = args.output.json();
    cri.wait(async |client| {
        let mut events = client.get_container_events(GetEventsRequest {}).await?;
        while let Some(event) = events.next().await? {
            match as_json {
                true => println!("{}", event_json(&event)),
                false => println!("{}", event_line(&event)),
            }
        }
        Ok::<_, grpc::Error>(())
    })
    .map_err(|e| pods::said("follow events", &e))
}

fn ask(cri: &Runtime, all: bool) -> Result<Vec<Row>> {
    cri.ask("list pods", async |client| {
        let pods = client.list_pod_sandbox(ListPodSandboxRequest::default()).await?.items;
        let containers = client.list_containers(ListContainersRequest::default()).await?.containers;
        let mut of: BTreeMap<String, Vec<Container>> = BTreeMap::new();
        for container in containers {
            of.entry(container.pod_sandbox_id.clone()).or_default().push(container);
        }
        let mut rows = Vec::new();
        for pod in pods.into_iter().filter(|pod| all || pod.state() == PodSandboxState::SandboxReady) {
            let request = PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: false };
            // One that is removed meanwhile has no addresses.
            let status = client.pod_sandbox_status(request).await.ok().and_then(|answer| answer.status);
            let network = status.and_then(|status| status.network).unwrap_or_default();
            let more = network.additional_ips.into_iter().map(|ip| ip.ip);
            let addresses = [network.ip].into_iter().chain(more).filter(|ip| !ip.is_empty()).collect();
            let containers = of.remove(&pod.id).unwrap_or_default();
            rows.push(Row { pod, addresses, containers });
        }
        Ok(rows)
    })
}

fn word(state: PodSandboxState) -> &'static str {
    match state {
        PodSandboxState::SandboxReady => "ready",
        PodSandboxState::SandboxNotready => "not ready",
    }
}

fn container(container: &Container) -> String {
    let name = container.metadata.as_ref().map_or("", |m| m.name.as_str());
    match container.state() {
        ContainerState::ContainerRunning => name.to_owned(),
        _ => format!("{name} ({})", pods::state(container)),
    }
}

fn age(created: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    ago(now.saturating_sub((created / SECOND).max(0).unsigned_abs()))
}

fn as_json(row: &Row) -> serde_json::Value {
    let pod = &row.pod;
    let metadata = pod.metadata.clone().unwrap_or_default();
    let containers = row.containers.iter().map(|c| {
        let metadata = c.metadata.clone().unwrap_or_default();
        json!({
            "id": c.id, "name": metadata.name, "attempt": metadata.attempt, "state": pods::state(c),
            "image": c.image.as_ref().map(|i| &i.image), "imageId": c.image_id,
        })
    });
    json!({
        "id": pod.id, "name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid,
        "attempt": metadata.attempt, "state": word(pod.state()), "addresses": row.addresses,
        "created": timestamp((pod.created_at / SECOND).max(0).unsigned_abs()), "handler": pod.runtime_handler,
        "labels": pod.labels, "containers": containers.collect::<Vec<_>>(),
    })
}

fn happened(event: &ContainerEventResponse) -> &'static str {
    match event.container_event_type() {
        ContainerEventType::ContainerCreatedEvent => "created",
        ContainerEventType::ContainerStartedEvent => "started",
        ContainerEventType::ContainerStoppedEvent => "stopped",
        ContainerEventType::ContainerDeletedEvent => "deleted",
    }
}

/// The container's name and how it ended, or that it is the pod itself.
fn subject(event: &ContainerEventResponse) -> (String, Option<i32>) {
    let found = event.containers_statuses.iter().find(|c| c.id == event.container_id);
    let name = found.and_then(|c| c.metadata.as_ref()).map_or_else(|| "pod".to_owned(), |m| m.name.clone());
    let code = found.filter(|c| c.state() == ContainerState::ContainerExited).map(|c| c.exit_code);
    (name, code)
}

fn event_line(event: &ContainerEventResponse) -> String {
    let pod = event.pod_sandbox_status.as_ref().and_then(|p| p.metadata.clone()).unwrap_or_default();
    let (name, code) = subject(event);
    let at = timestamp((event.created_at / SECOND).max(0).unsigned_abs());
    let code = code.map_or_else(String::new, |code| format!(" (code {code})"));
    format!(
        "{at}  {}/{}  {name} {}{code}  {}",
        pod.namespace,
        pod.name,
        happened(event),
        short(&event.container_id)
    )
}

fn event_json(event: &ContainerEventResponse) -> serde_json::Value {
    let pod = event.pod_sandbox_status.as_ref().and_then(|p| p.metadata.clone()).unwrap_or_default();
    let (name, code) = subject(event);
    json!({
        "at": event.created_at, "event": happened(event), "id": event.container_id, "container": name,
        "exitCode": code, "pod": pod.name, "namespace": pod.namespace,
    })
}
