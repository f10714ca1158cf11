//! The way of a request: who asks, whether they may, who answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::request::Parts;
use http::{HeaderValue, Method, Version};
use hyper::Request;
use hyper::body::Incoming;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::answer::{self, Response, Style};
use super::body::{self, Body};
use super::budget::{self, Budget, Held};
use super::guard::guarded;
use super::hooks::Node;
use super::media::{self, As};
use super::metrics::Metrics;
use super::outcome::{Outcome, Waiting};
use super::path::Meaning;
use super::request::{Call, Content, Verb, method_not_allowed, no_such_resource};
use super::{aggregated, collection, discovery, health, object, openapi, pod, version};
use crate::aggregation::Entry;
use crate::auth::Access;
use crate::auth::audit::{self, Audit};
use crate::auth::certificate::Certified;
use crate::contract::{Details, Reason, Result, Status};
use crate::registry::{Registry, Resources};
use crate::resource::Resource;
use crate::store::Scope;

/// Bodies and answers are large from so many bytes on.
pub(super) const LARGE: usize = 64 * 1024;

/// How long what is no stream may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What answers requests.
pub struct Api {
    pub(super) registry: Registry,
    pub(super) access: Arc<Access>,
    pub(super) node: Option<Arc<dyn Node>>,
    pub(super) audit: Option<Audit>,
    pub(super) metrics: Metrics,
    pub(super) openapi: openapi::Cache,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) reads: Semaphore,
    pub(super) writes: Arc<Semaphore>,
    /// Bodies from their first byte to their answer.
    pub(super) bodies: Arc<Budget>,
    /// KiB of large bodies that are worked on.
    pub(super) large: Semaphore,
    /// Large answers until they have been taken.
    pub(super) answers: Arc<Budget>,
}

/// A request that may be carried out.
struct Asked {
    call: Call,
    resource: Option<Arc<Resource>>,
    resources: Arc<Resources>,
    server: SocketAddr,
}

/// From where a request comes.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) server: SocketAddr,
    /// Who the client's certificate says it is.
    pub(crate) certified: Option<Certified>,
}

