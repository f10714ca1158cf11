//! Pods and containers as plugins see them.

use std::path::Path;

use oci_runtime::contract as oci;
use serde::Serialize;

use super::wire::{
    self, Container, ContainerState, Hook, Hooks, LinuxContainer, LinuxDevice, LinuxNamespace,
    LinuxPodSandbox, LinuxResources, Mount, PodSandbox, PosixRlimit, SecurityProfile, User,
};
use crate::contract::v1;
use crate::plugin::container;
use crate::plugin::pod;

/// A pod. `netns` is where its network namespace is.
pub(super) fn pod(record: &pod::Record, netns: &Path) -> PodSandbox {
    let config = &record.config;
    let metadata = config.metadata.clone().unwrap_or_default();
    let linux = config.linux.clone().unwrap_or_default();
    let mut namespaces: Vec<LinuxNamespace> = record
        .namespaces
        .iter()
        .map(|(kind, path)| LinuxNamespace { kind: kind.clone(), path: path.clone() })
        .collect();
    if !pod::is_host(config) && netns.exists() {
        namespaces.retain(|namespace| namespace.kind != "network");
        namespaces.push(LinuxNamespace { kind: "network".into(), path: netns.display().to_string() });
    }
    PodSandbox {
        id: record.id.clone(),
        name: metadata.name,
        uid: metadata.uid,
        namespace: metadata.namespace,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        runtime_handler: record.handler.clone(),
        linux: Some(LinuxPodSandbox {
            pod_overhead: linux.overhead.as_ref().map(limits),
            pod_resources: linux.resources.as_ref().map(limits),
            cgroup_parent: linux.cgroup_parent,
            cgroups_path: format!("/{}", record.cgroup.dir().display()),
            namespaces,
            resources: None,
        }),
        // No process of its own stands for a pod.
        pid: 0,
        ips: record.addresses.iter().map(ToString::to_string).collect(),
    }
}

/// A container that is being created.
pub(super) fn container(pod: &str, id: &str, config: &v1::ContainerConfig, spec: &oci::Spec) -> Container {
    let mut annotations = spec.annotations.clone();
    annotations.extend(config.annotations.clone());
    let no_process = oci::Process::default();
    let process = spec.process.as_ref().unwrap_or(&no_process);
    Container {
        id: id.to_owned(),
        pod_sandbox_id: pod.to_owned(),
        name: config.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default(),
        state: ContainerState::Unknown.into(),
        labels: config.labels.clone(),
        annotations,
        args: process.args.clone(),
        env: process.env.clone(),
        mounts: spec.mounts.iter().map(mount).collect(),
        hooks: spec.hooks.as_ref().map(hooks),
        linux: Some(linux(config, spec, process)),
        rlimits: process
            .rlimits
            .iter()
            .map(|limit| PosixRlimit { kind: word(&limit.kind), hard: limit.hard, soft: limit.soft })
            .collect(),
        cdi_devices: config
            .cdi_devices
            .iter()
            .map(|device| wire::CdiDevice { name: device.name.clone() })
            .collect(),
        user: Some(User {
            uid: process.user.uid,
            gid: process.user.gid,
            additional_gids: process.user.additional_gids.clone(),
        }),
        ..Container::default()
    }
}

/// A container that is there. Without `spec`, which does not outlive a boot, it has what the kubelet sent.
pub(super) fn living(container: &container::Container, spec: Option<&oci::Spec>) -> Container {
    let (record, live) = (&container.record, container.live());
    let no_spec = oci::Spec::default();
    let state = match live.state {
        v1::ContainerState::ContainerCreated => ContainerState::Created,
        v1::ContainerState::ContainerRunning => ContainerState::Running,
        v1::ContainerState::ContainerExited => ContainerState::Stopped,
        v1::ContainerState::ContainerUnknown => ContainerState::Unknown,
    };
    Container {
        state: state.into(),
        pid: live.pid.unsigned_abs(),
        created_at: record.created,
        started_at: live.started_at,
        finished_at: live.finished_at,
        exit_code: live.exit_code,
        status_reason: live.reason,
        status_message: live.message,
        ..self::container(&record.pod, &record.id, &record.config, spec.unwrap_or(&no_spec))
    }
}

/// The word that the runtime specification has for a value.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn mount(mount: &oci::Mount) -> Mount {
    Mount {
        destination: mount.destination.clone(),
        kind: mount.kind.clone(),
        source: mount.source.clone(),
        options: mount.options.clone(),
    }
}

