//! Kubelets: exec, attach, port-forward and logs of a pod are asked of the server of the kubelet that runs it.
//!
//! The kubelet knows this server by a client certificate of its authority (`--client-ca-file` of the kubelet). Its own
//! certificate is not checked, as `kube-apiserver` without `--kubelet-certificate-authority` does not: kubelets sign their
//! own.

mod address;
mod dialer;

use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::Response;
use hyper::body::Incoming;
use streaming::remote_command::{Answer, Session};
use tokio::sync::mpsc;

use crate::auth::Authority;
use crate::contract::{Object, Reason, Result, Status};
use crate::dial;
use crate::registry::Registry;
use crate::serve::{Later, LogOptions, Node, Upgrade, query};
use address::Address;
use dialer::Dialer;

/// What is read of a refusal; the kubelet's are a line.
const REFUSAL: usize = 64 << 10;

/// Reaches the kubelets of the nodes that a registry knows.
pub struct Kubelets {
    registry: Registry,
    dialer: Dialer,
}

impl Kubelets {
    /// They are told who asks by certificates of `authority`.
    #[must_use]
    pub fn new(registry: Registry, authority: std::sync::Arc<Authority>) -> Kubelets {
        Kubelets { registry, dialer: Dialer::new(authority) }
    }

    fn address(&self, pod: &Object) -> Result<Address> {
        address::of(&self.registry, pod.text(&["spec", "nodeName"]))
    }

    async fn upgraded(&self, pod: &Object, what: Upgrade, mut request: Request<Incoming>) -> Result<Answer> {
        let address = self.address(pod)?;
        let path = upgrade_path(pod, what, request.uri().query().unwrap_or_default());
        let mut sender = self
            .dialer
            .open(&address)
            .await
            .map_err(|cause| Status::internal(format!("error dialing backend: {cause}")))?;
        let ours = hyper::upgrade::on(&mut request);
        let mut asked = Request::new(Empty::new());
        *asked.method_mut() = request.method().clone();
        *asked.uri_mut() = path.parse().map_err(Status::internal)?;
        *asked.headers_mut() = to_kubelet(request.headers(), &address)?;
        let mut response = sender
            .send_request(asked)
            .await
            .map_err(|e| Status::internal(format!("error dialing backend: {e}")))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let theirs = hyper::upgrade::on(&mut response);
            let session: Session = Box::pin(dial::relay(ours, theirs));
            return Ok(Answer { response: response.map(|_| Full::default()), session: Some(session) });
        }
        let status = response.status();
        let kind = response.headers().get(CONTENT_TYPE).cloned();
        let text = Limited::new(response.into_body(), REFUSAL).collect().await;
        let text = text.map_err(|e| Status::internal(format!("error reading the kubelet's answer: {e}")))?;
        let mut refusal = Response::new(Full::new(text.to_bytes()));
        *refusal.status_mut() = status;
        if let Some(kind) = kind {
            refusal.headers_mut().insert(CONTENT_TYPE, kind);
        }
        Ok(Answer { response: refusal, session: None })
    }

    async fn logged(
        &self,
        pod: &Object,
        options: LogOptions,
        lines: mpsc::Sender<bytes::Bytes>,
    ) -> Result<()> {
        let address = self.address(pod)?;
        let path = log_path(pod, &options);
        let url = format!("https://{}{path}", address.authority());
        let failed = |cause: &dyn std::fmt::Display| Status::internal(format!("Get {url:?}: {cause}"));
        let mut sender = self.dialer.open(&address).await.map_err(|cause| failed(&cause))?;
        let mut asked = Request::new(Empty::<bytes::Bytes>::new());
        *asked.uri_mut() = path.parse().map_err(Status::internal)?;
        asked.headers_mut().insert(HOST, host(&address)?);
        let response = sender.send_request(asked).await.map_err(|e| failed(&e))?;
        let status = response.status();
        if status != StatusCode::OK {
            let text = Limited::new(response.into_body(), REFUSAL).collect().await.map_err(|e| failed(&e))?;
            return Err(refused(status, &String::from_utf8_lossy(&text.to_bytes())));
        }
        let mut body = response.into_body();
        // A log that breaks off ends here too: what was read is with the client already.
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data()
                && lines.send(data).await.is_err()
            {
                break;
            }
        }
        Ok(())
    }
}

