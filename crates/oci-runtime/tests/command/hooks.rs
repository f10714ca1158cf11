//! Hooks of all kinds.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::{Outcome, Test, check};

pub(crate) const TESTS: &[Test] = &[
    ("hooks_run_in_their_order_with_the_state", order),
    ("container_hooks_run_in_its_namespaces", namespaces),
    ("a_failed_hook_before_the_start_ends_the_container", failed_create),
    ("a_failed_hook_at_the_start_ends_the_container", failed_start),
    ("a_failed_poststop_hook_is_a_warning", failed_stop),
    ("a_hook_that_takes_too_long_is_killed", timeouts),
    ("a_hook_sees_the_root_where_it_will_be", furnished),
];

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook that notes its kind, its environment and the state it is given.
fn note(bench: &Bench, kind: &str) -> Value {
    // That of startContainer is found and writes inside the container.
    let inside = kind == "startContainer";
    let log = if inside {
        "/tmp/log".to_owned()
    } else {
        bench.bundle().join("rootfs/tmp/log").display().to_string()
    };
    let shell = if inside { "/bin/sh" } else { "/bin/busybox" };
    // One write: the program writes there at the same time.
    let line = format!("state=$(/bin/busybox cat); echo \"{kind} $WHO $state\" >> {log}");
    json!({"path": shell, "args": ["sh", "-c", line], "env": [format!("WHO={kind}"), "PATH=/bin:/usr/bin"], "timeout": 10})
}

fn hooked(bench: &Bench, args: &[&str]) -> Value {
    let mut spec = bench.spec(args);
    for kind in KINDS {
        spec["hooks"][kind] = json!([note(bench, kind)]);
    }
    spec
}

fn log(bench: &Bench) -> Result<Vec<(String, Value)>, Box<dyn std::error::Error>> {
    let text = fs::read_to_string(bench.bundle().join("rootfs/tmp/log"))?;
    text.lines()
        .map(|line| {
            let (kind, rest) = line.split_once(' ').ok_or("no kind")?;
            let (who, state) = rest.split_once(' ').ok_or("no state")?;
            check(kind == who, || format!("the environment of {kind}: {who}"))?;
            Ok((kind.to_owned(), serde_json::from_str(state).map_err(|e| format!("{e}: {line}"))?))
        })
        .collect()
}

fn order(bench: &Bench) -> Outcome {
    bench.configure(&hooked(bench, &["/bin/sh", "-c", "echo program program {} >> /tmp/log"]));
    bench.run(&["create", &bench.id]).ok()?;
    let state = bench.run(&["state", &bench.id]).ok()?.json()?;
    bench.run(&["start", &bench.id]).ok()?;
    bench.until("it stops", || bench.status().is_ok_and(|s| s == "stopped"))?;
    bench.run(&["delete", &bench.id]).ok()?;
    let log = log(bench)?;
    let kinds: Vec<&str> = log.iter().map(|(kind, _)| kind.as_str()).filter(|k| *k != "program").collect();
    check(kinds == KINDS, || format!("{kinds:?}"))?;
    let statuses = ["created", "created", "created", "created", "running", "stopped"];
    let states = log.iter().filter(|(kind, _)| kind != "program");
    for ((kind, seen), status) in states.zip(statuses) {
        check(seen["status"] == status, || format!("{kind}: {seen}"))?;
        check(seen["id"] == bench.id.as_str() && seen["bundle"] == state["bundle"], || seen.to_string())?;
        check(seen["annotations"] == state["annotations"], || seen.to_string())?;
        check(kind == "poststop" || seen["pid"] == state["pid"], || format!("{kind}: {seen}"))?;
    }
    // The program runs after startContainer.
    let at = |wanted: &str| log.iter().position(|(kind, _)| kind == wanted);
    check(at("program") > at("startContainer"), || format!("{log:?}"))?;
    // The same in the foreground.
    fs::remove_file(bench.bundle().join("rootfs/tmp/log"))?;
    bench.run(&["run", &bench.id]).ok()?;
    let text = fs::read_to_string(bench.bundle().join("rootfs/tmp/log"))?;
    check(text.lines().count() == 7, || text)
}

fn namespaces(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&[
        "/bin/sh",
        "-c",
        "readlink /proc/self/ns/uts > /tmp/program; readlink /proc/self/ns/mnt >> /tmp/program",
    ]);
    let out = bench.bundle().join("rootfs/tmp");
    let line = |file: &str| {
        let link = |kind: &str| format!("/bin/busybox readlink /proc/self/ns/{kind} >> {file}");
        format!("{}; {}", link("uts"), link("mnt"))
    };
    let shell = |path: &str, line: String| json!([{"path": path, "args": ["sh", "-c", line]}]);
    spec["hooks"]["createRuntime"] = shell("/bin/busybox", line(&out.join("runtime").display().to_string()));
    spec["hooks"]["createContainer"] =
        shell("/bin/busybox", line(&out.join("container").display().to_string()));
    spec["hooks"]["startContainer"] = shell("/bin/sh", line("/tmp/start"));
    bench.configure(&spec);
    bench.run(&["run", &bench.id]).ok()?;
    let read = |name: &str| fs::read_to_string(out.join(name));
    let program = read("program")?;
    check(read("container")? == program && read("start")? == program, || "not the container's".into())?;
    check(read("runtime")? != program, || "not the runtime's".into())
}

