//! The end of containers and pods.

use std::time::Duration;

use client::queue::Next;
use cri::contract::v1::{
    ContainerStatus, RemovePodSandboxRequest, StopContainerRequest, StopPodSandboxRequest,
};
use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Resource as _};
use tokio::time::Instant;

use super::backoff::since;
use super::hooks::{Act, Whom, act};
use super::spec::{Kind, Part, grace, parts};
use super::{told, words};
use crate::agent::Agent;
use crate::collect::links;
use crate::events::PartOf;
use crate::names::{GRACE, Key};
use crate::observed::{Observed, is_running, name_of};
use crate::runtime::Failed;
use crate::volumes;

/// A container always has so long.
const LEAST: Duration = Duration::from_secs(2);

/// Ends a container: its hook first, then its signal, and SIGKILL once `time` is over.
pub(crate) async fn kill(
    agent: &Agent,
    pod: &Pod,
    part: Option<&Part<'_>>,
    container: &ContainerStatus,
    address: &str,
    why: &str,
    time: Duration,
) -> Result<(), Failed> {
    let words =
        if why.is_empty() { format!("Stopping container {}", name_of(container)) } else { why.to_owned() };
    let of = part.map_or_else(|| PartOf(pod.object_ref(&())), |part| part.of(pod));
    agent.events.normal(&of, "Killing", words);
    let began = Instant::now();
    let hook = part.and_then(|part| part.container.lifecycle.as_ref()).and_then(|all| all.pre_stop.as_ref());
    if let (Some(part), Some(what)) = (part, hook.and_then(Act::of_hook)) {
        let whom = Whom { runtime: &agent.runtime, id: &container.id, container: &part.container, address };
        if let Ok(Err(why)) = tokio::time::timeout(time, act(&whom, &what, time)).await {
            agent.events.warning(&of, "FailedPreStopHook", "PreStopHook failed");
            // What it said may be secret: more people read events than this program's log.
            let why = what.failed(&part.container.name, &Key::of(pod).words(), &why);
            eprintln!("sextant agent: warning: {why}");
        }
    }
    let left = time.saturating_sub(began.elapsed()).max(LEAST);
    stop(agent, &container.id, left).await
}

async fn stop(agent: &Agent, id: &str, time: Duration) -> Result<(), Failed> {
    let timeout = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let request = StopContainerRequest { container_id: id.into(), timeout };
    match agent.runtime.within(time).await?.stop_container(request).await {
        Err(error) if error.code() == grpc::Code::NotFound => Ok(()),
        stopped => stopped.map(drop),
    }
}

/// Ends all that runs of a pod: what it is there for first, then what runs beside, the last one that was started first. Then its sandboxes.
pub(crate) async fn stop_all(
    agent: &Agent,
    pod: &Pod,
    observed: &Observed,
    time: Duration,
) -> Result<(), Failed> {
    let parts = parts(pod);
    let end = Instant::now() + time;
    let address = observed.addresses().first().cloned().unwrap_or_else(|| agent.machine.address.clone());
    let part_of = |one: &ContainerStatus| parts.iter().position(|part| part.container.name == name_of(one));
    let is_beside = |one: &ContainerStatus| part_of(one).is_some_and(|at| parts[at].kind == Kind::Sidecar);
    let kill_one = |one| {
        let part = part_of(one).and_then(|at| parts.get(at));
        let left = end.saturating_duration_since(Instant::now());
        kill(agent, pod, part, one, &address, "", left)
    };
    let main = observed.running().filter(|one| !is_beside(one)).map(kill_one);
    join_all(main).await.into_iter().collect::<Result<(), Failed>>()?;
    let mut beside: Vec<&ContainerStatus> = observed.running().filter(|one| is_beside(one)).collect();
    beside.sort_by_key(|one| std::cmp::Reverse(part_of(one)));
    for one in beside {
        kill_one(one).await?;
    }
    stop_sandboxes(agent, observed).await
}

async fn stop_sandboxes(agent: &Agent, observed: &Observed) -> Result<(), Failed> {
    let client = agent.runtime.client().await?;
    for sandbox in &observed.sandboxes {
        client.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() }).await?;
    }
    Ok(())
}