impl Node for Kubelets {
    fn upgrade<'a>(
        &'a self,
        pod: &'a Object,
        what: Upgrade,
        request: Request<Incoming>,
    ) -> Later<'a, Result<Answer>> {
        Box::pin(self.upgraded(pod, what, request))
    }

    fn log<'a>(
        &'a self,
        pod: &'a Object,
        options: LogOptions,
        lines: mpsc::Sender<bytes::Bytes>,
    ) -> Later<'a, Result<()>> {
        Box::pin(self.logged(pod, options, lines))
    }
}

/// The kubelet's path for what is asked of a pod, with its own names of the parameters.
fn upgrade_path(pod: &Object, what: Upgrade, asked: &str) -> String {
    let (namespace, name) = (pod.namespace(), pod.name());
    // The server has read it before.
    let parameters = query(asked).unwrap_or_default();
    let first =
        |wanted: &str| parameters.iter().find(|(key, _)| key == wanted).map(|(_, value)| value.as_str());
    if what == Upgrade::PortForward {
        let ports: Vec<&str> =
            parameters.iter().filter(|(key, _)| key == "ports").map(|(_, v)| v.as_str()).collect();
        let query =
            if ports.is_empty() { String::new() } else { format!("?port={}", escaped(&ports.join(","))) };
        return format!("/portForward/{namespace}/{name}{query}");
    }
    let container = first("container").filter(|name| !name.is_empty());
    let container = container.map_or_else(|| only_container(pod), str::to_owned);
    let verb = if what == Upgrade::Exec { "exec" } else { "attach" };
    let mut wanted: Vec<String> = Vec::new();
    for (ours, theirs) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        // As the server itself reads them, for admission.
        if first(ours).is_some_and(|value| !matches!(value, "0" | "false")) {
            wanted.push(format!("{theirs}=1"));
        }
    }
    if what == Upgrade::Exec {
        let words = parameters.iter().filter(|(key, _)| key == "command");
        wanted.extend(words.map(|(_, word)| format!("command={}", escaped(word))));
    }
    format!("/{verb}/{namespace}/{name}/{}?{}", escaped(&container), wanted.join("&"))
}

fn only_container(pod: &Object) -> String {
    let containers = pod.at(&["spec", "containers"]).and_then(serde_json::Value::as_array);
    let first = containers.and_then(|all| all.first()).and_then(|one| one.get("name")?.as_str());
    first.unwrap_or_default().to_owned()
}

fn log_path(pod: &Object, options: &LogOptions) -> String {
    let mut query: Vec<String> = Vec::new();
    for (name, is_set) in
        [("follow", options.follow), ("previous", options.previous), ("timestamps", options.timestamps)]
    {
        if is_set {
            query.push(format!("{name}=true"));
        }
    }
    for (name, number) in [
        ("sinceSeconds", options.since_seconds),
        ("tailLines", options.tail_lines),
        ("limitBytes", options.limit_bytes),
    ] {
        query.extend(number.map(|number| format!("{name}={number}")));
    }
    query.extend(options.since_time.as_deref().map(|time| format!("sinceTime={}", escaped(time))));
    if !matches!(options.stream.as_str(), "" | "All") {
        query.push(format!("stream={}", escaped(&options.stream)));
    }
    let container =
        if options.container.is_empty() { only_container(pod) } else { options.container.clone() };
    let path = format!("/containerLogs/{}/{}/{}", pod.namespace(), pod.name(), escaped(&container));
    if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
}

