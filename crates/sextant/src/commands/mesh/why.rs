//! Who would answer a request, and why.

mod datagrams;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use mesh::http1::Target as Asked;
use mesh::proxy::edited;
use mesh::telemetry;
use serde::{Deserialize, Serialize};
use smi::contract::Name;
use smi::contract::http::Mirror;
use smi::contract::specs::Transport;
use smi::gate::{Gate, Peer, Verdict};
use smi::matching::{Head, Matcher};
use smi::model::{
    Backend, Each, Endpoint, Entry, Filter, Frontend, Key, Mode, Model, PathMatch, Policy, Routing, To,
    Unmatched, Workload,
};

use super::known::word;
use super::routes::{ClientView, Views, match_words, mirror_words};
use super::wire::Target;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Question {
    /// The pod that asks.
    pub(super) source: Name,
    pub(super) target: Target,
    pub(super) port: Option<u16>,
    /// What is asked about is a datagram. It has no method, path and headers.
    #[serde(default)]
    pub(super) udp: bool,
    pub(super) method: String,
    /// With the query, if there is one.
    pub(super) path: String,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Outcome {
    /// One of the endpoints gets it.
    Answered,
    /// The mesh answers it itself.
    AnsweredByMesh,
    /// No policy of who could answer lets it in.
    Refused,
    /// The mesh has no part in it.
    PassedBy,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Explained {
    pub(super) outcome: Outcome,
    /// The same in words.
    pub(super) verdict: String,
    pub(super) steps: Vec<Step>,
    pub(super) endpoints: Vec<Candidate>,
}

/// A step on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Step {
    /// `source`, `frontend`, `rule`, `mirror` or `backend`.
    pub(super) of: String,
    pub(super) is: String,
}

/// Who may get it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate {
    pub(super) backend: String,
    pub(super) address: SocketAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pod: Option<Name>,
    /// `ready`, `last resort`, `left out` or `not ready`.
    pub(super) state: String,
    /// It is asked, as long as nobody is ready who is not left out if that is its state.
    pub(super) is_asked: bool,
    /// It is asked over HBONE, so that it knows who asks.
    #[serde(default)]
    pub(super) is_secured: bool,
    /// Whether its policies let the request in; `None` where they are not known here.
    pub(super) lets_in: Option<bool>,
    /// What its policies say.
    pub(super) policy: String,
}

/// A request as matches see it.
struct Request<'a> {
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    headers: &'a [(String, String)],
    host: &'a str,
}

impl<'a> Request<'a> {
    fn new(path: &'a str, (question, query, host): (&'a Question, Option<&'a str>, &'a str)) -> Self {
        Self { method: &question.method, path, query, headers: &question.headers, host }
    }
}

impl Head for Request<'_> {
    fn method(&self) -> &str {
        self.method
    }

    fn path(&self) -> &str {
        self.path
    }

    fn query(&self) -> Option<&str> {
        self.query
    }

    fn any_header(&self, name: &str, is: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let mut values = self.headers.iter().filter(|(known, _)| known == name).peekable();
        if name == "host" && values.peek().is_none() {
            return is(self.host.as_bytes());
        }
        values.any(|(_, value)| is(value.as_bytes()))
    }
}

/// What the node is and has that is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Here<'a> {
    /// Its name.
    pub(super) node: &'a str,
    /// It serves the pod that asks.
    pub(super) is_served: bool,
    /// Members prove who they are, and policies are enforced.
    pub(super) has_identities: bool,
    /// There is a certificate of the pod that asks.
    pub(super) is_proved: bool,
}

/// What is found out, step by step.
struct Finding<'a> {
    here: Here<'a>,
    model: &'a Model,
    views: &'a Views,
    question: &'a Question,
    steps: Vec<Step>,
}

