//! Questions about who somebody is and what he may: access reviews, rules reviews, token reviews.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::rbac::Rbac;
use super::tokens::Tokens;
use super::{AUTHENTICATED, Attributes, Authorizer as _, ResourceAttributes};
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, Result, Status};
use crate::registry::{BoxFuture, Context, Registry, Reviewer};
use crate::resource::Asker;

/// The kinds that are answered here.
const KINDS: [&str; 6] = [
    "LocalSubjectAccessReview",
    "SelfSubjectAccessReview",
    "SelfSubjectReview",
    "SelfSubjectRulesReview",
    "SubjectAccessReview",
    "TokenReview",
];

/// Answers them.
pub struct Reviews {
    rbac: Arc<Rbac>,
    tokens: Arc<Tokens>,
}

impl Reviews {
    /// Lets `registry` ask here for every kind of review.
    pub fn serve(registry: &Registry, rbac: Arc<Rbac>, tokens: Arc<Tokens>) {
        let reviews = Arc::new(Reviews { rbac, tokens });
        for kind in KINDS {
            registry.set_reviewer(kind, Arc::clone(&reviews) as Arc<dyn Reviewer>);
        }
    }

    fn answer(&self, context: &Context, mut review: Object) -> Result<Object> {
        let status = match review.kind() {
            "SelfSubjectReview" => json!({"userInfo": context.asker.to_value()}),
            "TokenReview" => self.token(&review)?,
            "SelfSubjectRulesReview" => self.rules(&context.asker, &review)?,
            "SelfSubjectAccessReview" => self.access(&review, context.asker.clone())?,
            _ => {
                let asker = subject(&review)?;
                self.access(&review, asker)?
            }
        };
        if review.kind() == "SelfSubjectReview" {
            let now = crate::registry::now_text();
            review.metadata_mut().insert("creationTimestamp".to_owned(), now.into());
        }
        review.0.insert("status".to_owned(), status);
        Ok(review)
    }

    fn access(&self, review: &Object, asker: Asker) -> Result<Value> {
        let decision = self.rbac.authorize(&asker, &attributes(review)?);
        let mut status = Map::new();
        status.insert("allowed".to_owned(), decision.is_allowed().into());
        if !decision.reason().is_empty() {
            status.insert("reason".to_owned(), decision.reason().into());
        }
        Ok(Value::Object(status))
    }

    fn rules(&self, asker: &Asker, review: &Object) -> Result<Value> {
        let namespace = review.text(&["spec", "namespace"]);
        if namespace.is_empty() {
            return Err(Status::bad_request("no namespace on request"));
        }
        let (rules, problems) = self.rbac.rules_for(asker, namespace);
        let (of_urls, of_resources): (Vec<_>, Vec<_>) = rules.iter().partition(|rule| !rule.urls.is_empty());
        let told = |rules: Vec<&super::rbac::Rule>| -> Vec<Value> {
            rules.into_iter().map(|rule| rule.to_value()).collect()
        };
        let mut status = json!({
            "resourceRules": told(of_resources),
            "nonResourceRules": told(of_urls),
            "incomplete": false,
        });
        if !problems.is_empty() {
            status["evaluationError"] = problems.join(", ").into();
        }
        Ok(status)
    }

    fn token(&self, review: &Object) -> Result<Value> {
        let token = review.text(&["spec", "token"]);
        if token.is_empty() {
            return Err(Status::bad_request("token is required for TokenReview in authentication"));
        }
        let asked = review.at(&["spec", "audiences"]).and_then(Value::as_array).into_iter().flatten();
        let audiences: Vec<String> =
            asked.filter_map(|audience| audience.as_str().map(str::to_owned)).collect();
        Ok(match self.tokens.verify(token, &audiences) {
            Ok(mut verified) => {
                verified.asker.groups.push(AUTHENTICATED.to_owned());
                json!({"authenticated": true, "user": verified.asker.to_value(), "audiences": verified.audiences})
            }
            // Kubernetes tells the cause of a token that it knows for one of its own.
            Err(cause) if cause.starts_with("service account token") => {
                json!({"user": {}, "error": format!("[invalid bearer token, {cause}]")})
            }
            Err(_) => json!({"user": {}, "error": "invalid bearer token"}),
        })
    }
}

impl Reviewer for Reviews {
    fn review<'a>(&'a self, context: &'a Context, review: Object) -> BoxFuture<'a, Result<Object>> {
        Box::pin(std::future::ready(self.answer(context, review)))
    }
}

/// Who a review is about.
fn subject(review: &Object) -> Result<Asker> {
    let strings = |value: Option<&Value>| -> Vec<String> {
        let list = value.and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let extra = review.at(&["spec", "extra"]).and_then(Value::as_object).into_iter().flatten();
    let asker = Asker {
        user: review.text(&["spec", "user"]).to_owned(),
        groups: strings(review.at(&["spec", "groups"])),
        extra: extra.map(|(key, values)| (key.clone(), strings(Some(values)))).collect(),
        uid: review.text(&["spec", "uid"]).to_owned(),
    };
    if asker.user.is_empty() && asker.groups.is_empty() {
        let path = Path::new("spec").child("user");
        return Err(invalid(
            review,
            FieldError::invalid(&path, "", "at least one of user or group must be specified"),
        ));
    }
    Ok(asker)
}

/// What a review asks for.
fn attributes(review: &Object) -> Result<Attributes> {
    let of = |field: &str| review.at(&["spec", field]).filter(|value| value.is_object());
    let text =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    match (of("resourceAttributes"), of("nonResourceAttributes")) {
        (Some(wanted), None) => {
            let namespace = text(wanted, "namespace");
            if review.kind() == "LocalSubjectAccessReview" && namespace != review.namespace() {
                let path = Path::new("spec").child("resourceAttributes").child("namespace");
                let detail = "must match metadata.namespace";
                return Err(invalid(review, FieldError::invalid(&path, namespace, detail)));
            }
            Ok(Attributes::Resource(ResourceAttributes {
                verb: text(wanted, "verb"),
                group: text(wanted, "group"),
                version: text(wanted, "version"),
                resource: text(wanted, "resource"),
                subresource: text(wanted, "subresource"),
                namespace,
                name: text(wanted, "name"),
            }))
        }
        (None, Some(wanted)) => {
            Ok(Attributes::Path { verb: text(wanted, "verb"), path: text(wanted, "path") })
        }
        (Some(_), Some(wanted)) => {
            let path = Path::new("spec").child("nonResourceAttributes");
            let detail = "cannot be specified in combination with resourceAttributes";
            Err(invalid(review, FieldError::invalid(&path, wanted.clone(), detail)))
        }
        (None, None) => {
            let path = Path::new("spec").child("resourceAttributes");
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            Err(invalid(review, FieldError::invalid(&path, Value::Null, detail)))
        }
    }
}

fn invalid(review: &Object, error: FieldError) -> Status {
    Status::invalid("authorization.k8s.io", review.kind(), "", &FieldErrors::from([error]))
}
