//! In which order groups and versions are told: kubectl takes the first that knows a name.

use std::cmp::Ordering;

/// Groups of Kubernetes itself, those first that come first. Others follow, sorted by name.
const GROUPS: [&str; 25] = [
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "storagemigration.k8s.io",
    "snapshot.storage.k8s.io",
    "groupsnapshot.storage.k8s.io",
];

/// Which of two groups is told first.
pub(super) fn groups(a: &str, b: &str) -> Ordering {
    let place = |group: &str| GROUPS.iter().position(|known| *known == group).unwrap_or(GROUPS.len());
    place(a).cmp(&place(b)).then_with(|| a.cmp(b))
}

/// Which of two versions is told first: stable before beta before alpha, newer before older, others last.
pub(super) fn versions(a: &str, b: &str) -> Ordering {
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// Stability, major number, number of the beta or alpha.
fn rank(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    for (name, stability) in [("alpha", 0), ("beta", 1)] {
        if let Some((major, minor)) = rest.split_once(name) {
            return Some((stability, number(major)?, number(minor)?));
        }
    }
    Some((2, number(rest)?, 0))
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_as_kubernetes_ranks_them() {
        let mut list =
            ["foo1", "v3beta1", "v12alpha1", "v11beta2", "foo10", "v10", "v2", "v1", "v11alpha2", "v3"];
        list.sort_by(|a, b| versions(a, b));
        let expected =
            ["v10", "v3", "v2", "v1", "v11beta2", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"];
        assert_eq!(list, expected);
    }

    #[test]
    fn groups_of_kubernetes_come_before_others() {
        let mut list = ["zoo.example", "batch", "", "apps", "a.example"];
        list.sort_by(|a, b| groups(a, b));
        assert_eq!(list, ["", "apps", "batch", "a.example", "zoo.example"]);
    }
}
