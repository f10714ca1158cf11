//! What is kept of each volume, snapshot and group, in a file beside its data.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use grpc::Failure;
use kernel::extents::{self, Extent};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The number of this format. A record of a later one is refused, not guessed at.
pub(crate) const FORMAT: u32 = 1;

/// A record in a directory of its own.
pub(crate) trait Record: Serialize + DeserializeOwned {
    /// The file's name.
    const FILE: &'static str;

    /// The format it was written in.
    fn format(&self) -> u32;

    /// What it is the record of.
    fn id(&self) -> &str;
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Volume {
    pub(crate) format: u32,
    /// What the caller knows it by.
    pub(crate) id: String,
    /// What the caller called it; empty for an ephemeral one.
    pub(crate) name: String,
    pub(crate) backend: String,
    /// What was promised, in bytes.
    pub(crate) capacity: u64,
    /// What was asked for, in bytes: the capacity may be that rounded up. 0 in the records of earlier versions.
    #[serde(default)]
    pub(crate) asked: u64,
    /// How many bytes of the pool it takes at most, with what its file system needs for itself.
    pub(crate) taken: u64,
    /// A raw block device, not a file system.
    pub(crate) block: bool,
    /// Its file system; empty for a block device and where the backend has none of its own.
    pub(crate) fs_type: String,
    /// The class's parameters.
    pub(crate) parameters: BTreeMap<String, String>,
    /// Those that may change.
    pub(crate) mutable: BTreeMap<String, String>,
    pub(crate) source: Option<From>,
    /// Nanoseconds since 1970.
    pub(crate) created: i64,
    /// It lives as long as the pod that it was made for.
    pub(crate) ephemeral: bool,
}

impl Volume {
    /// How large a copy must be asked for, at least: what is rounded up for the one is for the other.
    pub(crate) fn least_copy(&self) -> u64 {
        if self.asked == 0 { self.capacity } else { self.asked.min(self.capacity) }
    }
}

/// What a volume began with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum From {
    /// A snapshot's id.
    Snapshot(String),
    /// A volume's id.
    Volume(String),
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Snapshot {
    pub(crate) format: u32,
    pub(crate) id: String,
    /// What the caller called it; that of its group and a number where it is a member.
    pub(crate) name: String,
    /// The volume as it was.
    pub(crate) volume: Volume,
    /// Nanoseconds since 1970.
    pub(crate) created: i64,
    /// The group that it is a member of; empty where there is none.
    pub(crate) group: String,
    /// How many bytes of the pool it may come to have for itself, when its volume has changed altogether.
    pub(crate) held: u64,
}

/// Snapshots of one moment. It exists when its record does; until then its members do not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Group {
    pub(crate) format: u32,
    pub(crate) id: String,
    pub(crate) name: String,
    /// Ids of its members.
    pub(crate) snapshots: Vec<String>,
    pub(crate) parameters: BTreeMap<String, String>,
    /// Nanoseconds since 1970.
    pub(crate) created: i64,
}

macro_rules! records {
    ($($record:ident $file:literal)*) => {
        $(impl Record for $record {
            const FILE: &'static str = $file;

            fn format(&self) -> u32 {
                self.format
            }

            fn id(&self) -> &str {
                &self.id
            }
        })*
    };
}

records! { Volume "volume.json" Snapshot "snapshot.json" Group "group.json" }

/// Writes a new record into a place that has none, durably once the place is.
pub(crate) fn write<R: Record>(place: &Path, record: &R) -> Result<(), Failure> {
    let path = place.join(R::FILE);
    write_at(&path, record).map_err(|e| Failure::internal(format!("cannot write {}: {e}", path.display())))
}

/// The same of a place that may have a name before it is whole: the commit that makes that durable makes the record so, too.
pub(super) fn write_unfinished<R: Record>(place: &Path, record: &R) -> Result<(), Failure> {
    let path = unfinished::<R>(place);
    let written = create(&path, record).and_then(|file| hand_over(&file));
    written.map_err(|e| Failure::internal(format!("cannot write {}: {e}", path.display())))
}

fn write_at(path: &Path, what: &impl Serialize) -> std::io::Result<()> {
    create(path, what)?.sync_all()
}

fn create(path: &Path, what: &impl Serialize) -> std::io::Result<fs::File> {
    let text = serde_json::to_vec_pretty(what)?;
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&text)?;
    Ok(file)
}

/// Has what was written to a file in the transaction that a btrfs is in. So much as a record's is in the trees then, and on
/// the disk with them; of what has blocks of its own the trees learn later, so it is synced by itself.
fn hand_over(file: &fs::File) -> std::io::Result<()> {
    match extents::places(file, 0) {
        Ok(all) if !all.is_empty() && all.iter().all(|extent| extent.flags & Extent::INLINE != 0) => Ok(()),
        _ => file.sync_all(),
    }
}

