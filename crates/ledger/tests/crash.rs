//! A process that is killed at each of its ledger steps in turn, and the one that converges after it.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ledger::{Effect, Error, Ledger, OwnerId, Record};

const PLACE: &str = "SEXTANT_LEDGER_TEST_PLACE";

/// What the killed process does: effects, a shared effect joined and left, some undone, some left to others.
#[test]
#[ignore = "the child of `killed_at_every_step`"]
fn child() {
    let place = PathBuf::from(std::env::var(PLACE).unwrap());
    let (ledger, outside) = (ledger(&place), place.join("outside"));
    let make = |path: &Path| fs::write(path, "").unwrap();
    let mut owner = ledger.owner(&OwnerId::new("a").unwrap()).unwrap();
    let first = owner.record(Effect::File { path: outside.join("first") }).unwrap();
    make(&outside.join("first"));
    share(&mut owner, &outside);
    let tree = place.join("data/tree");
    owner.record(Effect::Tree { path: tree.clone() }).unwrap();
    fs::create_dir_all(tree.join("x/y")).unwrap();
    owner.undo(first).unwrap();
    let mut second = ledger.owner(&OwnerId::new("b").unwrap()).unwrap();
    share(&mut second, &outside);
    share_more(&mut owner, &outside, true).unwrap_err();
    share_more(&mut owner, &outside, false).unwrap();
    share_more(&mut second, &outside, false).unwrap();
    // Its inverse by another way, and one record more: they are struck in one write with it.
    let known = Effect::File { path: outside.join("known") };
    owner.record(known.clone()).unwrap();
    make(&outside.join("known"));
    fs::remove_file(outside.join("known")).unwrap();
    owner.undone(&known).unwrap();
    owner.record(Effect::File { path: outside.join("next") }).unwrap();
    make(&outside.join("next"));
    assert!(owner.undo_all().is_empty());
    assert!(outside.join("shared").exists() && outside.join("third").exists(), "b still uses it");
    assert!(outside.join("table").exists(), "what b uses does so, too");
    second.record(Effect::File { path: outside.join("last") }).unwrap();
    make(&outside.join("last"));
    assert!(second.undo_all().is_empty());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

/// A part that comes later, and uses another shared effect.
fn share_more(owner: &mut ledger::Owner, outside: &Path, fails: bool) -> Result<(), Error> {
    let (third, table) = (outside.join("third"), outside.join("table"));
    owner.share_part("bridge", "more", &mut |record| {
        record.record(Effect::File { path: third.clone() })?;
        fs::File::create_new(&third)?;
        record.share("table", &mut |record| {
            record.record(Effect::File { path: table.clone() })?;
            Ok(fs::File::create_new(&table).map(drop)?)
        })?;
        if fails { Err("no".into()) } else { Ok(()) }
    })
}

fn ledger(place: &Path) -> Ledger {
    Ledger::open(&place.join("run"), &place.join("data")).unwrap()
}

fn share(owner: &mut ledger::Owner, outside: &Path) {
    let (one, two) = (outside.join("shared"), outside.join("shared-too"));
    owner
        .share("bridge", &mut |record| {
            record.record(Effect::File { path: one.clone() })?;
            fs::File::create_new(&one)?;
            record.record(Effect::File { path: two.clone() })?;
            fs::File::create_new(&two)?;
            Ok(())
        })
        .unwrap();
}

#[test]
fn killed_at_every_step() {
    let mut kills = 0;
    loop {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("outside")).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "child"]).env(PLACE, place.path());
        let output = command.env("SEXTANT_CRASH_AT", kills.to_string()).output().unwrap();
        let killed = output.status.signal() == Some(9);
        assert!(killed || output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let ledger = ledger(place.path());
        let report = ledger.converge(&|_| false);
        assert!(report.errors.is_empty(), "killed at step {kills}: {report:?}");
        let left: Vec<_> = fs::read_dir(place.path().join("outside")).unwrap().collect();
        assert!(left.is_empty(), "killed at step {kills}: {left:?}");
        assert!(!place.path().join("data/tree").exists(), "killed at step {kills}");
        assert_eq!(ledger.owners().unwrap(), [], "killed at step {kills}");
        if !killed {
            break;
        }
        kills += 1;
    }
    assert!(kills > 90, "only {kills} steps");
}

#[test]
fn steps_are_counted_into_a_file() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("outside")).unwrap();
    let count = place.path().join("count");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--ignored", "--exact", "child"])
        .env(PLACE, place.path())
        .env("SEXTANT_CRASH_COUNT", &count);
    assert!(command.output().unwrap().status.success());
    let text = fs::read_to_string(count).unwrap();
    let steps: Vec<u64> = text.lines().map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect();
    assert!(steps.len() > 90 && steps.iter().copied().eq(0..steps.len() as u64));
    assert!(text.lines().next().unwrap().ends_with(" 0 before-record"));
}

