//! Gateway API's routes with a Service for a parent (GEP-1294): HTTPRoute, GRPCRoute, TLSRoute, TCPRoute and UDPRoute, v1 and before.
//!
//! Its CRDs check the shape, so what is left to find here is what this mesh cannot do. A rule with such a thing is kept and answers
//! 500 where requests would have reached somebody without what was asked for ([`Problem::Answered`]), and is dropped where it is not
//! known which requests it is about ([`Problem::Dropped`]).

mod filters;
mod matches;
mod timing;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::finding::Reason;
use super::http::{Filter, PathEdit, PathMatch};
use super::meta::{Kind, Meta, Name};
use super::part::{Field, Notes, Part};
pub use matches::{Rank, RouteMatch};
pub use timing::{Retry, Timeouts, milliseconds};

/// Which kind of route; of two on one port of a Service the first here has it (GEP-1294, route types).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteKind {
    /// GRPCRoute.
    Grpc,
    /// HTTPRoute.
    Http,
    /// TLSRoute.
    Tls,
    /// TCPRoute.
    Tcp,
    /// UDPRoute, which has nothing to do with the others.
    Udp,
}

impl RouteKind {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::GrpcRoute => Self::Grpc,
            Kind::TlsRoute => Self::Tls,
            Kind::TcpRoute => Self::Tcp,
            Kind::UdpRoute => Self::Udp,
            _ => Self::Http,
        }
    }

    /// The object's kind.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Grpc => Kind::GrpcRoute,
            Self::Http => Kind::HttpRoute,
            Self::Tls => Kind::TlsRoute,
            Self::Tcp => Kind::TcpRoute,
            Self::Udp => Kind::UdpRoute,
        }
    }

    /// Whether it speaks of requests.
    #[must_use]
    pub fn is_http(self) -> bool {
        matches!(self, Self::Grpc | Self::Http)
    }
}

/// A route of any kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Its name.
    pub meta: Meta,
    /// What it is.
    pub kind: RouteKind,
    /// The Services that it is attached to; parents of other kinds are other controllers'.
    pub parents: Vec<Parent>,
    /// Names of servers that a TLSRoute is about, in lower case; empty is any. Of others they are ignored, as the mesh's rules have it.
    pub hostnames: Vec<String>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// A Service that a route is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// The Service.
    pub service: Name,
    /// One of its ports, or all.
    pub port: Option<u16>,
    /// The name of its port, where the route names that: a Service's sections are its ports. With a number both must fit.
    pub section: Option<String>,
    /// As it stands in the object: its status repeats it.
    pub reference: Value,
}

/// A rule of a route.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Which requests: any of these. Empty for what has none.
    pub matches: Vec<RouteMatch>,
    /// What happens to them.
    pub filters: Vec<Filter>,
    /// Who answers.
    pub backends: Vec<Backend>,
    /// How long that may take.
    pub timeouts: Timeouts,
    /// What is tried again.
    pub retry: Option<Retry>,
    /// What is wrong with the first mirror that names nobody who can be asked. Such a mirror is left out, and the rule is as if it were not there.
    pub mirrors: Option<Fault>,
    /// What of it cannot be done.
    pub problem: Option<Problem>,
}

/// Why a rule is not as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It is not known which requests it is about: it is left out.
    Dropped(Fault),
    /// Its requests are answered 500.
    Answered(Fault),
}

impl Problem {
    /// What is wrong.
    #[must_use]
    pub fn fault(&self) -> &Fault {
        match self {
            Self::Dropped(fault) | Self::Answered(fault) => fault,
        }
    }
}

/// A condition's reason and message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `UnsupportedValue` or `IncompatibleFilters`; of a backend `InvalidKind` or `BackendNotFound`.
    pub reason: &'static str,
    /// With the field, the value and what to do.
    pub message: String,
}

impl Fault {
    fn unsupported(message: impl Into<String>) -> Self {
        Self { reason: "UnsupportedValue", message: message.into() }
    }
}

/// A Service with a share of a rule's requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// The Service and its port, or why there is none: a condition's reason and message.
    pub to: Result<(Name, u16), Fault>,
    /// Its share, relative to the rule's other backends.
    pub weight: u32,
    /// What happens to requests to this one alone.
    pub filters: Vec<Filter>,
    /// Where it stands in the object.
    pub field: String,
}

