//! The node's unit, and pods in slices, as a kubelet with the systemd driver asks for them.

use std::fs;
use std::path::Path;
use std::process::Command;

use cri::caller::{Blocking, Client};
use cri::contract::v1::*;
use testkit::bare::{Outcome, check};

use crate::unit::{Result, call, cgroup_of, is, procs, program, read, show, systemctl, until};
use crate::{machine, wishes};

const UNIT: &str = include_str!("../../../../xtask/src/dist/sextant-node.service");
const SERVICE: &str = "sextant-node.service";
const SHIMS: &str = "sextant-shims.scope";
const SLICE: &str = "kubepods-burstable-pod1_2.slice";
const CONFIG: &str = "/etc/sextant/node.toml";

/// docs/install.md, step by step, but for the archive.
fn install() -> Outcome {
    let sextant = program()?;
    let config = Command::new(sextant).args(["node", "--print-config"]).output()?;
    let config = String::from_utf8(config.stdout)?;
    let wanted = config.replace("# cgroup_driver = \"cgroupfs\"", "cgroup_driver = \"systemd\"");
    let wanted = wanted.replace("cgroup_driver = \"cgroupfs\"", "cgroup_driver = \"systemd\"");
    check(wanted.contains("\ncgroup_driver = \"systemd\""), || format!("no cgroup_driver in:\n{config}"))?;
    fs::create_dir_all("/etc/sextant")?;
    fs::write(CONFIG, wanted)?;
    fs::write(Path::new("/etc/systemd/system").join(SERVICE), UNIT)?;
    machine::make_image(Path::new("/var/lib/sextant/images"));
    systemctl(&["daemon-reload"])?;
    systemctl(&["enable", "--now", "sextant-node"]).map(drop)
}

pub(crate) fn unit(_: &()) -> Outcome {
    install()?;
    let cri = connect()?;
    let (pod, container) = make(&cri)?;
    let pid = running(&cri, &container)?;

    // Where everything is.
    let scope = format!("sextant-{container}.scope");
    let expected = format!("kubepods.slice/kubepods-burstable.slice/{SLICE}/{scope}");
    is("the container's cgroup", &cgroup_of(pid)?, &expected)?;
    is("memory.max", &read(&expected, "memory.max")?, &(64 << 20).to_string())?;
    is("systemd's MemoryMax", &show(&scope, "MemoryMax")?, &(64 << 20).to_string())?;
    until("shims leave the service", || {
        Ok(procs(&format!("system.slice/{SERVICE}"))? == [show(SERVICE, "MainPID")?])
    })?;
    let shims = procs(&format!("system.slice/{SHIMS}"))?;
    // With it the first process of the PID namespace that the pod's containers share.
    check(shims.len() == 2, || format!("shims: {shims:?}"))?;

    // Limits of a pod that runs.
    let limits = LinuxContainerResources { memory_limit_in_bytes: 96 << 20, ..Default::default() };
    let request = UpdateContainerResourcesRequest {
        container_id: container.clone(),
        linux: Some(limits),
        ..Default::default()
    };
    cri.wait(async |c| c.update_container_resources(request).await)?;
    systemctl(&["daemon-reload"])?;
    is("memory.max", &read(&expected, "memory.max")?, &(96 << 20).to_string())?;

    // Whatever becomes of the service, the pod runs on.
    for act in [&["restart", SERVICE][..], &["kill", "--signal=KILL", SERVICE]] {
        let main = show(SERVICE, "MainPID")?;
        systemctl(act)?;
        until("another process serves", || {
            let now = show(SERVICE, "MainPID")?;
            Ok(now != main && now != "0" && show(SERVICE, "ActiveState")? == "active")
        })?;
        let cri = connect()?;
        is(&format!("after {act:?} the pid"), &running(&cri, &container)?.to_string(), &pid.to_string())?;
    }
    systemctl(&["stop", SERVICE])?;
    check(Path::new(&format!("/proc/{pid}")).exists(), || "the pod ended with the service".into())?;
    systemctl(&["start", SERVICE])?;
    let log = call("journalctl", &["--no-pager", "--unit", SERVICE])?;
    check(!log.contains("left-over process") && !log.contains("warning: shims stay"), || log.clone())?;

    // And nothing stays.
    let cri = connect()?;
    let request = ExecSyncRequest {
        container_id: container.clone(),
        cmd: ["probe", "say", "alive"].map(str::to_owned).to_vec(),
        timeout: 60,
    };
    let answer = cri.wait(async |c| c.exec_sync(request).await)?;
    is("exec", &String::from_utf8_lossy(&answer.stdout), "alive\n")?;
    let request = RemovePodSandboxRequest { pod_sandbox_id: pod };
    cri.wait(async |c| c.remove_pod_sandbox(request).await)?;
    for name in [&scope, SHIMS] {
        until("the scope is gone", || Ok(show(name, "LoadState")? == "not-found"))?;
    }
    systemctl(&["disable", "--now", "sextant-node"])?;
    fs::remove_file(CONFIG)?;
    let failed = systemctl(&["--failed", "--no-legend", "--plain"])?;
    check(failed.is_empty(), || format!("units that failed:\n{failed}"))
}

/// A pod on the machine's network whose processes see each other, so that it has a process of the shim's, and a container
/// that waits.
fn make(cri: &Blocking) -> Result<(String, String)> {
    let mut config = wishes::host_pod("unit");
    config.log_directory = "/var/log/pods/unit".into();
    let linux = config.linux.get_or_insert_default();
    linux.cgroup_parent = format!("/kubepods.slice/kubepods-burstable.slice/{SLICE}");
    let request = RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() };
    let pod = cri.wait(async |c: &Client| c.run_pod_sandbox(request).await)?.pod_sandbox_id;
    let limits = LinuxContainerResources { memory_limit_in_bytes: 64 << 20, ..Default::default() };
    let request = CreateContainerRequest {
        pod_sandbox_id: pod.clone(),
        config: Some(wishes::with_limits(wishes::container("c", &["probe", "sleep"]), limits)),
        sandbox_config: Some(config),
    };
    let container = cri.wait(async |c| c.create_container(request).await)?.container_id;
    let request = StartContainerRequest { container_id: container.clone() };
    cri.wait(async |c| c.start_container(request).await)?;
    Ok((pod, container))
}

/// The process of a container that runs.
fn running(cri: &Blocking, container: &str) -> Result<i32> {
    let request = ContainerStatusRequest { container_id: container.to_owned(), verbose: true };
    let answer = cri.wait(async |c| c.container_status(request).await)?;
    let state = answer.status.map(|status| status.state());
    check(state == Some(ContainerState::ContainerRunning), || format!("its state is {state:?}"))?;
    let info: serde_json::Value = serde_json::from_str(answer.info.get("info").ok_or("no info")?)?;
    Ok(info["pid"].as_i64().ok_or("no pid")?.try_into()?)
}

/// `systemctl start` has returned, so calls are answered.
fn connect() -> Result<Blocking> {
    let cri = Blocking::connect(Path::new("/run/sextant/cri.sock"))?;
    cri.wait(async |c| c.version(VersionRequest { version: "v1".into() }).await)?;
    Ok(cri)
}
