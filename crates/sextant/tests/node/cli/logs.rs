//! `sextant logs`, and how a container is named.

use std::fs;
use std::time::Duration;

use cri::contract::v1::{ContainerMetadata, ReopenContainerLogRequest};

use super::{ended, spawn};
use crate::bench::Bench;
use crate::wishes::container;

pub(super) fn shown(b: &Bench) {
    let pod = b.host_pod("shown");
    let words =
        ["probe", "say", "one", "then", "complain", "two", "then", "flood", "40000", "then", "say", "end"];
    let id = b.run(&pod, "a", &words);
    b.until_exited(&id);
    let by_pod = b.cli(&["logs", "--pod", "tests/shown"]);
    assert_eq!((by_pod.code, by_pod.err.as_str()), (0, "two\n"));
    assert_eq!(by_pod.out, format!("one\n{}end\n", "x".repeat(40_000)));
    for args in [
        &["logs", "a"][..],
        &["logs", &id[..12]],
        &["logs", "-p", "shown", "-c", "a"],
        &["logs", "-p", &pod[..8]],
    ] {
        assert_eq!(b.cli(args).out, by_pod.out, "{args:?}");
    }
    // The last line of the program's, in however many parts.
    assert_eq!(b.says(&["logs", "-n", "1", "a"]).len(), 40_004);
    assert_eq!(b.says(&["logs", "--since", "2999-01-01", "a"]), "");
    assert_eq!(
        b.says(&["logs", "-f", "--since", "1h", "a"]),
        by_pod.out,
        "one that has ended is not waited for"
    );
    let line = b.says(&["logs", "-t", "a"]);
    assert!(line.starts_with("20") && line.lines().next().unwrap().ends_with("Z one"), "{line:.100}");
    b.remove_pod(&pod);
}

pub(super) fn previous(b: &Bench) {
    let pod = b.host_pod("previous");
    for attempt in 0..3 {
        let mut config = container("c", &["probe", "say", &format!("attempt {attempt}")]);
        config.metadata = Some(ContainerMetadata { name: "c".into(), attempt });
        config.log_path = format!("c/{attempt}.log");
        let id = b.run_as(&pod, config);
        b.until_exited(&id);
    }
    assert_eq!(b.says(&["logs", "-p", "previous"]), "attempt 2\n");
    assert_eq!(b.says(&["logs", "-p", "previous", "--previous"]), "attempt 1\n");
    assert_eq!(b.says(&["logs", "--previous", "c"]), "attempt 1\n");
    let other = b.run(&pod, "once", &["probe"]);
    b.until_exited(&other);
    b.refuses(1, &["logs", "--previous", "once"], &["tests/previous/once", "no previous"]);
    b.remove_pod(&pod);
}

pub(super) fn rotated(b: &Bench) {
    let pod = b.host_pod("turning");
    let id = b.run(&pod, "c", &["probe", "count"]);
    b.until_logged("turning", "c", "line 10");
    let follower = spawn(b.command(&["logs", "-f", "-p", "turning"]));
    let path = b.log_path("turning", "c");
    // Before that it has asked the node, which is killed below.
    let files = format!("/proc/{}/fd", follower.id());
    b.until("the follower reads", || {
        let opened = fs::read_dir(&files).into_iter().flatten().flatten();
        opened.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|file| file == path)
    });
    for number in 0..6 {
        // Several within one look of the follower's, and some with time between.
        std::thread::sleep(Duration::from_millis(if number % 2 == 0 { 300 } else { 30 }));
        fs::rename(&path, path.with_extension(format!("log.{number}"))).unwrap();
        let request = ReopenContainerLogRequest { container_id: id.clone() };
        b.ok(async |c| c.reopen_container_log(request).await);
        if number == 2 {
            // The log is the shim's: a daemon that is gone for a while holds up nobody who reads it.
            b.kill();
            std::thread::sleep(Duration::from_millis(700));
            b.start();
        }
    }
    std::thread::sleep(Duration::from_millis(300));
    b.stop(&id, 0);
    let followed = ended(follower.wait_with_output().unwrap());
    assert_eq!(followed.code, 0, "{followed:?}");
    let numbers: Vec<u64> =
        followed.out.lines().map(|line| line.strip_prefix("line ").unwrap().parse().unwrap()).collect();
    assert!(numbers.len() > 50 && numbers.iter().copied().eq(1..=numbers.len() as u64), "{numbers:?}");
    // Read afterwards it is the same, and its end may be in several files.
    assert_eq!(b.says(&["logs", "-p", "turning"]), followed.out);
    let last = b.says(&["logs", "-n", "100000", "-p", "turning"]);
    assert_eq!(last, followed.out);
    b.remove_pod(&pod);
}

