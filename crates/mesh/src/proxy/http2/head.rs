//! Heads of HTTP/2: where a request goes, and as what it and its answer go on.

use std::net::SocketAddr;

use super::super::answer::Answer;
use super::super::ask::{Routed, edited, route};
use super::super::inside::Inside;
use super::super::rules::{Frontend, Rule, RuleId, Service, Share};
use crate::balance::Dice;
use crate::h2::message::{self, Request};
use crate::h2::{Field, Fields};
use crate::http1::{Edits, Target};

/// Where a request goes, and with which head.
pub(super) enum Way<'f> {
    To { service: Service, share: &'f Share, rule: Option<&'f Rule>, from: Option<RuleId>, head: Fields },
    Answer(Answer),
}

/// A head as matches see it.
struct Seen<'a> {
    fields: &'a Fields,
    request: &'a Request<'a>,
    target: &'a Target<'a>,
}

impl smi::matching::Head for Seen<'_> {
    fn method(&self) -> &str {
        self.request.method
    }

    fn path(&self) -> &str {
        &self.target.path
    }

    fn query(&self) -> Option<&str> {
        self.target.query
    }

    fn any_header(&self, name: &str, is: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        if name == "host" {
            return self.request.authority.is_some_and(|authority| is(authority.as_bytes()));
        }
        if name == "cookie" {
            // It may come in crumbs, which are one header (RFC 9113, 8.2.3).
            let crumbs = self.fields.iter().filter(|field| field.name == b"cookie").map(|field| field.value);
            let crumbs: Vec<&[u8]> = crumbs.collect();
            return !crumbs.is_empty() && is(&crumbs.join(&b"; "[..]));
        }
        self.fields.iter().any(|field| field.name == name.as_bytes() && is(field.value))
    }
}

/// Finds where a request goes.
pub(super) fn ask<'f>(
    frontend: &'f Frontend,
    (to, inside): (SocketAddr, Option<&Inside>),
    fields: &Fields,
    dice: &mut Dice,
) -> Way<'f> {
    let refused = |why: &dyn std::fmt::Display| format!("the request is refused: {why}");
    let request = match message::request(fields) {
        Ok(request) => request,
        Err(why) => return Way::Answer(Answer::new(400, refused(&why))),
    };
    if request.method == "CONNECT" {
        return Way::Answer(Answer::new(501, "a CONNECT over HTTP/2 is not passed on; ask with HTTP/1.1"));
    }
    let target = match Target::of(request.path, request.method) {
        Ok(target) => target,
        Err(fault) => return Way::Answer(Answer::new(fault.status(), refused(&fault))),
    };
    let seen = Seen { fields, request: &request, target: &target };
    if let Some(inside) = inside.filter(|inside| !inside.admits(&seen)) {
        return Way::Answer(inside.refusal());
    }
    match route(frontend, to, &seen, &target, request.authority, dice) {
        Routed::Answer(answer) => Way::Answer(answer),
        Routed::To { service, share, rule, from, prefix } => {
            let head = onward(fields, &request, &target, to, (share, prefix));
            Way::To { service, share, rule, from, head }
        }
    }
}

/// A request's head as its backend gets it.
fn onward(
    fields: &Fields,
    request: &Request<'_>,
    target: &Target<'_>,
    to: SocketAddr,
    (share, prefix): (&Share, Option<&str>),
) -> Fields {
    let path = share.path.as_ref().map(|edit| edited(edit, &target.path, prefix));
    // Written as it was read by whoever looked for a rule, so that the backend sees the same.
    let mut path = String::from(path.as_deref().unwrap_or(&target.path));
    if let Some(query) = target.query {
        path.push('?');
        path.push_str(query);
    }
    let address = request.authority.is_none().then(|| to.to_string());
    let host = share.host.as_deref().or(request.authority).or(address.as_deref()).unwrap_or_default();
    let mut head = Fields::default();
    head.push(Field::new(":method", request.method));
    head.push(Field::new(":scheme", request.scheme));
    head.push(Field::new(":path", &path));
    head.push(Field::new(":authority", host));
    let regular = fields.iter().filter(|field| !field.name.starts_with(b":") && field.name != b"host");
    changed(regular, &share.request, &mut head);
    head
}

/// An answer's head as its client gets it.
pub(super) fn answered(fields: &Fields, edits: &Edits) -> Fields {
    let mut head = Fields::default();
    changed(fields.iter(), edits, &mut head);
    head
}

