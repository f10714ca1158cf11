//! A pod's sandbox, as a runtime is asked for it.

use std::net::IpAddr;

use cri::contract::v1::*;
use k8s_openapi::api::core::v1::{self as core, Pod};

use super::spec::is_on_host;
use super::{resources, users};
use crate::Setup;
use crate::names::{AGENT, CONFIG_SOURCE, Key, POD_NAME, POD_NAMESPACE, POD_UID};

/// The longest host name.
const NAME_MAX: usize = 63;

/// The pod's `attempt`-th sandbox; `users` is the first of its own ids.
pub(crate) fn config(
    setup: &Setup,
    pod: &Pod,
    attempt: u32,
    cgroup_parent: String,
    resolver: &str,
    users: Option<u32>,
) -> PodSandboxConfig {
    let key = Key::of(pod);
    let spec = pod.spec.clone().unwrap_or_default();
    let own = pod.metadata.labels.clone().unwrap_or_default();
    let labels = own.into_iter().chain([
        (POD_NAME.to_owned(), key.name.name.clone()),
        (POD_NAMESPACE.to_owned(), key.name.namespace.clone()),
        (POD_UID.to_owned(), key.uid.clone()),
        (AGENT.to_owned(), setup.node.clone()),
    ]);
    let metadata = PodSandboxMetadata {
        name: key.name.name.clone(),
        uid: key.uid.clone(),
        namespace: key.name.namespace.clone(),
        attempt,
    };
    let source = pod.metadata.annotations.as_ref().and_then(|all| all.get(CONFIG_SOURCE));
    let of_source = [
        (CONFIG_SOURCE.to_owned(), source.cloned().unwrap_or_else(|| "api".into())),
        (crate::names::GRACE.to_owned(), super::spec::grace(pod).to_string()),
    ];
    let annotations = pod.metadata.annotations.clone().unwrap_or_default().into_iter().chain(of_source);
    PodSandboxConfig {
        metadata: Some(metadata),
        hostname: if is_on_host(pod) { String::new() } else { hostname(setup, pod) },
        log_directory: key.logs(&setup.logs).display().to_string(),
        dns_config: Some(dns(setup, pod, resolver)),
        port_mappings: ports(&spec),
        labels: labels.collect(),
        annotations: annotations.collect(),
        linux: Some(linux(pod, &spec, cgroup_parent, users)),
        windows: None,
    }
}

/// The name that the pod knows itself by.
pub(crate) fn hostname(setup: &Setup, pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    if let Some(name) = spec.and_then(|spec| spec.hostname_override.clone()) {
        return name;
    }
    let own = spec.and_then(|spec| spec.hostname.clone()).filter(|name| !name.is_empty());
    let mut name = own.or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    name.truncate(NAME_MAX);
    let short = name.trim_end_matches(['-', '.']).to_owned();
    match domain(setup, pod) {
        Some(domain) if spec.and_then(|spec| spec.set_hostname_as_fqdn) == Some(true) => {
            format!("{short}.{domain}")
        }
        _ => short,
    }
}

/// The domain of the pod's name, where it has one.
pub(crate) fn domain(setup: &Setup, pod: &Pod) -> Option<String> {
    let subdomain = pod.spec.as_ref()?.subdomain.as_ref().filter(|name| !name.is_empty())?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    Some(format!("{subdomain}.{namespace}.svc.{}", setup.cluster_domain))
}

/// The ports of the pod, and those of the node that lead to them.
pub(super) fn ports(spec: &core::PodSpec) -> Vec<PortMapping> {
    let sidecars = spec.init_containers.iter().flatten().filter(|one| one.restart_policy.is_some());
    let all = spec.containers.iter().chain(sidecars).flat_map(|one| one.ports.iter().flatten());
    let mapped = all.map(|port| PortMapping {
        protocol: match port.protocol.as_deref() {
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            _ => Protocol::Tcp,
        }
        .into(),
        container_port: port.container_port,
        host_port: port.host_port.unwrap_or_default(),
        host_ip: port.host_ip.clone().unwrap_or_default(),
    });
    mapped.collect()
}

/// The pod's resolv.conf; `resolver` is the node's.
fn dns(setup: &Setup, pod: &Pod, resolver: &str) -> DnsConfig {
    let spec = pod.spec.as_ref();
    let policy = spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let in_cluster = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !is_on_host(pod),
        _ => false,
    };
    let mut config = match policy {
        "None" => DnsConfig::default(),
        _ => of_host(resolver),
    };
    if in_cluster && !setup.cluster_dns.is_empty() {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let domain = &setup.cluster_domain;
        let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
        searches.append(&mut config.searches);
        config = DnsConfig {
            servers: setup.cluster_dns.iter().map(IpAddr::to_string).collect(),
            searches,
            options: vec!["ndots:5".into()],
        };
    }
    if let Some(more) = spec.and_then(|spec| spec.dns_config.as_ref()) {
        config.servers.extend(more.nameservers.iter().flatten().cloned());
        config.searches.extend(more.searches.iter().flatten().cloned());
        for option in more.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            config.options.retain(|old| old.split(':').next() != Some(name));
            let value = option.value.as_ref().filter(|value| !value.is_empty());
            config.options.push(value.map_or_else(|| name.to_owned(), |value| format!("{name}:{value}")));
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    config.searches.retain(|domain| seen.insert(domain.clone()));
    config
}

