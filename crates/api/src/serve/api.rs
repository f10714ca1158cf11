//! The way of a request: who asks, whether they may, who answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method};
use hyper::Request;
use hyper::body::Incoming;
use tokio::sync::{Semaphore, watch};

use super::answer::{self, Response, Style};
use super::body::Body;
use super::hooks::Node;
use super::media::{self, As};
use super::metrics::Metrics;
use super::path::Meaning;
use super::request::{Call, method_not_allowed, no_such_resource};
use super::{aggregated, collection, discovery, health, object, openapi, pod, version};
use crate::aggregation::Entry;
use crate::auth::Access;
use crate::auth::audit::{self, Audit};
use crate::contract::{Details, Reason, Result, Status};
use crate::registry::{Registry, Resources};
use crate::resource::{Asker, Resource};
use crate::store::Scope;

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
    pub(super) writes: Semaphore,
    /// KiB of bodies that are being read.
    pub(super) bodies: Semaphore,
}

/// From where a request comes.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) server: SocketAddr,
    /// Who the client's certificate says it is.
    pub(crate) certified: Option<Asker>,
}

impl Api {
    /// Answers a request.
    pub(crate) async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: Arc<Peer>) -> Response {
        let began = Instant::now();
        let is_head = request.method() == Method::HEAD;
        let id = audit::id(request.headers());
        let record = self.audit.as_ref().map(|_| audit::Record::begin(&request, &id, peer.address));
        let mut response = self.identified(request, &peer, began, record).await;
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
        request: Request<Incoming>,
        peer: &Peer,
        began: Instant,
        record: Option<audit::Record>,
    ) -> Response {
        let asker = self.access.authenticate(request.headers(), peer.certified.as_ref());
        let (asker, real) = match asker.and_then(|asker| self.access.impersonate(asker, request.headers())) {
            Ok(found) => found,
            Err(status) => {
                self.write_audit(record, None, status.code);
                return Style::PLAIN.status(&status);
            }
        };
        let record = record.map(|record| record.of(&asker, real.as_ref()));
        let call = match Call::read(request, asker) {
            Ok(call) => call,
            Err(status) => {
                self.write_audit(record, None, status.code);
                return Style::PLAIN.status(&status);
            }
        };
        let style = call.refusal_style();
        let attributes = call.attributes();
        let resources = self.registry.resources();
        let resource = find(&call, &resources);
        let counted = call.counted(resource.is_some());
        let decision = self.access.authorizer.authorize(&call.asker, &attributes);
        let response = if decision.is_allowed() {
            self.limited(call, resource, resources, peer.server).await
        } else {
            Err(attributes.forbidden(&call.asker, decision.reason()))
        };
        let response = response.unwrap_or_else(|status| style.status(&status));
        self.metrics.answered(counted, response.status().as_u16(), began.elapsed());
        let record = record.map(|record| record.decided(&attributes, &decision));
        self.write_audit(record, Some(&attributes), response.status().as_u16());
        response
    }

    fn write_audit(
        &self,
        record: Option<audit::Record>,
        attributes: Option<&crate::auth::Attributes>,
        code: u16,
    ) {
        if let (Some(audit), Some(record)) = (&self.audit, record) {
            audit.write(record.event(attributes, code));
        }
    }

    /// Holds what is no stream to its number and its time.
    async fn limited(
        self: &Arc<Self>,
        call: Call,
        resource: Option<Arc<Resource>>,
        resources: Arc<Resources>,
        server: SocketAddr,
    ) -> Result<Response> {
        let is_handed_on =
            self.of_others(&call).is_some() && aggregated::wants_upgrade(call.headers()).is_some();
        if call.is_long_running() || is_handed_on {
            return self.routed(call, resource, &resources, server).await;
        }
        let is_read = matches!(call.parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let places = if is_read { &self.reads } else { &self.writes };
        let Ok(_place) = places.try_acquire() else {
            self.metrics.turned_away();
            let details = Details { retry_after_seconds: 1, ..Details::default() };
            let text = "Too many requests, please try again later.";
            return Err(Status::new(429, Reason::TooManyRequests, text).with(details));
        };
        let patience = patience(&call)?;
        let late = || {
            let text =
                "Timeout: request did not complete within requested timeout - context deadline exceeded";
            Status::new(504, Reason::Timeout, text).with(Details::default())
        };
        if is_read {
            let answer = self.routed(call, resource, &resources, server);
            return tokio::time::timeout(patience, answer).await.unwrap_or_else(|_| Err(late()));
        }
        // A change that has begun is carried to its end, also when its client goes.
        let api = Arc::clone(self);
        let task = tokio::spawn(async move { api.routed(call, resource, &resources, server).await });
        match tokio::time::timeout(patience, task).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(Status::internal(error)),
            Err(_) => Err(late()),
        }
    }

    async fn routed(
        &self,
        call: Call,
        resource: Option<Arc<Resource>>,
        resources: &Resources,
        server: SocketAddr,
    ) -> Result<Response> {
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
                let Some(resource) = resource else {
                    let is_known = resources.iter().any(|resource| {
                        resource.names.group == path.group && resource.names.version == path.version
                    });
                    return if is_known { Err(no_such_resource()) } else { Ok(answer::page_not_found()) };
                };
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
        Ok(told.map_or_else(answer::page_not_found, |told| style.value(200, &told)))
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
            "" => Ok(style()?.value(200, &index(&self.registry.resources()))),
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

    /// Reads the body of a call; all bodies together are held to a bound.
    pub(super) async fn body(&self, body: Incoming) -> Result<Bytes> {
        let told = http_body::Body::size_hint(&body).upper();
        let most = super::body::BODY_MAX as u64;
        let kib = told.unwrap_or(most).min(most).div_ceil(1024);
        let _place = self.bodies.acquire_many(u32::try_from(kib).unwrap_or(1)).await;
        super::body::read(body).await
    }
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
fn index(resources: &Resources) -> serde_json::Value {
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
