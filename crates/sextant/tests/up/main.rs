//! `sextant up`, `status`, `down`: programs that are killed come back, those of a killed supervisor are taken over, and nothing is left.
//!
//! Each test has a network and mounts of its own; the programs share them.

#![allow(clippy::unwrap_used, reason = "a test")]

mod again;
mod balancer;
mod charts;
mod kills;
mod lone;
mod many;
mod mesh;
mod objects;
mod rest;
mod revisions;
#[path = "../stands/mod.rs"]
mod stands;
mod storage;
mod trouble;
mod whole;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use kernel::netlink::{Batch, Protocol, Route, Socket};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

/// Longer than anything takes that will happen at all, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(180);
/// However full this machine's disk is, pods are to begin.
const ROOM: &[&str] = &["--eviction-hard", "memory.available<1Mi"];
/// What `sextant up` starts.
const PROGRAMS: [&str; 5] = ["agent", "control", "services", "api", "node"];

struct Machine {
    folder: tempfile::TempDir,
    listen: String,
}

impl Machine {
    fn new() -> Self {
        testkit::own_namespaces();
        default_route();
        // Not in /tmp, which may be in memory: overlay mounts want a real file system.
        let folder = tempfile::Builder::new().prefix("sextant-up-").tempdir_in("/var/tmp").unwrap();
        // Nobody else is in this network.
        Self { folder, listen: "127.0.0.1:6443".into() }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sextant"));
        command.arg("--data-dir").arg(self.data()).arg("--run-dir").arg(self.folder.path().join("run"));
        command.args(words).stdin(Stdio::null());
        command
    }

