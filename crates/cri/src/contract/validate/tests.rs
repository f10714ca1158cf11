//! Each rule once: a request that is right, with one thing changed.

use super::*;
use crate::contract::Code;
use crate::contract::v1::security_profile::ProfileType;

fn pod() -> RunPodSandboxRequest {
    let metadata =
        PodSandboxMetadata { name: "web".into(), uid: "u-1".into(), namespace: "default".into(), attempt: 0 };
    let context = LinuxSandboxSecurityContext {
        namespace_options: Some(NamespaceOption::default()),
        ..Default::default()
    };
    let linux = LinuxPodSandboxConfig {
        cgroup_parent: "/kubepods/burstable/podu-1".into(),
        security_context: Some(context),
        sysctls: [("net.ipv4.ip_forward".to_owned(), "1".to_owned())].into(),
        ..Default::default()
    };
    let config = PodSandboxConfig {
        metadata: Some(metadata),
        hostname: "web".into(),
        log_directory: "/var/log/pods/default_web_u-1".into(),
        dns_config: Some(DnsConfig {
            servers: vec!["10.96.0.10".into(), "fd00::a".into()],
            searches: vec!["default.svc.cluster.local".into(), ".".into()],
            options: vec!["ndots:5".into()],
        }),
        port_mappings: vec![PortMapping {
            container_port: 80,
            host_port: 8080,
            host_ip: "::1".into(),
            protocol: 1,
        }],
        linux: Some(linux),
        ..Default::default()
    };
    RunPodSandboxRequest { config: Some(config), runtime_handler: "runc".into() }
}

fn container() -> CreateContainerRequest {
    let context = LinuxContainerSecurityContext {
        capabilities: Some(Capability {
            add_capabilities: vec!["NET_ADMIN".into(), "cap_sys_time".into()],
            drop_capabilities: vec!["ALL".into()],
            ..Default::default()
        }),
        namespace_options: Some(NamespaceOption { pid: 1, ..Default::default() }),
        run_as_user: Some(Int64Value { value: 1000 }),
        run_as_group: Some(Int64Value { value: 0 }),
        masked_paths: vec!["/proc/kcore".into()],
        seccomp: Some(SecurityProfile::default()),
        ..Default::default()
    };
    let resources = LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 20_000,
        cpu_shares: 2,
        memory_limit_in_bytes: 64 << 20,
        memory_swap_limit_in_bytes: 64 << 20,
        oom_score_adj: 1000,
        cpuset_cpus: "0-1".into(),
        hugepage_limits: ["2MB", "1GB"].map(|s| HugepageLimit { page_size: s.into(), limit: 0 }).into(),
        unified: [("memory.oom.group".to_owned(), "1".to_owned())].into(),
        ..Default::default()
    };
    let bind =
        Mount { container_path: "/etc/hosts".into(), host_path: "/var/lib/x".into(), ..Mount::default() };
    let volume = Mount {
        container_path: "/data".into(),
        readonly: true,
        image: Some(ImageSpec { image: "sha256:ab".into(), ..Default::default() }),
        image_sub_path: "etc".into(),
        ..Mount::default()
    };
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata { name: "app".into(), attempt: 3 }),
        image: Some(ImageSpec { image: "registry.k8s.io/pause:3.9".into(), ..Default::default() }),
        envs: vec![KeyValue { key: "A".into(), value: vec![0xff] }],
        mounts: vec![bind, volume],
        devices: vec![Device {
            container_path: "/dev/fuse".into(),
            host_path: "/dev/fuse".into(),
            permissions: "mrw".into(),
        }],
        cdi_devices: vec![CdiDevice { name: "vendor.com/gpu=0".into() }],
        log_path: "app/3.log".into(),
        linux: Some(LinuxContainerConfig { resources: Some(resources), security_context: Some(context) }),
        ..Default::default()
    };
    CreateContainerRequest { pod_sandbox_id: "p".into(), config: Some(config), sandbox_config: pod().config }
}

