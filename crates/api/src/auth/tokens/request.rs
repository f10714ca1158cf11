//! `serviceaccounts/token`: a TokenRequest and its answer.

use serde_json::{Value, json};

use super::{Bound, Grant, Tokens};
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, Result, Status};
use crate::registry::{BoxFuture, Context, TokenIssuer};

/// Seconds of a token whose request says nothing.
const SECONDS: i64 = 3600;
/// The shortest that may be asked for.
const SECONDS_MIN: i64 = 600;
/// The longest.
const SECONDS_MAX: i64 = 1 << 32;

impl TokenIssuer for Tokens {
    fn issue<'a>(
        &'a self,
        context: &'a Context,
        account: &'a Object,
        request: Object,
    ) -> BoxFuture<'a, Result<Object>> {
        Box::pin(async move { self.answer(context, account, request) })
    }
}

impl Tokens {
    fn answer(&self, context: &Context, account: &Object, mut request: Object) -> Result<Object> {
        let spec = request.make(&["spec"]);
        let has_audiences =
            spec.get("audiences").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
        if !has_audiences {
            spec.insert("audiences".to_owned(), self.audiences.clone().into());
        }
        if spec.get("expirationSeconds").and_then(Value::as_i64).is_none() {
            spec.insert("expirationSeconds".to_owned(), SECONDS.into());
        }
        let seconds = spec.get("expirationSeconds").and_then(Value::as_i64).unwrap_or(SECONDS);
        check(seconds)?;
        let audiences: Vec<String> = request
            .at(&["spec", "audiences"])
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|audience| audience.as_str().map(str::to_owned))
            .collect();
        let (bound, node) = self.bound(account, &request)?;
        let grant = Grant {
            namespace: account.namespace(),
            account: account.name(),
            uid: account.uid(),
            audiences: &audiences,
            bound: bound.as_ref(),
            node: node.as_ref(),
            seconds,
        };
        let status = if context.dry_run {
            json!({"token": "", "expirationTimestamp": Value::Null})
        } else {
            let (token, end) = Tokens::issue(self, &grant)
                .ok_or_else(|| Status::internal("cannot sign the token: the key does not sign"))?;
            let end = jiff::Timestamp::from_second(end).map_err(Status::internal)?;
            json!({"token": token, "expirationTimestamp": end.to_string()})
        };
        let metadata = request.metadata_mut();
        metadata.insert("name".to_owned(), account.name().into());
        metadata.insert("namespace".to_owned(), account.namespace().into());
        metadata.insert("uid".to_owned(), account.uid().into());
        metadata.insert("creationTimestamp".to_owned(), crate::registry::now_text().into());
        request.0.insert("status".to_owned(), status);
        Ok(request)
    }

    /// What the token is bound to, and of a pod its node.
    fn bound(&self, account: &Object, request: &Object) -> Result<(Option<Bound>, Option<Bound>)> {
        let Some(asked) = request.at(&["spec", "boundObjectRef"]).filter(|asked| asked.is_object()) else {
            return Ok((None, None));
        };
        let text = |name: &str| asked.get(name).and_then(Value::as_str).unwrap_or_default();
        let (kind, name, uid, version) = (text("kind"), text("name"), text("uid"), text("apiVersion"));
        let (resource, namespace) = match (version, kind) {
            ("v1", "Pod") => ("pods", account.namespace()),
            ("v1", "Secret") => ("secrets", account.namespace()),
            ("v1", "Node") => ("nodes", ""),
            _ => {
                let group_kind = match version.split_once('/') {
                    Some((group, version)) => format!("{group}/{version}, Kind={kind}"),
                    None => format!("/{version}, Kind={kind}"),
                };
                return Err(Status::bad_request(format!("cannot bind token to object of type {group_kind}")));
            }
        };
        let found = self.find(resource, namespace, name).map_err(Status::internal)?;
        let Some(found) = found else {
            return Err(Status::not_found("", resource, name));
        };
        if kind == "Pod" && found.text(&["spec", "serviceAccountName"]) != account.name() {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                account.name()
            )));
        }
        if !uid.is_empty() && uid != found.uid() {
            let cause = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
                 been deleted and then recreated"
            );
            return Err(Status::conflict("", kind, name, &cause));
        }
        let of = |kind: &str, object: &Object| Bound {
            kind: kind.to_owned(),
            name: object.name().to_owned(),
            uid: object.uid().to_owned(),
        };
        let node = match found.text(&["spec", "nodeName"]) {
            "" => None,
            _ if kind != "Pod" => None,
            node => self.find("nodes", "", node).map_err(Status::internal)?.map(|node| of("Node", &node)),
        };
        Ok((Some(of(kind, &found)), node))
    }
}

fn check(seconds: i64) -> Result<()> {
    let path = Path::new("spec").child("expirationSeconds");
    let mut errors = FieldErrors::new();
    if seconds < SECONDS_MIN {
        errors.push(FieldError::invalid(&path, seconds, "may not specify a duration less than 10 minutes"));
    }
    if seconds > SECONDS_MAX {
        errors.push(FieldError::invalid(
            &path,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        ));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", &errors))
}
