//! Who calls: root, over a socket that nobody else may connect to, or who shows a token that the API server knows.
//!
//! A node's proxy is believed to be the service account that it runs as, in a pod of the node that it names. Any pod can have a token of its own account for any
//! audience; so it is the account that matters, and the node is what the API server says of the token.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use grpc::{Code, Status};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use kube::Client;
use kube::api::{Api, PostParams};
use meshwire::contract::AUDIENCE;
use sha2::{Digest as _, Sha256};
use smi::contract::Name;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// The API server is asked about so many tokens at a time.
const ASKED: usize = 16;
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it is known whose a token is.
const KNOWN: Duration = Duration::from_mins(1);
/// Of so many.
const MOST: usize = 4096;
/// Where the API server says on which node a token's pod is.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const NODES: &str = "system:nodes";

/// Whom calls are taken from.
pub(super) enum Callers {
    /// From whoever can connect.
    Root,
    /// From nodes that show who they are.
    Tokens(Box<Tokens>),
}

/// What is known of tokens.
pub(super) struct Tokens {
    client: Client,
    /// Those whose tokens are a proxy's.
    accounts: Vec<Name>,
    asking: Semaphore,
    /// By the token's digest: its node, and until when that is known.
    known: Mutex<HashMap<[u8; 32], (String, Instant)>>,
}

impl Tokens {
    pub(super) fn new(client: &Client, accounts: Vec<Name>) -> Self {
        Self { client: client.clone(), accounts, asking: Semaphore::new(ASKED), known: Mutex::default() }
    }