/// The field that is wrong in `request` once it is changed, and the value or rule that its message names.
#[track_caller]
fn refused<R: Validate>(mut request: R, change: impl FnOnce(&mut R), field: &str, says: &str) {
    request.validate().expect("it is right before the change");
    change(&mut request);
    let error = request.validate().expect_err("the change makes it wrong");
    assert_eq!(error.field.as_deref(), Some(field), "{error}");
    assert_eq!(error.code, Code::InvalidArgument);
    assert!(error.message.contains(says), "{error}");
}

#[track_caller]
fn accepted<R: Validate>(mut request: R, change: impl FnOnce(&mut R)) {
    change(&mut request);
    request.validate().expect("the change leaves it right");
}

fn config(request: &mut RunPodSandboxRequest) -> &mut PodSandboxConfig {
    request.config.as_mut().unwrap()
}

fn metadata(request: &mut RunPodSandboxRequest) -> &mut PodSandboxMetadata {
    config(request).metadata.as_mut().unwrap()
}

fn linux(request: &mut RunPodSandboxRequest) -> &mut LinuxPodSandboxConfig {
    config(request).linux.as_mut().unwrap()
}

fn sandbox_context(request: &mut RunPodSandboxRequest) -> &mut LinuxSandboxSecurityContext {
    linux(request).security_context.as_mut().unwrap()
}

fn options(request: &mut RunPodSandboxRequest) -> &mut NamespaceOption {
    sandbox_context(request).namespace_options.as_mut().unwrap()
}

fn inner(request: &mut CreateContainerRequest) -> &mut ContainerConfig {
    request.config.as_mut().unwrap()
}

fn context(request: &mut CreateContainerRequest) -> &mut LinuxContainerSecurityContext {
    inner(request).linux.as_mut().unwrap().security_context.as_mut().unwrap()
}

fn resources(request: &mut CreateContainerRequest) -> &mut LinuxContainerResources {
    inner(request).linux.as_mut().unwrap().resources.as_mut().unwrap()
}

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

#[test]
fn users_and_groups() {
    let field = |name: &str| format!("config.linux.security_context.{name}");
    let id = |value| Some(Int64Value { value });
    refused(container(), |r| context(r).run_as_user = id(-1), &field("run_as_user"), "-1 is no id");
    refused(container(), |r| context(r).run_as_group = id(1 << 31), &field("run_as_group"), "2147483648");
    refused(container(), |r| context(r).run_as_user = None, &field("run_as_group"), "needs a user");
    refused(container(), |r| context(r).run_as_username = "www".into(), &field("run_as_username"), "\"www\"");
    refused(
        container(),
        |r| context(r).supplemental_groups = vec![1, -5],
        &field("supplemental_groups[1]"),
        "-5",
    );
    let policy = |r: &mut CreateContainerRequest| context(r).supplemental_groups_policy = 2;
    refused(container(), policy, &field("supplemental_groups_policy"), "2");
    accepted(container(), |r| {
        context(r).run_as_user = None;
        context(r).run_as_username = "www-data".into();
    });
    let group_alone = |r: &mut RunPodSandboxRequest| sandbox_context(r).run_as_group = id(5);
    refused(pod(), group_alone, &field("run_as_group"), "5 needs a user");
    let spaced = |r: &mut CreateContainerRequest| {
        context(r).selinux_options = Some(SeLinuxOption { level: "s0 c1".into(), ..Default::default() });
    };
    refused(container(), spaced, &field("selinux_options.level"), "white space");
}

