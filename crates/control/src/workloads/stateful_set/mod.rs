//! StatefulSets: pods with names and volumes of their own, in an order.

mod claims;
mod plan;

use std::collections::BTreeSet;
use std::sync::Arc;

use client::cache::{Cache, Name};
use client::queue::{Next, Queue};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::jiff::Timestamp;
use kube::{Error, ResourceExt as _};
use serde_json::{Value, json};

use super::hands::Hands;
use super::owned::{self, Selecting};
use super::revisions::{self, Revisions};
use super::{Context, pods, status};
use plan::View;

/// On a pod: its own name, so that a Service can select it alone.
const NAME: &str = "statefulset.kubernetes.io/pod-name";
/// On a pod: its ordinal.
const INDEX: &str = "apps.kubernetes.io/pod-index";
/// On a revision: its hash.
const HASH: &str = "controller.kubernetes.io/hash";

impl Selecting for StatefulSet {
    fn selector(&self) -> Option<&LabelSelector> {
        Some(&self.spec.as_ref()?.selector)
    }
}

struct Controller {
    context: Arc<Context>,
    hands: Hands,
    revisions: Arc<Cache<ControllerRevision>>,
}

/// Works until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let queue: Arc<Queue<Name>> = Queue::new(super::PACE);
    let hands = Hands::new(&context, "statefulset-controller");
    let it = Controller { hands, revisions: context.revisions.clone(), context };
    owned::follow_own(&it.context.stateful_sets, &queue);
    owned::follow(&it.context.pods, &it.context.stateful_sets, &queue);
    let it = &it;
    queue.run(|name| async move { super::told("stateful set", &name, it.look(&name).await) }).await;
}

impl Controller {
    async fn look(&self, name: &Name) -> Result<Next, Error> {
        let Some(set) = self.context.stateful_sets.get(name) else { return Ok(Next::Done) };
        let (set, client) = (&*set, &self.context.client);
        let claimed = owned::claim(set, &self.context.pods);
        claimed.tell(client, set).await?;
        if self.hands.is_behind(set).await {
            return Ok(Next::After(super::LATE));
        }
        let spec = set.spec.clone().unwrap_or_default();
        let known = Revisions::of(client, &self.revisions, set, &spec.template, HASH).await?;
        let Some(update) = known.update().map(|revision| revision.name_any()) else { return Ok(Next::Again) };
        let told = set.status.as_ref().and_then(|status| status.current_revision.clone());
        let current = told.filter(|name| known.template(name).is_some()).unwrap_or_else(|| update.clone());
        let by_ordinal =
            claimed.mine.iter().filter_map(|pod| Some((plan::ordinal(&name.name, pod)?, pod.clone())));
        let view = View { set, pods: by_ordinal.collect(), current: current.clone(), update: update.clone() };
        let now = Timestamp::now();
        let mut done = Ok(Next::Done);
        if set.metadata.deletion_timestamp.is_none() {
            for pod in view.kept() {
                claims::spare(&self.context, set, pod).await?;
            }
            done = self.act(set, &known, view.plan(now)).await;
        }
        let (new, wait) = view.status(now);
        status::write(client, set, &new).await?;
        let next = done?;
        let mut used: BTreeSet<String> =
            claimed.mine.iter().filter_map(|pod| pod.labels().get(revisions::POD).cloned()).collect();
        used.extend([current, update]);
        known.truncate(client, spec.revision_history_limit, &used).await?;
        Ok(match wait {
            Some(wait) if next == Next::Done => Next::After(wait.unsigned_abs()),
            _ => next,
        })
    }

    /// When it is to be tried again, because something is in the way that goes without being heard of.
    async fn act(&self, set: &StatefulSet, known: &Revisions, plan: plan::Plan) -> Result<Next, Error> {
        let (mut next, mut taken) = (Next::Done, false);
        for (ordinal, revision) in plan.create {
            let Some(template) = known.template(&revision) else { continue };
            if !claims::make(&self.context, &self.hands, set, ordinal).await? {
                next = Next::After(super::LATE);
                continue;
            }
            let mut pod = pods::of_template(&template, "", owned::reference(set));
            identify(&mut pod, set, ordinal, &revision);
            match self.hands.create(set, pod).await {
                // Another's pod has its name, and may have it for ever. The set's other pods do not wait for that.
                Err(Error::Api(status)) if status.code == 409 => taken = true,
                done => done?,
            }
        }
        for pod in &plan.condemned {
            claims::condemn(&self.context, set, pod).await?;
            self.hands.delete(set, pod).await?;
        }
        for pod in &plan.delete {
            self.hands.delete(set, pod).await?;
        }
        Ok(if taken { Next::Again } else { next })
    }
}

/// Gives a pod its name, and its volumes.
fn identify(pod: &mut Value, set: &StatefulSet, ordinal: i32, revision: &str) {
    let spec = set.spec.clone().unwrap_or_default();
    let name = format!("{}-{ordinal}", set.name_any());
    let metadata = &mut pod["metadata"];
    metadata["generateName"] = json!(format!("{}-", set.name_any()));
    metadata["name"] = json!(name);
    for (label, value) in
        [(NAME, name.clone()), (INDEX, ordinal.to_string()), (revisions::POD, revision.to_owned())]
    {
        metadata["labels"][label] = json!(value);
    }
    pod["spec"]["hostname"] = json!(name);
    if let Some(service) = spec.service_name.filter(|service| !service.is_empty()) {
        pod["spec"]["subdomain"] = json!(service);
    }
    let templates = spec.volume_claim_templates.unwrap_or_default();
    let mut volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    volumes.retain(|volume| !templates.iter().any(|template| volume["name"] == template.name_any()));
    for template in &templates {
        let claim = claims::name(template, set, ordinal);
        volumes.push(json!({"name": template.name_any(), "persistentVolumeClaim": {"claimName": claim}}));
    }
    if !volumes.is_empty() {
        pod["spec"]["volumes"] = json!(volumes);
    }
}
