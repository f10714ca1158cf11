//! As a user, with the user's own systemd.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

use serde_json::json;

use crate::bench::{Bench, Done};
use crate::{Outcome, Test, check, printed};

pub(crate) const TESTS: &[Test] = &[
    ("a_users_container_is_a_scope_of_the_users_systemd", life),
    ("without_a_users_systemd_it_is_said", none),
];

const USER: u32 = 12345;
const NAME: &str = "sxtest";

fn as_user(bench: &Bench, bus: bool, args: &[&str]) -> Done {
    let mut command = bench.command();
    command.arg("--systemd-cgroup").args(args).uid(USER).gid(USER);
    command.env_remove("DBUS_SESSION_BUS_ADDRESS").env("XDG_RUNTIME_DIR", format!("/run/user/{USER}"));
    if !bus {
        // The address of none: what is left is the socket of the user's systemd.
        command.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/run/none");
    }
    bench.run_command(&mut command)
}

fn user_show(unit: &str, property: &str) -> Result<String, Box<dyn std::error::Error>> {
    let mut command = Command::new("systemctl");
    command.args(["--user", "show", "--value", "--property", property, unit]).uid(USER).gid(USER);
    printed(command.env("XDG_RUNTIME_DIR", format!("/run/user/{USER}")))
}

fn hand_over(bench: &Bench) -> Outcome {
    std::fs::set_permissions(bench.path(""), std::fs::Permissions::from_mode(0o755))?;
    let root = bench.bundle().join("rootfs");
    let below = std::fs::read_dir(&root)?.flatten().map(|entry| entry.path());
    for path in below.chain([bench.path(""), bench.bundle(), root.clone()]) {
        chown(path, Some(USER), Some(USER))?;
    }
    let program = bench.path("sextant-oci");
    std::fs::remove_file(&program)?;
    std::fs::copy("/proc/self/exe", &program)?;
    let mut spec = bench.sleeper();
    spec["linux"]["cgroupsPath"] = json!(format!("user.slice:bench:{}", bench.id));
    spec["linux"]["namespaces"] =
        json!([{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "user"}]);
    spec["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
    spec["linux"]["gidMappings"] = spec["linux"]["uidMappings"].clone();
    spec["linux"]["resources"]["pids"] = json!({"limit": 40});
    bench.configure(&spec);
    Ok(())
}

fn life(bench: &Bench) -> Outcome {
    let uid = USER.to_string();
    let added =
        Command::new("useradd").args(["--uid", &uid, "--user-group", "--create-home", NAME]).output()?;
    check(added.status.success(), || String::from_utf8_lossy(&added.stderr).into_owned())?;
    let service = format!("user@{USER}.service");
    printed(Command::new("systemctl").args(["start", &service]))?;
    let outcome = lives(bench);
    printed(Command::new("systemctl").args(["stop", &service]))?;
    printed(Command::new("userdel").args(["--remove", NAME]))?;
    outcome
}

fn lives(bench: &Bench) -> Outcome {
    hand_over(bench)?;
    let unit = format!("bench-{}.scope", bench.id);
    if !crate::life::unified() {
        // Hierarchies of v1 are delegated to nobody.
        let done = as_user(bench, true, &["create", &bench.id]);
        return check(done.code == 1 && done.err.contains("cannot create cgroup"), || done.err);
    }
    for bus in [true, false] {
        as_user(bench, bus, &["create", &bench.id]).ok()?;
        let place = user_show(&unit, "ControlGroup")?;
        let below = format!("/user.slice/user-{USER}.slice/user@{USER}.service/user.slice/{unit}");
        check(place == below, || format!("it is at {place:?}"))?;
        check(user_show(&unit, "TasksMax")? == "40", || "TasksMax".into())?;
        let pids = std::fs::read_to_string(format!("/sys/fs/cgroup{place}/pids.max"))?;
        check(pids.trim() == "40", || format!("pids.max is {pids:?}"))?;
        as_user(bench, bus, &["start", &bench.id]).ok()?;
        // This process is in a service of the machine's: the user's systemd must move what it starts.
        let exec = as_user(bench, bus, &["exec", &bench.id, "cat", "/proc/self/cgroup"]).ok()?;
        check(exec.out.trim().ends_with(&unit), || exec.out)?;
        as_user(bench, bus, &["update", "--pids-limit", "33", &bench.id]).ok()?;
        check(user_show(&unit, "TasksMax")? == "33", || "TasksMax after update".into())?;
        as_user(bench, bus, &["delete", "--force", &bench.id]).ok()?;
        check(user_show(&unit, "LoadState")? == "not-found", || "the unit is left".into())?;
    }
    Ok(())
}

fn none(bench: &Bench) -> Outcome {
    hand_over(bench)?;
    let done = as_user(bench, true, &["create", &bench.id]);
    let parts = [format!("/run/user/{USER}/bus"), "enable-linger".into()];
    check(done.code == 1 && parts.iter().all(|part| done.err.contains(part)), || done.err)
}
