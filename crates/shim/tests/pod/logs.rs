//! Logs that are rotated, full, or of terminals.

use std::fs;

use serde_json::json;

use crate::{Pod, plain, wait_until};

#[test]
fn a_rotation_loses_no_line_and_splits_none() {
    let mut pod = Pod::new(plain());
    let lines = 30_000;
    pod.run("a", &format!("i=0; while [ $i -lt {lines} ]; do echo line-$i-of-many; i=$((i+1)); done"));
    let mut rotations = 0;
    let log = pod.path("a", "log");
    while pod.client.state("a", "").unwrap().running {
        // As a kubelet does it.
        fs::rename(&log, pod.path("a", &format!("log.{rotations}"))).unwrap();
        pod.client.reopen_log("a").unwrap();
        assert!(log.exists());
        rotations += 1;
    }
    let mut seen = 0;
    for n in 0..=rotations {
        let name = if n == rotations { "log".into() } else { format!("log.{n}") };
        let text = fs::read_to_string(pod.path("a", &name)).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{name} ends in the middle of an entry");
        for line in text.lines() {
            let text = line.splitn(4, ' ').nth(3).unwrap();
            assert_eq!(text, format!("line-{seen}-of-many"), "{name}");
            seen += 1;
        }
    }
    assert_eq!(seen, lines);
    assert!(rotations > 10, "only {rotations} rotations");
    pod.end();
}

#[test]
fn a_full_disk_holds_nobody_up() {
    let mut pod = Pod::new(plain());
    let mut request =
        pod.request("a", "i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); done; exit 9", |_| {});
    request.log = "/dev/full".into();
    pod.client.create(&request).unwrap();
    pod.client.start("a").unwrap();
    assert_eq!(pod.client.wait("a", "").unwrap().code, 9);
    assert_eq!(pod.client.state("a", "").unwrap().log_lost, 1000);
    let complaints = fs::read_to_string(pod.dir.path().join("shim.err")).unwrap();
    assert_eq!(complaints.matches("cannot write the log /dev/full").count(), 1, "{complaints}");
    pod.run("b", "echo fine");
    pod.client.wait("b", "").unwrap();
    assert_eq!(pod.log("b"), ["stdout F fine"]);
    pod.end();
}

#[test]
fn a_log_that_can_be_written_again_says_what_is_missing() {
    let mut pod = Pod::new(plain());
    let mut request = pod.request("a", "echo lost; read go; echo kept", |_| {});
    let log = pod.path("a", "log");
    std::os::unix::fs::symlink("/dev/full", &log).unwrap();
    request.stdin = true;
    pod.client.create(&request).unwrap();
    pod.client.start("a").unwrap();
    wait_until("the loss", || pod.client.state("a", "").unwrap().log_lost == 1);
    fs::remove_file(&log).unwrap();
    pod.client.reopen_log("a").unwrap();
    let attach = shim::protocol::AttachRequest { container: "a".into(), stdin: true, exec_id: String::new() };
    let stream = pod.client.attach(&attach).unwrap();
    let input = shim::protocol::Input { data: b"go\n".to_vec(), ..shim::protocol::Input::default() };
    pod.client.send_input(stream, &input).unwrap();
    pod.client.wait("a", "").unwrap();
    let log = pod.log("a");
    assert!(log[0].contains("1 entries of this log are lost"), "{log:?}");
    assert_eq!(log[1..], ["stdout F kept"]);
    pod.end();
}

#[test]
fn parts_are_tagged_and_terminals_are_standard_output() {
    let mut pod = Pod::new(plain());
    pod.run("a", "head -c 40000 /dev/zero | tr '\\0' x; echo; printf 'no end'");
    pod.client.wait("a", "").unwrap();
    let tags: Vec<_> = pod.log("a").iter().map(|l| (l[7..8].to_owned(), l.len() - 9)).collect();
    let wanted = [("P", 16384), ("P", 16384), ("F", 7232), ("P", 6)].map(|(t, n)| (t.to_owned(), n));
    assert_eq!(tags, wanted);
    let request = pod.request("tty", "echo out; echo err >&2", |c| c["process"]["terminal"] = json!(true));
    pod.client.create(&request).unwrap();
    pod.client.start("tty").unwrap();
    pod.client.wait("tty", "").unwrap();
    assert_eq!(pod.log("tty"), ["stdout F out\r", "stdout F err\r"]);
    pod.end();
}
