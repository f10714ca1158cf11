//! One request to one endpoint: authorization, retries, redirects, the refusal's text.

use std::io::Read;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderName, HeaderValue, WARNING, WWW_AUTHENTICATE};
use ureq::http::{HeaderMap, Method, Request, Response, StatusCode};
use ureq::{Body, SendBody};

use super::auth::{Scope, TokenKey};
use super::error::Answer;
use super::repository::Target;
use super::transport::TransportError;
use super::{Client, Error, challenge, form, redirect, retry};
use crate::registry::hosts::Scheme;

/// No refusal needs more words.
const REFUSAL_MAX: u64 = 64 * 1024;
/// RFC 7234, 5.5: the code under which registries warn.
const WARN_CODE: &str = "299";

/// What to send, made anew for each try.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    /// Below the API root, beginning with `/`; or a whole URL (upload locations).
    pub(super) path: String,
    pub(super) query: Vec<(&'a str, String)>,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: CallBody<'a>,
    /// For the error: `pull manifest a/b:c`.
    pub(super) act: String,
    /// How long the answer may take to begin.
    pub(super) headers_within: Duration,
    /// A request that is not idempotent, or whose body cannot be made again, is tried once.
    pub(super) retry: bool,
}

/// The body of a request.
#[derive(Clone, Copy)]
pub(super) enum CallBody<'a> {
    None,
    Bytes(&'a [u8]),
    /// A length, and a reader opened for each try.
    Stream(u64, &'a dyn Fn() -> std::io::Result<Box<dyn Read + Send>>),
}

impl CallBody<'_> {
    fn length(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Stream(length, _) => *length,
        }
    }
}

impl<'a> Call<'a> {
    pub(super) fn new(
        client: &Client,
        method: Method,
        path: impl Into<String>,
        act: impl Into<String>,
    ) -> Self {
        Self {
            method,
            path: path.into(),
            query: Vec::new(),
            headers: Vec::new(),
            body: CallBody::None,
            act: act.into(),
            headers_within: client.config().patience.headers,
            retry: true,
        }
    }

    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn query(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(super) fn body(mut self, body: CallBody<'a>) -> Self {
        self.body = body;
        self
    }
}

/// What only the endpoint itself may see: `Authorization`, and the headers of its hosts file.
type Own<'a> = (Option<&'a HeaderValue>, &'a [(String, String)]);

/// A response and the URL it came from, redirects followed.
pub(super) struct Reply {
    pub(super) url: String,
    pub(super) response: Response<Body>,
}

impl Reply {
    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// A header's text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    pub(super) fn malformed(&self, fault: impl Into<String>) -> Error {
        Error::Answer { url: self.url.clone(), fault: fault.into() }
    }
}

impl Client {
    /// Sends until the answer is one of `expected` or an error that trying again does not help.
    pub(super) fn call(
        &self,
        target: &Target<'_>,
        scope: &Scope,
        call: &Call<'_>,
        expected: &[StatusCode],
    ) -> Result<Reply, Error> {
        let patience = &self.config().patience;
        let (mut attempt, began) = (0, Instant::now());
        let mut renewed = false;
        loop {
            let key = self.token_key(target, scope);
            let failure = match self.send_once(target, &key, call) {
                Ok(reply) if expected.contains(&reply.response.status()) => return Ok(reply),
                Ok(reply) if reply.response.status() == StatusCode::UNAUTHORIZED && !renewed => {
                    renewed = true;
                    if self.answer_challenge(target, &key, &reply)? {
                        continue;
                    }
                    self.refused(call, reply)
                }
                Ok(reply) => self.refused(call, reply),
                Err(error) if self.fell_back(target, &error) => continue,
                Err(error) => error,
            };
            // Nobody listens there; and tokens were asked for several times already.
            let refused = matches!(&failure, Error::Unreachable { source, .. } if source.is_refusal());
            let hopeless = refused || matches!(failure, Error::Token { .. });
            let again =
                call.retry && failure.is_transient() && !hopeless && began.elapsed() < patience.give_up;
            match retry::pause(patience, attempt, failure.retry_after()).filter(|_| again) {
                Some(pause) => thread::sleep(pause),
                None => return Err(failure),
            }
            attempt += 1;
        }
    }

    /// Whether the endpoint answers plain http where TLS failed, which only loopback registries may.
    fn fell_back(&self, target: &Target<'_>, error: &Error) -> bool {
        let Error::Unreachable { source, .. } = error else { return false };
        let may = target.endpoint.http_fallback && source.suggests_plain_http();
        let falls = may && !target.plain.swap(true, Ordering::Relaxed);
        let mut plain = self.shared.plain.lock().unwrap_or_else(PoisonError::into_inner);
        match falls {
            true => plain.insert(target.endpoint.authority.clone()),
            // It may speak TLS by now.
            false => plain.remove(&target.endpoint.authority),
        };
        falls
    }

    /// Whether a host was found to speak plain http.
    pub(super) fn is_plain(&self, authority: &str) -> bool {
        self.shared.plain.lock().unwrap_or_else(PoisonError::into_inner).contains(authority)
    }

