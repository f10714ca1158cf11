//! From a request to a session.

use std::time::Duration;

use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;

use super::{Answer, Client, Exit, RemoteCommand, Requested, Resizes, Session, status};
use crate::mux::{Connection, Driver, Reset};
use crate::negotiate::{Agreed, Offer, Reply, negotiate};
use crate::spdy::Spdy;
use crate::websocket::{Channels, Encoding, Side};
use crate::{Failure, Input, Limits, Output};

/// A version of the protocol, in one of its two clothes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// 1 to 4. Sizes are sent from 3 on, ends as JSON from 4 on.
    Spdy(u8),
    /// 1, 4 and 5; there are no others. Channels can be closed with 5.
    WebSocket(u8, Encoding),
}

const OFFER: Offer<Version> = Offer {
    spdy: &[
        ("v4.channel.k8s.io", Version::Spdy(4)),
        ("v3.channel.k8s.io", Version::Spdy(3)),
        ("v2.channel.k8s.io", Version::Spdy(2)),
        ("channel.k8s.io", Version::Spdy(1)),
    ],
    websocket: &[
        ("v5.channel.k8s.io", Version::WebSocket(5, Encoding::Binary)),
        ("v4.channel.k8s.io", Version::WebSocket(4, Encoding::Binary)),
        ("v4.base64.channel.k8s.io", Version::WebSocket(4, Encoding::Base64)),
        ("channel.k8s.io", Version::WebSocket(1, Encoding::Binary)),
        ("base64.channel.k8s.io", Version::WebSocket(1, Encoding::Base64)),
        ("", Version::WebSocket(1, Encoding::Binary)),
    ],
};

impl Version {
    fn tells_json(self) -> bool {
        matches!(self, Version::Spdy(4..) | Version::WebSocket(4.., _))
    }
}

/// What [`answer`] would refuse this request with, if it would.
pub(crate) fn refusal<B>(request: &Request<B>) -> Option<Reply> {
    negotiate(request, &OFFER).err().map(|refusal| *refusal)
}

