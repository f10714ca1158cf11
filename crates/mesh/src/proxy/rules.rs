//! Frontends, compiled: what is known before a request comes is worked out then.

use std::net::SocketAddr;
use std::time::Duration;

use smi::contract::Name;
use smi::matching::Matcher;
use smi::model::{
    self, Backend, Each, Filter, HttpRouting, HttpRule, PathMatch, Retry, Routing as Model, To, Unmatched,
};

use super::tables::Numbers;
use crate::balance::Dice;
use crate::http1::Edits;

use smi::contract::http::{self, HeaderEdit};
pub(super) use smi::contract::http::{PathEdit, Redirect};

/// A port of a Service, by number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service(pub(super) usize);

impl Service {
    /// What stands for the application of a pod, to which others come.
    pub(crate) const INSIDE: Self = Self(usize::MAX);

    /// Whether that is a pod's own application, which others have come to.
    #[must_use]
    pub fn is_inside(self) -> bool {
        self == Self::INSIDE
    }
}

/// A rule of an object, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub(super) u32);

/// What is spoken to a frontend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP, says the Service.
    Http,
    /// Something else, says the Service, and nobody reads it.
    Opaque,
    /// Who reads the first bytes knows.
    Unknown,
}

/// What happens to traffic for a port of a Service.
#[derive(Debug)]
pub struct Frontend {
    pub(super) name: String,
    pub(super) protocol: Protocol,
    /// Its own endpoints.
    pub(super) own: Service,
    pub(super) routing: Routing,
}

#[derive(Debug)]
pub(super) enum Routing {
    /// Each request, or connection of something else, to the Service's own endpoints.
    Plain(Share),
    Http(Rules),
    /// Each request, or connection of something else, by weight.
    Requests(Shares),
    /// Each connection by weight, unread.
    Connections(Shares),
    /// Routes by the name that a TLS client asks for, which are not served yet, or a match that cannot be compiled: connections are reset.
    Refused,
}

#[derive(Debug)]
pub(super) struct Rules {
    matcher: Matcher,
    /// Of each match its rule, and the prefix it matches.
    places: Vec<(usize, Option<String>)>,
    rules: Vec<Rule>,
    unmatched: Option<Share>,
}

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) redirect: Option<Redirect>,
    pub(super) shares: Shares,
    pub(super) request: Option<Duration>,
    pub(super) backend: Option<Duration>,
    pub(super) retry: Option<Retry>,
}

/// Backends and their weights.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// Each with the sum of the weights up to it.
    list: Vec<(u64, Share)>,
    /// Whose they are.
    pub(super) from: Option<RuleId>,
}

#[derive(Debug)]
pub(super) struct Share {
    pub(super) to: Destination,
    pub(super) request: Edits,
    pub(super) response: Edits,
    pub(super) host: Option<String>,
    pub(super) path: Option<PathEdit>,
    /// Who else gets what goes there.
    pub(super) mirrors: Vec<Mirror>,
}

/// Who gets copies of requests, and of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mirror {
    pub(super) service: Service,
    /// Of so many...
    some: u64,
    /// ... of so many.
    all: u64,
}

impl Mirror {
    fn compile(mirror: &http::Mirror, numbers: &mut Numbers) -> Self {
        let service = numbers.of(&mirror.service, mirror.port);
        Self { service, some: mirror.numerator.into(), all: mirror.denominator.into() }
    }

    /// Whether this request is one of those.
    pub(super) fn draws(&self, dice: &mut Dice) -> bool {
        self.all > 0 && (self.some >= self.all || dice.below_u64(self.all) < self.some)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    Service(Service),
    /// Answered with this status, and why.
    Fail(u16, String),
}

impl Frontend {
    /// Of a pod's own application: who asks there has come to where it was going.
    pub(super) fn inside(to: SocketAddr) -> Self {
        let own = Service::INSIDE;
        let routing = Routing::Plain(Share::plain(own));
        Self { name: to.to_string(), protocol: Protocol::Unknown, own, routing }
    }

    pub(super) fn compile(
        service: &Name,
        port: u16,
        frontend: &model::Frontend,
        numbers: &mut Numbers,
    ) -> Self {
        let own = numbers.of(service, port);
        let routing = match &frontend.routing {
            Model::Plain => Routing::Plain(Share::plain(own)),
            Model::Http(http) => Rules::compile(http, own, numbers),
            Model::Tls(_) => Routing::Refused,
            Model::Weighted(weighted) => {
                let shares = Shares::compile(&[], (&weighted.from, &weighted.backends), numbers);
                match weighted.each {
                    Each::Connection => Routing::Connections(shares),
                    Each::Request => Routing::Requests(shares),
                }
            }
        };
        let protocol = match frontend.app_protocol.as_deref() {
            Some("http" | "HTTP" | "kubernetes.io/ws") => Protocol::Http,
            // Of HTTP/2 it depends on whether somebody must read it.
            None | Some("" | "kubernetes.io/h2c" | "grpc") => Protocol::Unknown,
            Some(_) => Protocol::Opaque,
        };
        // Who has routes of HTTP means HTTP, whatever the Service's word for it is.
        let protocol = match (protocol, &routing) {
            (Protocol::Opaque, Routing::Http(_)) => Protocol::Unknown,
            _ => protocol,
        };
        Self { name: format!("{service}:{port}"), protocol, own, routing }
    }
}

impl Rules {
    fn compile(http: &HttpRouting, own: Service, numbers: &mut Numbers) -> Routing {
        let Ok(matcher) = Matcher::new(http.matches.iter().map(|matched| &matched.requests)) else {
            return Routing::Refused;
        };
        let prefix = |path: &PathMatch| match path {
            PathMatch::Prefix(prefix) => Some(prefix.clone()),
            _ => None,
        };
        let places =
            http.matches.iter().map(|matched| (matched.rule, prefix(&matched.requests.path))).collect();
        let rules = http.rules.iter().map(|rule| Rule::compile(rule, numbers)).collect();
        let unmatched = match http.unmatched {
            Unmatched::NotFound => None,
            Unmatched::Apex => Some(Share::plain(own)),
        };
        Routing::Http(Self { matcher, places, rules, unmatched })
    }

