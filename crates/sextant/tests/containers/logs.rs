//! `sextant logs`.

use crate::Test;
use crate::bench::Bench;

pub(crate) const TESTS: &[Test] = &[
    ("logs_of_a_running_and_an_ended_container", both),
    ("logs_are_followed_to_the_end", follow),
    ("logs_are_cut_by_number_and_time", cut),
];

fn both(b: &Bench) {
    let dir = b.scratch();
    let volume = format!("{dir}:/out");
    let words = [
        "probe", "say", "one", "then", "complain", "two", "then", "await", "/out/go", "then", "flood",
        "40000",
    ];
    b.ok(&[&["run", "-d", "--name", "talker", "-v", &volume, "t"], &words[..]].concat());
    b.until_logged("talker", "two");
    let ended = b.run(&["logs", "talker"]);
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("one\n", "two\n"));
    std::fs::write(format!("{dir}/go"), "").unwrap();
    b.until_state("talker", "exited");
    // A line longer than an entry of the log, and without an end.
    let out = b.run(&["logs", "talker"]).out;
    assert_eq!(out.trim_end(), format!("one\n{}", "x".repeat(40_000)));
    assert_eq!(b.ok(&["logs", "--tail", "1", "talker"]).trim_end().len(), 40_000, "a line is one line");
    b.ok(&["rm", "talker"]);
    assert!(b.fails(1, &["logs", "talker"]).contains("\"talker\""));
}

fn follow(b: &Bench) {
    let dir = b.scratch();
    let volume = format!("{dir}:/out");
    let words = ["probe", "say", "one", "then", "await", "/out/go", "then", "say", "two"];
    b.ok(&[&["run", "-d", "--name", "talker", "-v", &volume, "t"], &words[..]].concat());
    let mut logs = b.spawn(&["logs", "-f", "talker"]);
    logs.out.until("one\n");
    std::fs::write(format!("{dir}/go"), "").unwrap();
    let ended = logs.end();
    assert_eq!((ended.code, ended.out.as_str()), (0, "one\ntwo\n"));
    assert_eq!(b.ok(&["logs", "--follow", "talker"]), "one\ntwo\n");
    b.ok(&["rm", "talker"]);
}

fn cut(b: &Bench) {
    b.ok(&["run", "--name", "t1", "t", "probe", "say", "1", "then", "say", "2", "then", "say", "3"]);
    assert_eq!(b.ok(&["logs", "--tail", "2", "t1"]), "2\n3\n");
    assert_eq!(b.ok(&["logs", "-n", "0", "t1"]), "");
    assert_eq!(b.ok(&["logs", "--tail", "all", "t1"]), "1\n2\n3\n");
    assert_eq!(b.ok(&["logs", "--since", "1h", "t1"]), "1\n2\n3\n");
    assert_eq!(b.ok(&["logs", "--since", "2099-01-01T00:00:00Z", "t1"]), "");
    let stamped = b.ok(&["logs", "-t", "t1"]);
    let times: Vec<&str> = stamped.lines().map(|l| l.split(' ').next().unwrap()).collect();
    assert!(times.iter().all(|t| t.len() == 30 && t.ends_with('Z')), "{stamped}");
    assert!(stamped.lines().zip(1..).all(|(line, n)| line.ends_with(&format!(" {n}"))), "{stamped}");
    // Lines that came together have one time.
    let young: String =
        (1..).zip(&times).filter(|(_, t)| **t >= times[2]).map(|(n, _)| format!("{n}\n")).collect();
    assert_eq!(b.ok(&["logs", "--since", times[2], "t1"]), young);
    for since in ["yesterday", "10x", ""] {
        assert!(b.fails(1, &["logs", "--since", since, "t1"]).contains("--since"));
    }
    b.ok(&["rm", "t1"]);
}
