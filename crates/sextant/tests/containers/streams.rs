//! What goes into a program and what comes out of it.

use std::process::Stdio;

use rustix::process::Signal;

use crate::Test;
use crate::bench::Bench;

pub(crate) const TESTS: &[Test] = &[
    ("the_programs_exit_code_is_the_commands", exit_codes),
    ("input_reaches_the_program_and_ends", input),
    ("without_i_there_is_no_input", no_input),
    ("output_and_errors_stay_apart", two_outputs),
    ("much_output_arrives_whole", flood),
    ("a_reader_that_goes_away_ends_nothing_but_the_reading", reader_gone),
    ("a_short_program_never_keeps_its_caller_waiting", short_programs),
    ("signals_go_on_to_the_program", signals),
    ("a_container_outlives_its_command", killed_command),
];

fn exit_codes(b: &Bench) {
    assert_eq!(b.ok(&["run", "--rm", "t"]), "by default\n");
    assert_eq!(b.ok(&["run", "--rm", "t", "probe", "say", "a", "b"]), "a b\n");
    assert_eq!(b.ok(&["run", "--rm", "tool"]), "tool default\n");
    assert_eq!(b.ok(&["run", "--rm", "tool", "-x"]), "tool -x\n");
    for code in [1, 7, 125, 255] {
        let ended = b.run(&["run", "--rm", "t", "probe", "exit", &code.to_string()]);
        assert_eq!((ended.code, ended.err.as_str()), (code, ""));
    }
    assert!(b.fails(127, &["run", "--rm", "t", "nosuch"]).contains("\"nosuch\""));
    assert!(b.fails(127, &["run", "--rm", "t", "/no/such"]).contains("\"/no/such\""));
    assert!(b.fails(126, &["run", "--rm", "t", "/etc/passwd"]).contains("not executable"));
    assert!(b.fails(126, &["run", "--rm", "t", "/etc"]).contains("/etc"));
    let mut run = b.spawn(&["run", "--rm", "--name", "killed", "t", "probe", "say", "up", "then", "sleep"]);
    run.out.until("up");
    b.ok(&["kill", "killed"]);
    assert_eq!(run.end().code, 128 + 9);
}

fn input(b: &Bench) {
    let mut run = b.spawn(&["run", "-i", "--rm", "t", "probe", "copy", "then", "say", "over"]);
    run.send("first\n");
    run.out.until("first\n");
    let much = "x".repeat(1 << 20);
    run.send(&much);
    run.close_input();
    assert_eq!(run.end().out, format!("first\n{much}over\n"));
    // Nothing at all: /dev/null, and a pipe that is closed at once.
    assert_eq!(b.ok(&["run", "-i", "--rm", "t", "probe", "copy", "then", "say", "over"]), "over\n");
    let mut run = b.spawn(&["run", "-i", "--rm", "t", "probe", "copy", "then", "say", "over"]);
    run.close_input();
    assert_eq!(run.end().out, "over\n");
}

fn no_input(b: &Bench) {
    let mut run = b.spawn(&["run", "--rm", "t", "probe", "copy", "then", "say", "over"]);
    run.send("unread");
    assert_eq!(run.end().out, "over\n");
}

fn two_outputs(b: &Bench) {
    let ended = b.run(&["run", "--rm", "t", "probe", "say", "out", "then", "complain", "err"]);
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (0, "out\n", "err\n"));
}

fn flood(b: &Bench) {
    let bytes = 5_000_000;
    let out = b.ok(&["run", "--rm", "t", "probe", "flood", &bytes.to_string()]);
    assert_eq!(out.len(), bytes);
}

fn reader_gone(b: &Bench) {
    let dir = b.scratch();
    let words = ["probe", "flood", "1000000", "then", "write", "/out/done", "yes"];
    let mut run = b.command(&[&["run", "--rm", "-v", &format!("{dir}:/out"), "t"], &words[..]].concat());
    let mut child = run.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    assert!(std::path::Path::new(&dir).join("done").exists());
}

/// It did: the end was read together with the answer to the start, and then waited for.
fn short_programs(b: &Bench) {
    b.ok(&["run", "-d", "--name", "here", "t", "probe", "sleep"]);
    for _ in 0..25 {
        assert_eq!(b.ok(&["exec", "here", "probe", "say", "x"]), "x\n");
    }
    for _ in 0..10 {
        assert_eq!(b.ok(&["run", "--rm", "--network", "none", "t", "probe", "say", "x"]), "x\n");
    }
    b.ok(&["rm", "-f", "here"]);
}

fn signals(b: &Bench) {
    let mut run =
        b.spawn(&["run", "--rm", "t", "probe", "trap", "HUP", "USR1", "INT", "TERM", "then", "exit", "3"]);
    run.out.until("ready\n");
    for (signal, name) in
        [(Signal::HUP, "HUP"), (Signal::USR1, "USR1"), (Signal::INT, "INT"), (Signal::TERM, "TERM")]
    {
        run.signal(signal);
        run.out.until(&format!("got {name}\n"));
    }
    assert_eq!(run.end().code, 3);
}

fn killed_command(b: &Bench) {
    let dir = b.scratch();
    let volume = format!("{dir}:/out");
    let words = ["probe", "say", "up", "then", "await", "/out/go", "then", "say", "went"];
    for (name, options) in [("kept", &[][..]), ("removed", &["--rm"])] {
        let all = [&["run", "--name", name, "-v", &volume], options, &["t"], &words].concat();
        let mut run = b.spawn(&all);
        run.out.until("up");
        run.signal(Signal::KILL);
        run.end();
        assert_eq!(b.inspect(name, "/state"), "running");
    }
    std::fs::write(format!("{dir}/go"), "").unwrap();
    b.until_state("kept", "exited");
    assert_eq!(b.ok(&["logs", "kept"]), "up\nwent\n");
    b.until("--rm has removed it", || !b.ok(&["ps", "-a"]).contains("removed"));
    b.ok(&["rm", "kept"]);
}
