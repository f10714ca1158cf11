//! Deployments: pods of a template, and the way from one template to the next.

mod plan;
mod progress;
mod revision;

use std::collections::BTreeMap;
use std::sync::Arc;

use client::cache::Name;
use client::events::Events;
use client::queue::{Next, Queue};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Error, ResourceExt as _};
use serde_json::{Value, json};

use super::awaited::{Awaited, What};
use super::owned::{self, Selecting};
use super::{Context, TEMPLATE_HASH, hands, pods, status};
use plan::View;

impl Selecting for Deployment {
    fn selector(&self) -> Option<&LabelSelector> {
        Some(&self.spec.as_ref()?.selector)
    }
}

struct Controller {
    context: Arc<Context>,
    events: Events,
    awaited: Awaited,
}

/// Works until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let queue: Arc<Queue<Name>> = Queue::new(super::PACE);
    let events = context.events("deployment-controller");
    let awaited = Awaited::new(&*context.replica_sets);
    owned::follow_own(&context.deployments, &queue);
    owned::follow(&context.replica_sets, &context.deployments, &queue);
    let it = Controller { context, events, awaited };
    it.follow_last_pods(&queue);
    let it = &it;
    queue.run(|name| async move { super::told("deployment", &name, it.look(&name).await) }).await;
}

