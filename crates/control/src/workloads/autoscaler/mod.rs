//! HorizontalPodAutoscalers: as many pods as metrics ask for, within bounds, and no faster than people want it.

mod count;
mod metrics;
mod pace;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::cache::{Cache, Name};
use client::events::Events;
use client::queue::{Next, Queue};
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingRules, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use kube::{Client, Error};
use serde_json::{Value, json};

use super::{Context, hands, status};
use count::{Asked, Tolerance};
use pace::{Bounds, Memory};
pub(super) use target::replicas_of;
use target::{Proposed, Wanting};

/// How often metrics are looked at, as in Kubernetes.
const PERIOD: Duration = Duration::from_secs(15);
/// A tenth more or less is as wanted.
const TOLERANCE: f64 = 0.1;

struct Controller {
    client: Client,
    autoscalers: Arc<Cache<HorizontalPodAutoscaler>>,
    events: Events,
    memories: Mutex<BTreeMap<Name, Memory>>,
    /// The pods that each scales, as it last found them.
    scaled: Mutex<Scaled>,
}

/// Works until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let autoscalers: Arc<Cache<HorizontalPodAutoscaler>> = Cache::start(&context.client);
    autoscalers.filled().await;
    let queue: Arc<Queue<Name>> = Queue::new(super::PACE);
    let its = queue.clone();
    autoscalers.listen(move |change| {
        // What it says itself in a status is nothing new.
        let generation = |one: &Arc<HorizontalPodAutoscaler>| (one.uid(), one.spec.clone());
        if change.old.as_ref().map(generation) != change.new.as_ref().map(generation) {
            its.add(Name::of(&**change.object()));
        }
    });
    let events = context.events("horizontal-pod-autoscaler");
    let (client, memories, scaled) = (context.client.clone(), Mutex::default(), Mutex::default());
    let it = &Controller { client, autoscalers, events, memories, scaled };
    queue
        .run(|name| async move {
            match super::told("horizontal pod autoscaler", &name, it.look(&name).await) {
                // As often as ever: each look costs a question to somebody else.
                Next::Again => Next::After(PERIOD),
                next => next,
            }
        })
        .await;
}

/// What a look has come to, before it is written.
struct Told {
    conditions: Vec<Value>,
    metrics: Vec<Value>,
    current: i32,
    desired: i32,
    has_changed: bool,
}

