//! Each rule once: a request that is right, with one thing changed.

mod calls;
mod container;
mod pod;

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
