//! create, start, state, kill, delete, run, list, ps, pause, resume.

use std::fs;
use std::process::Stdio;

use serde_json::json;

use crate::bench::Bench;
use crate::{Outcome, Test, check};

pub(crate) const TESTS: &[Test] = &[
    ("run_returns_the_exit_code", run),
    ("a_life_in_its_stages", stages),
    ("options_stand_before_and_after_the_id", orders),
    ("run_detached_leaves_it_running", detached),
    ("run_keeps_its_record_if_asked", kept),
    ("a_short_program_is_not_missed", short),
    ("signals_go_to_the_container", signals),
    ("a_container_that_waits_for_its_start_is_ended_by_term", term_before_start),
    ("kill_reaches_what_a_first_process_without_a_pid_namespace_left", left_behind),
    ("a_named_root_must_be_there_to_be_listed", missing_root),
    ("without_a_pid_namespace_all_processes_go", shared_pids),
    ("a_failed_create_leaves_nothing", failed_create),
    ("a_container_is_made_once", twice),
    ("a_missing_program_is_named", missing_program),
    ("processes_are_listed", processes),
    ("pause_and_resume", pause),
    ("a_file_with_the_number", pid_file),
    ("without_a_process_it_can_be_created_and_not_started", no_process),
    ("the_runtimes_file_cannot_be_written_from_inside_cve_2019_5736", own_file),
    ("a_start_that_was_killed_is_seen_through", killed_start),
    ("what_was_just_killed_is_deleted_without_force", killed_and_deleted),
    ("without_a_mount_namespace_its_mounts_go_with_it", shared_mounts),
];

fn term_before_start(bench: &Bench) -> Outcome {
    bench.configure(&bench.sleeper());
    for signal in ["TERM", "INT", "HUP", "QUIT"] {
        bench.run(&["create", &bench.id]).ok()?;
        bench.run(&["kill", &bench.id, "0"]).ok()?;
        bench.run(&["kill", &bench.id, signal]).ok()?;
        bench.until("it ends", || bench.status().is_ok_and(|status| status == "stopped"))?;
        let gone = bench.run(&["kill", &bench.id, "0"]);
        check(gone.code == 1 && gone.err.contains("container not running"), || gone.err)?;
        bench.run(&["kill", "--all", &bench.id, "0"]).ok()?;
        bench.run(&["delete", &bench.id]).ok()?;
    }
    // The program itself is reached by them again.
    bench.start_sleeper()?;
    let status = bench.run(&["exec", &bench.id, "cat", "/proc/1/status"]).ok()?.out;
    let blocked = status.lines().find(|line| line.starts_with("SigBlk")).unwrap_or_default().to_owned();
    check(blocked.ends_with("0000000000000000"), || blocked)?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}

fn left_behind(bench: &Bench) -> Outcome {
    let mut spec = bench.sleeper();
    spec["linux"]["namespaces"].as_array_mut().ok_or("no namespaces")?.retain(|n| n["type"] != "pid");
    bench.configure(&spec);
    bench.run(&["run", "-d", &bench.id]).ok()?;
    bench.run(&["exec", "-d", &bench.id, "sleep", "100"]).ok()?;
    let pid = bench.run(&["state", &bench.id]).ok()?.json()?["pid"].as_i64().ok_or("no pid")?;
    let pidfd = kernel::process::pidfd(i32::try_from(pid)?)?;
    kernel::process::signal(std::os::fd::AsFd::as_fd(&pidfd), 9)?;
    bench.until("it is stopped", || bench.status().is_ok_and(|status| status == "stopped"))?;
    let left = bench.run(&["ps", "-f", "json", &bench.id]).ok()?.json()?;
    check(left.as_array().is_some_and(|pids| !pids.is_empty()), || "nobody is left".into())?;
    bench.run(&["kill", &bench.id, "KILL"]).ok()?;
    let left = bench.run(&["ps", "-f", "json", &bench.id]).ok()?.json()?;
    check(left == json!([]), || left.to_string())?;
    let again = bench.run(&["kill", &bench.id, "KILL"]);
    check(again.code == 1 && again.err.contains("container not running"), || again.err)?;
    bench.run(&["delete", &bench.id]).ok()?;
    Ok(())
}

fn missing_root(bench: &Bench) -> Outcome {
    let missing = bench.path("not-there").display().to_string();
    let mut command = std::process::Command::new(bench.path("sextant-oci"));
    let done = bench.run_command(command.args(["--root", &missing, "list"]));
    check(done.code == 1 && done.err.contains("not-there"), || done.err)
}

