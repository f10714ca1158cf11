//! What is asked and answered over the mesh's socket: a question, then answers, a line of JSON each.
//!
//! Both sides are this program; nobody else is promised that it stays so.

use std::net::{IpAddr, SocketAddr};

use kernel::nft::Count;
use mesh::proxy::Service;
use mesh::telemetry::{Counted, GRPC, Histogram, Line, Numbers, Reason};
use serde::{Deserialize, Serialize};
use smi::contract::Name;

use super::known::Names;
use crate::objects::shown;

/// The socket in the run directory. A control plane on the same machine may have `mesh.sock` there.
pub(super) const SOCKET: &str = "mesh-admin.sock";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Question {
    State,
    Routes,
    Tap(Filter),
    Why(super::why::Question),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Answer {
    State(Box<State>),
    Routes(super::routes::Routes),
    /// One of many.
    Event(Box<Event>),
    Why(Box<super::why::Explained>),
    /// Why there is no answer.
    Refused(String),
}

/// What a node's mesh does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    pub(super) node: String,
    pub(super) server: String,
    /// When it began, in seconds of 1970.
    pub(super) since: u64,
    /// When this was said, in milliseconds since then.
    pub(super) at: u64,
    /// Services and routes are known.
    pub(super) ready: bool,
    /// Members prove who they are to each other, and policies are enforced.
    pub(super) identities: bool,
    pub(super) pods: Vec<PodState>,
    /// Frontends, and ports of Services with endpoints.
    pub(super) frontends: usize,
    pub(super) services: usize,
    pub(super) policies: usize,
    /// How often there were other tables.
    pub(super) tables: u64,
    pub(super) connections: u64,
    pub(super) open: u64,
    pub(super) requests: u64,
    pub(super) answered: u64,
    pub(super) unread: u64,
    pub(super) endpoint_connections: u64,
    pub(super) idle: usize,
    pub(super) retried: u64,
    /// Connections of HBONE that were made to members.
    pub(super) hbone_connections: u64,
    /// Connections and streams that came to pods, those of them that came over HBONE, and visits and requests that policies have refused.
    pub(super) visits: u64,
    pub(super) visits_secured: u64,
    pub(super) refused: u64,
    /// Endpoints that are left out now, by whose clients.
    pub(super) left_out: usize,
    pub(super) lost_lines: u64,
    pub(super) traffic: Vec<Row>,
}

/// A pod that is served, or was until its last connection ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodState {
    pub(super) pod: Name,
    /// In seconds of 1970.
    pub(super) since: u64,
    pub(super) leaving: bool,
    /// How it is in the mesh.
    pub(super) mode: String,
    pub(super) identity: String,
    /// Until when that can be proved, in seconds of 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) certified: Option<u64>,
    /// Datagrams to it that a policy lets in, and others, which are dropped; where not everybody may send them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) datagrams_admitted: Option<PacketCount>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) datagrams_dropped: Option<PacketCount>,
    /// What it has sent from addresses that are not its own, and was dropped; where that is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) foreign_dropped: Option<PacketCount>,
}

/// What the kernel has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PacketCount {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl From<Count> for PacketCount {
    fn from(Count { packets, bytes }: Count) -> Self {
        Self { packets, bytes }
    }
}

/// What was counted alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    /// It has come to `pod`, and it is not counted who has come.
    pub(super) inbound: bool,
    /// `NAMESPACE/NAME`, `NAMESPACE/NAME:PORT` and the like; empty where there is none.
    pub(super) client: String,
    pub(super) service: String,
    pub(super) rule: String,
    pub(super) backend: String,
    pub(super) endpoint: String,
    pub(super) pod: String,
    /// Nothing more is counted for it.
    pub(super) over: bool,
    /// Requests by the first digit of their status.
    pub(super) classes: [u64; 6],
    pub(super) grpc: [u64; GRPC],
    /// In the order of reasons.
    pub(super) reasons: [u64; Reason::ALL.len()],
    pub(super) latency: Vec<(usize, u64)>,
    pub(super) micros: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) opened: u64,
    pub(super) closed: u64,
    pub(super) torn: u64,
    pub(super) failed: u64,
    pub(super) retried: u64,
}

