//! What is written down of static pods before anything of them is made: whoever finds no file of one any more ends it as it was asked for,
//! also where no API server says that it is gone.
//!
//! A record is in the pod's own folder, `pods/UID/static.json`, and goes with that, last of all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use crate::volumes;

/// A record's file.
const FILE: &str = "static.json";
/// The same before it is whole.
const FRESH: &str = "static.new";

/// A static pod that was begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The file that it was read from.
    pub(super) file: PathBuf,
    /// The pod.
    pub(super) pod: Pod,
}

/// Writes a record of a pod, where there is none: its uid follows from its file, so what is there is this one.
///
/// # Errors
/// It cannot be written.
pub(super) fn write(folder: &Path, record: &Record) -> Result<(), String> {
    let place = volumes::folder(folder, record.pod.metadata.uid.as_deref().unwrap_or_default());
    // An empty one is what the end of the machine has left.
    if fs::metadata(place.join(FILE)).is_ok_and(|there| there.len() > 0) {
        return Ok(());
    }
    volumes::write_record(&place, [FILE, FRESH], record)
}

/// All records, the oldest first; what cannot be read is told of and left out.
pub(super) fn all(folder: &Path) -> Vec<Record> {
    let mut found = Vec::new();
    for uid in volumes::uids(folder) {
        let path = volumes::folder(folder, &uid).join(FILE);
        let read = || -> io::Result<_> {
            let when = fs::metadata(&path)?.modified()?;
            let record: Record = serde_json::from_slice(&fs::read(&path)?)?;
            Ok((when, record))
        };
        match read() {
            // By its uid it is found in the runtime.
            Ok((when, record)) if record.pod.metadata.uid.as_ref() == Some(&uid) => {
                found.push((when, record))
            }
            Ok(_) => eprintln!("sextant agent: warning: {} tells of another pod", path.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => eprintln!("sextant agent: warning: cannot read {}: {error}", path.display()),
        }
    }
    found.sort_by_key(|(when, _)| *when);
    found.into_iter().map(|(_, record)| record).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;

    #[test]
    fn records_come_back_and_half_of_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let record = |uid: &str| Record {
            file: "/etc/pods/web.yaml".into(),
            pod: serde_json::from_value(json!({"metadata": {"uid": uid}, "spec": {"containers": []}}))
                .unwrap(),
        };
        assert_eq!(all(folder.path()), []);
        write(folder.path(), &record("one")).unwrap();
        write(folder.path(), &record("one")).unwrap();
        write(folder.path(), &record("two")).unwrap();
        fs::create_dir_all(folder.path().join("pods/none")).unwrap();
        assert_eq!(all(folder.path()), [record("one"), record("two")]);
        let at = |uid: &str| folder.path().join("pods").join(uid).join(FILE);
        fs::write(at("one"), "{").unwrap();
        fs::copy(at("two"), at("none")).unwrap();
        assert_eq!(all(folder.path()), [record("two")]);
        fs::write(at("one"), "").unwrap();
        write(folder.path(), &record("one")).unwrap();
        assert_eq!(all(folder.path()).len(), 2, "it is written again");
        let mode = fs::metadata(at("one")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "secrets may be in it");
    }
}
