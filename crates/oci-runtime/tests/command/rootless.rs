//! As a user without rights, in a user namespace of its own.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use serde_json::json;

use crate::bench::Bench;
use crate::{Outcome, Test, check};

pub(crate) const TESTS: &[Test] =
    &[("a_user_runs_a_container", run), ("what_a_user_may_not_is_said", refused)];

/// Nobody.
const USER: u32 = 65534;

/// The command as that user, to whom all of the bench belongs.
fn as_user(bench: &Bench, args: &[&str]) -> Command {
    let mut command = bench.command();
    command.args(args).uid(USER).gid(USER);
    command
}

fn hand_over(bench: &Bench) -> Outcome {
    let top = bench.path("");
    std::fs::set_permissions(&top, std::fs::Permissions::from_mode(0o755))?;
    for dir in [top.clone(), bench.bundle(), bench.bundle().join("rootfs")] {
        std::os::unix::fs::chown(dir, Some(USER), Some(USER))?;
    }
    for name in ["dev", "proc", "tmp", "sys", "etc", "bin"] {
        std::os::unix::fs::chown(bench.bundle().join("rootfs").join(name), Some(USER), Some(USER))?;
    }
    // The program is this test, in a directory that may be root's alone.
    let program = bench.path("sextant-oci");
    std::fs::remove_file(&program)?;
    std::fs::copy("/proc/self/exe", &program)?;
    Ok(())
}

fn run(bench: &Bench) -> Outcome {
    hand_over(bench)?;
    let mut spec = bench.spec(&[
        "/bin/sh",
        "-c",
        "id -u; echo x > /dev/null && echo written; trap 'exit 7' TERM; sleep 100 & wait",
    ]);
    spec["linux"]["namespaces"] =
        json!([{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "user"}]);
    spec["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
    spec["linux"]["gidMappings"] = spec["linux"]["uidMappings"].clone();
    spec["linux"].as_object_mut().ok_or("linux")?.remove("resources");
    bench.configure(&spec);
    let log = bench.path("user.log").display().to_string();
    bench.run_command(&mut as_user(bench, &["--log", &log, "create", &bench.id])).ok()?;
    check(bench.status()? == "created", || "not created".into())?;
    bench.run_command(&mut as_user(bench, &["start", &bench.id])).ok()?;
    let done = bench.run_command(&mut as_user(
        bench,
        &["exec", &bench.id, "sh", "-c", "id -u; ls /proc | grep -c '^[0-9]'; exit 3"],
    ));
    check(done.code == 3 && done.out.starts_with("0\n"), || {
        format!("{} {} {}", done.code, done.out, done.err)
    })?;
    bench.run_command(&mut as_user(bench, &["kill", &bench.id, "KILL"])).ok()?;
    bench.until("it stops", || bench.status().is_ok_and(|s| s == "stopped"))?;
    bench.run_command(&mut as_user(bench, &["delete", &bench.id])).ok()?;
    spec["process"]["args"] = json!(["/bin/sh", "-c", "id -u; echo x > /dev/null && echo written; exit 5"]);
    bench.configure(&spec);
    let done = bench.run_command(&mut as_user(bench, &["run", &bench.id]));
    check((done.code, done.out.as_str()) == (5, "0\nwritten\n"), || {
        format!("{} {} {}", done.code, done.out, done.err)
    })
}

fn refused(bench: &Bench) -> Outcome {
    hand_over(bench)?;
    let done = bench.run_command(&mut as_user(bench, &["run", &bench.id]));
    check(done.code == 1 && done.err.contains("needs a user namespace"), || done.err)?;
    let mut spec = bench.spec(&["/bin/true"]);
    spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "user"}]);
    spec["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    spec["linux"]["gidMappings"] = spec["linux"]["uidMappings"].clone();
    bench.configure(&spec);
    let done = bench.run_command(&mut as_user(bench, &["run", &bench.id]));
    check(
        done.code == 1 && done.err.contains("linux.uidMappings") && done.err.contains("hostID 65534"),
        || done.err,
    )
}