#[test]
#[expect(deprecated, reason = "the old notation is tested, too")]
fn profiles_name_what_lies_on_the_node() {
    let field = |name: &str| format!("config.linux.security_context.{name}");
    let profile = |kind: ProfileType, reference: &str| {
        Some(SecurityProfile { profile_type: kind.into(), localhost_ref: reference.into() })
    };
    let set =
        |value: Option<SecurityProfile>| move |r: &mut CreateContainerRequest| context(r).seccomp = value;
    let local = ProfileType::Localhost;
    accepted(container(), set(profile(local, "/var/lib/kubelet/seccomp/a.json")));
    accepted(container(), set(profile(local, "localhost//a.json")));
    accepted(container(), set(profile(ProfileType::Unconfined, "")));
    refused(container(), set(profile(local, "")), &field("seccomp.localhost_ref"), "empty");
    refused(container(), set(profile(local, "a.json")), &field("seccomp.localhost_ref"), "a.json");
    refused(
        container(),
        set(profile(ProfileType::RuntimeDefault, "/a")),
        &field("seccomp.localhost_ref"),
        "RuntimeDefault",
    );
    let unknown = SecurityProfile { profile_type: 3, localhost_ref: String::new() };
    refused(container(), set(Some(unknown)), &field("seccomp.profile_type"), "3");
    let nameless = |r: &mut CreateContainerRequest| context(r).apparmor = profile(local, "");
    refused(container(), nameless, &field("apparmor.localhost_ref"), "empty");
    accepted(container(), |r| context(r).apparmor = profile(local, "my-profile"));
    let old = |value: &'static str| {
        move |r: &mut CreateContainerRequest| context(r).seccomp_profile_path = value.into()
    };
    accepted(container(), old("runtime/default"));
    accepted(container(), old("localhost//tmp/p.json"));
    refused(container(), old("localhost/p.json"), &field("seccomp_profile_path"), "relative");
    refused(container(), old("default"), &field("seccomp_profile_path"), "\"default\" is no profile");
    let old = |r: &mut CreateContainerRequest| context(r).apparmor_profile = "mine".into();
    refused(container(), old, &field("apparmor_profile"), "\"mine\" is no profile");
}

#[test]
fn capabilities_and_paths() {
    let field = |name: &str| format!("config.linux.security_context.{name}");
    let add = |r: &mut CreateContainerRequest| {
        context(r).capabilities.as_mut().unwrap().add_capabilities[1] = "FLY".into();
    };
    refused(container(), add, &field("capabilities.add_capabilities[1]"), "\"FLY\" is no capability");
    refused(container(), |r| context(r).masked_paths.push("x".into()), &field("masked_paths[1]"), "\"x\"");
    refused(
        container(),
        |r| context(r).readonly_paths.push(String::new()),
        &field("readonly_paths[0]"),
        "empty",
    );
}

#[test]
fn limits_are_in_range() {
    let limit =
        |change: fn(&mut LinuxContainerResources)| move |r: &mut CreateContainerRequest| change(resources(r));
    let field = |name: &str| format!("config.linux.resources.{name}");
    refused(container(), limit(|l| l.cpu_period = 999), &field("cpu_period"), "999");
    refused(container(), limit(|l| l.cpu_quota = -2), &field("cpu_quota"), "-2");
    refused(container(), limit(|l| l.cpu_quota = 10), &field("cpu_quota"), "10");
    refused(container(), limit(|l| l.cpu_shares = -1), &field("cpu_shares"), "-1");
    refused(container(), limit(|l| l.memory_limit_in_bytes = -2), &field("memory_limit_in_bytes"), "-2");
    refused(
        container(),
        limit(|l| l.memory_swap_limit_in_bytes = -2),
        &field("memory_swap_limit_in_bytes"),
        "-2",
    );
    refused(
        container(),
        limit(|l| l.memory_swap_limit_in_bytes = 1),
        &field("memory_swap_limit_in_bytes"),
        "less",
    );
    refused(container(), limit(|l| l.oom_score_adj = 1001), &field("oom_score_adj"), "1001");
    refused(container(), limit(|l| l.cpuset_cpus = "1-".into()), &field("cpuset_cpus"), "\"1-\"");
    refused(container(), limit(|l| l.cpuset_mems = "x".into()), &field("cpuset_mems"), "\"x\"");
    let page = |l: &mut LinuxContainerResources| l.hugepage_limits[0].page_size = "2".into();
    refused(container(), limit(page), &field("hugepage_limits[0].page_size"), "\"2\"");
    let twice = |l: &mut LinuxContainerResources| l.hugepage_limits[1].page_size = "2MB".into();
    refused(container(), limit(twice), &field("hugepage_limits[1].page_size"), "already");
    let file = |l: &mut LinuxContainerResources| drop(l.unified.insert("../x".into(), "1".into()));
    refused(container(), limit(file), &field("unified"), "../x");
    accepted(container(), limit(|l| l.memory_swap_limit_in_bytes = -1));
    accepted(container(), limit(|l| l.cpu_quota = -1));
    let update = UpdateContainerResourcesRequest { container_id: "c".into(), ..Default::default() };
    let change = |r: &mut UpdateContainerResourcesRequest| {
        r.linux = Some(LinuxContainerResources { oom_score_adj: -1001, ..Default::default() });
    };
    refused(update.clone(), change, "linux.oom_score_adj", "-1001");
    refused(update, |r| r.windows = Some(Default::default()), "windows", "Linux");
    let update = UpdatePodSandboxResourcesRequest { pod_sandbox_id: "p".into(), ..Default::default() };
    let change = |r: &mut UpdatePodSandboxResourcesRequest| {
        r.overhead = Some(LinuxContainerResources { cpu_shares: -1, ..Default::default() });
    };
    refused(update, change, "overhead.cpu_shares", "-1");
}