impl Controller {
    /// Who ends all pods before the next begin waits for the last one.
    fn follow_last_pods(&self, queue: &Arc<Queue<Name>>) {
        let (queue, context) = (queue.clone(), Arc::downgrade(&self.context));
        self.context.pods.listen(move |change| {
            let is_over = change.new.as_deref().is_none_or(pods::is_over);
            let Some(context) = context.upgrade().filter(|_| is_over) else { return };
            let pod = change.object();
            let Some(set) = owned::controller(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet")
            else {
                return;
            };
            let namespace = pod.namespace().unwrap_or_default();
            let set = context.replica_sets.get(&Name::new(&namespace, &set.name));
            if let Some(owner) = set.as_ref().and_then(|set| owned::controller(&set.metadata)) {
                queue.add(Name::new(namespace, &owner.name));
            }
        });
    }

    async fn look(&self, name: &Name) -> Result<Next, Error> {
        let Some(deployment) = self.context.deployments.get(name) else { return Ok(Next::Done) };
        let deployment = &*deployment;
        let claimed = owned::claim(deployment, &self.context.replica_sets);
        claimed.tell(&self.context.client, deployment).await?;
        let old_status = deployment.status.clone().unwrap_or_default();
        let mut held = status::conditions(&old_status);
        let now = Timestamp::now();
        paused(deployment, &mut held, now);
        let (new, old) = revision::sorted(deployment, claimed.mine);
        let old_run = self.do_run(&old);
        let view = View { deployment, new, old, old_run };
        if deployment.metadata.deletion_timestamp.is_none() {
            if self.awaited.is_any::<ReplicaSet>(&self.context.client, &hands::uid(deployment)).await {
                return Ok(Next::After(super::LATE));
            }
            if let Some(next) = self.act(&view, &mut held, now).await? {
                return Ok(next);
            }
        }
        let (status, wait) = progress::status_of(&view, held, now);
        status::write(&self.context.client, deployment, &status).await?;
        Ok(wait.map_or(Next::Done, |wait| Next::After(wait.unsigned_abs())))
    }

    /// Does what is next; what it returns is all there is to say, and there is no new status yet.
    async fn act(
        &self,
        view: &View<'_>,
        held: &mut Vec<Value>,
        now: Timestamp,
    ) -> Result<Option<Next>, Error> {
        let deployment = view.deployment;
        if let Some(new) = &view.new {
            if self.annotate(view, new).await? {
                return Ok(Some(Next::After(super::LATE)));
            }
            if status::condition(held, "Progressing").is_none() && progress::deadline(deployment).is_some() {
                let text = format!("Found new replica set {:?}", new.name_any());
                progress::tell(held, "True", "FoundNewReplicaSet", &text, now);
            }
        }
        let plan = view.plan();
        if let Some(replicas) = plan.create {
            match self.create(view, replicas).await? {
                Ok(made) => {
                    let text = format!("Created new replica set {made:?}");
                    progress::tell(held, "True", "NewReplicaSetCreated", &text, now);
                }
                Err(why) => {
                    if progress::deadline(deployment).is_some() {
                        progress::refused(held, &why, now);
                    }
                    let (status, _) = progress::status_of(view, held.clone(), now);
                    status::write(&self.context.client, deployment, &status).await?;
                    return Ok(Some(Next::Again));
                }
            }
        }
        for (set, count) in &plan.scale {
            self.scale(view, set, *count).await?;
        }
        if plan == plan::Plan::default() && progress::is_complete(deployment, &progress::counts(view)) {
            for set in plan::forgotten(view) {
                hands::delete::<ReplicaSet>(&self.context.client, &Name::of(&*set), &hands::uid(&*set))
                    .await?;
            }
        }
        Ok(None)
    }

    /// Whether pods of these sets have not ended.
    fn do_run(&self, sets: &[Arc<ReplicaSet>]) -> bool {
        let uids: Vec<String> = sets.iter().map(|set| hands::uid(&**set)).collect();
        let is_one = |pod: &k8s_openapi::api::core::v1::Pod| {
            !pods::is_over(pod)
                && owned::controller(&pod.metadata).is_some_and(|owner| uids.contains(&owner.uid))
        };
        !uids.is_empty() && !self.context.pods.find(is_one).is_empty()
    }

    /// Makes the set of the template as it is. The inner error is to be told.
    async fn create(&self, view: &View<'_>, replicas: i32) -> Result<Result<String, String>, Error> {
        let deployment = view.deployment;
        let spec = deployment.spec.clone().unwrap_or_default();
        let hash = revision::hash(deployment);
        let name = Name::new(
            deployment.namespace().unwrap_or_default(),
            format!("{}-{hash}", deployment.name_any()),
        );
        let mut annotations = revision::annotations(deployment, None, &view.old);
        annotations.extend(shares(deployment));
        let mut template = serde_json::to_value(&spec.template).map_err(Error::SerdeError)?;
        template["metadata"]["labels"][TEMPLATE_HASH] = json!(hash);
        let mut selector = serde_json::to_value(&spec.selector).map_err(Error::SerdeError)?;
        selector["matchLabels"][TEMPLATE_HASH] = json!(hash);
        let set = json!({
            "metadata": {
                "name": name.name, "namespace": name.namespace, "annotations": annotations,
                "labels": template["metadata"]["labels"], "ownerReferences": [owned::reference(deployment)],
            },
            "spec": {"replicas": replicas, "minReadySeconds": spec.min_ready_seconds, "selector": selector, "template": template},
        });
        let set: ReplicaSet = serde_json::from_value(set).map_err(Error::SerdeError)?;
        self.awaited.note(&hands::uid(deployment), name.clone(), What::There);
        let api: Api<ReplicaSet> = Api::namespaced(self.context.client.clone(), &name.namespace);
        match api.create(&PostParams::default(), &set).await {
            Ok(_) => {
                if replicas > 0 {
                    let text = format!("Scaled up replica set {} from 0 to {replicas}", name.name);
                    self.events.normal(deployment, "ScalingReplicaSet", text).await;
                }
                Ok(Ok(name.name))
            }
            Err(Error::Api(status)) if status.code == 409 => {
                self.awaited.forget(&name);
                self.collision(deployment, &api, &name).await
            }
            Err(error) => {
                if matches!(error, Error::Api(_)) {
                    self.awaited.forget(&name);
                }
                let text =
                    format!("Failed to create new replica set {:?}: {}", name.name, hands::says(&error));
                if !hands::is_of_a_namespace_that_goes(&error) {
                    self.events.warning(deployment, "ReplicaSetCreateError", text.clone()).await;
                }
                Ok(Err(text))
            }
        }
    }

    /// The name is taken: by the set itself, which the cache does not know yet, or by another's; then the hash counts on.
    async fn collision(
        &self,
        deployment: &Deployment,
        api: &Api<ReplicaSet>,
        name: &Name,
    ) -> Result<Result<String, String>, Error> {
        let there = api.get(&name.name).await?;
        if owned::is_of(&there.metadata, &hands::uid(deployment)) && revision::is_of(&there, deployment) {
            self.awaited.note_version(&hands::uid(deployment), &there, &self.context.replica_sets);
            return Ok(Ok(name.name.clone()));
        }
        let count = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or_default();
        let next = json!({"collisionCount": count + 1});
        status::write(&self.context.client, deployment, &next).await?;
        Ok(Err(format!("replica set {:?} is there already, and is another's", name.name)))
    }

    /// Gives the new set and the Deployment what they are to be annotated with; whether there was something.
    async fn annotate(&self, view: &View<'_>, new: &ReplicaSet) -> Result<bool, Error> {
        let deployment = view.deployment;
        let wanted = revision::annotations(deployment, Some(new), &view.old);
        let held = new.annotations();
        let lacking: serde_json::Map<String, Value> = wanted
            .iter()
            .filter(|(key, value)| held.get(*key) != Some(value))
            .map(|(key, value)| (key.clone(), json!(value)))
            .collect();
        let seconds = deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default();
        let its = new.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default();
        let is_changed = !lacking.is_empty() || seconds != its;
        if is_changed {
            self.change(
                view,
                new,
                json!({"metadata": {"annotations": lacking}, "spec": {"minReadySeconds": seconds}}),
            )
            .await?;
        }
        let revision = wanted.get(revision::REVISION).or_else(|| held.get(revision::REVISION));
        if revision.is_some() && deployment.annotations().get(revision::REVISION) != revision {
            let patch =
                json!({"metadata": {"uid": deployment.uid(), "annotations": {revision::REVISION: revision}}});
            let api: Api<Deployment> =
                Api::namespaced(self.context.client.clone(), &deployment.namespace().unwrap_or_default());
            api.patch(&deployment.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
        Ok(is_changed)
    }

    async fn scale(&self, view: &View<'_>, set: &ReplicaSet, count: i32) -> Result<(), Error> {
        let before = plan::asked(set);
        let annotations = json!(shares(view.deployment));
        self.change(
            view,
            set,
            json!({"metadata": {"annotations": annotations}, "spec": {"replicas": count}}),
        )
        .await?;
        if count == before {
            return Ok(());
        }
        let way = if count > before { "up" } else { "down" };
        let text = format!("Scaled {way} replica set {} from {before} to {count}", set.name_any());
        self.events.normal(view.deployment, "ScalingReplicaSet", text).await;
        Ok(())
    }

    /// Changes a set that is as it was read, and waits for it to come back before anything else is decided.
    async fn change(&self, view: &View<'_>, set: &ReplicaSet, mut patch: Value) -> Result<(), Error> {
        patch["metadata"]["uid"] = json!(set.uid());
        patch["metadata"]["resourceVersion"] = json!(set.resource_version());
        let api: Api<ReplicaSet> =
            Api::namespaced(self.context.client.clone(), &set.namespace().unwrap_or_default());
        let changed = api.patch(&set.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        self.awaited.note_version(&hands::uid(view.deployment), &changed, &self.context.replica_sets);
        Ok(())
    }
}

/// What a set is told when it gets its number.
fn shares(deployment: &Deployment) -> BTreeMap<String, String> {
    let (wanted, (surge, _)) = (plan::wanted(deployment), plan::bounds(deployment));
    let most = wanted.saturating_add(surge);
    [(revision::DESIRED, wanted), (revision::MOST, most)]
        .map(|(key, count)| (key.into(), count.to_string()))
        .into()
}

/// Says that a rollout is held, or goes on.
fn paused(deployment: &Deployment, held: &mut Vec<Value>, now: Timestamp) {
    if progress::deadline(deployment).is_none() {
        return;
    }
    let reason = status::condition(held, "Progressing").and_then(|condition| condition["reason"].as_str());
    let (is_told, is_late) = (reason == Some("DeploymentPaused"), reason == Some("ProgressDeadlineExceeded"));
    let is_paused = deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true);
    if is_paused && !is_told && !is_late {
        progress::tell(held, "Unknown", "DeploymentPaused", "Deployment is paused", now);
    } else if !is_paused && is_told {
        progress::tell(held, "Unknown", "DeploymentResumed", "Deployment is resumed", now);
    }
}
