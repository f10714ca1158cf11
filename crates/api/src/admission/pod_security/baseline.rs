//! What pods of the level `baseline` may not ask for: the known ways out of a container.

use super::checks::{Finding, Pod, Texts, at, counted_containers, items, plural, quoted, text};
use serde_json::{Map, Value};

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// Sysctls that are of the pod alone, with the version since which they may be set.
const SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

/// Whether a profile type is one of the runtime's or of the machine's.
pub(super) fn is_profile(kind: &str) -> bool {
    matches!(kind, "RuntimeDefault" | "Localhost")
}

pub(super) fn app_armor(pod: &Pod<'_>) -> Option<Finding> {
    let mut values = Texts::new();
    let mut setters = pod.setters(|context| {
        let Some(profile) = at(context, &["appArmorProfile"]).and_then(Value::as_object) else {
            return false;
        };
        let kind = text(profile, &["type"]);
        let wrong = !is_profile(kind);
        if wrong {
            values.insert(kind.to_owned());
        }
        wrong
    });
    let mut values: Vec<String> = values.into_iter().collect();
    let allowed =
        |value: &str| value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
    let annotations: Texts = pod
        .annotations
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(key, value)| key.starts_with(APPARMOR) && !allowed(value))
        .map(|(key, value)| format!("{key}={}", crate::contract::field::quoted(value)))
        .collect();
    if !annotations.is_empty() {
        setters.push(plural(annotations.len(), "annotation", "annotations").to_owned());
        values.extend(annotations);
    }
    if setters.is_empty() {
        return None;
    }
    let reason = plural(values.len(), "forbidden AppArmor profile", "forbidden AppArmor profiles");
    let detail =
        format!("{} must not set AppArmor profile type to {}", setters.join(" and "), quoted(&values));
    Finding::new(reason, detail)
}

pub(super) fn capabilities(pod: &Pod<'_>) -> Option<Finding> {
    let mut more = Texts::new();
    let bad = pod.named(|container| {
        let added = items(container, &["securityContext", "capabilities", "add"]).filter_map(Value::as_str);
        let wrong: Vec<String> =
            added.filter(|name| !CAPABILITIES.contains(name)).map(str::to_owned).collect();
        let any = !wrong.is_empty();
        more.extend(wrong);
        any
    });
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not include {} in securityContext.capabilities.add",
        counted_containers(&bad),
        quoted(&more)
    );
    Finding::new("non-default capabilities", detail)
}

pub(super) fn host_namespaces(pod: &Pod<'_>) -> Option<Finding> {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| pod.spec.get(*field) == Some(&Value::Bool(true)))
        .map(|field| format!("{field}=true"))
        .collect();
    if shared.is_empty() { None } else { Finding::new("host namespaces", shared.join(", ")) }
}

pub(super) fn host_paths(pod: &Pod<'_>) -> Option<Finding> {
    let volumes = items(pod.spec, &["volumes"]).filter_map(Value::as_object);
    let names: Vec<&str> = volumes
        .filter(|volume| at(volume, &["hostPath"]).is_some())
        .map(|volume| text(volume, &["name"]))
        .collect();
    if names.is_empty() {
        return None;
    }
    Finding::new(
        "hostPath volumes",
        format!("{} {}", plural(names.len(), "volume", "volumes"), quoted(&names)),
    )
}

pub(super) fn host_ports(pod: &Pod<'_>) -> Option<Finding> {
    let mut ports = Texts::new();
    let bad = pod.named(|container| {
        let own = items(container, &["ports"]).filter_map(|port| port.get("hostPort")?.as_i64());
        let own: Vec<String> = own.filter(|port| *port != 0).map(|port| port.to_string()).collect();
        let any = !own.is_empty();
        ports.extend(own);
        any
    });
    if bad.is_empty() {
        return None;
    }
    let list: Vec<&str> = ports.iter().map(String::as_str).collect();
    let detail = format!(
        "{} {} {} {}",
        counted_containers(&bad),
        plural(bad.len(), "uses", "use"),
        plural(list.len(), "hostPort", "hostPorts"),
        list.join(", ")
    );
    Finding::new("hostPort", detail)
}

pub(super) fn hosts_asked(pod: &Pod<'_>) -> Option<Finding> {
    const HANDLERS: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    let mut hosts = Texts::new();
    let mut bad = pod.named(|container| {
        let handlers = HANDLERS.iter().filter_map(|path| at(container, path)).filter_map(Value::as_object);
        let own: Vec<String> = handlers
            .flat_map(|handler| [text(handler, &["httpGet", "host"]), text(handler, &["tcpSocket", "host"])])
            .filter(|host| !host.is_empty())
            .map(str::to_owned)
            .collect();
        let any = !own.is_empty();
        hosts.extend(own);
        any
    });
    if bad.is_empty() {
        return None;
    }
    bad.sort_unstable();
    let detail = format!(
        "{} {} {} {}",
        counted_containers(&bad),
        plural(bad.len(), "uses", "use"),
        plural(hosts.len(), "probe or lifecycle host", "probe or lifecycle hosts"),
        quoted(&hosts)
    );
    Finding::new("probe or lifecycle host", detail)
}

pub(super) fn privileged(pod: &Pod<'_>) -> Option<Finding> {
    let bad = pod.named(|container| is_true(container, &["securityContext", "privileged"]));
    if bad.is_empty() {
        return None;
    }
    let detail = format!("{} must not set securityContext.privileged=true", counted_containers(&bad));
    Finding::new("privileged", detail)
}

fn is_true(map: &Map<String, Value>, path: &[&str]) -> bool {
    at(map, path) == Some(&Value::Bool(true))
}

