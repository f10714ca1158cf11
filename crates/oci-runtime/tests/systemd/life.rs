//! Containers in scopes of the machine's systemd.

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::bench::{Bench, Done};
use crate::{Outcome, Test, check, printed, show, units};

pub(crate) const TESTS: &[Test] = &[
    ("a_scope_has_the_container_for_its_life", life),
    ("nothing_that_systemd_does_later_changes_a_limit", reload),
    ("devices_are_those_of_the_rules", devices),
    ("where_no_path_is_given_it_is_in_system_slice", default_path),
    ("a_name_of_a_slice_is_that_slice", slice),
    ("annotations_are_properties", annotations),
    ("a_unit_that_failed_before_makes_room", left_over),
    ("a_unit_that_runs_is_left_alone", taken),
    ("systemds_own_words_are_passed_on", refused),
    ("without_the_bus_systemds_own_socket_does", direct),
    ("a_scope_that_was_deleted_without_systemd_goes", alone),
    ("a_killed_create_leaves_no_unit", killed_create),
    ("a_killed_delete_leaves_no_unit", killed_delete),
    ("a_container_that_ends_by_itself_leaves_no_unit", ends),
];

pub(crate) fn run(bench: &Bench, args: &[&str]) -> Done {
    let mut all = vec!["--systemd-cgroup"];
    all.extend(args);
    bench.run(&all)
}

fn unit(bench: &Bench) -> String {
    format!("bench-{}.scope", bench.id)
}

/// One that stays, in a slice of slices, with these resources.
fn configure(bench: &Bench, resources: &Value) {
    let mut spec = bench.sleeper();
    spec["linux"]["cgroupsPath"] = json!(format!("sxtest-a-b.slice:bench:{}", bench.id));
    for (key, value) in resources.as_object().into_iter().flatten() {
        spec["linux"]["resources"][key] = value.clone();
    }
    bench.configure(&spec);
}

fn limits() -> Value {
    json!({
        "memory": {"limit": 64 << 20, "reservation": 1 << 20, "swap": 80 << 20},
        "cpu": {"shares": 512, "quota": 12345, "period": 50000, "cpus": "0"},
        "pids": {"limit": 40},
    })
}

fn expect(unit: &str, properties: &[(&str, &str)]) -> Outcome {
    for (name, value) in properties {
        let found = show(unit, name)?;
        check(found == *value, || format!("{name} of {unit} is {found:?}, not {value:?}"))?;
    }
    Ok(())
}

fn cgroup(unit: &str) -> Result<kernel::cgroup::Cgroup, Box<dyn std::error::Error>> {
    Ok(kernel::cgroup::Cgroup::at(&PathBuf::from(show(unit, "ControlGroup")?))?)
}

/// Whether these are cgroups of v2 alone.
pub(crate) fn unified() -> bool {
    kernel::cgroup::layout().is_ok_and(|layout| layout == kernel::cgroup::Layout::Unified)
}

fn files(unit: &str, v2: &[(&str, &str)], v1: &[(&str, &str)]) -> Outcome {
    let cgroup = cgroup(unit)?;
    for (file, value) in if unified() { v2 } else { v1 } {
        let found = cgroup.read(file).unwrap_or_default();
        check(found.trim() == *value, || format!("{file} of {unit} is {found:?}, not {value:?}"))?;
    }
    Ok(())
}

const V2: &[(&str, &str)] = &[
    ("memory.max", "67108864"),
    ("memory.low", "1048576"),
    ("memory.swap.max", "16777216"),
    ("cpu.max", "12345 50000"),
    ("pids.max", "40"),
    ("cpuset.cpus", "0"),
];
/// What a kernel that has v1 still has.
const V1: &[(&str, &str)] = &[("cpu.shares", "512"), ("pids.max", "40")];