fn hooks(hooks: &oci::Hooks) -> Hooks {
    let list = |hooks: &[oci::Hook]| {
        let hook = |hook: &oci::Hook| Hook {
            path: hook.path.clone(),
            args: hook.args.clone(),
            env: hook.env.clone(),
            timeout: hook.timeout,
        };
        hooks.iter().map(hook).collect()
    };
    Hooks {
        prestart: list(&hooks.prestart),
        create_runtime: list(&hooks.create_runtime),
        create_container: list(&hooks.create_container),
        start_container: list(&hooks.start_container),
        poststart: list(&hooks.poststart),
        poststop: list(&hooks.poststop),
    }
}

fn linux(config: &v1::ContainerConfig, spec: &oci::Spec, process: &oci::Process) -> LinuxContainer {
    let no_linux = oci::Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&no_linux);
    let security = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let profile = security.and_then(|security| security.seccomp.as_ref());
    LinuxContainer {
        namespaces: linux
            .namespaces
            .iter()
            .map(|n| LinuxNamespace { kind: n.kind.as_str().into(), path: n.path.clone() })
            .collect(),
        devices: linux.devices.iter().map(device).collect(),
        resources: linux.resources.as_ref().map(resources),
        oom_score_adj: process.oom_score_adj.map(i64::from),
        cgroups_path: linux.cgroups_path.clone(),
        seccomp_profile: profile.map(|profile| SecurityProfile {
            profile_type: profile.profile_type,
            localhost_ref: profile.localhost_ref.clone(),
        }),
        sysctl: linux.sysctl.clone(),
        net_devices: linux
            .net_devices
            .iter()
            .map(|(host, device)| (host.clone(), wire::LinuxNetDevice { name: device.name.clone() }))
            .collect(),
        ..LinuxContainer::default()
    }
}

fn device(device: &oci::Device) -> LinuxDevice {
    LinuxDevice {
        path: device.path.clone(),
        kind: word(&device.kind),
        major: device.major,
        minor: device.minor,
        file_mode: device.file_mode,
        uid: device.uid,
        gid: device.gid,
    }
}

fn resources(resources: &oci::Resources) -> LinuxResources {
    let memory = resources.memory.map(|memory| wire::LinuxMemory {
        limit: memory.limit,
        reservation: memory.reservation,
        swap: memory.swap,
        kernel: memory.kernel,
        kernel_tcp: memory.kernel_tcp,
        swappiness: memory.swappiness,
        disable_oom_killer: memory.disable_oom_killer,
        use_hierarchy: memory.use_hierarchy,
    });
    let cpu = resources.cpu.as_ref().map(|cpu| wire::LinuxCpu {
        shares: cpu.shares,
        quota: cpu.quota,
        period: cpu.period,
        realtime_runtime: cpu.realtime_runtime,
        realtime_period: cpu.realtime_period,
        cpus: cpu.cpus.clone(),
        mems: cpu.mems.clone(),
    });
    let pages = resources.hugepage_limits.iter();
    let rules = resources.devices.iter();
    LinuxResources {
        memory,
        cpu,
        hugepage_limits: pages
            .map(|pages| wire::HugepageLimit { page_size: pages.page_size.clone(), limit: pages.limit })
            .collect(),
        unified: resources.unified.clone(),
        devices: rules
            .map(|rule| wire::LinuxDeviceCgroup {
                allow: rule.allow,
                kind: rule.kind.as_ref().map(word).unwrap_or_default(),
                major: rule.major,
                minor: rule.minor,
                access: rule.access.clone(),
            })
            .collect(),
        pids: resources.pids.and_then(|pids| pids.limit).map(|limit| wire::LinuxPids { limit }),
        ..LinuxResources::default()
    }
}

/// Limits as a kubelet sends them; what it leaves out is absent.
pub(super) fn limits(asked: &v1::LinuxContainerResources) -> LinuxResources {
    fn number<T: PartialEq + From<u8>>(value: T) -> Option<T> {
        (value != T::from(0)).then_some(value)
    }
    let positive = |value: i64| u64::try_from(value).ok().and_then(number);
    LinuxResources {
        memory: Some(wire::LinuxMemory {
            limit: number(asked.memory_limit_in_bytes),
            swap: number(asked.memory_swap_limit_in_bytes),
            ..Default::default()
        }),
        cpu: Some(wire::LinuxCpu {
            shares: positive(asked.cpu_shares),
            quota: number(asked.cpu_quota),
            period: positive(asked.cpu_period),
            cpus: asked.cpuset_cpus.clone(),
            mems: asked.cpuset_mems.clone(),
            ..Default::default()
        }),
        hugepage_limits: asked
            .hugepage_limits
            .iter()
            .map(|pages| wire::HugepageLimit { page_size: pages.page_size.clone(), limit: pages.limit })
            .collect(),
        unified: asked.unified.clone(),
        ..LinuxResources::default()
    }
}
