//! How many pods each ReplicaSet of a Deployment is to have next.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;

use super::revision;
use crate::workloads::share::{self, Round};

/// A Deployment with its ReplicaSets.
#[derive(Debug)]
pub(super) struct View<'a> {
    /// The Deployment.
    pub(super) deployment: &'a Deployment,
    /// The set of its template as it is.
    pub(super) new: Option<Arc<ReplicaSet>>,
    /// Those of others, the oldest first.
    pub(super) old: Vec<Arc<ReplicaSet>>,
    /// Pods of old sets have not ended.
    pub(super) old_run: bool,
}

/// What is to be done next.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// The new set is to be made, with so many pods.
    pub(super) create: Option<i32>,
    /// Sets that are to have another number.
    pub(super) scale: Vec<(Arc<ReplicaSet>, i32)>,
}

/// How many pods a Deployment asks for.
pub(super) fn wanted(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// How many pods a set asks for.
pub(super) fn asked(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// How many pods a set has, as it says.
pub(super) fn has(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map(|status| status.replicas).unwrap_or_default()
}

/// How many of a set's pods are available.
pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default()
}

/// Whether all pods end before the first new one begins.
pub(super) fn recreates(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

/// How many pods more than wanted there may be, and how many fewer available. Not both are nothing: it would go nowhere.
pub(super) fn bounds(deployment: &Deployment) -> (i32, i32) {
    if recreates(deployment) {
        return (0, wanted(deployment));
    }
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.clone()).unwrap_or_default();
    let quarter = IntOrString::String("25%".into());
    let surge = share::of(rolling.max_surge.as_ref().unwrap_or(&quarter), wanted(deployment), Round::Up);
    let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&quarter);
    let unavailable = share::of(unavailable, wanted(deployment), Round::Down);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable.min(wanted(deployment))) }
}

impl View<'_> {
    fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new)
    }

    /// All pods there may be: what sets have or ask for, whichever is more. A set that is to have fewer has them until it says otherwise.
    fn pods(&self) -> i32 {
        self.all().fold(0, |all: i32, set| all.saturating_add(asked(set).max(has(set))))
    }

    /// What is to be done next.
    pub(super) fn plan(&self) -> Plan {
        let spec = self.deployment.spec.clone().unwrap_or_default();
        // In the middle of ending all, no shares are to be kept.
        let ends_some = recreates(self.deployment) && self.old.iter().any(|set| asked(set) > 0);
        if spec.paused == Some(true) || self.is_scaled() && !ends_some {
            return Plan { create: None, scale: self.scale() };
        }
        if recreates(self.deployment) { self.recreate() } else { self.roll() }
    }

    /// Whether the wanted number has changed since sets were last given theirs.
    fn is_scaled(&self) -> bool {
        let told = |set: &ReplicaSet| revision::number(set, revision::DESIRED);
        let mut active = self.all().filter(|set| asked(set) > 0);
        active.any(|set| told(set).is_some_and(|told| told != i64::from(wanted(self.deployment))))
    }

    fn recreate(&self) -> Plan {
        let down: Vec<_> = self.old.iter().filter(|set| asked(set) > 0).map(|set| (set.clone(), 0)).collect();
        if !down.is_empty() || self.old_run {
            return Plan { create: None, scale: down };
        }
        let wanted = wanted(self.deployment);
        match &self.new {
            None => Plan { create: Some(wanted), scale: Vec::new() },
            Some(new) => Plan { create: None, scale: changed([(new.clone(), wanted)]) },
        }
    }

    fn roll(&self) -> Plan {
        let wanted = wanted(self.deployment);
        let (surge, _) = bounds(self.deployment);
        let room = (wanted.saturating_add(surge) - self.pods()).max(0);
        let Some(new) = &self.new else {
            return Plan { create: Some(wanted.min(room)), scale: Vec::new() };
        };
        if asked(new) > wanted {
            return Plan { create: None, scale: vec![(new.clone(), wanted)] };
        }
        let up = (wanted - asked(new)).min(room);
        if up > 0 {
            return Plan { create: None, scale: vec![(new.clone(), asked(new) + up)] };
        }
        Plan { create: None, scale: self.old_down(new) }
    }

    /// Old sets have fewer pods: first those that are not available anyway, then as many as may be missing.
    fn old_down(&self, new: &ReplicaSet) -> Vec<(Arc<ReplicaSet>, i32)> {
        let (_, may_miss) = bounds(self.deployment);
        let least = wanted(self.deployment) - may_miss;
        let all: i32 = self.all().map(|set| asked(set)).sum();
        let mut surplus = all - least - (asked(new) - available(new)).max(0);
        let mut next: Vec<(Arc<ReplicaSet>, i32)> =
            self.old.iter().map(|set| (set.clone(), asked(set))).collect();
        for (set, count) in &mut next {
            let idle = (*count - available(set)).clamp(0, surplus.max(0));
            (*count, surplus) = (*count - idle, surplus - idle);
        }
        let mut spare = self.all().map(|set| available(set)).sum::<i32>() - least;
        for (_, count) in &mut next {
            let less = (*count).min(spare).min(surplus).max(0);
            (*count, spare, surplus) = (*count - less, spare - less, surplus - less);
        }
        changed(next)
    }

    /// The wanted number has changed: sets get shares of it as they had shares of the old one.
    fn scale(&self) -> Vec<(Arc<ReplicaSet>, i32)> {
        let wanted = wanted(self.deployment);
        let active: Vec<&Arc<ReplicaSet>> = self.all().filter(|set| asked(set) > 0).collect();
        let newest = || self.all().max_by_key(|set| set.metadata.creation_timestamp.as_ref().map(|at| at.0));
        match active.as_slice() {
            [] => return changed(self.new.as_ref().or_else(newest).map(|set| (set.clone(), wanted))),
            [one] => return self.due([((*one).clone(), wanted)]),
            _ => {}
        }
        if self.new.as_ref().is_some_and(|new| self.is_saturated(new)) {
            return changed(self.old.iter().map(|set| (set.clone(), 0)));
        }
        if recreates(self.deployment) {
            return Vec::new();
        }
        let (surge, _) = bounds(self.deployment);
        let most = if wanted > 0 { wanted.saturating_add(surge) } else { 0 };
        let total: i32 = active.iter().map(|set| asked(set)).sum();
        self.due(proportional(&active, most - total, |set| {
            let old = revision::number(set, revision::MOST).unwrap_or_else(|| {
                let status = self.deployment.status.as_ref();
                status.and_then(|status| status.replicas).unwrap_or_default().into()
            });
            if wanted == 0 { 0 } else { rounded(i64::from(asked(set)) * i64::from(most), old.max(1)) }
        }))
    }

    /// Those that have another number by now, or have not been told of what it is a share.
    fn due(&self, next: impl IntoIterator<Item = (Arc<ReplicaSet>, i32)>) -> Vec<(Arc<ReplicaSet>, i32)> {
        let (wanted, (surge, _)) = (wanted(self.deployment), bounds(self.deployment));
        let is_told = |set: &ReplicaSet| {
            revision::number(set, revision::DESIRED) == Some(wanted.into())
                && revision::number(set, revision::MOST) == Some(i64::from(wanted) + i64::from(surge))
        };
        next.into_iter().filter(|(set, count)| asked(set) != *count || !is_told(set)).collect()
    }

    fn is_saturated(&self, new: &ReplicaSet) -> bool {
        let wanted = wanted(self.deployment);
        asked(new) == wanted
            && revision::number(new, revision::DESIRED) == Some(wanted.into())
            && available(new) == wanted
    }
}

