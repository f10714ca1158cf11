//! What fails of the cloud: its provider, which events of namespace `kube-system` tell of, and nodes' instances.

use serde::Serialize;
use serde_json::{Value, json};

use super::news::News;
use crate::commands::objects::last_seen;
use crate::objects::{condition, text};

/// What controllers tell of what no object has, each with what tells that it is over.
const PROVIDER: [[&str; 2]; 3] = [
    ["CloudProviderFailed", "CloudProviderReady"],
    ["CloudConfigFailed", "CloudConfigTaken"],
    ["SyncRoutesFailed", "SyncedRoutes"],
];
/// The same of nodes.
const NODE: [&str; 2] = ["SyncNodeFailed", "Synced"];
/// Of those that are not ready alone.
const CHECK: [&str; 2] = ["InstanceCheckFailed", "InstanceChecked"];

/// What failed at last, and was not said to be over.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Failure {
    /// `provider`, or `node/NAME`.
    pub(super) of: String,
    pub(super) reason: String,
    pub(super) message: String,
    /// When it was last said.
    pub(super) since: String,
}

impl Failure {
    fn of(of: &str, event: &Value) -> Self {
        Self {
            of: of.into(),
            reason: text(event, "/reason").into(),
            message: text(event, "/message").into(),
            since: last_seen(event).to_owned(),
        }
    }
}

/// All of them.
pub(super) fn all(nodes: &[Value], of_nodes: &News, of_namespaces: &News) -> Vec<Failure> {
    let home = json!({"metadata": {"name": "kube-system"}});
    let provider = PROVIDER.into_iter().filter_map(|reasons| of_namespaces.failing(&home, reasons));
    let mut all: Vec<Failure> = provider.map(|event| Failure::of("provider", event)).collect();
    for node in nodes {
        let is_ready = condition(node, "Ready").is_some_and(|one| text(one, "/status") == "True");
        let check = of_nodes.failing(node, CHECK).filter(|_| !is_ready);
        let name = format!("node/{}", text(node, "/metadata/name"));
        let its = of_nodes.failing(node, NODE).into_iter().chain(check);
        all.extend(its.map(|event| Failure::of(&name, event)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_at_last_is_told_until_it_is_over() {
        let event = |of: &str, second: u32, reason: &str| json!({"involvedObject": {"name": of}, "reason": reason, "message": "m", "eventTime": format!("2026-01-01T00:00:{second:02}Z")});
        let told = |events: Vec<Value>, ready: &str| {
            let conditions = json!([{"type": "Ready", "status": ready}]);
            let node = json!({"metadata": {"name": "n"}, "status": {"conditions": conditions}});
            let (nodes, namespaces) =
                events.into_iter().partition(|one| text(one, "/involvedObject/name") == "n");
            let all = all(&[node], &News::new(nodes), &News::new(namespaces));
            all.into_iter().map(|one| format!("{} {}", one.of, one.reason)).collect::<Vec<_>>()
        };
        let provider = ["CloudProviderFailed", "CloudProviderReady"];
        assert_eq!(
            told(vec![event("kube-system", 1, provider[0])], "True"),
            ["provider CloudProviderFailed"]
        );
        let over = vec![event("kube-system", 2, provider[1]), event("kube-system", 1, provider[0])];
        assert_eq!(told(over, "True"), [""; 0]);
        let again = vec![event("n", 1, NODE[1]), event("n", 2, NODE[0]), event("n", 3, CHECK[0])];
        assert_eq!(told(again.clone(), "Unknown"), ["node/n SyncNodeFailed", "node/n InstanceCheckFailed"]);
        assert_eq!(told(again, "True"), ["node/n SyncNodeFailed"], "one that is ready is not asked about");
        assert_eq!(told(vec![event("other", 1, provider[0])], "True"), [""; 0]);
    }
}