pub(super) fn proc_mount(pod: &Pod<'_>) -> Option<Finding> {
    let mut kinds = Texts::new();
    let bad = pod.named(|container| {
        let kind = at(container, &["securityContext", "procMount"]).and_then(Value::as_str);
        let Some(kind) = kind.filter(|kind| *kind != "Default") else { return false };
        kinds.insert(kind.to_owned());
        true
    });
    if bad.is_empty() {
        return None;
    }
    let detail =
        format!("{} must not set securityContext.procMount to {}", counted_containers(&bad), quoted(&kinds));
    Finding::new("procMount", detail)
}

pub(super) fn proc_mount_but_for_users(pod: &Pod<'_>) -> Option<Finding> {
    if pod.has_own_users() { None } else { proc_mount(pod) }
}

pub(super) fn selinux(pod: &Pod<'_>) -> Option<Finding> {
    selinux_of(pod, &["", "container_t", "container_init_t", "container_kvm_t"])
}

pub(super) fn selinux_with_engines(pod: &Pod<'_>) -> Option<Finding> {
    selinux_of(pod, &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"])
}

fn selinux_of(pod: &Pod<'_>, types: &[&str]) -> Option<Finding> {
    let mut bad_types = Texts::new();
    let (mut has_user, mut has_role) = (false, false);
    let setters = pod.setters(|context| {
        let Some(options) = at(context, &["seLinuxOptions"]).and_then(Value::as_object) else { return false };
        let kind = text(options, &["type"]);
        let bad_type = !types.contains(&kind);
        if bad_type {
            bad_types.insert(kind.to_owned());
        }
        let (user, role) = (!text(options, &["user"]).is_empty(), !text(options, &["role"]).is_empty());
        has_user |= user;
        has_role |= role;
        bad_type || user || role
    });
    if setters.is_empty() {
        return None;
    }
    let mut wrong = Vec::new();
    if !bad_types.is_empty() {
        wrong.push(format!("{} {}", plural(bad_types.len(), "type", "types"), quoted(&bad_types)));
    }
    wrong.extend(has_user.then(|| "user may not be set".to_owned()));
    wrong.extend(has_role.then(|| "role may not be set".to_owned()));
    let detail = format!(
        "{} set forbidden securityContext.seLinuxOptions: {}",
        setters.join(" and "),
        wrong.join("; ")
    );
    Finding::new("seLinuxOptions", detail)
}

/// Before there were fields, annotations said it.
pub(super) fn seccomp_annotations(pod: &Pod<'_>) -> Option<Finding> {
    let allowed = |value: &str| {
        matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/")
    };
    let keys = std::iter::once(SECCOMP_POD.to_owned()).chain(
        pod.containers().map(|container| format!("{SECCOMP_CONTAINER}{}", text(container, &["name"]))),
    );
    let forbidden: Texts = keys
        .filter_map(|key| {
            let value = pod.annotations?.get(&key)?.as_str()?;
            (!allowed(value)).then(|| format!("{key}={}", crate::contract::field::quoted(value)))
        })
        .collect();
    if forbidden.is_empty() {
        return None;
    }
    let list: Vec<&str> = forbidden.iter().map(String::as_str).collect();
    let detail = format!("forbidden {} {}", plural(list.len(), "annotation", "annotations"), list.join(", "));
    Finding::new("seccompProfile", detail)
}

pub(super) fn seccomp(pod: &Pod<'_>) -> Option<Finding> {
    let mut kinds = Texts::new();
    let setters = pod.setters(|context| is_bad_seccomp(context, &mut kinds));
    if setters.is_empty() {
        return None;
    }
    Finding::new("seccompProfile", bad_seccomp(&setters, &kinds))
}

/// Whether a security context sets a profile that is neither the runtime's nor the machine's.
pub(super) fn is_bad_seccomp(context: &Map<String, Value>, kinds: &mut Texts) -> bool {
    let Some(profile) = at(context, &["seccompProfile"]).and_then(Value::as_object) else { return false };
    let kind = text(profile, &["type"]);
    let bad = !is_profile(kind);
    if bad {
        kinds.insert(kind.to_owned());
    }
    bad
}

pub(super) fn bad_seccomp(setters: &[String], kinds: &Texts) -> String {
    format!("{} must not set securityContext.seccompProfile.type to {}", setters.join(" and "), quoted(kinds))
}

pub(super) fn sysctls(pod: &Pod<'_>) -> Option<Finding> {
    sysctls_at(pod, 0)
}

pub(super) fn sysctls_27(pod: &Pod<'_>) -> Option<Finding> {
    sysctls_at(pod, 27)
}

pub(super) fn sysctls_29(pod: &Pod<'_>) -> Option<Finding> {
    sysctls_at(pod, 29)
}

pub(super) fn sysctls_32(pod: &Pod<'_>) -> Option<Finding> {
    sysctls_at(pod, 32)
}

fn sysctls_at(pod: &Pod<'_>, version: u32) -> Option<Finding> {
    let allowed = |name: &str| SYSCTLS.iter().any(|(known, since)| *known == name && *since <= version);
    let set = items(pod.spec, &["securityContext", "sysctls"]);
    let names = set.filter_map(|sysctl| sysctl.get("name")?.as_str());
    let forbidden: Vec<&str> = names.filter(|name| !allowed(name)).collect();
    if forbidden.is_empty() { None } else { Finding::new("forbidden sysctls", forbidden.join(", ")) }
}

pub(super) fn host_process(pod: &Pod<'_>) -> Option<Finding> {
    let setters = pod.setters(|context| is_true(context, &["windowsOptions", "hostProcess"]));
    if setters.is_empty() {
        return None;
    }
    let detail =
        format!("{} must not set securityContext.windowsOptions.hostProcess=true", setters.join(" and "));
    Finding::new("hostProcess", detail)
}
