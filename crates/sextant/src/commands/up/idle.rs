//! Objects that nothing acts on: kinds whose controller is none of ours, and nobody else's, by what their status says.

use serde_json::Value;

use crate::objects::{Kind, Refused, Server, list, text};

/// A kind of which objects are there that nothing acts on.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) kind: Kind,
    /// Namespace and name; the name alone where there is no namespace.
    pub(super) objects: Vec<String>,
    pub(super) why: &'static str,
}

/// A kind that is built in, and is somebody else's work.
struct Rule {
    group: &'static str,
    plural: &'static str,
    /// Whether something acts on this one.
    acts: fn(&Value) -> bool,
    why: &'static str,
}

const RULES: [Rule; 7] = [
    Rule {
        group: "networking.k8s.io",
        plural: "ingresses",
        acts: |object| !list(object, "/status/loadBalancer/ingress").is_empty(),
        why: "no ingress controller has taken it: run one, or reach the Service by a NodePort",
    },
    Rule {
        group: "networking.k8s.io",
        plural: "networkpolicies",
        acts: |_| false,
        why: "the node's network keeps nobody apart: all pods reach each other",
    },
    Rule {
        group: "autoscaling",
        plural: "horizontalpodautoscalers",
        acts: |object| !list(object, "/status/conditions").is_empty(),
        why: "no autoscaler has looked at it: the number of replicas stays",
    },
    Rule {
        group: "",
        plural: "replicationcontrollers",
        acts: |object| object.pointer("/status/observedGeneration").is_some(),
        why: "no controller has looked at it: the number of replicas stays",
    },
    Rule {
        group: "",
        plural: "services",
        acts: |object| {
            text(object, "/spec/type") != "LoadBalancer"
                || !list(object, "/status/loadBalancer/ingress").is_empty()
        },
        why: "no load balancer has taken it: its cluster address and node ports work",
    },
    Rule {
        group: "certificates.k8s.io",
        plural: "certificatesigningrequests",
        acts: |object| !text(object, "/status/certificate").is_empty() || is_refused(object),
        why: "nobody signs it",
    },
    Rule {
        group: "admissionregistration.k8s.io",
        plural: "mutatingadmissionpolicies",
        acts: |_| false,
        why: "the API keeps it and does not act on it",
    },
];

/// Why of custom resources.
const CUSTOM: &str = "nobody has written its status: its controller does not run here";

fn is_refused(object: &Value) -> bool {
    list(object, "/status/conditions").iter().any(|one| matches!(text(one, "/type"), "Denied" | "Failed"))
}

/// Whether somebody has said something of a custom resource. What its definition has as a default is nobody's word (Gateways have
/// such conditions).
fn is_told_of(object: &Value) -> bool {
    let is_default = |one: &Value| {
        text(one, "/reason") == "Pending" && text(one, "/lastTransitionTime").starts_with("1970")
    };
    let Some(status) = object.get("status").and_then(Value::as_object) else { return false };
    status.keys().any(|key| key != "conditions") || !list(object, "/status/conditions").iter().all(is_default)
}

/// All of them, as this server tells.
pub(super) fn find(server: &Server) -> Result<Vec<Idle>, Refused> {
    let definitions = server.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")?;
    let is_custom = |kind: &Kind| {
        let is_it = |one: &Value| {
            text(one, "/spec/group") == kind.group && text(one, "/spec/names/plural") == kind.plural
        };
        list(&definitions, "/items").iter().any(is_it)
    };
    let mut all: Vec<Idle> = Vec::new();
    for kind in server.kinds()?.all() {
        let rule = RULES.iter().find(|rule| rule.group == kind.group && rule.plural == kind.plural);
        let (acts, why): (fn(&Value) -> bool, _) = match rule {
            Some(rule) => (rule.acts, rule.why),
            // Of what has no status nobody can know.
            None if kind.has_status && is_custom(kind) => (is_told_of, CUSTOM),
            None => continue,
        };
        // The same objects are there in each version.
        let is_told = all.iter().any(|one| one.kind.full() == kind.full());
        if !kind.can("list") || is_told {
            continue;
        }
        // One that cannot be had hides none of the others.
        let Ok(found) = server.get(&kind.path(None)) else { continue };
        let idle = list(&found, "/items").iter().filter(|object| !acts(object));
        let objects: Vec<String> = idle.map(name).collect();
        if !objects.is_empty() {
            all.push(Idle { kind: kind.clone(), objects, why });
        }
    }
    Ok(all)
}

fn name(object: &Value) -> String {
    match (text(object, "/metadata/namespace"), text(object, "/metadata/name")) {
        ("", name) => name.to_owned(),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_definition_says_by_itself_is_nobodys_word() {
        let waits =
            json!({"type": "Accepted", "reason": "Pending", "lastTransitionTime": "1970-01-01T00:00:00Z"});
        assert!(!is_told_of(&json!({"status": {"conditions": [waits]}})));
        assert!(!is_told_of(&json!({"spec": {}})) && !is_told_of(&json!({"status": {}})));
        assert!(is_told_of(&json!({"status": {"phase": "Ready"}})));
        assert!(is_told_of(
            &json!({"status": {"conditions": [{"reason": "Accepted", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
        ));
    }
}