impl Api {
    /// Answers a request.
    pub(crate) async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: Arc<Peer>) -> Response {
        let is_head = request.method() == Method::HEAD;
        let told = format!("{} {}", request.method(), request.uri().path());
        let id = audit::id(request.headers());
        let (parts, content) = request.into_parts();
        let record = self.audit.as_ref().map(|_| audit::Record::begin(&parts, &id, peer.address));
        let outcome = Outcome::new(&self, record);
        let waiting = Waiting(Arc::clone(&outcome));
        let answering = guarded(self.identified(parts, content, &peer, &outcome)).await;
        let mut response = answering.unwrap_or_else(|panicked| Style::PLAIN.status(&panicked.told(&told)));
        outcome.answered(&response);
        drop(waiting);
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert("audit-id", id);
        }
        if is_head {
            let length = http_body::Body::size_hint(response.body()).exact();
            *response.body_mut() = Body::empty();
            if let Some(length) = length {
                response.headers_mut().insert(CONTENT_LENGTH, length.into());
            }
        }
        response
    }

    async fn identified(
        self: &Arc<Self>,
        parts: Parts,
        content: Incoming,
        peer: &Peer,
        outcome: &Arc<Outcome>,
    ) -> Response {
        let (is_two, waits) = (parts.version == Version::HTTP_2, parts.headers.contains_key(EXPECT));
        let mut content = Some(content);
        let style = Style::of_refusals(&parts);
        let response = match self.attended(parts, &mut content, peer, outcome).await {
            Ok(response) => response,
            Err(refused) => refused.answer(style),
        };
        // Who is still sending would lose the answer; over HTTP/1.1 hyper sees to it.
        if let Some(unread) = content.filter(|_| is_two && !waits) {
            body::pass_over(unread).await;
        }
        response
    }

    async fn attended(
        self: &Arc<Self>,
        parts: Parts,
        content: &mut Option<Incoming>,
        peer: &Peer,
        outcome: &Arc<Outcome>,
    ) -> std::result::Result<Response, Refused> {
        let certified = peer.certified.as_ref().map(Certified::asker).transpose()?;
        let asker = self.access.authenticate(&parts.headers, certified)?;
        outcome.learn(|record| record.of(&asker, None));
        let (asker, real) = self.access.impersonate(asker, &parts.headers)?;
        outcome.learn(|record| record.of(&asker, real.as_ref()));
        let call = Call::read(parts, asker)?;
        let (style, held) = (call.refusal_style(), self.answers.of(&call.asker.user));
        let attributes = call.attributes();
        let resources = self.registry.resources();
        let resource = find(&call, &resources);
        outcome.is_about(attributes.clone(), call.counted(resource.is_some()));
        let decision = self.access.authorizer.authorize(&call.asker, &attributes);
        outcome.learn(|record| record.decided(&attributes, &decision));
        let asked = Asked { call, resource, resources, server: peer.server };
        let response = if decision.is_allowed() {
            self.limited(asked, content, outcome).await
        } else {
            Err(attributes.forbidden(&asked.call.asker, decision.reason()))
        };
        response.map_err(|status| Refused { status, known: Some((style, held)) })
    }

    /// Holds what is no stream to its number and its time.
    async fn limited(
        self: &Arc<Self>,
        mut asked: Asked,
        content: &mut Option<Incoming>,
        outcome: &Arc<Outcome>,
    ) -> Result<Response> {
        let is_upgrade_of_others = self.of_others(&asked.call).is_some()
            && aggregated::wants_upgrade(asked.call.headers()).is_some();
        if asked.call.is_long_running() || is_upgrade_of_others {
            if let Some(coming) = content.take() {
                asked.call.body = Content::Coming(coming);
            }
            return self.routed(asked).await;
        }
        let patience = patience(&asked.call)?;
        if matches!(asked.call.parts.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return self.read(asked, patience).await;
        }
        let deadline = Instant::now() + patience;
        let mut held = self.bodies.of(&asked.call.asker.user);
        if let Some(coming) = content {
            let read = tokio::time::timeout_at(deadline, body::read(coming, &mut held)).await;
            let read = read.unwrap_or_else(|_| Err(late()));
            // Refused, what is still to come stays: it is passed over.
            asked.call.body = Content::Come(read.inspect_err(|refused| self.turned_away(refused))?);
            *content = None;
        }
        let mut waits = self.answers.of(&asked.call.asker.user);
        let place = Arc::clone(&self.writes).try_acquire_owned();
        let place = place.map_err(|_| budget::too_many()).inspect_err(|refused| self.turned_away(refused))?;
        // A change that has begun is carried to its end, also when its client goes.
        outcome.is_carried();
        let (api, outcome) = (Arc::clone(self), Arc::clone(outcome));
        let task = tokio::spawn(async move {
            let answer = api.write(asked, deadline).await;
            match &answer {
                Ok(response) => outcome.answered(response),
                Err(refused) => outcome.over(Some(refused.code)),
            }
            drop((place, held));
            answer
        });
        let mut response = match tokio::time::timeout_at(deadline, task).await {
            Ok(Ok(answer)) => answer?,
            Ok(Err(error)) => return Err(Status::internal(error)),
            Err(_) => return Err(late()),
        };
        if response.body().is_to_count() {
            // The change is done, so it is counted whether there is room or not: who reads next is turned away.
            waits.take(response.body().holds());
            response.body_mut().keep(waits);
        }
        Ok(response)
    }

    async fn read(self: &Arc<Self>, asked: Asked, patience: Duration) -> Result<Response> {
        let place = self.reads.try_acquire();
        let _place =
            place.map_err(|_| budget::too_many()).inspect_err(|refused| self.turned_away(refused))?;
        let mut held = self.answers.of(&asked.call.asker.user);
        let is_heavy = asked.call.refusal_style().form == media::Form::Yaml;
        let answer = self.routed(asked);
        let answer =
            async { if is_heavy { self.registry.lanes().stepping(answer).await } else { answer.await } };
        let mut response = tokio::time::timeout(patience, answer).await.unwrap_or_else(|_| Err(late()))?;
        if response.body().is_to_count() {
            held.more(response.body().holds()).inspect_err(|refused| self.turned_away(refused))?;
            response.body_mut().keep(held);
        }
        Ok(response)
    }

    /// Carries out a change. What is large has fewer places, and its work is done beside everything else.
    ///
    /// What is handed on is the work of another, which may never answer: nobody here waits for it longer than the client.
    async fn write(self: &Arc<Self>, asked: Asked, deadline: Instant) -> Result<Response> {
        let told = format!("{} {}", asked.call.parts.method, asked.call.parts.uri.path());
        let length = asked.call.body.len();
        let is_of_many = asked.call.verb() == Some(Verb::DeleteCollection);
        let is_handed_on = self.of_others(&asked.call).is_some_and(|entry| entry.is_of_service());
        let answer = if is_handed_on {
            let answer = tokio::time::timeout_at(deadline, guarded(self.routed(asked))).await;
            answer.unwrap_or_else(|_| Ok(Err(late())))
        } else if length > LARGE || is_of_many {
            let kib = u32::try_from(length.div_ceil(1024)).unwrap_or(u32::MAX);
            let place = tokio::time::timeout_at(deadline, self.large.acquire_many(kib)).await;
            let _place = place.map_err(|_| late())?;
            guarded(self.registry.lanes().stepping(self.routed(asked))).await
        } else {
            guarded(self.routed(asked)).await
        };
        answer.unwrap_or_else(|panicked| Err(panicked.told(&told)))
    }

    /// Counts who is told to come again.
    fn turned_away(&self, refused: &Status) {
        if refused.code == 429 {
            self.metrics.turned_away();
        }
    }

    async fn routed(&self, asked: Asked) -> Result<Response> {
        let Asked { call, resource, resources, server } = asked;
        let resources = &*resources;
        if let Some(entry) = self.of_others(&call) {
            return aggregated::answer(self, call, &entry).await;
        }
        match &call.meaning {
            Meaning::Other => self.other(call).await,
            Meaning::Legacy | Meaning::Groups | Meaning::Group(_) | Meaning::Version(..) => {
                self.discovery(&call, resources, server)
            }
            Meaning::Resource(path) => {
                let path = path.clone();
                let Some(resource) = resource else { return nothing(&path.group, resources) };
                // A namespace is within itself, and no other is within it: roles of the one say nothing of the other.
                let is_itself = path.resource == "namespaces" && path.namespace == path.name;
                let is_of_namespace = !path.namespace.is_empty() && !is_itself;
                let lacks_namespace = resource.namespaced && path.namespace.is_empty();
                if is_of_namespace != resource.namespaced && !(lacks_namespace && path.name.is_empty()) {
                    return Err(no_such_resource());
                }
                let verb = call.verb().ok_or_else(method_not_allowed)?;
                let warning = resource.strategy.deprecation().map(str::to_owned);
                let answer = match (path.subresource.as_str(), path.name.is_empty()) {
                    ("log" | "exec" | "attach" | "portforward", false) if pod::is(&resource) => {
                        pod::answer(self, call, resource, &path, verb).await
                    }
                    (_, true) => collection::answer(self, call, resource, &path, verb).await,
                    (_, false) => object::answer(self, call, resource, &path, verb).await,
                };
                answer.map(|mut response| {
                    answer::warn(&mut response, warning.as_slice());
                    response
                })
            }
        }
    }

    /// Who else serves the group version of a call.
    fn of_others(&self, call: &Call) -> Option<Arc<Entry>> {
        let (group, version) = call.group_version()?;
        self.registry.aggregation().find(group, version)
    }

    fn discovery(&self, call: &Call, resources: &Resources, server: SocketAddr) -> Result<Response> {
        if !matches!(call.parts.method, Method::GET | Method::HEAD) {
            return Err(method_not_allowed());
        }
        let is_root = matches!(call.meaning, Meaning::Legacy | Meaning::Groups);
        let agreed = media::agree(call.headers(), false, |what| {
            matches!(what, As::Object) || is_root && matches!(what, As::Discovery(_))
        })?;
        let style = call.style(agreed);
        let others = self.registry.aggregation().entries();
        let served = &discovery::Served { own: resources, others: &others };
        if let As::Discovery(version) = agreed.what {
            let told = discovery::aggregated(served, call.meaning == Meaning::Legacy, version);
            let json = Bytes::from(told.to_string());
            let tag = openapi::tag(&json);
            let mut response = style.json(200, json);
            if agreed.form == media::Form::Json {
                let kind = match version {
                    "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                    _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
                };
                response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
            }
            return Ok(answer::tagged(response, call.headers(), &tag));
        }
        let told = match &call.meaning {
            Meaning::Legacy => Some(discovery::legacy(&server.to_string())),
            Meaning::Groups => Some(discovery::groups(served)),
            Meaning::Group(group) => discovery::group(served, group),
            Meaning::Version(group, version) => discovery::version(served, group, version),
            _ => None,
        };
        match (told, &call.meaning) {
            (Some(told), _) => Ok(style.value(200, &told)),
            (None, Meaning::Version(group, _)) => nothing(group, resources),
            (None, _) => Ok(answer::page_not_found()),
        }
    }

    /// Paths of no resource.
    async fn other(&self, call: Call) -> Result<Response> {
        let uri = call.parts.uri.clone();
        let path = uri.path();
        if let Some(response) = health::answer(self, path, uri.query().unwrap_or_default()) {
            return Ok(response);
        }
        let is_get = matches!(call.parts.method, Method::GET | Method::HEAD);
        let style = || media::agree(call.headers(), false, |what| what == As::Object).map(|a| call.style(a));
        match path.trim_end_matches('/') {
            "/version" | "/metrics" | "/openapi/v2" | "/openapi/v3" | "" if !is_get => {
                Err(method_not_allowed())
            }
            "" => {
                let others = self.registry.aggregation().entries();
                Ok(style()?.value(200, &index(&self.registry.resources(), &others)))
            }
            "/version" => Ok(style()?.value(200, &version::value())),
            "/metrics" => {
                let text = self.metrics.text(self.registry.store().revision(), &self.counts());
                Ok(answer::plain(200, "text/plain; version=0.0.4; charset=utf-8", text.into()))
            }
            "/.well-known/openid-configuration" if is_get => self.openid(|tokens| tokens.configuration()),
            "/openid/v1/jwks" if is_get => self.openid(|tokens| tokens.keys()),
            path if path.starts_with("/openapi/") && is_get => openapi::answer(self, call, path).await,
            _ => Ok(answer::page_not_found()),
        }
    }

    fn openid(&self, told: impl FnOnce(&crate::auth::Tokens) -> serde_json::Value) -> Result<Response> {
        let Some(tokens) = &self.access.tokens else {
            return Ok(answer::page_not_found());
        };
        let json = told(tokens).to_string();
        Ok(answer::plain(200, "application/json", json.into()))
    }

    /// How many objects of each kind are kept.
    fn counts(&self) -> Vec<(String, usize)> {
        let count = |resource: Arc<Resource>| {
            let resource = resource.stored_as.to_string();
            let scope = Scope { resource: resource.clone(), namespace: None };
            let page = self.registry.store().list(&scope, None, Some(1), None).ok()?;
            Some((resource, page.items.len() + page.more.unwrap_or(0)))
        };
        self.registry.resources().kept().into_iter().filter_map(count).collect()
    }
}

