//! Admission webhooks: others who have a say, over HTTPS (`admission.k8s.io/v1`, `v1beta1`).
//!
//! Those that change objects are asked one after the other, and once more where a later one changed what they saw; those that
//! judge are asked at the same time.

mod call;
mod place;
mod review;
mod webhook;

use super::cached::Cached;
use super::conditions::Inputs;
use super::shown::{Shown, put_back, shown};
use super::{Admission, Request, is_configuration};
use crate::auth::Authorizer;
use crate::contract::{Result, Status};
use crate::merge::json_patch;
use crate::registry::{BoxFuture, Context, Registry};
use crate::resource::Resource;
use review::{Question, Verdict};
use serde_json::json;
use std::sync::Arc;
use tokio::task::JoinSet;
use webhook::Webhook;

const MUTATING: &str = "mutatingwebhookconfigurations.admissionregistration.k8s.io";
const VALIDATING: &str = "validatingwebhookconfigurations.admissionregistration.k8s.io";

type Configurations = Cached<Vec<Arc<Webhook>>>;

/// What Kubernetes calls MutatingAdmissionWebhook.
pub(super) struct Mutating {
    configurations: Configurations,
    authorizer: Option<Arc<dyn Authorizer>>,
}

/// What Kubernetes calls ValidatingAdmissionWebhook.
pub(super) struct Validating {
    configurations: Configurations,
    authorizer: Option<Arc<dyn Authorizer>>,
}

fn configurations(stored_as: &'static str) -> Configurations {
    Cached::new(stored_as, |configuration| Webhook::all(configuration).into_iter().map(Arc::new).collect())
}

impl Mutating {
    pub(super) fn new(authorizer: Option<Arc<dyn Authorizer>>) -> Mutating {
        Mutating { configurations: configurations(MUTATING), authorizer }
    }

    async fn mutate(&self, request: &mut Request<'_>) -> Result<()> {
        let again = request.reinvocation.is_second();
        if again && request.reinvocation.has_changed(request.object.as_ref()) {
            request.reinvocation.require_those_before();
        }
        for (place, webhook) in
            self.configurations.all(request.registry)?.iter().flat_map(|list| list.iter()).enumerate()
        {
            let Some((resource, seen)) = concerned(request, webhook, self.authorizer.as_deref())? else {
                continue;
            };
            let key = webhook.key();
            if again && !request.reinvocation.is_required(&key) {
                continue;
            }
            let changed = patched(request, webhook, &resource, seen, place).await?;
            if changed {
                request.reinvocation.require_those_before();
                request.reinvocation.ask();
            }
            if webhook.reinvoked {
                request.reinvocation.has_seen(key);
            }
        }
        request.reinvocation.leave(request.object.as_ref());
        Ok(())
    }
}

impl Admission for Mutating {
    fn handles(&self, request: &Request<'_>) -> bool {
        // Who is locked out by a webhook has to be able to take it away.
        !is_configuration(request.kind()) && request.target.resource.verbs.read
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.mutate(request))
    }
}

impl Validating {
    pub(super) fn new(authorizer: Option<Arc<dyn Authorizer>>) -> Validating {
        Validating { configurations: configurations(VALIDATING), authorizer }
    }

    async fn judge(&self, request: &Request<'_>) -> Result<()> {
        let mut asked = Vec::new();
        for webhook in self.configurations.all(request.registry)?.iter().flat_map(|list| list.iter()) {
            if let Some((_, seen)) = concerned(request, webhook, self.authorizer.as_deref())? {
                asked.push((Arc::clone(webhook), seen));
            }
        }
        let mut tasks = JoinSet::new();
        for (index, (webhook, seen)) in asked.into_iter().enumerate() {
            let (registry, context) = (request.registry.clone(), request.context.clone());
            tasks.spawn(async move {
                let failed_open =
                    format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}");
                let answer = ask(&registry, &context, &webhook, &seen, false, &failed_open).await;
                (index, answer.map(drop))
            });
        }
        let mut refused: Option<(usize, Status)> = None;
        while let Some(done) = tasks.join_next().await {
            let (index, answer) = done.map_err(Status::internal)?;
            if let Err(status) = answer
                && refused.as_ref().is_none_or(|(earlier, _)| index < *earlier)
            {
                refused = Some((index, status));
            }
        }
        refused.map_or(Ok(()), |(_, status)| Err(status))
    }
}