/// Follows a request as the proxy of this node would.
///
/// # Errors
/// The question cannot be answered, and what to ask instead.
pub(super) fn explain(
    model: &Model,
    views: &Views,
    question: &Question,
    here: Here<'_>,
) -> Result<Explained, String> {
    if question.udp {
        return datagrams::explain(model, question, here);
    }
    let mut finding = Finding { here, model, views, question, steps: Vec::new() };
    let source = finding.source()?;
    if source.mode == Mode::Outside {
        return Ok(finding.passed_by("it is no member, and reaches who it asks directly"));
    }
    if !here.is_served {
        return Ok(finding.passed_by("it is a member and is not served now: it reaches who it asks directly"));
    }
    let Some((service, port, frontend)) = finding.frontend()? else {
        return Ok(finding.passed_by("that is no Service's cluster address and port: it is passed on unread"));
    };
    finding.follow(source, (&service, port), frontend)
}

impl<'a> Finding<'a> {
    fn step(&mut self, of: &str, is: impl Into<String>) {
        self.steps.push(Step { of: of.into(), is: is.into() });
    }

    fn passed_by(self, why: &str) -> Explained {
        let verdict = why.to_owned();
        Explained { outcome: Outcome::PassedBy, verdict, steps: self.steps, endpoints: Vec::new() }
    }

    fn by_mesh(self, verdict: String) -> Explained {
        Explained { outcome: Outcome::AnsweredByMesh, verdict, steps: self.steps, endpoints: Vec::new() }
    }