pub(super) fn mistakes(b: &Bench) {
    let pod = b.host_pod("wrong");
    let other = b.host_pod("other");
    b.run(&pod, "a", &["probe", "sleep"]);
    b.run(&pod, "b", &["probe", "sleep"]);
    b.run(&other, "a", &["probe", "sleep"]);
    b.refuses(1, &["logs", "-p", "nosuch"], &["no pod \"nosuch\"", "sextant pods -a"]);
    b.refuses(1, &["logs", "-p", "wrong"], &["tests/wrong", "several", "-c", "a, b"]);
    b.refuses(1, &["logs", "-p", "wrong", "-c", "z"], &["tests/wrong", "\"z\"", "a, b"]);
    b.refuses(1, &["logs", "a"], &["tests/wrong/a", "tests/other/a", "--pod"]);
    b.refuses(1, &["logs", "nosuch"], &["no container \"nosuch\"", "sextant ps -a"]);
    b.refuses(1, &["logs", "--since", "x", "b"], &["--since", "\"x\""]);
    let nobody = b.path("nobody.sock").display().to_string();
    b.refuses(1, &["logs", "--cri", &nobody, "-p", "wrong"], &[&nobody, "sextant node", "No such file"]);
    b.refuses(
        1,
        &["logs", "--runtime-endpoint", &format!("unix://{nobody}"), "b"],
        &[&nobody, "No such file"],
    );
    let elsewhere = b.path("elsewhere").display().to_string();
    b.refuses(
        1,
        &["logs", "--run-dir", &elsewhere, "b"],
        &["no container \"b\"", "nobody serves CRI", &elsewhere],
    );
    // Both ways to say which at once, or none.
    for args in [
        &["logs"][..],
        &["logs", "-c", "a"],
        &["logs", "-p", "wrong", "a"],
        &["attach"],
        &["attach", "-c", "a"],
    ] {
        let ended = b.cli(args);
        assert!(ended.code == 2 && ended.err.contains("--pod"), "{args:?}: {ended:?}");
    }
    let mut silent = container("silent", &["probe"]);
    silent.log_path = String::new();
    b.run_as(&other, silent);
    b.refuses(1, &["logs", "silent"], &["container silent", "without"]);
    fs::remove_dir_all(b.path("elsewhere")).unwrap();
    b.remove_pod(&pod);
    b.remove_pod(&other);
}

pub(super) fn own_first(b: &Bench) {
    let pod = b.host_pod("both");
    let id = b.run(&pod, "twin", &["probe", "say", "of the pod"]);
    b.until_exited(&id);
    assert_eq!(b.says(&["logs", "twin"]), "of the pod\n");
    b.says(&["run", "--name", "twin", "--network", "none", "t", "probe", "say", "my own"]);
    assert_eq!(b.says(&["logs", "twin"]), "my own\n");
    assert_eq!(b.says(&["logs", "--pod", "both", "-c", "twin"]), "of the pod\n");
    b.refuses(1, &["logs", "--previous", "twin"], &["twin", "sextant run"]);
    b.says(&["rm", "twin"]);
    assert_eq!(b.says(&["logs", "twin"]), "of the pod\n");
    b.remove_pod(&pod);
}
