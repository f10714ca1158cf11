//! Which protocol a request asks for, and which version both sides speak.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};

use crate::remote_command::status;
use crate::{spdy, websocket};

pub(crate) const STREAM_PROTOCOL: &str = "x-stream-protocol-version";
pub(crate) const ACCEPTED: &str = "x-accepted-stream-protocol-versions";
pub(crate) const WEBSOCKET_PROTOCOL: &str = "sec-websocket-protocol";
pub(crate) const WEBSOCKET_KEY: &str = "sec-websocket-key";
pub(crate) const WEBSOCKET_VERSION: &str = "sec-websocket-version";
pub(crate) const WEBSOCKET_ACCEPT: &str = "sec-websocket-accept";

/// A response with a text.
pub(crate) type Reply = Response<Full<Bytes>>;

/// What was agreed on, and the 101 that says so.
#[derive(Debug)]
pub(crate) struct Agreed<V> {
    pub(crate) version: V,
    pub(crate) response: Reply,
}

/// The names that a service knows its versions by, and what they mean to it. An empty WebSocket name stands for a client
/// that names none.
pub(crate) struct Offer<V: 'static> {
    pub(crate) spdy: &'static [(&'static str, V)],
    pub(crate) websocket: &'static [(&'static str, V)],
}

/// Finds the first version the client names that is offered; the error is the refusal to send.
pub(crate) fn negotiate<B, V: Copy>(request: &Request<B>, offer: &Offer<V>) -> Result<Agreed<V>, Box<Reply>> {
    let headers = request.headers();
    if !names(headers, CONNECTION.as_str(), "upgrade") {
        return Err(refuse(
            StatusCode::BAD_REQUEST,
            "this address streams: the request must ask for an upgrade",
        ));
    }
    if names(headers, UPGRADE.as_str(), websocket::UPGRADE) {
        return agree_websocket(request, offer.websocket);
    }
    if names(headers, UPGRADE.as_str(), spdy::UPGRADE) {
        return agree_spdy(request, offer.spdy);
    }
    Err(refuse(StatusCode::BAD_REQUEST, "cannot upgrade: neither SPDY/3.1 nor websocket is asked for"))
}

fn agree_spdy<B, V: Copy>(
    request: &Request<B>,
    offered: &[(&'static str, V)],
) -> Result<Agreed<V>, Box<Reply>> {
    if !matches!(*request.method(), Method::GET | Method::POST) {
        return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "cannot upgrade: the method must be GET or POST"));
    }
    let mut asked = list(request.headers(), STREAM_PROTOCOL).peekable();
    if asked.peek().is_none() {
        let text = "cannot upgrade: the header X-Stream-Protocol-Version is missing";
        return Err(refuse(StatusCode::BAD_REQUEST, text));
    }
    let Some((name, version)) = first(asked, offered) else {
        let mut refusal =
            refuse(StatusCode::FORBIDDEN, "cannot upgrade: none of the versions asked for is known here");
        for (name, _) in offered {
            refusal.headers_mut().append(ACCEPTED, HeaderValue::from_static(name));
        }
        return Err(refusal);
    };
    let mut response = switch(spdy::UPGRADE);
    response.headers_mut().insert(STREAM_PROTOCOL, HeaderValue::from_static(name));
    Ok(Agreed { version, response })
}

