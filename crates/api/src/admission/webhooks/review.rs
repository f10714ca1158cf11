//! The question and the answer: `AdmissionReview`.

use super::super::{Operation, Request};
use super::rules::operation;
use crate::contract::field::quoted;
use crate::contract::{Object, Reason, Status};
use crate::registry::uid;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// What a webhook says.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// A JSON patch of the object.
    pub(super) patch: Option<Value>,
    /// The `status` of a refusal.
    pub(super) refusal: Option<Value>,
    /// For the client.
    pub(super) warnings: Vec<String>,
}

/// What a webhook is asked.
pub(super) fn question(request: &Request<'_>) -> Value {
    let names = &request.target.resource.names;
    let kind = json!({"group": names.group, "version": names.version, "kind": names.kind});
    let resource = json!({"group": names.group, "version": names.version, "resource": names.plural});
    let asker = &request.context.asker;
    let extra: Map<String, Value> =
        asker.extra.iter().map(|(key, values)| (key.clone(), values.clone().into())).collect();
    let options = match request.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => "PodExecOptions",
    };
    let object =
        |object: Option<&Object>| object.map_or(Value::Null, |object| Value::Object(object.0.clone()));
    let mut asked = json!({
        "uid": uid(),
        "kind": kind,
        "resource": resource,
        "requestKind": kind,
        "requestResource": resource,
        "name": request.object.as_ref().map_or(request.target.name.as_str(), |object| object.name()),
        "operation": operation(request.operation),
        "userInfo": {"username": asker.user, "uid": asker.uid, "groups": asker.groups, "extra": extra},
        "object": object(request.object.as_ref()),
        "oldObject": object(request.old),
        "dryRun": request.context.dry_run,
        "options": {"kind": options, "apiVersion": "meta.k8s.io/v1"},
    });
    if !request.target.namespace.is_empty() {
        asked["namespace"] = request.target.namespace.as_str().into();
    }
    if !request.subresource.is_empty() {
        asked["subResource"] = request.subresource.into();
        asked["requestSubResource"] = request.subresource.into();
    }
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": asked})
}

/// Reads the answer to a question.
pub(super) fn verdict(question: &Value, answer: &[u8]) -> Result<Verdict, String> {
    let answer: Value = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    let text =
        |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, version) = (text(&answer, "kind"), text(&answer, "apiVersion"));
    if kind != "AdmissionReview" || version != "admission.k8s.io/v1" {
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {}, Kind={kind}",
            version
        ));
    }
    let Some(response) = answer.get("response").filter(|response| response.is_object()) else {
        return Err("webhook response was absent".to_owned());
    };
    let (asked, told) = (&question["request"]["uid"], text(response, "uid"));
    if *asked != told {
        return Err(format!("expected response.uid={asked}, got {}", quoted(&told)));
    }
    let warnings = response.get("warnings").and_then(Value::as_array).into_iter().flatten();
    let mut verdict = Verdict {
        warnings: warnings.filter_map(Value::as_str).map(str::to_owned).collect(),
        ..Verdict::default()
    };
    if response.get("allowed") != Some(&Value::Bool(true)) {
        verdict.refusal = Some(response.get("status").cloned().unwrap_or_else(|| json!({})));
        return Ok(verdict);
    }
    let patch = text(response, "patch");
    if patch.is_empty() {
        return Ok(verdict);
    }
    if text(response, "patchType") != "JSONPatch" {
        return Err("webhook returned response.patch but not response.patchType=JSONPatch".to_owned());
    }
    let bytes = STANDARD.decode(&patch).map_err(|error| format!("its patch is no base64: {error}"))?;
    let patch: Value =
        serde_json::from_slice(&bytes).map_err(|error| format!("its patch is no JSON: {error}"))?;
    verdict.patch = patch.as_array().is_some_and(|list| !list.is_empty()).then_some(patch);
    Ok(verdict)
}

/// The refusal of a webhook, as the client gets it.
pub(super) fn refused(name: &str, status: &Value) -> Status {
    let text = |field: &str| status.get(field).and_then(Value::as_str).unwrap_or_default();
    let denied = format!("admission webhook {} denied the request", quoted(name));
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("{denied} without explanation"),
        ("", reason) => format!("{denied}: {reason}"),
        (message, _) => format!("{denied}: {message}"),
    };
    let code = status.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    Status::new(code.filter(|code| *code >= 400).unwrap_or(400), reason(text("reason")), message)
}

fn reason(text: &str) -> Reason {
    let known = [
        Reason::Unauthorized,
        Reason::Forbidden,
        Reason::NotFound,
        Reason::AlreadyExists,
        Reason::Conflict,
        Reason::Gone,
        Reason::Invalid,
        Reason::ServerTimeout,
        Reason::Timeout,
        Reason::TooManyRequests,
        Reason::BadRequest,
        Reason::MethodNotAllowed,
        Reason::InternalError,
        Reason::Expired,
        Reason::ServiceUnavailable,
    ];
    known.into_iter().find(|reason| reason.as_str() == text).unwrap_or(Reason::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(response: Value) -> Result<Verdict, String> {
        let question = json!({"request": {"uid": "u"}});
        let answer =
            json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
        verdict(&question, answer.to_string().as_bytes())
    }

    #[test]
    fn a_refusal_is_told_with_the_name_of_the_webhook() {
        let verdict = answered(json!({
            "uid": "u", "allowed": false, "warnings": ["w"], "status": {"message": "no", "code": 403},
        }))
        .expect("an answer");
        assert_eq!(verdict.warnings, ["w"]);
        let status = refused("x.example.com", &verdict.refusal.expect("a refusal"));
        assert_eq!(
            (status.code, status.message.as_str()),
            (403, "admission webhook \"x.example.com\" denied the request: no")
        );
        let status = refused("x", &json!({}));
        assert_eq!(status.message, "admission webhook \"x\" denied the request without explanation");
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        assert!(answered(json!({"uid": "v", "allowed": true})).is_err());
        assert!(answered(Value::Null).is_err());
        let patch = STANDARD.encode(r#"[{"op":"remove","path":"/a"}]"#);
        assert!(answered(json!({"uid": "u", "allowed": true, "patch": patch})).is_err());
        let good = json!({"uid": "u", "allowed": true, "patchType": "JSONPatch", "patch": patch});
        assert_eq!(answered(good).expect("good").patch.expect("a patch")[0]["op"], "remove");
    }
}