impl Route {
    pub(super) fn read(meta: Meta, kind: Kind, value: &Value, notes: &mut Notes) -> Self {
        let kind = RouteKind::of(kind);
        let mut route = Self { meta, kind, parents: Vec::new(), hostnames: Vec::new(), rules: Vec::new() };
        let Some(spec) = Part::whole(value).and_then(|whole| whole.part("spec", notes)) else {
            notes.say(Reason::Missing, "spec", "", "must be there; this object does nothing without it");
            return route;
        };
        let namespace = &route.meta.name.namespace;
        route.parents =
            spec.list("parentRefs", notes).iter().filter_map(|item| parent(item, namespace, notes)).collect();
        if kind == RouteKind::Tls {
            let names = spec.list("hostnames", notes);
            route.hostnames =
                names.iter().filter_map(|item| Some(item.text(notes)?.to_ascii_lowercase())).collect();
        } else if !route.parents.is_empty() && spec.get("hostnames").is_some() {
            let advice = "does nothing for a Service: it is reached under any name";
            notes.say(Reason::Ignored, "spec.hostnames", "", advice);
        }
        match spec.get("rules") {
            // An HTTPRoute without rules has one that is about everything, and nobody who answers (its default in the CRD).
            None if kind.is_http() => route.rules.push(Rule::default_of(kind)),
            None => {}
            Some(field) => {
                for item in field.items(notes) {
                    let Some(mut rule) = rule(&item, kind, namespace, notes) else { continue };
                    // Without matches there is nothing that a second rule could be about.
                    if !kind.is_http() && !route.rules.is_empty() {
                        let message = format!(
                            "{}: a {} has one rule; give its backends to the first",
                            item.path,
                            kind.kind()
                        );
                        rule.problem = Some(Problem::Dropped(Fault::unsupported(message)));
                    }
                    route.rules.push(rule);
                }
            }
        }
        route
    }
}

impl Rule {
    fn default_of(kind: RouteKind) -> Self {
        Self {
            name: None,
            matches: if kind.is_http() { vec![RouteMatch::any(kind)] } else { Vec::new() },
            filters: Vec::new(),
            backends: Vec::new(),
            timeouts: Timeouts::default(),
            retry: None,
            mirrors: None,
            problem: None,
        }
    }
}

fn parent(item: &Field<'_>, namespace: &str, notes: &mut Notes) -> Option<Parent> {
    let part = item.part(notes)?;
    let group = part.get("group").map_or(Some("gateway.networking.k8s.io"), |field| field.value.as_str());
    let kind = part.get("kind").map_or(Some("Gateway"), |field| field.value.as_str());
    // The group of Services is "", which some write as what it is called.
    if !matches!(group, Some("" | "core")) || kind != Some("Service") {
        return None;
    }
    let name = part.name("name", notes)?;
    let of = part.optional_name("namespace", notes).ok()?;
    let port = match part.get("port") {
        None => None,
        Some(field) => Some(field.port(notes)?),
    };
    Some(Parent {
        service: Name::new(of.unwrap_or_else(|| namespace.to_owned()), name),
        port,
        section: part.text("sectionName", notes).filter(|text| !text.is_empty()).map(str::to_owned),
        reference: item.value.clone(),
    })
}

/// What was wrong while a rule was read: the first such thing is its problem, and the worse kind goes before.
#[derive(Debug, Default)]
struct Wrong {
    dropped: Option<Fault>,
    answered: Option<Fault>,
    /// Of mirrors, which change nothing for their rule.
    mirrors: Option<Fault>,
}

impl Wrong {
    fn drop(&mut self, message: impl Into<String>) {
        self.dropped.get_or_insert_with(|| Fault::unsupported(message));
    }

    fn answer(&mut self, message: impl Into<String>) {
        self.answered.get_or_insert_with(|| Fault::unsupported(message));
    }

    fn problem(self) -> Option<Problem> {
        self.dropped.map(Problem::Dropped).or_else(|| self.answered.map(Problem::Answered))
    }
}