fn life(bench: &Bench) -> Outcome {
    configure(bench, &limits());
    run(bench, &["create", &bench.id]).ok()?;
    let unit = unit(bench);
    check(bench.status()? == "created", || "not created".into())?;
    expect(
        &unit,
        &[
            ("ActiveState", "active"),
            ("SubState", "running"),
            ("Slice", "sxtest-a-b.slice"),
            ("Delegate", "yes"),
            ("DefaultDependencies", "no"),
            ("MemoryAccounting", "yes"),
            ("TasksMax", "40"),
            ("CPUQuotaPerSecUSec", "250ms"),
            ("DevicePolicy", "strict"),
            ("ControlGroup", &format!("/sxtest.slice/sxtest-a.slice/sxtest-a-b.slice/{unit}")),
        ],
    )?;
    if unified() {
        expect(&unit, &[("MemoryMax", "67108864"), ("MemorySwapMax", "16777216"), ("AllowedCPUs", "0")])?;
    }
    files(&unit, V2, V1)?;
    let tree = printed(Command::new("systemd-cgls").args(["--no-pager", "--full"]))?;
    check(tree.contains(&unit), || tree)?;
    run(bench, &["start", &bench.id]).ok()?;
    let exec = run(bench, &["exec", &bench.id, "cat", "/proc/self/cgroup"]).ok()?;
    check(exec.out.lines().all(|line| line.ends_with(&unit)), || exec.out)?;
    run(bench, &["update", "--pids-limit", "33", "--memory", "32M", "--memory-swap", "64M", &bench.id])
        .ok()?;
    expect(&unit, &[("TasksMax", "33")])?;
    files(&unit, &[("memory.max", "33554432"), ("pids.max", "33")], &[("pids.max", "33")])?;
    run(bench, &["pause", &bench.id]).ok()?;
    check(bench.status()? == "paused", || "not paused".into())?;
    run(bench, &["resume", &bench.id]).ok()?;
    run(bench, &["kill", &bench.id, "TERM"]).ok()?;
    bench.until("it has stopped", || bench.status().is_ok_and(|status| status == "stopped"))?;
    run(bench, &["delete", &bench.id]).ok()?;
    let left = units(bench)?;
    check(left.is_empty(), || left)
}

/// systemd writes all of a unit's attributes anew when it reads its configuration, and when any property is set.
fn reload(bench: &Bench) -> Outcome {
    configure(bench, &limits());
    run(bench, &["create", &bench.id]).ok()?;
    let unit = unit(bench);
    printed(Command::new("systemctl").arg("daemon-reload"))?;
    printed(Command::new("systemctl").args(["set-property", "--runtime", &unit, "TasksMax=39"]))?;
    let changed = |file: &str| file != "pids.max";
    let v2: Vec<_> = V2.iter().copied().filter(|(file, _)| changed(file)).collect();
    let v1: Vec<_> = V1.iter().copied().filter(|(file, _)| changed(file)).collect();
    files(&unit, &[("pids.max", "39")], &[("pids.max", "39")])?;
    // Of the quota systemd keeps whole percents, upwards.
    let v2: Vec<_> = v2.into_iter().filter(|(file, _)| *file != "cpu.max").collect();
    files(&unit, &v2, &v1)?;
    run(bench, &["delete", "--force", &bench.id]).ok().map(drop)
}

/// The kernel asks systemd's rules and ours; neither may forbid what the configuration allows.
fn devices(bench: &Bench) -> Outcome {
    let deny = json!({"allow": false, "access": "rwm"});
    let kmsg = json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw"});
    configure(bench, &json!({"devices": [deny, kmsg]}));
    let config = bench.bundle().join("config.json");
    let mut spec: Value = serde_json::from_slice(&fs::read(&config)?)?;
    spec["linux"]["devices"] = json!([
        {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}, {"path": "/dev/mem", "type": "c", "major": 1, "minor": 1},
    ]);
    fs::write(&config, spec.to_string())?;
    run(bench, &["create", &bench.id]).ok()?;
    run(bench, &["start", &bench.id]).ok()?;
    let opens = |path: &str| {
        let script = format!(": >{path}");
        run(bench, &["exec", &bench.id, "sh", "-c", &script])
    };
    let each = |kmsg: bool, when: &str| -> Outcome {
        for (path, may) in [("/dev/null", true), ("/dev/kmsg", kmsg), ("/dev/mem", false)] {
            let done = opens(path);
            check((done.code == 0) == may, || format!("{when}: {path}: {}, {}", done.code, done.err))?;
        }
        Ok(())
    };
    each(true, "created")?;
    printed(Command::new("systemctl").arg("daemon-reload"))?;
    printed(Command::new("systemctl").args(["set-property", "--runtime", &unit(bench), "TasksMax=39"]))?;
    each(true, "reloaded")?;
    let file = bench.path("devices.json");
    fs::write(&file, json!({"devices": [deny]}).to_string())?;
    run(bench, &["update", "-r", &file.display().to_string(), &bench.id]).ok()?;
    each(false, "updated")?;
    fs::write(&file, json!({"devices": [deny, kmsg]}).to_string())?;
    run(bench, &["update", "-r", &file.display().to_string(), &bench.id]).ok()?;
    each(true, "updated back")?;
    // A list of what is denied is nothing for systemd.
    let mem = json!({"allow": false, "type": "c", "major": 1, "minor": 1, "access": "rwm"});
    fs::write(&file, json!({"devices": [{"allow": true, "access": "rwm"}, mem]}).to_string())?;
    run(bench, &["update", "-r", &file.display().to_string(), &bench.id]).ok()?;
    each(true, "denied one")?;
    run(bench, &["delete", "--force", &bench.id]).ok().map(drop)
}

