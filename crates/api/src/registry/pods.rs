//! Subresources that are created: `binding` and `eviction` of pods, `token` of service accounts.

use super::change::decoded_as;
use super::options::DeleteOptions;
use super::parts::own_part;
use super::target::{Answer, Body, Target, View};
use super::{Context, Registry, document, meta};
use crate::contract::field::{FieldError, Path};
use crate::contract::selector::LabelSelector;
use crate::contract::{Cause, Details, Object, Reason, Result, Status};
use crate::decode::Media;
use bytes::Bytes;
use serde_json::{Value, json};

const BUDGETS: &str = "poddisruptionbudgets.policy";
/// So many disruptions may wait for who counts them.
const MOST_DISRUPTED: usize = 2000;
/// So often an eviction is tried whose pod changes meanwhile.
const EVICTIONS: usize = 20;

/// What allows an eviction.
enum Judged {
    /// The pod may go, whatever it is by now.
    Free,
    /// It may go as long as it is as it was: it has not begun.
    Pending,
    /// It may go as long as it is as it was: it is not ready. With the name of its budget.
    Unready(String),
}

impl Registry {
    /// Creates a subresource.
    ///
    /// # Errors
    /// 404 for subresources that there are none of, and what each of them refuses.
    pub async fn create_part(
        &self,
        context: &Context,
        target: &Target,
        subresource: &str,
        body: Body,
        _form: View,
    ) -> Result<Answer> {
        match (&*target.resource.stored_as, subresource) {
            ("pods", "binding") => {
                let binding = decoded_as(context, body, "v1", "Binding", "io.k8s.api.core.v1.Binding")?;
                let binding =
                    self.admitted_part(context, target, subresource, ("v1", "Binding"), binding).await?;
                self.bind(context, target, &binding).await
            }
            ("pods", "eviction") => {
                let eviction =
                    decoded_as(context, body, "policy/v1", "Eviction", "io.k8s.api.policy.v1.Eviction")?;
                let kind = ("policy/v1", "Eviction");
                let eviction = self.admitted_part(context, target, subresource, kind, eviction).await?;
                self.evict(context, target, eviction).await
            }
            ("serviceaccounts", "token") => {
                const SCHEMA: &str = "io.k8s.api.authentication.v1.TokenRequest";
                let kind = ("authentication.k8s.io/v1", "TokenRequest");
                let mut request = decoded_as(context, body, kind.0, kind.1, SCHEMA)?;
                own_part(context, subresource, (kind.0, SCHEMA), &mut request)?;
                let account = self.object(target)?;
                let request = self.admitted_part(context, target, subresource, kind, request).await?;
                let token = self.token_issuer()?.issue(context, &account, request).await?;
                Ok(Answer { code: 201, json: document::json(&token) })
            }
            _ => Err(Status::new(404, Reason::NotFound, "the server could not find the requested resource")
                .with(Details::default())),
        }
    }

    /// Says on which node a pod runs.
    async fn bind(&self, context: &Context, target: &Target, binding: &Object) -> Result<Answer> {
        if !binding.name().is_empty() && binding.name() != target.name {
            return Err(Status::bad_request("name in URL does not match name in Binding object"));
        }
        let kind = binding.text(&["target", "kind"]);
        let node = binding.text(&["target", "name"]);
        let path = Path::new("target");
        let mut errors = Vec::new();
        if !matches!(kind, "" | "Node") {
            errors
                .push(FieldError::not_supported(&path.child("kind"), kind, &["Node", "<empty>"]).to_string());
        }
        if node.is_empty() {
            errors.push(FieldError::required(&path.child("name"), "").to_string());
        }
        match errors.as_slice() {
            [] => {}
            [one] => return Err(Status::new(500, Reason::Unknown, one.as_str())),
            several => {
                return Err(Status::new(500, Reason::Unknown, format!("[{}]", several.join(", "))));
            }
        }
        let refused = |cause: String| Status::conflict("", "pods/binding", &target.name, &cause);
        let make = |live: Option<&Object>| {
            let live = live.ok_or_else(|| target.not_found())?;
            if live.is_terminating() {
                let cause = format!("pod {} is being deleted, cannot be assigned to a host", target.name);
                return Err(refused(cause));
            }
            let bound = live.text(&["spec", "nodeName"]);
            if !bound.is_empty() {
                return Err(refused(format!("pod {} is already assigned to node {bound:?}", target.name)));
            }
            let gates = live.at(&["spec", "schedulingGates"]).and_then(Value::as_array);
            if gates.is_some_and(|gates| !gates.is_empty()) {
                return Err(refused(format!("pod {} has non-empty .spec.schedulingGates", target.name)));
            }
            let mut new = live.clone();
            new.make(&["spec"]).insert("nodeName".to_owned(), node.into());
            for field in ["annotations", "labels"] {
                if let Some(more) = binding.strings(field) {
                    new.make(&["metadata", field]).extend(more.clone());
                }
            }
            new.make(&["status"]).remove("nominatedNodeName");
            set_condition(&mut new, json!({"type": "PodScheduled", "status": "True"}));
            Ok(new)
        };
        self.change_directly(context, target, binding.uid(), &make).await?;
        Ok(Answer { code: 201, json: created() })
    }