    fn send_once(&self, target: &Target<'_>, key: &TokenKey, call: &Call<'_>) -> Result<Reply, Error> {
        let base = target.url();
        let location = match call.path.contains("://") {
            true => call.path.clone(),
            false => format!("{base}{}", call.path),
        };
        let mut query: Vec<_> = call.query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        // A whole URL was made by a server, which put into it what it needs.
        if let Some(namespace) = target.endpoint.namespace.as_ref().filter(|_| !call.path.contains("://")) {
            query.push(("ns", namespace));
        }
        let mut url = form::with_query(&location, &query);
        let home = redirect::origin(&base);
        let authorization = self.authorization(target, key)?;
        for _ in 0..redirect::HOPS_MAX {
            // Credentials and configured headers belong to the endpoint alone.
            let at_home = redirect::origin(&url) == home;
            let own = at_home.then_some((authorization.as_ref(), target.endpoint.headers.as_slice()));
            let reply = self.exchange(target, call, &url, own)?;
            let repeatable = matches!(call.method, Method::GET | Method::HEAD);
            match redirect::location(&reply).filter(|_| repeatable) {
                None => return Ok(reply),
                Some(Err(fault)) => return Err(reply.malformed(fault)),
                Some(Ok(next)) => url = next,
            }
        }
        Err(Error::Answer { url, fault: format!("more than {} redirects", redirect::HOPS_MAX) })
    }

    fn exchange(
        &self,
        target: &Target<'_>,
        call: &Call<'_>,
        url: &str,
        own: Option<Own<'_>>,
    ) -> Result<Reply, Error> {
        let unreachable = |source| Error::Unreachable { url: without_query(url), source };
        let mut request = Request::builder().method(call.method.clone()).uri(url);
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        if let Some((authorization, headers)) = own {
            for (name, value) in headers {
                request = request.header(name, value);
            }
            if let Some(value) = authorization {
                request = request.header(AUTHORIZATION, value);
            }
        }
        if matches!(call.method, Method::POST | Method::PUT | Method::PATCH) {
            request = request.header(CONTENT_LENGTH, call.body.length());
        }
        let request =
            request.body(()).map_err(|error| unreachable(TransportError::Request(error.to_string())))?;
        let mut tls = target.endpoint.tls.clone();
        if own.is_none() {
            tls.client.clear();
        }
        let send = |body: Option<&mut dyn Read>| {
            let (transport, dial) = (&self.shared.transport, target.endpoint.dial_timeout);
            match body {
                None => transport.send(&tls, dial, request, call.headers_within),
                Some(body) => transport.send(
                    &tls,
                    dial,
                    request.map(|()| SendBody::from_reader(body)),
                    call.headers_within,
                ),
            }
        };
        let sent = match call.body {
            CallBody::None => send(None),
            CallBody::Bytes(mut bytes) => send(Some(&mut bytes)),
            CallBody::Stream(_, open) => {
                let failed = |source| Error::Local { what: call.act.clone(), source };
                send(Some(&mut open().map_err(failed)?))
            }
        };
        let response = sent.map_err(unreachable)?;
        self.hear_warnings(target, response.headers());
        Ok(Reply { url: without_query(url), response })
    }

    fn hear_warnings(&self, target: &Target<'_>, headers: &HeaderMap) {
        let Some(sink) = &self.config().warnings else { return };
        for value in headers.get_all(WARNING) {
            // `299 - "text"`.
            let text = value.to_str().ok().and_then(|text| text.strip_prefix(WARN_CODE));
            let quoted =
                text.and_then(|text| text.split_once('"')).and_then(|(_, text)| text.rsplit_once('"'));
            if let Some((text, _)) = quoted {
                sink(&target.url(), &text.replace("\\\"", "\""));
            }
        }
    }

    /// Turns an unexpected answer into an error, with what the registry says about it.
    fn refused(&self, call: &Call<'_>, mut reply: Reply) -> Error {
        let mut body = Vec::new();
        let reader = reply.response.body_mut().as_reader();
        // A refusal whose text is cut short is a refusal all the same.
        _ = reader.take(REFUSAL_MAX).read_to_end(&mut body);
        Error::Refused {
            act: call.act.clone(),
            url: reply.url.clone(),
            status: reply.response.status().as_u16(),
            answer: Answer::parse(&body),
            retry_after: retry::retry_after(reply.headers()),
        }
    }

    /// Learns from a 401; false if we have nothing to answer it with.
    fn answer_challenge(&self, target: &Target<'_>, key: &TokenKey, reply: &Reply) -> Result<bool, Error> {
        let headers = reply.headers().get_all(WWW_AUTHENTICATE);
        let challenges =
            headers.iter().filter_map(|value| value.to_str().ok()).flat_map(challenge::parse_challenges);
        self.learn(target, key, challenges.collect())
    }
}

/// A URL as errors show it: queries may hold signatures.
fn without_query(url: &str) -> String {
    url.split('?').next().unwrap_or_default().to_owned()
}

impl Target<'_> {
    /// `https://host/v2`, or `http://` once the fallback happened.
    pub(super) fn url(&self) -> String {
        let endpoint = self.endpoint;
        let scheme = if self.plain.load(Ordering::Relaxed) { Scheme::Http } else { endpoint.scheme };
        format!("{scheme}://{}{}", endpoint.authority, endpoint.path)
    }
}
