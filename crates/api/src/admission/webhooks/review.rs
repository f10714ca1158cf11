//! The question and the answer: `AdmissionReview`.

use super::super::shown::Shown;
use crate::contract::field::quoted;
use crate::contract::{Cause, Details, Reason, Status};
use crate::merge::go::json_word;
use crate::registry::uid;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// A version of reviews.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    /// Older: what answers say is checked less.
    V1Beta1,
}

impl Version {
    pub(super) fn named(name: &str) -> Option<Version> {
        match name {
            "v1" => Some(Version::V1),
            "v1beta1" => Some(Version::V1Beta1),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Version::V1 => "v1",
            Version::V1Beta1 => "v1beta1",
        }
    }
}

/// What a webhook says.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// A JSON patch of the object.
    pub(super) patch: Option<Value>,
    /// The `status` of a refusal.
    pub(super) refusal: Option<Value>,
    /// For the client.
    pub(super) warnings: Vec<String>,
    /// For the audit log.
    pub(super) notes: Vec<(String, String)>,
}

/// What a webhook is asked.
pub(super) struct Question {
    version: Version,
    uid: String,
    /// The review.
    pub(super) body: String,
}

impl Question {
    pub(super) fn new(version: Version, shown: &Shown) -> Question {
        let uid = uid();
        let mut request = shown.request.clone();
        request["uid"] = uid.as_str().into();
        request["object"] = shown.object.clone().unwrap_or(Value::Null);
        request["oldObject"] = shown.old.clone().unwrap_or(Value::Null);
        let api_version = format!("admission.k8s.io/{}", version.name());
        let body = json!({"kind": "AdmissionReview", "apiVersion": api_version, "request": request});
        Question { version, uid, body: body.to_string() }
    }

    /// Reads the answer.
    pub(super) fn verdict(&self, answer: &[u8], mutating: bool) -> Result<Verdict, String> {
        let invalid = |cause: String| format!("received invalid webhook response: {cause}");
        let answer = self.decoded(answer).map_err(|cause| format!("failed to call webhook: {cause}"))?;
        let Some(response) = answer.get("response").filter(|response| response.is_object()) else {
            return Err(invalid("webhook response was absent".to_owned()));
        };
        let text = |field: &str| response.get(field).and_then(Value::as_str);
        if self.version == Version::V1 {
            self.checked(&answer, mutating).map_err(invalid)?;
        }
        let strings = |field: &str| response.get(field).and_then(Value::as_array).into_iter().flatten();
        let notes = response.get("auditAnnotations").and_then(Value::as_object).into_iter().flatten();
        let mut verdict = Verdict {
            warnings: strings("warnings").filter_map(Value::as_str).map(str::to_owned).collect(),
            notes: notes.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect(),
            ..Verdict::default()
        };
        if response.get("allowed") != Some(&Value::Bool(true)) {
            verdict.refusal = Some(response.get("status").cloned().unwrap_or_else(|| json!({})));
            return Ok(verdict);
        }
        let Some(patch) = text("patch").filter(|patch| mutating && !patch.is_empty()) else {
            return Ok(verdict);
        };
        let undecodable = |cause: String| format!("received undecodable patch in webhook response: {cause}");
        let bytes = STANDARD.decode(patch).map_err(|error| undecodable(error.to_string()))?;
        let patch: Value = serde_json::from_slice(&bytes).map_err(|error| undecodable(error.to_string()))?;
        let Some(operations) = patch.as_array() else {
            return Err(undecodable(format!(
                "json: cannot unmarshal {} into Go value of type jsonpatch.Patch",
                json_word(&patch)
            )));
        };
        let kind = text("patchType").unwrap_or("JSONPatch");
        if operations.is_empty() {
            return Ok(verdict);
        }
        if self.version == Version::V1 && kind != "JSONPatch" {
            return Err(format!("unsupported patch type {}", quoted(kind)));
        }
        verdict.patch = Some(patch);
        Ok(verdict)
    }

    /// The answer, where it is a review of the version that was asked for.
    fn decoded(&self, answer: &[u8]) -> Result<Value, String> {
        let unread = |cause: String| format!("couldn't get version/kind; json parse error: {cause}");
        let answer: Value = serde_json::from_slice(answer).map_err(|error| unread(error.to_string()))?;
        if !answer.is_object() {
            return Err(unread("the answer is no object".to_owned()));
        }
        let text = |field: &str| answer.get(field).and_then(Value::as_str).unwrap_or_default();
        let (kind, api_version) = (text("kind"), text("apiVersion"));
        let own = self.version.name();
        match (kind, api_version.strip_prefix("admission.k8s.io/")) {
            ("", None) if api_version.is_empty() => Ok(answer),
            ("AdmissionReview", Some(version)) if version == own => Ok(answer),
            ("AdmissionReview", Some(version @ ("v1" | "v1beta1"))) => Err(format!(
                "converting ({version}.AdmissionReview) to ({own}.AdmissionReview): unknown conversion"
            )),
            _ => Err(format!("no kind {kind:?} is registered for version {api_version:?}")),
        }
    }

