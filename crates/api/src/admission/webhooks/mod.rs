//! Admission webhooks: others who have a say, over HTTPS (`admission.k8s.io/v1`).
//!
//! Not here: `matchConditions`, which make a webhook fail by its `failurePolicy`, and the conversion that
//! `matchPolicy: Equivalent` may ask for; a rule matches the version of the request alone.

mod call;
mod review;
mod rules;

use super::{Admission, Request};
use crate::contract::selector::LabelSelector;
use crate::contract::{Object, Result, Status};
use crate::merge::json_patch;
use crate::registry::BoxFuture;
use review::Verdict;
use rules::Webhook;
use std::collections::BTreeSet;

const MUTATING: &str = "mutatingwebhookconfigurations.admissionregistration.k8s.io";
const VALIDATING: &str = "validatingwebhookconfigurations.admissionregistration.k8s.io";

/// What Kubernetes calls MutatingAdmissionWebhook and ValidatingAdmissionWebhook.
pub(super) struct Webhooks;

impl Admission for Webhooks {
    fn handles(&self, request: &Request<'_>) -> bool {
        // Who is locked out by a webhook has to be able to take it away.
        !matches!(request.kind(), MUTATING | VALIDATING) && request.target.resource.verbs.read
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(mutate(request))
    }

    fn validate<'a>(&'a self, request: &'a Request<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(judge(request))
    }
}

/// The webhooks that have a say in a request, in the order of their configurations' names.
fn concerned(request: &Request<'_>, kind: &str) -> Result<Vec<Webhook>> {
    let mut list = Vec::new();
    for configuration in request.registry.every(kind, None)? {
        for webhook in Webhook::all(&configuration) {
            if webhook.rules_match(request) && selected(request, &webhook)? {
                list.push(webhook);
            }
        }
    }
    Ok(list)
}

/// Whether the selectors of a webhook hold.
fn selected(request: &Request<'_>, webhook: &Webhook) -> Result<bool> {
    if let Some(selector) = &webhook.objects {
        let selector = LabelSelector::from_object(selector)?;
        let objects = [request.object.as_ref(), request.old];
        if !objects.into_iter().flatten().any(|object| selector.matches(object.strings("labels"))) {
            return Ok(false);
        }
    }
    let Some(selector) = &webhook.namespaces else { return Ok(true) };
    let selector = LabelSelector::from_object(selector)?;
    if request.kind() == "namespaces" {
        let own = request.object.as_ref().or(request.old);
        return Ok(own.is_some_and(|namespace| selector.matches(namespace.strings("labels"))));
    }
    if request.target.namespace.is_empty() {
        return Ok(true);
    }
    let namespace = request.registry.peek("namespaces", "", &request.target.namespace)?;
    Ok(namespace.is_some_and(|namespace| selector.matches(namespace.strings("labels"))))
}

async fn mutate(request: &mut Request<'_>) -> Result<()> {
    let webhooks = concerned(request, MUTATING)?;
    let mut again: Vec<&Webhook> = Vec::new();
    let mut asked: BTreeSet<usize> = BTreeSet::new();
    for (index, webhook) in webhooks.iter().enumerate() {
        if patched(request, webhook).await? {
            let earlier = asked.iter().filter_map(|earlier| webhooks.get(*earlier));
            again.extend(earlier.filter(|earlier| earlier.reinvoked));
            asked.clear();
        }
        asked.insert(index);
    }
    // Once more, and not until nothing changes: two that disagree would never end.
    for webhook in again {
        patched(request, webhook).await?;
    }
    Ok(())
}

/// Asks one; true when it has changed the object.
async fn patched(request: &mut Request<'_>, webhook: &Webhook) -> Result<bool> {
    let Some(Verdict { patch: Some(patch), .. }) = asked(request, webhook).await? else { return Ok(false) };
    let Some(object) = request.object.take() else {
        return Err(Status::internal(format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            webhook.name
        )));
    };
    let before = object.clone();
    let failed = |cause: String| Status::internal(format!("webhook {:?}: {cause}", webhook.name));
    let value = json_patch::apply(&object.into_value(), &patch).map_err(|status| failed(status.message))?;
    let mut object =
        Object::from_value(value).ok_or_else(|| failed("its patch leaves no object".to_owned()))?;
    request.target.resource.strategy.default(&mut object);
    let changed = object != before;
    request.object = Some(object);
    Ok(changed)
}

async fn judge(request: &Request<'_>) -> Result<()> {
    for webhook in concerned(request, VALIDATING)? {
        asked(request, &webhook).await?;
    }
    Ok(())
}

/// Asks one; `None` when it failed and that is ignored.
async fn asked(request: &Request<'_>, webhook: &Webhook) -> Result<Option<Verdict>> {
    if request.context.dry_run && !webhook.dry_runs {
        return Err(Status::bad_request(format!(
            "admission webhook {:?} does not support dry run",
            webhook.name
        )));
    }
    let question = review::question(request);
    let answered = match &webhook.unable {
        Some(cause) => Err(cause.clone()),
        None => call::post(request.registry, webhook, &question).await,
    };
    let verdict = answered.and_then(|answer| review::verdict(&question, &answer));
    match verdict {
        Ok(verdict) => {
            request.context.warnings.extend(verdict.warnings.iter().cloned());
            match verdict.refusal {
                Some(refusal) => Err(review::refused(&webhook.name, &refusal)),
                None => Ok(Some(verdict)),
            }
        }
        Err(cause) if webhook.ignored => {
            eprintln!("sextant: webhook {} failed and is ignored: {cause}", webhook.name);
            Ok(None)
        }
        Err(cause) => Err(Status::internal(format!(
            "failed calling webhook {:?}: failed to call webhook: {cause}",
            webhook.name
        ))),
    }
}
