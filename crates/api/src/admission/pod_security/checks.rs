//! The checks of the levels, each with the versions of Kubernetes from which on it is so.

use super::baseline;
use super::policy::{Bar, Level};
use super::restricted;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The newest version with a change in any check: later ones are as it is.
const NEWEST: u32 = 35;

/// What is wrong with a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// In a few words.
    pub(super) reason: &'static str,
    /// Where, and what to do.
    pub(super) detail: String,
}

impl Finding {
    pub(super) fn new(reason: &'static str, detail: String) -> Option<Finding> {
        Some(Finding { reason, detail })
    }
}

type Run = fn(&Pod<'_>) -> Option<Finding>;

/// A check.
struct Check {
    id: &'static str,
    /// From which minor version on it is which.
    versions: &'static [(u32, Run)],
    /// The check of the baseline that it stands for.
    replaces: &'static str,
}

const fn check(id: &'static str, versions: &'static [(u32, Run)]) -> Check {
    Check { id, versions, replaces: "" }
}

const BASELINE: &[Check] = &[
    check("appArmorProfile", &[(0, baseline::app_armor)]),
    check("capabilities_baseline", &[(0, baseline::capabilities)]),
    check("hostNamespaces", &[(0, baseline::host_namespaces)]),
    check("hostPathVolumes", &[(0, baseline::host_paths)]),
    check("hostPorts", &[(0, baseline::host_ports)]),
    check("hostProbesAndHostLifecycle", &[(34, baseline::hosts_asked)]),
    check("privileged", &[(0, baseline::privileged)]),
    check("procMount", &[(0, baseline::proc_mount), (35, baseline::proc_mount_but_for_users)]),
    check("seLinuxOptions", &[(0, baseline::selinux), (31, baseline::selinux_with_engines)]),
    check("seccompProfile_baseline", &[(0, baseline::seccomp_annotations), (19, baseline::seccomp)]),
    check(
        "sysctls",
        &[
            (0, baseline::sysctls),
            (27, baseline::sysctls_27),
            (29, baseline::sysctls_29),
            (32, baseline::sysctls_32),
        ],
    ),
    check("windowsHostProcess", &[(0, baseline::host_process)]),
];

const RESTRICTED: &[Check] = &[
    check(
        "allowPrivilegeEscalation",
        &[(8, restricted::escalation), (25, restricted::escalation_but_windows)],
    ),
    Check {
        replaces: "capabilities_baseline",
        ..check(
            "capabilities_restricted",
            &[(22, restricted::capabilities), (25, restricted::capabilities_but_windows)],
        )
    },
    Check { replaces: "procMount", ..check("procMount_restricted", &[(35, baseline::proc_mount)]) },
    Check { replaces: "hostPathVolumes", ..check("restrictedVolumes", &[(0, restricted::volumes)]) },
    check("runAsNonRoot", &[(0, restricted::non_root), (35, restricted::non_root_but_for_users)]),
    check("runAsUser", &[(23, restricted::user), (35, restricted::user_but_for_users)]),
    Check {
        replaces: "seccompProfile_baseline",
        ..check(
            "seccompProfile_restricted",
            &[(19, restricted::seccomp), (25, restricted::seccomp_but_windows)],
        )
    },
];

impl Check {
    /// What it is in a version; `None` before it came to be.
    fn at(&self, version: u32) -> Option<Run> {
        self.versions.iter().rev().find(|(from, _)| *from <= version).map(|(_, run)| *run)
    }
}

/// Everything that keeps a pod below a bar, in Kubernetes' order.
pub(super) fn findings(bar: Bar, pod: &Pod<'_>) -> Vec<Finding> {
    let version = bar.version.unwrap_or(NEWEST).min(NEWEST);
    let strict: &[Check] = if bar.level == Level::Restricted { RESTRICTED } else { &[] };
    let replaced: Vec<&str> =
        strict.iter().filter(|check| check.at(version).is_some()).map(|check| check.replaces).collect();
    let basic: &[Check] = if bar.level == Level::Privileged { &[] } else { BASELINE };
    let basic = basic.iter().filter(|check| !replaced.contains(&check.id));
    basic.chain(strict).filter_map(|check| check.at(version)?(pod)).collect()
}

/// A pod, or the template of one.
pub(super) struct Pod<'a> {
    pub(super) annotations: Option<&'a Map<String, Value>>,
    pub(super) spec: &'a Map<String, Value>,
}

/// The value at a path below a map; null is as good as nothing.
pub(super) fn at<'a>(map: &'a Map<String, Value>, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(map.get(*first)?, |value, name| value.get(name)).filter(|value| !value.is_null())
}

/// The text at a path, empty where there is none.
pub(super) fn text<'a>(map: &'a Map<String, Value>, path: &[&str]) -> &'a str {
    at(map, path).and_then(Value::as_str).unwrap_or_default()
}

/// The items at a path.
pub(super) fn items<'a>(
    map: &'a Map<String, Value>,
    path: &[&str],
) -> impl Iterator<Item = &'a Value> + use<'a> {
    at(map, path).and_then(Value::as_array).into_iter().flatten()
}

impl<'a> Pod<'a> {
    /// All containers, in the order in which Kubernetes looks at them.
    pub(super) fn containers(&self) -> impl Iterator<Item = &'a Map<String, Value>> + use<'a> {
        let spec = self.spec;
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        lists.into_iter().flat_map(move |list| items(spec, &[list])).filter_map(Value::as_object)
    }

    /// Who has something wrong: `pod`, where its own security context has, and the containers that have.
    pub(super) fn setters(&self, mut wrong: impl FnMut(&Map<String, Value>) -> bool) -> Vec<String> {
        let own = at(self.spec, &["securityContext"]).and_then(Value::as_object);
        let mut setters: Vec<String> =
            own.is_some_and(&mut wrong).then(|| "pod".to_owned()).into_iter().collect();
        let bad = self.named(|container| {
            at(container, &["securityContext"]).and_then(Value::as_object).is_some_and(&mut wrong)
        });
        if !bad.is_empty() {
            setters.push(counted_containers(&bad));
        }
        setters
    }

    /// The names of the containers for which something holds.
    pub(super) fn named(&self, mut holds: impl FnMut(&'a Map<String, Value>) -> bool) -> Vec<&'a str> {
        self.containers()
            .filter(|container| holds(container))
            .map(|container| text(container, &["name"]))
            .collect()
    }

    /// Whether its users are not the machine's (`hostUsers: false`).
    pub(super) fn has_own_users(&self) -> bool {
        self.spec.get("hostUsers") == Some(&Value::Bool(false))
    }

    pub(super) fn is_windows(&self) -> bool {
        text(self.spec, &["os", "name"]) == "windows"
    }
}

/// `container "a"`, `containers "a", "b"`.
pub(super) fn counted_containers(names: &[&str]) -> String {
    format!("{} {}", plural(names.len(), "container", "containers"), quoted(names))
}

/// The word for one or for several.
pub(super) fn plural(count: usize, one: &'static str, several: &'static str) -> &'static str {
    if count == 1 { one } else { several }
}

/// `"a", "b"`.
pub(super) fn quoted<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| format!("\"{}\"", item.as_ref())).collect();
    items.join(", ")
}

/// Texts in order, each once.
pub(super) type Texts = BTreeSet<String>;