    /// The node whose proxy has this token.
    async fn node(&self, token: &str) -> Result<String, Status> {
        if token.is_empty() {
            return Err(Status::new(
                Code::Unauthenticated,
                "no token: a node shows one for the audience mesh.sextant.dev",
            ));
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        let now = Instant::now();
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((node, until)) = known().get(&digest)
            && now < *until
        {
            return Ok(node.clone());
        }
        let status = self.review(token).await?;
        let node = whose(&status, &self.accounts)?;
        let mut known = known();
        if known.len() >= MOST {
            known.retain(|_, (_, until)| now < *until);
        }
        // Above the number each is asked about each time.
        if known.len() < MOST {
            known.insert(digest, (node.clone(), now + KNOWN));
        }
        Ok(node)
    }

    async fn review(&self, token: &str) -> Result<TokenReviewStatus, Status> {
        let unavailable =
            |why: String| Status::new(Code::Unavailable, format!("cannot review the token: {why}"));
        let _permit = self.asking.acquire().await.map_err(|error| unavailable(error.to_string()))?;
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: Some(vec![AUDIENCE.to_owned()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let params = PostParams::default();
        match timeout(PATIENCE, reviews.create(&params, &review)).await {
            Ok(Ok(review)) => Ok(review.status.unwrap_or_default()),
            Ok(Err(error)) => Err(unavailable(client::causes(&error))),
            Err(_) => {
                Err(unavailable(format!("the API server has not answered for {} s", PATIENCE.as_secs())))
            }
        }
    }
}

impl Callers {
    /// Whether who shows this token speaks for this node.
    pub(super) async fn admit(&self, node: &str, token: &str) -> Result<(), Status> {
        let Self::Tokens(tokens) = self else { return Ok(()) };
        let own = tokens.node(token).await?;
        if own == node {
            return Ok(());
        }
        Err(Status::new(Code::PermissionDenied, format!("the token is node {own}'s, and not {node}'s")))
    }

    /// Whether who was admitted has to show who it is now and then.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self, Self::Tokens(_))
    }
}

/// The node of which a review says that the token is its proxy's.
fn whose(status: &TokenReviewStatus, accounts: &[Name]) -> Result<String, Status> {
    let unauthenticated =
        |why: &str| Err(Status::new(Code::Unauthenticated, format!("the token is not good: {why}")));
    if status.authenticated != Some(true) {
        return unauthenticated(status.error.as_deref().unwrap_or("the API server does not know it"));
    }
    // A server that knows nothing of audiences would say yes to any token.
    if !status.audiences.iter().flatten().any(|audience| audience == AUDIENCE) {
        return unauthenticated("it is not for the audience mesh.sextant.dev");
    }
    let user = status.user.clone().unwrap_or_default();
    node_of(&user, accounts).map_err(|why| Status::new(Code::PermissionDenied, why))
}

fn node_of(user: &UserInfo, accounts: &[Name]) -> Result<String, String> {
    let name = user.username.as_deref().unwrap_or_default();
    let is_node = user.groups.iter().flatten().any(|group| group == NODES);
    if let Some(node) = name.strip_prefix("system:node:").filter(|node| is_node && !node.is_empty()) {
        return Ok(node.to_owned());
    }
    let account = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    let is_proxy = account.is_some_and(|(namespace, account)| {
        accounts.iter().any(|one| one.namespace == namespace && one.name == account)
    });
    if !is_proxy {
        let those: Vec<String> = accounts.iter().map(ToString::to_string).collect();
        return Err(format!(
            "{name} is no proxy of the mesh: those are the service accounts {}",
            those.join(", ")
        ));
    }
    let told = user.extra.as_ref().and_then(|extra| extra.get(NODE_NAME));
    match told.map(Vec::as_slice) {
        Some([node]) if !node.is_empty() => Ok(node.clone()),
        _ => Err(format!(
            "the token of {name} is bound to no node: it must be a projected token of a pod, of a cluster that says {NODE_NAME} (Kubernetes 1.30)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn reviewed(status: Value) -> Result<String, (Code, String)> {
        let status = serde_json::from_value(status).unwrap();
        whose(&status, &[Name::new("kube-system", "sextant-mesh")])
            .map_err(|status| (status.code, status.message))
    }

    fn good() -> Value {
        json!({"authenticated": true, "audiences": ["mesh.sextant.dev"], "user": {
            "username": "system:serviceaccount:kube-system:sextant-mesh",
            "groups": ["system:serviceaccounts"],
            "extra": {"authentication.kubernetes.io/node-name": ["node-1"]}}})
    }

    #[test]
    fn a_proxys_token_is_its_nodes() {
        assert_eq!(reviewed(good()), Ok("node-1".into()));
        let node = json!({"username": "system:node:node-2", "groups": ["system:nodes"]});
        let status = json!({"authenticated": true, "audiences": ["mesh.sextant.dev"], "user": node});
        assert_eq!(reviewed(status), Ok("node-2".into()));
    }

    #[test]
    fn no_other_token_is() {
        let other = |at: &str, value: Value| {
            let mut status = good();
            *status.pointer_mut(at).unwrap() = value;
            reviewed(status).unwrap_err()
        };
        for (at, value, code, says) in [
            ("/authenticated", json!(false), Code::Unauthenticated, "does not know it"),
            ("/audiences", json!([]), Code::Unauthenticated, "audience"),
            ("/audiences", json!(["https://kubernetes.default.svc"]), Code::Unauthenticated, "audience"),
            // Any pod has a token of its own account, for whatever audience it wants, and on its node.
            ("/user/username", json!("system:serviceaccount:shop:web"), Code::PermissionDenied, "no proxy"),
            (
                "/user/username",
                json!("system:serviceaccount:shop:sextant-mesh"),
                Code::PermissionDenied,
                "no proxy",
            ),
            ("/user/username", json!("sextant-mesh"), Code::PermissionDenied, "no proxy"),
            // A name alone makes no node.
            ("/user/username", json!("system:node:node-1"), Code::PermissionDenied, "no proxy"),
            ("/user/extra", json!({}), Code::PermissionDenied, "bound to no node"),
            (
                "/user/extra",
                json!({"authentication.kubernetes.io/node-name": ["a", "b"]}),
                Code::PermissionDenied,
                "no node",
            ),
        ] {
            let (its, text) = other(at, value);
            assert!(its == code && text.contains(says), "{at}: {its:?} {text}");
        }
    }
}
