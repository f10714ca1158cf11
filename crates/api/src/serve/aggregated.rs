//! Requests for groups that others serve: answered in this process, or handed on to a service.
//!
//! A service is asked over a connection of its own, as the front proxy, and told who asks; what it answers goes back as it
//! comes, watches and upgraded connections too. A service that is not there is answered for as Kubernetes does, in text.

use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::upgrade::OnUpgrade;
use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::answer::{self, Response};
use super::api::Api;
use super::body::{Body, Broken, Pieces};
use super::media::{self, As};
use super::path::Meaning;
use super::request::{Call, Content as Sent, method_not_allowed};
use crate::aggregation::{Asked, Backend, Content, Entry, Handler, Place, said};
use crate::contract::{Result, Status};
use crate::dial;
use crate::resource::Asker;

/// A piece of an answer, or why there are no more.
type Piece = std::result::Result<bytes::Bytes, Broken>;

/// Pieces of an answer that wait for a client.
const PIECES: usize = 4;
/// What is about one connection and not about the request.
const OF_CONNECTION: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
];

/// Answers a request for a group version of others.
pub(super) async fn answer(api: &Api, call: Call, entry: &Entry) -> Result<Response> {
    match &entry.backend {
        Backend::Handler(handler) => in_process(api, call, entry, &**handler).await,
        Backend::Service(place) => handed_on(api, call, entry, place).await,
    }
}

async fn in_process(api: &Api, call: Call, entry: &Entry, handler: &dyn Handler) -> Result<Response> {
    if matches!(call.meaning, Meaning::Version(..)) {
        if !matches!(call.parts.method, Method::GET | Method::HEAD) {
            return Err(method_not_allowed());
        }
        let agreed = media::agree(call.headers(), false, |what| what == As::Object)?;
        let list = json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": format!("{}/{}", entry.group, entry.version),
            "resources": *entry.resources,
        });
        return Ok(call.style(agreed).value(200, &list));
    }
    let Call { parts, body, asker, .. } = call;
    let request = Request::from_parts(parts, body.come());
    let response = handler.answer(&asker, request).await?;
    Ok(response.map(|content| match content {
        Content::Whole(bytes) => Body::whole(bytes),
        Content::Stream(receiver) => Body::channel(Pieces::Endless(receiver), api.stop.clone()),
    }))
}

