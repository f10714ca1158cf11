//! From a request's head to where it goes and how.

use std::borrow::Cow;
use std::net::SocketAddr;

use super::answer::Answer;
use super::inside::Inside;
use super::mirror::Copies;
use super::rules::{Destination, Frontend, PathEdit, Redirect, Routing, Rule, RuleId, Service, Share};
use crate::balance::Dice;
use crate::http1::{Body, Fault, Forward, Head, Method, Target, request};
use crate::telemetry::Reason;

/// What must be known of a request when its head is no longer there.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) body: Body,
    pub(super) expects: bool,
    pub(super) upgrades: bool,
    pub(super) keeps_alive: bool,
    pub(super) old: bool,
    /// Who else gets it.
    pub(super) copies: Copies,
}

impl Asked {
    pub(super) fn of(head: &Head) -> Self {
        Self {
            method: head.method(),
            body: Body::new(head.framing()),
            expects: head.expects(),
            upgrades: head.upgrades() || head.method() == Method::Connect,
            keeps_alive: head.keeps_alive(),
            old: head.is_old(),
            copies: Copies::default(),
        }
    }
}

/// Where a request goes.
#[derive(Debug)]
pub(super) enum Way<'f> {
    To { service: Service, share: &'f Share, rule: Option<&'f Rule>, from: Option<RuleId> },
    Answer(Answer),
}

/// A head as matches see it.
struct Seen<'a> {
    head: &'a Head,
    bytes: &'a [u8],
    target: &'a Target<'a>,
}

impl smi::matching::Head for Seen<'_> {
    fn method(&self) -> &str {
        self.head.method_name(self.bytes)
    }

    fn path(&self) -> &str {
        &self.target.path
    }

    fn query(&self) -> Option<&str> {
        self.target.query
    }

    fn any_header(&self, name: &str, is: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        // Whom a target names counts, whatever `Host` says (RFC 9112, 3.2.2).
        if name == "host"
            && let Some(authority) = self.target.authority
        {
            return is(authority.as_bytes());
        }
        let mut headers = self.head.headers(self.bytes);
        headers.any(|(known, value)| known.eq_ignore_ascii_case(name.as_bytes()) && is(value))
    }
}

/// Where a request goes, before its head is written as it goes there.
pub(super) enum Routed<'f> {
    To {
        service: Service,
        share: &'f Share,
        rule: Option<&'f Rule>,
        from: Option<RuleId>,
        prefix: Option<&'f str>,
    },
    Answer(Answer),
}

/// Finds where a request goes; `host` is whom it names beside its target.
pub(super) fn route<'f>(
    frontend: &'f Frontend,
    to: SocketAddr,
    head: &impl smi::matching::Head,
    target: &Target<'_>,
    host: Option<&str>,
    dice: &mut Dice,
) -> Routed<'f> {
    let none = |from| {
        let text = format!("the route of {} has no backend with a weight", frontend.name);
        Routed::Answer(Answer::new(500, text).by(from))
    };
    let (share, rule, from, prefix) = match &frontend.routing {
        Routing::Plain(share) => (share, None, None, None),
        Routing::Requests(shares) => match shares.draw(dice) {
            Some(share) => (share, None, shares.from, None),
            None => return none(shares.from),
        },
        Routing::Http(rules) => match rules.find(head) {
            Some((rule, prefix)) => {
                let from = rule.shares.from;
                if let Some(redirect) = &rule.redirect {
                    return Routed::Answer(redirected(redirect, target, host, prefix, to).by(from));
                }
                match rule.shares.draw(dice) {
                    Some(share) => (share, Some(rule), from, prefix),
                    None => return none(from),
                }
            }
            None => match rules.unmatched() {
                Some(share) => (share, None, None, None),
                None => {
                    let text = format!("no rule of the routes of {} is about this request", frontend.name);
                    return Routed::Answer(Answer::new(404, text));
                }
            },
        },
        // The routes have changed since this connection was begun; by the next one they are kept.
        Routing::Connections(_) | Routing::Refused => {
            let text = format!("{} is passed on unread now, connect again", frontend.name);
            return Routed::Answer(Answer::new(503, text).because(Reason::NotServed));
        }
    };
    match &share.to {
        Destination::Service(service) => Routed::To { service: *service, share, rule, from, prefix },
        Destination::Fail(status, why) => {
            Routed::Answer(Answer::new(*status, format!("{}: {why}", frontend.name)).by(from))
        }
    }
}