/// Why a request is refused, how that is written and who holds it; not known where it could not be read.
struct Refused {
    status: Status,
    known: Option<(Style, Held)>,
}

impl Refused {
    /// What is refused may have much to say of what was sent; it is counted like any other answer, room or not.
    fn answer(self, style: Style) -> Response {
        let Some((style, mut held)) = self.known else { return style.status(&self.status) };
        let mut response = style.status(&self.status);
        if response.body().is_to_count() {
            held.take(response.body().holds());
            response.body_mut().keep(held);
        }
        response
    }
}

impl From<Status> for Refused {
    fn from(status: Status) -> Refused {
        Refused { status, known: None }
    }
}

fn late() -> Status {
    let text = "Timeout: request did not complete within requested timeout - context deadline exceeded";
    Status::new(504, Reason::Timeout, text).with(Details::default())
}

/// What is answered where a group has no such version or resource: built-in ones have a handler that says so.
fn nothing(group: &str, resources: &Resources) -> Result<Response> {
    let is_built_in =
        group.is_empty() || resources.iter().any(|known| known.names.group == group && !known.is_custom());
    if is_built_in { Err(no_such_resource()) } else { Ok(answer::page_not_found()) }
}

/// The resource of a path, in the version of the path.
fn find(call: &Call, resources: &Resources) -> Option<Arc<Resource>> {
    match &call.meaning {
        Meaning::Resource(path) => resources.find(&path.group, &path.version, &path.resource),
        _ => None,
    }
}

