//! `--restart`.

use crate::Test;
use crate::bench::Bench;

pub(crate) const TESTS: &[Test] = &[
    ("a_failing_program_is_started_so_often", on_failure),
    ("a_program_that_succeeds_is_not_started_again", success),
    ("a_stopped_container_stays_stopped", stopped),
];

fn on_failure(b: &Bench) {
    let words = ["probe", "add", "/file", "x", "then", "read", "/file", "then", "exit", "3"];
    b.ok(&[&["run", "-d", "--name", "bad", "--restart", "on-failure:2", "t"], &words[..]].concat());
    assert_eq!(b.ok(&["wait", "bad"]), "3\n");
    b.until_state("bad", "exited");
    assert_eq!(b.ok(&["logs", "bad"]), "x\nx\nx\nx\nx\nx\n", "once, and two times more");
    b.ok(&["rm", "bad"]);
    for policy in ["sometimes", "on-failure:x", "always:3"] {
        assert!(b.fails(125, &["run", "--restart", policy, "t"]).contains(policy));
    }
    let text = b.fails(125, &["run", "--rm", "--restart", "always", "t"]);
    assert!(text.contains("--rm"), "{text}");
}

fn success(b: &Bench) {
    b.ok(&["run", "-d", "--name", "good", "--restart", "on-failure", "t"]);
    assert_eq!(b.ok(&["wait", "good"]), "0\n");
    assert_eq!(b.ok(&["logs", "good"]), "by default\n");
    b.ok(&["rm", "good"]);
}

fn stopped(b: &Bench) {
    b.ok(&[
        "run",
        "-d",
        "--name",
        "steady",
        "--restart",
        "always",
        "t",
        "probe",
        "say",
        "up",
        "then",
        "sleep",
    ]);
    b.until_logged("steady", "up");
    b.ok(&["kill", "steady"]);
    b.until("it is up again", || b.ok(&["logs", "steady"]) == "up\nup\n");
    b.until_state("steady", "running");
    b.ok(&["stop", "-t", "0", "steady"]);
    assert_eq!(b.inspect("steady", "/state"), "exited");
    // Stopped between two runs, too.
    b.ok(&["run", "-d", "--name", "loop", "--restart", "always", "t", "probe", "exit", "1"]);
    b.ok(&["stop", "-t", "0", "loop"]);
    assert_eq!(b.inspect("loop", "/state"), "exited");
    b.ok(&["rm", "steady", "loop"]);
}
