//! The provider's file, followed: read again where it is another.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::config::{Config, ConfigError};

/// A file that nobody has written into for so long is whole, as far as can be told: it is read.
const QUIET: Duration = Duration::from_secs(1);
/// What is not in a file that was seen unchanged for so long was left out of it: nodes are deleted, and addresses taken away. By this
/// machine's own clock, from when it was seen first: what a file says of its time is another machine's, where it is on a network.
pub(crate) const SETTLED: Duration = Duration::from_secs(30);

/// What a file is known by without being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    /// Device and number: whether it is the same file.
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

fn stamp(path: &Path) -> Option<Stamp> {
    let of = fs::metadata(path).ok()?;
    Some(Stamp {
        file: (of.dev(), of.ino()),
        size: of.size(),
        modified: (of.mtime(), of.mtime_nsec()),
        changed: (of.ctime(), of.ctime_nsec()),
    })
}

impl Stamp {
    /// How long ago somebody has written into it; `None` where its time is still to come, as clocks are set.
    fn age(&self) -> Option<Duration> {
        let seconds = u64::try_from(self.modified.0).ok()?;
        let nanoseconds = u32::try_from(self.modified.1).ok()?;
        let written = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds))?;
        SystemTime::now().duration_since(written).ok()
    }
}

/// A file of `--cloud-config` that is read again where it has changed, also where another has taken its name.
///
/// It is read when nobody has written into it for a second, also one that is new: before, it may be half of what it is to be. One that
/// was written before, and then takes the name of another (`mv`), is whole, and read at once.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    stamp: Option<Stamp>,
    /// It was told that it is not there.
    is_gone: bool,
    /// The stamp that was seen last, and since when.
    seen: Option<(Stamp, Instant)>,
}

