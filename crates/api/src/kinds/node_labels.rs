//! Labels of nodes that are called otherwise today.

use super::base::Fields;
use crate::contract::field::Path;
use serde_json::Value;

const DEPRECATED: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];

/// What Kubernetes says of a label that is deprecated.
pub(in crate::kinds) fn deprecated(label: &str) -> Option<&'static str> {
    DEPRECATED.iter().find(|(key, _)| *key == label).map(|(_, said)| *said)
}

/// The warnings of a label selector of nodes.
pub(super) fn of_selector(selector: Option<&Value>, path: &Path) -> Vec<String> {
    let Some(selector) = selector else { return Vec::new() };
    let mut warnings = Vec::new();
    for (index, expression) in selector.list("matchExpressions").iter().enumerate() {
        let key = expression.text("key");
        if let Some(said) = deprecated(key) {
            let at = path.child("matchExpressions").index(index).child("key");
            warnings.push(format!("{at}: {key} is {said}"));
        }
    }
    for (label, _) in selector.entries("matchLabels") {
        if let Some(said) = deprecated(label) {
            warnings.push(format!("{}: {said}", path.child("matchLabels").child(label)));
        }
    }
    warnings
}
