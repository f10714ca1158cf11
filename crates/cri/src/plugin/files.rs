//! Files that are written whole.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::contract::Error;

/// Makes a directory and those above it, 0700.
pub(crate) fn make_dir(path: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| Error::internal(format!("cannot create {}: {e}", path.display())))
}

/// Replaces a file: a reader sees the old or the new one. Not durable; nobody waits for a disk.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let next = path.with_extension("next");
    fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&next)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&next, path))
        .map_err(|e| Error::internal(format!("cannot write {}: {e}", path.display())))
}

/// Replaces a file by `value` as JSON.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let bytes = serde_json::to_vec(value)
        .map_err(|e| Error::internal(format!("cannot write {}: {e}", path.display())))?;
    write(path, &bytes, 0o600)
}

/// Whether a file of JSON ends before its value does: what a power cut leaves of one that nobody waited for.
pub(crate) fn is_torn(path: &Path) -> bool {
    let read = fs::read(path).ok().map(|bytes| serde_json::from_slice::<serde::de::IgnoredAny>(&bytes));
    read.is_some_and(|value| value.is_err_and(|e| e.is_eof()))
}

/// Reads JSON, if the file is there.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let failed = |e: &dyn std::fmt::Display| Error::internal(format!("cannot read {}: {e}", path.display()));
    match fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(&e)),
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| failed(&e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_cut_off_is_told_from_one_that_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let torn = |text: &str| {
            fs::write(&path, text).unwrap();
            is_torn(&path)
        };
        assert!(torn("") && torn("{\"id\": \"a") && torn("{\"id\": \"a\""));
        assert!(!torn("{}") && !torn("{} x") && !torn("no"));
        assert!(!is_torn(&dir.path().join("none")));
    }
}
