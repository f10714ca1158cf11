//! What is done inside a pod: exec, attach, port-forward, logs.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use hyper::Request;

use super::answer::{self, Response};
use super::api::Api;
use super::body::{Body, Pieces};
use super::hooks::{LogOptions, Upgrade};
use super::object::target;
use super::path::ResourcePath;
use super::request::{Call, Content, Verb, method_not_allowed};
use crate::auth::{Attributes, ResourceAttributes};
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, Reason, Result, Status};
use crate::registry::{Context, View};
use crate::resource::{Part, Resource};

/// Chunks of a log that wait for a client.
const CHUNKS: usize = 4;

/// Whether it is the resource of pods.
pub(super) fn is(resource: &Resource) -> bool {
    resource.names.group.is_empty() && resource.names.plural == "pods"
}

/// Answers a request for one of these subresources.
pub(super) async fn answer(
    api: &Api,
    call: Call,
    resource: Arc<Resource>,
    path: &ResourcePath,
    verb: Verb,
) -> Result<Response> {
    let what = match path.subresource.as_str() {
        "exec" => Some(Upgrade::Exec),
        "attach" => Some(Upgrade::Attach),
        "portforward" => Some(Upgrade::PortForward),
        _ => None,
    };
    match (what, verb) {
        (Some(_), Verb::Get | Verb::Create) | (None, Verb::Get) => {}
        _ => return Err(method_not_allowed()),
    }
    // A WebSocket begins with GET; who may only read must not get in by it.
    if what.is_some() && verb == Verb::Get {
        let Attributes::Resource(asked) = call.attributes() else {
            return Err(method_not_allowed());
        };
        let attributes = Attributes::Resource(ResourceAttributes { verb: "create".to_owned(), ..asked });
        let decision = api.access.authorizer.authorize(&call.asker, &attributes);
        if !decision.is_allowed() {
            return Err(attributes.forbidden(&call.asker, decision.reason()));
        }
    }
    let context = Context::of(call.asker.clone(), call.agent());
    if let Some(what) = what {
        let (kind, options) = connect_options(what, &call);
        let target = target(&resource, path);
        api.registry.connect(&context, &target, &path.subresource, kind, options).await?;
    }
    let found = api.registry.get(&context, &target(&resource, path), Part::Main, "", View::Full).await?;
    let pod: Object = serde_json::from_slice(&found.json).map(Object).map_err(Status::internal)?;
    match what {
        Some(what) => upgrade(api, call, &pod, what).await,
        None => log(api, &call, pod).await,
    }
}

/// The options of a connection as admission sees them.
fn connect_options(what: Upgrade, call: &Call) -> (&'static str, Object) {
    let mut options = Object::default();
    let kind = match what {
        Upgrade::Exec => "PodExecOptions",
        Upgrade::Attach => "PodAttachOptions",
        Upgrade::PortForward => "PodPortForwardOptions",
    };
    let all = |name: &str| {
        call.query.iter().filter(|(key, _)| key == name).map(|(_, value)| value).cloned().collect()
    };
    if what == Upgrade::PortForward {
        let ports: Vec<String> = all("ports");
        let ports: Vec<u16> =
            ports.iter().flat_map(|list| list.split(',')).filter_map(|port| port.parse().ok()).collect();
        options.0.insert("ports".to_owned(), ports.into());
        return (kind, options);
    }
    for stream in ["stdin", "stdout", "stderr", "tty"].into_iter().filter(|stream| call.flag(stream)) {
        options.0.insert(stream.to_owned(), true.into());
    }
    if let Some(container) = call.parameter("container") {
        options.0.insert("container".to_owned(), container.into());
    }
    let command: Vec<String> = all("command");
    if !command.is_empty() {
        options.0.insert("command".to_owned(), command.into());
    }
    (kind, options)
}

async fn upgrade(api: &Api, call: Call, pod: &Object, what: Upgrade) -> Result<Response> {
    if what != Upgrade::PortForward {
        container(pod, call.parameter("container").unwrap_or_default())?;
    }
    if pod.text(&["spec", "nodeName"]).is_empty() {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", pod.name())));
    }
    let Some(node) = &api.node else {
        return Err(nobody(pod));
    };
    let Content::Coming(body) = call.body else {
        return Err(method_not_allowed());
    };
    let answer = node.upgrade(pod, what, Request::from_parts(call.parts, body)).await?;
    if let Some(session) = answer.session {
        let mut stop = api.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = session => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
    }
    let (parts, body) = answer.response.into_parts();
    let Ok(body) = body.collect().await;
    Ok(Response::from_parts(parts, Body::whole(body.to_bytes())))
}

