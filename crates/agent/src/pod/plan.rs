//! What a pod's next thing is: from its spec and what the runtime has of it, and from nothing else but what waits.

use std::time::Duration;

use cri::contract::v1::ContainerStatus;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::memory::Memory;
use super::resize::lacks;
use super::spec::{Kind, Part, Policy, hash};
use crate::names::HASH;
use crate::observed::{Observed, attempt, is_exited, is_made, is_running};

/// The next thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Containers that were made and never started go: whoever made them was killed.
    Remove(Vec<String>),
    /// Containers, by id, end, each for a reason.
    Kill(Vec<(String, String)>),
    /// A sandbox is made, the pod's so many-th.
    Sandbox(u32),
    /// Containers are started: indices of the pod's parts.
    Start(Vec<usize>),
    /// Containers, by id, are given other resources.
    Resize(Vec<String>),
    /// Nothing will run again: what still does ends, and the sandbox with it.
    Finish,
    /// Nothing, until something happens.
    Rest,
}

/// The next thing, and who waits for its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The next thing.
    pub(crate) step: Step,
    /// Containers that wait to be started again, by name: for how long in all, and how long still.
    pub(crate) held: Vec<(String, Duration, Duration)>,
    /// Containers, by id, that are given other resources once there is nothing else to do.
    pub(crate) small: Vec<String>,
}

/// What a container is to come to.
enum Fate {
    /// It is started.
    Start,
    /// It waits: so long in all, so long still.
    Wait(Duration, Duration),
    /// It runs, or it has done what it was there for.
    Stay,
}

struct Look<'a> {
    pod: &'a Pod,
    observed: &'a Observed,
    memory: &'a Memory,
    now: Timestamp,
}