    /// The rule for a request and the prefix that fits; `None` where there is no rule.
    pub(super) fn find(&self, head: &impl smi::matching::Head) -> Option<(&Rule, Option<&str>)> {
        let (rule, prefix) = self.places.get(self.matcher.find(head)?)?;
        Some((self.rules.get(*rule)?, prefix.as_deref()))
    }

    /// Where requests without a rule go, if they go anywhere.
    pub(super) fn unmatched(&self) -> Option<&Share> {
        self.unmatched.as_ref()
    }
}

impl Rule {
    fn compile(rule: &HttpRule, numbers: &mut Numbers) -> Self {
        let redirect = rule.filters.iter().find_map(|filter| match filter {
            Filter::Redirect(redirect) => Some(redirect.clone()),
            _ => None,
        });
        Self {
            redirect,
            shares: Shares::compile(&rule.filters, (&rule.from, &rule.backends), numbers),
            request: rule.timeouts.request_ms.map(Duration::from_millis),
            backend: rule.timeouts.backend_ms.map(Duration::from_millis),
            retry: rule.retry.clone(),
        }
    }
}

impl Shares {
    fn compile(
        filters: &[Filter],
        (from, backends): (&model::Origin, &[Backend]),
        numbers: &mut Numbers,
    ) -> Self {
        let mut sum = 0_u64;
        let mut list = Vec::with_capacity(backends.len());
        for backend in backends.iter().filter(|backend| backend.weight > 0) {
            sum = sum.saturating_add(backend.weight);
            list.push((sum, Share::compile(filters, backend, numbers)));
        }
        Self { list, from: Some(numbers.rule(from)) }
    }

    /// One of them, as likely as its weight says.
    pub(super) fn draw(&self, dice: &mut Dice) -> Option<&Share> {
        let (sum, last) = self.list.last()?;
        if self.list.len() == 1 {
            return Some(last);
        }
        let drawn = dice.below_u64(*sum);
        let place = self.list.partition_point(|(sum, _)| *sum <= drawn);
        self.list.get(place).map(|(_, share)| share)
    }
}

impl Share {
    fn plain(own: Service) -> Self {
        Self {
            to: Destination::Service(own),
            request: Edits::default(),
            response: Edits::default(),
            host: None,
            path: None,
            mirrors: Vec::new(),
        }
    }

    fn compile(filters: &[Filter], backend: &Backend, numbers: &mut Numbers) -> Self {
        let to = match &backend.to {
            To::Service { service, port } => Destination::Service(numbers.of(service, *port)),
            To::Fail(status) => {
                Destination::Fail(*status, "the route names a backend that cannot be asked".into())
            }
        };
        let mut share = Self { to, ..Self::plain(Service(0)) };
        for filter in filters.iter().chain(&backend.filters) {
            share.filter(filter, numbers);
        }
        let wrong = share.request.wrong().or_else(|| share.response.wrong()).map(str::to_owned);
        if let Some(name) = wrong {
            share.fail(
                500,
                format!("a filter changes the header {name:?}, which it may not or not to this value"),
            );
        }
        if share.host.as_ref().is_some_and(|host| !host.bytes().all(|byte| byte.is_ascii_graphic())) {
            share.fail(500, "a filter changes the host to what is none".into());
        }
        if let Some(PathEdit::Full(path) | PathEdit::Prefix(path)) = &share.path
            && !path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'))
        {
            share.fail(500, "a filter changes the path to what is none; percent-encode it".into());
        }
        share
    }

    fn fail(&mut self, status: u16, why: String) {
        if matches!(self.to, Destination::Service(_)) {
            self.to = Destination::Fail(status, why);
        }
    }

    fn filter(&mut self, filter: &Filter, numbers: &mut Numbers) {
        match filter {
            Filter::RequestHeaders(edit) => {
                for (name, value) in &edit.set {
                    // Whom a request is for is a header, and more than that.
                    if name == "host" {
                        self.host = Some(value.clone());
                    }
                }
                change(&mut self.request, edit, "host");
            }
            Filter::ResponseHeaders(edit) => change(&mut self.response, edit, ""),
            Filter::Rewrite(rewrite) => {
                self.host = rewrite.hostname.clone().or(self.host.take());
                self.path = rewrite.path.clone().or(self.path.take());
            }
            Filter::Mirror(mirror) => self.mirrors.push(Mirror::compile(mirror, numbers)),
            Filter::Redirect(_) => {}
        }
    }
}

fn change(edits: &mut Edits, edit: &HeaderEdit, except: &str) {
    edit.remove.iter().for_each(|name| edits.remove(name));
    edit.set.iter().filter(|(name, _)| name != except).for_each(|(name, value)| edits.set(name, value));
    edit.add.iter().for_each(|(name, value)| edits.add(name, value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_copied_as_the_route_says() {
        let mut dice = Dice::new(1);
        for (some, all, least, most) in [
            (0, 100, 0, 0),
            (1, 1, 10_000, 10_000),
            (100, 100, 10_000, 10_000),
            (1, 0, 0, 0),
            (5, 100, 400, 600),
        ] {
            let mirror = Mirror { service: Service(0), some, all };
            let count = (0..10_000).filter(|_| mirror.draws(&mut dice)).count();
            assert!((least..=most).contains(&count), "{some} of {all}: {count}");
        }
    }
}
