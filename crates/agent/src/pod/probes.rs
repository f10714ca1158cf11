//! Probes: what says that a container has come up, is ready, and lives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use tokio::task::JoinHandle;

use super::hooks::{Act, Whom, act};
use super::spec::{Part, Policy};
use crate::agent::Agent;
use crate::events::PartOf;
use crate::names::Key;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asked {
    /// Whether it has come up.
    Startup,
    /// Whether it is ready.
    Readiness,
    /// Whether it lives.
    Liveness,
}

impl Asked {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Startup, Self::Readiness, Self::Liveness];

    /// As events begin, and as monitors know it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }

    /// A container's probe of this kind.
    pub(crate) fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
        }
    }
}

/// How many answers probes had, good ones and others, by container name.
pub(crate) type Answers = BTreeMap<(String, Asked), [u64; 2]>;

/// A probe that is asked; it ends with this.
#[derive(Debug)]
pub(crate) struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Successes and failures in a row, and what they come to.
#[derive(Debug)]
struct Row {
    is_good: bool,
    count: i32,
}

impl Row {
    /// The next answer; what the probe says now, if it is enough of them.
    fn take(&mut self, is_good: bool, probe: &Probe) -> Option<bool> {
        self.count = if self.is_good == is_good { self.count.saturating_add(1) } else { 1 };
        self.is_good = is_good;
        let enough = match is_good {
            true => probe.success_threshold.unwrap_or(1),
            false => probe.failure_threshold.unwrap_or(3),
        };
        (self.count >= enough.max(1)).then_some(is_good)
    }
}

/// One probe of one container.
struct Prober {
    agent: Arc<Agent>,
    key: Key,
    container: Container,
    /// The container, as events name it.
    of: PartOf,
    /// How its end is told, where this asks for it.
    end: String,
    id: String,
    address: String,
    asked: Asked,
}

/// Asks a container's probe from now on, if it has such a one. `age` is how long it runs.
pub(crate) fn start(
    agent: &Arc<Agent>,
    pod: &Arc<Pod>,
    part: &Part<'_>,
    id: &str,
    address: &str,
    asked: Asked,
    age: Duration,
) -> Option<Running> {
    let probe = asked.of(&part.container)?.clone();
    let act = Act::of_probe(&probe)?;
    let restarts = Policy::of(pod, part) != Policy::Never;
    let name = asked.name().to_lowercase();
    let end = format!("{} failed {name} probe{}", part.title(), part.again(restarts));
    let prober = Prober {
        agent: agent.clone(),
        key: Key::of(pod),
        container: part.container.clone().into_owned(),
        of: part.of(pod),
        end,
        id: id.into(),
        address: address.into(),
        asked,
    };
    Some(Running(tokio::spawn(async move { prober.run(&probe, &act, age).await })))
}

impl Prober {
    async fn run(&self, probe: &Probe, what: &Act, age: Duration) {
        let seconds = |value: Option<i32>, least: u64| {
            Duration::from_secs(
                value.and_then(|value| u64::try_from(value).ok()).unwrap_or_default().max(least),
            )
        };
        let delay = seconds(probe.initial_delay_seconds, 0).saturating_sub(age);
        let period = probe.period_seconds.map_or(Duration::from_secs(10), |value| seconds(Some(value), 1));
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + delay, period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut row = Row { is_good: true, count: 0 };
        loop {
            ticks.tick().await;
            let whom = Whom {
                runtime: &self.agent.runtime,
                id: &self.id,
                container: &self.container,
                address: &self.address,
            };
            let answer = act(&whom, what, seconds(probe.timeout_seconds, 1)).await;
            self.count(answer.is_ok());
            if let Err(why) = &answer {
                let text = format!("{} probe failed: {why}", self.asked.name());
                self.agent.events.warning(&self.of, "Unhealthy", text);
            }
            let said = row.take(answer.is_ok(), probe);
            if said.is_some_and(|said| self.tell(said)) {
                return;
            }
        }
    }

    /// Counts an answer, for monitors.
    fn count(&self, is_good: bool) {
        self.agent.with_memory(&self.key, |memory| {
            let answers = memory.answers.entry((self.container.name.clone(), self.asked)).or_default();
            let count = &mut answers[usize::from(!is_good)];
            *count = count.saturating_add(1);
        });
    }

    /// Notes what the probe says, and has the pod looked at where that is new; whether nothing more is to be asked.
    fn tell(&self, said: bool) -> bool {
        let is_fatal = !said && self.asked != Asked::Readiness;
        let is_new = self.agent.with_memory(&self.key, |memory| {
            if is_fatal {
                memory.doomed.insert(self.id.clone(), self.end.clone());
            }
            memory.probed.insert((self.id.clone(), self.asked), said) != Some(said)
        });
        if is_new == Some(true) {
            self.agent.queue.add(self.key.clone());
        }
        is_fatal || self.asked == Asked::Startup && said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_as_many_in_a_row_as_the_probe_says() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Probe::default() };
        let mut row = Row { is_good: true, count: 0 };
        let answers = [true, true, false, false, true, false, false, false, true, true];
        let said: Vec<_> = answers.into_iter().map(|answer| row.take(answer, &probe)).collect();
        let (no, good, bad) = (None, Some(true), Some(false));
        assert_eq!(said, [no, good, no, no, no, no, no, bad, no, good]);
    }
}