fn killed_and_deleted(bench: &Bench) -> Outcome {
    for _ in 0..5 {
        bench.start_sleeper()?;
        bench.run(&["kill", &bench.id, "KILL"]).ok()?;
        bench.run(&["delete", &bench.id]).ok()?;
    }
    Ok(())
}

fn shared_mounts(bench: &Bench) -> Outcome {
    let below = |bench: &Bench| {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let rootfs = bench.bundle().join("rootfs").display().to_string();
        table.lines().filter(|line| line.split(' ').nth(4).is_some_and(|at| at.starts_with(&rootfs))).count()
    };
    let mut spec = bench.sleeper();
    let namespaces = spec["linux"]["namespaces"].as_array_mut().ok_or("no namespaces")?;
    namespaces.retain(|namespace| namespace["type"] != "mount");
    bench.configure(&spec);
    let before = below(bench);
    for ending in ["delete", "killed"] {
        bench.run(&["create", &bench.id]).ok()?;
        check(below(bench) > before, || "nothing is mounted in the host's namespace".into())?;
        bench.run(&["start", &bench.id]).ok()?;
        let seen = bench.run(&["exec", &bench.id, "/bin/sh", "-c", "ls -d /proc/self /bin/busybox"]).ok()?;
        check(seen.out.contains("/bin/busybox"), || format!("{:?} {:?}", seen.out, seen.err))?;
        if ending == "killed" {
            bench.run(&["kill", &bench.id, "KILL"]).ok()?;
        }
        bench.run(&["delete", "--force", &bench.id]).ok()?;
        check(below(bench) == before, || format!("{ending}: mounts are left"))?;
    }
    // A container that does not come to be leaves none either.
    spec["linux"]["maskedPaths"] = json!(["/proc/keys"]);
    spec["mounts"].as_array_mut().ok_or("no mounts")?.push(json!({
        "destination": "/x", "type": "tmpfs", "source": "x", "options": ["no_such_option=1"]
    }));
    bench.configure(&spec);
    let failed = bench.run(&["create", &bench.id]);
    check(failed.code == 1, || failed.err.clone())?;
    check(below(bench) == before, || "a failed create leaves mounts".into())
}

fn run(bench: &Bench) -> Outcome {
    bench.configure(&bench.spec(&["/bin/sh", "-c", "echo out; echo err >&2; exit 3"]));
    let done = bench.run(&["run", &bench.id]);
    check((done.code, done.out.as_str(), done.err.as_str()) == (3, "out\n", "err\n"), || {
        format!("{} {:?} {:?}", done.code, done.out, done.err)
    })?;
    bench.configure(&bench.spec(&["/bin/sh", "-c", "kill -KILL $$"]));
    // The first process of a PID namespace is immune to its own signals: the shell ends by itself.
    bench.configure(&bench.spec(&["/bin/sh", "-c", "sh -c 'kill -KILL $$'; exit $?"]));
    let done = bench.run(&["run", &bench.id]);
    check(done.code == 137, || format!("{} {}", done.code, done.err))
}