    /// What is checked of answers since `v1`.
    fn checked(&self, answer: &Value, mutating: bool) -> Result<(), String> {
        let response = &answer["response"];
        let text = |value: &Value, field: &str| {
            value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let uid = text(response, "uid");
        if uid != self.uid {
            return Err(format!("expected response.uid={}, got {}", quoted(&self.uid), quoted(&uid)));
        }
        let (kind, api_version) = (text(answer, "kind"), text(answer, "apiVersion"));
        if kind.is_empty() {
            let found = if api_version.is_empty() { "/" } else { &api_version };
            return Err(format!(
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {found}, Kind={kind}"
            ));
        }
        let has_patch = !text(response, "patch").is_empty();
        let patch_type = response.get("patchType").filter(|value| !value.is_null());
        let wrong = match (mutating, has_patch, patch_type) {
            (false, true, _) => "validating webhook may not return response.patch",
            (false, false, Some(_)) => "validating webhook may not return response.patchType",
            (true, true, None) => "webhook returned response.patch but not response.patchType",
            (true, false, Some(_)) => "webhook returned response.patchType but not response.patch",
            (true, true, Some(kind)) if kind == "" => "webhook returned invalid response.patchType of \"\"",
            _ => return Ok(()),
        };
        Err(wrong.to_owned())
    }
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
    let code = code.filter(|code| (400..600).contains(code)).unwrap_or(400);
    let refusal = Status::new(code, reason(text("reason")), message);
    match status.get("details").and_then(Value::as_object) {
        None => refusal,
        Some(told) => refusal.with(details(&Value::Object(told.clone()))),
    }
}

fn details(told: &Value) -> Details {
    let text =
        |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let causes = told.get("causes").and_then(Value::as_array).into_iter().flatten();
    Details {
        name: text(told, "name"),
        group: text(told, "group"),
        kind: text(told, "kind"),
        uid: text(told, "uid"),
        causes: causes
            .map(|cause| Cause {
                reason: text(cause, "reason"),
                message: text(cause, "message"),
                field: text(cause, "field"),
            })
            .collect(),
        retry_after_seconds: told
            .get("retryAfterSeconds")
            .and_then(Value::as_u64)
            .and_then(|seconds| u32::try_from(seconds).ok())
            .unwrap_or(0),
    }
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
        Reason::NotAcceptable,
        Reason::RequestEntityTooLarge,
        Reason::UnsupportedMediaType,
        Reason::InternalError,
        Reason::Expired,
        Reason::ServiceUnavailable,
    ];
    known.into_iter().find(|reason| reason.as_str() == text).unwrap_or(Reason::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(response: Value, mutating: bool) -> Result<Verdict, String> {
        let shown = Shown { request: json!({}), object: None, old: None };
        let question = Question { uid: "u".to_owned(), ..Question::new(Version::V1, &shown) };
        let answer =
            json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
        question.verdict(answer.to_string().as_bytes(), mutating)
    }

    #[test]
    fn a_refusal_is_told_with_the_name_of_the_webhook() {
        let verdict = answered(
            json!({
                "uid": "u", "allowed": false, "warnings": ["w"], "auditAnnotations": {"k": "v"},
                "status": {"message": "no", "code": 403, "details": {"causes": [{"field": "x", "message": "y"}]}},
            }),
            false,
        )
        .expect("an answer");
        assert_eq!(verdict.warnings, ["w"]);
        assert_eq!(verdict.notes, [("k".to_owned(), "v".to_owned())]);
        let status = refused("x.example.com", &verdict.refusal.expect("a refusal"));
        assert_eq!(
            (status.code, status.message.as_str()),
            (403, "admission webhook \"x.example.com\" denied the request: no")
        );
        assert_eq!(status.details.expect("details").causes[0].field, "x");
        let status = refused("x", &json!({}));
        assert_eq!(status.message, "admission webhook \"x\" denied the request without explanation");
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        assert!(answered(json!({"uid": "v", "allowed": true}), true).is_err());
        assert!(answered(Value::Null, true).is_err());
        let patch = STANDARD.encode(r#"[{"op":"remove","path":"/a"}]"#);
        assert!(answered(json!({"uid": "u", "allowed": true, "patch": patch}), true).is_err());
        let good = json!({"uid": "u", "allowed": true, "patchType": "JSONPatch", "patch": patch});
        assert_eq!(answered(good.clone(), true).expect("good").patch.expect("a patch")[0]["op"], "remove");
        assert_eq!(
            answered(good, false).expect_err("who judges changes nothing"),
            "received invalid webhook response: validating webhook may not return response.patch"
        );
    }
}
