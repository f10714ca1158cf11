//! What of the volumes is in use on this node. A file for each volume, written before anything is attached and removed after all
//! is detached, in a directory that goes with the boot as mounts do: a driver that was killed goes on where it was.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use grpc::Failure;
use serde::{Deserialize, Serialize};

use super::attach;
use crate::plugin::hold::hold;

/// In use, by volume.
pub(in crate::plugin) struct Uses {
    directory: PathBuf,
    held: Mutex<HashMap<String, Used>>,
    _lock: fs::File,
}

/// The number of the files' format.
const FORMAT: u32 = 1;
/// What is being written.
const NEXT: &str = "next";

/// Where a volume is in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::plugin) struct Used {
    format: u32,
    pub(super) volume: String,
    pub(super) staged: Option<At>,
    pub(super) published: Vec<At>,
}

/// One place where a volume is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct At {
    pub(super) path: PathBuf,
    pub(super) how: How,
    /// Whether there was nothing at the path before: then it goes with the volume.
    pub(super) made: bool,
}

/// How a volume is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct How {
    pub(super) block: bool,
    pub(super) fs_type: String,
    pub(super) flags: Vec<String>,
    /// The access mode's number.
    pub(super) mode: i32,
    pub(super) read_only: bool,
}

impl At {
    /// Whether it came to be before the driver was killed. If not, what was made for it goes; what somebody has put there
    /// meanwhile stays. Where it cannot be told it is attached: who asks for it to be undone will see.
    fn is_attached(&self) -> bool {
        let is_attached = attach::is_mount(&self.path).unwrap_or(true);
        if !is_attached && self.made {
            let _not_ours = attach::unmake(&self.path);
        }
        is_attached
    }
}

impl Used {
    /// A volume that is in use nowhere.
    pub(super) fn nowhere(volume: &str) -> Used {
        Used { format: FORMAT, volume: volume.to_owned(), staged: None, published: Vec::new() }
    }

    /// Where the volume is mounted, if it is.
    pub(in crate::plugin) fn root(&self) -> Option<&Path> {
        let all = self.staged.iter().chain(&self.published);
        all.filter(|at| !at.how.block).map(|at| at.path.as_path()).next()
    }

    /// Where it is, for people.
    pub(in crate::plugin) fn places(&self) -> Vec<String> {
        let all = self.staged.iter().chain(&self.published);
        all.map(|at| at.path.display().to_string()).collect()
    }

    /// Whether it is at a path.
    pub(super) fn is_at(&self, path: &str) -> bool {
        self.staged.iter().chain(&self.published).any(|at| at.path == super::stage::plain(path))
    }

    fn is_empty(&self) -> bool {
        self.staged.is_none() && self.published.is_empty()
    }
}

impl Uses {
    /// What an earlier driver of this boot left in use.
    pub(in crate::plugin) fn load(run: &Path) -> Result<Uses, Failure> {
        let directory = run.join("uses");
        let failed = |e: io::Error| Failure::internal(format!("cannot read {}: {e}", directory.display()));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed)?;
        let lock = fs::File::create(run.join("lock")).map_err(failed)?;
        if !hold(&lock).map_err(|e| failed(e.into()))? {
            let hint = "stop it, or give this one a run directory of its own";
            let message = format!("another driver has the run directory {}: {hint}", run.display());
            return Err(Failure::exists(message));
        }
        let mut held = HashMap::new();
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == NEXT) {
                fs::remove_file(&path).map_err(failed)?;
                continue;
            }
            let mut used = read(&path)?;
            used.staged = used.staged.filter(|at| at.how.block || at.is_attached());
            used.published.retain(At::is_attached);
            if used.is_empty() {
                fs::remove_file(&path).map_err(failed)?;
            } else {
                held.insert(used.volume.clone(), used);
            }
        }
        Ok(Uses { directory, held: Mutex::new(held), _lock: lock })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Used>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a volume is in use; `None` where it is not.
    pub(in crate::plugin) fn of(&self, volume: &str) -> Option<Used> {
        self.held().get(volume).cloned()
    }

    /// Volumes that are staged at a path, or published there.
    pub(super) fn whose(&self, path: &Path) -> Option<String> {
        let held = self.held();
        let is_there = |used: &&Used| used.staged.iter().chain(&used.published).any(|at| at.path == path);
        held.values().find(is_there).map(|used| used.volume.clone())
    }

    /// Remembers where a volume is. The caller has its turn.
    pub(super) fn set(&self, used: Used) -> Result<(), Failure> {
        let path = self.directory.join(file_name(&used.volume));
        let failed = |e: io::Error| Failure::internal(format!("cannot write {}: {e}", path.display()));
        if used.is_empty() {
            self.held().remove(&used.volume);
            return match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(e)),
                _ => Ok(()),
            };
        }
        let next = path.with_extension(NEXT);
        let text = serde_json::to_vec(&used).map_err(|e| failed(e.into()))?;
        let file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&next);
        file.and_then(|mut file| io::Write::write_all(&mut file, &text))
            .and_then(|()| fs::rename(&next, &path))
            .map_err(failed)?;
        self.held().insert(used.volume.clone(), used);
        Ok(())
    }
}