#[test]
fn a_container_says_what_it_is() {
    refused(container(), |r| r.pod_sandbox_id.clear(), "pod_sandbox_id", "empty");
    refused(container(), |r| r.config = None, "config", "missing");
    refused(container(), |r| inner(r).metadata = None, "config.metadata", "missing");
    refused(container(), |r| inner(r).metadata = Some(Default::default()), "config.metadata.name", "empty");
    refused(container(), |r| inner(r).image = None, "config.image", "missing");
    refused(container(), |r| inner(r).image = Some(Default::default()), "config.image.image", "empty");
    refused(container(), |r| inner(r).command = vec!["a\0".into()], "config.command[0]", "NUL");
    refused(container(), |r| inner(r).args = vec!["a".into(), "\0".into()], "config.args[1]", "NUL");
    refused(container(), |r| inner(r).working_dir = "x".into(), "config.working_dir", "relative");
    refused(container(), |r| inner(r).envs[0].key = "A=B".into(), "config.envs[0].key", "A=B");
    refused(container(), |r| inner(r).envs[0].key.clear(), "config.envs[0].key", "empty");
    refused(container(), |r| inner(r).envs[0].value.push(0), "config.envs[0].value", "\"A\"");
    refused(container(), |r| inner(r).log_path = "/x".into(), "config.log_path", "absolute");
    refused(container(), |r| inner(r).log_path = "a/../../x".into(), "config.log_path", "upwards");
    refused(container(), |r| inner(r).stop_signal = 66, "config.stop_signal", "66");
    refused(container(), |r| inner(r).windows = Some(Default::default()), "config.windows", "Linux");
    let nameless = |r: &mut CreateContainerRequest| r.sandbox_config.as_mut().unwrap().metadata = None;
    refused(container(), nameless, "sandbox_config.metadata", "missing");
    accepted(container(), |r| inner(r).stop_signal = 65);
    accepted(container(), |r| r.sandbox_config = None);
}

#[test]
fn mounts_are_of_a_path_or_an_image() {
    let mount = |at: usize, change: fn(&mut Mount)| {
        move |r: &mut CreateContainerRequest| change(&mut inner(r).mounts[at])
    };
    let field = |at: usize, name: &str| format!("config.mounts[{at}].{name}");
    refused(container(), mount(0, |m| m.container_path = "a".into()), &field(0, "container_path"), "\"a\"");
    refused(container(), mount(0, |m| m.host_path.clear()), &field(0, "host_path"), "empty");
    refused(container(), mount(0, |m| m.propagation = 3), &field(0, "propagation"), "3");
    refused(
        container(),
        mount(0, |m| m.recursive_read_only = true),
        &field(0, "recursive_read_only"),
        "readonly",
    );
    let shared = |m: &mut Mount| {
        (m.readonly, m.recursive_read_only, m.propagation) = (true, true, 1);
    };
    refused(container(), mount(0, shared), &field(0, "recursive_read_only"), "PRIVATE");
    refused(
        container(),
        mount(0, |m| m.image_sub_path = "x".into()),
        &field(0, "image_sub_path"),
        "needs an image",
    );
    refused(container(), mount(1, |m| m.host_path = "/x".into()), &field(1, "host_path"), "contradicts");
    refused(container(), mount(1, |m| m.readonly = false), &field(1, "readonly"), "must be set");
    refused(container(), mount(1, |m| m.propagation = 2), &field(1, "propagation"), "PRIVATE");
    refused(
        container(),
        mount(1, |m| m.image_sub_path = "../x".into()),
        &field(1, "image_sub_path"),
        "upwards",
    );
    refused(
        container(),
        mount(1, |m| m.image_sub_path = "/x".into()),
        &field(1, "image_sub_path"),
        "absolute",
    );
    refused(container(), mount(1, |m| m.image = Some(Default::default())), &field(1, "image.image"), "empty");
    let range = IdMapping { host_id: 1, container_id: 0, length: 1 };
    accepted(container(), |r| {
        inner(r).mounts[0].uid_mappings = vec![range];
        inner(r).mounts[0].gid_mappings = vec![range];
    });
    refused(container(), |r| inner(r).mounts[0].uid_mappings = vec![range], &field(0, "gidMappings"), "both");
    refused(container(), |r| inner(r).mounts[0].gid_mappings = vec![range], &field(0, "uidMappings"), "both");
    let empty = IdMapping { length: 0, ..range };
    refused(
        container(),
        |r| inner(r).mounts[0].gid_mappings = vec![empty],
        &field(0, "gidMappings[0].length"),
        "0",
    );
    accepted(container(), mount(0, |m| (m.readonly, m.recursive_read_only) = (true, true)));
}