/// What is next for the pod.
pub(crate) fn plan(
    pod: &Pod,
    parts: &[Part<'_>],
    observed: &Observed,
    memory: &Memory,
    now: Timestamp,
) -> Plan {
    let look = Look { pod, observed, memory, now };
    let mut held = Vec::new();
    let step = look.step(parts, &mut held);
    let small = if matches!(step, Step::Start(_) | Step::Rest) { look.small(parts) } else { Vec::new() };
    Plan { step, held, small }
}

/// Whether no container of the pod will run again but for those beside it.
pub(crate) fn is_finished(pod: &Pod, parts: &[Part<'_>], observed: &Observed) -> bool {
    let ended = |part: &Part<'_>| {
        let last = observed.container(&part.container.name).filter(|one| is_exited(one));
        last.filter(|one| !Policy::of(pod, part).restarts(one.exit_code)).map(|one| one.exit_code)
    };
    let failed = |part: &Part<'_>| part.kind == Kind::Init && ended(part).is_some_and(|code| code != 0);
    let mut main = parts.iter().filter(|part| part.kind == Kind::Main);
    parts.iter().any(failed) || main.all(|part| ended(part).is_some())
}

impl Look<'_> {
    fn step(&self, parts: &[Part<'_>], held: &mut Vec<(String, Duration, Duration)>) -> Step {
        let made = self.observed.containers.iter().filter(|one| is_made(one));
        let made: Vec<String> = made.map(|one| one.id.clone()).collect();
        if !made.is_empty() {
            return Step::Remove(made);
        }
        if is_finished(self.pod, parts, self.observed) {
            let is_up = self.observed.sandbox().is_some() || self.observed.running().next().is_some();
            return if is_up { Step::Finish } else { Step::Rest };
        }
        let Some(sandbox) = self.observed.sandbox() else {
            let lost: Vec<_> = self.observed.running().map(|one| (one.id.clone(), String::new())).collect();
            let next = self.observed.sandboxes.iter().map(attempt).max().map_or(0, |last| last + 1);
            return if lost.is_empty() { Step::Sandbox(next) } else { Step::Kill(lost) };
        };
        let doomed = self.doomed(parts, &sandbox.id);
        if !doomed.is_empty() {
            return Step::Kill(doomed);
        }
        let start = self.start(parts, held);
        if start.is_empty() { Step::Rest } else { Step::Start(start) }
    }

    /// Containers that run and must not.
    fn doomed(&self, parts: &[Part<'_>], sandbox: &str) -> Vec<(String, String)> {
        let why = |one: &ContainerStatus| {
            if let Some(why) = self.memory.doomed.get(&one.id) {
                return Some(why.clone());
            }
            if self.observed.sandbox_of.get(&one.id).is_none_or(|of| of != sandbox) {
                return Some(String::new());
            }
            let name = crate::observed::name_of(one);
            let part = parts.iter().find(|part| part.container.name == name)?;
            if lacks(part, one, self.memory).restarts(&part.container) {
                return Some(format!("Container {name} resize requires restart"));
            }
            let is_other = one.annotations.get(HASH).is_some_and(|old| *old != hash(&part.container));
            is_other.then(|| format!("{} definition changed{}", part.title(), part.again(true)))
        };
        self.observed.running().filter_map(|one| Some((one.id.clone(), why(one)?))).collect()
    }

    /// Containers that have other resources than they are to have.
    fn small(&self, parts: &[Part<'_>]) -> Vec<String> {
        let here =
            parts.iter().filter_map(|part| Some((part, self.here(part).filter(|one| is_running(one))?)));
        let small = here.filter(|(part, one)| !lacks(part, one, self.memory).nothing());
        small.map(|(_, one)| one.id.clone()).collect()
    }

    /// Those to start now.
    fn start(&self, parts: &[Part<'_>], held: &mut Vec<(String, Duration, Duration)>) -> Vec<usize> {
        let all = || parts.iter().enumerate();
        let of = |kind: Kind| all().filter(move |(_, part)| part.kind == kind);
        let mut start = Vec::new();
        let mut consider = |at: usize, part: &Part<'_>| match self.fate(part) {
            Fate::Start => start.push(at),
            Fate::Wait(whole, left) => held.push((part.container.name.clone(), whole, left)),
            Fate::Stay => {}
        };
        let is_past_start = of(Kind::Main).any(|(_, part)| self.here(part).is_some());
        if is_past_start {
            all().filter(|(_, part)| part.kind != Kind::Init).for_each(|(at, part)| consider(at, part));
            return start;
        }
        of(Kind::Ephemeral).for_each(|(at, part)| consider(at, part));
        for (at, part) in all().filter(|(_, part)| matches!(part.kind, Kind::Init | Kind::Sidecar)) {
            consider(at, part);
            let is_done = self.here(part).is_some_and(|one| match part.kind {
                Kind::Sidecar => self.memory.is_started(part, one),
                _ => is_exited(one) && one.exit_code == 0,
            });
            if !is_done {
                return start;
            }
        }
        of(Kind::Main).for_each(|(at, part)| consider(at, part));
        start
    }

    fn here(&self, part: &Part<'_>) -> Option<&ContainerStatus> {
        self.observed.here(&part.container.name)
    }

    fn fate(&self, part: &Part<'_>) -> Fate {
        let here = self.here(part);
        // In a new sandbox all begins anew, but for what has done what it was there for.
        let before = || self.observed.container(&part.container.name).filter(|one| is_exited(one));
        let Some(last) = here.or_else(before) else { return Fate::Start };
        let begins = here.is_none() && matches!(part.kind, Kind::Init | Kind::Sidecar);
        if is_running(last) || !begins && !Policy::of(self.pod, part).restarts(last.exit_code) {
            return Fate::Stay;
        }
        let ended = time(last.finished_at).unwrap_or(self.now);
        match self.memory.crashes.wait(&part.container.name, ended, self.now) {
            Some((whole, left)) => Fate::Wait(whole, left),
            None => Fate::Start,
        }
    }
}

/// A time as runtimes tell it, in nanoseconds; 0 is none. Whole seconds, as Kubernetes writes them.
pub(crate) fn time(nanoseconds: i64) -> Option<Timestamp> {
    (nanoseconds > 0).then(|| Timestamp::from_second(nanoseconds / 1_000_000_000).ok()).flatten()
}

#[cfg(test)]
mod tests;