/// Any bytes as the file of a volume in use: what cannot be read keeps the driver from starting, and stays. What can be is written and
/// read the same.
pub(in crate::plugin) fn exercise(bytes: &[u8], run: &Path) {
    let parsed = serde_json::from_slice::<Used>(bytes);
    if let Ok(used) = &parsed {
        let written = serde_json::to_vec(used).map(|text| serde_json::from_slice::<Used>(&text).ok());
        assert_eq!(written.ok().flatten().as_ref(), Some(used));
        assert!(file_name(&used.volume).len() <= 200 && !file_name(&used.volume).contains('/'));
    }
    let file = run.join("uses/a");
    let made = fs::create_dir_all(run.join("uses")).and_then(|()| fs::write(&file, bytes));
    assert!(made.is_ok(), "{made:?}");
    let refused = read(&file).is_err();
    assert_eq!(refused, parsed.map_or(true, |used| used.format != FORMAT));
}

/// A name for a volume's file: ids may have any character, and be as long as a name may.
fn file_name(volume: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_".contains(&c);
    let mut name = String::new();
    for byte in volume.bytes() {
        if plain(byte) { name.push(char::from(byte)) } else { name.push_str(&format!("%{byte:02x}")) }
    }
    // At most 128 bytes, three characters each, are 384: more than a name may have. The sum is FNV-1a, which no other version of
    // the compiler changes.
    if name.len() <= 200 {
        return name;
    }
    let sum = volume
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    let head: String = name.chars().take(180).collect();
    format!("{head}%{sum:016x}")
}

/// Reads a file. What it says may be mounted: a driver that forgot it would take the volume for unused.
fn read(path: &Path) -> Result<Used, Failure> {
    let failed = |cause: String| {
        let hint = "unmount what it names, and remove it";
        Failure::internal(format!("cannot read {}: {cause}; {hint}", path.display()))
    };
    let text = fs::read(path).map_err(|e| failed(e.to_string()))?;
    let used: Used = serde_json::from_slice(&text).map_err(|e| failed(e.to_string()))?;
    if used.format != FORMAT {
        return Err(failed(format!("it has format {}, this version knows {FORMAT}", used.format)));
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn how() -> How {
        How { block: false, fs_type: String::new(), flags: Vec::new(), mode: 1, read_only: false }
    }

    #[test]
    fn what_is_not_attached_any_more_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let uses = Uses::load(dir.path()).unwrap();
        let at = |path: &str| At { path: path.into(), how: how(), made: true };
        let used =
            Used { staged: Some(at("/proc")), published: vec![at("/nowhere")], ..Used::nowhere("a/b") };
        uses.set(used.clone()).unwrap();
        uses.set(Used { published: vec![at("/nowhere")], ..Used::nowhere("c") }).unwrap();
        assert_eq!(uses.of("a/b"), Some(used.clone()));
        assert_eq!(uses.whose(Path::new("/proc")), Some("a/b".to_owned()));
        assert!(Uses::load(dir.path()).is_err_and(|e| e.to_string().contains("another driver")));
        drop(uses);
        fs::write(dir.path().join("uses/x.next"), "{").unwrap();
        let again = Uses::load(dir.path()).unwrap();
        assert_eq!(again.of("a/b"), Some(Used { published: Vec::new(), ..used }));
        assert_eq!(again.of("c"), None);
        again.set(Used::nowhere("a/b")).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("uses")).unwrap().count(), 0);
    }

    #[test]
    fn what_cannot_be_read_is_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        drop(Uses::load(dir.path()).unwrap());
        let file = dir.path().join("uses/v");
        for text in ["{", r#"{"format":2,"volume":"v","staged":null,"published":[]}"#] {
            fs::write(&file, text).unwrap();
            let error = Uses::load(dir.path()).err().unwrap();
            assert!(error.to_string().contains("uses/v"), "{error}");
            assert!(file.exists());
        }
    }

    #[test]
    fn every_id_has_a_file_of_its_own() {
        let long = "/".repeat(128);
        let names = ["a", "a/b", "a%2fb", "..", &long, &format!("{}.", &long[1..])].map(file_name);
        for (at, name) in names.iter().enumerate() {
            assert!(name.len() < 250 && !name.contains('/') && !name.starts_with('.'), "{name}");
            assert!(!names[..at].contains(name), "{name}");
        }
    }
}
