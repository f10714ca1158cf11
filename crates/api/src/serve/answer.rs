//! Answers: objects and refusals in the form that was agreed on.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;

use super::body::Body;
use super::media::Form;
use super::yaml;
use crate::contract::Status;

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

impl Style {
    /// JSON as it is.
    pub(crate) const PLAIN: Style = Style { form: Form::Json, pretty: false, gzip: false };

    /// An answer whose body is a JSON text.
    pub(crate) fn json(self, code: u16, json: Bytes) -> Response {
        let bytes = match (self.form, self.pretty) {
            (Form::Json, false) => json,
            (form, _) => match serde_json::from_slice::<Value>(&json) {
                Ok(value) if form == Form::Yaml => yaml::write(&value).into(),
                Ok(value) => serde_json::to_vec_pretty(&value).map_or(json, Bytes::from),
                Err(_) => json,
            },
        };
        self.typed(code, self.form.content_type(), bytes)
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
        let compressed = (self.gzip && bytes.len() >= GZIP_MIN).then(|| gzip(&bytes)).flatten();
        let is_compressed = compressed.is_some();
        let mut response = plain(code, media_type, compressed.unwrap_or(bytes));
        if is_compressed {
            let headers = response.headers_mut();
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        response
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

/// Adds a `Warning:` for each text (RFC 7234, code 299).
pub(crate) fn warn(response: &mut Response, warnings: &[String]) {
    for warning in warnings {
        let text: String = warning.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
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

fn gzip(bytes: &[u8]) -> Option<Bytes> {
    use std::io::Write as _;
    let mut encoder =
        flate2::write::GzEncoder::new(Vec::with_capacity(bytes.len() / 8), flate2::Compression::fast());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok().map(Bytes::from)
}
