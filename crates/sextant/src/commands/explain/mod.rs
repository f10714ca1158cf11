//! `sextant explain POD`: why a pod of the API does not run, what happened to it on its node, what it does now and what it waits for.

mod object;
mod past;
mod present;
mod why;

use std::time::{SystemTime, UNIX_EPOCH};

use cri::contract::v1::{
    Container, ContainerStatus, ImageSpec, ImageStatusRequest, PodSandbox, PodSandboxState, PodSandboxStatus,
    PodSandboxStatusRequest, StatusRequest,
};
use past::{Moment, Past};
use serde_json::{Value, json};

use crate::cli::{Cli, ExplainArgs};
use crate::failure::{Failure, Result};
use crate::output::{self, Table};
use crate::pods::{Held, Runtime, pod_name};

/// All that a runtime tells of a pod.
#[derive(Debug, Default)]
struct Pod {
    name: String,
    /// The sandbox that it has now; none if none could be made.
    now: Option<PodSandboxStatus>,
    /// All that it has had and that are still there.
    sandboxes: Vec<PodSandbox>,
    containers: Vec<ContainerStatus>,
    /// Names of images of its containers that are not here.
    missing_images: Vec<String>,
    past: Past,
}

impl Pod {
    fn is_ready(&self) -> bool {
        self.now.as_ref().is_some_and(|status| status.state() == PodSandboxState::SandboxReady)
    }
}

/// `sextant explain`
pub(super) fn run(cli: &Cli, args: &ExplainArgs) -> Result<()> {
    let told = object::find(cli, args)?;
    let found = match &told {
        // It may be on another node, or on none yet.
        Some(told) => {
            Runtime::if_there(&cli.run_dir, &args.cri)?.and_then(|node| find(&node, &told.name).ok())
        }
        None => Some(find(&Runtime::connect(&cli.run_dir, &args.cri)?, &args.pod)?),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as i64;
    if args.output.json() {
        let mut document = found.map_or_else(|| json!({}), |pod| document(&pod, now));
        if let Some(told) = told {
            document["api"] = told.document();
        }
        return Ok(output::json(&document)?);
    }
    if let Some(told) = &told {
        print!("{}", told.text());
    }
    let Some(pod) = found else { return Ok(()) };
    if told.is_some() {
        println!("\nOn the node:");
    }
    print(&pod, now)
}

/// What the runtime knows of a pod.
fn find(runtime: &Runtime, name: &str) -> Result<Pod> {
    let held = runtime.held()?;
    match held.pod(name) {
        Ok(sandbox) => ask(runtime, &held, sandbox),
        Err(text) => not_made(runtime, name)?.ok_or_else(|| Failure::new(text)),
    }
}

fn document(pod: &Pod, now: i64) -> Value {
    json!({
        "pod": pod.name,
        "sandbox": pod.now.as_ref().map(|status| &status.id),
        "ready": pod.is_ready(),
        "timeline": past::timeline(pod).iter().map(Moment::document).collect::<Vec<_>>(),
        "now": present::states(pod, now),
        "waitsFor": present::waits(pod, now),
    })
}

fn print(pod: &Pod, now: i64) -> Result<()> {
    let (timeline, present, waits) =
        (past::timeline(pod), present::states(pod, now), present::waits(pod, now));
    let mut table = Table::new(["TIME (UTC)", "WHAT HAPPENED", "TOOK"]);
    for moment in &timeline {
        table.row([moment.time(), moment.text.clone(), moment.took.map(past::took).unwrap_or_default()]);
    }
    table.print()?;
    let mut text = String::from("\nNow:\n");
    present.iter().for_each(|line| text += &format!("  {line}\n"));
    text += "\nWaits for:\n";
    waits.iter().for_each(|line| text += &format!("  {line}\n"));
    if waits.is_empty() {
        text += "  nothing\n";
    }
    Ok(std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes())?)
}

fn ask(runtime: &Runtime, held: &Held, sandbox: &PodSandbox) -> Result<Pod> {
    let uid = |pod: &PodSandbox| pod.metadata.as_ref().map(|m| m.uid.clone());
    let name = pod_name(sandbox);
    let same = |pod: &&PodSandbox| pod_name(pod) == name && uid(pod) == uid(sandbox);
    let sandboxes: Vec<PodSandbox> = held.pods.iter().filter(same).cloned().collect();
    let is_of = |c: &&Container| sandboxes.iter().any(|pod| pod.id == c.pod_sandbox_id);
    let mut containers = Vec::new();
    for container in held.containers.iter().filter(is_of) {
        // One may have been removed in this moment.
        containers.extend(runtime.status(&container.id, false).ok().and_then(|answer| answer.status));
    }
    let request = PodSandboxStatusRequest { pod_sandbox_id: sandbox.id.clone(), verbose: true };
    let answer = runtime.ask("look at the pod", async |c| c.pod_sandbox_status(request).await)?;
    let past = answer.info.get("history").map(|text| Past::read(text)).unwrap_or_default();
    let missing_images = missing(runtime, &containers)?;
    Ok(Pod { name, now: answer.status, sandboxes, containers, missing_images, past })
}

/// Images of these containers that are not here.
fn missing(runtime: &Runtime, containers: &[ContainerStatus]) -> Result<Vec<String>> {
    let mut names: Vec<String> =
        containers.iter().filter_map(|c| c.image.as_ref()).map(|image| image.image.clone()).collect();
    names.sort();
    names.dedup();
    let mut missing = Vec::new();
    for name in names {
        let image = Some(ImageSpec { image: name.clone(), ..ImageSpec::default() });
        let request = ImageStatusRequest { image, verbose: false };
        if runtime.ask("look at the image", async |c| c.image_status(request).await)?.image.is_none() {
            missing.push(name);
        }
    }
    Ok(missing)
}

/// A pod that could not be made, as our node remembers it.
fn not_made(runtime: &Runtime, text: &str) -> Result<Option<Pod>> {
    let answer = runtime.ask("ask for the runtime's state", async |client| {
        client.status(StatusRequest { verbose: true }).await
    })?;
    let all: Vec<Value> =
        answer.info.get("podsNotMade").and_then(|all| serde_json::from_str(all).ok()).unwrap_or_default();
    let name_of = |one: &Value| {
        let part = |key: &str| one["pod"][key].as_str().unwrap_or_default().to_owned();
        (format!("{}/{}", part("namespace"), part("name")), part("name"))
    };
    let mut found: Vec<&Value> = all
        .iter()
        .filter(|one| {
            let (full, name) = name_of(one);
            full == text || name == text
        })
        .collect();
    // Of several with one name the one that was tried last.
    found.sort_by_key(|one| Past::of(one).touched());
    Ok(found.pop().map(|one| Pod { name: name_of(one).0, past: Past::of(one), ..Pod::default() }))
}
