//! What is in the database.

use super::event::Position;
use super::{Error, Result};
use bytes::Bytes;
use redb::TableDefinition;

/// The format that this version writes.
pub(super) const FORMAT: u64 = 1;

/// Facts of the file: [`FORMAT`] under `format`.
pub(super) const FACTS: TableDefinition<&str, u64> = TableDefinition::new("facts");
/// [`Counters`], under `()`.
pub(super) const COUNTERS: TableDefinition<(), (u64, u64, u64)> = TableDefinition::new("counters");
/// Each object by its key: a [`Record`].
pub(super) const OBJECTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("objects");
/// The keys of [`OBJECTS`] alone, close together, so that counting does not read the objects.
pub(super) const NAMES: TableDefinition<&[u8], ()> = TableDefinition::new("names");
/// The place of a change: its revision, and which of the revision's changes it is.
pub(super) type Place = (u64, u32);
/// Each change by its place: a [`Change`].
pub(super) const LOG: TableDefinition<Place, &[u8]> = TableDefinition::new("log");
/// The changes of each object: by [`moment`] the index of the change, and whether the object was there before.
pub(super) const HISTORY: TableDefinition<&[u8], (u32, bool)> = TableDefinition::new("history");

/// What the store knows of its history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    /// The revision of the last change.
    pub(super) revision: u64,
    /// Up to which revision the changes are forgotten.
    pub(super) compacted: u64,
    /// How much the log takes, in bytes.
    pub(super) log_bytes: u64,
}

impl Counters {
    /// The counters in the table.
    pub(super) fn read(table: &impl redb::ReadableTable<(), (u64, u64, u64)>) -> Result<Counters> {
        let row = table.get(()).map_err(Error::read)?;
        let (revision, compacted, log_bytes) = row.ok_or_else(|| Error::lacks("counters"))?.value();
        Ok(Counters { revision, compacted, log_bytes })
    }

    /// As they are in the table.
    pub(super) fn row(self) -> (u64, u64, u64) {
        (self.revision, self.compacted, self.log_bytes)
    }
}

/// An object as it is in a table: revision and place of the revision in the JSON, then the JSON.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) revision: u64,
    at: u32,
    /// All of it, as in the table.
    bytes: Bytes,
}

const RECORD: usize = 12;

impl Record {
    /// The record of a document whose revision is known now.
    pub(super) fn new(json: &[u8], at: usize, revision: u64) -> Record {
        let digits = revision.to_string();
        let place = u32::try_from(at).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(RECORD + json.len() + digits.len());
        bytes.extend_from_slice(&revision.to_le_bytes());
        bytes.extend_from_slice(&place.to_le_bytes());
        let (before, behind) = json.split_at_checked(at).unwrap_or((json, b""));
        bytes.extend_from_slice(before);
        bytes.extend_from_slice(digits.as_bytes());
        bytes.extend_from_slice(behind);
        Record { revision, at: place, bytes: bytes.into() }
    }

    /// The record in a table.
    pub(super) fn read(bytes: &[u8]) -> Result<Record> {
        let [revision, place] = [bytes.get(..8), bytes.get(8..RECORD)];
        let revision = revision.and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        let at = place.and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        match (revision, at) {
            (Some(revision), Some(at)) => Ok(Record { revision, at, bytes: Bytes::copy_from_slice(bytes) }),
            _ => Err(Error::lacks("the head of an object")),
        }
    }

    /// As it is in a table.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The JSON.
    pub(super) fn json(&self) -> Bytes {
        self.bytes.slice(RECORD..)
    }

    /// The JSON with another revision: the last state, for the event of a deletion.
    pub(super) fn at_revision(&self, revision: u64) -> Bytes {
        let json = self.bytes.get(RECORD..).unwrap_or_default();
        let at = self.at as usize;
        let old = self.revision.to_string().len();
        let (before, rest) = json.split_at_checked(at).unwrap_or((json, b""));
        [before, revision.to_string().as_bytes(), rest.get(old..).unwrap_or_default()].concat().into()
    }
}

/// A change as it is in the log: what it did to which key, and the object before.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// The encoded key.
    pub(super) key: Vec<u8>,
    /// Whether it deleted the object.
    pub(super) deleted: bool,
    /// The object before, if there was one.
    pub(super) before: Option<Record>,
}

const DELETED: u8 = 1;
const BEFORE: u8 = 2;
/// Flags and the length of the key.
const CHANGE: usize = 5;

