//! Files that change together: a directory whose name a link bears, and the link is exchanged.
//!
//! `KEY` is a link to `..data/KEY`, and `..data` one to a directory of its own for each state. Whoever reads sees all of one state; whoever
//! watches sees `..data` replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use k8s_openapi::jiff::Timestamp;

/// The link to the state of now.
const DATA: &str = "..data";

/// A file's bytes and mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// What is in it.
    pub(super) bytes: Vec<u8>,
    /// Its mode.
    pub(super) mode: u32,
    /// Whose it is, where it is not root's.
    pub(super) owner: Option<u32>,
}

/// Files by path.
pub(super) type Payload = BTreeMap<String, Content>;

/// Makes a directory hold exactly that.
pub(super) fn write(at: &Path, payload: &Payload, group: Option<i64>) -> io::Result<()> {
    let data = at.join(DATA);
    let old = fs::read_link(&data).ok();
    let is_same = old.is_some() && is_there(&data, payload)?;
    if !is_same {
        let name = format!("..{}", Timestamp::now().as_nanosecond());
        fill(&at.join(&name), payload, group)?;
        let fresh = at.join("..data_tmp");
        drop(fs::remove_file(&fresh));
        symlink(&name, &fresh)?;
        fs::rename(&fresh, &data)?;
    }
    links(at, payload)?;
    sweep(at)
}

/// Whether the files of a directory are these.
fn is_there(data: &Path, payload: &Payload) -> io::Result<bool> {
    let mut found = BTreeSet::new();
    walk(data, Path::new(""), &mut found)?;
    let names: BTreeSet<PathBuf> = payload.keys().map(PathBuf::from).collect();
    if found != names {
        return Ok(false);
    }
    for (name, content) in payload {
        let path = data.join(name);
        // A group's rights are added to the mode.
        let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
        if fs::read(&path)? != content.bytes || mode & !0o060 != content.mode & 0o777 & !0o060 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn walk(root: &Path, below: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            walk(root, &path, found)?;
        } else {
            found.insert(path);
        }
    }
    Ok(())
}

fn fill(dir: &Path, payload: &Payload, group: Option<i64>) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(dir)?;
    for (name, content) in payload {
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        let mut file = File::create_new(&path)?;
        file.write_all(&content.bytes)?;
        file.set_permissions(Permissions::from_mode(content.mode))?;
        if let Some(owner) = content.owner {
            std::os::unix::fs::chown(&path, Some(owner), None)?;
        }
        if let Some(group) = group {
            super::share(&path, group, content.mode | 0o440)?;
        }
    }
    Ok(())
}

/// The names that people see: the first part of each path.
fn links(at: &Path, payload: &Payload) -> io::Result<()> {
    let names: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &names {
        match symlink(Path::new(DATA).join(name), at.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
    }
    for entry in fs::read_dir(at)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_ours = entry.file_type()?.is_symlink() && !name.as_encoded_bytes().starts_with(b"..");
        if is_ours && !name.to_str().is_some_and(|name| names.contains(name)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Removes states that are no more, also those of an agent that was killed.
fn sweep(at: &Path) -> io::Result<()> {
    let current = fs::read_link(at.join(DATA))?;
    for entry in fs::read_dir(at)? {
        let entry = entry?;
        let is_state = entry.file_type()?.is_dir() && entry.file_name().as_encoded_bytes().starts_with(b"..");
        if is_state && current.as_os_str() != entry.file_name() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let content = |text: &str| Content { bytes: text.into(), mode: 0o644, owner: None };
        files.iter().map(|(name, text)| ((*name).to_owned(), content(text))).collect()
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.filter(|name| !name.starts_with("..")).collect();
        names.sort();
        names
    }

    #[test]
    fn files_change_together_and_only_when_they_do() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        write(at, &payload(&[("a", "1"), ("d/b", "2")]), None).unwrap();
        assert_eq!(names(at), ["a", "d"]);
        assert_eq!(fs::read_to_string(at.join("d/b")).unwrap(), "2");
        let first = fs::read_link(at.join(DATA)).unwrap();
        write(at, &payload(&[("a", "1"), ("d/b", "2")]), None).unwrap();
        assert_eq!(fs::read_link(at.join(DATA)).unwrap(), first, "nothing has changed");
        // What a killed agent leaves.
        fs::create_dir(at.join("..9")).unwrap();
        symlink("..9", at.join("..data_tmp")).unwrap();
        write(at, &payload(&[("a", "3"), ("c", "4")]), None).unwrap();
        assert_eq!(names(at), ["a", "c"]);
        assert_eq!(fs::read_to_string(at.join("a")).unwrap(), "3");
        let states = fs::read_dir(at).unwrap().filter(|e| e.as_ref().unwrap().file_type().unwrap().is_dir());
        assert_eq!(states.count(), 1);
    }

    #[test]
    fn a_mode_that_changes_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = payload(&[("a", "1")]);
        write(dir.path(), &files, None).unwrap();
        files.get_mut("a").unwrap().mode = 0o400;
        write(dir.path(), &files, None).unwrap();
        let mode = fs::metadata(dir.path().join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o400);
    }
}