fn stages(bench: &Bench) -> Outcome {
    bench.configure(&bench.sleeper());
    bench.run(&["create", &bench.id]).ok()?;
    let state = bench.run(&["state", &bench.id]).ok()?.json()?;
    check(state["status"] == "created" && state["id"] == bench.id.as_str(), || state.to_string())?;
    check(state["bundle"] == bench.bundle().display().to_string(), || state.to_string())?;
    check(state["ociVersion"] == "1.3.0" && state["owner"] == "root", || state.to_string())?;
    check(state["annotations"]["org.example.bench"] == bench.id.as_str(), || state.to_string())?;
    check(state["rootfs"] == bench.bundle().join("rootfs").display().to_string(), || state.to_string())?;
    check(state["created"].as_str().is_some_and(|t| t.ends_with('Z')), || state.to_string())?;
    let pid = state["pid"].as_i64().unwrap_or(0);
    check(fs::metadata(format!("/proc/{pid}")).is_ok(), || format!("no process {pid}"))?;
    bench.run(&["start", &bench.id]).ok()?;
    check(bench.status()? == "running", || "not running".into())?;
    let again = bench.run(&["start", &bench.id]);
    check(again.code == 1 && again.err.contains("already running"), || again.err)?;
    let early = bench.run(&["delete", &bench.id]);
    check(early.code == 1 && early.err.contains("not stopped"), || early.err)?;
    // The trap is set when the shell has its child; the first process of a namespace takes no signal without.
    bench.until("two run", || bench.processes().len() == 2)?;
    bench.run(&["kill", &bench.id, "SIGTERM"]).ok()?;
    bench.until("it stops", || bench.status().is_ok_and(|s| s == "stopped"))?;
    let state = bench.run(&["state", &bench.id]).ok()?.json()?;
    check(state["pid"] == 0, || state.to_string())?;
    let dead = bench.run(&["kill", &bench.id, "TERM"]);
    check(dead.code == 1 && dead.err.contains("container not running"), || dead.err)?;
    let dead = bench.run(&["exec", &bench.id, "/bin/true"]);
    check(dead.code == 255 && dead.err.contains("stopped container"), || dead.err)?;
    bench.run(&["delete", &bench.id]).ok()?;
    for args in [["state", &bench.id], ["delete", &bench.id], ["start", &bench.id], ["kill", &bench.id]] {
        let gone = bench.run(&args);
        check(gone.code == 1 && gone.err.contains("does not exist"), || gone.err)?;
    }
    bench.run(&["delete", "--force", &bench.id]).ok()?;
    Ok(())
}

fn orders(bench: &Bench) -> Outcome {
    let bundle = bench.bundle().display().to_string();
    for args in [
        vec!["run", "--bundle", &bundle, &bench.id],
        vec!["run", &bench.id, "--bundle", &bundle],
        vec!["run", &bench.id, "-b", &bundle, "--no-pivot"],
        vec!["run", "--bundle=/nowhere", &bench.id, &*format!("--bundle={bundle}")],
    ] {
        let done = bench.run_command(bench.command().current_dir("/").args(&args));
        check(done.code == 0, || format!("{args:?}: {}", done.err))?;
    }
    Ok(())
}

fn detached(bench: &Bench) -> Outcome {
    bench.configure(&bench.sleeper());
    bench.run(&["run", "-d", &bench.id]).ok()?;
    check(bench.status()? == "running", || "not running".into())?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}

fn kept(bench: &Bench) -> Outcome {
    bench.run(&["run", "--keep", &bench.id]).ok()?;
    check(bench.status()? == "stopped", || "not stopped".into())?;
    bench.run(&["delete", &bench.id]).ok()?;
    Ok(())
}

/// A runtime that blocks signals after the start, and waits for SIGCHLD, never hears of a program that ended before.
fn short(bench: &Bench) -> Outcome {
    (0..30).try_for_each(|_| bench.run(&["run", &bench.id]).ok().map(drop))
}

fn signals(bench: &Bench) -> Outcome {
    bench.configure(&bench.sleeper());
    let mut child = bench.command().args(["run", &bench.id]).stdout(Stdio::null()).spawn()?;
    // The trap is set when the shell has its child.
    bench.until("it runs", || {
        bench
            .run(&["ps", "-f", "json", &bench.id])
            .json()
            .is_ok_and(|p| p.as_array().is_some_and(|p| p.len() == 2))
    })?;
    let pidfd = kernel::process::pidfd(child.id() as i32)?;
    kernel::process::signal(std::os::fd::AsFd::as_fd(&pidfd), 15)?;
    let status = child.wait()?;
    check(status.code() == Some(7), || format!("{status:?}"))
}

fn shared_pids(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["/bin/sh", "-c", &format!(": {}; sleep 100 & sleep 100 & exit 4", bench.id)]);
    let shared = json!([{"type": "mount"}, {"type": "ipc"}]);
    spec["linux"]["namespaces"] = shared.clone();
    bench.configure(&spec);
    let done = bench.run(&["run", &bench.id]);
    check(done.code == 4, || format!("{} {}", done.code, done.err))?;
    bench.nothing_is_left()?;
    let mut spec = bench.sleeper();
    spec["linux"]["namespaces"] = shared;
    bench.configure(&spec);
    bench.run(&["run", "-d", &bench.id]).ok()?;
    bench.until("two run", || bench.processes().len() == 2)?;
    bench.run(&["kill", "--all", &bench.id, "9"]).ok()?;
    bench.until("both end", || bench.processes().is_empty())?;
    bench.run(&["delete", &bench.id]).ok()?;
    Ok(())
}

