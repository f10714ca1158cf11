//! What makes a token good: its signature, its time, its audience, and that what it is bound to is still there.

use base64::Engine as _;
use serde_json::Value;

use super::super::access::service_account_groups;
use super::{Tokens, Verified};
use crate::contract::Object;
use crate::resource::Asker;
use crate::store::Key;

/// The issuer of tokens in secrets.
pub(super) const LEGACY: &str = "kubernetes/serviceaccount";

/// How far clocks may differ, in seconds.
const LEEWAY: i64 = 10;

impl Tokens {
    /// Whom a token stands for, if it is meant for one of `audiences` (of none: for this server).
    ///
    /// # Errors
    /// Why it is no good, for those who may ask.
    pub fn verify(&self, token: &str, audiences: &[String]) -> Result<Verified, String> {
        let claims = self.key.verify(token).ok_or("the token is not signed by this server")?;
        let audiences = if audiences.is_empty() { &self.audiences } else { audiences };
        match text(&claims, "iss") {
            LEGACY => self.verify_legacy(token, &claims, audiences),
            issuer if issuer == self.issuer => self.verify_bound(&claims, audiences),
            _ => Err("the token has another issuer".to_owned()),
        }
    }

    fn verify_bound(&self, claims: &Value, audiences: &[String]) -> Result<Verified, String> {
        let now = jiff::Timestamp::now().as_second();
        let time = |name: &str| claims.get(name).and_then(Value::as_i64);
        if time("exp").is_none_or(|end| now >= end + LEEWAY) {
            return Err("service account token has expired".to_owned());
        }
        if time("nbf").is_none_or(|begin| now < begin - LEEWAY) {
            return Err("service account token is not valid yet".to_owned());
        }
        let meant: Vec<&str> = claims
            .get("aud")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let both: Vec<String> =
            audiences.iter().filter(|name| meant.contains(&name.as_str())).cloned().collect();
        if both.is_empty() {
            return Err(format!(
                "token audiences {meant:?} is invalid for the target audiences {audiences:?}"
            ));
        }
        let private = claims.get("kubernetes.io").ok_or("the token names no service account")?;
        let namespace = text(private, "namespace");
        let account = private.get("serviceaccount").ok_or("the token names no service account")?;
        self.check("serviceaccounts", namespace, account, "service account")?;
        for (claim, resource, namespace) in [("pod", "pods", namespace), ("secret", "secrets", namespace)] {
            if let Some(bound) = private.get(claim) {
                self.check(resource, namespace, bound, claim)?;
            }
        }
        // The node of a pod only informs; a token that is bound to a node alone ends with it.
        if let Some(node) = private.get("node").filter(|_| private.get("pod").is_none()) {
            self.check("nodes", "", node, "node")?;
        }
        let mut asker = account_of(namespace, text(account, "name"), text(account, "uid"));
        asker.extra = extra(claims, private);
        Ok(Verified { asker, audiences: both })
    }

    fn verify_legacy(&self, token: &str, claims: &Value, audiences: &[String]) -> Result<Verified, String> {
        let claim = |name: &str| text(claims, &format!("kubernetes.io/serviceaccount/{name}")).to_owned();
        let (namespace, secret) = (claim("namespace"), claim("secret.name"));
        let (name, uid) = (claim("service-account.name"), claim("service-account.uid"));
        let kept = self.find("secrets", &namespace, &secret)?.ok_or("the token's secret is gone")?;
        let data = base64::engine::general_purpose::STANDARD.decode(kept.text(&["data", "token"]));
        if kept.is_terminating() || data.ok().as_deref() != Some(token.as_bytes()) {
            return Err("the token is not the one in its secret".to_owned());
        }
        let account = serde_json::json!({"name": name, "uid": uid});
        self.check("serviceaccounts", &namespace, &account, "service account")?;
        let both: Vec<String> =
            audiences.iter().filter(|name| self.audiences.contains(name)).cloned().collect();
        if both.is_empty() {
            return Err("the token is only for this server".to_owned());
        }
        Ok(Verified { asker: account_of(&namespace, &name, &uid), audiences: both })
    }

    /// That what a claim names is there, and still the same.
    fn check(&self, resource: &str, namespace: &str, claim: &Value, what: &str) -> Result<(), String> {
        let (name, uid) = (text(claim, "name"), text(claim, "uid"));
        let found = self.find(resource, namespace, name)?;
        match found {
            None => Err(format!("the token's {what} {name:?} is gone")),
            Some(found) if found.uid() != uid => Err(format!(
                "the token's {what} {name:?} (uid {uid:?}) is another now (uid {:?})",
                found.uid()
            )),
            Some(_) => Ok(()),
        }
    }

    pub(super) fn find(&self, resource: &str, namespace: &str, name: &str) -> Result<Option<Object>, String> {
        let key =
            Key { resource: resource.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() };
        let Some(stored) = self.store.get(&key).map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        serde_json::from_slice(&stored.json).map(|map| Some(Object(map))).map_err(|error| error.to_string())
    }
}

fn account_of(namespace: &str, name: &str, uid: &str) -> Asker {
    Asker {
        user: format!("system:serviceaccount:{namespace}:{name}"),
        groups: service_account_groups(namespace),
        extra: Vec::new(),
        uid: uid.to_owned(),
    }
}

fn extra(claims: &Value, private: &Value) -> Vec<(String, Vec<String>)> {
    let mut extra = Vec::new();
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            extra.push((format!("authentication.kubernetes.io/{name}"), vec![value.to_owned()]));
        }
    };
    let id = text(claims, "jti");
    if !id.is_empty() {
        add("credential-id", &format!("JTI={id}"));
    }
    for kind in ["node", "pod"] {
        if let Some(bound) = private.get(kind) {
            add(&format!("{kind}-name"), text(bound, "name"));
            add(&format!("{kind}-uid"), text(bound, "uid"));
        }
    }
    extra
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}
