//! The unit of a whole machine: pods run on whatever becomes of it, and are there again after a boot.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use testkit::bare::{Outcome, check};

use crate::machine;
use crate::unit::{AGAIN, Result, call, cgroup_of, is, procs, program, read, show, systemctl, until};

const UNIT: &str = include_str!("../../../../xtask/src/dist/sextant-up.service");
const SERVICE: &str = "sextant-up.service";
const SHIMS: &str = "sextant-shims.scope";
/// Node, api, services, control, agent, and who started them.
const PROGRAMS: usize = 6;
const POD: &str = r#"{
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
    "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
        "name": "c", "image": "docker.io/library/t:latest", "imagePullPolicy": "Never", "command": ["probe", "sleep"],
        "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}}
    }]}
}"#;

pub(crate) fn unit(_: &()) -> Outcome {
    program()?;
    fs::write(Path::new("/etc/systemd/system").join(SERVICE), UNIT)?;
    machine::make_image(Path::new("/var/lib/sextant/images"));
    systemctl(&["daemon-reload"])?;
    systemctl(&["enable", "--now", SERVICE])?;
    until("the node is ready", || Ok(sextant(&["get", "nodes"])?.contains(" Ready ")))?;
    fs::write("/tmp/pod.json", POD)?;
    sextant(&["apply", "-f", "/tmp/pod.json", "--wait"])?;
    let pid = pid()?;

    // Where everything is.
    let status = status()?;
    let uid = status["metadata"]["uid"].as_str().ok_or("no uid")?;
    let pod = format!("sextant-agent/kubepods/pod{uid}");
    let cgroup = cgroup_of(pid)?;
    check(cgroup.starts_with(&format!("{pod}/")), || format!("the container's cgroup is {cgroup}"))?;
    for cgroup in [&pod, &cgroup] {
        is("memory.max", &read(cgroup, "memory.max")?, &(64 << 20).to_string())?;
        is("cpu.max", &read(cgroup, "cpu.max")?, "50000 100000")?;
    }
    until("shims leave the service", || {
        Ok(procs(&format!("system.slice/{SERVICE}"))?.len() == PROGRAMS
            && procs(&format!("system.slice/{SHIMS}"))?.len() == 1)
    })?;

    // Whatever becomes of the service, the pod runs on.
    anew(&["restart", SERVICE])?;
    runs_on(pid)?;
    readable()?;
    anew(&["kill", "--kill-who=main", "--signal=KILL", SERVICE])?;
    runs_on(pid)?;
    systemctl(&["stop", SERVICE])?;
    is(
        "what is left of the service",
        &procs(&format!("system.slice/{SERVICE}")).unwrap_or_default().join(" "),
        "",
    )?;
    check(Path::new(&format!("/proc/{pid}")).exists(), || "the pod ended with the service".into())?;
    systemctl(&["start", SERVICE])?;
    runs_on(pid)?;

    // What is taken down is not started again by systemd.
    sextant(&["down"])?;
    until("the service is over", || Ok(show(SERVICE, "ActiveState")? == "inactive"))?;
    is("how it ended", &show(SERVICE, "Result")?, "success")?;
    until("the scope of shims is gone", || Ok(show(SHIMS, "LoadState")? == "not-found"))?;
    systemctl(&["start", SERVICE])?;
    until("the pod runs anew", || Ok(self::pid().is_ok_and(|now| now != pid)))?;
    fs::write(AGAIN, "sextant-systemd\n")?;
    Ok(())
}

/// It is enabled, and what ran before runs.
pub(crate) fn after_reboot(_: &()) -> Outcome {
    until("the service is up", || Ok(show(SERVICE, "ActiveState")? == "active"))?;
    until("the node is ready", || Ok(sextant(&["get", "nodes"])?.contains(" Ready ")))?;
    until("the pod is ready", || Ok(is_ready(&status()?) && pid().is_ok()))?;
    readable()?;
    sextant(&["delete", "pod", "web"])?;
    sextant(&["down"])?;
    until("the service is over", || Ok(show(SERVICE, "ActiveState")? == "inactive"))?;
    systemctl(&["disable", SERVICE])?;
    let failed = systemctl(&["--failed", "--no-legend", "--plain"])?;
    check(failed.is_empty(), || format!("units that failed:\n{failed}"))
}

/// Ends the service's first process, and waits for another.
fn anew(act: &[&str]) -> Outcome {
    let main = show(SERVICE, "MainPID")?;
    systemctl(act)?;
    until("another process is up", || {
        let now = show(SERVICE, "MainPID")?;
        Ok(now != main && now != "0" && show(SERVICE, "ActiveState")? == "active")
    })
}

/// The pod's container is the process that it was, and is told to be well.
fn runs_on(pid: i32) -> Outcome {
    is("the container's process", &self::pid()?.to_string(), &pid.to_string())?;
    until("the node is ready", || Ok(sextant(&["get", "nodes"])?.contains(" Ready ")))?;
    until("the pod is ready", || Ok(is_ready(&status()?)))?;
    is("restarts", &status()?["status"]["containerStatuses"][0]["restartCount"].to_string(), "0")
}

/// What the journal has of this boot is for people.
fn readable() -> Outcome {
    let log = call("journalctl", &["--no-pager", "--boot", "--output=cat", "--unit", SERVICE])?;
    check(log.contains("everything is up after"), || log.clone())?;
    check(!log.contains("left-over process") && !log.contains("warning"), || log.clone())?;
    check(!log.contains(['\u{1b}', '\u{fffd}']) && !log.contains("^C"), || log.clone())
}

fn status() -> Result<Value> {
    Ok(serde_json::from_str(&sextant(&["get", "pod", "web", "-o", "json"])?)?)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// The process of the container, of which there is one.
fn pid() -> Result<i32> {
    let pids = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_it =
        |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words == b"probe\0sleep\0");
    let all: Vec<i32> = pids.filter(is_it).collect();
    check(all.len() == 1, || format!("processes of containers: {all:?}"))?;
    Ok(all[0])
}

fn sextant(words: &[&str]) -> Result<String> {
    let output = Command::new(program()?).args(words).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    check(output.status.success(), || {
        format!("{words:?}: {said}{}", String::from_utf8_lossy(&output.stderr))
    })?;
    Ok(said)
}
