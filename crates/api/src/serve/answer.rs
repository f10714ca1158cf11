//! Answers: objects and refusals in the form that was agreed on.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;

use super::body::Body;
use super::dress::{Dress, Pretty};
use super::media::{self, Agreed, As, Form};
use super::{path, yaml};
use crate::contract::Status;
use crate::registry::Listing;

/// An answer on its way to a client.
pub(crate) type Response = http::Response<Body>;

/// How a client wants answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) form: Form,
    pub(crate) pretty: bool,
    /// Whether large answers may be compressed.
    pub(crate) gzip: bool,
}

/// From which size on answers are compressed, as Kubernetes has it.
const GZIP_MIN: usize = 128 * 1024;
/// From which size on answers are made readable while they are sent.
const PRETTY_MAX: usize = 64 * 1024;
/// All warnings have so many characters, or else this many each until they have.
const WARNINGS_MAX: usize = 4096;
const WARNING_MAX: usize = 256;
/// And there are at most so many, for some clients take no more than a hundred headers.
const WARNINGS_MOST: usize = 80;

impl Style {
    /// JSON as it is.
    pub(crate) const PLAIN: Style = Style { form: Form::Json, pretty: false, gzip: false };

    /// How refusals are written of a request that was not read any further.
    pub(crate) fn of_refusals(parts: &Parts) -> Style {
        let query = path::query(parts.uri.query().unwrap_or_default()).unwrap_or_default();
        let agreed = media::agree(&parts.headers, false, |what| what == As::Object).unwrap_or(Agreed::JSON);
        let pretty = media::is_pretty(&parts.headers, &query);
        Style { form: agreed.form, pretty, gzip: takes_gzip(&parts.headers) }
    }

    /// An answer whose body is a JSON text; lines of JSON end, as Go's do.
    pub(crate) fn json(self, code: u16, json: Bytes) -> Response {
        let media_type = self.form.content_type();
        if self.form == Form::Yaml {
            return match serde_json::from_slice::<Value>(&json) {
                Ok(value) => self.typed(code, media_type, yaml::write(&value).into()),
                Err(_) => plain(code, media_type, json),
            };
        }
        if self.gzip && json.len() >= GZIP_MIN || self.pretty && json.len() >= PRETTY_MAX {
            return self.dressed(code, media_type, |dress| Body::dressed(json, dress), self.pretty);
        }
        let mut bytes = Vec::new();
        if self.pretty {
            Pretty::default().write(&json, &mut bytes);
        } else {
            bytes = json.into();
            bytes.push(b'\n');
        }
        plain(code, media_type, bytes.into())
    }

    /// A list that is made while it is sent.
    pub(crate) fn list(self, first: Bytes, rest: Listing) -> Response {
        let body = |dress| Body::list(first, rest, dress);
        self.dressed(200, self.form.content_type(), body, self.pretty)
    }

    fn dressed(
        self,
        code: u16,
        media_type: &'static str,
        body: impl FnOnce(Dress) -> Body,
        pretty: bool,
    ) -> Response {
        let mut response = plain(code, media_type, Bytes::new());
        *response.body_mut() = body(Dress::new(pretty, self.gzip));
        if self.gzip {
            let headers = response.headers_mut();
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        response
    }

    /// An answer whose body is a value.
    pub(crate) fn value(self, code: u16, value: &Value) -> Response {
        self.json(code, value.to_string().into())
    }

    /// A refusal.
    pub(crate) fn status(self, status: &Status) -> Response {
        let mut response = self.value(status.code, &status.to_value());
        if let Some(details) = &status.details
            && details.retry_after_seconds > 0
        {
            response.headers_mut().insert(RETRY_AFTER, details.retry_after_seconds.into());
        }
        response
    }

    /// An answer of any media type.
    pub(crate) fn typed(self, code: u16, media_type: &'static str, bytes: Bytes) -> Response {
        if self.gzip && bytes.len() >= GZIP_MIN {
            return self.dressed(code, media_type, |dress| Body::dressed(bytes, dress), false);
        }
        plain(code, media_type, bytes)
    }
}

/// An answer as it is.
pub(crate) fn plain(code: u16, media_type: &'static str, bytes: Bytes) -> Response {
    let mut response = Response::new(Body::whole(bytes));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A text.
pub(crate) fn text(code: u16, text: impl Into<Bytes>) -> Response {
    let mut response = plain(code, "text/plain; charset=utf-8", text.into());
    response.headers_mut().insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// What Kubernetes answers to paths that lead nowhere.
pub(crate) fn page_not_found() -> Response {
    text(404, "404 page not found\n")
}

/// Marks an answer with its `ETag`; one that the client has already becomes 304.
pub(crate) fn tagged(mut response: Response, asked: &HeaderMap, tag: &str) -> Response {
    let Ok(tag) = HeaderValue::from_str(&format!("\"{tag}\"")) else {
        return response;
    };
    if asked.get(IF_NONE_MATCH) == Some(&tag) {
        *response.body_mut() = Body::empty();
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().remove(CONTENT_ENCODING);
        response.headers_mut().remove(CONTENT_TYPE);
    }
    let headers = response.headers_mut();
    headers.insert(ETAG, tag);
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    response
}

/// Adds a `Warning:` for each text (RFC 7234, code 299), as many and as much of each as Kubernetes tells.
pub(crate) fn warn(response: &mut Response, warnings: &[String]) {
    let all: usize = warnings.iter().map(|warning| warning.chars().count()).sum();
    let most = if all > WARNINGS_MAX { WARNING_MAX } else { WARNINGS_MAX };
    let mut told = 0;
    for warning in warnings.iter().take(WARNINGS_MOST) {
        if told >= WARNINGS_MAX {
            return;
        }
        let text: String = warning.chars().take(most).map(|c| if c.is_control() { ' ' } else { c }).collect();
        told += text.chars().count();
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{text}\"").as_bytes()) {
            response.headers_mut().append(http::header::WARNING, value);
        }
    }
}

/// Whether a client takes gzip.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(http::header::ACCEPT_ENCODING);
    values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|part| {
        let mut parts = part.split(';').map(str::trim);
        parts.next() == Some("gzip") && !parts.any(|weight| matches!(weight, "q=0" | "q=0.0"))
    })
}