fn failed_create(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["/bin/true"]);
    spec["mounts"].as_array_mut().ok_or("mounts")?.push(json!(
        {"destination": "/x", "type": "nosuchfs", "source": "none"}
    ));
    bench.configure(&spec);
    let done = bench.run(&["create", &bench.id]);
    check(done.code == 1 && done.err.contains("nosuchfs on /x"), || done.err)?;
    bench.nothing_is_left()?;
    fs::write(bench.bundle().join("config.json"), "{\"ociVersion\": 1}")?;
    let done = bench.run(&["create", &bench.id]);
    check(done.code == 1 && done.err.contains("ociVersion"), || done.err)?;
    bench.nothing_is_left()?;
    fs::remove_file(bench.bundle().join("config.json"))?;
    let done = bench.run(&["run", &bench.id]);
    check(done.code == 1 && done.err.contains("config.json"), || done.err)
}

fn twice(bench: &Bench) -> Outcome {
    bench.configure(&bench.sleeper());
    bench.run(&["create", &bench.id]).ok()?;
    let again = bench.run(&["create", &bench.id]);
    check(again.code == 1 && again.err.contains("already exists"), || again.err)?;
    check(bench.status()? == "created", || "the first suffered".into())?;
    // One that was not started may be deleted as it is.
    bench.run(&["delete", &bench.id]).ok()?;
    for bad in ["../x", "a/b", ""] {
        let done = bench.run(&["create", bad]);
        check(done.code == 1 && done.err.contains("invalid id format"), || done.err)?;
    }
    Ok(())
}

fn missing_program(bench: &Bench) -> Outcome {
    bench.configure(&bench.spec(&["no-such-program"]));
    for command in ["create", "run"] {
        let done = bench.run(&[command, &bench.id]);
        check(done.code == 1 && done.err.contains("\"no-such-program\""), || done.err.clone())?;
        // Callers look for these words.
        check(done.err.contains("executable file not found in $PATH"), || done.err)?;
        bench.nothing_is_left()?;
    }
    fs::write(bench.bundle().join("rootfs/bin/no-program"), "text")?;
    bench.configure(&bench.spec(&["no-program"]));
    let done = bench.run(&["create", &bench.id]);
    check(done.code == 1 && done.err.to_lowercase().contains("permission denied"), || done.err)?;
    // One that goes meanwhile fails the start.
    let program = bench.bundle().join("rootfs/bin/goes");
    std::os::unix::fs::symlink("busybox", &program)?;
    bench.configure(&bench.spec(&["goes"]));
    bench.run(&["create", &bench.id]).ok()?;
    fs::remove_file(program)?;
    let done = bench.run(&["start", &bench.id]);
    check(done.code == 1 && done.err.contains("\"goes\""), || done.err)?;
    check(bench.status()? == "stopped", || "not stopped".into())?;
    bench.run(&["delete", &bench.id]).ok()?;
    Ok(())
}

fn processes(bench: &Bench) -> Outcome {
    bench.start_sleeper()?;
    bench.until("two run", || bench.processes().len() == 2)?;
    let pids = bench.run(&["ps", "--format", "json", &bench.id]).ok()?.json()?;
    let ours: Vec<i32> = bench.processes().iter().map(|(pid, _)| *pid).collect();
    check(pids == json!(ours), || format!("{pids} {ours:?}"))?;
    let table = bench.run(&["ps", &bench.id, "-ef"]).ok()?.out;
    check(table.starts_with("UID") && table.lines().count() == 3 && table.contains("sleep 100"), || table)?;
    let table = bench.run(&["ps", &bench.id, "-o", "pid,comm"]).ok()?.out;
    check(table.lines().next().is_some_and(|l| l.split_whitespace().eq(["PID", "COMM"])), || table)?;
    let table = bench.run(&["ps", &bench.id]).ok()?.out;
    check(table.lines().nth(1).is_some_and(|line| line.starts_with("root ")), || table)?;
    let table = bench.run(&["ps", &bench.id, "-e", "-x"]).ok()?.out;
    check(
        table.lines().next().is_some_and(|l| {
            l.starts_with(' ') && l.split_whitespace().eq(["PID", "TTY", "STAT", "TIME", "COMMAND"])
        }),
        || table,
    )?;
    let list = bench.run(&["list", "--format", "json"]).ok()?;
    let order = ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "annotations", "owner"];
    let places: Vec<_> = order.iter().map(|key| list.out.find(&format!("\"{key}\":"))).collect();
    check(places.is_sorted() && places[0].is_some(), || list.out.clone())?;
    let list = list.json()?;
    check(list[0]["id"] == bench.id.as_str() && list[0]["status"] == "running", || list.to_string())?;
    let quiet = bench.run(&["list", "-q"]).ok()?.out;
    check(quiet.trim() == bench.id, || quiet)?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    let list = bench.run(&["list", "-f", "json"]).ok()?.out;
    check(list.trim() == "[]", || list)
}

