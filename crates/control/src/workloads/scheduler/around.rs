//! What depends on the pods elsewhere: affinity between pods, and their spread over the parts of a cluster.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, TopologySpreadConstraint};
use kube::ResourceExt as _;

use super::filters::{is_wanted, untolerated};
use super::state::Place;
use super::{Refusal, Space};
use crate::csi::reach::selects;
use crate::workloads::{owned, pods};

/// Whether a node is none for a pod because of the pods on it and on others. `at` is the node's place.
pub(super) fn refuses(pod: &Pod, at: usize, space: &Space<'_>) -> Option<Refusal> {
    spread(pod, at, space).or_else(|| affinity(pod, at, space))
}

/// The terms that a pod requires.
fn required(pod: &Pod, is_anti: bool) -> &[PodAffinityTerm] {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let terms = if is_anti {
        let anti = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        anti.and_then(|anti| anti.required_during_scheduling_ignored_during_execution.as_ref())
    } else {
        let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
        near.and_then(|near| near.required_during_scheduling_ignored_during_execution.as_ref())
    };
    terms.map(Vec::as_slice).unwrap_or_default()
}

/// Whether a term of `owner` is about a pod.
fn is_about(term: &PodAffinityTerm, owner: &Pod, pod: &Pod, space: &Space<'_>) -> bool {
    let (own, namespace) = (owner.namespace().unwrap_or_default(), pod.namespace().unwrap_or_default());
    let named = term.namespaces.as_deref().unwrap_or_default();
    let labels = space.namespaces.get(&namespace);
    let selected = term.namespace_selector.as_ref().is_some_and(|selector| {
        labels.map_or_else(|| selects(selector, &BTreeMap::new()), |labels| selects(selector, labels))
    });
    let is_near = named.contains(&namespace)
        || selected
        || named.is_empty() && term.namespace_selector.is_none() && own == namespace;
    is_near && term.label_selector.as_ref().is_some_and(|selector| selects(selector, pod.labels()))
}

fn affinity(pod: &Pod, at: usize, space: &Space<'_>) -> Option<Refusal> {
    let here = space.places[at].node.labels();
    let is_same = |place: &Place, key: &str| {
        here.get(key).is_some_and(|value| place.node.labels().get(key) == Some(value))
    };
    let near = required(pod, false);
    let all_about = |other: &Pod| near.iter().all(|term| is_about(term, pod, other, space));
    let held = near.iter().all(|term| {
        let together = space.places.iter().filter(|place| is_same(place, &term.topology_key));
        together.flat_map(|place| &place.pods).any(|other| all_about(other))
    });
    if !near.is_empty() && !held {
        // The first of a group that wants to be together finds nobody.
        let is_first = !space.places.iter().flat_map(|place| &place.pods).any(|other| all_about(other));
        let has_keys = near.iter().all(|term| here.contains_key(&term.topology_key));
        if !(is_first && has_keys && all_about(pod)) {
            return Some(Refusal::for_good("node(s) didn't match pod affinity rules"));
        }
    }
    for term in required(pod, true) {
        let mut together = space.places.iter().filter(|place| is_same(place, &term.topology_key));
        if together.any(|place| place.pods.iter().any(|other| is_about(term, pod, other, space))) {
            return Some(Refusal::for_now("node(s) didn't match pod anti-affinity rules"));
        }
    }
    let against = |place: &Place, other: &Pod| {
        let mut terms = required(other, true).iter();
        terms.any(|term| is_same(place, &term.topology_key) && is_about(term, other, pod, space))
    };
    let is_refused = space.places.iter().any(|place| place.pods.iter().any(|other| against(place, other)));
    is_refused.then(|| Refusal::for_now("node(s) didn't satisfy existing pods anti-affinity rules"))
}

/// Whether a constraint counts a pod.
fn counts(rule: &TopologySpreadConstraint, pod: &Pod, other: &Pod) -> bool {
    let keys = rule.match_label_keys.iter().flatten();
    let alike =
        |key: &String| pod.labels().get(key).is_none_or(|value| other.labels().get(key) == Some(value));
    other.namespace() == pod.namespace()
        && !pods::is_going(other)
        && rule.label_selector.as_ref().is_some_and(|selector| selects(selector, other.labels()))
        && keys.into_iter().all(alike)
}