    /// Deletes a pod unless a disruption budget is against it.
    async fn evict(&self, context: &Context, target: &Target, eviction: Object) -> Result<Answer> {
        if eviction.name() != target.name {
            return Err(Status::bad_request("name in URL does not match name in Eviction object"));
        }
        let mut options = match eviction.0.get("deleteOptions") {
            Some(given) if !given.is_null() => {
                DeleteOptions::from_body(given.to_string().as_bytes(), Media::Json)?
            }
            _ => DeleteOptions::default(),
        };
        options.dry_run |= context.dry_run;
        let context = &Context { dry_run: options.dry_run, ..context.clone() };
        for _ in 0..EVICTIONS {
            let pod = self.object(target)?;
            let judged = self.judge(context, &pod).await?;
            let mut options = options.clone();
            options.preconditions.uid.get_or_insert_with(|| pod.uid().to_owned());
            let is_bound = !matches!(judged, Judged::Free) && options.preconditions.version.is_none();
            if is_bound {
                options.preconditions.version = Some(pod.resource_version().to_owned());
            }
            match self.mark_and_delete(context, target, options).await {
                Err(status) if status.code == 409 && is_bound => {
                    if let Judged::Unready(budget) = judged {
                        return Err(still_processed(&budget));
                    }
                }
                Err(status) => return Err(status),
                Ok(()) => return Ok(Answer { code: 201, json: created() }),
            }
        }
        Err(target.conflict("the pod changes too fast to be evicted"))
    }

    /// Whether a pod may be evicted, and on what that depends.
    async fn judge(&self, context: &Context, pod: &Object) -> Result<Judged> {
        match pod.text(&["status", "phase"]) {
            "Succeeded" | "Failed" => Ok(Judged::Free),
            _ if pod.is_terminating() => Ok(Judged::Free),
            "Pending" => Ok(Judged::Pending),
            _ => self.spend_budget(context, pod).await,
        }
    }

    /// Says of a pod that it is evicted, and deletes it.
    async fn mark_and_delete(
        &self,
        context: &Context,
        target: &Target,
        mut options: DeleteOptions,
    ) -> Result<()> {
        if !context.dry_run {
            let wanted = options.preconditions.version.clone();
            let make = |live: Option<&Object>| {
                let live = live.ok_or_else(|| target.not_found())?;
                if wanted.as_ref().is_some_and(|wanted| wanted != live.resource_version()) {
                    return Err(target.conflict(super::change::MODIFIED));
                }
                let mut new = live.clone();
                let condition = json!({
                    "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                    "message": "Eviction API: evicting",
                });
                set_condition(&mut new, condition);
                Ok(new)
            };
            let uid = options.preconditions.uid.clone().unwrap_or_default();
            let changed = self.change_directly(context, target, &uid, &make).await?;
            if options.preconditions.version.is_some() {
                options.preconditions.version = Some(changed.resource_version().to_owned());
            }
        }
        self.delete(context, target, &options, View::Full).await.map(drop)
    }

    /// Takes one disruption off the budget that covers a pod.
    async fn spend_budget(&self, context: &Context, pod: &Object) -> Result<Judged> {
        let mut budgets = Vec::new();
        for budget in self.every(BUDGETS, Some(pod.namespace()))? {
            let Some(selector) = budget.at(&["spec", "selector"]) else { continue };
            if LabelSelector::from_object(selector)?.matches(pod.strings("labels")) {
                budgets.push(budget);
            }
        }
        let Some(budget) = budgets.first() else { return Ok(Judged::Free) };
        if budgets.len() > 1 {
            let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status::new(500, Reason::Unknown, message));
        }
        if !is_ready(pod) && unhealthy_may_go(budget) {
            return Ok(Judged::Unready(budget.name().to_owned()));
        }
        let resource = self
            .resources()
            .by_kind("policy/v1", "PodDisruptionBudget")
            .ok_or_else(|| Status::internal("there is no PodDisruptionBudget"))?;
        let target =
            Target { resource, namespace: budget.namespace().to_owned(), name: budget.name().to_owned() };
        let make = |live: Option<&Object>| spent(live.ok_or_else(|| target.not_found())?, pod.name());
        self.change_directly(context, &target, "", &make).await.map(|_| Judged::Free)
    }

    /// A change by the server itself: neither admission nor the rules of the kind have a say.
    pub(super) async fn change_directly(
        &self,
        context: &Context,
        target: &Target,
        uid: &str,
        make: super::change::Make<'_>,
    ) -> Result<Object> {
        loop {
            let stored = self.stored(target)?.ok_or_else(|| target.not_found())?;
            let live = document::open(&target.resource, &stored.json)?;
            if !uid.is_empty() && uid != live.uid() {
                return Err(target.conflict(&format!(
                    "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                    live.uid()
                )));
            }
            let mut new = make(Some(&live))?;
            meta::keep(&mut new, &live);
            if new == live || context.dry_run {
                return Ok(new);
            }
            if meta::is_gone(&new, &live, &target.resource) {
                if self.remove(context, target, &stored.key, stored.revision).await? {
                    return Ok(new);
                }
                continue;
            }
            match self.put(target, crate::store::Expect::Revision(stored.revision), &new).await {
                Ok(revision) => {
                    new.metadata_mut().insert("resourceVersion".to_owned(), revision.to_string().into());
                    return Ok(new);
                }
                Err(crate::store::Error::Unexpected { .. }) => {}
                Err(error) => return Err(super::unavailable(error)),
            }
        }
    }
}

