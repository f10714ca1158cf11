//! A pod's status, in a kubelet's words.

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus as Told, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use cri::contract::v1::ContainerStatus;

use super::memory::Memory;
use super::plan::{is_finished, time};
use super::resize;
use super::resources::Qos;
use super::spec::{Kind, Part, Policy, is_on_host};
use crate::observed::{Observed, is_exited, is_made, is_running, restarts};

/// Of a container that was running when the runtime was last seen with it.
const LOST: &str =
    "The container could not be located when the pod was deleted.  The container used to be Running";

/// What a status is made from.
pub(crate) struct View<'a> {
    /// The pod as it is known.
    pub(crate) pod: &'a Pod,
    /// Its containers.
    pub(crate) parts: &'a [Part<'a>],
    /// What the runtime has.
    pub(crate) observed: &'a Observed,
    /// What else is known.
    pub(crate) memory: &'a Memory,
    /// The runtime's name, as ids of containers begin.
    pub(crate) runtime: &'a str,
    /// The node's address.
    pub(crate) host: &'a str,
    /// The time.
    pub(crate) now: Timestamp,
}

/// The whole status. What others write of it stays.
pub(crate) fn status(view: &View<'_>) -> PodStatus {
    let old = view.pod.status.clone().unwrap_or_default();
    let told: Vec<(Kind, Told)> =
        view.parts.iter().map(|part| (part.kind, view.container(part, &old))).collect();
    let phase = view.phase(&told);
    // A pod that was refused has no containers to tell of.
    let is_refused =
        phase == "Failed" && view.observed.containers.is_empty() && old.container_statuses.is_none();
    let of = |kinds: &[Kind]| {
        if is_refused {
            return None;
        }
        let all = told.iter().filter(|(kind, _)| kinds.contains(kind)).map(|(_, one)| one.clone());
        Some(all.collect::<Vec<_>>()).filter(|all| !all.is_empty())
    };
    let addresses = view.addresses();
    let generation = view.pod.metadata.generation;
    let failed = view.memory.failed.as_ref();
    let words = |new: Option<&String>, old: &Option<String>| new.cloned().or_else(|| old.clone());
    PodStatus {
        observed_generation: generation,
        phase: Some(phase.into()),
        reason: words(failed.map(|failed| &failed.reason), &old.reason),
        message: words(failed.map(|failed| &failed.message), &old.message),
        conditions: Some(view.conditions(&old, &told, phase)),
        init_container_statuses: of(&[Kind::Init, Kind::Sidecar]),
        container_statuses: of(&[Kind::Main]),
        ephemeral_container_statuses: of(&[Kind::Ephemeral]),
        host_ip: Some(view.host.into()),
        host_ips: Some(vec![HostIP { ip: view.host.into() }]),
        pod_ip: addresses.first().cloned().or(old.pod_ip),
        pod_ips: match addresses.is_empty() {
            true => old.pod_ips,
            false => Some(addresses.into_iter().map(|ip| PodIP { ip }).collect()),
        },
        qos_class: Some(Qos::of(view.pod).name().into()),
        start_time: old.start_time.or_else(|| Some(Time(whole(view.now)))),
        ..old
    }
}