fn rounded(count: i64, of: i64) -> i32 {
    i32::try_from((2 * count + of) / (2 * of)).unwrap_or(i32::MAX)
}

/// Gives sets their shares of a change, the largest first; what is left by rounding is the first one's.
fn proportional(
    active: &[&Arc<ReplicaSet>],
    change: i32,
    share: impl Fn(&ReplicaSet) -> i32,
) -> Vec<(Arc<ReplicaSet>, i32)> {
    let mut sets = active.to_vec();
    sets.sort_by_key(|set| {
        let age = set.metadata.creation_timestamp.as_ref().map(|at| at.0.as_second()).unwrap_or_default();
        // Of equal ones the newer gets more, and loses less.
        (-asked(set), if change > 0 { -age } else { age })
    });
    let mut left = change;
    let mut next = Vec::new();
    for set in sets {
        let by = share(set) - asked(set);
        let by = if change > 0 { by.clamp(0, left) } else { by.clamp(left, 0) };
        left -= by;
        next.push((set.clone(), asked(set) + by));
    }
    if let Some((_, count)) = next.first_mut() {
        *count = (*count + left).max(0);
    }
    next
}

/// Those that have another number by now.
fn changed(next: impl IntoIterator<Item = (Arc<ReplicaSet>, i32)>) -> Vec<(Arc<ReplicaSet>, i32)> {
    next.into_iter().filter(|(set, count)| asked(set) != *count).collect()
}

/// The old sets that are beyond the limit of the history: the oldest revisions, as far as nothing is left of their pods.
pub(super) fn forgotten(view: &View<'_>) -> Vec<Arc<ReplicaSet>> {
    let limit = view.deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
    let is_there = |set: &&Arc<ReplicaSet>| set.metadata.deletion_timestamp.is_none();
    let mut old: Vec<_> = view.old.iter().filter(is_there).cloned().collect();
    let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
    old.sort_by_key(|set| (revision::number(&**set, revision::REVISION), set.name_any()));
    old.truncate(surplus);
    old.retain(|set| {
        let seen = set.status.as_ref().and_then(|status| status.observed_generation);
        asked(set) == 0 && has(set) == 0 && set.metadata.generation <= seen
    });
    old
}

#[cfg(test)]
mod tests;
