//! Validating admission policies: rules over requests, kept as objects and bound to what they are for.

mod compiled;

use super::cached::Cached;
use super::conditions::Inputs;
use super::shown::{Shown, shown};
use super::{Admission, Request, is_configuration};
use crate::auth::Authorizer;
use crate::contract::selector::LabelSelector;
use crate::contract::{Cause, Reason, Result, Status};
use crate::registry::{BoxFuture, Target};
use compiled::{Binding, Decision, Policy};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const POLICIES: &str = "validatingadmissionpolicies.admissionregistration.k8s.io";
const BINDINGS: &str = "validatingadmissionpolicybindings.admissionregistration.k8s.io";
/// A note for the audit log is no longer than this.
const NOTE_MAX: usize = 10 * 1024;

/// What Kubernetes calls ValidatingAdmissionPolicy.
pub(super) struct Policies {
    policies: Cached<Policy>,
    bindings: Cached<Binding>,
    authorizer: Option<Arc<dyn Authorizer>>,
}

impl Policies {
    pub(super) fn new(authorizer: Option<Arc<dyn Authorizer>>) -> Policies {
        Policies {
            policies: Cached::new(POLICIES, Policy::read),
            bindings: Cached::new(BINDINGS, Binding::read),
            authorizer,
        }
    }

    fn judge(&self, request: &Request<'_>) -> Result<()> {
        let bindings = self.bindings.all(request.registry)?;
        if bindings.is_empty() {
            return Ok(());
        }
        let mut denied = Vec::new();
        for policy in self.policies.all(request.registry)? {
            let bound: Vec<&Arc<Binding>> =
                bindings.iter().filter(|binding| binding.policy == policy.name).collect();
            if bound.is_empty() {
                continue;
            }
            let Some(resource) = policy.matching.find(request)? else { continue };
            if let Some(cause) = unconfigured(request, &policy) {
                let told = format!(
                    "ValidatingAdmissionPolicy '{}' denied request: failed to configure policy: {cause}",
                    policy.name
                );
                denied.extend((!policy.ignores).then(|| (told, String::new())));
                continue;
            }
            let shown = shown(request, &resource)?;
            self.ask(request, &policy, &bound, &shown, &mut denied)?;
        }
        match denied.into_iter().next() {
            None => Ok(()),
            Some((message, reason)) => Err(refused(request, message, &reason)),
        }
    }

    /// Asks one policy for each of its bindings.
    fn ask(
        &self,
        request: &Request<'_>,
        policy: &Policy,
        bindings: &[&Arc<Binding>],
        shown: &Shown,
        denied: &mut Vec<(String, String)>,
    ) -> Result<()> {
        let inputs = Inputs::new(request, shown, self.authorizer.as_deref())?;
        let mut notes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for binding in bindings {
            if binding.matching.find(request)?.is_none() {
                continue;
            }
            let deny = |cause: &str, reason: &str| {
                let (policy, binding) = (&policy.name, &binding.name);
                let told = format!(
                    "ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {cause}"
                );
                (told, reason.to_owned())
            };
            let params = match params(request, policy, binding) {
                Ok(params) => params,
                Err(_) if policy.ignores => continue,
                Err(cause) => {
                    denied.push(deny(&format!("failed to configure binding: {cause}"), ""));
                    continue;
                }
            };
            for param in &params {
                let outcome = policy.run(&inputs, param.as_ref());
                for (index, decision) in outcome.decisions.iter().enumerate() {
                    let Decision::Deny { message, reason } = decision else { continue };
                    for action in &binding.actions {
                        match action.as_str() {
                            "Deny" => denied.push(deny(message, reason)),
                            "Audit" => note_failure(request, binding, index, message),
                            "Warn" => request.context.warnings.add(format!(
                                "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {message}",
                                policy.name, binding.name
                            )),
                            _ => {}
                        }
                    }
                }
                denied.extend(outcome.errors.iter().map(|error| deny(error, "")));
                for (key, value) in outcome.notes {
                    let held = notes.entry(key).or_default();
                    if !held.contains(&value) {
                        held.push(value);
                    }
                }
            }
        }
        for (key, values) in notes {
            let values: Vec<&str> = values.iter().map(|value| cut(value)).collect();
            request.context.notes.add(format!("{}/{key}", policy.name), values.join(", "));
        }
        Ok(())
    }
}