fn default_path(bench: &Bench) -> Outcome {
    let mut spec = bench.sleeper();
    spec["linux"].as_object_mut().ok_or("linux")?.remove("cgroupsPath");
    bench.configure(&spec);
    run(bench, &["create", &bench.id]).ok()?;
    let unit = format!("sextant-oci-{}.scope", bench.id);
    expect(&unit, &[("Slice", "system.slice"), ("ControlGroup", &format!("/system.slice/{unit}"))])?;
    run(bench, &["delete", "--force", &bench.id]).ok()?;
    spec["linux"]["cgroupsPath"] = json!(format!("-:bench:{}", bench.id));
    bench.configure(&spec);
    run(bench, &["create", &bench.id]).ok()?;
    let unit = format!("bench-{}.scope", bench.id);
    expect(&unit, &[("Slice", "-.slice"), ("ControlGroup", &format!("/{unit}"))])?;
    run(bench, &["delete", "--force", &bench.id]).ok().map(drop)
}

fn slice(bench: &Bench) -> Outcome {
    let mut spec = bench.sleeper();
    let name = format!("sxtest-{}.slice", bench.id.replace('-', "_"));
    spec["linux"]["cgroupsPath"] = json!(format!("sxtest.slice:bench:{name}"));
    bench.configure(&spec);
    run(bench, &["create", &bench.id]).ok()?;
    run(bench, &["start", &bench.id]).ok()?;
    expect(&name, &[("ActiveState", "active"), ("ControlGroup", &format!("/sxtest.slice/{name}"))])?;
    let exec = run(bench, &["exec", &bench.id, "cat", "/proc/self/cgroup"]).ok()?;
    check(exec.out.lines().all(|line| line.ends_with(&name)), || exec.out)?;
    run(bench, &["delete", "--force", &bench.id]).ok()?;
    expect(&name, &[("ActiveState", "inactive")])
}

fn annotations(bench: &Bench) -> Outcome {
    let mut spec = bench.sleeper();
    spec["linux"]["cgroupsPath"] = json!(format!("sxtest.slice:bench:{}", bench.id));
    spec["annotations"]["org.systemd.property.TimeoutStopSec"] = json!("uint64 7");
    spec["annotations"]["org.systemd.property.CollectMode"] = json!("'inactive-or-failed'");
    spec["annotations"]["org.systemd.property.Description"] = json!("'a test'");
    bench.configure(&spec);
    run(bench, &["create", &bench.id]).ok()?;
    expect(
        &unit(bench),
        &[("TimeoutStopUSec", "7s"), ("CollectMode", "inactive-or-failed"), ("Description", "a test")],
    )?;
    run(bench, &["delete", "--force", &bench.id]).ok().map(drop)
}

fn left_over(bench: &Bench) -> Outcome {
    let unit = unit(bench);
    let name = format!("--unit={unit}");
    let _ = Command::new("systemd-run")
        .args(["--scope", "--quiet", &name, "--property=RuntimeMaxSec=50ms", "sleep", "100"])
        .output()?;
    bench.until("the unit has failed", || show(&unit, "ActiveState").is_ok_and(|state| state == "failed"))?;
    configure(bench, &json!({}));
    run(bench, &["create", &bench.id]).ok()?;
    expect(&unit, &[("ActiveState", "active")])?;
    run(bench, &["delete", "--force", &bench.id]).ok().map(drop)
}

fn taken(bench: &Bench) -> Outcome {
    configure(bench, &json!({}));
    run(bench, &["create", &bench.id]).ok()?;
    let other = Bench::new();
    fs::copy(bench.bundle().join("config.json"), other.bundle().join("config.json"))?;
    let done = run(&other, &["create", &other.id]);
    let part = format!("cannot start unit {}", unit(bench));
    check(done.code == 1 && done.err.contains(&part) && done.err.contains("UnitExists"), || done.err)?;
    check(bench.status()? == "created", || "it took away the first".into())?;
    other.nothing_is_left().or_else(|e| if e.to_string().contains("process") { Ok(()) } else { Err(e) })?;
    run(bench, &["delete", "--force", &bench.id]).ok().map(drop)
}