/// Answers a request for an exec or an attach: refuses it, or gives the session in which `handler` gets the streams.
///
/// The request comes from a hyper connection that was made `with_upgrades`. The handler is called once all streams are
/// there, and what it returns is told to the client; it is dropped only with the session.
pub fn answer<B, H, F>(mut request: Request<B>, requested: Requested, limits: &Limits, handler: H) -> Answer
where
    H: FnOnce(RemoteCommand) -> F + Send + 'static,
    F: Future<Output = Result<Exit, Failure>> + Send,
{
    let Agreed { version, response } = match negotiate(&request, &OFFER) {
        Ok(agreed) => agreed,
        Err(refusal) => return Answer { response: *refusal, session: None },
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let limits = limits.clone();
    let session: Session = Box::pin(async move {
        // It fails when the client is gone before it has the response.
        let Ok(upgraded) = upgrade.await else { return };
        let transport = Box::new(TokioIo::new(upgraded));
        let (connection, driver) = match version {
            Version::Spdy(_) => Connection::new(transport, Box::new(Spdy::server())),
            Version::WebSocket(version, encoding) => {
                Connection::new(transport, Box::new(Channels::new(Side::Server, encoding, version >= 5)))
            }
        };
        let work = run(connection, version, requested, limits.clone(), handler);
        attend(driver.idle(limits.idle), work).await;
    });
    Answer { response, session: Some(session) }
}

/// Polls a connection and the work on it until both are done.
pub(crate) async fn attend(driver: Driver, work: impl Future<Output = ()>) {
    // The work first: channels must be known before anything is dealt out to them. What a peer did wrong is told to the
    // peer, and the work learns that it is gone.
    let ((), _) = tokio::join!(biased; work, driver);
}

async fn run<H, F>(connection: Connection, version: Version, requested: Requested, limits: Limits, handler: H)
where
    H: FnOnce(RemoteCommand) -> F,
    F: Future<Output = Result<Exit, Failure>>,
{
    let streams = match version {
        Version::Spdy(version) => match opened(&connection, version, requested, limits.create).await {
            Ok(streams) => streams,
            Err(()) => return connection.close(limits.linger),
        },
        Version::WebSocket(_, encoding) => Streams::channels(&connection, encoding, requested),
    };
    let Streams { mut error, stdin, stdout, stderr, resize } = streams;
    connection.seal();
    let client = Client { gone: connection.gone() };
    let resize = requested.tty().then(|| Resizes::new(resize));
    let end = handler(RemoteCommand { stdin, stdout, stderr, resize, tty: requested.tty(), client }).await;
    let told = if version.tells_json() { status::json(&end) } else { status::text(&end) };
    // It fails only if the client is gone, and then there is nobody to tell.
    let _ = error.write_all(&told).await;
    drop(error);
    connection.close(limits.linger);
}

/// The kinds of streams, in the order in which clients open them.
const KINDS: [&str; 5] = ["error", "stdin", "stdout", "stderr", "resize"];

type Stream = Option<(Input, Output)>;

/// Waits for the streams that a SPDY client opens. If they do not all come, that is told on the error stream if it did.
async fn opened(
    connection: &Connection,
    version: u8,
    requested: Requested,
    patience: Duration,
) -> Result<Streams, ()> {
    let wanted =
        [true, requested.stdin(), requested.stdout(), requested.stderr(), requested.tty() && version >= 3];
    let mut found: [Stream; 5] = Default::default();
    let waited = tokio::time::timeout(patience, collect(connection, wanted, &mut found)).await;
    let missing =
        KINDS.iter().zip(&found).zip(wanted).filter(|((_, stream), wanted)| *wanted && stream.is_none());
    let missing: Vec<&str> = missing.map(|((kind, _), _)| *kind).collect();
    let [error, stdin, stdout, stderr, resize] = found;
    let error = error.map(|(_, output)| output);
    match (waited, error) {
        (Ok(Some(())), Some(error)) => {
            let input = |stream: Stream| stream.map(|(input, output)| input.with(output));
            let output = |stream: Stream| stream.map(|(_, output)| output);
            let (stdin, resize) = (input(stdin), input(resize));
            Ok(Streams { error, stdin, stdout: output(stdout), stderr: output(stderr), resize })
        }
        (Err(_), Some(mut error)) => {
            let missing = missing.join(", ");
            let failure =
                format!("cannot start: the client did not open these streams within {patience:?}: {missing}");
            let end = Err(failure.into());
            let told = if version >= 4 { status::json(&end) } else { status::text(&end) };
            let _ = error.write_all(&told).await;
            Err(())
        }
        _ => Err(()),
    }
}

/// Fills `found` with what is wanted; `None` if the client goes before.
async fn collect(connection: &Connection, wanted: [bool; 5], found: &mut [Stream; 5]) -> Option<()> {
    while found.iter().zip(wanted).any(|(stream, wanted)| wanted && stream.is_none()) {
        let incoming = connection.incoming().await?;
        let kind = incoming.headers.get("streamtype").unwrap_or_default();
        let mut slots = KINDS.iter().zip(wanted).zip(found.iter_mut());
        let slot = slots.find(|((known, wanted), slot)| **known == kind && *wanted && slot.is_none());
        match slot {
            Some((_, slot)) => *slot = Some(connection.accept(incoming.id)),
            None => connection.refuse(incoming.id, Reset::ProtocolError),
        }
    }
    Some(())
}

/// The streams of a session, as the protocol has them.
struct Streams {
    error: Output,
    stdin: Option<Input>,
    stdout: Option<Output>,
    stderr: Option<Output>,
    resize: Option<Input>,
}

impl Streams {
    /// Channels are there from the start, asked for or not.
    fn channels(connection: &Connection, encoding: Encoding, requested: Requested) -> Streams {
        let greeting = match requested {
            requested if requested.stdout() => 1,
            requested if requested.stderr() => 2,
            _ => 3,
        };
        connection.with_protocol(|_, out| Channels::greeting(greeting, encoding, out));
        let input = |channel| connection.channel(channel).0;
        let output = |channel| connection.channel(channel).1;
        Streams {
            error: output(3),
            stdin: requested.stdin().then(|| input(0)),
            stdout: requested.stdout().then(|| output(1)),
            stderr: requested.stderr().then(|| output(2)),
            resize: requested.tty().then(|| input(4)),
        }
    }
}
