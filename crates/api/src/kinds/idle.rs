//! Kinds that are kept and served although nothing in Sextant acts on them: who creates one is told.

use crate::contract::Object;

/// Each kind with the sentence that a creation of it is answered with.
const IDLE: &[(&str, &str, &str)] = &[
    ("networking.k8s.io", "NetworkPolicy", "no traffic is filtered by it"),
    ("networking.k8s.io", "Ingress", "no traffic is routed by it"),
    ("networking.k8s.io", "IngressClass", "no ingress controller reads it"),
    ("networking.k8s.io", "ServiceCIDR", "cluster IPs are not taken from it"),
    ("networking.k8s.io", "IPAddress", "no address is reserved by it"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy", "no request is changed by it"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding", "no request is changed by it"),
    ("autoscaling", "HorizontalPodAutoscaler", "nothing is scaled by it"),
];

/// The warnings of a kind that nothing acts on: one for each new object.
pub(super) fn warnings(object: &Object, old: Option<&Object>) -> Vec<String> {
    let group = object.api_version().split_once('/').map(|(group, _)| group).unwrap_or_default();
    let idle = IDLE.iter().find(|(of, kind, _)| *of == group && *kind == object.kind());
    match idle {
        Some((_, kind, what)) if old.is_none() => {
            vec![format!("{kind} is stored, but nothing in Sextant acts on it: {what}")]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_creates_what_nothing_acts_on_is_told() {
        let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"});
        let object = Object::from_value(object).unwrap();
        let said = "NetworkPolicy is stored, but nothing in Sextant acts on it: no traffic is filtered by it";
        assert_eq!(warnings(&object, None), [said]);
        assert_eq!(warnings(&object, Some(&object)), [""; 0]);
    }
}
