//! One call: signed, sent, and told apart by how it is answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use jiff::Timestamp;

use super::endpoint::Endpoint;
use super::form::Form;
use super::http::{Answer, Http};
use super::sign::{Scope, Signed, authorization, stamp};
use super::xml::{self, Refusal};
use crate::config::{Config, Environment, Service};
use crate::credentials::Credentials;

const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
const AGENT: &str = concat!("sextant/", env!("CARGO_PKG_VERSION"));

/// What came of a call. An answer may have secrets in it, so it is not shown.
pub(crate) enum Outcome {
    /// The service's answer.
    Answered(String),
    /// It does not do it, with the HTTP status, and how long it wants to be left alone.
    Refused(Refusal, u16, Option<Duration>),
    /// Nobody answered, or nobody whose words can be read: it may be done.
    Lost(String),
}

/// What calls are made with.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) http: Http,
    pub(crate) config: Arc<Config>,
    pub(crate) environment: Arc<Environment>,
}

/// What is asked.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) service: Service,
    pub(crate) action: &'a str,
    pub(crate) form: &'a Form,
}

impl Call<'_> {
    /// As IAM names the right to it.
    pub(crate) fn right(&self) -> String {
        format!("{}:{}", self.service.name(), self.action)
    }

    fn version(&self) -> &'static str {
        match self.service {
            Service::Ec2 => "2016-11-15",
            Service::Elb => "2015-12-01",
            Service::Sts => "2011-06-15",
        }
    }
}

impl Exchange {
    /// Calls a service of a region; without credentials it is not signed.
    ///
    /// # Errors
    /// It is not known where the service is.
    pub(crate) async fn send(
        &self,
        call: Call<'_>,
        region: &str,
        credentials: Option<&Credentials>,
        patience: Duration,
    ) -> Result<Outcome, String> {
        let endpoint = Endpoint::of(call.service, region, &self.config, &self.environment)?;
        let body = call.form.encoded(call.action, call.version());
        let request = request(&endpoint, body, credentials, Timestamp::now())?;
        let sent = self.http.send(request, patience).await;
        Ok(match sent {
            Ok(answer) => told(&answer),
            Err(why) => Outcome::Lost(format!("cannot reach {}: {why}", endpoint.url)),
        })
    }
}

fn told(answer: &Answer) -> Outcome {
    let (status, text) = (answer.status.as_u16(), answer.text());
    if answer.status.is_success() {
        return Outcome::Answered(text);
    }
    let after =
        answer.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let after = after.map(Duration::from_secs);
    match xml::refusal(&text) {
        Some(refusal) => Outcome::Refused(refusal, status, after),
        // A gateway's page, say.
        None if status >= 500 || status == 429 => {
            let refusal = Refusal { code: format!("HTTP {status}"), message: String::new() };
            Outcome::Refused(refusal, status, after)
        }
        None => Outcome::Refused(
            Refusal { code: format!("HTTP {status}"), message: "the answer is not the service's own".into() },
            status,
            after,
        ),
    }
}

fn request(
    endpoint: &Endpoint,
    body: String,
    credentials: Option<&Credentials>,
    at: Timestamp,
) -> Result<Request<Full<Bytes>>, String> {
    let host = endpoint.url.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
    let path = endpoint.url.path();
    let at_text = stamp(at);
    let mut request = Request::post(endpoint.url.clone())
        .header(header::HOST, &host)
        .header(header::CONTENT_TYPE, FORM)
        .header(header::USER_AGENT, AGENT)
        .header("x-amz-date", &at_text);
    if let Some(credentials) = credentials {
        let mut headers = vec![("host", host.as_str()), ("content-type", FORM), ("x-amz-date", &at_text)];
        if let Some(token) = &credentials.token {
            headers.push(("x-amz-security-token", token));
            request = request.header("x-amz-security-token", secret(token)?);
        }
        let signed = Signed { method: "POST", path, headers: &headers, body: body.as_bytes() };
        let scope = Scope { region: &endpoint.region, service: &endpoint.name, at };
        request = request.header(header::AUTHORIZATION, secret(&authorization(&signed, scope, credentials))?);
    }
    request.body(Full::new(Bytes::from(body))).map_err(|e| format!("cannot make a request: {e}"))
}

/// A header that is shown to nobody.
pub(crate) fn secret(text: &str) -> Result<http::HeaderValue, String> {
    let mut value = http::HeaderValue::from_str(text)
        .map_err(|_| "the credentials have characters that no header may have".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}
