//! In which order groups and versions are told: kubectl takes the first that knows a name.

use std::cmp::Ordering;

use crate::contract::Object;

/// The groups of Kubernetes itself with their priorities. Those that Kubernetes has as definitions are as definitions.
const GROUPS: [(&str, i64); 23] = [
    ("", 18_000),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("apiextensions.k8s.io", 16_700),
    ("admissionregistration.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("flowcontrol.apiserver.k8s.io", 16_100),
    ("internal.apiserver.k8s.io", 16_000),
    ("resource.k8s.io", 15_900),
    ("storagemigration.k8s.io", 15_800),
    // Whoever says who serves what comes before all, and has no APIService.
    ("apiregistration.k8s.io", 17_999),
];

/// What groups and versions of definitions have.
pub(crate) const CUSTOM: Priorities = Priorities { group: 1000, version: 100 };

/// What an APIService says of the place of its group among the groups, and of its version among the group's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Priorities {
    pub(crate) group: i64,
    pub(crate) version: i64,
}

impl Priorities {
    /// Those of what this server has itself.
    pub(crate) fn of(group: &str, version: &str, is_built_in: bool) -> Priorities {
        let known = GROUPS.iter().find(|(name, _)| *name == group).filter(|_| is_built_in);
        let Some((_, priority)) = known else { return CUSTOM };
        let version = match (group, version) {
            ("", _) => 1,
            ("autoscaling", "v2") => 30,
            _ if version.contains("alpha") => 1,
            _ if version.contains("beta") => 9,
            _ => 15,
        };
        Priorities { group: *priority, version }
    }

    /// Those that an APIService tells.
    pub(super) fn told(object: &Object) -> Priorities {
        let number = |field| object.at(&["spec", field]).and_then(serde_json::Value::as_i64).unwrap_or(0);
        Priorities { group: number("groupPriorityMinimum"), version: number("versionPriority") }
    }

    /// Which of two group versions is told first.
    pub(super) fn order(
        self,
        group: &str,
        version: &str,
        other: Priorities,
        other_group: &str,
        other_version: &str,
    ) -> Ordering {
        let groups = other.group.cmp(&self.group).then_with(|| group.cmp(other_group));
        groups.then(other.version.cmp(&self.version)).then_with(|| versions(version, other_version))
    }
}

/// Which of two groups of this server's own, or of others with the priority they tell, comes first.
pub(crate) fn groups(a: (&str, i64), b: (&str, i64)) -> Ordering {
    b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0))
}

/// Which of two versions is told first: stable before beta before alpha, newer before older, others last.
pub(crate) fn versions(a: &str, b: &str) -> Ordering {
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
        let mut list = ["zoo.example", "batch", "", "apps", "a.example", "apiregistration.k8s.io"];
        list.sort_by(|a, b| {
            let priority = |group| Priorities::of(group, "v1", true).group;
            groups((a, priority(a)), (b, priority(b)))
        });
        assert_eq!(list, ["", "apiregistration.k8s.io", "apps", "batch", "a.example", "zoo.example"]);
    }
}