async fn log(api: &Api, call: &Call, pod: Object) -> Result<Response> {
    let options = log_options(call, &pod)?;
    if pod.text(&["spec", "nodeName"]).is_empty() {
        // Nothing has run, so there is nothing to read.
        return Ok(answer::plain(200, "text/plain", bytes::Bytes::new()));
    }
    let Some(node) = api.node.clone() else {
        return Err(nobody(&pod));
    };
    let (sender, mut receiver) = tokio::sync::mpsc::channel(CHUNKS);
    let writing = tokio::spawn(async move {
        let listened_to = sender.clone();
        // Of a log in which nothing is yet a node may say nothing at all for long, nor be reached.
        tokio::select! {
            written = node.log(&pod, options, sender) => written,
            () = listened_to.closed() => Ok(()),
        }
    });
    // What goes wrong before the first byte becomes a status.
    let mut stop = api.stop.clone();
    let first = tokio::select! {
        first = receiver.recv() => first,
        _ = stop.wait_for(|stop| *stop) => return Err(stopping()),
    };
    let Some(first) = first else {
        writing.await.map_err(Status::internal)??;
        return Ok(answer::plain(200, "text/plain", bytes::Bytes::new()));
    };
    let (again, chained) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let mut next = Some(first);
        while let Some(chunk) = next {
            if again.send(chunk).await.is_err() {
                return;
            }
            // A quiet container says nothing by which it would be seen that nobody listens any more.
            next = tokio::select! {
                chunk = receiver.recv() => chunk,
                () = again.closed() => return,
            };
        }
    });
    let mut response = answer::plain(200, "text/plain", bytes::Bytes::new());
    *response.body_mut() = Body::channel(Pieces::Endless(chained), api.stop.clone());
    Ok(response)
}

fn log_options(call: &Call, pod: &Object) -> Result<LogOptions> {
    let number = |name: &str| -> Result<Option<i64>> {
        let Some(text) = call.parameter(name) else { return Ok(None) };
        let number = text.parse().map_err(|_| {
            let text = crate::contract::field::quoted(text);
            Status::bad_request(format!("strconv.ParseInt: parsing {text}: invalid syntax"))
        })?;
        Ok(Some(number))
    };
    let mut options = LogOptions {
        container: call.parameter("container").unwrap_or_default().to_owned(),
        follow: call.flag("follow"),
        previous: call.flag("previous"),
        since_seconds: number("sinceSeconds")?,
        since_time: call.parameter("sinceTime").map(str::to_owned),
        timestamps: call.flag("timestamps"),
        tail_lines: number("tailLines")?,
        limit_bytes: number("limitBytes")?,
        stream: call.parameter("stream").unwrap_or_default().to_owned(),
    };
    let errors = log_errors(&options, call.parameter("stream"));
    if !errors.is_empty() {
        return Err(Status::invalid("", "PodLogOptions", pod.name(), &errors));
    }
    options.container = container(pod, &options.container)?;
    Ok(options)
}

/// What is wrong with the options of a log, as Kubernetes says it.
fn log_errors(options: &LogOptions, stream: Option<&str>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let invalid =
        |name: &str, number: i64, detail: &str| FieldError::invalid(&Path::new(name), number, detail);
    if let Some(lines) = options.tail_lines.filter(|lines| *lines < 0) {
        errors.push(invalid("tailLines", lines, "must be greater than or equal to 0"));
    }
    if let Some(bytes) = options.limit_bytes.filter(|bytes| *bytes < 1) {
        errors.push(invalid("limitBytes", bytes, "must be greater than 0"));
    }
    match (options.since_seconds, &options.since_time) {
        (Some(_), Some(_)) => {
            let detail = "at most one of `sinceTime` or `sinceSeconds` may be specified";
            errors.push(FieldError::forbidden(&Path::new(""), detail));
        }
        (Some(seconds), None) if seconds < 1 => {
            errors.push(invalid("sinceSeconds", seconds, "must be greater than 0"));
        }
        _ => {}
    }
    if let Some(stream) = stream {
        let known = ["All", "Stderr", "Stdout"];
        if !known.contains(&stream) {
            errors.push(FieldError::not_supported(&Path::new("stream"), stream, &known));
        }
        if stream != "All" && options.tail_lines.is_some() {
            let detail = "`tailLines` and specific `stream` are mutually exclusive for now";
            errors.push(FieldError::forbidden(&Path::new(""), detail));
        }
    }
    errors
}

/// The container that is meant, in Kubernetes' words when it is not there or not told.
fn container(pod: &Object, asked: &str) -> Result<String> {
    let names = |field: &str| -> Vec<String> {
        let list = pod.at(&["spec", field]).and_then(serde_json::Value::as_array);
        list.into_iter()
            .flatten()
            .filter_map(|container| container.get("name")?.as_str().map(str::to_owned))
            .collect()
    };
    let (init, main) = (names("initContainers"), names("containers"));
    let name = pod.name();
    if asked.is_empty() {
        return match main.as_slice() {
            [only] => Ok(only.clone()),
            _ => {
                let mut text = format!(
                    "a container name must be specified for pod {name}, choose one of: [{}]",
                    main.join(" ")
                );
                if !init.is_empty() {
                    text.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
                }
                Err(Status::bad_request(text))
            }
        };
    }
    let known = init.iter().chain(&main).chain(&names("ephemeralContainers")).any(|known| known == asked);
    if known {
        Ok(asked.to_owned())
    } else {
        Err(Status::bad_request(format!("container {asked} is not valid for pod {name}")))
    }
}

/// The server ends before there is anything to tell.
fn stopping() -> Status {
    Status::new(503, Reason::ServiceUnavailable, "this server is stopping")
}

/// No agent of this server runs pods.
fn nobody(pod: &Object) -> Status {
    let node = pod.text(&["spec", "nodeName"]);
    let text =
        format!("no agent of node {node:?} is connected to this server, so nothing can be asked of its pods");
    Status::new(503, Reason::ServiceUnavailable, text)
}
