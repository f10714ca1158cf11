//! Models of one frontend.

use std::net::SocketAddr;
use std::sync::Arc;

use smi::contract::{Id, Kind, Name};
use smi::model::*;

pub(crate) fn name(service: &str) -> Name {
    Name::new("shop", service)
}

pub(crate) fn frontend(routing: Routing, protocol: Option<&str>) -> Shared {
    consumer(routing, protocol, None)
}

pub(crate) fn consumer(routing: Routing, protocol: Option<&str>, consumer: Option<&str>) -> Shared {
    let key = Key::Frontend {
        service: name("web"),
        port: 80,
        transport: Transport::Tcp,
        consumer: consumer.map(str::to_owned),
    };
    let addresses = vec![[10, 96, 0, 1].into()];
    let entry = Frontend { addresses, app_protocol: protocol.map(str::to_owned), routing };
    Shared { key, entry: Arc::new(Entry::Frontend(entry)) }
}

pub(crate) fn endpoints(service: &str, addresses: &[SocketAddr]) -> Shared {
    let one = |address: &SocketAddr| Endpoint {
        address: address.ip(),
        port: address.port(),
        pod: None,
        node: None,
        zone: None,
        ready: true,
        serving: true,
    };
    let key = Key::Endpoints { service: name(service), port: 80, transport: Transport::Tcp };
    Shared { key, entry: Arc::new(Entry::Endpoints(addresses.iter().map(one).collect())) }
}

pub(crate) fn delta(set: Vec<Shared>) -> Delta {
    Delta { set, removed: Vec::new() }
}

/// A Service without routes, of HTTP.
pub(crate) fn plain(addresses: &[SocketAddr]) -> Delta {
    delta(vec![frontend(Routing::Plain, Some("http")), endpoints("web", addresses)])
}

pub(crate) fn backend(service: &str, weight: u64) -> Backend {
    Backend { to: To::Service { service: name(service), port: 80 }, weight, filters: Vec::new() }
}

pub(crate) fn rule(backends: Vec<Backend>) -> HttpRule {
    HttpRule { from: origin(), filters: Vec::new(), backends, timeouts: Timeouts::default(), retry: None }
}

pub(crate) fn origin() -> Origin {
    Origin { object: Id { kind: Kind::HttpRoute, name: name("web") }, rule: 0, name: None }
}

pub(crate) fn prefix(prefix: &str, rule: usize) -> Matched {
    Matched { requests: HttpMatch { path: PathMatch::Prefix(prefix.into()), ..HttpMatch::default() }, rule }
}

pub(crate) fn routes(matches: Vec<Matched>, rules: Vec<HttpRule>) -> Routing {
    Routing::Http(HttpRouting { matches, rules, unmatched: Unmatched::NotFound })
}

/// A route of one rule for all requests.
pub(crate) fn one(rule: HttpRule, addresses: &[SocketAddr]) -> Delta {
    let routing = routes(vec![prefix("", 0)], vec![rule]);
    delta(vec![frontend(routing, Some("http")), endpoints("web", addresses)])
}
