//! One transaction: its conditions, and what it does to the tables.

use super::event::{Event, Position};
use super::key::BETWEEN;
use super::tables::{CHANGE_OVERHEAD, Change, HISTORY, LOG, NAMES, OBJECTS, Place, Record, moment};
use super::{Error, Expect, Key, Kind, Result, Stored, Write};
use redb::{ReadableTable as _, Table, WriteTransaction};
use std::collections::{HashMap, HashSet};

/// A write that was looked at: it can be done, if its condition holds.
#[derive(Debug)]
pub(super) struct Prepared {
    write: Write,
    key: Vec<u8>,
}

/// Looks at the writes of a transaction, as far as that needs no table.
pub(super) fn prepare(writes: Vec<Write>) -> Result<Vec<Prepared>> {
    let mut seen = HashSet::new();
    let mut prepared = Vec::with_capacity(writes.len());
    for write in writes {
        let key = write.key.encode()?;
        if !seen.insert(key.clone()) {
            return Err(Error::Repeated { key: write.key });
        }
        if let Some(document) = &write.value {
            let at = document.revision_at;
            let around = at.checked_sub(1).and_then(|start| document.json.get(start..=at));
            if around != Some(b"\"\"") || u32::try_from(at).is_err() {
                return Err(Error::Document { key: write.key, at });
            }
        }
        prepared.push(Prepared { write, key });
    }
    Ok(prepared)
}

/// How many bytes wait to be written, about.
pub(super) fn weight(writes: &[Prepared]) -> usize {
    let length = |prepared: &Prepared| prepared.write.value.as_ref().map_or(0, |value| value.json.len());
    writes.iter().map(|prepared| prepared.key.len() + length(prepared) + 128).sum()
}

/// The tables, open for one batch.
pub(super) struct Tables<'a> {
    objects: Table<'a, &'static [u8], &'static [u8]>,
    names: Table<'a, &'static [u8], ()>,
    log: Table<'a, Place, &'static [u8]>,
    history: Table<'a, &'static [u8], (u32, bool)>,
    /// By how many bytes the log has grown.
    pub(super) grown: u64,
}

/// What stops a transaction.
pub(super) enum Stop {
    /// It alone: nothing of it was done.
    Refused(Error),
    /// The whole batch: the disk did not take it.
    Disk(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Disk(error.into())
    }
}