fn pause(bench: &Bench) -> Outcome {
    bench.start_sleeper()?;
    bench.run(&["pause", &bench.id]).ok()?;
    check(bench.status()? == "paused", || "not paused".into())?;
    let refused = bench.run(&["exec", &bench.id, "/bin/true"]);
    check(refused.code == 255 && refused.err.contains("paused"), || refused.err)?;
    let again = bench.run(&["pause", &bench.id]);
    check(again.code == 1, || "paused twice".into())?;
    bench.run(&["resume", &bench.id]).ok()?;
    check(bench.status()? == "running", || "not running".into())?;
    let again = bench.run(&["resume", &bench.id]);
    check(again.code == 1 && again.err.contains("not paused"), || again.err)?;
    bench.run(&["pause", &bench.id]).ok()?;
    // The freezer holds even the killed.
    bench.run(&["kill", &bench.id, "KILL"]).ok()?;
    bench.until("it ends", || bench.status().is_ok_and(|s| s == "stopped"))?;
    bench.run(&["delete", &bench.id]).ok()?;
    bench.start_sleeper()?;
    bench.run(&["pause", &bench.id]).ok()?;
    bench.run(&["delete", "--force", &bench.id]).ok()?;
    Ok(())
}

fn pid_file(bench: &Bench) -> Outcome {
    bench.configure(&bench.sleeper());
    let file = bench.path("pid").display().to_string();
    bench.run(&["create", "--pid-file", &file, &bench.id]).ok()?;
    let state = bench.run(&["state", &bench.id]).ok()?.json()?;
    check(state["pid"].as_i64() == fs::read_to_string(&file)?.parse().ok(), || state.to_string())?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}

fn no_process(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&[]);
    spec.as_object_mut().ok_or("no object")?.remove("process");
    bench.configure(&spec);
    bench.run(&["create", &bench.id]).ok()?;
    let done = bench.run(&["start", &bench.id]);
    check(done.code == 1, || "it started".into())?;
    bench.run(&["delete", "--force", &bench.id]).ok()?;
    Ok(())
}

fn own_file(bench: &Bench) -> Outcome {
    use std::os::fd::AsRawFd;
    bench.configure(&bench.sleeper());
    // A copy: this test's own file cannot be written while it runs.
    let copy = bench.path("copy");
    fs::create_dir(&copy)?;
    let copy = copy.join("sextant-oci");
    fs::copy("/proc/self/exe", &copy)?;
    let mut command = std::process::Command::new(&copy);
    command.arg("--root").arg(bench.root()).current_dir(bench.bundle());
    bench.run_command(command.args(["create", &bench.id])).ok()?;
    let pid = bench.run(&["state", &bench.id]).ok()?.json()?["pid"].to_string();
    // What a container would get hold of, and open once nothing executes it any more: with all rights there are.
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let held = rustix::fs::open(format!("/proc/{pid}/exe"), flags, rustix::fs::Mode::empty())?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    let again = format!("/proc/self/fd/{}", held.as_raw_fd());
    let error =
        fs::OpenOptions::new().write(true).open(again).err().ok_or("the runtime's file can be written")?;
    check(error.kind() == std::io::ErrorKind::ReadOnlyFilesystem, || error.to_string())?;
    fs::OpenOptions::new().write(true).open(&copy)?;
    Ok(())
}

/// Killed between exec and the removal of the socket.
fn killed_start(bench: &Bench) -> Outcome {
    bench.start_sleeper()?;
    let socket = bench.root().join(&bench.id).join("start.sock");
    check(!socket.exists(), || "the socket is left".into())?;
    drop(std::os::unix::net::UnixListener::bind(&socket)?);
    check(bench.status()? == "running", || "not running".into())?;
    let again = bench.run(&["start", &bench.id]);
    check(again.code == 1 && again.err.contains("already running"), || again.err)?;
    check(bench.status()? == "running", || "the second start ended it".into())?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}
