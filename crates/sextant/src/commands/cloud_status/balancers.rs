//! Load balancers, as Services tell of them.

use serde::Serialize;
use serde_json::Value;

use super::news::News;
use crate::objects::{list, number, text};

/// How far one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum State {
    /// It has an address.
    Ready,
    /// It has none yet.
    Pending,
    /// What was done last for it has failed, whether or not it has an address.
    Failing,
    /// Its Service is being deleted.
    Going,
}

/// A load balancer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Balancer {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) state: State,
    /// `spec.loadBalancerClass`: whoever has that name looks after it.
    pub(super) class: Option<String>,
    /// Addresses and names of hosts.
    pub(super) addresses: Vec<String>,
    /// `80:30080/TCP`.
    pub(super) ports: Vec<String>,
    /// When its addresses were written at last.
    pub(super) since: Option<String>,
    /// Nodes that answer for its addresses, where somebody has told.
    pub(super) announced_by: Vec<String>,
    /// What failed.
    pub(super) failure: Option<String>,
}

impl Balancer {
    /// That of a Service; `None` where it wants none, and has none.
    pub(super) fn of(service: &Value, news: &News) -> Option<Self> {
        let ingress = list(service, "/status/loadBalancer/ingress");
        if text(service, "/spec/type") != "LoadBalancer" && ingress.is_empty() {
            return None;
        }
        let address = |one: &Value| {
            let found = ["/ip", "/hostname"].map(|place| text(one, place));
            found.into_iter().find(|text| !text.is_empty()).unwrap_or_default().to_owned()
        };
        let failure = news.failure(service);
        let is_going = !text(service, "/metadata/deletionTimestamp").is_empty();
        let state = match (is_going, &failure) {
            (true, _) => State::Going,
            (_, Some(_)) => State::Failing,
            _ if ingress.is_empty() => State::Pending,
            _ => State::Ready,
        };
        let class = text(service, "/spec/loadBalancerClass");
        Some(Self {
            namespace: text(service, "/metadata/namespace").into(),
            name: text(service, "/metadata/name").into(),
            state,
            class: (!class.is_empty()).then(|| class.into()),
            addresses: ingress.iter().map(address).collect(),
            ports: list(service, "/spec/ports").iter().map(port).collect(),
            since: (!ingress.is_empty()).then(|| since(service)).flatten(),
            announced_by: news.announcers(service),
            failure,
        })
    }

    /// Whether it has no address, and nobody has said why. One of a class is others' affair.
    pub(super) fn is_waiting(&self) -> bool {
        self.state == State::Pending && self.class.is_none()
    }

    pub(super) fn words(&self) -> String {
        let of = self.class.as_ref().map(|class| format!(" (of class {class})")).unwrap_or_default();
        let word = match self.state {
            State::Ready => "ready",
            State::Pending => "pending",
            State::Failing => "failing",
            State::Going => "going",
        };
        let why = self.failure.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        format!("{word}{of}{why}")
    }
}

fn port(port: &Value) -> String {
    let protocol = match text(port, "/protocol") {
        "" => "TCP",
        protocol => protocol,
    };
    match number(port, "/nodePort") {
        0 => format!("{}/{protocol}", number(port, "/port")),
        node => format!("{}:{node}/{protocol}", number(port, "/port")),
    }
}

/// When somebody has written the status of the load balancer at last: its owner of that field says.
fn since(service: &Value) -> Option<String> {
    let owners = list(service, "/metadata/managedFields").iter();
    let of_it = owners.filter(|owner| {
        text(owner, "/subresource") == "status"
            && owner.pointer("/fieldsV1/f:status/f:loadBalancer").is_some()
    });
    of_it.map(|owner| text(owner, "/time")).max().filter(|time| !time.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_load_balancer_is_as_its_service_says() {
        let owner = |time: &str, below: &str| {
            let mut fields = json!({"f:status": {}});
            fields["f:status"][below] = json!({});
            json!({"subresource": "status", "time": time, "fieldsV1": fields})
        };
        let mut service = json!({
            "metadata": {"namespace": "shop", "name": "web", "managedFields": [
                owner("2026-01-01T00:00:01Z", "f:loadBalancer"), owner("2026-01-01T00:00:09Z", "f:conditions")]},
            "spec": {"type": "LoadBalancer", "loadBalancerClass": "a.b/c",
                "ports": [{"port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP"}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "web.example"}]}},
        });
        let of = |service: &Value| Balancer::of(service, &News::default());
        let told = of(&service).unwrap();
        assert_eq!(told.ports, ["80:30080/TCP", "53/UDP"]);
        assert_eq!(told.addresses, ["192.0.2.1", "web.example"]);
        assert_eq!(told.since.as_deref(), Some("2026-01-01T00:00:01Z"));
        assert_eq!(told.words(), "ready (of class a.b/c)");
        service["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:10Z");
        assert_eq!(of(&service).unwrap().state, State::Going);
        service["metadata"].as_object_mut().unwrap().remove("deletionTimestamp");
        service["status"] = json!({});
        let told = of(&service).unwrap();
        assert!(told.state == State::Pending && !told.is_waiting() && told.since.is_none());
        service["spec"]["type"] = json!("ClusterIP");
        assert!(of(&service).is_none());
    }
}
