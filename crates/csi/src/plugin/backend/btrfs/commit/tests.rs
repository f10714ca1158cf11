//! Somebody waits for a commit that nobody begins.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel::btrfs;

use super::super::disk::Disk;
use super::Commits;

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
        commits.shared.waits().callers -= 1;
        while !commits.shared.waits().is_idle {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