/// Without what is less than a second.
fn whole(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

impl View<'_> {
    fn addresses(&self) -> Vec<String> {
        match self.observed.sandbox() {
            Some(_) if is_on_host(self.pod) => vec![self.host.to_owned()],
            _ => self.observed.addresses(),
        }
    }

    /// One container's part.
    fn container(&self, part: &Part<'_>, old: &PodStatus) -> Told {
        let name = &part.container.name;
        let image = part.container.image.clone().unwrap_or_default();
        let waiting = self.memory.waiting.get(name);
        let mut told = Told { name: name.clone(), image, ..Told::default() };
        if part.kind != Kind::Init {
            told.started = Some(false);
        }
        let Some(last) = self.observed.container(name) else {
            let past = past(old, name);
            // It ran, and the runtime has forgotten it.
            if let Some(past) = past
                && waiting.is_none()
                && past.container_id.is_some()
                && is_terminated(past)
            {
                return past.clone();
            }
            if let Some(past) = past {
                (told.restart_count, told.last_state) = (self.starts(past), self.lost(past));
            }
            told.state = Some(waiting_for(
                waiting
                    .map_or_else(|| self.first_wait(part), |w| (w.reason.clone(), Some(w.message.clone()))),
            ));
            return told;
        };
        told.restart_count = i32::try_from(restarts(last)).unwrap_or(i32::MAX);
        // One that was told with its id counts as a start.
        told.container_id = (!is_made(last)).then(|| format!("{}://{}", self.runtime, last.id));
        told.image_id = last.image_ref.clone();
        if let Some(spec) = &last.image
            && !spec.user_specified_image.is_empty()
        {
            told.image = spec.user_specified_image.clone();
        }
        if part.kind != Kind::Ephemeral {
            told.allocated_resources = part.container.resources.as_ref().and_then(|all| all.requests.clone());
            told.resources = Some(resize::told(part, last, self.memory));
        }
        told.ready = self.memory.is_ready(part, last);
        let previous = self.observed.previous(name).filter(|one| is_exited(one));
        told.last_state = previous.map(|one| self.terminated(one));
        told.state = Some(if is_running(last) {
            if part.kind != Kind::Init {
                told.started = Some(self.memory.is_started(part, last));
            }
            let running = ContainerStateRunning { started_at: time(last.started_at).map(Time) };
            ContainerState { running: Some(running), ..ContainerState::default() }
        } else if let Some(waiting) = waiting.filter(|_| Policy::of(self.pod, part).restarts(last.exit_code))
        {
            told.last_state = Some(self.terminated(last));
            waiting_for((waiting.reason.clone(), Some(waiting.message.clone())))
        } else if is_exited(last) {
            self.terminated(last)
        } else {
            waiting_for(self.first_wait(part))
        });
        told
    }

    /// How often a container that the runtime has forgotten was started before the next one: none comes once the pod goes.
    fn starts(&self, past: &Told) -> i32 {
        let goes = self.pod.metadata.deletion_timestamp.is_some();
        if goes { past.restart_count } else { next_restart(past) }
    }

    /// How a container ended that the runtime has forgotten, or the one before it where it did not run: what nobody saw end is told of as
    /// a kubelet does.
    fn lost(&self, past: &Told) -> Option<ContainerState> {
        if past.state.as_ref().is_none_or(|state| state.running.is_none()) {
            // One that has none is written as an empty one.
            let ended = |state: &&ContainerState| state.terminated.is_some();
            let state = past.state.as_ref().filter(ended).or(past.last_state.as_ref().filter(ended));
            return state.cloned();
        }
        let terminated = ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".into()),
            message: Some(LOST.into()),
            ..ContainerStateTerminated::default()
        };
        Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() })
    }

    /// Why a container that nothing was tried for does not run.
    fn first_wait(&self, part: &Part<'_>) -> (String, Option<String>) {
        let has_init = self.parts.iter().any(|part| matches!(part.kind, Kind::Init | Kind::Sidecar));
        let waits = has_init && part.kind != Kind::Ephemeral;
        (if waits { "PodInitializing" } else { "ContainerCreating" }.into(), None)
    }

    fn terminated(&self, container: &ContainerStatus) -> ContainerState {
        let words = self.memory.last_words.get(&container.id).filter(|words| !words.is_empty());
        let message = words.or(Some(&container.message)).filter(|text| !text.is_empty());
        let reason = match container.reason.as_str() {
            "" if container.exit_code == 0 => "Completed",
            "" => "Error",
            reason => reason,
        };
        let terminated = ContainerStateTerminated {
            container_id: Some(format!("{}://{}", self.runtime, container.id)),
            exit_code: container.exit_code,
            reason: Some(reason.into()),
            message: message.cloned(),
            started_at: time(container.started_at).map(Time),
            finished_at: time(container.finished_at).map(Time),
            signal: None,
        };
        ContainerState { terminated: Some(terminated), ..ContainerState::default() }
    }

    fn phase(&self, told: &[(Kind, Told)]) -> &'static str {
        if super::spec::is_over(self.pod) {
            // What has come to its end stays there.
            let old = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
            return if old == Some("Succeeded") { "Succeeded" } else { "Failed" };
        }
        if self.memory.failed.is_some() {
            return "Failed";
        }
        let main = || told.iter().filter(|(kind, _)| *kind == Kind::Main).map(|(_, one)| one);
        // One that is deleted comes to an end too, whatever its policy.
        let goes = self.pod.metadata.deletion_timestamp.is_some();
        let is_at_end = goes || is_finished(self.pod, self.parts, self.observed);
        if is_at_end && self.observed.running().next().is_none() {
            let succeeded = |one: &Told| exit_code(one) == Some(0);
            return if main().all(succeeded) { "Succeeded" } else { "Failed" };
        }
        if main().all(has_started) { "Running" } else { "Pending" }
    }

    fn conditions(&self, old: &PodStatus, told: &[(Kind, Told)], phase: &str) -> Vec<PodCondition> {
        let names = |is: &dyn Fn(&Kind, &Told) -> bool| {
            let all = told.iter().filter(|(kind, one)| is(kind, one)).map(|(_, one)| one.name.as_str());
            all.collect::<Vec<_>>().join(" ")
        };
        let mut conditions = Vec::new();
        let mut add = |kind: &str, why: Option<(&str, String)>, is: bool| {
            conditions.push(self.condition(old, kind, is, why));
        };
        let has_network = self.observed.sandbox().is_some() && !self.addresses().is_empty();
        add("PodReadyToStartContainers", None, has_network);
        let unready = names(&|kind, one| match kind {
            Kind::Init => !one.ready,
            Kind::Sidecar => one.started != Some(true),
            _ => false,
        });
        // What has begun was ready to begin, whatever becomes of its sidecars.
        let has_begun = told.iter().any(|(kind, one)| *kind == Kind::Main && has_started(one));
        match phase {
            "Succeeded" => add("Initialized", Some(("PodCompleted", String::new())), true),
            _ if has_begun || unready.is_empty() => add("Initialized", None, true),
            _ => {
                let message = format!("containers with incomplete status: [{unready}]");
                add("Initialized", Some(("ContainersNotInitialized", message)), false);
            }
        }
        let unready = names(&|kind, one| matches!(kind, Kind::Main | Kind::Sidecar) && !one.ready);
        let containers = match phase {
            "Succeeded" => Some(("PodCompleted", String::new())),
            "Failed" => Some(("PodFailed", String::new())),
            _ if unready.is_empty() => None,
            _ => Some(("ContainersNotReady", format!("containers with unready status: [{unready}]"))),
        };
        add("ContainersReady", containers.clone(), containers.is_none());
        let gates =
            containers.or_else(|| self.closed_gates(old).map(|message| ("ReadinessGatesNotReady", message)));
        add("Ready", gates.clone(), gates.is_none());
        if let Some(failed) = self.memory.failed.as_ref().filter(|_| self.memory.disrupted) {
            add("DisruptionTarget", Some(("TerminationByKubelet", failed.message.clone())), true);
        }
        let refused = self.memory.refused.as_ref();
        if let Some(why) = refused {
            add("PodResizePending", Some((&why.reason, why.message.clone())), true);
        }
        let progress = resize::progress(self.parts, self.observed, self.memory);
        if let Some(why) = &progress {
            add("PodResizeInProgress", why.clone().map(|why| ("Error", why)), true);
        }
        let all = old.conditions.iter().flatten();
        let is_past = |kind: &str| matches!(kind, "PodResizePending" | "PodResizeInProgress");
        if !all.clone().any(|one| one.type_ == "PodScheduled") {
            add("PodScheduled", None, true);
        }
        let ours: Vec<String> = conditions.iter().map(|one| one.type_.clone()).collect();
        conditions.extend(all.filter(|one| !ours.contains(&one.type_) && !is_past(&one.type_)).cloned());
        conditions
    }

    /// Conditions of others that the pod has to have, and has not.
    fn closed_gates(&self, old: &PodStatus) -> Option<String> {
        let gates = self.pod.spec.as_ref()?.readiness_gates.as_ref()?;
        let closed = gates.iter().filter_map(|gate| {
            let kind = &gate.condition_type;
            match old.conditions.iter().flatten().find(|one| one.type_ == *kind) {
                None => {
                    Some(format!("corresponding condition of pod readiness gate {kind:?} does not exist."))
                }
                Some(one) if one.status == "True" => None,
                Some(one) => Some(format!(
                    "the status of pod readiness gate {kind:?} is not \"True\", but {}",
                    one.status
                )),
            }
        });
        let closed: Vec<String> = closed.collect();
        (!closed.is_empty()).then(|| closed.join(", "))
    }

    fn condition(&self, old: &PodStatus, kind: &str, is: bool, why: Option<(&str, String)>) -> PodCondition {
        let status = if is { "True" } else { "False" };
        let before = old.conditions.iter().flatten().find(|one| one.type_ == kind && one.status == status);
        let since = before.and_then(|one| one.last_transition_time.clone());
        let (reason, message) =
            why.map(|(reason, message)| (Some(reason.into()), Some(message))).unwrap_or_default();
        PodCondition {
            type_: kind.into(),
            status: status.into(),
            reason,
            message: message.filter(|text| !text.is_empty()),
            last_transition_time: since.or_else(|| Some(Time(whole(self.now)))),
            observed_generation: self.pod.metadata.generation,
            ..PodCondition::default()
        }
    }
}