/// How long a request may take: what its `timeout` says, 60 seconds at most.
fn patience(call: &Call) -> Result<Duration> {
    let Some(text) = call.parameter("timeout").filter(|text| !text.is_empty()) else {
        return Ok(PATIENCE);
    };
    let seconds = go_seconds(text).ok_or_else(|| {
        let text = crate::contract::field::quoted(text);
        Status::bad_request(format!(
            "invalid timeout specified in the request URL - time: invalid duration {text}"
        ))
    })?;
    Ok(if seconds == 0.0 {
        PATIENCE
    } else {
        Duration::try_from_secs_f64(seconds).map_or(PATIENCE, |asked| PATIENCE.min(asked))
    })
}

/// The seconds of a duration of Go: `1m30s`, `500ms`.
fn go_seconds(text: &str) -> Option<f64> {
    if text == "0" {
        return Some(0.0);
    }
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        total += number
            * match &after[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &after[unit..];
    }
    (!text.is_empty() && total.is_finite()).then_some(total)
}

/// The paths there are.
fn index(resources: &Resources, others: &[Arc<Entry>]) -> serde_json::Value {
    let mut paths: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ]
    .map(str::to_owned)
    .into();
    for resource in resources.iter().filter(|resource| !resource.names.group.is_empty()) {
        paths.push(format!("/apis/{}", resource.names.group));
        paths.push(format!("/apis/{}", resource.names.api_version()));
    }
    for entry in others {
        paths.push(format!("/apis/{}", entry.group));
        paths.push(format!("/apis/{}/{}", entry.group, entry.version));
    }
    paths.sort();
    paths.dedup();
    serde_json::json!({"paths": paths})
}

#[cfg(test)]
mod tests {
    use super::go_seconds;

    #[test]
    fn durations_of_go_are_read() {
        assert_eq!(go_seconds("30s"), Some(30.0));
        assert_eq!(go_seconds("1m30s"), Some(90.0));
        assert_eq!(go_seconds("0"), Some(0.0));
        assert!(go_seconds("99999999999999999999h").is_some_and(|seconds| seconds > 1e20));
        for wrong in ["", "30", "s", "1x", "-1s"] {
            assert_eq!(go_seconds(wrong), None, "{wrong}");
        }
    }
}