impl Row {
    pub(super) fn new(counted: &Counted, names: &Names<'_>) -> Self {
        let numbers = &counted.numbers;
        let pod = counted.pod.as_ref().map(ToString::to_string).unwrap_or_default();
        let who = names.client(counted.client);
        let (client, pod) = if counted.is_inside() { (String::new(), who) } else { (who, pod) };
        Self {
            inbound: counted.is_inside(),
            client,
            service: names.service(counted.frontend),
            rule: names.rule(counted.rule),
            backend: names.service(counted.backend),
            endpoint: counted.endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default(),
            pod,
            over: counted.is_over,
            classes: numbers.classes,
            grpc: numbers.grpc,
            reasons: numbers.reasons,
            latency: numbers.latency.parts().to_vec(),
            micros: numbers.latency.micros(),
            sent: numbers.sent,
            received: numbers.received,
            opened: numbers.opened,
            closed: numbers.closed,
            torn: numbers.torn,
            failed: numbers.failed,
            retried: numbers.retried,
        }
    }

    pub(super) fn numbers(&self) -> Numbers {
        Numbers {
            classes: self.classes,
            grpc: self.grpc,
            reasons: self.reasons,
            latency: Histogram::of(self.latency.iter().copied(), self.micros),
            sent: self.sent,
            received: self.received,
            opened: self.opened,
            closed: self.closed,
            torn: self.torn,
            failed: self.failed,
            retried: self.retried,
        }
    }
}

/// A request that has ended, or a connection that was passed on unread: a line of the access log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    /// When it ended, RFC 3339.
    pub(super) time: String,
    /// `request` or `connection`.
    pub(super) kind: String,
    /// `inbound` of what has come to `pod`, else nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) direction: String,
    /// Who has come to a pod: the identity that is proved, or an address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) peer: String,
    pub(super) client: String,
    pub(super) service: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) rule: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) backend: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) endpoint: Option<SocketAddr>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) pod: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) method: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) path: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) host: String,
    /// 1 or 2, of HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) grpc_status: Option<u8>,
    pub(super) duration_us: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) retries: u32,
}

impl Event {
    pub(super) fn new(line: Line, names: &Names<'_>) -> Self {
        let kind = if line.request.is_some() { "request" } else { "connection" };
        let pod = line.backend.zip(line.endpoint).and_then(|(backend, at)| names.tables.pod(backend, at));
        let pod = pod.map(ToString::to_string).unwrap_or_default();
        let is_inside = line.frontend.is_some_and(Service::is_inside);
        let who = names.client(line.client);
        let (client, pod) = if is_inside { (String::new(), who) } else { (who, pod) };
        let (version, method, path, host) = match line.request {
            Some(request) => (Some(request.version), request.method, request.path, request.host),
            None => <(Option<u8>, String, String, String)>::default(),
        };
        Self {
            time: shim::timestamp(line.at),
            kind: kind.into(),
            direction: if is_inside { "inbound".into() } else { String::new() },
            client,
            peer: line.peer.unwrap_or_default(),
            service: names.service(line.frontend),
            rule: names.rule(line.rule),
            backend: names.service(line.backend),
            endpoint: line.endpoint,
            pod,
            method,
            path,
            host,
            version,
            status: version.map(|_| line.status),
            grpc_status: line.grpc,
            duration_us: u64::try_from(line.took.as_micros()).unwrap_or(u64::MAX),
            sent: line.sent,
            received: line.received,
            reason: line.reason.map_or("", Reason::as_str).into(),
            retries: line.retries,
        }
    }

    /// Whether it did not go well.
    pub(super) fn has_failed(&self) -> bool {
        self.status.is_some_and(|status| status >= 500)
            || !self.reason.is_empty()
            || self.grpc_status.is_some_and(|status| status != 0)
    }

    /// A line for people. Control characters of what clients have sent are shown, not written.
    pub(super) fn text(&self) -> String {
        let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { shown(text) };
        let (client, service) = match self.direction.is_empty() {
            true => (&self.client, &self.service),
            false => (&self.peer, &self.direction),
        };
        let to = match (&self.pod, self.endpoint) {
            (pod, Some(endpoint)) if pod.is_empty() => endpoint.to_string(),
            (pod, Some(endpoint)) => format!("{pod} ({endpoint})"),
            (pod, None) => or_dash(pod),
        };
        let took = self.duration_us as f64 / 1000.0;
        let end = format!("{took:.1} ms, {} B sent, {} B received", self.sent, self.received);
        let mut text = format!("{} {} -> {} -> {to}: ", self.time, or_dash(client), or_dash(service));
        match self.status {
            Some(status) => {
                let (method, path) = (or_dash(&self.method), or_dash(&self.path));
                text.push_str(&format!("{method} {path} {status}, {end}"));
            }
            None => text.push_str(&format!("connection, {end}")),
        }
        for (name, value) in [("rule", &self.rule), ("reason", &self.reason)] {
            if !value.is_empty() {
                text.push_str(&format!(", {name} {value}"));
            }
        }
        if let Some(status) = self.grpc_status {
            text.push_str(&format!(", grpc-status {status}"));
        }
        if self.retries > 0 {
            text.push_str(&format!(", sent again {} times", self.retries));
        }
        text
    }
}

