//! Somebody waits for a commit that nobody begins.

use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use kernel::btrfs;

use super::super::disk::Disk;
use super::{Commits, PATIENCE};

/// The kernel begins one by itself after 30 s.
const LATE: Duration = Duration::from_secs(20);

/// As the kernel's thread that did not hear of it: where it does by itself depends on who else wants the processor.
#[test]
fn what_was_missed_is_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), 256 << 20);
    let root = Arc::new(File::open(disk.path()).unwrap());
    let commits = Commits::of(Arc::clone(&root));
    // One that was not missed, after which nobody needs looking after.
    commits.commit().unwrap();
    for name in [c"a", c"b"] {
        btrfs::create(&root, name).unwrap();
        let made = File::open(disk.path().join(name.to_str().unwrap())).unwrap();
        let transaction = btrfs::subvolume(made).unwrap().made;
        commits.shared.begin();
        let began = Instant::now();
        btrfs::wait_for_commit(&root, transaction).unwrap();
        assert!(began.elapsed() < LATE, "it took {:?}", began.elapsed());
        commits.shared.end();
        while !commits.shared.waits().is_idle {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

static ASKED: AtomicUsize = AtomicUsize::new(0);
static BEGUN: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

/// As the kernel's thread is busy with another commit until it was asked three times.
fn missed_twice(_: &File) {
    let number = ASKED.fetch_add(1, Ordering::SeqCst);
    let mut begun = BEGUN.0.lock().unwrap();
    if number == 2 {
        *begun = true;
        BEGUN.1.notify_all();
    }
    drop(BEGUN.1.wait_while(begun, |begun| !*begun).unwrap());
}

#[test]
fn who_asks_again_may_be_missed_as_well() {
    let commits = Commits::asked_by(Arc::new(tempfile::tempfile().unwrap()), missed_twice);
    commits.look_after();
    commits.shared.begin();
    let began = BEGUN.0.lock().unwrap();
    let (began, late) = BEGUN.1.wait_timeout_while(began, LATE, |begun| !*begun).unwrap();
    assert!(*began && !late.timed_out());
    drop(began);
    commits.shared.end();
    assert_eq!(commits.shared.waits().patience, PATIENCE);
}
