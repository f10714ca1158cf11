//! UpdateContainerResources and UpdatePodSandboxResources.

use cri::contract::Code;
use cri::contract::v1::*;

use crate::Test;
use crate::bench::Bench;
use crate::machine::{is_unified, limit};
use crate::wishes::{container, with_limits};

pub(crate) const TESTS: &[Test] = &[
    ("new_limits_are_in_force_at_once", running),
    ("a_created_container_starts_with_its_new_limits", created),
];

const MEMORY: ([&str; 2], &str) = (["memory", "memory.limit_in_bytes"], "memory.max");
const QUOTA: ([&str; 2], &str) = (["cpu", "cpu.cfs_quota_us"], "cpu.max");
const CPUS: ([&str; 2], &str) = (["cpuset", "cpuset.cpus"], "cpuset.cpus");

#[track_caller]
fn update(b: &Bench, id: &str, limits: LinuxContainerResources) {
    let request = UpdateContainerResourcesRequest {
        container_id: id.into(),
        linux: Some(limits),
        ..UpdateContainerResourcesRequest::default()
    };
    b.ok(async |c| c.update_container_resources(request).await);
}

fn in_force(b: &Bench, id: &str, (v1, v2): ([&str; 2], &str)) -> String {
    limit(b.dir(), id, v1, v2)
}

fn running(b: &Bench) {
    let pod = b.host_pod("limits");
    let limits = LinuxContainerResources {
        memory_limit_in_bytes: 64 << 20,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        ..LinuxContainerResources::default()
    };
    let id = b.run_as(&pod, with_limits(container("c", &["probe", "sleep"]), limits.clone()));
    assert_eq!(in_force(b, &id, MEMORY), (64 << 20).to_string());
    update(b, &id, LinuxContainerResources { memory_limit_in_bytes: 96 << 20, ..Default::default() });
    assert_eq!(in_force(b, &id, MEMORY), (96 << 20).to_string());
    let quota = |number: &str| if is_unified() { format!("{number} 100000") } else { number.to_owned() };
    assert_eq!(in_force(b, &id, QUOTA), quota("50000"), "what was not asked for stays");
    update(
        b,
        &id,
        LinuxContainerResources { cpu_quota: 20_000, cpuset_cpus: "0".into(), ..Default::default() },
    );
    assert_eq!(in_force(b, &id, QUOTA), quota("20000"));
    assert_eq!(in_force(b, &id, CPUS), "0");
    let told = |b: &Bench| b.status(&id).resources.unwrap().linux.unwrap();
    assert_eq!((told(b).memory_limit_in_bytes, told(b).cpu_quota), (96 << 20, 20_000));
    let before = told(b);
    b.kill();
    b.start();
    assert_eq!(told(b), before, "another process knows them too");
    // A wrong one is refused whole.
    let request = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(LinuxContainerResources {
            memory_limit_in_bytes: 32 << 20,
            cpuset_cpus: "nine".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let error = b.wait(async |c| c.update_container_resources(request).await).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.to_string().contains("cpuset_cpus"), "{error}");
    assert_eq!(in_force(b, &id, MEMORY), (96 << 20).to_string());
    let request = UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: pod.clone(),
        resources: Some(limits),
        ..UpdatePodSandboxResourcesRequest::default()
    };
    b.ok(async |c| c.update_pod_sandbox_resources(request).await);
    b.remove_pod(&pod);
}

fn created(b: &Bench) {
    let pod = b.host_pod("created");
    let limits = LinuxContainerResources { memory_limit_in_bytes: 64 << 20, ..Default::default() };
    let id = b.create(&pod, with_limits(container("c", &["probe", "sleep"]), limits));
    update(b, &id, LinuxContainerResources { memory_limit_in_bytes: 48 << 20, ..Default::default() });
    b.start_container(&id);
    assert_eq!(in_force(b, &id, MEMORY), (48 << 20).to_string());
    b.remove_pod(&pod);
}
