//! Pods.

use super::*;

#[test]
fn a_pod_says_who_it_is() {
    refused(pod(), |r| r.config = None, "config", "missing");
    refused(pod(), |r| config(r).metadata = None, "config.metadata", "missing");
    refused(pod(), |r| metadata(r).name.clear(), "config.metadata.name", "empty");
    refused(pod(), |r| metadata(r).uid.clear(), "config.metadata.uid", "empty");
    refused(pod(), |r| metadata(r).namespace.clear(), "config.metadata.namespace", "empty");
    refused(pod(), |r| metadata(r).name = "../x".into(), "config.metadata.name", "\"../x\" is no name");
    refused(pod(), |r| metadata(r).uid = "a;b=c".into(), "config.metadata.uid", "a;b=c");
    refused(pod(), |r| metadata(r).name = "a".repeat(254), "config.metadata.name", "254 bytes, 253");
    refused(pod(), |r| r.runtime_handler = "a/b".into(), "runtime_handler", "a/b");
    accepted(pod(), |r| r.runtime_handler.clear());
    accepted(pod(), |r| metadata(r).name = "PodSandbox-for_tests.x".into());
}

#[test]
fn names_addresses_and_paths_of_a_pod() {
    refused(pod(), |r| config(r).hostname = "a b".into(), "config.hostname", "a b");
    refused(pod(), |r| config(r).hostname = "a".repeat(65), "config.hostname", "64 bytes");
    refused(pod(), |r| config(r).log_directory = "logs".into(), "config.log_directory", "relative");
    refused(pod(), |r| config(r).log_directory = "/a/../b".into(), "config.log_directory", "..");
    let dns = |r: &mut RunPodSandboxRequest, change: fn(&mut DnsConfig)| {
        change(config(r).dns_config.as_mut().unwrap());
    };
    refused(pod(), |r| dns(r, |d| d.servers[1] = "ns1".into()), "config.dns_config.servers[1]", "ns1");
    refused(pod(), |r| dns(r, |d| d.searches[0] = "a\nb".into()), "config.dns_config.searches[0]", "white");
    refused(pod(), |r| dns(r, |d| d.options[0].clear()), "config.dns_config.options[0]", "empty");
    refused(pod(), |r| config(r).windows = Some(Default::default()), "config.windows", "Linux");
    accepted(pod(), |r| config(r).dns_config = None);
    accepted(pod(), |r| config(r).linux = None);
}

#[test]
fn ports_lead_somewhere() {
    let port = |change: fn(&mut PortMapping)| {
        move |r: &mut RunPodSandboxRequest| change(&mut config(r).port_mappings[0])
    };
    let field = |name: &str| format!("config.port_mappings[0].{name}");
    refused(pod(), port(|p| p.protocol = 3), &field("protocol"), "3 is no value");
    refused(pod(), port(|p| p.container_port = 65536), &field("container_port"), "65536");
    refused(pod(), port(|p| p.container_port = 0), &field("container_port"), "8080 must lead");
    refused(pod(), port(|p| p.host_port = -1), &field("host_port"), "-1");
    refused(pod(), port(|p| p.host_ip = "lo".into()), &field("host_ip"), "lo");
    accepted(pod(), port(|p| p.host_port = 0));
    accepted(pod(), port(|p| p.host_ip.clear()));
}

#[test]
fn labels_are_of_bounded_size() {
    let empty = |r: &mut RunPodSandboxRequest| drop(config(r).labels.insert(String::new(), "x".into()));
    refused(pod(), empty, "config.labels", "empty key");
    let large = |r: &mut RunPodSandboxRequest| {
        config(r).annotations.insert("k".into(), "v".repeat(1024 * 1024));
    };
    refused(pod(), large, "config.annotations", "1048577 bytes");
}