#[test]
fn a_held_owner_is_left_alone_and_one_that_comes_alive_too() {
    let place = tempfile::tempdir().unwrap();
    let (ledger, id) = (ledger(place.path()), OwnerId::new("a").unwrap());
    let mut owner = ledger.owner(&id).unwrap();
    owner.record(Effect::File { path: place.path().join("x") }).unwrap();
    assert!(ledger.try_owner(&id).unwrap().is_none());
    assert_eq!(ledger.converge(&|_| false).busy, std::slice::from_ref(&id));
    drop(owner);
    // A child that another test has forked has the lock until it executes its program.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(180);
    while ledger.try_owner(&id).unwrap().is_none() {
        assert!(std::time::Instant::now() < end, "the lock has not gone with its owner");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(ledger.converge(&|_| true).undone.is_empty());
    let asked = std::cell::Cell::new(0);
    let late = |_: &OwnerId| asked.replace(asked.get() + 1) > 0;
    assert!(ledger.converge(&late).undone.is_empty());
    assert_eq!(asked.get(), 2, "once before the lock, once under it");
    assert_eq!(ledger.converge(&|_| false).undone, [id]);
}

#[test]
fn what_has_no_safe_inverse_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let mut owner = ledger(place.path()).owner(&OwnerId::node()).unwrap();
    for bad in [
        Effect::Tree { path: "/".into() },
        Effect::Tree { path: "relative".into() },
        Effect::Tree { path: "/var/lib/sextant/../..".into() },
        Effect::File { path: "".into() },
        Effect::Cgroup { path: "/".into() },
        Effect::Cgroup { path: "sextant/../..".into() },
        Effect::Process { pid: 1, start_time: 0 },
        Effect::Process { pid: -1, start_time: 0 },
        Effect::Link { name: String::new() },
    ] {
        assert!(matches!(owner.record(bad.clone()), Err(Error::RefuseEffect { .. })), "{bad:?}");
    }
    assert!(matches!(owner.share("effects", &mut |_| Ok(())), Err(Error::NameOwner { .. })));
    assert!(owner.is_empty());
}

#[test]
fn records_of_a_newer_version_are_kept_and_damage_is_told_once() {
    let place = tempfile::tempdir().unwrap();
    let (ledger, id) = (ledger(place.path()), OwnerId::new("a").unwrap());
    let mut owner = ledger.owner(&id).unwrap();
    let path = place.path().join("x");
    owner.record(Effect::File { path: path.clone() }).unwrap();
    drop(owner);
    fs::write(&path, "").unwrap();
    let file = place.path().join("run/ledger/a/effects");
    let mut text = fs::read(&file).unwrap();
    text.extend_from_slice(b"{\"id\":2,\"effect\":\"wormhole\",\"to\":\"mars\"}\n\0\0\0\n");
    fs::write(&file, text).unwrap();
    let errors = ledger.owner(&id).unwrap().undo_all();
    assert!(
        matches!(errors.as_slice(), [Error::ReadRecord { line: 4, .. }, Error::UndoUnknown { .. }]),
        "{errors:?}"
    );
    assert!(!path.exists(), "it goes on past errors");
    assert!(fs::read_to_string(&file).unwrap().contains("wormhole"));
}

#[test]
fn the_file_does_not_grow_for_ever() {
    let place = tempfile::tempdir().unwrap();
    let mut node = ledger(place.path()).owner(&OwnerId::node()).unwrap();
    let kept = node.record(Effect::File { path: place.path().join("kept") }).unwrap();
    for _ in 0..2000 {
        let id = node.record(Effect::File { path: place.path().join("x") }).unwrap();
        node.undo(id).unwrap();
    }
    let file = place.path().join("run/ledger/node/effects");
    assert!(fs::read_to_string(&file).unwrap().lines().count() < 1100);
    drop(node);
    let node = ledger(place.path()).owner(&OwnerId::node()).unwrap();
    assert_eq!(node.records().first().map(|(id, _)| *id), Some(kept));
}

#[test]
fn what_outlives_the_kernel_is_under_the_data_directory_and_outlives_a_boot() {
    let place = tempfile::tempdir().unwrap();
    let (ledger, id) = (ledger(place.path()), OwnerId::new("a").unwrap());
    let mut owner = ledger.owner(&id).unwrap();
    let files = ["outside", "data/inside", "durable"].map(|name| place.path().join(name));
    owner.record(Effect::File { path: files[0].clone() }).unwrap();
    owner.record(Effect::File { path: files[1].clone() }).unwrap();
    owner.record_durable(Effect::File { path: files[2].clone() }).unwrap();
    drop(owner);
    files.iter().for_each(|file| fs::write(file, "").unwrap());
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let run = place.path().join("run/ledger/a/effects");
    let text = fs::read_to_string(&run).unwrap();
    assert_eq!(text.lines().count(), 2, "a header and the one record that dies with the kernel: {text}");
    fs::write(&run, text.replace(boot.trim(), "another")).unwrap();
    // The owner is alive: only what died with the other kernel is gone, its file included.
    assert!(ledger.converge(&|_| true).errors.is_empty());
    assert_eq!(files.each_ref().map(|file| file.exists()), [false, true, true]);
    let owner = ledger.owner(&id).unwrap();
    assert_eq!(owner.records().len(), 2);
    assert!(owner.undo_all().is_empty());
    assert_eq!(files.each_ref().map(|file| file.exists()), [false; 3]);
    assert_eq!(ledger.owners().unwrap(), []);
}