    fn ask(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What a command prints, which has to succeed.
    fn says(&self, words: &[&str]) -> String {
        let output = self.ask(words);
        assert!(output.status.success(), "{words:?}: {output:?}\n{}", self.all_words());
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command says of its failure.
    fn refuses(&self, words: &[&str]) -> String {
        let output = self.ask(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Waits until what a command prints is as it should be.
    fn until(&self, words: &[&str], holds: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let output = self.ask(words);
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            if holds(&said) {
                return said;
            }
            assert!(begun.elapsed() < PATIENCE, "{words:?}: {output:?}\n{}", self.all_words());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What all programs said.
    fn all_words(&self) -> String {
        let read = |name: &str| copy_of(&self.data().join(format!("log/{name}.log")));
        PROGRAMS.into_iter().chain(["mesh", "up"]).map(read).collect::<Vec<_>>().join("\n")
    }

    /// A file of the test's own.
    fn file(&self, name: &str, content: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// `sextant up -d`, which has to succeed; what it said.
    fn up(&self, more: &[&str]) -> String {
        let up = self.ask(&[&["up", "-d", "--listen", &self.listen], ROOM, more].concat());
        let words = String::from_utf8(up.stderr).unwrap();
        assert!(up.status.success(), "{words}");
        words
    }

    /// The numbers of what runs, and whether all is up.
    fn status(&self) -> (BTreeMap<String, i32>, bool) {
        let status = self.ask(&["status", "-o", "json"]);
        let told: Value = serde_json::from_slice(&status.stdout).unwrap();
        let is_up = told["up"] == true;
        assert_eq!(status.status.code(), Some(if is_up { 0 } else { 3 }));
        let programs = told["programs"].as_array().unwrap().iter();
        let pids = programs.filter_map(|one| {
            Some((one["name"].as_str()?.to_owned(), i32::try_from(one["pid"].as_i64()?).ok()?))
        });
        (pids.collect(), is_up)
    }

    /// The numbers once all is up and `holds` holds.
    fn wait(&self, holds: impl Fn(&BTreeMap<String, i32>) -> bool) -> BTreeMap<String, i32> {
        let begun = Instant::now();
        loop {
            let (pids, is_up) = self.status();
            if is_up && holds(&pids) {
                return pids;
            }
            assert!(begun.elapsed() < PATIENCE, "{pids:?}, {}", self.words());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What the supervisor said.
    fn words(&self) -> String {
        std::fs::read_to_string(self.data().join("log/up.log")).unwrap_or_default()
    }

    fn serves(&self) -> bool {
        std::net::TcpStream::connect(&self.listen).is_ok()
    }
}

/// Programs of a machine reach Services only where there is a way to everywhere.
fn default_route() {
    let everywhere = "0.0.0.0/0".parse().unwrap();
    let mut batch = Batch::new();
    // Loopback is a new network's first link.
    batch.add_route(&Route { link: Some(1), ..Route::to(everywhere) });
    Socket::open(Protocol::Route).unwrap().run(&batch).unwrap();
}

impl Drop for Machine {
    fn drop(&mut self) {
        let down = self.ask(&["down"]);
        let name = testkit::instance_name(&std::fs::canonicalize(self.folder.path().join("run")).unwrap());
        for group in [name.clone(), format!("{name}-agent")] {
            let _ = kernel::cgroup::destroy(Path::new(&group));
        }
        if !std::thread::panicking() {
            assert!(down.status.success(), "{down:?}");
        }
    }
}

fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Waits until a process that was killed has let go of what it held.
fn gone(pid: i32) {
    let begun = Instant::now();
    while lives(pid) {
        assert!(begun.elapsed() < PATIENCE, "process {pid} lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn lives(pid: i32) -> bool {
    // A zombie of a supervisor that was killed is init's.
    let is_zombie =
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "));
    test_kill_process(Pid::from_raw(pid).unwrap()).is_ok() && !is_zombie
}

fn copy_of(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn what_ends_comes_back_and_what_runs_is_taken_over() {
    let machine = Machine::new();
    let words = machine.up(&["--node-name", "here"]);
    assert!(words.contains("everything is up after") && words.contains("export KUBECONFIG="), "{words}");
    assert!(machine.serves() && copy_of(&machine.data().join("kubeconfig")).contains("127.0.0.1:6443"));
    let first = machine.wait(|_| true);
    assert_eq!(first.len(), 6, "{first:?}");

    let again = machine.ask(&["up", "-d"]);
    assert_eq!(again.status.code(), Some(1));
    let told = String::from_utf8_lossy(&again.stderr);
    assert!(told.contains(&format!("runs already, as process {}", first["up"])), "{told}");

    for name in PROGRAMS {
        kill(first[name], Signal::KILL);
        machine.wait(|pids| pids[name] != first[name]);
        assert!(machine.words().contains("was killed by signal 9, and starts again"), "{}", machine.words());
    }

    let before = machine.wait(|_| true);
    kill(before["up"], Signal::KILL);
    gone(before["up"]);
    machine.up(&["--node-name", "here"]);
    let after = machine.wait(|pids| pids["up"] != before["up"]);
    for name in PROGRAMS {
        assert_eq!(before[name], after[name], "{name} was taken over: {}", machine.words());
    }
    // One that was taken over is watched like the others.
    kill(after["api"], Signal::KILL);
    machine.wait(|pids| pids["api"] != after["api"]);

    // What is to be started otherwise now is started anew, and only that.
    let before = machine.wait(|_| true);
    kill(before["up"], Signal::KILL);
    gone(before["up"]);
    machine.up(&["--node-name", "there"]);
    let after = machine.wait(|_| true);
    assert!(before["node"] != after["node"] && before["api"] == after["api"], "{before:?} {after:?}");

    let down = machine.ask(&["down"]);
    assert!(down.status.success(), "{down:?}");
    let (left, is_up) = machine.status();
    assert!(left.is_empty() && !is_up && !machine.serves(), "{left:?}");
    assert!(after.values().all(|pid| !lives(*pid)), "{after:?}");
    let down = machine.ask(&["down"]);
    assert!(String::from_utf8_lossy(&down.stderr).contains("nothing was up"), "{down:?}");
}

#[test]
fn one_that_comes_to_life_late_makes_room() {
    let machine = Machine::new();
    machine.up(&[]);
    let pids = machine.wait(|_| true);
    // As if the supervisor had been killed before it could hear of it.
    kill(pids["up"], Signal::KILL);
    kill(pids["control"], Signal::KILL);
    let member = machine.folder.path().join("run/up/control");
    let mut late =
        machine.command(&["control", "--bind", "--member", member.to_str().unwrap()]).spawn().unwrap();
    let begun = Instant::now();
    while copy_of(&member).trim() != late.id().to_string() {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    machine.up(&[]);
    let after = machine.wait(|_| true);
    assert!(after["control"] != late.id() as i32 && after["api"] == pids["api"], "{pids:?} {after:?}");
    late.wait().unwrap();
}

#[test]
fn down_ends_what_a_killed_supervisor_has_left() {
    let machine = Machine::new();
    machine.up(&[]);
    let pids = machine.wait(|_| true);
    kill(pids["up"], Signal::KILL);
    gone(pids["up"]);
    assert!(lives(pids["api"]));
    let down = machine.ask(&["down"]);
    assert!(down.status.success(), "{down:?}");
    assert!(machine.status().0.is_empty() && pids.values().all(|pid| !lives(*pid)), "{pids:?}");
}

#[test]
fn a_program_that_cannot_start_ends_the_others_and_is_told() {
    let machine = Machine::new();
    let taken = TcpListener::bind(&machine.listen).unwrap();
    for words in [vec!["up", "-d"], vec!["up"]] {
        let up = machine.ask(&[&words[..], &["--listen", &machine.listen]].concat());
        let told = String::from_utf8_lossy(&up.stderr);
        assert_eq!(up.status.code(), Some(1), "{told}");
        assert!(
            told.contains(
                "sextant: cannot start api: cannot listen on 127.0.0.1:6443: Address already in use"
            ),
            "{told}"
        );
        assert!(machine.status().0.is_empty());
    }
    drop(taken);
    // A child that another test has forked listens, too, until it executes its program.
    let begun = Instant::now();
    while std::net::TcpStream::connect(&machine.listen).is_ok() {
        assert!(begun.elapsed() < PATIENCE, "somebody listens on {}", machine.listen);
        std::thread::sleep(Duration::from_millis(5));
    }
    machine.up(&[]);
}

#[test]
fn in_the_foreground_an_interrupt_ends_it() {
    let machine = Machine::new();
    let log = machine.folder.path().join("said");
    let mut command = machine.command(&["up"]);
    let mut up: Child = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    let pids = machine.wait(|_| true);
    let begun = Instant::now();
    while !copy_of(&log).contains("^C ends the programs") {
        assert!(begun.elapsed() < PATIENCE, "{}", copy_of(&log));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(pids["up"], up.id() as i32);
    kill(pids["up"], Signal::INT);
    assert_eq!(up.wait().unwrap().code(), Some(130));
    assert!(pids.values().all(|pid| !lives(*pid)) && machine.status().0.is_empty());
}
