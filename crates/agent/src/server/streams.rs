//! Exec, attach and port-forward: passed on to where the runtime says, as they come.

use std::sync::Arc;

use bytes::Bytes;
use client::query::Query;
use cri::contract::v1::{AttachRequest, ContainerState, ExecRequest, PortForwardRequest};
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Reply, text};
use crate::agent::Agent;
use crate::names::Key;
use crate::observed::Observed;
use crate::pod::containers;
use crate::runtime::cause;

/// What is read of a runtime's refusal.
const REFUSAL: usize = 64 << 10;

/// A pod that the API server asks for, with what the runtime has of it.
pub(super) async fn find(agent: &Agent, namespace: &str, name: &str) -> Result<(Key, Observed), Reply> {
    let missing = || text(StatusCode::NOT_FOUND, format!("pod {name:?} does not exist"));
    let pod = agent.named(&client::cache::Name::new(namespace, name)).ok_or_else(missing)?;
    let key = Key::of(&pod);
    let observed = agent.runtime.observe(&key.uid).await.map_err(|error| unavailable(&cause(&error)))?;
    Ok((key, observed))
}

fn unavailable(why: &str) -> Reply {
    text(StatusCode::INTERNAL_SERVER_ERROR, why)
}

/// The id of a container that runs.
async fn running(agent: &Agent, namespace: &str, pod: &str, container: &str) -> Result<String, Reply> {
    let (key, observed) = find(agent, namespace, pod).await?;
    let named = observed.container(container);
    match named.filter(|one| one.state() == ContainerState::ContainerRunning) {
        Some(one) => Ok(one.id.clone()),
        None => {
            let known = agent.pod(&key).is_some_and(|pod| containers::has(&pod, container));
            let words = match known {
                true => format!("container {container:?} of pod {namespace}/{pod} is not running"),
                false => format!("container not found (\"{container}\")"),
            };
            Err(text(StatusCode::NOT_FOUND, words))
        }
    }
}

/// `/exec/NAMESPACE/POD/CONTAINER`
pub(super) async fn exec(
    agent: &Arc<Agent>,
    request: Request<Incoming>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
) -> Reply {
    let asked = async {
        let wish = ExecRequest {
            container_id: running(agent, namespace, pod, container).await?,
            cmd: query.all("command").map(str::to_owned).collect(),
            tty: query.is("tty"),
            stdin: query.is("input"),
            stdout: query.is("output"),
            stderr: query.is("error") && !query.is("tty"),
        };
        let client = agent.runtime.client().await.map_err(|error| unavailable(&cause(&error)))?;
        client.exec(wish).await.map(|answer| answer.url).map_err(|error| unavailable(&cause(&error)))
    };
    pass(asked.await, request).await
}

/// `/attach/NAMESPACE/POD/CONTAINER`
pub(super) async fn attach(
    agent: &Arc<Agent>,
    request: Request<Incoming>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
) -> Reply {
    let asked = async {
        let wish = AttachRequest {
            container_id: running(agent, namespace, pod, container).await?,
            stdin: query.is("input"),
            tty: query.is("tty"),
            stdout: query.is("output"),
            stderr: query.is("error") && !query.is("tty"),
        };
        let client = agent.runtime.client().await.map_err(|error| unavailable(&cause(&error)))?;
        client.attach(wish).await.map(|answer| answer.url).map_err(|error| unavailable(&cause(&error)))
    };
    pass(asked.await, request).await
}

/// `/portForward/NAMESPACE/POD`
pub(super) async fn port_forward(
    agent: &Arc<Agent>,
    request: Request<Incoming>,
    namespace: &str,
    pod: &str,
    query: &Query,
) -> Reply {
    let asked = async {
        let (_, observed) = find(agent, namespace, pod).await?;
        let sandbox = observed.sandbox();
        let sandbox = sandbox.ok_or_else(|| unavailable(&format!("pod {namespace}/{pod} has no sandbox")))?;
        let ports = query.all("port").chain(query.all("ports")).flat_map(|list| list.split(','));
        let wish = PortForwardRequest {
            pod_sandbox_id: sandbox.id.clone(),
            port: ports.filter_map(|port| port.parse().ok()).collect(),
        };
        let client = agent.runtime.client().await.map_err(|error| unavailable(&cause(&error)))?;
        client.port_forward(wish).await.map(|answer| answer.url).map_err(|error| unavailable(&cause(&error)))
    };
    pass(asked.await, request).await
}

/// The request goes to the address, and both sides are connected.
async fn pass(url: Result<String, Reply>, request: Request<Incoming>) -> Reply {
    let url = match url {
        Ok(url) => url,
        Err(refusal) => return refusal,
    };
    match relay(&url, request).await {
        Ok(reply) => reply,
        Err(why) => {
            text(StatusCode::BAD_GATEWAY, format!("cannot reach the runtime's streams at {url}: {why}"))
        }
    }
}

async fn relay(
    url: &str,
    mut request: Request<Incoming>,
) -> Result<Reply, Box<dyn std::error::Error + Send + Sync>> {
    let uri: Uri = url.parse()?;
    let authority = uri.authority().ok_or("it is no URL")?.clone();
    if uri.scheme_str() != Some("http") {
        return Err("only streams over http, on this machine, are passed on".into());
    }
    let stream = TcpStream::connect(authority.as_str()).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    let ours = hyper::upgrade::on(&mut request);
    let mut asked = Request::new(Empty::<Bytes>::new());
    *asked.method_mut() = request.method().clone();
    *asked.uri_mut() = uri.path_and_query().ok_or("it has no path")?.as_str().parse()?;
    *asked.headers_mut() = request.headers().clone();
    // Who asks is known by now; the runtime need not be able to ask for them.
    asked.headers_mut().remove(AUTHORIZATION);
    asked.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str())?);
    let mut response = sender.send_request(asked).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let theirs = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            let (Ok(ours), Ok(theirs)) = tokio::join!(ours, theirs) else { return };
            let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
            // How it ended is seen by the two who spoke.
            let _ = tokio::io::copy_bidirectional(&mut ours, &mut theirs).await;
        });
        return Ok(response.map(|_| Full::default().boxed_unsync()));
    }
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, REFUSAL).collect().await?.to_bytes();
    Ok(Response::from_parts(parts, Full::new(body).boxed_unsync()))
}
