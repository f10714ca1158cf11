//! Links to containers' logs by names that say whose they are, `POD_NAMESPACE_CONTAINER-ID.log`: collectors of logs look for these.
//!
//! Nothing depends on them: one that cannot be made is told of, and the container runs.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

use super::logs;
use crate::agent::Agent;
use crate::names::Key;
use crate::observed::name_of;

/// The longest name of a file, in bytes.
const LONGEST: usize = 255;
/// How names end.
const END: &str = ".log";

/// The link to the log of a container of a pod.
fn path(folder: &Path, key: &Key, container: &str, id: &str) -> PathBuf {
    let mut name = format!("{}_{}_{container}-{id}", key.name.name, key.name.namespace);
    // The runtime's word for an id is not bound to letters of one byte.
    name.truncate(name.floor_char_boundary(LONGEST - END.len()));
    folder.join(name + END)
}

/// Makes the link of a container that was started, where it has a log.
///
/// # Errors
/// It cannot be made: a text for people.
pub(crate) fn make(folder: &Path, key: &Key, container: &str, id: &str, log: &Path) -> Result<(), String> {
    if !log.exists() {
        return Ok(());
    }
    let path = path(folder, key, container, id);
    let folder = DirBuilder::new().recursive(true).mode(0o755).create(folder);
    let made = folder.and_then(|()| link(log, &path));
    made.map_err(|error| format!("cannot link {} to {}: {error}", path.display(), log.display()))
}

/// Has this path lead to this log, and to no other.
fn link(log: &Path, path: &Path) -> io::Result<()> {
    match symlink(log, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    if fs::read_link(path)? == log {
        return Ok(());
    }
    // Where names are cut off several containers have one: who was started last is looked for.
    fs::remove_file(path)?;
    symlink(log, path)
}

/// Makes those that containers of these pods lack: who was killed has started some and not made theirs.
pub(crate) async fn complete(agent: &Agent, keys: &[Key]) {
    for key in keys {
        // The runtime may be gone again: these pods are looked at once it is back, and what they lack is no more than a link.
        let Ok(observed) = agent.runtime.observe(&key.uid).await else { continue };
        for one in observed.running().filter(|one| !one.log_path.is_empty()) {
            let log = Path::new(&one.log_path);
            if let Err(why) = make(&agent.setup.log_links, key, name_of(one), &one.id, log) {
                eprintln!("sextant agent: warning: {why}");
            }
        }
    }
}

/// Whether nothing is left of a log: while it is rotated it is there by its next name alone.
fn is_gone(log: &Path) -> bool {
    let left = || match logs::rotated(log) {
        Ok(all) => !all.is_empty(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    };
    !log.exists() && !left()
}

/// Removes the links to logs below `logs` of which nothing is left.
pub(crate) fn tidy(folder: &Path, logs: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_dead = fs::read_link(&path).is_ok_and(|log| log.starts_with(logs) && is_gone(&log));
        if is_dead {
            // What stays is looked at again when the next pod goes.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use client::cache::Name;

    use super::*;

    #[test]
    fn links_are_named_after_who_writes_and_go_with_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, logs) = (dir.path().join("containers"), dir.path().join("pods"));
        let key = Key { name: Name::new("default", "web"), uid: "u".into() };
        let log = key.logs(&logs).join("main/0.log");
        make(&folder, &key, "main", "id", &log).unwrap();
        assert!(!folder.exists(), "there is no log");
        fs::create_dir_all(log.parent().unwrap()).unwrap();
        fs::write(&log, "words").unwrap();
        make(&folder, &key, "main", "id", &log).unwrap();
        make(&folder, &key, "main", "id", &log).unwrap();
        assert_eq!(fs::read_to_string(folder.join("web_default_main-id.log")).unwrap(), "words");
        let long = "x".repeat(250);
        make(&folder, &key, "main", &long, &log).unwrap();
        // Another container of the same beginning is not hidden by it.
        let next = log.with_file_name("1.log");
        fs::write(&next, "more").unwrap();
        make(&folder, &key, "main", &format!("{long}y"), &next).unwrap();
        assert_eq!(fs::read_link(path(&folder, &key, "main", &long)).unwrap(), next);
        make(&folder, &key, "main", &long, &log).unwrap();
        assert_eq!(fs::read_link(path(&folder, &key, "main", &long)).unwrap(), log);
        fs::remove_file(&next).unwrap();
        // It is cut off between letters.
        for id in ["\u{fc}".repeat(200), format!("x{}", "\u{fc}".repeat(200))] {
            let name = path(&folder, &key, "main", &id).file_name().unwrap().to_str().unwrap().to_owned();
            assert!((LONGEST - 1..=LONGEST).contains(&name.len()) && name.ends_with("\u{fc}.log"), "{name}");
        }
        // Somebody else's are left alone.
        symlink(dir.path().join("other/0.log"), folder.join("other.log")).unwrap();
        let names = || {
            let mut all: Vec<_> =
                fs::read_dir(&folder).unwrap().map(|one| one.unwrap().file_name()).collect();
            all.sort();
            all
        };
        tidy(&folder, &logs);
        assert_eq!(names().len(), 3);
        assert!(names().iter().any(|name| name.len() == LONGEST));
        // Its next file comes with its next line.
        let old = log.with_file_name("0.log.20260101-000001");
        fs::rename(&log, &old).unwrap();
        tidy(&folder, &logs);
        assert_eq!(names().len(), 3, "it is rotated");
        fs::remove_file(&old).unwrap();
        make(&folder, &key, "main", "other", &log).unwrap();
        tidy(&folder, &logs);
        assert_eq!(names(), ["other.log"]);
        fs::write(&log, "words").unwrap();
        make(&folder, &key, "main", "id", &log).unwrap();
        fs::remove_dir_all(&logs).unwrap();
        tidy(&folder, &logs);
        assert_eq!(names(), ["other.log"]);
    }
}