fn agree_websocket<B, V: Copy>(
    request: &Request<B>,
    offered: &[(&'static str, V)],
) -> Result<Agreed<V>, Box<Reply>> {
    let headers = request.headers();
    if *request.method() != Method::GET {
        return Err(refuse(
            StatusCode::METHOD_NOT_ALLOWED,
            "cannot upgrade: a WebSocket's method must be GET",
        ));
    }
    if !names(headers, WEBSOCKET_VERSION, "13") {
        let mut refusal =
            refuse(StatusCode::UPGRADE_REQUIRED, "cannot upgrade: Sec-WebSocket-Version must be 13");
        refusal.headers_mut().insert(WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return Err(refusal);
    }
    let Some(key) = headers.get(WEBSOCKET_KEY).and_then(|key| key.to_str().ok()) else {
        return Err(refuse(StatusCode::BAD_REQUEST, "cannot upgrade: Sec-WebSocket-Key is missing"));
    };
    let mut asked = list(headers, WEBSOCKET_PROTOCOL).peekable();
    let found = match asked.peek() {
        None => first([""].into_iter(), offered),
        Some(_) => first(asked, offered),
    };
    let Some((name, version)) = found else {
        return Err(refuse(
            StatusCode::FORBIDDEN,
            "cannot upgrade: none of the protocols asked for is known here",
        ));
    };
    let mut response = switch(websocket::UPGRADE);
    let answer = websocket::accept_key(key);
    if let Ok(answer) = HeaderValue::from_str(&answer) {
        response.headers_mut().insert(WEBSOCKET_ACCEPT, answer);
    }
    if !name.is_empty() {
        response.headers_mut().insert(WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    }
    Ok(Agreed { version, response })
}

fn first<'a, V: Copy>(
    mut asked: impl Iterator<Item = &'a str>,
    offered: &[(&'static str, V)],
) -> Option<(&'static str, V)> {
    asked.find_map(|name| offered.iter().find(|(known, _)| *known == name).copied())
}

/// The values of a header that may come often, each a list.
pub(crate) fn list<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|value| !value.is_empty())
}

/// Whether a header's list has `value`.
pub(crate) fn names(headers: &HeaderMap, name: &str, value: &str) -> bool {
    list(headers, name).any(|known| known.eq_ignore_ascii_case(value))
}

/// A refusal with its reason.
pub(crate) fn refuse(code: StatusCode, why: &'static str) -> Box<Reply> {
    let mut response = Response::new(Full::new(Bytes::from(status::refusal(code.as_u16(), why))));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Only of a refusal: Go takes the whole header of a 101 for gone when it has "close" in it.
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Box::new(response)
}

fn switch(to: &'static str) -> Reply {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(to));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: Offer<u8> = Offer {
        spdy: &[("v4.channel.k8s.io", 4), ("channel.k8s.io", 1)],
        websocket: &[("", 1), ("v5.channel.k8s.io", 5)],
    };

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let builder =
            headers.iter().fold(Request::get("/"), |builder, (name, value)| builder.header(*name, *value));
        builder.body(()).expect("a request")
    }

    #[test]
    fn the_first_version_that_both_speak_is_taken() {
        let spdy = [("Connection", "keep-alive, Upgrade"), ("Upgrade", "SPDY/3.1")];
        for (versions, expected) in [
            (
                &[
                    ("X-Stream-Protocol-Version", "v5.channel.k8s.io,v4.channel.k8s.io"),
                    ("X-Stream-Protocol-Version", "channel.k8s.io"),
                ][..],
                4,
            ),
            (&[("X-Stream-Protocol-Version", "channel.k8s.io")], 1),
        ] {
            let agreed = negotiate(&request(&[&spdy, versions].concat()), &OFFER).expect("agreed");
            assert_eq!(
                (agreed.version, agreed.response.status()),
                (expected, StatusCode::SWITCHING_PROTOCOLS)
            );
        }
        let refusal =
            negotiate(&request(&[&spdy[..], &[("X-Stream-Protocol-Version", "v9")]].concat()), &OFFER);
        let refusal = refusal.expect_err("unknown");
        assert_eq!(
            (refusal.status(), refusal.headers().get_all(ACCEPTED).iter().count()),
            (StatusCode::FORBIDDEN, 2)
        );
        assert_eq!(negotiate(&request(&spdy), &OFFER).expect_err("none").status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn a_websocket_needs_its_headers_but_no_protocol() {
        let mut headers =
            vec![("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "a2V5")];
        assert_eq!(
            negotiate(&request(&headers), &OFFER).expect_err("no version").status(),
            StatusCode::UPGRADE_REQUIRED
        );
        headers.push(("Sec-WebSocket-Version", "13"));
        assert_eq!(negotiate(&request(&headers), &OFFER).expect("agreed").version, 1);
        headers.push(("Sec-WebSocket-Protocol", "v5.channel.k8s.io"));
        assert_eq!(negotiate(&request(&headers), &OFFER).expect("agreed").version, 5);
        let plain = negotiate(&request(&[]), &OFFER).expect_err("no upgrade");
        assert_eq!(plain.status(), StatusCode::BAD_REQUEST);
    }
}