impl Admission for Validating {
    fn handles(&self, request: &Request<'_>) -> bool {
        !is_configuration(request.kind()) && request.target.resource.verbs.read
    }

    fn validate<'a>(&'a self, request: &'a Request<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.judge(request))
    }
}

/// Whether a webhook has a say in a request: in which version of the resource, and what it is shown.
fn concerned(
    request: &Request<'_>,
    webhook: &Webhook,
    authorizer: Option<&dyn Authorizer>,
) -> Result<Option<(Arc<Resource>, Shown)>> {
    let Some(resource) = webhook.matching.find(request)? else { return Ok(None) };
    let seen = shown(request, &resource)?;
    if !webhook.conditions.is_empty() {
        let inputs = Inputs::for_conditions(request, &seen, authorizer);
        match webhook.conditions.hold(&webhook.scope, inputs.given(None)) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(_) if webhook.ignored => return Ok(None),
            Err(cause) => return Err(request.forbidden(&cause)),
        }
    }
    Ok(Some((resource, seen)))
}

/// Asks one that may change the object; true when it has.
async fn patched(
    request: &mut Request<'_>,
    webhook: &Webhook,
    resource: &Arc<Resource>,
    seen: Shown,
    place: usize,
) -> Result<bool> {
    let round = u8::from(request.reinvocation.is_second());
    let slot = format!("round_{round}_index_{place}");
    let failed_open = format!("failed-open.mutation.webhook.admission.k8s.io/{slot}");
    let verdict = ask(request.registry, request.context, webhook, &seen, true, &failed_open).await?;
    let mut changed = false;
    if let Some(Verdict { patch: Some(patch), .. }) = verdict {
        let Some(object) = seen.object else {
            return Err(Status::internal(format!(
                "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
                webhook.name
            )));
        };
        let new = json_patch::apply(&object, &patch).map_err(|status| Status::internal(status.message))?;
        changed = put_back(request, resource, new)?;
    }
    let note = json!({"configuration": webhook.configuration, "webhook": webhook.name, "mutated": changed});
    request.context.notes.add(format!("mutation.webhook.admission.k8s.io/{slot}"), note.to_string());
    Ok(changed)
}

/// Asks one; `None` when it failed and that is ignored.
async fn ask(
    registry: &Registry,
    context: &Context,
    webhook: &Webhook,
    seen: &Shown,
    mutating: bool,
    failed_open: &str,
) -> Result<Option<Verdict>> {
    if context.dry_run && !webhook.dry_runs {
        let name = &webhook.name;
        return Err(Status::bad_request(format!("admission webhook {name:?} does not support dry run")));
    }
    let answered = match webhook.version {
        None => {
            let cause = "webhook does not accept known AdmissionReview versions (v1, v1beta1)";
            Err(format!("could not create admission objects: {cause}"))
        }
        Some(version) => {
            let question = Question::new(version, seen);
            match call::post(registry, webhook, &question).await {
                Ok(answer) => question.verdict(&answer, mutating),
                Err(cause) => Err(format!("failed to call webhook: {cause}")),
            }
        }
    };
    match answered {
        Ok(verdict) => {
            for (key, value) in &verdict.notes {
                context.notes.add(format!("{}/{key}", webhook.name), value.clone());
            }
            context.warnings.extend(verdict.warnings.iter().cloned());
            match &verdict.refusal {
                Some(refusal) => Err(review::refused(&webhook.name, refusal)),
                None => Ok(Some(verdict)),
            }
        }
        Err(cause) if webhook.ignored => {
            eprintln!("sextant: webhook {} failed and is ignored: {cause}", webhook.name);
            context.notes.add(failed_open, webhook.name.clone());
            Ok(None)
        }
        Err(cause) => Err(Status::internal(format!("failed calling webhook {:?}: {cause}", webhook.name))),
    }
}
