//! The crash harness on two programs: one that records before it acts, and one that does not.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ledger::{Effect, Ledger, OwnerId, Record};
use testkit::crash::{Crash, Toll};
use testkit::{Machine, Random};

const PLACE: &str = "SEXTANT_TESTKIT_PLACE";

fn ledger(place: &Path) -> Ledger {
    Ledger::open(&place.join("run"), &place.join("data")).unwrap()
}

/// What is killed: it makes three files and takes them back.
#[test]
#[ignore = "the child of the other tests"]
fn child() {
    let place = PathBuf::from(std::env::var(PLACE).unwrap());
    let careless = std::env::var_os("CARELESS").is_some();
    let mut owner = ledger(&place).owner(&OwnerId::new("a").unwrap()).unwrap();
    for name in ["1", "2", "3"] {
        let path = place.join("outside").join(name);
        if careless {
            fs::write(&path, "").unwrap();
        }
        owner.record(Effect::File { path: path.clone() }).unwrap();
        std::thread::sleep(Duration::from_millis(3));
        fs::write(&path, "").unwrap();
    }
    assert!(owner.undo_all().is_empty());
}

fn toll(careless: bool, at_moments: bool) -> Toll {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("outside")).unwrap();
    let crash = Crash {
        name: "child",
        // Others are at work on this machine.
        machine: Machine::new().only("sextant-nobody").files_under(place.path().join("outside")),
        prepare: &|| Ok(()),
        victim: &|| {
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args(["--ignored", "--exact", "child"]).env(PLACE, place.path());
            if careless {
                child.env("CARELESS", "1");
            }
            child
        },
        recover: &|| {
            assert!(ledger(place.path()).converge(&|_| false).errors.is_empty());
            Ok(())
        },
        settle: Duration::from_millis(100),
        limit: Duration::from_secs(30),
    };
    let mut random = Random::new(7);
    if at_moments { crash.at_moments(10, &mut random) } else { crash.at_steps(u64::MAX, &mut random) }
        .unwrap()
}

#[test]
fn one_that_records_first_converges_at_every_step() {
    let toll = toll(false, false);
    assert!(toll.failures.is_empty(), "{:?}", toll.failures);
    assert!(toll.runs > 8 && toll.killed == toll.runs, "{toll:?}");
}

#[test]
fn one_that_records_first_converges_at_any_moment() {
    let toll = toll(false, true);
    assert!(toll.failures.is_empty(), "{:?}", toll.failures);
    assert_eq!(toll.runs, 10);
}

#[test]
fn one_that_records_too_late_is_caught() {
    let toll = toll(true, false);
    assert!(!toll.failures.is_empty());
    assert!(toll.failures.iter().all(|failure| failure.contains("left over: file")), "{:?}", toll.failures);
}