#[test]
fn cgroups_and_sysctls_are_the_pods() {
    let parent = |to: &'static str| move |r: &mut RunPodSandboxRequest| linux(r).cgroup_parent = to.into();
    refused(pod(), parent("kubepods/x"), "config.linux.cgroup_parent", "relative");
    refused(pod(), parent("/a/../b"), "config.linux.cgroup_parent", "..");
    refused(pod(), parent("a\n.slice"), "config.linux.cgroup_parent", "control");
    accepted(pod(), parent(""));
    accepted(pod(), parent("/kubepods.slice/kubepods-podx.slice"));
    accepted(pod(), parent("kubepods-podx.slice"));

    let sysctl = |name: &'static str, value: &'static str| {
        move |r: &mut RunPodSandboxRequest| drop(linux(r).sysctls.insert(name.into(), value.into()))
    };
    let field = |name: &str| format!("config.linux.sysctls[{name:?}]");
    refused(pod(), sysctl("vm.swappiness", "1"), &field("vm.swappiness"), "whole machine");
    refused(pod(), sysctl("net/../kernel/panic", "1"), &field("net/../kernel/panic"), "whole machine");
    refused(pod(), sysctl("net.x", "1\n2"), &field("net.x"), "control");
    refused(pod(), |r| options(r).network = 2, &field("net.ipv4.ip_forward"), "network the pod shares");
    let host_ipc = |r: &mut RunPodSandboxRequest| {
        options(r).ipc = 2;
        linux(r).sysctls.insert("kernel.shmmax".into(), "1".into());
    };
    refused(pod(), host_ipc, &field("kernel.shmmax"), "IPC namespace the pod shares");
}

#[test]
fn namespaces_are_of_the_kinds_a_pod_has() {
    let field = |name: &str| format!("config.linux.security_context.namespace_options.{name}");
    refused(pod(), |r| options(r).network = 9, &field("network"), "9 is no value");
    refused(pod(), |r| options(r).network = 1, &field("network"), "CONTAINER is not possible");
    refused(pod(), |r| options(r).ipc = 3, &field("ipc"), "TARGET is not possible");
    refused(pod(), |r| options(r).pid = -1, &field("pid"), "-1");
    refused(pod(), |r| options(r).pid = 3, &field("target_id"), "empty");
    let targeted = |r: &mut RunPodSandboxRequest| {
        options(r).pid = 3;
        options(r).target_id = "c".into();
    };
    refused(pod(), targeted, &field("pid"), "for containers");
    refused(pod(), |r| options(r).target_id = "c".into(), &field("target_id"), "\"c\" is no one's target");
    accepted(container(), |r| {
        let options = context(r).namespace_options.as_mut().unwrap();
        options.pid = 3;
        options.target_id = "c".into();
    });
}

#[test]
fn a_user_namespace_is_one_range_from_root_on() {
    let range = |container_id, length| IdMapping { host_id: 65536, container_id, length };
    let users = |mode, uids: Vec<IdMapping>, gids: Vec<IdMapping>| {
        move |r: &mut RunPodSandboxRequest| {
            options(r).userns_options = Some(UserNamespace { mode, uids, gids });
        }
    };
    let field = |name: &str| format!("config.linux.security_context.namespace_options.userns_options.{name}");
    let good = || vec![range(0, 65536)];
    accepted(pod(), users(0, good(), good()));
    accepted(pod(), users(2, vec![], vec![]));
    refused(pod(), users(0, vec![], good()), &field("uids"), "0 ranges");
    refused(pod(), users(0, good(), [good(), good()].concat()), &field("gids"), "2 ranges");
    refused(pod(), users(0, vec![range(1, 9)], good()), &field("uids[0].container_id"), "1 leaves");
    refused(pod(), users(0, vec![range(0, 0)], good()), &field("uids[0].length"), "0");
    refused(pod(), users(0, vec![range(0, u32::MAX)], good()), &field("uids[0].host_id"), "65536");
    refused(pod(), users(2, good(), vec![]), &field("uids"), "host's");
    refused(pod(), users(1, vec![], vec![]), &field("mode"), "CONTAINER");
    refused(pod(), users(3, vec![], vec![]), &field("mode"), "TARGET");
    refused(pod(), users(7, vec![], vec![]), &field("mode"), "7");
}