impl File {
    /// Reads it for the first time.
    ///
    /// # Errors
    /// It cannot be read, or is not as it must be.
    pub fn open(path: &Path) -> Result<(Self, Config), ConfigError> {
        // Before it is read: what is written meanwhile is read again.
        let stamp = stamp(path);
        let config = Config::read(path)?;
        let seen = stamp.map(|stamp| (stamp, Instant::now()));
        Ok((Self { path: path.into(), stamp, is_gone: false, seen }, config))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says, if it may say something else than when it was read last; an error comes once for each state of the file.
    pub fn again(&mut self) -> Option<Result<Config, ConfigError>> {
        let now = stamp(&self.path);
        if now == self.stamp && (now.is_some() || self.is_gone) {
            return None;
        }
        if let Some(now) = now
            && !self.is_quiet(now)
        {
            return None;
        }
        let read = Config::read(&self.path);
        if stamp(&self.path) != now {
            // Somebody writes: it is read when that is done.
            return None;
        }
        (self.stamp, self.is_gone) = (now, now.is_none());
        Some(read)
    }

    /// Whether what was read last is what the file says, and it was seen so for long, since the start of this process: so whoever is
    /// not in it was left out of it, and not only not written yet.
    pub(crate) fn is_settled(&mut self) -> bool {
        let now = stamp(&self.path);
        now == self.stamp && now.is_none_or(|now| self.seen_for(now) >= SETTLED)
    }

    /// Whether nobody has written for a while into a file that is so now.
    fn is_quiet(&mut self, now: Stamp) -> bool {
        let seen = self.seen_for(now);
        // The clock may be wrong; then it is how long it was seen so.
        now.age().unwrap_or(seen) >= QUIET
    }

    /// How long a file was seen to be so.
    fn seen_for(&mut self, now: Stamp) -> Duration {
        let since = match self.seen {
            Some((seen, since)) if seen == now => since,
            _ => {
                let since = Instant::now();
                self.seen = Some((now, since));
                since
            }
        };
        since.elapsed()
    }

    /// Has it be seen for long as it is now.
    #[cfg(test)]
    pub(crate) fn settle(&mut self) {
        let now = stamp(&self.path).unwrap();
        self.seen = Some((now, Instant::now().checked_sub(SETTLED).unwrap()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_of_a_file_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metal.yaml");
        assert!(File::open(&path).is_err());
        fs::write(&path, "{}").unwrap();
        let (mut file, config) = File::open(&path).unwrap();
        assert_eq!((config, file.path()), (Config::default(), path.as_path()));
        assert!(file.again().is_none());
        // As somebody does who had it ready long ago.
        let replace = |text: &str| {
            let new = dir.path().join("new");
            fs::write(&new, text).unwrap();
            written(&new, SystemTime::now() - Duration::from_secs(3600));
            fs::rename(new, &path).unwrap();
        };
        replace("{}");
        assert_eq!(file.again().unwrap().unwrap(), Config::default(), "another one that says the same");
        replace("pools: 7");
        assert!(file.again().unwrap().is_err());
        assert!(file.again().is_none(), "an error comes once");
        fs::remove_file(&path).unwrap();
        assert!(file.again().unwrap().is_err());
        assert!(file.again().is_none());
        replace("{}");
        assert!(file.again().unwrap().is_ok());
    }

    /// Sets when a file was written, as far as anybody can tell.
    fn written(path: &Path, at: SystemTime) {
        fs::File::options().append(true).open(path).unwrap().set_modified(at).unwrap();
    }

    #[test]
    fn what_is_being_written_is_read_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metal.yaml");
        let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
        let whole = "instances:\n- {name: node-1}\n- {name: node-2}\n";
        fs::write(&path, whole).unwrap();
        written(&path, now - hour);
        let (mut file, config) = File::open(&path).unwrap();
        assert!(file.again().is_none());
        // Half of it reads well, and would take away a machine. As of a clock that is wrong, so that it is never old.
        fs::write(&path, "instances:\n- {name: node-1}\n").unwrap();
        written(&path, now + hour);
        assert!(file.again().is_none());
        fs::write(&path, format!("{whole}- {{name: node-3}}\n")).unwrap();
        written(&path, now + hour + hour);
        assert!(file.again().is_none());
        written(&path, now - hour);
        let read = file.again().unwrap().unwrap();
        assert_eq!((config.instances.unwrap().len(), read.instances.unwrap().len()), (2, 3));
        assert!(file.again().is_none());
        // One that is old as it comes is read as well, and one with a wrong time when it was seen for a while.
        fs::write(&path, whole).unwrap();
        written(&path, now + hour);
        assert!(file.again().is_none());
        if let Some((_, since)) = &mut file.seen {
            *since -= QUIET;
        }
        assert_eq!(file.again().unwrap().unwrap().instances.unwrap().len(), 2);
        // Another that takes its name is whole no sooner: it may be made and written into under that name.
        let new = dir.path().join("new");
        fs::write(&new, "instances:\n- {name: node-1}\n").unwrap();
        written(&new, now + hour);
        fs::rename(&new, &path).unwrap();
        assert!(file.again().is_none());
        written(&path, now - hour);
        assert_eq!(file.again().unwrap().unwrap().instances.unwrap().len(), 1);
    }

    #[test]
    fn a_file_is_settled_by_how_long_it_was_seen_and_not_by_its_own_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metal.yaml");
        let hour = Duration::from_secs(3600);
        fs::write(&path, "{}").unwrap();
        // As a server of files has written it whose clock is behind: it was never written a moment ago.
        written(&path, SystemTime::now() - hour);
        let (mut file, _) = File::open(&path).unwrap();
        assert!(!file.is_settled(), "after a start nobody knows what is still being written");
        file.settle();
        assert!(file.is_settled());
        // Whoever writes the same again writes.
        written(&path, SystemTime::now() - hour - hour);
        assert!(!file.is_settled(), "it is not read");
        assert!(file.again().unwrap().is_ok());
        assert!(!file.is_settled(), "it is read, and was seen for a moment");
        file.settle();
        assert!(file.is_settled());
        fs::remove_file(&path).unwrap();
        assert!(!file.is_settled());
    }
}
