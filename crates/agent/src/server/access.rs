//! Who may ask what of the agent's server, where the certificate alone does not say: the API server is asked, as a kubelet asks it, by a
//! TokenReview and a SubjectAccessReview of `nodes/metrics`, `nodes/stats`, `nodes/proxy`, ... of this node. What it says is known for a
//! while ([`super::reviews`]).

use std::time::Duration;

use client::query;
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::{Method, Request, StatusCode};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::reviews::Asked;
use super::{Reply, text};
use crate::agent::Agent;

/// How long the API server has to say so.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest token, in bytes; those of service accounts have some 1,000.
const TOKEN: usize = 16 << 10;
/// As many are asked about at a time, of those with a token and of those with a certificate: others wait for their turn.
static TURNS: [Semaphore; 2] = [Semaphore::const_new(16), Semaphore::const_new(16)];

/// Whether who asks may; else what is answered. `named` is who the certificate says that it is.
pub(super) async fn check(
    agent: &Agent,
    named: Option<UserInfo>,
    request: &Request<Incoming>,
) -> Result<(), Reply> {
    if named.is_none() && token(request).is_none() {
        return Err(text(StatusCode::UNAUTHORIZED, "Unauthorized"));
    }
    // Who is known does not wait for those who are not.
    match judge(agent, named.as_ref(), request, false).await {
        Err(Stop::Unknown) => {}
        judged => return judged.map_err(Stop::reply),
    }
    let asked = async {
        // What was asked meanwhile, for somebody else who has the same token, is known by then.
        let _turn = TURNS[usize::from(named.is_some())].acquire().await;
        judge(agent, named.as_ref(), request, true).await
    };
    let judged = tokio::time::timeout(PATIENCE, asked).await.unwrap_or(Err(Stop::Unknown));
    judged.map_err(Stop::reply)
}

/// Why somebody may not.
enum Stop {
    /// It is answered so.
    Refused(Reply),
    /// The API server has not said whether.
    Unknown,
}

impl Stop {
    fn reply(self) -> Reply {
        match self {
            Self::Refused(reply) => reply,
            Self::Unknown => {
                let words =
                    format!("the API server has not said in {} s who this is and may", PATIENCE.as_secs());
                text(StatusCode::INTERNAL_SERVER_ERROR, words)
            }
        }
    }
}

/// By what is known, and by what the API server says where it `asks`.
async fn judge(
    agent: &Agent,
    named: Option<&UserInfo>,
    request: &Request<Incoming>,
    asks: bool,
) -> Result<(), Stop> {
    let nobody = || Stop::Refused(text(StatusCode::UNAUTHORIZED, "Unauthorized"));
    let user = match (named, token(request)) {
        (Some(user), _) => user.clone(),
        (None, Some(token)) => of_token(agent, token, asks).await?.ok_or_else(nobody)?,
        (None, None) => return Err(nobody()),
    };
    // As the path is read when it is answered.
    let first = query::unescape(request.uri().path().split('/').nth(1).unwrap_or_default());
    let (verb, subresource) = (verb(request.method(), &first), subresource(&first));
    let mut allowed = allows(agent, &user, verb, subresource, asks).await?;
    // Older roles have all of them in one.
    if !allowed && ["healthz", "pods"].contains(&subresource) {
        allowed = allows(agent, &user, verb, "proxy", asks).await?;
    }
    if allowed {
        return Ok(());
    }
    let (user, node) = (user.username.unwrap_or_default(), &agent.setup.node);
    let attributes = format!("(user={user}, verb={verb}, resource=nodes, subresource(s)=[{subresource}])");
    let words = format!("Forbidden {attributes}: it is asked about node {node}");
    Err(Stop::Refused(text(StatusCode::FORBIDDEN, words)))
}

fn token(request: &Request<Incoming>) -> Option<&str> {
    let (scheme, token) = request.headers().get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && (1..=TOKEN).contains(&token.len())).then_some(token)
}

/// Whose a token is; `None` of one that is nobody's.
async fn of_token(agent: &Agent, token: &str, asks: bool) -> Result<Option<UserInfo>, Stop> {
    match agent.reviews.user(token, Instant::now()) {
        Some(known) => return Ok(known),
        None if !asks => return Err(Stop::Unknown),
        None => {}
    }
    let spec = TokenReviewSpec { token: token.to_owned(), ..TokenReviewSpec::default() };
    let review = TokenReview { spec, ..TokenReview::default() };
    let reviewed = Api::all(agent.client.clone()).create(&PostParams::default(), &review).await;
    let status = reviewed.map_err(|error| unknown(&error))?.status.unwrap_or_default();
    let user = status.user.filter(|_| status.authenticated == Some(true));
    // An error is no word that it is nobody's.
    if user.is_some() || status.error.as_deref().unwrap_or_default().is_empty() {
        agent.reviews.identify(token, user.as_ref(), Instant::now());
    }
    Ok(user)
}

async fn allows(
    agent: &Agent,
    user: &UserInfo,
    verb: &str,
    subresource: &str,
    asks: bool,
) -> Result<bool, Stop> {
    let asked = Asked::new(user, verb, subresource);
    match agent.reviews.may(asked, Instant::now()) {
        Some(known) => return Ok(known),
        None if !asks => return Err(Stop::Unknown),
        None => {}
    }
    let attributes = ResourceAttributes {
        verb: Some(verb.into()),
        version: Some("v1".into()),
        resource: Some("nodes".into()),
        subresource: Some(subresource.into()),
        name: Some(agent.setup.node.clone()),
        ..ResourceAttributes::default()
    };
    let spec = SubjectAccessReviewSpec {
        user: user.username.clone(),
        groups: user.groups.clone(),
        uid: user.uid.clone(),
        extra: user.extra.clone(),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let reviewed = Api::all(agent.client.clone()).create(&PostParams::default(), &review).await;
    let status = reviewed.map_err(|error| unknown(&error))?.status.unwrap_or_default();
    if status.allowed || status.evaluation_error.as_deref().unwrap_or_default().is_empty() {
        agent.reviews.judge(asked, status.allowed, Instant::now());
    }
    Ok(status.allowed)
}

/// It is not known whether somebody may: that is no yes.
fn unknown(error: &kube::Error) -> Stop {
    let why = client::causes(error);
    let words = format!("cannot ask the API server who this is and may: {why}");
    Stop::Refused(text(StatusCode::INTERNAL_SERVER_ERROR, words))
}

/// What is asked, as roles name it. Streams begin with GET as well, over WebSocket: who may only read must not run programs by them.
fn verb(method: &Method, first: &str) -> &'static str {
    match *method {
        _ if ["exec", "attach", "portForward"].contains(&first) => "create",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// Of what of the node it is asked: what is not named is `proxy`.
fn subresource(first: &str) -> &'static str {
    match first {
        "metrics" => "metrics",
        "stats" => "stats",
        "healthz" => "healthz",
        "pods" => "pods",
        _ => "proxy",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_named_as_roles_name_them() {
        for (method, first, wanted) in [
            (Method::GET, "metrics", ("get", "metrics")),
            (Method::GET, "stats", ("get", "stats")),
            (Method::GET, "pods", ("get", "pods")),
            (Method::GET, "metricsx", ("get", "proxy")),
            (Method::GET, "containerLogs", ("get", "proxy")),
            (Method::GET, "exec", ("create", "proxy")),
            (Method::POST, "portForward", ("create", "proxy")),
            (Method::HEAD, "", ("get", "proxy")),
        ] {
            assert_eq!((verb(&method, first), subresource(first)), wanted, "{method} /{first}");
        }
    }
}
