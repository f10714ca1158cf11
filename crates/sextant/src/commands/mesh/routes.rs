//! Frontends, rules and endpoints, as a node sees them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use mesh::telemetry::{self, Snapshot};
use serde::{Deserialize, Serialize};
use smi::contract::Name;
use smi::contract::http::Mirror;
use smi::contract::specs::Transport;
use smi::model::{
    Backend, Each, Endpoint, Entry, Filter, Frontend, HttpMatch, Key, Model, PathMatch, Routing, TextMatch,
    To, Unmatched,
};

use super::known::Names;

/// What clients of this node know of an endpoint of a Service's port.
pub(super) type Views = BTreeMap<(Name, u16, SocketAddr), Vec<ClientView>>;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Routes {
    pub(super) frontends: Vec<FrontendView>,
    pub(super) endpoints: Vec<EndpointView>,
}

/// What happens to traffic for a port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FrontendView {
    /// `NAMESPACE/NAME:PORT`.
    pub(super) service: String,
    pub(super) addresses: Vec<IpAddr>,
    /// The clients' namespace, where it is theirs alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) consumer: Option<String>,
    /// The Service's word for what is spoken.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) protocol: String,
    /// What is sent to one backend at a time: `request`, `connection`, or `name` of TLS.
    pub(super) each: String,
    pub(super) rules: Vec<RuleView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RuleView {
    /// `KIND/NAMESPACE/NAME/PLACE`; empty where there is no route.
    pub(super) from: String,
    pub(super) matches: Vec<String>,
    pub(super) filters: Vec<String>,
    pub(super) backends: Vec<BackendView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BackendView {
    /// `NAMESPACE/NAME:PORT`, or the status that is answered.
    pub(super) to: String,
    pub(super) weight: u64,
    pub(super) filters: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointView {
    pub(super) service: String,
    pub(super) address: SocketAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pod: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<String>,
    pub(super) ready: bool,
    pub(super) serving: bool,
    /// What clients of this node know of it that have asked for it.
    pub(super) clients: Vec<ClientView>,
}

/// What the clients of a pod know of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClientView {
    pub(super) client: String,
    pub(super) in_flight: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) latency_us: Option<u64>,
    /// For so long it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) left_out_ms: Option<u64>,
    pub(super) ejections: u32,
}

pub(super) fn views(snapshot: &Snapshot, names: &Names<'_>) -> Views {
    let mut views = Views::new();
    for viewed in &snapshot.endpoints {
        let Some((service, port)) = snapshot.tables.service(viewed.service) else { continue };
        let seen = &viewed.seen;
        let whole = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        views.entry((service.clone(), *port, seen.address)).or_default().push(ClientView {
            client: names.client(viewed.client),
            in_flight: seen.in_flight,
            latency_us: seen.latency.map(|latency| whole(latency.as_micros())),
            left_out_ms: seen.out_for.map(|left| whole(left.as_millis())),
            ejections: seen.ejections,
        });
    }
    views
}

/// All of TCP.
pub(super) fn routes(model: &Model, views: &Views) -> Routes {
    let mut routes = Routes::default();
    for (key, entry) in model.iter() {
        match (key, &**entry) {
            (
                Key::Frontend { service, port, transport: Transport::Tcp, consumer },
                Entry::Frontend(frontend),
            ) => routes.frontends.push(frontend_of((service, *port), consumer.as_ref(), frontend)),
            (Key::Endpoints { service, port, transport: Transport::Tcp }, Entry::Endpoints(endpoints)) => {
                let view = |endpoint: &Endpoint| {
                    let address = SocketAddr::new(endpoint.address, endpoint.port);
                    EndpointView {
                        service: format!("{service}:{port}"),
                        address,
                        pod: endpoint.pod.clone(),
                        node: endpoint.node.clone(),
                        ready: endpoint.ready,
                        serving: endpoint.serving,
                        clients: views.get(&(service.clone(), *port, address)).cloned().unwrap_or_default(),
                    }
                };
                routes.endpoints.extend(endpoints.iter().map(view));
            }
            _ => {}
        }
    }
    routes
}

