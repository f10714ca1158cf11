//! What a program that `sextant up` started says of itself: a file that it holds locked for as long as it lives.
//!
//! The lock goes with the process, however that ends, so a supervisor that was started anew finds by it which programs of the one before it
//! still live. The number in the file is that of the process that has the lock.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use kernel::process::Child as Process;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::failure::{Context, Failure, Result};

/// Held until the process ends.
static HELD: OnceLock<File> = OnceLock::new();
/// A process between its start and its program holds the locks of the one that started it, for a moment.
const MOMENT: Duration = Duration::from_millis(20);
const MOMENTS: usize = 100;

/// Says that this process is the one that `file` is about, until it ends.
///
/// # Errors
/// Another process is, which it names.
pub(crate) fn enter(file: &Path) -> Result<()> {
    // The supervisor takes signals from a descriptor, and so blocks them.
    kernel::signal::block_none();
    let cannot = || format!("lock {}", file.display());
    let mut opened = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(file)
        .context(|| format!("open {}", file.display()))?;
    let mut tries = MOMENTS;
    while let Err(errno) = flock(&opened, FlockOperation::NonBlockingLockExclusive) {
        if errno != Errno::WOULDBLOCK {
            return Err(errno).context(cannot);
        }
        tries -= 1;
        if tries == 0 {
            let other = written(file).map_or_else(String::new, |pid| format!(", as process {pid}"));
            return Err(Failure::new(format!("cannot start: it is running already{other}")));
        }
        std::thread::sleep(MOMENT);
    }
    opened.set_len(0).and_then(|()| writeln!(opened, "{}", std::process::id())).context(cannot)?;
    // It cannot be held already: a process enters once.
    let _ = HELD.set(opened);
    Ok(())
}

/// The living process that `file` is about.
pub(super) fn living(file: &Path) -> Option<Process> {
    let opened = File::open(file).ok()?;
    for _ in 0..MOMENTS {
        if flock(&opened, FlockOperation::NonBlockingLockShared).is_ok() {
            return None;
        }
        // It writes its number right after it has the lock. Whoever has the number while it still has the lock is that process.
        if let Some(pid) = written(file)
            && let Ok(pidfd) = kernel::process::pidfd(pid)
            && flock(&opened, FlockOperation::NonBlockingLockShared).is_err()
            && written(file) == Some(pid)
        {
            return Some(Process { pid, pidfd });
        }
        std::thread::sleep(MOMENT);
    }
    None
}

fn written(file: &Path) -> Option<i32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_holds_a_file_that_is_only_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("api");
        let living = |file: &Path| living(file).map(|process| process.pid);
        assert_eq!(living(&file), None);
        fs::write(&file, "1\n").unwrap();
        assert_eq!(living(&file), None);
        // Another description of the file is as good as another process.
        let other = File::open(&file).unwrap();
        flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert_eq!(living(&file), Some(1));
        drop(other);
        enter(&file).unwrap();
        assert_eq!(living(&file), i32::try_from(std::process::id()).ok());
    }
}
