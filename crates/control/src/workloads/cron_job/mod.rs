//! CronJobs: Jobs at times.

mod plan;

use std::sync::Arc;

use client::cache::Name;
use client::events::Events;
use client::queue::{Next, Queue};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Error, Resource as _, ResourceExt as _};
use serde_json::json;

use super::awaited::{Awaited, What};
use super::{Context, hands, owned, status};
struct Controller {
    context: Arc<Context>,
    events: Events,
    awaited: Awaited,
}

/// Works until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let queue: Arc<Queue<Name>> = Queue::new(super::PACE);
    let events = context.events("cronjob-controller");
    let awaited = Awaited::new(&*context.jobs);
    owned::follow_own(&context.cron_jobs, &queue);
    let its = queue.clone();
    context.jobs.listen(move |change| {
        for job in change.old.iter().chain(&change.new) {
            if let Some(owner) = owned::controller(&job.metadata).filter(|owner| owner.kind == "CronJob") {
                its.add(Name::new(job.namespace().unwrap_or_default(), &owner.name));
            }
        }
    });
    let it = &Controller { context, events, awaited };
    queue.run(|name| async move { super::told("cron job", &name, it.look(&name).await) }).await;
}

impl Controller {
    async fn look(&self, name: &Name) -> Result<Next, Error> {
        let Some(cron) = self.context.cron_jobs.get(name) else { return Ok(Next::Done) };
        let cron = &*cron;
        let (client, uid) = (&self.context.client, hands::uid(cron));
        if cron.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Done);
        }
        if self.awaited.is_any::<Job>(client, &uid).await {
            return Ok(Next::After(super::LATE));
        }
        let mine = self.context.jobs.find(|job| {
            job.metadata.namespace == cron.metadata.namespace && owned::is_of(&job.metadata, &uid)
        });
        let plan = plan::plan(cron, &mine, Timestamp::now());
        for (type_, reason, text) in &plan.events {
            self.events.tell(&cron.object_ref(&()), *type_, reason, reason, text.clone()).await;
        }
        // One that goes already, and is held by a finalizer of somebody's, tells nothing new by being deleted once more.
        for job in plan.delete.iter().filter(|job| job.metadata.deletion_timestamp.is_none()) {
            let name = Name::of(&**job);
            self.awaited.note(&uid, name.clone(), What::Gone(hands::uid(&**job)));
            if let Err(error) = hands::delete::<Job>(client, &name, &hands::uid(&**job)).await {
                let text = format!("Deleted job: {}", hands::says(&error));
                self.events.warning(cron, "FailedDelete", text).await;
                return Err(error);
            }
            self.events.normal(cron, "SuccessfulDelete", format!("Deleted job {}", name.name)).await;
        }
        let mut status = plan.status;
        if let Some(at) = plan.create
            && let Some(made) = self.create(cron, at).await?
        {
            // The name is that of the time: who is killed here finds the job, and says so then.
            status["lastScheduleTime"] = json!(at.to_string());
            let mut active = status["active"].as_array().cloned().unwrap_or_default();
            active.push(plan::reference(&made));
            status["active"] = json!(active);
        }
        status::write(client, cron, &status).await?;
        Ok(plan.wait.map_or(Next::Done, |wait| Next::After(wait.unsigned_abs())))
    }

    async fn create(&self, cron: &CronJob, at: Timestamp) -> Result<Option<Job>, Error> {
        let template = cron.spec.job_template.clone();
        let meta = template.metadata.unwrap_or_default();
        let name = Name::new(cron.namespace().unwrap_or_default(), plan::name(cron, at));
        let mut annotations = meta.annotations.unwrap_or_default();
        annotations.insert(plan::SCHEDULED.into(), plan::local(cron, at).unwrap_or_else(|_| at.to_string()));
        let job = json!({
            "metadata": {
                "name": name.name, "namespace": name.namespace, "labels": meta.labels, "annotations": annotations,
                "ownerReferences": [owned::reference(cron)],
            },
            "spec": template.spec,
        });
        let job: Job = serde_json::from_value(job).map_err(Error::SerdeError)?;
        let uid = hands::uid(cron);
        self.awaited.note(&uid, name.clone(), What::There);
        let api: Api<Job> = Api::namespaced(self.context.client.clone(), &name.namespace);
        match api.create(&PostParams::default(), &job).await {
            Ok(made) => {
                self.events.normal(cron, "SuccessfulCreate", format!("Created job {}", name.name)).await;
                Ok(Some(made))
            }
            Err(Error::Api(status)) if status.code == 409 => {
                self.awaited.forget(&name);
                let there = api.get_opt(&name.name).await?;
                Ok(there.filter(|there| owned::is_of(&there.metadata, &uid)))
            }
            Err(error) => {
                if matches!(error, Error::Api(_)) {
                    self.awaited.forget(&name);
                }
                self.events
                    .warning(cron, "FailedCreate", format!("Error creating job: {}", hands::says(&error)))
                    .await;
                Err(error)
            }
        }
    }
}
