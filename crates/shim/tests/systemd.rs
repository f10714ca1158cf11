//! A pod whose containers are scopes of systemd, which must be the machine's first process: `cargo xtask vm --systemd`.

#[path = "rig/mod.rs"]
mod rig;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use serde_json::json;
use shim::client::Client;
use shim::protocol::{CreateRequest, Rootfs, SandboxRequest, StopRequest, UpdateRequest};
use testkit::bare::{self, Outcome, check};

const TESTS: &[bare::Test<()>] = &[
    ("a_container_is_a_scope_for_its_life", life),
    ("a_container_that_cannot_be_made_leaves_no_unit", failed),
];

fn main() -> ExitCode {
    if !Path::new("/run/systemd/system").is_dir() {
        println!("systemd is not this machine's init: run cargo xtask vm --systemd\n\n0 passed, 1 failed");
        return ExitCode::FAILURE;
    }
    bare::run(&[TESTS], |_, test| test(&()))
}

/// A property of a unit, as systemd shows it.
fn show(unit: &str, property: &str) -> Result<String, Box<dyn std::error::Error>> {
    let output =
        Command::new("systemctl").args(["show", "--value", "--property", property, unit]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn pod(dir: &Path) -> Result<Client, Box<dyn std::error::Error>> {
    let (_, mut client) = rig::spawn(dir);
    let directory = dir.display().to_string();
    client.sandbox(&SandboxRequest {
        id: "pod".into(),
        directory,
        ipc: true,
        uts: true,
        ..Default::default()
    })?;
    Ok(client)
}

fn request(
    dir: &Path,
    id: &str,
    args: &serde_json::Value,
) -> Result<CreateRequest, Box<dyn std::error::Error>> {
    let bundle = dir.join(id);
    for name in ["upper", "work"] {
        fs::create_dir_all(bundle.join(name))?;
    }
    let mut config = rig::config("", Path::new(&format!("sxshim-pod.slice:sextant:{id}")));
    config["process"]["args"] = args.clone();
    config["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 40}});
    fs::write(bundle.join("config.json"), config.to_string())?;
    let text = |name: &str| bundle.join(name).display().to_string();
    let rootfs =
        Rootfs { lower: vec!["/".into()], upper: text("upper"), work: text("work"), ..Rootfs::default() };
    Ok(CreateRequest { id: id.into(), bundle: text(""), rootfs: Some(rootfs), ..CreateRequest::default() })
}

fn life((): &()) -> Outcome {
    let dir = tempfile::Builder::new().tempdir_in("/dev/shm")?;
    let mut client = pod(dir.path())?;
    let unit = "sextant-life.scope";
    let made = client.create(&request(dir.path(), "life", &json!(["/bin/sleep", "3600"]))?)?;
    check(made.cgroup == "sxshim.slice/sxshim-pod.slice/sextant-life.scope", || made.cgroup.clone())?;
    client.start("life")?;
    check(show(unit, "ActiveState")? == "active", || "the scope is not active".into())?;
    check(show(unit, "TasksMax")? == "40", || show(unit, "TasksMax").unwrap_or_default())?;
    check(client.pids("life")?.len() == 1, || "not one process".into())?;
    let resources = json!({"pids": {"limit": 50}}).to_string().into_bytes();
    client.update(&UpdateRequest { container: "life".into(), resources })?;
    check(show(unit, "TasksMax")? == "50", || show(unit, "TasksMax").unwrap_or_default())?;
    client.stop(&StopRequest { container: "life".into(), signal: 9, timeout: 0 })?;
    client.delete("life")?;
    check(show(unit, "ActiveState")? == "inactive", || "the scope is there still".into())?;
    Ok(client.shutdown()?)
}

fn failed((): &()) -> Outcome {
    let dir = tempfile::Builder::new().tempdir_in("/dev/shm")?;
    let mut client = pod(dir.path())?;
    let mut request = request(dir.path(), "failed", &json!(["/bin/sleep", "3600"]))?;
    let config = dir.path().join("failed/config.json");
    let text = fs::read_to_string(&config)?.replace("\"/dev/pts\"", "\"/dev/null/pts\"");
    fs::write(&config, text)?;
    let error = client.create(&request).err().ok_or("it was made")?;
    check(error.to_string().contains("/dev/null"), || error.to_string())?;
    check(show("sextant-failed.scope", "ActiveState")? == "inactive", || "a scope is left".into())?;
    // The same again, as it should be.
    request = self::request(dir.path(), "failed", &json!(["/bin/true"]))?;
    client.create(&request)?;
    client.start("failed")?;
    check(client.wait("failed", "")?.code == 0, || "it failed".into())?;
    client.delete("failed")?;
    Ok(client.shutdown()?)
}