/// What is answered of what is done and not kept.
fn created() -> Bytes {
    let status =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Bytes::from(status.to_string())
}

/// Writes a condition into a status; the time changes when the condition does.
pub(crate) fn set_condition(object: &mut Object, condition: Value) {
    set_condition_at(object, condition, &meta::now_text());
}

/// The same as of `now`, an RFC 3339 time.
pub(crate) fn set_condition_at(object: &mut Object, mut condition: Value, now: &str) {
    let list = object.make(&["status"]).entry("conditions").or_insert_with(|| Value::Array(Vec::new()));
    let Some(list) = list.as_array_mut() else { return };
    let held = list.iter_mut().find(|held| held["type"] == condition["type"]);
    let since = held
        .as_ref()
        .filter(|held| held["status"] == condition["status"])
        .and_then(|held| held.get("lastTransitionTime").cloned());
    condition["lastTransitionTime"] = since.unwrap_or_else(|| now.into());
    match held {
        Some(held) => *held = condition,
        None => list.push(condition),
    }
}

fn is_ready(pod: &Object) -> bool {
    let conditions = pod.at(&["status", "conditions"]).and_then(Value::as_array);
    conditions.is_some_and(|list| list.iter().any(|held| held["type"] == "Ready" && held["status"] == "True"))
}

/// Whether a pod that is not ready may go whatever the budget allows.
fn unhealthy_may_go(budget: &Object) -> bool {
    let count = |field| budget.at(&["status", field]).and_then(Value::as_i64).unwrap_or(0);
    let wanted = count("desiredHealthy");
    budget.text(&["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow"
        || (wanted > 0 && count("currentHealthy") >= wanted)
}

/// 429 of a pod that a budget protects.
fn protected(message: String) -> Status {
    let text = "Cannot evict pod as it would violate the pod's disruption budget.";
    let cause = Cause { reason: "DisruptionBudget".to_owned(), message, field: String::new() };
    Status::new(429, Reason::TooManyRequests, text)
        .with(Details { causes: vec![cause], ..Details::default() })
}

/// 429 of a budget that is not up to date.
fn still_processed(budget: &str) -> Status {
    let message = format!("The disruption budget {budget} is still being processed by the server.");
    let mut status = protected(message);
    if let Some(details) = &mut status.details {
        details.retry_after_seconds = 10;
    }
    status
}

/// The budget with one disruption less, or 429.
fn spent(budget: &Object, pod: &str) -> Result<Object> {
    let name = budget.name();
    let count = |field| budget.at(&["status", field]).and_then(Value::as_i64).unwrap_or(0);
    let observed = budget.at(&["status", "observedGeneration"]).and_then(Value::as_i64).unwrap_or(0);
    if observed < budget.generation() {
        return Err(still_processed(name));
    }
    let disrupted = budget.at(&["status", "disruptedPods"]).and_then(Value::as_object);
    if disrupted.is_some_and(|pods| pods.len() > MOST_DISRUPTED) {
        let cause = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden("policy", "poddisruptionbudget", name, cause));
    }
    let allowed = count("disruptionsAllowed");
    if allowed < 0 {
        return Err(Status::forbidden(
            "policy",
            "poddisruptionbudgets",
            name,
            "pdb disruptions allowed is negative",
        ));
    }
    if allowed == 0 {
        let (wanted, healthy) = (count("desiredHealthy"), count("currentHealthy"));
        return Err(protected(format!(
            "The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently"
        )));
    }
    let mut spent = budget.clone();
    let now = meta::now_text();
    let status = spent.make(&["status"]);
    status.insert("disruptionsAllowed".to_owned(), (allowed - 1).into());
    spent.make(&["status", "disruptedPods"]).insert(pod.to_owned(), now.into());
    Ok(spent)
}