impl Admission for Policies {
    fn handles(&self, request: &Request<'_>) -> bool {
        !is_configuration(request.kind()) && request.target.resource.verbs.read
    }

    fn validate<'a>(&'a self, request: &'a Request<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(self.judge(request)))
    }
}

fn cut(value: &str) -> &str {
    let mut end = value.len().min(NOTE_MAX);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

/// The first refusal, as the client gets it.
fn refused(request: &Request<'_>, message: String, reason: &str) -> Status {
    let (code, reason) = match reason {
        "Unauthorized" => (401, Reason::Unauthorized),
        "Forbidden" => (403, Reason::Forbidden),
        "RequestEntityTooLarge" => (413, Reason::RequestEntityTooLarge),
        _ => (422, Reason::Invalid),
    };
    let mut status = request.forbidden(&message);
    status.code = code;
    status.reason = reason;
    if let Some(details) = &mut status.details {
        details.causes.push(Cause { message, ..Cause::default() });
    }
    status
}

fn note_failure(request: &Request<'_>, binding: &Binding, index: usize, message: &str) {
    let failure = json!([{
        "message": message,
        "policy": binding.policy,
        "binding": binding.name,
        "expressionIndex": index,
        "validationActions": binding.actions,
    }]);
    request.context.notes.add("validation.policy.admission.k8s.io/validation_failure", failure.to_string());
}

/// Why a policy cannot be asked at all.
fn unconfigured(request: &Request<'_>, policy: &Policy) -> Option<String> {
    let (api_version, kind) = policy.param_kind.as_ref()?;
    let known = request.registry.resources().by_kind(api_version, kind).is_some();
    (!known).then(|| format!("failed to find resource referenced by paramKind: '{api_version}, Kind={kind}'"))
}

/// The objects that a policy is given by its binding: one after the other; `None` where it takes none.
fn params(
    request: &Request<'_>,
    policy: &Policy,
    binding: &Binding,
) -> std::result::Result<Vec<Option<Value>>, String> {
    let (Some((api_version, kind)), Some(reference)) = (&policy.param_kind, &binding.params) else {
        return Ok(vec![None]);
    };
    let text = |field: &str| reference.get(field).and_then(Value::as_str).unwrap_or_default();
    let resource = request.registry.resources().by_kind(api_version, kind);
    let resource = resource.ok_or_else(|| format!("there is no {kind} of {api_version}"))?;
    let mut namespace = text("namespace").to_owned();
    if !resource.namespaced && !namespace.is_empty() {
        return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned());
    }
    if resource.namespaced && namespace.is_empty() {
        namespace.clone_from(&request.target.namespace);
        if namespace.is_empty() {
            let cause =
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
            return Err(cause.to_owned());
        }
    }
    let target = Target { resource, namespace, name: text("name").to_owned() };
    let told = |status: Status| status.message;
    let found = if target.name.is_empty() {
        let selector = reference.get("selector").cloned().unwrap_or_else(|| json!({}));
        let selector = LabelSelector::from_object(&selector).map_err(told)?;
        let all = request.registry.objects(&target).map_err(told)?;
        all.into_iter().filter(|object| selector.matches(object.strings("labels"))).collect()
    } else {
        match request.registry.object(&target) {
            Ok(object) => vec![object],
            Err(status) if status.code == 404 => Vec::new(),
            Err(status) => return Err(told(status)),
        }
    };
    if found.is_empty() && text("parameterNotFoundAction") == "Deny" {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    Ok(found.into_iter().map(|object| Some(object.into_value())).collect())
}