/// A part of a path or of a query, with all but what never needs it escaped.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// The headers of the client without what is about its own connection and who it is.
fn to_kubelet(headers: &HeaderMap, address: &Address) -> Result<HeaderMap> {
    let mut told = HeaderMap::new();
    let stays = |name: &str| {
        name.starts_with("sec-websocket-")
            || name.starts_with("x-stream-")
            || matches!(name, "user-agent" | "origin")
    };
    for (name, value) in headers.iter().filter(|(name, _)| stays(name.as_str()) && *name != AUTHORIZATION) {
        if let Some(value) = dial::without_token(value) {
            told.append(name, value);
        }
    }
    if let Some(upgrade) = headers.get(UPGRADE) {
        told.insert(UPGRADE, upgrade.clone());
        told.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    told.insert(HOST, host(address)?);
    Ok(told)
}

fn host(address: &Address) -> Result<HeaderValue> {
    HeaderValue::from_str(&address.authority()).map_err(Status::internal)
}

/// What a kubelet that gives no log says, as `kube-apiserver` passes it on.
fn refused(status: StatusCode, text: &str) -> Status {
    let text = text.trim_end();
    match status.as_u16() {
        400 => Status::bad_request(text),
        500 => Status::internal(text),
        404 => Status::new(404, Reason::NotFound, text),
        403 => Status::new(403, Reason::Forbidden, text),
        code => Status::new(
            code.max(400),
            Reason::InternalError,
            format!("the kubelet answered {status}: {text}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Object {
        let pod = json!({
            "metadata": {"namespace": "ns", "name": "p"},
            "spec": {"nodeName": "n", "containers": [{"name": "c"}]},
        });
        Object::from_value(pod).unwrap()
    }

    #[test]
    fn the_kubelet_has_other_names_for_the_same() {
        let exec = |query: &str| upgrade_path(&pod(), Upgrade::Exec, query);
        assert_eq!(
            exec("container=d&stdin=true&stdout=1&tty=false&command=sh&command=-c&command=a+%26b"),
            "/exec/ns/p/d?input=1&output=1&command=sh&command=-c&command=a%20%26b"
        );
        assert_eq!(
            exec("stdin=yes&stdout=TRUE&stderr=0&tty=&command=x"),
            "/exec/ns/p/c?input=1&output=1&tty=1&command=x"
        );
        assert_eq!(exec("stderr=true&command=x"), "/exec/ns/p/c?error=1&command=x");
        let attach = upgrade_path(&pod(), Upgrade::Attach, "stdin=true&tty=true&command=x");
        assert_eq!(attach, "/attach/ns/p/c?input=1&tty=1");
        assert_eq!(upgrade_path(&pod(), Upgrade::PortForward, ""), "/portForward/ns/p");
        let ports = upgrade_path(&pod(), Upgrade::PortForward, "ports=80&ports=443");
        assert_eq!(ports, "/portForward/ns/p?port=80%2C443");
    }

    #[test]
    fn options_of_a_log_are_passed_on() {
        let options = LogOptions {
            follow: true,
            tail_lines: Some(3),
            since_time: Some("2026-01-01T00:00:00Z".to_owned()),
            stream: "Stderr".to_owned(),
            ..LogOptions::default()
        };
        let wanted =
            "/containerLogs/ns/p/c?follow=true&tailLines=3&sinceTime=2026-01-01T00%3A00%3A00Z&stream=Stderr";
        assert_eq!(log_path(&pod(), &options), wanted);
        let all = LogOptions { stream: "All".to_owned(), container: "d".to_owned(), ..LogOptions::default() };
        assert_eq!(log_path(&pod(), &all), "/containerLogs/ns/p/d");
    }

    #[test]
    fn what_proves_who_asks_does_not_go_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("cookie", "x"),
            ("impersonate-user", "root"),
            ("upgrade", "websocket"),
            ("connection", "upgrade"),
            ("sec-websocket-key", "k"),
            ("sec-websocket-protocol", "base64url.bearer.authorization.k8s.io.eA, v5.channel.k8s.io"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let address = Address { host: "10.0.0.1".to_owned(), port: 10250 };
        let told = to_kubelet(&headers, &address).unwrap();
        let mut told: Vec<_> = told.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        told.sort();
        assert_eq!(
            told,
            [
                ("connection", "Upgrade"),
                ("host", "10.0.0.1:10250"),
                ("sec-websocket-key", "k"),
                ("sec-websocket-protocol", "v5.channel.k8s.io"),
                ("upgrade", "websocket"),
                ("x-stream-protocol-version", "v4.channel.k8s.io"),
            ]
        );
    }
}