fn spread(pod: &Pod, at: usize, space: &Space<'_>) -> Option<Refusal> {
    let spec = pod.spec.as_ref()?;
    let rules = spec.topology_spread_constraints.iter().flatten();
    let rules: Vec<_> = rules.filter(|rule| rule.when_unsatisfiable == "DoNotSchedule").collect();
    let here = space.places[at].node.labels();
    if rules.iter().any(|rule| !here.contains_key(&rule.topology_key)) {
        let text = "node(s) didn't match pod topology spread constraints (missing required label)";
        return Some(Refusal::for_good(text));
    }
    let keys: BTreeSet<&str> = rules.iter().map(|rule| rule.topology_key.as_str()).collect();
    for rule in &rules {
        let is_part = |place: &&Place| {
            let labels = place.node.labels();
            keys.iter().all(|key| labels.contains_key(*key))
                && (rule.node_affinity_policy.as_deref() == Some("Ignore") || is_wanted(pod, &place.node))
                && (rule.node_taints_policy.as_deref() != Some("Honor")
                    || untolerated(&place.node, spec.tolerations.as_deref().unwrap_or_default()).is_none())
        };
        let mut domains: BTreeMap<&str, i64> = BTreeMap::new();
        for place in space.places.iter().filter(is_part) {
            let Some(value) = place.node.labels().get(&rule.topology_key) else { continue };
            let count = place.pods.iter().filter(|other| counts(rule, pod, other)).count();
            *domains.entry(value).or_default() += i64::try_from(count).unwrap_or(i64::MAX);
        }
        let few = i64::try_from(domains.len()).unwrap_or_default() < rule.min_domains.unwrap_or(1).into();
        let least = if few { 0 } else { domains.values().copied().min().unwrap_or_default() };
        let own = here.get(&rule.topology_key).and_then(|value| domains.get(value.as_str()));
        let would = own.copied().unwrap_or_default() + i64::from(counts(rule, pod, pod));
        if would - least > i64::from(rule.max_skew) {
            return Some(Refusal::for_now("node(s) didn't match pod topology spread constraints"));
        }
    }
    None
}

/// How much a node is liked for the pods on it and on others: preferred affinity, preferred spread, and few of the same controller.
pub(super) fn preferred(pod: &Pod, at: usize, space: &Space<'_>) -> i64 {
    let here = &space.places[at];
    let count = |key: &str, is: &dyn Fn(&Pod) -> bool| {
        let value = here.node.labels().get(key);
        let same =
            space.places.iter().filter(|place| value.is_some() && place.node.labels().get(key) == value);
        i64::try_from(same.flat_map(|place| &place.pods).filter(|other| is(other)).count())
            .unwrap_or_default()
    };
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
    let near = near.and_then(|near| near.preferred_during_scheduling_ignored_during_execution.as_ref());
    let far = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let far = far.and_then(|far| far.preferred_during_scheduling_ignored_during_execution.as_ref());
    let terms = near.into_iter().flatten().map(|term| (1, term));
    let mut liked = 0;
    for (sign, term) in terms.chain(far.into_iter().flatten().map(|term| (-1, term))) {
        let its = &term.pod_affinity_term;
        let found = count(&its.topology_key, &|other| is_about(its, pod, other, space));
        liked += sign * i64::from(term.weight) * found.min(1);
    }
    let rules = pod.spec.iter().flat_map(|spec| spec.topology_spread_constraints.iter().flatten());
    for rule in rules.filter(|rule| rule.when_unsatisfiable == "ScheduleAnyway") {
        liked -= 10 * count(&rule.topology_key, &|other| counts(rule, pod, other));
    }
    let Some(owner) = owned::controller(&pod.metadata) else { return liked };
    let same = here.pods.iter().filter(|other| owned::is_of(&other.metadata, &owner.uid)).count();
    liked - 5 * i64::try_from(same).unwrap_or_default()
}
