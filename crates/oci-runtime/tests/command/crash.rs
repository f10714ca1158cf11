//! Commands killed at any moment: `delete --force` always works, and leaves nothing.

use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bench::Bench;
use crate::{Outcome, Test, check};

pub(crate) const TESTS: &[Test] = &[
    ("a_killed_create_leaves_nothing_behind_delete", create),
    ("a_killed_create_with_hooks_leaves_nothing_behind_delete", hooks),
    ("a_killed_run_leaves_nothing_behind_delete", run),
    ("a_killed_start_leaves_nothing_behind_delete", start),
    ("a_killed_exec_leaves_nothing_behind_delete", exec),
    ("a_killed_delete_leaves_nothing_behind_delete", delete),
    ("a_hung_hook_does_not_hold_up_delete", hung),
];

/// How often each command is killed; `SEXTANT_OCI_KILLS` says otherwise.
fn rounds() -> u32 {
    std::env::var("SEXTANT_OCI_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(24)
}

/// Starts the command, kills it after `delay`, and says how long it lived if it was done before that.
fn killed(bench: &Bench, args: &[&str], delay: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let null = || Stdio::null();
    let mut child = bench.command().args(args).stdout(null()).stderr(null()).spawn()?;
    std::thread::sleep(delay);
    let pidfd = kernel::process::pidfd(child.id() as i32)?;
    kernel::process::signal(pidfd.as_fd(), 9)?;
    child.wait()?;
    Ok(())
}

/// Runs `before`, a command that is killed, and `delete --force`, with moments spread over the time that the command
/// takes when nobody kills it.
fn spread(bench: &Bench, args: &[&str], before: impl Fn() -> Outcome) -> Outcome {
    before()?;
    let begun = Instant::now();
    let stdio = || Stdio::null();
    let mut child = bench.command().args(args).stdout(stdio()).stderr(stdio()).spawn()?;
    if args[0] == "run" {
        bench.until("it runs", || bench.status().is_ok_and(|s| s == "running"))?;
    } else {
        child.wait()?;
    }
    let whole = begun.elapsed();
    bench.run(&["delete", "--force", &bench.id]).ok()?;
    child.wait()?;
    bench.nothing_is_left()?;
    for round in 0..rounds() {
        before()?;
        // A stride that meets each part of the time, and a little beyond it.
        let part = f64::from(round * 7 % rounds()) / f64::from(rounds());
        killed(bench, args, whole.mul_f64(part * 1.1))?;
        let done = bench.run(&["delete", "--force", &bench.id]);
        check(done.code == 0, || format!("{args:?} killed after {part:.2}: {}", done.err))?;
        bench.nothing_is_left().map_err(|e| format!("{args:?} killed after {part:.2}: {e}"))?;
    }
    Ok(())
}

fn create(bench: &Bench) -> Outcome {
    bench.configure(&bench.sleeper());
    spread(bench, &["create", &bench.id], || Ok(()))
}

fn hooks(bench: &Bench) -> Outcome {
    let mut spec = bench.sleeper();
    let hook =
        json!([{"path": "/bin/busybox", "args": ["sleep", "0.01"], "env": [format!("BENCH={}", bench.id)]}]);
    for kind in ["createRuntime", "createContainer"] {
        spec["hooks"][kind] = hook.clone();
    }
    bench.configure(&spec);
    spread(bench, &["create", &bench.id], || Ok(()))
}

fn run(bench: &Bench) -> Outcome {
    bench.configure(&bench.sleeper());
    spread(bench, &["run", &bench.id], || Ok(()))
}

fn start(bench: &Bench) -> Outcome {
    bench.configure(&bench.sleeper());
    spread(bench, &["start", &bench.id], || bench.run(&["create", &bench.id]).ok().map(drop))
}

fn exec(bench: &Bench) -> Outcome {
    spread(bench, &["exec", &bench.id, "sleep", "0.01"], || bench.start_sleeper())
}

fn delete(bench: &Bench) -> Outcome {
    spread(bench, &["delete", "--force", &bench.id], || bench.start_sleeper())
}

fn hung(bench: &Bench) -> Outcome {
    for kind in ["createRuntime", "createContainer", "startContainer"] {
        let mut spec = bench.sleeper();
        let program = if kind == "createRuntime" { "/bin/busybox" } else { "/bin/sleep" };
        spec["hooks"][kind] =
            json!([{"path": program, "args": ["sleep", "10"], "env": [format!("BENCH={}", bench.id)]}]);
        bench.configure(&spec);
        let mut first = if kind == "startContainer" {
            bench.run(&["create", &bench.id]).ok()?;
            bench.command().args(["start", &bench.id]).stderr(Stdio::null()).spawn()?
        } else {
            bench.command().args(["create", &bench.id]).stderr(Stdio::null()).spawn()?
        };
        let hook = || bench.processes().iter().any(|(_, line)| line.trim_end() == "sleep 10");
        bench.until("the hook runs", hook)?;
        if kind != "startContainer" {
            check(bench.status()? == "creating", || format!("{kind}: {:?}", bench.status()))?;
        }
        bench.run(&["delete", "--force", &bench.id]).ok()?;
        check(!first.wait()?.success(), || format!("{kind}: it succeeded"))?;
        bench.nothing_is_left()?;
    }
    Ok(())
}