impl<'a> Tables<'a> {
    /// Opens them.
    pub(super) fn open(write: &'a WriteTransaction) -> std::result::Result<Tables<'a>, redb::Error> {
        Ok(Tables {
            objects: write.open_table(OBJECTS)?,
            names: write.open_table(NAMES)?,
            log: write.open_table(LOG)?,
            history: write.open_table(HISTORY)?,
            grown: 0,
        })
    }

    /// Does a transaction that would have `revision`, and returns what it changed.
    pub(super) fn apply(
        &mut self,
        writes: Vec<Prepared>,
        revision: u64,
    ) -> std::result::Result<Vec<Event>, Stop> {
        let mut found = Vec::with_capacity(writes.len());
        for (index, prepared) in writes.iter().enumerate() {
            found.push(self.expected(index, prepared)?);
        }
        let mut events = Vec::with_capacity(writes.len());
        for (Prepared { write, key }, before) in writes.into_iter().zip(found) {
            let is_condition = matches!(write.expect, Expect::Still(_));
            if is_condition || write.value.is_none() && before.is_none() {
                continue;
            }
            let index = u32::try_from(events.len()).unwrap_or(u32::MAX);
            self.record(&key, (revision, index), write.value.is_none(), before.as_ref())?;
            events.push(self.change(write, &key, (revision, index), before)?);
        }
        Ok(events)
    }

    /// The object of a write, if the write's condition holds.
    fn expected(&self, index: usize, prepared: &Prepared) -> std::result::Result<Option<Record>, Stop> {
        let found = self.objects.get(prepared.key.as_slice())?;
        let found = found.map(|bytes| Record::read(bytes.value())).transpose().map_err(Stop::Refused)?;
        let holds = match prepared.write.expect {
            Expect::Any => true,
            Expect::Absent => found.is_none(),
            Expect::Revision(revision) | Expect::Still(revision) => {
                found.as_ref().is_some_and(|found| found.revision == revision)
            }
        };
        if holds {
            return Ok(found);
        }
        let key = &prepared.write.key;
        let found = found.map(|found| Box::new(stored(key.clone(), &found)));
        Err(Stop::Refused(Error::Unexpected { index, key: Box::new(key.clone()), found }))
    }

    fn record(
        &mut self,
        key: &[u8],
        place: Place,
        deleted: bool,
        before: Option<&Record>,
    ) -> std::result::Result<(), redb::Error> {
        let change = Change::bytes(key, deleted, before);
        self.log.insert(place, change.as_slice())?;
        self.history.insert(moment(key, place.0).as_slice(), (place.1, before.is_some()))?;
        self.grown += change.len() as u64 + CHANGE_OVERHEAD;
        Ok(())
    }

    fn change(
        &mut self,
        write: Write,
        key: &[u8],
        place: Place,
        before: Option<Record>,
    ) -> std::result::Result<Event, redb::Error> {
        let previous = before.as_ref().map(Record::json);
        let Some(document) = write.value else {
            self.objects.remove(key)?;
            self.names.remove(key)?;
            let last = before.map(|before| before.at_revision(place.0)).unwrap_or_default();
            return Ok(Event::new(Kind::Delete, write.key, place, last, previous));
        };
        let record = Record::new(&document.json, document.revision_at, place.0);
        self.objects.insert(key, record.bytes())?;
        if before.is_none() {
            self.names.insert(key, ())?;
        }
        Ok(Event::new(Kind::Put, write.key, place, record.json(), previous))
    }

    /// Forgets changes up to the revision `until`, the oldest first, `limit` of them at most. Returns by how many bytes the
    /// log shrank, the revision of the last one that went, the last one of each resource, and whether there are more.
    pub(super) fn forget(
        &mut self,
        until: impl Fn(u64, u64) -> bool,
        limit: usize,
    ) -> std::result::Result<Forgotten, redb::Error> {
        let mut forgotten = Forgotten::default();
        loop {
            let Some((place, change)) = self.oldest()? else { return Ok(forgotten) };
            if !until(place.0, forgotten.bytes) {
                return Ok(forgotten);
            }
            if forgotten.count == limit {
                forgotten.more = true;
                return Ok(forgotten);
            }
            let length = self.log.remove(place)?.map_or(0, |change| change.value().len());
            self.history.remove(moment(&change, place.0).as_slice())?;
            forgotten.count += 1;
            forgotten.bytes += length as u64 + CHANGE_OVERHEAD;
            forgotten.revision = place.0;
            let resource = change.split(|byte| *byte == BETWEEN).next().unwrap_or_default();
            let last = Position { revision: place.0, index: place.1 };
            match forgotten.last.get_mut(resource) {
                Some(known) => *known = last,
                None => drop(forgotten.last.insert(resource.to_vec(), last)),
            }
        }
    }

    /// The place and the key of the oldest change.
    fn oldest(&self) -> std::result::Result<Option<(Place, Vec<u8>)>, redb::Error> {
        let Some((place, change)) = self.log.first()? else { return Ok(None) };
        let key = Change::key(change.value()).unwrap_or_default();
        Ok(Some((place.value(), key.to_vec())))
    }
}

/// What was forgotten.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    pub(super) count: usize,
    pub(super) bytes: u64,
    pub(super) revision: u64,
    /// The place of the last one, by its resource.
    pub(super) last: HashMap<Vec<u8>, Position>,
    pub(super) more: bool,
}

/// A record as readers get it.
pub(super) fn stored(key: Key, record: &Record) -> Stored {
    Stored { key, revision: record.revision, json: record.json() }
}