fn frontend_of(
    (service, port): (&Name, u16),
    consumer: Option<&String>,
    frontend: &Frontend,
) -> FrontendView {
    let own = format!("{service}:{port}");
    let plain = |matches: &str| RuleView {
        from: String::new(),
        matches: vec![matches.into()],
        filters: Vec::new(),
        backends: vec![BackendView { to: own.clone(), weight: 1, filters: Vec::new() }],
    };
    let (each, rules) = match &frontend.routing {
        Routing::Plain => ("request", vec![plain("any")]),
        Routing::Http(http) => {
            let of = |(place, rule): (usize, &smi::model::HttpRule)| RuleView {
                from: telemetry::rule(&rule.from),
                matches: {
                    let matches = http.matches.iter().filter(|matched| matched.rule == place);
                    matches.map(|matched| match_words(&matched.requests)).collect()
                },
                filters: rule.filters.iter().map(filter_words).collect(),
                backends: rule.backends.iter().map(backend_of).collect(),
            };
            let mut rules: Vec<RuleView> = http.rules.iter().enumerate().map(of).collect();
            if http.unmatched == Unmatched::Apex {
                rules.push(plain("any other"));
            }
            ("request", rules)
        }
        Routing::Tls(tls) => {
            let of = |rule: &smi::model::TlsRule| RuleView {
                from: telemetry::rule(&rule.from),
                matches: rule.hostnames.clone(),
                filters: Vec::new(),
                backends: rule.backends.iter().map(backend_of).collect(),
            };
            ("name", tls.iter().map(of).collect())
        }
        Routing::Weighted(weighted) => {
            let each = match weighted.each {
                Each::Connection => "connection",
                Each::Request => "request",
            };
            let rule = RuleView {
                from: telemetry::rule(&weighted.from),
                matches: vec!["any".into()],
                filters: Vec::new(),
                backends: weighted.backends.iter().map(backend_of).collect(),
            };
            (each, vec![rule])
        }
    };
    FrontendView {
        service: own.clone(),
        addresses: frontend.addresses.clone(),
        consumer: consumer.cloned(),
        protocol: frontend.app_protocol.clone().unwrap_or_default(),
        each: each.into(),
        rules,
    }
}

fn backend_of(backend: &Backend) -> BackendView {
    let to = match &backend.to {
        To::Service { service, port } => format!("{service}:{port}"),
        To::Fail(status) => status.to_string(),
    };
    let filters = backend.filters.iter().map(filter_words).collect();
    BackendView { to, weight: backend.weight, filters }
}

/// A match in words.
pub(super) fn match_words(requests: &HttpMatch) -> String {
    let mut words = Vec::new();
    if !requests.methods.is_empty() {
        words.push(requests.methods.join("|"));
    }
    match &requests.path {
        PathMatch::Prefix(prefix) if prefix.is_empty() => {}
        PathMatch::Prefix(prefix) => words.push(format!("{prefix}/*")),
        PathMatch::Exact(path) => words.push(format!("={path}")),
        PathMatch::Regex(pattern) => words.push(format!("~{pattern}")),
    }
    let value = |value: &TextMatch| match value {
        TextMatch::Exact(text) => format!("={text}"),
        TextMatch::Regex(pattern) => format!("~{pattern}"),
    };
    words.extend(requests.headers.iter().map(|pair| format!("{}:{}", pair.name, value(&pair.value))));
    words.extend(requests.query.iter().map(|pair| format!("?{}{}", pair.name, value(&pair.value))));
    if words.is_empty() { "any".into() } else { words.join(" ") }
}

pub(super) fn filter_words(filter: &Filter) -> String {
    match filter {
        Filter::RequestHeaders(_) => "request headers".into(),
        Filter::ResponseHeaders(_) => "response headers".into(),
        Filter::Redirect(redirect) => format!("redirect {}", redirect.status),
        Filter::Rewrite(_) => "rewrite".into(),
        Filter::Mirror(mirror) => mirror_words(mirror),
    }
}

/// Who gets copies, and of how many requests.
pub(super) fn mirror_words(mirror: &Mirror) -> String {
    let Mirror { service, port, numerator, denominator } = mirror;
    match (*numerator, *denominator) {
        (some, all) if some == all => format!("mirror to {service}:{port}"),
        (some, 100) => format!("mirror {some} % to {service}:{port}"),
        (some, all) => format!("mirror {some} of {all} to {service}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use smi::contract::http::Pair;

    use super::*;

    #[test]
    fn a_mirror_is_told_with_its_share() {
        for (numerator, denominator, wanted) in [
            (1, 1, "mirror to shop/copy:80"),
            (5, 100, "mirror 5 % to shop/copy:80"),
            (1, 1000, "mirror 1 of 1000 to shop/copy:80"),
        ] {
            let service = Name::new("shop", "copy");
            let mirror = Filter::Mirror(Mirror { service, port: 80, numerator, denominator });
            assert_eq!(filter_words(&mirror), wanted);
        }
    }

    #[test]
    fn a_match_is_told_in_words() {
        let pair = |name: &str, value| Pair { name: name.into(), value };
        let mut requests = HttpMatch::default();
        assert_eq!(match_words(&requests), "any");
        requests.methods = vec!["GET".into(), "HEAD".into()];
        requests.path = PathMatch::Prefix("/a".into());
        requests.headers = vec![pair("x-b", TextMatch::Exact("1".into()))];
        requests.query = vec![pair("c", TextMatch::Regex("^(?:d)$".into()))];
        assert_eq!(match_words(&requests), "GET|HEAD /a/* x-b:=1 ?c~^(?:d)$");
    }
}