#[test]
fn devices_and_their_permissions() {
    let device =
        |change: fn(&mut Device)| move |r: &mut CreateContainerRequest| change(&mut inner(r).devices[0]);
    let field = |name: &str| format!("config.devices[0].{name}");
    refused(container(), device(|d| d.container_path = "fuse".into()), &field("container_path"), "fuse");
    refused(container(), device(|d| d.host_path.clear()), &field("host_path"), "empty");
    for permissions in ["", "x", "rr", "rwmr"] {
        let change = |r: &mut CreateContainerRequest| inner(r).devices[0].permissions = permissions.into();
        refused(container(), change, &field("permissions"), &format!("{permissions:?}"));
    }
    let cdi = |r: &mut CreateContainerRequest| inner(r).cdi_devices[0].name = "gpu".into();
    refused(container(), cdi, "config.CDI_devices[0].name", "gpu");
}

#[test]
fn calls_about_one_thing_name_it() {
    macro_rules! nameless {
        ($($id:ident $message:ident)*) => {
            $({
                let error = $message::default().validate().unwrap_err();
                assert_eq!(error.field.as_deref(), Some(stringify!($id)), "{}", stringify!($message));
            })*
        };
    }
    nameless! {
        pod_sandbox_id StopPodSandboxRequest
        pod_sandbox_id RemovePodSandboxRequest
        pod_sandbox_id PodSandboxStatusRequest
        pod_sandbox_id PodSandboxStatsRequest
        pod_sandbox_id PortForwardRequest
        pod_sandbox_id UpdatePodSandboxResourcesRequest
        container_id StartContainerRequest
        container_id StopContainerRequest
        container_id RemoveContainerRequest
        container_id ContainerStatusRequest
        container_id ContainerStatsRequest
        container_id ReopenContainerLogRequest
        container_id UpdateContainerResourcesRequest
        container_id CheckpointContainerRequest
        container_id ExecSyncRequest
        container_id ExecRequest
        container_id AttachRequest
        image ImageStatusRequest
        image PullImageRequest
        image RemoveImageRequest
    }
}