/// What a resolv.conf says.
fn of_host(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            Some("search") => {
                config.searches = words.filter(|word| *word != ".").map(str::to_owned).collect()
            }
            Some("options") => config.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    config
}

fn linux(
    pod: &Pod,
    spec: &core::PodSpec,
    cgroup_parent: String,
    users: Option<u32>,
) -> LinuxPodSandboxConfig {
    let context = spec.security_context.clone().unwrap_or_default();
    let sysctls = context.sysctls.iter().flatten().map(|one| (one.name.clone(), one.value.clone()));
    let is_privileged = |one: &core::Container| {
        one.security_context.as_ref().and_then(|context| context.privileged) == Some(true)
    };
    let privileged = spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(is_privileged);
    let number = |value: Option<i64>| value.map(|value| Int64Value { value });
    let security = LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(spec, users)),
        selinux_options: context.se_linux_options.as_ref().map(selinux),
        run_as_user: number(context.run_as_user),
        run_as_group: number(context.run_as_group.filter(|_| context.run_as_user.is_some())),
        supplemental_groups: groups(&context),
        supplemental_groups_policy: groups_policy(&context),
        privileged,
        seccomp: Some(SecurityProfile::default()),
        ..LinuxSandboxSecurityContext::default()
    };
    LinuxPodSandboxConfig {
        cgroup_parent,
        security_context: Some(security),
        sysctls: sysctls.collect(),
        overhead: None,
        resources: Some(resources::of_pod(pod)),
    }
}

/// Whose namespaces the pod's containers are in.
pub(crate) fn namespaces(spec: &core::PodSpec, users: Option<u32>) -> NamespaceOption {
    let of = |host: Option<bool>, own: NamespaceMode| {
        i32::from(if host == Some(true) { NamespaceMode::Node } else { own })
    };
    let shares = spec.share_process_namespace == Some(true);
    NamespaceOption {
        network: of(spec.host_network, NamespaceMode::Pod),
        pid: of(spec.host_pid, if shares { NamespaceMode::Pod } else { NamespaceMode::Container }),
        ipc: of(spec.host_ipc, NamespaceMode::Pod),
        target_id: String::new(),
        userns_options: users.map(users::namespace),
    }
}

/// The groups that all processes of the pod are in.
pub(crate) fn groups(context: &core::PodSecurityContext) -> Vec<i64> {
    context.supplemental_groups.iter().flatten().copied().chain(context.fs_group).collect()
}

/// How they go together with the image's.
pub(crate) fn groups_policy(context: &core::PodSecurityContext) -> i32 {
    let is_strict = context.supplemental_groups_policy.as_deref() == Some("Strict");
    (if is_strict { SupplementalGroupsPolicy::Strict } else { SupplementalGroupsPolicy::Merge }).into()
}

/// A label of SELinux.
pub(crate) fn selinux(options: &core::SELinuxOptions) -> SeLinuxOption {
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    SeLinuxOption {
        user: of(&options.user),
        role: of(&options.role),
        r#type: of(&options.type_),
        level: of(&options.level),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_found_as_the_policy_says() {
        let mut setup = crate::agent::tests::setup();
        setup.cluster_dns = vec![[10, 0, 0, 10].into()];
        let host = "nameserver 1.1.1.1\nsearch example.com\noptions edns0\n";
        let dns_of = |spec: serde_json::Value| {
            let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec});
            let found = dns(&setup, &serde_json::from_value(pod).unwrap(), host);
            format!("{} {} {}", found.servers.join(","), found.searches.join(","), found.options.join(","))
        };
        let cluster = "10.0.0.10 n.svc.cluster.local,svc.cluster.local,cluster.local,example.com ndots:5";
        let own = "1.1.1.1 example.com edns0";
        assert_eq!(dns_of(json!({"containers": []})), cluster);
        assert_eq!(dns_of(json!({"containers": [], "hostNetwork": true})), own);
        let with = json!({"containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"});
        assert_eq!(dns_of(with), cluster);
        assert_eq!(dns_of(json!({"containers": [], "dnsPolicy": "Default"})), own);
        let none = json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["9.9.9.9"],
            "searches": ["a"], "options": [{"name": "ndots", "value": "2"}]}});
        assert_eq!(dns_of(none), "9.9.9.9 a ndots:2");
    }
}