/// Replaces the record of a place: a power cut leaves the old or the new one.
pub(crate) fn replace<R: Record>(place: &Path, record: &R) -> Result<(), Failure> {
    put(place, R::FILE, record)
}

/// Writes a file of a place, durably, in the stead of what was there: a power cut leaves the old or the new one.
pub(crate) fn put(place: &Path, file: &str, what: &impl Serialize) -> Result<(), Failure> {
    let (path, next) = (place.join(file), place.join("next.json"));
    let replaced = || {
        match fs::remove_file(&next) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        write_at(&next, what)?;
        fs::rename(&next, &path)?;
        fs::File::open(place)?.sync_all()
    };
    replaced().map_err(|e| Failure::internal(format!("cannot write {}: {e}", path.display())))
}

/// Reads a file of a place; none where there is none.
///
/// # Errors
/// It cannot be read; what `refuse` says of it.
pub(crate) fn find<T: DeserializeOwned>(
    place: &Path,
    file: &str,
    refuse: impl FnOnce(&T) -> Result<(), String>,
) -> Result<Option<T>, Failure> {
    let path = place.join(file);
    let failed = |cause: String| Failure::internal(format!("cannot read {}: {cause}", path.display()));
    let text = match fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|e| failed(e.to_string()))?,
    };
    let found: T = serde_json::from_slice(&text).map_err(|e| failed(e.to_string()))?;
    refuse(&found).map_err(failed)?;
    Ok(Some(found))
}

/// Refuses the format of another version.
pub(crate) fn is_known(format: u32, known: u32) -> Result<(), String> {
    if format == known {
        return Ok(());
    }
    Err(format!("it has format {format}, this version knows {known}"))
}

/// Where the record of a place is as long as that may not be whole.
pub(super) fn unfinished<R: Record>(place: &Path) -> PathBuf {
    place.join(format!("unfinished-{}", R::FILE))
}

/// Reads the record of a place, whole or not.
pub(crate) fn read<R: Record>(place: &Path) -> Result<R, Failure> {
    let path = place.join(R::FILE);
    let failed = |cause: String| Failure::internal(format!("cannot read {}: {cause}", path.display()));
    let text = match fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => fs::read(unfinished::<R>(place)).map_err(|_| e),
        other => other,
    };
    let text = text.map_err(|e| failed(e.to_string()))?;
    parse(&text).map_err(failed)
}

/// A record whose place has its name: that of another, in a copy that somebody made of its directory, would take its place.
///
/// # Errors
/// It is another's.
pub(super) fn own<R: Record>(place: &Path, record: R) -> Result<R, Failure> {
    if place.file_name().is_some_and(|name| name == record.id()) {
        return Ok(record);
    }
    let (path, whose) = (place.join(R::FILE), crate::plugin::text::shown(record.id()));
    let hint = "give the directory its name, or remove it";
    Err(Failure::internal(format!(
        "cannot take {} for a record: it is that of {whose}; {hint}",
        path.display()
    )))
}

/// Reads a record, or says why it cannot be read.
fn parse<R: Record>(text: &[u8]) -> Result<R, String> {
    let record: R = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    is_known(record.format(), FORMAT).map(|()| record)
}

/// Any bytes as each kind of record: what is read is written and read the same. Whether any of them can be read.
pub(super) fn exercise(bytes: &[u8]) -> bool {
    fn again<R: Record + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> bool {
        let Ok(record) = parse::<R>(bytes) else { return false };
        let written = serde_json::to_vec_pretty(&record).map_err(|e| e.to_string());
        assert_eq!(written.and_then(|text| parse(&text)), Ok(record));
        true
    }
    [again::<Volume>, again::<Snapshot>, again::<Group>].into_iter().any(|again| again(bytes))
}

#[cfg(test)]
impl Volume {
    /// A mounted volume of a test, of which nothing else is said.
    pub(crate) fn of_test(backend: &str, id: &str, capacity: u64) -> Volume {
        Volume {
            format: FORMAT,
            id: id.into(),
            name: id.into(),
            backend: backend.into(),
            capacity,
            asked: capacity,
            taken: 0,
            block: false,
            fs_type: String::new(),
            parameters: BTreeMap::new(),
            mutable: BTreeMap::new(),
            source: None,
            created: 0,
            ephemeral: false,
        }
    }
}

#[cfg(test)]
impl Snapshot {
    /// A snapshot of a test's volume, of no group.
    pub(crate) fn of_test(id: &str, volume: &Volume) -> Snapshot {
        Snapshot {
            format: FORMAT,
            id: id.into(),
            name: id.into(),
            volume: volume.clone(),
            created: 0,
            group: String::new(),
            held: 0,
        }
    }
}
