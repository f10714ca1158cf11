//! A process on its way into a container, as those see it that are there already.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::{Outcome, Test, check, grant, probing, rounds, with_user_namespace};

pub(crate) const TESTS: &[Test] = &[
    ("cve_2016_9962_a_container_with_default_rights_sees_nothing_of_who_joins", by_default),
    ("cve_2016_9962_root_of_a_user_namespace_with_ptrace_sees_nothing_of_who_joins", with_ptrace),
    ("a_container_that_may_trace_the_host_gains_nothing_from_who_joins", host_ptrace),
];

/// So many times as many join at most, until enough of them were seen.
const MORE: u32 = 20;

/// Runs the watcher, joins its container many times, and checks what it found.
fn watched(bench: &Bench, spec: &Value) -> Outcome {
    bench.configure(spec);
    let mut command = bench.command();
    command.args(["run", &bench.id]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn()?;
    let mut out = BufReader::new(child.stdout.take().ok_or("no output")?);
    let mut line = String::new();
    out.read_line(&mut line)?;
    check(line == "begun\n", || line.clone())?;
    let (met, wanted) = (Arc::new(AtomicU32::new(0)), rounds() / 2);
    let counted = met.clone();
    let reader = thread::spawn(move || {
        let mut rest = String::new();
        for line in out.lines().map_while(Result::ok) {
            match line.as_str() {
                "met" => drop(counted.fetch_add(1, Ordering::Relaxed)),
                _ => rest.push_str(&line),
            }
        }
        rest
    });
    // Directories of the host that must not be found. On a busy machine the watcher sees few of those who join: more do, then.
    let mut round = 0;
    while round < rounds() || (met.load(Ordering::Relaxed) < wanted && round < rounds() * MORE) {
        let cwd = if round % 2 == 0 { "/" } else { "/bin/.." };
        let mut command = bench.command();
        command.args(["exec", "--cwd", cwd, &bench.id, "/bin/busybox", "true"]).env("SXTEST_SECRET", "x");
        let done = bench.run_command(&mut command);
        check(done.code == 0, || format!("{} {}", done.code, done.err))?;
        round += 1;
    }
    drop(child.stdin.take());
    let text = reader.join().map_err(|_| "the reader of what the watcher says panicked")?;
    child.wait()?;
    let answer: Value = serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))?;
    check(answer["met"].as_u64().is_some_and(|met| met >= u64::from(wanted)), || {
        format!("it met too few of {round} to say anything: {answer}")
    })?;
    check(answer["found"] == json!([]), || format!("it found {answer}"))
}

fn by_default(bench: &Bench) -> Outcome {
    let mut spec = probing(bench, &["trace"]);
    let names = oci_runtime::default_spec::CAPABILITIES.names();
    grant(&mut spec, &names.iter().map(String::as_str).collect::<Vec<_>>());
    watched(bench, &spec)
}

/// Without a user namespace this capability is one over the host's root, whom nothing hides from it: what it finds on its
/// way in must be no more than it is itself.
fn host_ptrace(bench: &Bench) -> Outcome {
    let mut spec = probing(bench, &["hunt"]);
    grant(&mut spec, &["CAP_SYS_PTRACE", "CAP_KILL"]);
    spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}],
    });
    watched(bench, &spec)
}

fn with_ptrace(bench: &Bench) -> Outcome {
    let mut spec = probing(bench, &["trace"]);
    grant(&mut spec, &["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN"]);
    with_user_namespace(bench, &mut spec);
    watched(bench, &spec)
}
