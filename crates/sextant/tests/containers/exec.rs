//! `sextant exec`.

use serde_json::Value;

use crate::Test;
use crate::bench::Bench;

pub(crate) const TESTS: &[Test] = &[
    ("a_program_is_brought_in", brought_in),
    ("its_user_variables_and_directory", options),
    ("its_input_and_its_end", streams),
    ("its_mistakes_are_told", mistakes),
];

fn up(b: &Bench) {
    b.ok(&["run", "-d", "--name", "host", "-e", "FROM=run", "t", "probe", "say", "up", "then", "sleep"]);
}

fn brought_in(b: &Bench) {
    up(b);
    assert_eq!(b.ok(&["exec", "host", "probe", "say", "hi", "-x"]), "hi -x\n");
    let look: Value = serde_json::from_str(&b.ok(&["exec", "host", "probe", "look", "/bin/probe"])).unwrap();
    assert!(look["paths"]["/bin/probe"].is_object());
    assert_eq!(
        look["status"]["NSpid"].as_str().unwrap().split('\t').count(),
        1,
        "its own PID namespace's view"
    );
    assert_ne!(look["status"]["Pid"], "1");
    assert_eq!(b.ok(&["exec", "-d", "host", "probe", "write", "/tmp/done", "yes"]), "");
    b.until("it has written", || b.run(&["exec", "host", "probe", "read", "/tmp/done"]).out == "yes");
    b.ok(&["rm", "-f", "host"]);
}

fn options(b: &Bench) {
    up(b);
    let run =
        |options: &[&str], words: &[&str]| b.ok(&[&["exec"], options, &["host", "probe"], words].concat());
    let out = run(&["-e", "A=1", "--env", "FROM=exec"], &["environment"]);
    assert!(out.contains("A=1\n") && out.contains("FROM=exec\n") && !out.contains("FROM=run"), "{out}");
    assert!(run(&[], &["environment"]).contains("FROM=run\n"));
    let look: Value = serde_json::from_str(&run(&["-u", "web", "-w", "/srv"], &["look"])).unwrap();
    assert_eq!((&look["status"]["Uid"], &look["cwd"]), (&"33\t33\t33\t33".into(), &"/srv".into()));
    assert_eq!(look["status"]["CapEff"], "0000000000000000", "an ordinary user has none");
    assert!(run(&["-u", "web"], &["environment"]).contains("HOME=/srv\n"));
    assert_eq!(serde_json::from_str::<Value>(&run(&["-t"], &["look"])).unwrap()["terminal"], true);
    b.ok(&["rm", "-f", "host"]);
}

fn streams(b: &Bench) {
    up(b);
    let mut copy = b.spawn(&["exec", "-i", "host", "probe", "copy"]);
    copy.send("typed\n");
    copy.out.until("typed\n");
    copy.close_input();
    assert_eq!(copy.end().code, 0);
    let ended = b.run(&["exec", "host", "probe", "complain", "no", "then", "exit", "5"]);
    assert_eq!((ended.code, ended.err.as_str()), (5, "no\n"));
    assert_eq!(b.run(&["exec", "host", "probe", "die", "TERM"]).code, 128 + 15);
    // The end of the container is the end of what was brought in.
    let mut sleeping = b.spawn(&["exec", "host", "probe", "say", "here", "then", "sleep"]);
    sleeping.out.until("here");
    b.ok(&["rm", "-f", "host"]);
    assert_eq!(sleeping.end().code, 137);
}

fn mistakes(b: &Bench) {
    assert!(b.fails(1, &["exec", "host", "probe"]).contains("no container \"host\""));
    up(b);
    assert!(b.fails(127, &["exec", "host", "nosuch"]).contains("\"nosuch\""));
    assert!(b.fails(126, &["exec", "host", "/etc/passwd"]).contains("not executable"));
    assert!(b.fails(126, &["exec", "-w", "/no/such", "host", "probe"]).contains("/no/such"));
    assert!(b.fails(126, &["exec", "-w", "srv", "host", "probe"]).contains("srv"));
    assert!(b.fails(126, &["exec", "-u", "nobody", "host", "probe"]).contains("\"nobody\""));
    let text = b.fails(1, &["exec", "-it", "host", "probe"]);
    assert!(text.contains("terminal") && text.contains("-t"), "{text}");
    b.ok(&["stop", "-t", "0", "host"]);
    let text = b.fails(1, &["exec", "host", "probe"]);
    assert!(text.contains("not running") && text.contains("sextant start host"), "{text}");
    assert!(b.fails(1, &["attach", "host"]).contains("not running"));
    b.ok(&["rm", "host"]);
}
