//! From a request to a session.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use hyper::Request;
use hyper::StatusCode;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;

use super::pairs::{Pair, Pairs};
use crate::mux::{Connection, Transport};
use crate::negotiate::{Agreed, Offer, Reply, negotiate, refuse};
use crate::remote_command::{Answer, Session, attend};
use crate::spdy::Spdy;
use crate::websocket::{Channels, Encoding, Side, Tunnel};
use crate::{Broken, Failure, Limits, relay};

/// The ways a port-forward comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Spdy,
    /// SPDY's bytes in a WebSocket's messages.
    Tunnel,
    /// Two channels for each port that the address names.
    Channels(Encoding),
}

const OFFER: Offer<Version> = Offer {
    spdy: &[("portforward.k8s.io", Version::Spdy)],
    websocket: &[
        ("SPDY/3.1+portforward.k8s.io", Version::Tunnel),
        ("v4.channel.k8s.io", Version::Channels(Encoding::Binary)),
        ("v4.base64.channel.k8s.io", Version::Channels(Encoding::Base64)),
        ("", Version::Channels(Encoding::Binary)),
    ],
};

/// Ports that WebSocket's version 4 can have: the error channel of the last one is 253, below 255.
const CHANNELS_MAX: usize = 127;

/// What [`answer`] would refuse this request with for its protocol, if it would.
pub(crate) fn refusal<B>(request: &Request<B>) -> Option<Reply> {
    negotiate(request, &OFFER).err().map(|refusal| *refusal)
}

/// Answers a request for a port-forward: refuses it, or gives the session in which `connect` is called with a port for
/// each connection that the client wants, and the bytes are copied. `ports` are those of the address, or of CRI's
/// request; only WebSocket's version 4 needs them.
///
/// The session spawns a task for each connection, which ends with it. A connection ends when both sides have ended; when
/// the client goes, what it had sent is still passed on for as long as [`Limits::linger`] says.
pub fn answer<B, C, F, T>(mut request: Request<B>, ports: &[u16], limits: &Limits, connect: C) -> Answer
where
    C: Fn(u16) -> F + Send + Sync + 'static,
    F: Future<Output = Result<T, Failure>> + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Agreed { version, response } = match negotiate(&request, &OFFER) {
        Ok(agreed) => agreed,
        Err(refusal) => return Answer { response: *refusal, session: None },
    };
    if matches!(version, Version::Channels(_)) && (ports.is_empty() || ports.len() > CHANNELS_MAX) {
        let text = "cannot forward ports over WebSocket's version 4: from 1 to 127 ports must be named";
        return Answer { response: *refuse(StatusCode::BAD_REQUEST, text), session: None };
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let (limits, ports, connect) = (limits.clone(), ports.to_vec(), Arc::new(connect));
    let session: Session = Box::pin(async move {
        // It fails when the client is gone before it has the response.
        let Ok(upgraded) = upgrade.await else { return };
        let transport: Box<dyn Transport> = Box::new(TokioIo::new(upgraded));
        match version {
            Version::Channels(encoding) => {
                let (connection, driver) =
                    Connection::new(transport, Box::new(Channels::new(Side::Server, encoding, false)));
                attend(driver.idle(limits.idle), channels(connection, ports, limits, connect)).await;
            }
            Version::Spdy | Version::Tunnel => {
                let transport = match version {
                    Version::Tunnel => Box::new(Tunnel::new(transport, Side::Server)),
                    _ => transport,
                };
                let (connection, driver) = Connection::new(transport, Box::new(Spdy::server()));
                attend(driver.idle(limits.idle), pairs(connection, limits, connect)).await;
            }
        }
    });
    Answer { response, session: Some(session) }
}