/// Removes all that the runtime and the node have of a pod whose containers have ended.
async fn remove(agent: &Agent, key: &Key, observed: &Observed) -> Result<(), String> {
    stop_sandboxes(agent, observed).await.map_err(|error| error.to_string())?;
    // The runtime's own part goes last: by it an agent that was killed finds what is left of a pod whose object is gone.
    volumes::csi::release(agent, &key.uid).await?;
    let (logs, all, all_links) =
        (key.logs(&agent.setup.logs), agent.setup.logs.clone(), agent.setup.log_links.clone());
    aside(move || match std::fs::remove_dir_all(&logs) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", logs.display()))
        }
        _ => {
            links::tidy(&all_links, &all);
            Ok(())
        }
    })
    .await?;
    let client = agent.runtime.client().await.map_err(|error| error.to_string())?;
    for sandbox in &observed.sandboxes {
        let request = RemovePodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
        client.remove_pod_sandbox(request).await.map_err(|error| error.to_string())?;
    }
    agent.cgroups.clear(&key.uid).await?;
    let (folder, uid) = (agent.setup.folder.clone(), key.uid.clone());
    // Last: by its folder a pod is known that is gone.
    aside(move || volumes::remove(&folder, &uid)).await
}

/// Removes files. There may be millions: other pods do not wait for them.
pub(super) async fn aside(
    remove: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<(), String> {
    tokio::task::spawn_blocking(remove).await.map_err(|error| error.to_string())?
}

/// A pod that is to go: ends it, and then removes the object.
pub(crate) async fn delete(agent: &Agent, key: &Key, pod: &Pod) -> Next {
    agent.remember(key, pod);
    let time = Duration::from_secs(u64::try_from(grace(pod)).unwrap_or_default());
    let is_sooner = |now: Option<&Pod>| now.is_none_or(|now| grace(now) < grace(pod));
    tokio::select! {
        done = end(agent, key, pod, time) => match done {
            Ok(()) => Next::Done,
            Err(why) => {
                agent.events.warning(pod, "FailedKillPod", format!("error killing pod: {why}"));
                Next::Again
            }
        },
        // Whoever deletes it once more, with less time, is not kept waiting.
        () = agent.until(key, is_sooner) => Next::After(Duration::ZERO),
    }
}

async fn end(agent: &Agent, key: &Key, pod: &Pod, grace: Duration) -> Result<(), String> {
    let observed = agent.runtime.observe(&key.uid).await.map_err(|error| error.to_string())?;
    if observed.running().next().is_some() || observed.sandbox().is_some() {
        // An agent that was killed meanwhile does not begin anew.
        let until = pod.metadata.deletion_timestamp.as_ref().map(|time| since(Timestamp::now(), time.0));
        let time = until.map_or(grace, |left| left.min(grace)).max(LEAST);
        stop_all(agent, pod, &observed, time).await.map_err(|error| error.to_string())?;
    }
    let observed = agent.runtime.observe(&key.uid).await.map_err(|error| error.to_string())?;
    if let Some(left) = observed.containers.iter().find(|one| is_running(one)) {
        return Err(format!("container {} runs on", left.id));
    }
    words::collect(agent, key, &observed);
    told::write_status(agent, key, pod, &observed).await?;
    remove(agent, key, &observed).await?;
    let preconditions = Preconditions { uid: Some(key.uid.clone()), resource_version: None };
    let now = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }.grace_period(0);
    let api: Api<Pod> = Api::namespaced(agent.client.clone(), &key.name.namespace);
    match api.delete(&key.name.name, &now).await {
        // Gone already, or another of its name is there.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => return Err(client::causes(&error)),
        Ok(_) => {}
    }
    agent.forget(key);
    Ok(())
}

/// A pod whose object is gone: ends what is left of it.
pub(crate) async fn orphan(agent: &Agent, key: &Key) -> Next {
    let done = async {
        let observed = agent.runtime.observe(&key.uid).await.map_err(|error| error.to_string())?;
        // Who removed the object by force did not want to wait; of one that went while no agent was there the time is not known.
        let asked = observed.sandboxes.iter().find_map(|one| one.annotations.get(GRACE)?.parse::<u64>().ok());
        let of_file = agent.statics.gone(key);
        let is_known = agent.with_memory(key, |_| ()).is_some() && of_file.is_none();
        let time = if is_known { LEAST } else { asked.map_or(LEAST, Duration::from_secs) };
        if let Some(pod) = of_file {
            // Nobody lost patience with it: it ends as one that is deleted.
            stop_all(agent, &pod, &observed, time).await.map_err(|error| error.to_string())?;
        } else {
            let stops = observed.running().map(|one| stop(agent, &one.id, time));
            for stopped in join_all(stops).await {
                stopped.map_err(|error| error.to_string())?;
            }
        }
        remove(agent, key, &observed).await
    };
    match done.await {
        Ok(()) => {
            agent.forget(key);
            Next::Done
        }
        Err(why) => {
            eprintln!(
                "sextant agent: warning: cannot remove what is left of pod {}, and tries again: {why}",
                key.words()
            );
            Next::Again
        }
    }
}
