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