fn failed_create(bench: &Bench) -> Outcome {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let mut spec = bench.spec(&["/bin/touch", "/tmp/ran"]);
        spec["hooks"][kind] = json!([
            {"path": "/bin/busybox", "args": ["true"]},
            {"path": "/bin/busybox", "args": ["sh", "-c", "echo the reason >&2; exit 3"]},
        ]);
        spec["hooks"]["poststop"] = json!([note(bench, "poststop")]);
        bench.configure(&spec);
        let done = bench.run(&["create", &bench.id]);
        check(done.code == 1, || format!("{kind}: it was created"))?;
        for part in [format!("hooks.{kind}[1] (/bin/busybox)"), "exit code 3".into(), "the reason".into()] {
            check(done.err.contains(&part), || format!("{part}: {}", done.err))?;
        }
        bench.nothing_is_left()?;
    }
    check(log(bench)?.len() == 3, || "no poststop hook ran".into())?;
    let mut spec = bench.spec(&["/bin/true"]);
    spec["hooks"]["createContainer"] = json!([{"path": "/no/such/hook"}]);
    bench.configure(&spec);
    let done = bench.run(&["run", &bench.id]);
    check(done.code == 1 && done.err.contains("exit code 127"), || done.err)
}

fn failed_start(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["/bin/touch", "/tmp/ran"]);
    spec["hooks"]["startContainer"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", "exit 4"]}]);
    bench.configure(&spec);
    bench.run(&["create", &bench.id]).ok()?;
    let done = bench.run(&["start", &bench.id]);
    check(done.code == 1 && done.err.contains("hooks.startContainer[0] (/bin/sh)"), || done.err.clone())?;
    check(bench.status()? == "stopped", || "not stopped".into())?;
    bench.run(&["delete", &bench.id]).ok()?;
    check(!bench.bundle().join("rootfs/tmp/ran").exists(), || "the program ran".into())?;
    let mut spec = bench.sleeper();
    spec["hooks"]["poststart"] = json!([{"path": "/bin/busybox", "args": ["false"]}]);
    bench.configure(&spec);
    bench.run(&["create", &bench.id]).ok()?;
    let done = bench.run(&["start", &bench.id]);
    check(done.code == 1 && done.err.contains("hooks.poststart[0]"), || done.err.clone())?;
    bench.until("it stops", || bench.status().is_ok_and(|s| s == "stopped"))?;
    bench.run(&["delete", &bench.id]).ok()?;
    let done = bench.run(&["run", &bench.id]);
    check(done.code == 1 && done.err.contains("hooks.poststart[0]"), || done.err.clone())
}

fn failed_stop(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["/bin/true"]);
    spec["hooks"]["poststop"] = json!([{"path": "/bin/busybox", "args": ["false"]}, note(bench, "poststop")]);
    bench.configure(&spec);
    let done = bench.run(&["run", &bench.id]);
    check(done.code == 0 && done.err.contains("hooks.poststop[0]"), || {
        format!("{} {}", done.code, done.err)
    })?;
    check(log(bench)?.len() == 1, || "the next hook did not run".into())
}

fn timeouts(bench: &Bench) -> Outcome {
    for kind in ["createRuntime", "createContainer", "startContainer"] {
        let mut spec = bench.spec(&["/bin/true"]);
        spec["hooks"][kind] = json!([{"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}]);
        if kind == "createRuntime" {
            spec["hooks"][kind] = json!([{"path": "/bin/busybox", "args": ["sleep", "100"], "timeout": 1}]);
        }
        bench.configure(&spec);
        let done = bench.run(&["run", &bench.id]);
        check(done.code == 1 && done.err.contains("timeout of 1 s"), || format!("{kind}: {}", done.err))?;
        bench.nothing_is_left()?;
    }
    Ok(())
}

/// Hooks that put devices or libraries into a container look for its mounts below the root's path.
fn furnished(bench: &Bench) -> Outcome {
    let root = bench.bundle().join("rootfs");
    let mut spec = bench.spec(&["/bin/ls", "/dev"]);
    let script = bench.path("hook");
    let text = format!(
        "#!/bin/sh\ncat > {root}/tmp/state\nexec touch {root}/dev/from-hook\n",
        root = root.display()
    );
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    spec["hooks"]["createContainer"] = json!([{"path": script, "env": ["PATH=/bin:/usr/bin"]}]);
    bench.configure(&spec);
    let done = bench.run(&["run", &bench.id]).ok()?;
    check(done.out.lines().any(|l| l == "from-hook"), || done.out)
}