/// SPDY: pairs of streams, as many and as long as the client likes.
async fn pairs<C, F, T>(connection: Connection, limits: Limits, connect: Arc<C>)
where
    C: Fn(u16) -> F + Send + Sync + 'static,
    F: Future<Output = Result<T, Failure>> + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut pairs = Pairs::default();
    let mut tasks = JoinSet::new();
    loop {
        let deadline = pairs.deadline(limits.create);
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(Instant::into(deadline)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            incoming = connection.incoming() => match incoming {
                None => break,
                Some(incoming) => if let Some(pair) = pairs.add(&connection, incoming) {
                    tasks.spawn(forward(pair, Arc::clone(&connect), true));
                },
            },
            _ = tasks.join_next(), if !tasks.is_empty() => {}
            () = late => pairs.expire(limits.create),
        }
    }
    // The client is gone, but what it had sent before may still be on its way to the pod.
    let _ = tokio::time::timeout(limits.linger, async { while tasks.join_next().await.is_some() {} }).await;
}

/// WebSocket's version 4: two channels for each port, once.
async fn channels<C, F, T>(connection: Connection, ports: Vec<u16>, limits: Limits, connect: Arc<C>)
where
    C: Fn(u16) -> F + Send + Sync + 'static,
    F: Future<Output = Result<T, Failure>> + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for (port, first) in ports.into_iter().zip((0..).step_by(2)) {
        let (data, error) = (connection.channel(first), connection.channel(first + 1).1);
        let mut pair = Pair { port, error, data };
        let connect = Arc::clone(&connect);
        tasks.spawn(async move {
            // Each channel begins with its port, the lower byte first.
            let greeting = port.to_le_bytes();
            let greeted = async {
                pair.data.1.write_all(&greeting).await?;
                pair.error.write_all(&greeting).await
            };
            if greeted.await.is_ok() {
                forward(pair, connect, false).await;
            }
        });
    }
    let gone = connection.gone();
    tokio::select! {
        () = async { while tasks.join_next().await.is_some() {} } => {}
        () = gone.wait() => {
            let _ = tokio::time::timeout(limits.linger, async { while tasks.join_next().await.is_some() {} }).await;
        }
    }
    connection.close(limits.linger);
}

/// One connection. `half_closes`: whether the client can say that it sends nothing more.
async fn forward<C, F, T>(pair: Pair, connect: Arc<C>, half_closes: bool)
where
    C: Fn(u16) -> F,
    F: Future<Output = Result<T, Failure>>,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let Pair { port, mut error, data: (input, output) } = pair;
    let pod = match connect(port).await {
        Ok(pod) => pod,
        Err(failure) => return fail(error, output, port, &failure.to_string()).await,
    };
    let (from_pod, to_pod) = tokio::io::split(pod);
    // The output is cut off, not ended, if the pod's side breaks; so it must outlive its relay.
    let mut output = output;
    let up = async { relay(input, to_pod).await.map(|_| ()).map_err(|broken| at(broken, Side::Client)) };
    let down =
        async { relay(from_pod, &mut output).await.map(|_| ()).map_err(|broken| at(broken, Side::Server)) };
    let done = if half_closes {
        tokio::try_join!(up, down).map(|_| ())
    } else {
        tokio::select! { up = up => up, down = down => down }
    };
    match done {
        Ok(()) => {
            let _ = error.shutdown().await;
        }
        // Clients cut off what they are done with; to be told that this went wrong would make kubectl end altogether.
        Err(None) => output.reset(),
        Err(Some(cause)) => fail(error, output, port, &cause.to_string()).await,
    }
}

/// The error, if the pod's side of a relay broke; none if the client's did. `from` is the side that is read.
fn at(broken: Broken, from: Side) -> Option<std::io::Error> {
    match (broken, from) {
        (Broken::Writing(cause), Side::Client) | (Broken::Reading(cause), Side::Server) => Some(cause),
        _ => None,
    }
}

/// Says what went wrong, and cuts the connection off.
async fn fail(mut error: crate::Output, data: crate::Output, port: u16, why: &str) {
    let text = BytesMut::from(format!("cannot forward port {port}: {why}").as_bytes());
    let _ = error.write_all(&text).await;
    drop(error);
    data.reset();
}