    fn workload(&self, pod: &Name) -> Option<&'a Workload> {
        match self.model.get(&Key::Workload(pod.clone())).map(|entry| &**entry) {
            Some(Entry::Workload(workload)) => Some(workload),
            _ => None,
        }
    }

    /// The node of a pod, if that is another one.
    fn elsewhere<'w>(&self, workload: &'w Workload) -> Option<&'w str> {
        workload.node.as_deref().filter(|node| *node != self.here.node)
    }

    fn source(&mut self) -> Result<&'a Workload, String> {
        let pod = &self.question.source;
        let Some(workload) = self.workload(pod) else {
            return Err(format!(
                "cannot say what happens to requests of pod {pod}: this node knows no pod of that name; ask on its node"
            ));
        };
        // A control plane tells of members elsewhere, too.
        if let Some(node) = self.elsewhere(workload) {
            return Err(format!(
                "cannot say what happens to requests of pod {pod}: it is on node {node}; ask there"
            ));
        }
        self.step("source", format!("pod {pod}, {}, {}", word(workload.mode), workload.identity));
        if self.here.has_identities && !self.here.is_proved && workload.mode != Mode::Outside {
            self.step(
                "source",
                "there is no certificate for it, or none that has not expired: it reaches no member",
            );
        }
        Ok(workload)
    }

    /// The frontend that the source's requests go to; `None` of an address that no Service has.
    fn frontend(&mut self) -> Result<Option<(Name, u16, &'a Frontend)>, String> {
        let namespace = &self.question.source.namespace;
        let all = self.model.iter().filter_map(|(key, entry)| match (key, &**entry) {
            (
                Key::Frontend { service, port, transport: Transport::Tcp, consumer },
                Entry::Frontend(frontend),
            ) if consumer.as_ref().is_none_or(|consumer| consumer == namespace) => {
                Some((service, *port, consumer, frontend))
            }
            _ => None,
        });
        let is_meant = |service: &Name, frontend: &Frontend| match &self.question.target {
            Target::Service(name) => name == service,
            Target::Address(address) => frontend.addresses.contains(address),
        };
        let mut found: Vec<_> = all.filter(|(service, _, _, frontend)| is_meant(service, frontend)).collect();
        if let Some(wanted) = self.question.port {
            let ports: Vec<String> = found.iter().map(|(_, port, ..)| port.to_string()).collect();
            found.retain(|(_, port, ..)| *port == wanted);
            if found.is_empty() && !ports.is_empty() && matches!(self.question.target, Target::Service(_)) {
                return Err(format!("the Service has no port {wanted}; it has {}", ports.join(", ")));
            }
        } else {
            let mut ports: Vec<u16> = found.iter().map(|(_, port, ..)| *port).collect();
            ports.sort_unstable();
            ports.dedup();
            if ports.len() > 1 {
                let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
                return Err(format!("the Service has several ports, name one: {}", ports.join(", ")));
            }
        }
        // The one of the source's namespace goes before that for all.
        found.sort_by_key(|(_, _, consumer, _)| consumer.is_none());
        let Some((service, port, consumer, frontend)) = found.first().copied() else {
            return match &self.question.target {
                Target::Service(name) => {
                    Err(format!("there is no Service {name} with a cluster address and a port of TCP"))
                }
                Target::Address(_) => Ok(None),
            };
        };
        let addresses: Vec<String> = frontend.addresses.iter().map(ToString::to_string).collect();
        let of = consumer.as_ref().map_or_else(String::new, |of| format!(", for clients of namespace {of}"));
        self.step("frontend", format!("{service}:{port} at {}{of}", addresses.join(", ")));
        Ok(Some((service.clone(), port, frontend)))
    }

    fn follow(
        mut self,
        source: &Workload,
        (service, port): (&Name, u16),
        frontend: &'a Frontend,
    ) -> Result<Explained, String> {
        let question = self.question;
        let asked = Asked::of(&question.path, &question.method)
            .map_err(|fault| format!("the request would be refused: {fault}"))?;
        let mut path = asked.path.to_string();
        let host = format!("{}.{}", service.name, service.namespace);
        let rest = (question, asked.query, host.as_str());
        let own =
            Backend { to: To::Service { service: service.clone(), port }, weight: 1, filters: Vec::new() };
        // What the Service says is something else is not read, unless somebody has routes of HTTP for it.
        let known = ["", "http", "HTTP", "kubernetes.io/ws", "kubernetes.io/h2c", "grpc"];
        let mut is_http = frontend.app_protocol.as_deref().is_none_or(|protocol| known.contains(&protocol));
        let (mut filters, mut prefix) = (Vec::new(), None);
        let backends = match &frontend.routing {
            Routing::Plain => {
                self.step("rule", "none: to the Service's own endpoints");
                vec![own]
            }
            Routing::Weighted(weighted) => {
                is_http &= weighted.each == Each::Request;
                let each = if is_http { "each request" } else { "each connection, unread," };
                self.step("rule", format!("{}: {each} by weight", telemetry::rule(&weighted.from)));
                weighted.backends.clone()
            }
            Routing::Tls(_) => {
                return Ok(self.by_mesh(
                    "the connection is reset: routes by the name that a TLS client asks for are not served yet".into(),
                ));
            }
            Routing::Http(http) => {
                is_http = true;
                let matcher = Matcher::new(http.matches.iter().map(|matched| &matched.requests))
                    .map_err(|error| error.to_string())?;
                let matched =
                    matcher.find(&Request::new(&path, rest)).and_then(|place| http.matches.get(place));
                let found = matched.and_then(|matched| Some((matched, http.rules.get(matched.rule)?)));
                match (found, http.unmatched) {
                    (Some((matched, rule)), _) => {
                        let words = match_words(&matched.requests);
                        self.step("rule", format!("{}: {words}", telemetry::rule(&rule.from)));
                        if let PathMatch::Prefix(matched) = &matched.requests.path {
                            prefix = Some(matched.as_str());
                        }
                        filters.clone_from(&rule.filters);
                        rule.backends.clone()
                    }
                    (None, Unmatched::Apex) => {
                        self.step("rule", "no rule is about it: to the Service's own endpoints");
                        vec![own]
                    }
                    (None, Unmatched::NotFound) => {
                        self.step("rule", "no rule of the Service's routes is about it");
                        return Ok(self.by_mesh("the mesh answers 404".into()));
                    }
                }
            }
        };
        for filter in &filters {
            match filter {
                Filter::Redirect(redirect) => {
                    let status = redirect.status;
                    return Ok(self.by_mesh(format!("the mesh answers {status}, a redirect")));
                }
                Filter::Rewrite(rewrite) => {
                    if let Some(edit) = &rewrite.path {
                        path = edited(edit, &path, prefix).into_owned();
                    }
                }
                Filter::Mirror(_) | Filter::RequestHeaders(_) | Filter::ResponseHeaders(_) => {}
            }
        }
        self.mirrors(&filters);
        let peer = |address| Peer { identity: Some(source.identity.as_str()), address };
        let address = source.addresses.first().copied();
        let mut endpoints = Vec::new();
        let mut failing = Vec::new();
        let sum: u64 = backends.iter().map(|backend| backend.weight).sum();
        for backend in backends.iter().filter(|backend| backend.weight > 0) {
            let share = backend.weight as f64 * 100.0 / sum as f64;
            match &backend.to {
                To::Fail(status) => {
                    failing.push(*status);
                    self.step(
                        "backend",
                        format!("{share:.1} %: one that cannot be asked, answered {status}"),
                    );
                }
                To::Service { service, port } => {
                    self.step("backend", format!("{share:.1} %: {service}:{port}"));
                    self.mirrors(&backend.filters);
                    let found = self.endpoints(service, *port);
                    let asks = asked_ones(&found);
                    for ((endpoint, view), is_asked) in found.iter().zip(asks) {
                        let guard = address.map(|address| (peer(address), Request::new(&path, rest)));
                        let (lets_in, policy) = self.policy(endpoint, guard, is_http);
                        endpoints.push(Candidate {
                            backend: format!("{service}:{port}"),
                            address: SocketAddr::new(endpoint.address, endpoint.port),
                            pod: endpoint.pod.clone(),
                            state: state(endpoint, view.as_ref()).into(),
                            is_asked,
                            is_secured: self.here.has_identities
                                && self.member_at(endpoint.address).is_some(),
                            lets_in,
                            policy,
                        });
                    }
                }
            }
        }
        if sum == 0 {
            return Ok(self.by_mesh("the mesh answers 500: the rule has no backend with a weight".into()));
        }
        let asked: Vec<&Candidate> = endpoints.iter().filter(|one| one.is_asked).collect();
        let (outcome, verdict) = if let (true, Some(status)) = (asked.is_empty(), failing.first()) {
            (Outcome::AnsweredByMesh, format!("the mesh answers {status}"))
        } else if asked.is_empty() {
            let text = if is_http { "the mesh answers 503" } else { "the connection is reset" };
            (Outcome::AnsweredByMesh, format!("{text}: the backend has no endpoint that is ready"))
        } else if asked.iter().all(|one| one.lets_in == Some(false)) {
            (Outcome::Refused, "the policies of all who could answer refuse it".into())
        } else {
            let refusing = asked.iter().filter(|one| one.lets_in == Some(false)).count();
            let but = if refusing > 0 {
                format!(", of which {refusing} refuse it by policy")
            } else {
                String::new()
            };
            (Outcome::Answered, format!("one of {} endpoints is asked{but}", asked.len()))
        };
        Ok(Explained { outcome, verdict, steps: self.steps, endpoints })
    }

    /// Tells who gets copies of it, whose answers nobody gets.
    fn mirrors(&mut self, filters: &[Filter]) {
        let mirrors = filters.iter().filter_map(|filter| match filter {
            Filter::Mirror(mirror) => Some(mirror),
            _ => None,
        });
        for mirror in mirrors {
            let Mirror { service, port, .. } = mirror;
            let found = self.endpoints(service, *port);
            let asked = asked_ones(&found).into_iter().filter(|is_asked| *is_asked).count();
            self.step("mirror", format!("{}, one of {asked} endpoints", mirror_words(mirror)));
        }
    }

    /// The endpoints of a Service's port, each as the source sees it.
    fn endpoints(&self, service: &Name, port: u16) -> Vec<(&'a Endpoint, Option<ClientView>)> {
        let key = Key::Endpoints { service: service.clone(), port, transport: Transport::Tcp };
        let Some(Entry::Endpoints(endpoints)) = self.model.get(&key).map(|entry| &**entry) else {
            return Vec::new();
        };
        let source = self.question.source.to_string();
        let view = |endpoint: &Endpoint| {
            let address = SocketAddr::new(endpoint.address, endpoint.port);
            let views = self.views.get(&(service.clone(), port, address))?;
            views.iter().find(|view| view.client == source).cloned()
        };
        endpoints.iter().map(|endpoint| (endpoint, view(endpoint))).collect()
    }

    /// The member that has an address: who is asked there.
    fn member_at(&self, address: IpAddr) -> Option<&'a Workload> {
        self.model.iter().find_map(|(_, entry)| match &**entry {
            Entry::Workload(pod) if pod.mode != Mode::Outside && pod.addresses.contains(&address) => {
                Some(pod)
            }
            _ => None,
        })
    }

    /// Whether an endpoint's policies let a request in, and which.
    fn policy(
        &self,
        endpoint: &Endpoint,
        guard: Option<(Peer<'_>, Request<'_>)>,
        is_http: bool,
    ) -> (Option<bool>, String) {
        let found =
            endpoint.pod.as_ref().map_or_else(|| self.member_at(endpoint.address), |pod| self.workload(pod));
        let Some(workload) = found else {
            if endpoint.pod.is_none() {
                return (Some(true), "it is no pod: nobody guards it".into());
            }
            let at = endpoint.node.as_ref().map_or_else(String::new, |node| format!(" on {node}"));
            return (None, format!("known{at}"));
        };
        if workload.mode == Mode::Outside {
            return (Some(true), "it is no member: nobody guards it".into());
        }
        if self.here.has_identities && !self.here.is_proved {
            return (Some(false), "it cannot be shown who asks".into());
        }
        if workload.policies.is_empty() {
            return (Some(true), format!("none: {} to members", word(workload.mode)));
        }
        let names: Vec<String> = workload.policies.iter().map(ToString::to_string).collect();
        let names = names.join(", ");
        if let Some(node) = self.elsewhere(workload) {
            return (None, format!("{names}, known on {node}"));
        }
        if !self.here.has_identities {
            return (Some(true), format!("{names}, which is not enforced: nobody issues identities here"));
        }
        let Some((peer, request)) = guard else {
            return (Some(false), format!("{names}: who asks has no address"));
        };
        let policies = workload.policies.iter().filter_map(|name| self.policy_of(name));
        let gate = match Gate::new(policies) {
            Ok(gate) => gate,
            Err(error) => return (Some(false), format!("{names}: {error}")),
        };
        match gate.connection(&peer, Transport::Tcp, endpoint.port) {
            Verdict::Allowed => (Some(true), format!("{names} lets it in")),
            Verdict::Refused => (Some(false), format!("{names} does not let this client in at this port")),
            Verdict::ByRequest if !is_http => {
                (Some(false), format!("{names} lets requests of HTTP in alone, and this is passed on unread"))
            }
            Verdict::ByRequest if gate.request(&peer, endpoint.port, &request) => {
                (Some(true), format!("{names} lets this request in"))
            }
            Verdict::ByRequest => (Some(false), format!("{names} does not let this request in")),
        }
    }

    fn policy_of(&self, name: &Name) -> Option<&'a Policy> {
        match self.model.get(&Key::Policy(name.clone())).map(|entry| &**entry) {
            Some(Entry::Policy(policy)) => Some(policy),
            _ => None,
        }
    }
}

fn is_out(view: Option<&ClientView>) -> bool {
    view.is_some_and(|view| view.left_out_ms.is_some())
}

/// Who of these is asked: those that are ready and not left out; else those that are ready; else those that serve.
fn asked_ones(all: &[(&Endpoint, Option<ClientView>)]) -> Vec<bool> {
    type One<'o> = (&'o Endpoint, Option<ClientView>);
    let tests: [&dyn Fn(&One<'_>) -> bool; 3] = [
        &|(endpoint, view)| endpoint.ready && !is_out(view.as_ref()),
        &|(endpoint, _)| endpoint.ready,
        &|(endpoint, _)| endpoint.serving,
    ];
    for test in tests {
        let asked: Vec<bool> = all.iter().map(test).collect();
        if asked.contains(&true) {
            return asked;
        }
    }
    vec![false; all.len()]
}

fn state(endpoint: &Endpoint, view: Option<&ClientView>) -> &'static str {
    match (endpoint.ready, endpoint.serving) {
        (true, _) if is_out(view) => "left out",
        (true, _) => "ready",
        (false, true) => "last resort",
        (false, false) => "not ready",
    }
}