fn refused(bench: &Bench) -> Outcome {
    configure(bench, &json!({}));
    let config = bench.bundle().join("config.json");
    let mut spec: Value = serde_json::from_slice(&fs::read(&config)?)?;
    spec["annotations"]["org.systemd.property.NoSuchProperty"] = json!("true");
    fs::write(&config, spec.to_string())?;
    let done = run(bench, &["create", &bench.id]);
    check(done.code == 1 && done.err.contains("NoSuchProperty"), || done.err)
}

fn direct(bench: &Bench) -> Outcome {
    configure(bench, &limits());
    let command = |args: &[&str]| {
        let mut command = bench.command();
        command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/run/none").arg("--systemd-cgroup").args(args);
        bench.run_command(&mut command)
    };
    command(&["create", &bench.id]).ok()?;
    expect(&unit(bench), &[("ActiveState", "active"), ("TasksMax", "40")])?;
    command(&["update", "--pids-limit", "33", &bench.id]).ok()?;
    expect(&unit(bench), &[("TasksMax", "33")])?;
    command(&["delete", "--force", &bench.id]).ok().map(drop)
}

/// Neither the bus nor systemd's own socket is to be seen: the cgroup goes, and systemd lets go of the scope by itself.
fn alone(bench: &Bench) -> Outcome {
    configure(bench, &limits());
    run(bench, &["create", &bench.id]).ok()?;
    run(bench, &["start", &bench.id]).ok()?;
    let cgroup = cgroup(&unit(bench))?;
    let mut hidden = Command::new("unshare");
    hidden.args(["--mount", "sh", "-c", "mount -t tmpfs none /run/systemd && exec \"$0\" \"$@\""]);
    hidden.arg(bench.path("sextant-oci")).arg("--root").arg(bench.root());
    hidden.args(["delete", "--force", &bench.id]).env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/run/none");
    let done = bench.run_command(&mut hidden).ok()?;
    check(done.err.contains("/run/systemd/private"), || done.err)?;
    check(!cgroup.exists(), || format!("{} is left", cgroup.path().display()))
}

/// How often each command is killed; `SEXTANT_OCI_KILLS` says otherwise.
fn rounds() -> u32 {
    std::env::var("SEXTANT_OCI_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(16)
}

fn killed(bench: &Bench, args: &[&str], before: impl Fn() -> Outcome) -> Outcome {
    configure(bench, &limits());
    before()?;
    let begun = std::time::Instant::now();
    run(bench, args).ok()?;
    let whole = begun.elapsed();
    run(bench, &["delete", "--force", &bench.id]).ok()?;
    for round in 0..rounds() {
        before()?;
        let mut command = bench.command();
        command.arg("--systemd-cgroup").args(args).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let part = f64::from(round * 7 % rounds()) / f64::from(rounds());
        std::thread::sleep(whole.mul_f64(part * 1.1));
        kernel::process::signal(kernel::process::pidfd(child.id() as i32)?.as_fd(), 9)?;
        child.wait()?;
        run(bench, &["delete", "--force", &bench.id]).ok()?;
        crate::no_unit_is_left(bench).map_err(|e| format!("{args:?} killed after {part:.2}: {e}"))?;
        bench.nothing_is_left().map_err(|e| format!("{args:?} killed after {part:.2}: {e}"))?;
    }
    Ok(())
}

fn killed_create(bench: &Bench) -> Outcome {
    killed(bench, &["create", &bench.id], || Ok(()))
}

fn killed_delete(bench: &Bench) -> Outcome {
    killed(bench, &["delete", "--force", &bench.id], || run(bench, &["create", &bench.id]).ok().map(drop))
}

fn ends(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["/bin/true"]);
    spec["linux"]["cgroupsPath"] = json!(format!("sxtest.slice:bench:{}", bench.id));
    bench.configure(&spec);
    run(bench, &["run", &bench.id]).ok()?;
    crate::no_unit_is_left(bench)?;
    run(bench, &["create", &bench.id]).ok()?;
    run(bench, &["start", &bench.id]).ok()?;
    bench.until("it has stopped", || bench.status().is_ok_and(|status| status == "stopped"))?;
    run(bench, &["delete", &bench.id]).ok().map(drop)
}
