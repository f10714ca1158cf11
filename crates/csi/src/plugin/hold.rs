//! A file that one driver holds.

use std::fs::File;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// A process between its start and its program holds the locks of the one that started it: of a driver that has just ended, say.
const MOMENT: Duration = Duration::from_millis(20);
const MOMENTS: usize = 100;

/// Locks a file for as long as it is open; false where another driver has it.
pub(in crate::plugin) fn hold(file: &File) -> rustix::io::Result<bool> {
    for _ in 0..MOMENTS {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => std::thread::sleep(MOMENT),
            done => return done.map(|()| true),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_about_to_go_is_waited_for_and_one_that_stays_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let other = File::create(&path).unwrap();
        assert!(hold(&other).unwrap());
        let own = File::open(&path).unwrap();
        let goes = std::thread::spawn(move || {
            std::thread::sleep(5 * MOMENT);
            drop(other);
        });
        // On a busy machine it may go late; who does not wait has tried ten times by then.
        assert!((0..10).any(|_| hold(&own).unwrap()));
        goes.join().unwrap();
        assert!(!hold(&File::open(&path).unwrap()).unwrap());
    }
}