impl Change {
    /// As it is in the log.
    pub(super) fn bytes(key: &[u8], deleted: bool, before: Option<&Record>) -> Vec<u8> {
        let record = before.map_or(&[][..], Record::bytes);
        let flags = if deleted { DELETED } else { 0 } | if before.is_some() { BEFORE } else { 0 };
        let mut bytes = Vec::with_capacity(CHANGE + key.len() + record.len());
        bytes.push(flags);
        bytes.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(record);
        bytes
    }

    /// The key of a change in the log.
    pub(super) fn key(bytes: &[u8]) -> Result<&[u8]> {
        let length = bytes.get(1..CHANGE).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        let end = length.and_then(|length| CHANGE.checked_add(usize::try_from(length).ok()?));
        end.and_then(|end| bytes.get(CHANGE..end)).ok_or_else(|| Error::lacks("the key of a change"))
    }

    /// The change in the log.
    pub(super) fn read(bytes: &[u8]) -> Result<Change> {
        let key = Change::key(bytes)?;
        let flags = bytes.first().copied().unwrap_or_default();
        let record = bytes.get(CHANGE + key.len()..).unwrap_or_default();
        let before = if flags & BEFORE == 0 { None } else { Some(Record::read(record)?) };
        Ok(Change { key: key.to_vec(), deleted: flags & DELETED != 0, before })
    }
}

/// What the log counts for a change beside its bytes: its row here and in the history.
pub(super) const CHANGE_OVERHEAD: u64 = 64;

/// Where the change of a key at a revision is in the history. Sorts by key, as in [`OBJECTS`], then by revision: no key
/// has a zero byte.
pub(super) fn moment(key: &[u8], revision: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.len() + 9);
    bytes.extend_from_slice(key);
    bytes.push(0);
    bytes.extend_from_slice(&revision.to_be_bytes());
    bytes
}

/// The key and the revision of a [`moment`].
pub(super) fn of_moment(bytes: &[u8]) -> Result<(&[u8], u64)> {
    let split = bytes.len().checked_sub(9).and_then(|at| bytes.split_at_checked(at));
    let revision = split.and_then(|(_, rest)| rest.get(1..)?.try_into().ok()).map(u64::from_be_bytes);
    match (split, revision) {
        (Some((key, _)), Some(revision)) => Ok((key, revision)),
        _ => Err(Error::lacks("the revision of a change")),
    }
}

/// What sorts behind all changes of a key, and before the next key.
pub(super) fn after_moments(key: &[u8]) -> Vec<u8> {
    [key, &[1]].concat()
}

/// A place as the log has it.
pub(super) fn place(position: Position) -> Place {
    (position.revision, position.index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_is_written_into_the_document_and_over_it() {
        let json = br#"{"metadata":{"resourceVersion":"","name":"x"}}"#;
        let at = json.iter().position(|&byte| byte == b',').unwrap() - 1;
        let record = Record::new(json, at, 99);
        assert_eq!(record.json(), r#"{"metadata":{"resourceVersion":"99","name":"x"}}"#);
        let record = Record::read(record.bytes()).unwrap();
        assert_eq!(record.revision, 99);
        assert_eq!(record.at_revision(12345), r#"{"metadata":{"resourceVersion":"12345","name":"x"}}"#);
    }

    #[test]
    fn changes_come_back() {
        let before = Record::new(b"\"\"", 1, 7);
        for (deleted, before) in [(false, None), (false, Some(&before)), (true, Some(&before))] {
            let bytes = Change::bytes(b"pods/a/b", deleted, before);
            let change = Change::read(&bytes).unwrap();
            assert_eq!((change.key.as_slice(), change.deleted), (&b"pods/a/b"[..], deleted));
            assert_eq!(change.before.map(|record| record.json()), before.map(Record::json));
            for end in 0..bytes.len() {
                let _ = Change::read(&bytes[..end]);
            }
        }
        assert!(Change::read(&[0, 255, 255, 255, 255, 1]).is_err());
        assert!(Record::read(b"short").is_err());
    }

    #[test]
    fn moments_sort_by_key_and_revision() {
        let moments = [moment(b"a/x", 2), moment(b"a/x", 256), moment(b"a/x-y", 1), moment(b"a/x0", 1)];
        assert!(moments.is_sorted());
        assert_eq!(of_moment(&moments[1]).unwrap(), (&b"a/x"[..], 256));
        assert!(moments[1] < after_moments(b"a/x") && after_moments(b"a/x") < moments[2]);
        assert!(of_moment(b"short").is_err());
    }
}