#[test]
fn commands_streams_and_ports() {
    let sync = || ExecSyncRequest {
        container_id: "c".into(),
        cmd: vec!["true".into()],
        ..ExecSyncRequest::default()
    };
    refused(sync(), |r| r.cmd.clear(), "cmd", "empty");
    refused(sync(), |r| r.cmd.push("\0".into()), "cmd[1]", "NUL");
    refused(sync(), |r| r.timeout = -1, "timeout", "-1");
    let exec = || ExecRequest {
        container_id: "c".into(),
        cmd: vec!["sh".into()],
        tty: true,
        stdin: true,
        ..ExecRequest::default()
    };
    refused(exec(), |r| r.stderr = true, "stderr", "terminal");
    refused(exec(), |r| r.stdin = false, "stdin", "none of");
    refused(exec(), |r| r.cmd.clear(), "cmd", "empty");
    let attach = || AttachRequest { container_id: "c".into(), stderr: true, ..AttachRequest::default() };
    refused(attach(), |r| r.tty = true, "stderr", "terminal");
    refused(attach(), |r| r.stderr = false, "stdin", "none of");
    let forward = || PortForwardRequest { pod_sandbox_id: "p".into(), port: vec![] };
    refused(forward(), |r| r.port = vec![80, 0], "port[1]", "0");
    let stop = || StopContainerRequest { container_id: "c".into(), timeout: 0 };
    refused(stop(), |r| r.timeout = -1, "timeout", "-1");
    let checkpoint =
        || CheckpointContainerRequest { container_id: "c".into(), location: "/x".into(), timeout: 0 };
    refused(checkpoint(), |r| r.location = "x".into(), "location", "relative");
    refused(checkpoint(), |r| r.timeout = -1, "timeout", "-1");
}

#[test]
fn filters_images_and_networks() {
    let state =
        |state| Some(PodSandboxFilter { state: Some(PodSandboxStateValue { state }), ..Default::default() });
    refused(ListPodSandboxRequest::default(), |r| r.filter = state(2), "filter.state.state", "2");
    accepted(StreamPodSandboxesRequest::default(), |r| r.filter = state(1));
    let state =
        |state| Some(ContainerFilter { state: Some(ContainerStateValue { state }), ..Default::default() });
    refused(StreamContainersRequest::default(), |r| r.filter = state(4), "filter.state.state", "4");
    let selector = || [(String::new(), String::new())].into();
    let filter = |r: &mut ListContainerStatsRequest| {
        r.filter = Some(ContainerStatsFilter { label_selector: selector(), ..Default::default() });
    };
    refused(ListContainerStatsRequest::default(), filter, "filter.label_selector", "empty key");
    let filter = |r: &mut ListPodSandboxStatsRequest| {
        r.filter = Some(PodSandboxStatsFilter { label_selector: selector(), ..Default::default() });
    };
    refused(ListPodSandboxStatsRequest::default(), filter, "filter.label_selector", "empty key");
    accepted(ListImagesRequest::default(), |r| {
        r.filter = Some(ImageFilter { image: Some(Default::default()) })
    });
    let spec = |image: &str| Some(ImageSpec { image: image.into(), ..Default::default() });
    let filter = |r: &mut ListImagesRequest| r.filter = Some(ImageFilter { image: spec("a b") });
    refused(ListImagesRequest::default(), filter, "filter.image.image", "a b");

    let pull = || PullImageRequest { image: spec("busybox"), ..PullImageRequest::default() };
    accepted(pull(), |r| r.sandbox_config = Some(PodSandboxConfig::default()));
    refused(
        pull(),
        |r| r.image.as_mut().unwrap().runtime_handler = "a/b".into(),
        "image.runtime_handler",
        "a/b",
    );
    let selector = |r: &mut PullImageRequest| {
        r.sandbox_config = Some(PodSandboxConfig { labels: selector(), ..Default::default() });
    };
    refused(pull(), selector, "sandbox_config.labels", "empty key");

    let cidr = |pod_cidr: &str| {
        let network_config = Some(NetworkConfig { pod_cidr: pod_cidr.into() });
        Some(RuntimeConfig { network_config })
    };
    let field = "runtime_config.network_config.pod_cidr";
    accepted(UpdateRuntimeConfigRequest::default(), |r| r.runtime_config = cidr("10.0.0.0/24,fd00::/64"));
    accepted(UpdateRuntimeConfigRequest::default(), |r| r.runtime_config = cidr(""));
    let change = |r: &mut UpdateRuntimeConfigRequest| r.runtime_config = cidr("10.0.0.0/24,x");
    refused(UpdateRuntimeConfigRequest::default(), change, field, "\"x\"");
}

#[test]
fn a_long_value_is_not_repeated_whole() {
    let long = "é\n".repeat(4096);
    let error = ImageSpec { image: long, ..Default::default() }.validate().unwrap_err();
    assert!(error.message.len() < 1024, "{} bytes", error.message.len());
}