/// Headers with what a route changes of them.
fn changed<'a>(fields: impl Iterator<Item = Field<'a>>, edits: &Edits, out: &mut Fields) {
    fields.filter(|field| !edits.drops(field.name)).for_each(|field| out.push(field));
    for (name, value) in edits.appended() {
        out.push(Field::new(&name.to_ascii_lowercase(), value.trim_matches([' ', '\t'])));
    }
}

/// Whether whoever sends this head speaks gRPC.
pub(super) fn is_grpc(fields: &Fields) -> bool {
    fields.get(b"content-type").is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

/// What the proxy answers itself: a head, and a body where there is one. Who speaks gRPC reads a status of gRPC in nothing but trailers.
pub(super) fn own(answer: &Answer, grpc: bool) -> (Fields, String) {
    let mut head = Fields::default();
    if grpc && answer.location.is_none() {
        head.push(Field::new(":status", "200"));
        head.push(Field::new("content-type", "application/grpc"));
        head.push(Field::new("grpc-status", status(answer.status)));
        head.push(Field::new("grpc-message", &encoded(&format!("sextant mesh: {}", answer.text))));
        return (head, String::new());
    }
    let body = answer.body();
    head.push(Field::new(":status", &answer.status.to_string()));
    if let Some(location) = &answer.location {
        head.push(Field::new("location", location));
    }
    if !body.is_empty() {
        head.push(Field::new("content-type", "text/plain; charset=utf-8"));
    }
    head.push(Field::new("content-length", &body.len().to_string()));
    (head, body)
}

/// A status of gRPC for one of HTTP: INTERNAL, PERMISSION_DENIED, UNIMPLEMENTED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE or UNKNOWN.
fn status(http: u16) -> &'static str {
    match http {
        400 => "13",
        403 => "7",
        404 | 501 => "12",
        431 => "8",
        408 | 504 => "4",
        // A route without a backend that can be asked is so to its clients (Gateway API, GRPCRoute).
        500 | 502 | 503 => "14",
        _ => "2",
    }
}

/// A `grpc-message`: what is not printable ASCII, and `%`, percent-encoded.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..b' ' | 0x7f.. => out.push_str(&format!("%{byte:02X}")),
            _ => out.push(char::from(byte)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_speaks_grpc_is_answered_so() {
        let answer = Answer::new(503, "no endpoint: 100 %\n\u{e4}");
        let (head, body) = own(&answer, true);
        let get =
            |name: &str| head.get(name.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned());
        assert_eq!((get(":status").as_deref(), get("grpc-status").as_deref()), (Some("200"), Some("14")));
        assert_eq!(get("grpc-message").as_deref(), Some("sextant mesh: no endpoint: 100 %25%0A%C3%A4"));
        assert!(body.is_empty());
        let (head, _) = own(&Answer::new(408, "not whole"), true);
        assert_eq!(head.get(b"grpc-status"), Some(&b"4"[..]), "the route's time is over");
        let (head, body) = own(&Answer::new(404, "none"), false);
        assert_eq!((head.get(b":status"), body.as_str()), (Some(&b"404"[..]), "sextant mesh: none\n"));
        assert_eq!(head.get(b"content-length"), Some(body.len().to_string().as_bytes()));
    }

    #[test]
    fn a_cookie_in_crumbs_is_one_header() {
        let list = |cookies: &[&str]| {
            let mut fields = Fields::default();
            let all = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "web")];
            all.iter().for_each(|(name, value)| fields.push(Field::new(*name, *value)));
            cookies.iter().for_each(|crumb| fields.push(Field::new("cookie", *crumb)));
            fields.push(Field::new("x-a", "1"));
            fields.push(Field::new("x-a", "2"));
            fields
        };
        for (cookies, wanted) in
            [(&["a=1", "b=2"][..], &["a=1; b=2"][..]), (&["a=1; b=2"], &["a=1; b=2"]), (&[], &[])]
        {
            let fields = list(cookies);
            let request = message::request(&fields).unwrap();
            let target = Target::of(request.path, request.method).unwrap();
            let seen = Seen { fields: &fields, request: &request, target: &target };
            let values = |name: &str| {
                let mut values = Vec::new();
                let any = smi::matching::Head::any_header(&seen, name, &mut |value| {
                    values.push(String::from_utf8(value.to_vec()).unwrap());
                    false
                });
                assert!(!any);
                values
            };
            assert_eq!(values("cookie"), wanted);
            assert_eq!(values("x-a"), ["1", "2"]);
        }
    }
}
