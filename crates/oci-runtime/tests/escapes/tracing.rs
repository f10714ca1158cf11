//! A process on its way into a container, as those see it that are there already.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::{Outcome, Test, check, grant, probing, rounds, with_user_namespace};

pub(crate) const TESTS: &[Test] = &[
    ("cve_2016_9962_a_container_with_default_rights_sees_nothing_of_who_joins", by_default),
    ("cve_2016_9962_root_of_a_user_namespace_with_ptrace_sees_nothing_of_who_joins", with_ptrace),
    ("a_container_that_may_trace_the_host_gains_nothing_from_who_joins", host_ptrace),
];

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
    // Directories of the host that must not be found.
    for round in 0..rounds() {
        let cwd = if round % 2 == 0 { "/" } else { "/bin/.." };
        let mut command = bench.command();
        command.args(["exec", "--cwd", cwd, &bench.id, "/bin/busybox", "true"]).env("SXTEST_SECRET", "x");
        let done = bench.run_command(&mut command);
        check(done.code == 0, || format!("{} {}", done.code, done.err))?;
    }
    drop(child.stdin.take());
    let mut text = String::new();
    out.read_to_string(&mut text)?;
    child.wait()?;
    let answer: Value = serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))?;
    check(answer["met"].as_u64().is_some_and(|met| met >= u64::from(rounds()) / 2), || {
        format!("it met too few to say anything: {answer}")
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
