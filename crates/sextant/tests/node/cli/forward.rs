//! `sextant port-forward`.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;

use super::{Running, spawn};
use crate::bench::Bench;

/// What somebody who connects is told.
fn ask(at: &str) -> String {
    let mut text = String::new();
    TcpStream::connect(at).unwrap().read_to_string(&mut text).unwrap();
    text
}

/// Ends it, and gives what it complained of.
fn complaints(mut forwarding: Running) -> String {
    forwarding.kill().unwrap();
    String::from_utf8(forwarding.wait_with_output().unwrap().stderr).unwrap()
}

pub(super) fn ports(b: &Bench) {
    let pod = b.pod("harbour");
    b.run(&pod, "c", &["probe", "serve", "7001", "hello from"]);
    b.until_logged("harbour", "c", "serving");
    let mut forwarding = spawn(b.command(&["port-forward", "tests/harbour", ":7001", ":7002"]));
    let mut lines = BufReader::new(forwarding.stdout.take().unwrap()).lines();
    let mut listens = || {
        let line = lines.next().unwrap().unwrap();
        assert!(line.contains(" of pod tests/harbour"), "{line}");
        line.split(' ').next().unwrap().to_owned()
    };
    let (served, nobody) = (listens(), listens());
    for _ in 0..20 {
        assert_eq!(ask(&served), "hello from 127.0.0.1");
    }
    // Nobody listens there: this connection ends, the others go on.
    assert_eq!(ask(&nobody), "");
    let many: Vec<_> = (0..20).map(|_| TcpStream::connect(&served).unwrap()).collect();
    for mut stream in many {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello from 127.0.0.1");
    }
    // Another node serves the same pod.
    b.kill();
    b.start();
    assert_eq!(ask(&served), "hello from 127.0.0.1");
    let said = complaints(forwarding);
    assert!(said.contains("port 7002 of pod tests/harbour") && said.lines().count() == 1, "{said}");
    b.remove_pod(&pod);
}

pub(super) fn mistakes(b: &Bench) {
    let pod = b.host_pod("closed");
    b.refuses(1, &["port-forward", "nosuch", "80"], &["no pod \"nosuch\""]);
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap().port().to_string();
    b.refuses(1, &["port-forward", "closed", &format!("{taken}:80")], &["listen", &taken, "in use"]);
    let ended = b.cli(&["port-forward", "closed", "80:x"]);
    assert!(ended.code == 2 && ended.err.contains("LOCAL:REMOTE"), "{ended:?}");
    b.stop_pod(&pod);
    b.refuses(1, &["port-forward", "closed", ":80"], &["not running"]);
    b.remove_pod(&pod);
}