fn rule(item: &Field<'_>, kind: RouteKind, namespace: &str, notes: &mut Notes) -> Option<Rule> {
    let part = item.part(notes)?;
    let mut rule = Rule::default_of(kind);
    let mut wrong = Wrong::default();
    rule.name = part.text("name", notes).map(str::to_owned);
    if kind.is_http() {
        part.only(
            &["name", "matches", "filters", "backendRefs", "timeouts", "retry", "sessionPersistence"],
            notes,
        );
        if let Some(field) = part.get("sessionPersistence") {
            wrong.answer(format!("{}: this mesh keeps no sessions at one backend; take it away", field.path));
        }
        let matches = part.list("matches", notes);
        if !matches.is_empty() {
            rule.matches = matches::read(&matches, kind, &mut wrong, notes);
        }
        rule.filters = filters::read(&part, kind, namespace, &mut wrong, notes);
        rule.timeouts = timing::timeouts(&part, &mut wrong, notes);
        rule.retry = timing::retry(&part, &mut wrong, notes);
    } else {
        part.only(&["name", "backendRefs"], notes);
    }
    for item in part.list("backendRefs", notes) {
        rule.backends.extend(backend(&item, kind, namespace, &mut wrong, notes));
    }
    check(&rule, &part, &mut wrong);
    rule.mirrors = wrong.mirrors.take();
    rule.problem = wrong.problem();
    Some(rule)
}

/// What single fields do not tell.
fn check(rule: &Rule, part: &Part<'_>, wrong: &mut Wrong) {
    let every = || rule.filters.iter().chain(rule.backends.iter().flat_map(|backend| &backend.filters));
    let redirects = rule.filters.iter().any(|filter| matches!(filter, Filter::Redirect(_)));
    let rewrites = every().any(|filter| matches!(filter, Filter::Rewrite(_)));
    if redirects && rewrites {
        let message =
            format!("{}: a request cannot be redirected and rewritten; keep one", part.at("filters"));
        wrong.answered.get_or_insert(Fault { reason: "IncompatibleFilters", message });
    }
    let by_prefix = every().any(|filter| {
        let path = match filter {
            Filter::Redirect(redirect) => redirect.path.as_ref(),
            Filter::Rewrite(rewrite) => rewrite.path.as_ref(),
            _ => None,
        };
        matches!(path, Some(PathEdit::Prefix(_)))
    });
    let is_prefix = |one: &RouteMatch| matches!(one.requests.path, PathMatch::Prefix(_));
    if by_prefix && !rule.matches.iter().all(is_prefix) {
        let message = "ReplacePrefixMatch needs matches by PathPrefix alone; use ReplaceFullPath";
        wrong.answer(format!("{}: {message}", part.at("filters")));
    }
}

fn backend(
    item: &Field<'_>,
    kind: RouteKind,
    namespace: &str,
    wrong: &mut Wrong,
    notes: &mut Notes,
) -> Option<Backend> {
    let part = item.part(notes)?;
    part.only(&["group", "kind", "name", "namespace", "port", "weight", "filters"], notes);
    let weight = match part.get("weight") {
        None => 1,
        Some(field) => {
            let weight = field.value.as_u64().and_then(|weight| u32::try_from(weight).ok());
            weight.filter(|weight| *weight <= 1_000_000).unwrap_or_else(|| {
                wrong.answer(format!("{}: {}: write a weight of 0 to 1000000", field.path, field.value));
                0
            })
        }
    };
    let filters =
        if kind.is_http() { filters::read(&part, kind, namespace, wrong, notes) } else { Vec::new() };
    if filters.iter().any(|filter| matches!(filter, Filter::Redirect(_))) {
        wrong.answer(format!("{}: a redirect has no backend; put it at the rule", part.at("filters")));
    }
    Some(Backend { to: service(&part, namespace, notes), weight, filters, field: item.path.clone() })
}

/// The Service that a reference is about.
fn service(part: &Part<'_>, namespace: &str, notes: &mut Notes) -> Result<(Name, u16), Fault> {
    let group = part.get("group").map_or(Some(""), |field| field.value.as_str());
    let kind = part.get("kind").map_or(Some("Service"), |field| field.value.as_str());
    if !matches!(group, Some("" | "core")) || kind != Some("Service") {
        let (group, kind) = (group.unwrap_or_default(), kind.unwrap_or_default());
        let message =
            format!("{}: {kind:?} of group {group:?} is no backend here; name a Service", part.path);
        return Err(Fault { reason: "InvalidKind", message });
    }
    let missing = |field: &str| Fault {
        reason: "BackendNotFound",
        message: format!("{} must be there and right", part.at(field)),
    };
    let name = part.name("name", notes).ok_or_else(|| missing("name"))?;
    let of = part.optional_name("namespace", notes).map_err(|()| missing("namespace"))?;
    let port = part.port("port", notes).ok_or_else(|| missing("port"))?;
    Ok((Name::new(of.unwrap_or_else(|| namespace.to_owned()), name), port))
}