/// Finds where a request goes, and writes its head as it goes there.
///
/// # Errors
/// Its target is wrong.
pub(super) fn ask<'f>(
    frontend: &'f Frontend,
    (to, inside): (SocketAddr, Option<&Inside>),
    (head, bytes): (&Head, &[u8]),
    dice: &mut Dice,
    out: &mut Vec<u8>,
) -> Result<Way<'f>, Fault> {
    let target = Target::of(head.target(bytes), head.method_name(bytes))?;
    let seen = Seen { head, bytes, target: &target };
    if let Some(inside) = inside.filter(|inside| !inside.admits(&seen)) {
        return Ok(Way::Answer(inside.refusal()));
    }
    let routed = route(frontend, to, &seen, &target, head.host(bytes), dice);
    let (service, share, rule, from, prefix) = match routed {
        Routed::To { service, share, rule, from, prefix } => (service, share, rule, from, prefix),
        Routed::Answer(answer) => return Ok(Way::Answer(answer)),
    };
    let edited = share.path.as_ref().map(|edit| edited(edit, &target.path, prefix));
    let path = match (&edited, &target) {
        (_, Target { path, .. }) if path.is_empty() => None,
        (Some(path), _) => Some(&**path),
        // Written as it was read by whoever looked for a rule, so that the backend sees the same.
        (None, Target { authority: None, path: Cow::Borrowed(_), .. }) => None,
        (None, Target { path, .. }) => Some(&**path),
    };
    let asked_for = target.authority.filter(|_| head.method() != Method::Connect);
    let address = head.host(bytes).is_none().then(|| to.to_string());
    let host = share.host.as_deref().or(asked_for).or(address.as_deref());
    let edits = (!share.request.is_empty()).then_some(&share.request);
    request(out, bytes, head, &Forward { path, query: target.query, host, edits });
    Ok(Way::To { service, share, rule, from })
}

/// A path after a change, of a request that a rule with this prefix is about.
#[must_use]
pub fn edited<'a>(edit: &'a PathEdit, path: &'a str, prefix: Option<&str>) -> Cow<'a, str> {
    match edit {
        PathEdit::Full(new) if new.is_empty() => Cow::Borrowed("/"),
        PathEdit::Full(new) => Cow::Borrowed(new),
        PathEdit::Prefix(new) => {
            let rest = path.strip_prefix(prefix.unwrap_or_default()).unwrap_or(path);
            match rest {
                "" if new.is_empty() => Cow::Borrowed("/"),
                "" => Cow::Borrowed(new),
                _ => Cow::Owned(format!("{}/{}", new.trim_end_matches('/'), rest.trim_start_matches('/'))),
            }
        }
    }
}

fn redirected(
    redirect: &Redirect,
    target: &Target<'_>,
    host: Option<&str>,
    prefix: Option<&str>,
    to: SocketAddr,
) -> Answer {
    let asked = target.authority.or(host).map(without_port).filter(|host| !host.is_empty());
    let address = match to {
        SocketAddr::V4(to) => to.ip().to_string(),
        SocketAddr::V6(to) => format!("[{}]", to.ip()),
    };
    let host = redirect.hostname.as_deref().or(asked).unwrap_or(&address);
    let scheme = redirect.scheme.as_deref().unwrap_or("http");
    let port = redirect.port.or_else(|| redirect.scheme.is_none().then_some(to.port()));
    let port = match (scheme, port) {
        (_, None) | ("http", Some(80)) | ("https", Some(443)) => String::new(),
        (_, Some(port)) => format!(":{port}"),
    };
    let path = redirect
        .path
        .as_ref()
        .map_or(Cow::Borrowed(&*target.path), |edit| edited(edit, &target.path, prefix));
    let query = target.query.map(|query| format!("?{query}")).unwrap_or_default();
    let location = format!("{scheme}://{host}{port}{path}{query}");
    Answer { location: Some(location), ..Answer::new(redirect.status, "") }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_changed_as_gateway_api_says() {
        let prefix = |new: &str| PathEdit::Prefix(new.into());
        for (edit, path, matched, wanted) in [
            (prefix("/xyz"), "/foo/bar", "/foo", "/xyz/bar"),
            (prefix("/xyz/"), "/foo/bar", "/foo", "/xyz/bar"),
            (prefix("/xyz"), "/foo/", "/foo", "/xyz/"),
            (prefix("/xyz"), "/foo", "/foo", "/xyz"),
            (prefix("/xyz/"), "/foo", "/foo", "/xyz/"),
            (prefix("/"), "/foo/bar", "/foo", "/bar"),
            (prefix(""), "/foo", "/foo", "/"),
            (prefix("/"), "/foo", "/foo", "/"),
            (prefix("/xyz"), "/bar", "", "/xyz/bar"),
            (PathEdit::Full("/new".into()), "/foo", "/foo", "/new"),
            (PathEdit::Full(String::new()), "/foo", "/foo", "/"),
        ] {
            assert_eq!(edited(&edit, path, Some(matched)), wanted, "{edit:?} of {path}");
        }
    }

    #[test]
    fn a_redirect_names_a_host() {
        let redirect = Redirect { scheme: None, hostname: None, path: None, port: None, status: 302 };
        let target = Target::of("/a", "GET").unwrap();
        for (host, to, wanted) in [
            (Some("web:80"), "10.96.0.1:80", "http://web/a"),
            (Some("web"), "10.96.0.1:8080", "http://web:8080/a"),
            (Some(""), "10.96.0.1:80", "http://10.96.0.1/a"),
            (None, "[fd00::1]:81", "http://[fd00::1]:81/a"),
            (Some("[fd00::1]:81"), "[fd00::1]:81", "http://[fd00::1]:81/a"),
        ] {
            let answer = redirected(&redirect, &target, host, None, to.parse().unwrap());
            assert_eq!(answer.location.as_deref(), Some(wanted));
        }
    }
}
