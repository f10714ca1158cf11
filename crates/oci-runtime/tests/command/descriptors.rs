//! What the program inherits, and what a seccomp agent gets.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;

use kernel::process::{CStrings, Program, spawn};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::{Outcome, Test, check};

pub(crate) const TESTS: &[Test] = &[
    ("descriptors_are_inherited_if_asked_and_only_then", inherited),
    ("descriptors_of_the_service_manager_come_along", activation),
    ("a_seccomp_agent_gets_its_descriptor", agent),
    ("a_descriptor_of_the_process_is_sent_if_asked", pidfd),
];

/// Runs `sextant-oci` with further descriptors open, and returns what it prints.
fn with_descriptors(
    bench: &Bench,
    args: &[&str],
    more: usize,
    env: &[&str],
) -> Result<(i32, String), Box<dyn std::error::Error>> {
    let file = std::fs::File::open(std::fs::canonicalize("/proc/self/exe")?)?;
    let out = std::fs::File::create(bench.path("printed"))?;
    let named = bench.path("hostname");
    std::fs::write(&named, "")?;
    let given = std::fs::File::open(named)?;
    let null = std::fs::File::open("/dev/null")?;
    let root = bench.root().display().to_string();
    let bundle = bench.bundle().display().to_string();
    let mut all = vec!["sextant-oci", "--root", &root];
    all.extend(args);
    all.extend(["--bundle", &bundle]);
    let mut fds = vec![null.as_fd(), out.as_fd(), out.as_fd()];
    fds.extend(std::iter::repeat_n(given.as_fd(), more));
    let program = Program { file: file.as_fd(), args: CStrings::new(all)?, env: CStrings::new(env)?, fds };
    let code = spawn(&program)?.wait()?.code();
    Ok((code, std::fs::read_to_string(bench.path("printed"))?))
}

const LOOK: [&str; 3] =
    ["/bin/sh", "-c", "for n in 3 4 5 6 7 8 9 10 11 12; do readlink /proc/$$/fd/$n; done"];

fn inherited(bench: &Bench) -> Outcome {
    bench.configure(&bench.spec(&LOOK));
    let (code, none) = with_descriptors(bench, &["run", &bench.id], 4, &[])?;
    // The shell may hold a copy of its own script's place at 10 and above.
    check(code <= 1 && !none.contains("hostname"), || format!("{code} {none}"))?;
    let (_, two) = with_descriptors(bench, &["run", "--preserve-fds", "2", &bench.id], 4, &[])?;
    check(two.lines().filter(|l| l.contains("hostname")).count() == 2, || two)?;
    let (code, text) = with_descriptors(bench, &["run", "--preserve-fds", "5", &bench.id], 4, &[])?;
    check(code == 1 && text.contains("descriptor 7 is not open"), || format!("{code} {text}"))?;
    let (code, text) = with_descriptors(bench, &["create", "--preserve-fds=2", &bench.id], 2, &[])?;
    check(code == 0, || text)?;
    bench.run(&["start", &bench.id]).ok()?;
    bench.until("it has looked", || bench.status().is_ok_and(|s| s == "stopped"))?;
    let text = std::fs::read_to_string(bench.path("printed"))?;
    check(text.lines().filter(|l| l.contains("hostname")).count() == 2, || text)?;
    bench.run(&["delete", &bench.id]).ok()?;
    Ok(())
}

fn activation(bench: &Bench) -> Outcome {
    bench.configure(&bench.spec(&["/bin/sh", "-c", "echo $LISTEN_PID $LISTEN_FDS; readlink /proc/$$/fd/3"]));
    // For another process: not ours.
    let (_, text) = with_descriptors(bench, &["run", &bench.id], 1, &["LISTEN_PID=1", "LISTEN_FDS=1"])?;
    check(!text.contains("hostname"), || text)?;
    // A shell tells its own number before it becomes the command.
    let line = format!(
        "exec 3<{}; export LISTEN_PID=$$ LISTEN_FDS=1; exec {} --root {} run {}",
        bench.path("hostname").display(),
        bench.path("sextant-oci").display(),
        bench.root().display(),
        bench.id
    );
    let mut shell = std::process::Command::new("/bin/sh");
    let done = bench.run_command(shell.args(["-c", &line]).current_dir(bench.bundle()));
    check(done.out.starts_with("1 1\n") && done.out.contains("hostname"), || {
        format!("{} {}", done.out, done.err)
    })
}

/// What the agent is told, and the listener.
fn told(listener: &UnixListener) -> Result<(Value, OwnedFd), Box<dyn std::error::Error>> {
    let (message, fd) = testkit::receive(listener)?;
    Ok((serde_json::from_slice(&message)?, fd))
}

fn pidfd(bench: &Bench) -> Outcome {
    let path = bench.path("pidfd.sock");
    let socket = path.display().to_string();
    bench.configure(&bench.sleeper());
    let nobody = bench.run(&["run", "-d", "--pidfd-socket", &socket, &bench.id]);
    check(nobody.code == 1 && nobody.err.contains("--pidfd-socket"), || nobody.err)?;
    bench.nothing_is_left()?;
    let listener = UnixListener::bind(&path)?;
    for (command, name) in [("create", "standard"), ("run", "standard")] {
        let detach = if command == "run" { &["-d"][..] } else { &[] };
        let mut run = bench.command();
        run.arg(command).args(detach).args(["--pidfd-socket", &socket, &bench.id]);
        bench.run_command(&mut run).ok()?;
        let (word, pidfd) = testkit::receive(&listener)?;
        let pid = bench.run(&["state", &bench.id]).ok()?.json()?["pid"].clone();
        let sent = kernel::process::pid_of(pidfd.as_fd())?;
        check(word == name.as_bytes() && pid == sent, || format!("{command}: {pid} {sent}"))?;
        bench.run(&["delete", "-f", &bench.id]).ok()?;
    }
    bench.start_sleeper()?;
    let file = bench.path("pid").display().to_string();
    let args = ["exec", "-d", "--pid-file", &file, "--pidfd-socket", &socket, &bench.id, "sleep", "100"];
    bench.run(&args).ok()?;
    let (word, pidfd) = testkit::receive(&listener)?;
    let sent = kernel::process::pid_of(pidfd.as_fd())?;
    check(word == b"setns" && std::fs::read_to_string(&file)? == sent.to_string(), || sent.to_string())?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}

fn agent(bench: &Bench) -> Outcome {
    let path = bench.path("agent.sock");
    let mut spec = bench.sleeper();
    spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "some words",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
    });
    bench.configure(&spec);
    let nobody = bench.run(&["create", &bench.id]);
    check(nobody.code == 1 && nobody.err.contains("agent.sock"), || nobody.err)?;
    bench.nothing_is_left()?;
    let listener = UnixListener::bind(&path)?;
    bench.run(&["create", &bench.id]).ok()?;
    let pid = bench.run(&["state", &bench.id]).ok()?.json()?["pid"].clone();
    let (state, fd) = told(&listener)?;
    bench.run(&["start", &bench.id]).ok()?;
    check(state["pid"] == pid && state["fds"] == json!(["seccompFd"]), || state.to_string())?;
    check(state["metadata"] == "some words" && state["state"]["id"] == bench.id.as_str(), || {
        state.to_string()
    })?;
    let target = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd)))?;
    check(target.to_string_lossy().contains("seccomp"), || target.display().to_string())?;
    bench.run(&["exec", "-d", &bench.id, "sleep", "100"]).ok()?;
    let (state, _) = told(&listener)?;
    check(state["pid"] != pid && state["state"]["pid"] == pid, || state.to_string())?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}
