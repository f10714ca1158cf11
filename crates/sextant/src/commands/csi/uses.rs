//! Where people have volumes. CSI makes it the caller's affair that a volume is staged and attached as long as it is at any path, and
//! no longer: a file for each volume says so, written before a call is made and removed after the last of it is undone. It is in the
//! run directory, as mounts go with the boot.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::failure::{Context, Failure, Result};

const FILE: &str = "uses.json";

/// What is, or may be, there of one volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Held {
    /// The node that it is attached to.
    pub(super) node: Option<String>,
    /// Where it is staged.
    pub(super) staging: Option<String>,
    /// How it was asked for first.
    pub(super) how: How,
    /// Where it is published.
    pub(super) paths: BTreeSet<String>,
}

/// How a volume is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct How {
    pub(super) block: bool,
    pub(super) fs_type: String,
    pub(super) options: Vec<String>,
}

impl Held {
    pub(super) fn is_nothing(&self) -> bool {
        self.node.is_none() && self.staging.is_none() && self.paths.is_empty()
    }
}

/// A volume's file. While it is open, other commands that want to publish or unpublish wait.
#[derive(Debug)]
pub(super) struct Uses {
    pub(super) held: Held,
    place: PathBuf,
    _lock: File,
}

impl Uses {
    pub(super) fn open(run_dir: &Path, driver: &str, id: &str) -> Result<Uses> {
        let root = std::path::absolute(run_dir.join("csi-published"))
            .context(|| format!("find {}", run_dir.display()))?;
        make(&root)?;
        let lock = File::open(&root)
            .and_then(|root| flock(&root, FlockOperation::LockExclusive).map(|()| root).map_err(Into::into))
            .context(|| format!("lock {}", root.display()))?;
        let place = root.join(escaped(driver)).join(escaped(id));
        let file = place.join(FILE);
        let held = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Held::default(),
            read => {
                let bytes = read.context(|| format!("read {}", file.display()))?;
                serde_json::from_slice(&bytes).context(|| format!("read {}", file.display()))?
            }
        };
        Ok(Uses { held, place, _lock: lock })
    }

    /// Keeps what is held, or removes the file of what is not.
    pub(super) fn keep(&self) -> Result<()> {
        let file = self.place.join(FILE);
        if !self.held.is_nothing() {
            make(&self.place)?;
            // A command that is killed here leaves the old one or the new one.
            let next = self.place.join("uses.next");
            return fs::write(&next, serde_json::to_vec(&self.held)?)
                .and_then(|()| fs::rename(&next, &file))
                .context(|| format!("write {}", file.display()));
        }
        for file in [file, self.place.join("uses.next")] {
            match fs::remove_file(&file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.context(|| format!("remove {}", file.display()))?,
            }
        }
        // Another volume of the driver, or what the driver has left, may keep them.
        for directory in self.place.ancestors().take(2) {
            let _kept = fs::remove_dir(directory);
        }
        Ok(())
    }

    /// A directory to stage the volume in, which is made.
    pub(super) fn staging(&self) -> Result<String> {
        let path = self.place.join("staging");
        make(&path)?;
        let text = path.into_os_string().into_string();
        text.map_err(|path| Failure::new(format!("{path:?} is no text, and CSI takes only text for a path")))
    }
}

fn make(directory: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.context(|| format!("make {}", directory.display()))
}

/// An id as the name of a directory, which no other id has.
fn escaped(id: &str) -> String {
    let mut name = String::new();
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            // "." and ".." are directories already.
            b'.' if !name.is_empty() => name.push('.'),
            _ => {
                let _infallible = write!(name, "%{byte:02X}");
            }
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_volumes_share_a_place() {
        let ids = ["a/b", "a_b", "a%2Fb", "a.b", ".", "..", "a", "A", "ä", "../a", "a/../a"];
        let names: BTreeSet<String> = ids.iter().map(|id| escaped(id)).collect();
        assert_eq!(names.len(), ids.len(), "{names:?}");
        for name in names {
            let parts: Vec<_> = Path::new(&name).components().collect();
            assert!(matches!(parts.as_slice(), [std::path::Component::Normal(_)]), "{name:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let place = |driver, id| Uses::open(dir.path(), driver, id).unwrap().place;
        assert_ne!(place("one.example.com", "a"), place("two.example.com", "a"));
    }

    #[test]
    fn what_is_held_is_found_again_and_nothing_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut uses = Uses::open(dir.path(), "d", "v/1").unwrap();
        uses.held.staging = Some(uses.staging().unwrap());
        uses.held.paths.insert("/mnt/a".into());
        uses.keep().unwrap();
        let (held, place) = (uses.held.clone(), uses.place.clone());
        // It waits for nobody: this one is closed.
        drop(uses);
        let mut again = Uses::open(dir.path(), "d", "v/1").unwrap();
        assert_eq!(again.held, held);
        fs::remove_dir(place.join("staging")).unwrap();
        again.held = Held::default();
        again.keep().unwrap();
        assert_eq!(fs::read_dir(dir.path().join("csi-published")).unwrap().count(), 0);
    }
}
