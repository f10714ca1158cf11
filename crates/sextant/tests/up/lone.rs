//! `sextant reset` beside a program that runs alone, and what it asks a person.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};
use std::time::Instant;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::{Machine, PATIENCE, copy_of, kill};

/// A program that no `sextant up` has started. It ends with this.
pub(super) struct Lone(Child);

impl Drop for Lone {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `sextant api` alone, once it serves.
pub(super) fn api(machine: &Machine) -> Lone {
    let log = machine.folder.path().join("api.words");
    let mut command = machine.command(&["api", "--listen", "127.0.0.1:0"]);
    let api = Lone(command.stderr(File::create(&log).unwrap()).spawn().unwrap());
    let begun = Instant::now();
    while !copy_of(&log).contains("serves on ") {
        assert!(begun.elapsed() < PATIENCE, "{}", copy_of(&log));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    api
}

/// `sextant reset` at a terminal of its own, where a person answers so: its exit code, and what it said.
fn answered(machine: &Machine, answer: &str) -> (Option<i32>, String) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap();
    // It is the reset's, not what this test is ended by.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let line = rustix::fs::open(&*path, flags, Mode::empty()).unwrap();
    let mut reset = machine.command(&["reset"]);
    let mut reset = reset.stdin(Stdio::from(line)).stderr(Stdio::piped()).spawn().unwrap();
    // It is read whenever it asks.
    File::from(master.try_clone().unwrap()).write_all(answer.as_bytes()).unwrap();
    let mut said = String::new();
    reset.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (reset.wait().unwrap().code(), said)
}

#[test]
fn a_reset_leaves_an_api_that_runs_alone_what_it_has() {
    let machine = Machine::new();
    let mut api = api(&machine);
    let refused = machine.refuses(&["reset", "--yes"]);
    assert!(refused.contains("a `sextant api` that `sextant up` has not started uses it"), "{refused}");
    let store = machine.data().join("api/store/objects.redb");
    assert!(store.exists() && api.0.try_wait().unwrap().is_none(), "it runs on");
    kill(i32::try_from(api.0.id()).unwrap(), Signal::TERM);
    api.0.wait().unwrap();

    // As an agent has its folder while it lives.
    let folder = machine.data().join("agent");
    std::fs::create_dir_all(&folder).unwrap();
    let held = File::open(&folder).unwrap();
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    let refused = machine.refuses(&["reset", "--yes"]);
    let words = "a `sextant agent` that `sextant up` has not started uses it";
    assert!(refused.contains(&format!("{}: {words}", folder.display())), "{refused}");
    assert!(store.exists() && folder.exists());
    drop(held);

    // What is not agreed to does not happen; nothing but a yes is one.
    for answer in ["n\n", "\n", "yes please\n"] {
        let (code, said) = answered(&machine, answer);
        assert_eq!(code, Some(1), "{said}");
        let path = machine.data().join("api");
        assert!(
            said.contains(&format!("{} (objects of the API, and its authority)", path.display())),
            "{said}"
        );
        assert!(said.contains("Go on? [y/N] ") && said.contains("nothing is removed"), "{said}");
        assert!(store.exists());
    }
    let (code, said) = answered(&machine, "Y\n");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("nothing of it is left") && !machine.data().join("api").exists(), "{said}");
}