async fn handed_on(api: &Api, call: Call, entry: &Entry, place: &Place) -> Result<Response> {
    let connector = api.registry.aggregation().connector().filter(|_| entry.available);
    let (Some(connector), Ok(found)) = (connector, place.find(&api.registry)) else {
        return Ok(unavailable("service unavailable"));
    };
    let mut sender: SendRequest<Sent> = match connector.open(place, &found).await {
        Ok(sender) => sender,
        Err(cause) => return Ok(unavailable(&said(&cause))),
    };
    let Call { parts, body, asker, .. } = call;
    let wanted = wants_upgrade(&parts.headers);
    let mut request = Request::from_parts(parts, body);
    let ours = wanted.is_some().then(|| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    address(&mut parts, &asker, place, wanted.as_ref())?;
    if let Sent::Come(bytes) = &body
        && parts.headers.contains_key(CONTENT_LENGTH)
    {
        // What nobody has read, as what comes with a GET, is not sent on, and must not be waited for.
        parts.headers.insert(CONTENT_LENGTH, bytes.len().into());
    }
    let mut response = match sender.send_request(Request::from_parts(parts, body)).await {
        Ok(response) => response,
        Err(error) => return Ok(unavailable(&said(&error.to_string()))),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(ours) = ours
    {
        let theirs = hyper::upgrade::on(&mut response);
        tokio::spawn(relay(ours, theirs, api.stop.clone()));
        // What the two agreed on is between the two, the headers of the connection among it.
        return Ok(response.map(|_| Body::empty()));
    }
    let (mut parts, body) = response.into_parts();
    strip(&mut parts.headers);
    let (pieces, receiver) = mpsc::channel(PIECES);
    tokio::spawn(pump(body, pieces, sender));
    let mut answer = Response::new(Body::channel(Pieces::Breakable(receiver), api.stop.clone()));
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = parts.headers;
    Ok(answer)
}

/// 503 of a service that cannot be asked.
fn unavailable(text: &str) -> Response {
    answer::text(503, format!("{text}\n"))
}

/// The protocol that a client wants to change to.
pub(super) fn wants_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let is_told = listed(headers).any(|name| name.eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| is_told).cloned()
}

/// The names that `Connection:` lists.
fn listed(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Takes away what is about the connection alone.
fn strip(headers: &mut HeaderMap) {
    let more: Vec<HeaderName> = listed(headers).filter_map(|name| name.parse().ok()).collect();
    OF_CONNECTION.iter().for_each(|name| drop(headers.remove(*name)));
    more.into_iter().for_each(|name| drop(headers.remove(name)));
    headers.remove(UPGRADE);
}

/// Makes of a request of a client the request of the front proxy: who asks is told, by what they proved it is not.
fn address(parts: &mut Parts, asker: &Asker, place: &Place, upgrade: Option<&HeaderValue>) -> Result<()> {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = path.parse::<Uri>().map_err(Status::internal)?;
    parts.version = http::Version::HTTP_11;
    parts.extensions = http::Extensions::new();
    let headers = &mut parts.headers;
    strip(headers);
    headers.remove(AUTHORIZATION);
    let acting: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    acting.into_iter().for_each(|name| drop(headers.remove(name)));
    let protocols: Vec<HeaderValue> =
        headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(dial::without_token).collect();
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    for protocol in protocols {
        headers.append(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    headers.insert(HOST, HeaderValue::from_str(&place.server()).map_err(Status::internal)?);
    if let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, upgrade.clone());
    }
    Asked(asker).tell(headers);
    Ok(())
}

/// Carries both ways until both ends are done, or the server ends.
async fn relay(ours: OnUpgrade, theirs: OnUpgrade, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        () = dial::relay(ours, theirs) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// Passes an answer on until it ends or nobody wants it any more. The connection lives as long as it does.
async fn pump(mut body: Incoming, pieces: mpsc::Sender<Piece>, sender: SendRequest<Sent>) {
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = pieces.closed() => break,
        };
        let piece = match frame {
            None => break,
            Some(Ok(frame)) => frame.into_data().map(Ok),
            // What breaks off must not look like all of it.
            Some(Err(error)) => Ok(Err(Broken::off(&error))),
        };
        let Ok(piece) = piece else { continue };
        let is_last = piece.is_err();
        if pieces.send(piece).await.is_err() || is_last {
            break;
        }
    }
    drop(sender);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_does_not_go_on_however_it_came() {
        let token = "base64url.bearer.authorization.k8s.io.eA";
        let request = Request::builder()
            .uri("/apis/sea.example/v1")
            .header("authorization", "Bearer x")
            .header("sec-websocket-protocol", format!("{token}, v5.channel.k8s.io"))
            .header("sec-websocket-protocol", token)
            .header("sec-websocket-protocol", "v4.channel.k8s.io");
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let place = Place {
            namespace: "sea".to_owned(),
            name: "fish".to_owned(),
            port: 443,
            trust: crate::aggregation::Trust::System,
        };
        address(&mut parts, &Asker::default(), &place, None).unwrap();
        let protocols: Vec<_> = parts.headers.get_all("sec-websocket-protocol").iter().collect();
        assert_eq!(protocols, ["v5.channel.k8s.io", "v4.channel.k8s.io"]);
        assert!(!parts.headers.contains_key("authorization"));
    }

    #[test]
    fn what_is_of_the_connection_does_not_go_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-Hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("accept", "application/json"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        assert_eq!(wants_upgrade(&headers), None);
        strip(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["accept"]);
        headers.insert("connection", HeaderValue::from_static("Keep-Alive, Upgrade"));
        headers.insert("upgrade", HeaderValue::from_static("SPDY/3.1"));
        assert_eq!(wants_upgrade(&headers), Some(HeaderValue::from_static("SPDY/3.1")));
    }
}