/// How often the next container is started again, where the runtime has none of this name: one that was told with its id ran, and one
/// that was told without was counted when that was lost.
pub(crate) fn next_restart(told: &Told) -> i32 {
    told.restart_count.saturating_add(i32::from(told.container_id.is_some()))
}

/// What was told of a container before.
pub(crate) fn past<'a>(old: &'a PodStatus, name: &str) -> Option<&'a Told> {
    let all = [&old.container_statuses, &old.init_container_statuses, &old.ephemeral_container_statuses];
    all.into_iter().flatten().flatten().find(|one| one.name == name)
}

fn waiting_for((reason, message): (String, Option<String>)) -> ContainerState {
    let message = message.filter(|text| !text.is_empty());
    let waiting = ContainerStateWaiting { reason: Some(reason), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

/// Whether a container runs, or ran.
fn has_started(told: &Told) -> bool {
    !is_waiting(told) || told.last_state.is_some()
}

fn is_waiting(told: &Told) -> bool {
    told.state.as_ref().is_none_or(|state| state.waiting.is_some())
}

fn is_terminated(told: &Told) -> bool {
    told.state.as_ref().is_some_and(|state| state.terminated.is_some())
}

fn exit_code(told: &Told) -> Option<i32> {
    Some(told.state.as_ref()?.terminated.as_ref()?.exit_code)
}

#[cfg(test)]
mod tests;
