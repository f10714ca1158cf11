//! What a shared effect's file tells without its records being read one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;

use crate::Error;
use crate::journal::{FILE, open_file, read_all};

/// What was seen in files that are still as they were.
#[derive(Debug, Default)]
pub(crate) struct Glances(Mutex<BTreeMap<String, (State, Arc<Glance>)>>);

/// A file only grows, and one that is written anew is another file: so one that has this is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    device: u64,
    inode: u64,
    size: i64,
    changed: (i64, i64),
}

impl State {
    /// None if there is no file.
    fn of(dir: &OwnedFd, folder: &Path) -> Result<Option<Self>, Error> {
        match rustix::fs::statat(dir, FILE, AtFlags::SYMLINK_NOFOLLOW) {
            #[allow(clippy::useless_conversion, reason = "some have other widths on some architectures")]
            Ok(file) => Ok(Some(Self {
                device: file.st_dev.into(),
                inode: file.st_ino.into(),
                size: file.st_size.into(),
                changed: (file.st_ctime.into(), i64::try_from(file.st_ctime_nsec).unwrap_or_default()),
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(Error::access("stat", folder.join(FILE), e)),
        }
    }
}

impl Glances {
    /// [`Glance::of`] the folder of the shared effect `name`, which the caller has locked.
    pub(crate) fn of(
        &self,
        dir: &OwnedFd,
        folder: &Path,
        name: &str,
        boot: &str,
    ) -> Result<Option<Arc<Glance>>, Error> {
        let Some(now) = State::of(dir, folder)? else { return Ok(None) };
        let seen = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, glance)) = seen().get(name).filter(|(then, _)| *then == now) {
            return Ok(Some(Arc::clone(glance)));
        }
        let glance = Glance::of(dir, folder, boot)?.map(Arc::new);
        if let Some(glance) = &glance {
            seen().insert(name.to_owned(), (now, Arc::clone(glance)));
        }
        Ok(glance)
    }
}

/// What is there of a shared effect.
#[derive(Debug, Default)]
pub(crate) struct Glance {
    /// The parts that are there completely.
    pub(crate) made: BTreeSet<String>,
    /// The shared effects that these use themselves.
    pub(crate) uses: BTreeSet<String>,
}

impl Glance {
    /// Looks into `dir`. None if there is no file of this boot, or more to it than parts that are there completely: then
    /// it is for [`Journal::open`](crate::journal::Journal::open).
    fn of(dir: &OwnedFd, folder: &Path, boot: &str) -> Result<Option<Self>, Error> {
        let path = folder.join(FILE);
        let Some(file) = open_file(dir, &path, OFlags::empty())? else { return Ok(None) };
        let text = read_all(&file).map_err(|e| Error::access("read", path, e))?;
        Ok(Self::read(&text, boot))
    }

    /// The file is written by the journal alone: that a line is of some kind shows by how it begins.
    fn read(text: &[u8], boot: &str) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.strip_suffix('\n')?;
        let mut lines = text.split('\n');
        let header = lines.next()?.strip_prefix("{\"format\":")?.split_once(",\"boot\":\"")?.1;
        header.strip_prefix(boot)?.strip_prefix('"')?;
        let mut glance = Self { made: BTreeSet::new(), uses: BTreeSet::new() };
        let mut whole = true;
        for line in lines {
            whole = false;
            if let Some(made) = line.strip_prefix("{\"made\":\"") {
                glance.made.insert(plain(made)?);
                whole = true;
            } else if let Some((_, used)) = line.split_once("\"effect\":\"uses\",\"shared\":\"") {
                glance.uses.insert(plain(used)?);
            } else if !line.starts_with("{\"id\":") {
                return None;
            }
        }
        whole.then_some(glance)
    }
}

/// The string that ends an object, if it is one without escapes.
fn plain(end: &str) -> Option<String> {
    end.strip_suffix("\"}").filter(|text| !text.contains(['"', '\\'])).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glance_sees_what_is_there_completely_and_nothing_else() {
        let header = "{\"format\":2,\"boot\":\"b\",\"next\":1}\n";
        let whole = format!(
            "{header}{}{}",
            "{\"id\":1,\"effect\":\"link\",\"name\":\"x\"}\n{\"made\":\"one\"}\n",
            "{\"id\":2,\"effect\":\"uses\",\"shared\":\"t\"}\n{\"made\":\"two\"}\n",
        );
        let glance = Glance::read(whole.as_bytes(), "b").unwrap();
        assert!(glance.made.iter().eq(["one", "two"]) && glance.uses.iter().eq(["t"]));
        assert!(Glance::read(whole.as_bytes(), "other").is_none());
        let more = [
            "{\"id\":3,\"effect\":\"uses\",\"shared\":\"u\"}\n",
            "{\"struck\":2}\n",
            "{\"made\":\"th",
            "\0\n",
        ];
        for more in more {
            assert!(Glance::read(format!("{whole}{more}").as_bytes(), "b").is_none(), "{more}");
        }
        assert!(Glance::read(header.as_bytes(), "b").is_some_and(|glance| glance.made.is_empty()));
        assert!(Glance::read(b"", "b").is_none());
    }
    #[test]
    fn a_file_that_has_changed_is_looked_into_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let fd = OwnedFd::from(std::fs::File::open(dir.path()).unwrap());
        let glances = Glances::default();
        let made = || {
            let seen = glances.of(&fd, dir.path(), "name", "b").unwrap();
            seen.map(|glance| glance.made.iter().cloned().collect::<Vec<_>>())
        };
        assert_eq!(made(), None);
        let first = "{\"format\":2,\"boot\":\"b\",\"next\":1}\n{\"made\":\"one\"}\n";
        std::fs::write(&path, first).unwrap();
        assert_eq!((made(), made()), (Some(vec!["one".into()]), Some(vec!["one".into()])));
        std::fs::write(&path, format!("{first}{{\"struck\":1}}\n")).unwrap();
        assert_eq!(made(), None);
        // Written anew, of the same length.
        std::fs::write(dir.path().join("new"), first.replace("one", "two")).unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(made(), Some(vec!["two".into()]));
    }
}