impl Controller {
    async fn look(&self, name: &Name) -> Result<Next, Error> {
        let Some(one) = self.autoscalers.get(name) else {
            lock(&self.memories).remove(name);
            lock(&self.scaled).0.remove(name);
            return Ok(Next::Done);
        };
        let one = &*one;
        if one.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Done);
        }
        let spec = &one.spec;
        let now = Timestamp::now();
        let old = one.status.clone().unwrap_or_default();
        let mut told = Told {
            conditions: status::conditions(&old),
            metrics: json!(old.current_metrics.clone().unwrap_or_default())
                .as_array()
                .cloned()
                .unwrap_or_default(),
            current: old.current_replicas.unwrap_or_default(),
            desired: old.desired_replicas,
            has_changed: false,
        };
        self.scale(name, one, spec, &mut told, now).await;
        let mut new = json!({
            "observedGeneration": one.metadata.generation, "currentReplicas": told.current,
            "desiredReplicas": told.desired, "conditions": told.conditions, "currentMetrics": told.metrics,
        });
        if told.has_changed {
            new["lastScaleTime"] = json!(format!("{now:.0}"));
        }
        status::write(&self.client, one, &new).await?;
        Ok(Next::After(PERIOD))
    }

    /// Looks at the target and its metrics, and has it scaled; what is told of it goes into `told`.
    async fn scale(
        &self,
        name: &Name,
        one: &HorizontalPodAutoscaler,
        spec: &HorizontalPodAutoscalerSpec,
        told: &mut Told,
        now: Timestamp,
    ) {
        let found = target::find(&self.client, &name.namespace, &spec.scale_target_ref).await;
        let target = match found {
            Ok(target) => target,
            Err(why) => {
                let text = format!("the HPA controller was unable to get the target's current scale: {why}");
                self.events.warning(one, "FailedGetScale", why).await;
                status::set(&mut told.conditions, "AbleToScale", "False", "FailedGetScale", &text, now);
                return;
            }
        };
        let text = "the HPA controller was able to get the target's current scale";
        status::set(&mut told.conditions, "AbleToScale", "True", "SucceededGetScale", text, now);
        let current = target.replicas;
        told.current = current;
        // What is not measured this time is not told.
        told.metrics = Vec::new();
        lock(&self.memories).entry(name.clone()).or_default().begin(current, now);
        let bounds = Bounds { min: spec.min_replicas.unwrap_or(1), max: spec.max_replicas };
        let (desired, why) = if current == 0 && bounds.min != 0 {
            let text = "scaling is disabled since the replica count of the target is zero";
            status::set(&mut told.conditions, "ScalingActive", "False", "ScalingDisabled", text, now);
            (0, String::new())
        } else if current > bounds.max {
            (bounds.max, "Current number of replicas above Spec.MaxReplicas".into())
        } else if current < bounds.min {
            (bounds.min, "Current number of replicas below Spec.MinReplicas".into())
        } else {
            match self.by_metrics(name, one, spec, &target, told, now).await {
                Ok(decided) => decided,
                Err(why) => {
                    self.events.warning(one, "FailedComputeMetricsReplicas", why).await;
                    return;
                }
            }
        };
        told.desired = desired;
        if desired == current {
            return;
        }
        match target.scale(&self.client, desired).await {
            Ok(false) => told.desired = current,
            Ok(true) => {
                let text = format!("the HPA controller was able to update the target scale to {desired}");
                status::set(&mut told.conditions, "AbleToScale", "True", "SucceededRescale", &text, now);
                let text = format!("New size: {desired}; reason: {why}");
                self.events.normal(one, "SuccessfulRescale", text).await;
                lock(&self.memories).entry(name.clone()).or_default().changed(current, desired, now);
                told.has_changed = true;
            }
            Err(error) => {
                let text = format!("New size: {desired}; reason: {why}; error: {error}");
                self.events.warning(one, "FailedRescale", text).await;
                let text = format!("the HPA controller was unable to update the target scale: {error}");
                status::set(&mut told.conditions, "AbleToScale", "False", "FailedUpdateScale", &text, now);
                told.desired = one.status.as_ref().map_or(0, |status| status.desired_replicas);
            }
        }
    }

    /// How many pods there are to be, and why.
    async fn by_metrics(
        &self,
        name: &Name,
        one: &HorizontalPodAutoscaler,
        spec: &HorizontalPodAutoscalerSpec,
        target: &target::Target,
        told: &mut Told,
        now: Timestamp,
    ) -> Result<(i32, String), String> {
        let pods = self.pods(name, one, target, told, now).await?;
        let (mut proposals, mut failed): (Vec<Proposed>, Vec<(&'static str, String, String)>) =
            (Vec::new(), Vec::new());
        let asked = Asked { current: target.replicas, pods: &pods, tolerance: tolerance(spec), now };
        let wanting = Wanting { client: &self.client, namespace: &name.namespace, target, asked };
        let metrics = spec.metrics.clone().unwrap_or_default();
        for metric in &metrics {
            match wanting.ask(metric).await {
                Ok(proposed) => {
                    told.metrics.push(proposed.status.clone());
                    proposals.push(proposed);
                }
                Err((reason, why)) => {
                    // Each has the place of its metric, or people see one for another.
                    told.metrics.push(json!({"type": ""}));
                    self.events.warning(one, reason, why.clone()).await;
                    failed.push((reason, target::whose(metric, &why), why));
                }
            }
        }
        let best = best(&proposals);
        // Where not all is known nothing is taken away.
        let is_sure = failed.is_empty() || best.is_some_and(|best| best.replicas >= target.replicas);
        let Some(best) = best.filter(|_| is_sure) else {
            let none = || ("InvalidMetricSourceType", "no metrics".to_owned(), "no metrics".to_owned());
            let (reason, first, why) = failed.first().cloned().unwrap_or_else(none);
            let text = format!("the HPA was unable to compute the replica count: {why}");
            status::set(&mut told.conditions, "ScalingActive", "False", reason, &text, now);
            return Err(format!(
                "invalid metrics ({} invalid out of {}), first error is: {first}",
                failed.len(),
                metrics.len()
            ));
        };
        let text = format!("the HPA was able to successfully calculate a replica count from {}", best.metric);
        status::set(&mut told.conditions, "ScalingActive", "True", "ValidMetricFound", &text, now);
        let (current, bounds) =
            (target.replicas, Bounds { min: spec.min_replicas.unwrap_or(1), max: spec.max_replicas });
        let decided = lock(&self.memories).entry(name.clone()).or_default().decide(
            spec.behavior.as_ref(),
            current,
            best.replicas,
            bounds,
            now,
        );
        status::set(&mut told.conditions, "AbleToScale", "True", decided.able.0, decided.able.1, now);
        let (is_limited, reason, text) = decided.limited;
        let value = if is_limited { "True" } else { "False" };
        status::set(&mut told.conditions, "ScalingLimited", value, reason, text, now);
        let why = match best.replicas {
            wanted if wanted > current => format!("{} above target", best.metric),
            wanted if wanted < current => "All metrics below target".into(),
            _ => String::new(),
        };
        Ok((decided.replicas, why))
    }

    /// The pods of the target, which no other autoscaler scales.
    async fn pods(
        &self,
        name: &Name,
        one: &HorizontalPodAutoscaler,
        target: &target::Target,
        told: &mut Told,
        now: Timestamp,
    ) -> Result<Vec<Pod>, String> {
        if target.selector.is_empty() {
            let text = "the HPA target's scale is missing a selector";
            status::set(&mut told.conditions, "ScalingActive", "False", "InvalidSelector", text, now);
            self.events.warning(one, "SelectorRequired", "selector is required").await;
            return Err("selector is required".into());
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &name.namespace);
        let found = match api.list(&ListParams::default().labels(&target.selector)).await {
            Ok(list) => list.items,
            Err(Error::Api(refused)) if refused.code == 400 => {
                let text = format!(
                    "couldn't convert selector into a corresponding internal selector object: {}",
                    refused.message
                );
                self.events.warning(one, "InvalidSelector", text.clone()).await;
                status::set(&mut told.conditions, "ScalingActive", "False", "InvalidSelector", &text, now);
                return Err(text);
            }
            Err(error) => {
                let why = hands::says(&error);
                return Err(format!("unable to get pods while calculating replica count: {why}"));
            }
        };
        let all = lock(&self.scaled).note(name, found.iter().map(|pod| pod.name_any()).collect());
        if all.len() > 1 {
            let text = format!(
                "pods by selector {} are controlled by multiple HPAs: [{}]",
                target.selector,
                all.join(" ")
            );
            self.events.warning(one, "AmbiguousSelector", text.clone()).await;
            status::set(&mut told.conditions, "ScalingActive", "False", "AmbiguousSelector", &text, now);
            return Err(text);
        }
        Ok(found)
    }
}

/// The names of the pods that each autoscaler has last found to be its own.
#[derive(Debug, Default)]
struct Scaled(BTreeMap<Name, BTreeSet<String>>);

impl Scaled {
    /// Notes those of one; who has some of them, as Kubernetes prints such names: one that has none is not among them.
    fn note(&mut self, name: &Name, pods: BTreeSet<String>) -> Vec<String> {
        let has = |(other, its): &(&Name, &BTreeSet<String>)| {
            other.namespace == name.namespace && !its.is_disjoint(&pods)
        };
        self.0.insert(name.clone(), pods.clone());
        self.0
            .iter()
            .filter(has)
            .map(|(other, _)| format!("{{{} {}}}", other.name, other.namespace))
            .collect()
    }
}

/// What counts of all that is asked for: the most, and of several that ask for the same the first one.
fn best(proposals: &[Proposed]) -> Option<&Proposed> {
    proposals.iter().rev().max_by_key(|proposed| proposed.replicas)
}

fn lock<T>(held: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is as wanted: a tenth more or less, if nothing else is said.
fn tolerance(spec: &HorizontalPodAutoscalerSpec) -> Tolerance {
    let said = |rules: Option<&HPAScalingRules>| {
        let thousandths = rules.and_then(|rules| client::quantity::thousandths(rules.tolerance.as_ref()?));
        #[allow(clippy::cast_precision_loss, reason = "it is small")]
        thousandths.map_or(TOLERANCE, |thousandths| thousandths as f64 / 1000.0)
    };
    let behavior = spec.behavior.as_ref();
    Tolerance {
        up: said(behavior.and_then(|behavior| behavior.scale_up.as_ref())),
        down: said(behavior.and_then(|behavior| behavior.scale_down.as_ref())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn autoscalers_whose_pods_overlap_know_of_each_other() {
        let mut scaled = Scaled::default();
        let mut note = |name: Name, pods: &[&str]| {
            scaled.note(&name, pods.iter().map(ToString::to_string).collect()).join(" ")
        };
        assert_eq!(note(Name::new("n", "a"), &["p", "q"]), "{a n}");
        // Its selector need not be the same.
        assert_eq!(note(Name::new("n", "b"), &["q", "r"]), "{a n} {b n}");
        assert_eq!(note(Name::new("m", "c"), &["q"]), "{c m}", "pods of another namespace are others");
        assert_eq!(note(Name::new("n", "b"), &["r"]), "{b n}");
        assert_eq!(note(Name::new("n", "d"), &[]), "");
    }

    #[test]
    fn of_metrics_that_ask_for_the_same_the_first_counts() {
        let proposed =
            |replicas: i32, metric: &str| Proposed { replicas, metric: metric.into(), status: json!({}) };
        let all = [proposed(2, "cpu"), proposed(5, "requests"), proposed(5, "memory")];
        assert_eq!(best(&all).unwrap().metric, "requests");
        assert!(best(&[]).is_none());
    }
}