/// Which requests and connections are told of: those of which all of it is true.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Filter {
    /// A pod, `NAMESPACE/NAME` or the beginning of that.
    pub(super) client: Option<String>,
    /// A Service, `NAMESPACE/NAME` or `NAMESPACE/NAME:PORT`.
    pub(super) service: Option<String>,
    pub(super) method: Option<String>,
    /// The beginning of a path.
    pub(super) path: Option<String>,
    /// A status, or the first digit of some.
    pub(super) status: Option<u16>,
    pub(super) failed: bool,
}

impl Filter {
    pub(super) fn has(&self, event: &Event) -> bool {
        let is = |wanted: &Option<String>, test: &dyn Fn(&str) -> bool| wanted.as_deref().is_none_or(test);
        is(&self.client, &|client| event.client.starts_with(client))
            && is(&self.service, &|service| is_of(service, &event.service))
            && is(&self.method, &|method| event.method.eq_ignore_ascii_case(method))
            && is(&self.path, &|path| event.kind == "request" && event.path.starts_with(path))
            && self.status.is_none_or(|wanted| {
                event.status.is_some_and(|status| status == wanted || status / 100 == wanted)
            })
            && (!self.failed || event.has_failed())
    }
}

/// Whether that is the Service, or one of its ports.
pub(super) fn is_of(wanted: &str, service: &str) -> bool {
    let rest = service.strip_prefix(wanted);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

/// An address of a Service, or its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Target {
    Service(Name),
    Address(IpAddr),
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use mesh::proxy::{Network, Tables};
    use mesh::telemetry::Request;

    use super::*;

    fn event() -> Event {
        let request = Request { version: 1, method: "GET".into(), path: "/a\nb".into(), host: "web".into() };
        let line = Line {
            at: SystemTime::UNIX_EPOCH,
            client: Network(1),
            peer: None,
            frontend: None,
            rule: None,
            backend: None,
            endpoint: Some("10.0.0.1:80".parse().unwrap()),
            request: Some(request),
            status: 503,
            grpc: None,
            took: Duration::from_micros(1500),
            sent: 5,
            received: 7,
            reason: Some(Reason::NoConnection),
            retries: 1,
        };
        let tables = Tables::default();
        let mut event =
            Event::new(line, &Names { tables: &tables, client: &|_| Some(Name::new("shop", "front")) });
        event.service = "shop/web:80".into();
        event
    }

    #[test]
    fn a_line_for_people_is_one_line() {
        assert_eq!(
            event().text(),
            "1970-01-01T00:00:00.000000000Z shop/front -> shop/web:80 -> 10.0.0.1:80: GET /a\\nb 503, 1.5 ms, 5 B sent, 7 B received, \
             reason no_connection, sent again 1 times"
        );
        let json = serde_json::to_string(&event()).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event());
        assert!(!json.contains('\n') && !json.contains("grpcStatus"), "{json}");
    }

    #[test]
    fn filters_say_which_requests_are_told_of() {
        let with = |change: fn(&mut Filter)| {
            let mut filter = Filter::default();
            change(&mut filter);
            filter.has(&event())
        };
        assert!(with(|_| {}) && with(|filter| filter.failed = true));
        assert!(with(|filter| filter.status = Some(503)) && with(|filter| filter.status = Some(5)));
        assert!(!with(|filter| filter.status = Some(50)) && !with(|filter| filter.status = Some(2)));
        for (wanted, is) in [("shop/web", true), ("shop/web:80", true), ("shop/we", false), ("web", false)] {
            let filter = Filter { service: Some(wanted.into()), ..Filter::default() };
            assert_eq!(filter.has(&event()), is, "{wanted}");
        }
        assert!(with(|filter| filter.client = Some("shop/".into())));
        assert!(!with(|filter| filter.client = Some("other/".into())));
        assert!(with(|filter| filter.method = Some("get".into())));
        assert!(with(|filter| filter.path = Some("/a".into())));
        assert!(!with(|filter| filter.path = Some("/b".into())));
    }
}
