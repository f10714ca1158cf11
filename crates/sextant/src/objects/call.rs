use std::fmt::Write as _;

use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};

use super::{Server, text};
use crate::output::complain;

/// What is asked for: objects as they are.
pub(crate) const JSON: &str = "application/json";
/// What is asked for: rows, as the server would show them.
pub(crate) const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// One request.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    method: Method,
    path: &'a str,
    query: String,
    accept: &'a str,
    content: &'a str,
    body: Option<Value>,
}

/// The server did not do it, or was not reached.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refused {
    /// HTTP's; 0 where there was no answer.
    pub(crate) code: u16,
    /// The server's own words.
    pub(crate) message: String,
    /// What the server answered, where that is a Status.
    pub(crate) status: Value,
}

impl<'a> Call<'a> {
    fn new(method: Method, path: &'a str) -> Self {
        Self { method, path, query: String::new(), accept: JSON, content: JSON, body: None }
    }

    pub(crate) fn get(path: &'a str, accept: &'a str) -> Self {
        Self { accept, ..Self::new(Method::GET, path) }
    }

    pub(crate) fn delete(path: &'a str, options: Value) -> Self {
        Self { body: Some(options), ..Self::new(Method::DELETE, path) }
    }

    /// A patch of this media type.
    pub(crate) fn patch(path: &'a str, content: &'a str, body: Value) -> Self {
        Self { body: Some(body), content, ..Self::new(Method::PATCH, path) }
    }

    /// With something more in its query; an empty value is none.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        if !value.is_empty() {
            let joint = if self.query.is_empty() { '?' } else { '&' };
            let _ = write!(self.query, "{joint}{name}={}", encoded(value));
        }
        self
    }

    /// What was asked for, as text that stands behind the server's address.
    pub(crate) fn place(&self) -> String {
        format!("{}{}", self.path, self.query)
    }

    /// The answer, as soon as its head is there.
    pub(crate) async fn send(self, server: &Server) -> Result<Response<Body>, Refused> {
        let place = self.place();
        let body = self.body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
        let request = Request::builder()
            .method(self.method)
            .uri(&place)
            .header(http::header::ACCEPT, self.accept)
            .header(http::header::CONTENT_TYPE, self.content)
            .body(Body::from(body));
        let request =
            request.map_err(|error| Refused::local(format!("cannot ask for {place:?}: {error}")))?;
        let answer = server.client().send(request).await.map_err(|error| {
            let why = client::causes(&error);
            let address = server.address();
            Refused::local(format!(
                "cannot reach the API server at {address}: {why} (is `sextant up` running? see `sextant status`; --kubeconfig \
                 names another)"
            ))
        })?;
        for warning in answer.headers().get_all("warning") {
            tell(warning.to_str().unwrap_or_default());
        }
        if answer.status().is_success() {
            return Ok(answer);
        }
        let code = answer.status().as_u16();
        let said = answer.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let status: Value = serde_json::from_slice(&said).unwrap_or_default();
        let message = match text(&status, "/message") {
            "" => {
                format!("cannot get an answer for {place}: {code} {}", String::from_utf8_lossy(&said).trim())
            }
            message => message.to_owned(),
        };
        Err(Refused { code, message, status })
    }

    /// The whole answer, with its code.
    pub(super) async fn ask(self, server: &Server) -> Result<(u16, Value), Refused> {
        let place = self.place();
        let answer = self.send(server).await?;
        let code = answer.status().as_u16();
        let broken = |why: String| Refused::local(format!("cannot read the answer for {place}: {why}"));
        let body = answer.into_body().collect().await.map_err(|error| broken(client::causes(&error)))?;
        let read = serde_json::from_slice(&body.to_bytes()).map_err(|error| broken(error.to_string()));
        read.map(|answer| (code, answer))
    }
}

impl Refused {
    pub(super) fn local(message: String) -> Self {
        Self { code: 0, message, status: json!(null) }
    }

    /// Whether there is none.
    pub(crate) fn is_missing(&self) -> bool {
        self.code == 404
    }
}

/// A warning, whose text is in quotes behind a code and an agent.
fn tell(header: &str) {
    let quoted = header.split_once('"').map_or(header, |(_, rest)| rest.trim_end_matches('"'));
    complain(format_args!("warning: {}", quoted.replace("\\\"", "\"")));
}

/// As it may stand in a query.
pub(crate) fn encoded(value: &str) -> String {
    value.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => _ = write!(out, "%{byte:02X}"),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_holds_any_text() {
        let call = Call::get("/api/v1/pods", JSON).with("labelSelector", "a=b,c in (d)").with("limit", "");
        assert_eq!(call.with("x", "1").place(), "/api/v1/pods?labelSelector=a%3Db%2Cc%20in%20%28d%29&x=1");
    }
}
