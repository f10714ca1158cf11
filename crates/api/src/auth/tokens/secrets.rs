//! Secrets of type `kubernetes.io/service-account-token`: filled with a token, and gone with their account.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::Tokens;
use crate::contract::{Object, Result, Status};
use crate::registry::options::{DeleteOptions, Preconditions};
use crate::registry::{Body, Context, Registry, Target, View};
use crate::resource::{Part, Resource};
use crate::store::{Error, Kind, Scope};

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// How long to wait after a failure.
const AGAIN: Duration = Duration::from_secs(1);

/// Fills such secrets as they come, and deletes those whose account is gone. `authority` is the certificate that clients
/// trust. Runs until it is dropped.
pub(crate) async fn run(registry: Registry, tokens: Arc<Tokens>, authority: String) {
    loop {
        match follow(&registry, &tokens, &authority).await {
            Error::Closed => return,
            error => eprintln!("sextant api: warning: cannot follow secrets of service accounts: {error}"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Looks at all secrets, and then at what changes, until the store fails.
async fn follow(registry: &Registry, tokens: &Tokens, authority: &str) -> Error {
    let scope = |resource: &str| Scope { resource: resource.to_owned(), namespace: None };
    let page = match registry.store().list(&scope("secrets"), None, None, None) {
        Ok(page) => page,
        Err(error) => return error,
    };
    for stored in &page.items {
        look(registry, tokens, authority, &stored.json).await;
    }
    drop(page.items);
    let watch = |resource| registry.store().watch(scope(resource), page.revision).map_err(Box::new);
    let (mut secrets, mut accounts) = match (watch("secrets"), watch("serviceaccounts")) {
        (Ok(secrets), Ok(accounts)) => (secrets, accounts),
        (Err(error), _) | (_, Err(error)) => return *error,
    };
    loop {
        let event = tokio::select! {
            event = secrets.next() => event,
            event = accounts.next() => event,
        };
        let event = match event {
            Ok(event) => event,
            Err(error) => return error,
        };
        match (event.key.resource.as_str(), event.kind) {
            ("secrets", Kind::Put) => look(registry, tokens, authority, &event.json).await,
            // The secrets of an account that is gone go too.
            ("serviceaccounts", Kind::Delete) => {
                let of = Scope { namespace: Some(event.key.namespace.clone()), ..scope("secrets") };
                match registry.store().list(&of, None, None, None) {
                    Ok(page) => {
                        for stored in &page.items {
                            look(registry, tokens, authority, &stored.json).await;
                        }
                    }
                    Err(error) => return error,
                }
            }
            _ => {}
        }
    }
}

async fn look(registry: &Registry, tokens: &Tokens, authority: &str, json: &[u8]) {
    // Most secrets are none of these: they are not parsed.
    if !json.windows(TYPE.len()).any(|bytes| bytes == TYPE.as_bytes()) {
        return;
    }
    let Some(secret) = serde_json::from_slice(json).ok().map(Object) else { return };
    if secret.text(&["type"]) != TYPE || secret.is_terminating() {
        return;
    }
    if let Err(status) = settle(registry, tokens, authority, &secret).await
        && !matches!(status.code, 404 | 409)
    {
        eprintln!(
            "sextant api: warning: cannot fill the secret {}/{}: {status}",
            secret.namespace(),
            secret.name()
        );
    }
}

async fn settle(registry: &Registry, tokens: &Tokens, authority: &str, secret: &Object) -> Result<()> {
    let annotation = |name: &str| {
        secret.strings("annotations").and_then(|all| all.get(name)?.as_str()).unwrap_or_default()
    };
    let (name, uid) = (annotation(ACCOUNT_NAME), annotation(ACCOUNT_UID));
    let resource = secrets(registry)?;
    let target =
        Target { resource, namespace: secret.namespace().to_owned(), name: secret.name().to_owned() };
    let context = Context::of_system("tokens-controller");
    let account = registry.peek("serviceaccounts", secret.namespace(), name)?;
    let account = account.filter(|account| uid.is_empty() || account.uid() == uid);
    let Some(account) = account else {
        let preconditions = Preconditions { uid: Some(secret.uid().to_owned()), version: None };
        let options = DeleteOptions { preconditions, ..DeleteOptions::default() };
        return registry.delete(&context, &target, &options, View::Full).await.map(drop);
    };
    if !secret.text(&["data", "token"]).is_empty() && !uid.is_empty() {
        return Ok(());
    }
    let token = tokens.issue_for_secret(secret.namespace(), secret.name(), name, account.uid());
    let token = token.ok_or_else(|| Status::internal("cannot sign the token: the key does not sign"))?;
    let mut filled = secret.clone();
    let data = filled.make(&["data"]);
    data.insert("token".to_owned(), STANDARD.encode(token).into());
    data.entry("ca.crt").or_insert_with(|| STANDARD.encode(authority).into());
    data.entry("namespace").or_insert_with(|| STANDARD.encode(secret.namespace()).into());
    filled.make(&["metadata", "annotations"]).insert(ACCOUNT_UID.to_owned(), json!(account.uid()));
    registry.update(&context, &target, Part::Main, Body::Object(filled), View::Full).await.map(drop)
}

fn secrets(registry: &Registry) -> Result<Arc<Resource>> {
    let found = registry.resources().find("", "v1", "secrets");
    found.ok_or_else(|| Status::internal("there is no resource of secrets"))
}
