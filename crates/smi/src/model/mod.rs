//! One model of both families of APIs: what a proxy goes by.
//!
//! It is a map of small entries, so that a change is a few of them: a [`Delta`]. Entries refer to each other by key alone:
//!
//! - [`Frontend`]: what happens to traffic for a port of a Service's cluster addresses. Of a client in a namespace that has a frontend
//!   of its own ([`Key::Frontend`], `consumer`), that one alone counts. Only the first frontend on the way is asked: what a rule sends to
//!   a Service goes to its [`Key::Endpoints`].
//! - [`Endpoint`]s of a port of a Service.
//! - [`Workload`]: a pod, who it is, whether it is in the mesh, and which policies guard it.
//! - [`Policy`]: who may ask what. A workload that is a member and has policies is closed but for what one of them allows.

mod delta;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use crate::contract::gateway::{Retry, Timeouts};
pub use crate::contract::http::{Filter, HttpMatch, PathMatch, TextMatch};
pub use crate::contract::specs::{Ports, Transport};
use crate::contract::{Id, Name};
pub use delta::{Delta, Model, Shared};

/// Which entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Key {
    /// Of a port of a Service, for all clients or those of one namespace.
    Frontend {
        /// The Service.
        service: Name,
        /// Its port.
        port: u16,
        /// TCP or UDP.
        transport: Transport,
        /// The clients' namespace, where the frontend is theirs alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        consumer: Option<String>,
    },
    /// Of a port of a Service.
    Endpoints {
        /// The Service.
        service: Name,
        /// Its port.
        port: u16,
        /// TCP or UDP.
        transport: Transport,
    },
    /// Of a TrafficTarget.
    Policy(Name),
    /// Of a pod.
    Workload(Name),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frontend { service, port, transport, consumer } => {
                write!(f, "frontend {service}:{port}/{}", word(*transport))?;
                consumer.iter().try_for_each(|consumer| write!(f, " from {consumer}"))
            }
            Self::Endpoints { service, port, transport } => {
                write!(f, "endpoints {service}:{port}/{}", word(*transport))
            }
            Self::Policy(name) => write!(f, "policy {name}"),
            Self::Workload(name) => write!(f, "workload {name}"),
        }
    }
}

fn word(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

/// What stands under a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Entry {
    /// Under [`Key::Frontend`].
    Frontend(Frontend),
    /// Under [`Key::Endpoints`], in order.
    Endpoints(Vec<Endpoint>),
    /// Under [`Key::Policy`].
    Policy(Policy),
    /// Under [`Key::Workload`].
    Workload(Workload),
}

/// What happens to traffic for a port of a Service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Frontend {
    /// The Service's cluster addresses.
    pub addresses: Vec<IpAddr>,
    /// What the Service says is spoken there, as in `kubernetes.io/h2c`. Where it says nothing, who reads the first bytes knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
    /// Where it goes.
    pub routing: Routing,
}

/// Where traffic goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Routing {
    /// To the Service's own endpoints.
    Plain,
    /// By what is asked. What is no HTTP goes to the Service's own endpoints.
    Http(HttpRouting),
    /// By the name that a TLS client asks for. What is no TLS, or asks for another, is refused.
    Tls(Vec<TlsRule>),
    /// By weight.
    Weighted(Weighted),
}

/// Where HTTP requests go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouting {
    /// Which requests a rule is about; of those that fit the first counts.
    pub matches: Vec<Matched>,
    /// What happens to them.
    pub rules: Vec<HttpRule>,
    /// What happens to all others.
    pub unmatched: Unmatched,
}

/// Requests of a rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Matched {
    /// Which requests.
    pub requests: HttpMatch,
    /// The place of the rule among the rules.
    pub rule: usize,
}

/// What happens to requests that no rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Unmatched {
    /// They are answered 404, a gRPC call with UNIMPLEMENTED: routes of Gateway API.
    NotFound,
    /// They go to the Service's own endpoints: a TrafficSplit.
    Apex,
}

/// What happens to requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRule {
    /// Where it comes from.
    pub from: Origin,
    /// What happens on the way, in order. After a redirect nobody else answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// Who answers. Where there is nobody, or the sum of weights is 0, the answer is 500.
    pub backends: Vec<Backend>,
    /// How long it may take.
    #[serde(default, skip_serializing_if = "Timeouts::is_empty")]
    pub timeouts: Timeouts,
    /// What is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// The rule of an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The object.
    pub object: Id,
    /// The rule's place in it.
    pub rule: usize,
    /// The rule's name, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// Where to.
    pub to: To,
    /// The share, relative to the others'.
    pub weight: u64,
    /// What happens on the way to this one, after the rule's filters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
}

/// Where a share of traffic goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum To {
    /// To endpoints of a Service.
    Service {
        /// Its name.
        service: Name,
        /// Its port.
        port: u16,
    },
    /// Nowhere: answered with this status; a connection is reset.
    Fail(u16),
}

/// Where connections of TLS go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsRule {
    /// Names that a client may ask for, as `a.example` or `*.example`; empty is any. The first rule that has it counts.
    pub hostnames: Vec<String>,
    /// Where it comes from.
    pub from: Origin,
    /// Who answers.
    pub backends: Vec<Backend>,
}

/// Traffic by weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Weighted {
    /// What is weighed.
    pub each: Each,
    /// Where it comes from.
    pub from: Origin,
    /// Who answers.
    pub backends: Vec<Backend>,
}

/// What is sent to one backend at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Each {
    /// A connection, or what of UDP has one pair of addresses and ports.
    Connection,
    /// A request of HTTP, and a connection of anything else.
    Request,
}

/// Who answers at an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// Its port there.
    pub port: u16,
    /// The pod, whose [`Workload`] says who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Name>,
    /// The pod's node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The node's zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// It takes new connections.
    pub ready: bool,
    /// It answers, be it on its way out: the last resort where nobody is ready.
    pub serving: bool,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Its addresses; none where it has its node's.
    pub addresses: Vec<IpAddr>,
    /// Its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Its identity, `spiffe://DOMAIN/ns/NAMESPACE/sa/NAME`.
    pub identity: String,
    /// Whether it is in the mesh.
    pub mode: Mode,
    /// The policies that guard it. If there is one, and it is a member, only what one of them allows may come in; outside the mesh
    /// there is nobody who could see to that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Name>,
}

/// How a pod is in the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is not.
    Outside,
    /// It is, and takes plain text from those that are not, unless a policy guards it.
    Permissive,
    /// It is, and takes nothing from those that are not.
    Strict,
}

/// Who may ask what of the workloads that a TrafficTarget guards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Who: any of these. Nobody, if empty.
    pub sources: Vec<Principal>,
    /// What of TCP.
    pub tcp: TcpAllow,
    /// Which UDP ports of the pod.
    pub udp: Ports,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Principal {
    /// The SPIFFE identity that is proved.
    pub identity: String,
    /// The addresses that it must come from as well, in order: pods that were chosen by label among those of one identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<IpAddr>>,
}

/// What may be asked over TCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TcpAllow {
    /// On these ports of the pod...
    pub ports: Ports,
    /// ... and, if there is a list, by these requests alone: what is no HTTP is not allowed then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Vec<HttpMatch>>,
}

/// An entry as it is kept: shared with whoever is told of it.
pub type Kept = Arc<Entry>;
