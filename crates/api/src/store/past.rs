//! Reading history: lists at an older revision, and the changes behind one.

use super::apply::stored;
use super::event::{Event, Position};
use super::read::{Keys, Part, decoded};
use super::tables::{
    Change, HISTORY, LOG, NAMES, OBJECTS, Place, Record, after_moments, moment, of_moment, place,
};
use super::{Error, Kind, Most, Result, Scope};
use redb::{ReadOnlyTable, ReadTransaction};
use std::ops::Bound;
use std::sync::Arc;

/// The tables with which the past is made of the present.
struct Past {
    objects: ReadOnlyTable<&'static [u8], &'static [u8]>,
    names: ReadOnlyTable<&'static [u8], ()>,
    log: ReadOnlyTable<Place, &'static [u8]>,
    history: ReadOnlyTable<&'static [u8], (u32, bool)>,
}

/// The first change of a key behind some revision.
struct First {
    key: Vec<u8>,
    place: Place,
    /// Whether the object was there before.
    existed: bool,
}

impl Past {
    fn open(from: &ReadTransaction) -> Result<Past> {
        Ok(Past {
            objects: from.open_table(OBJECTS).map_err(Error::read)?,
            names: from.open_table(NAMES).map_err(Error::read)?,
            log: from.open_table(LOG).map_err(Error::read)?,
            history: from.open_table(HISTORY).map_err(Error::read)?,
        })
    }

    /// The first key at or behind `start` (a bound of moments) that was changed behind `revision`, and its first such
    /// change.
    fn first(&self, mut start: Vec<u8>, end: &[u8], revision: u64) -> Result<Option<First>> {
        loop {
            if start.as_slice() >= end {
                return Ok(None);
            }
            let mut range = self.history.range::<&[u8]>(start.as_slice()..end).map_err(Error::read)?;
            let Some(row) = range.next() else { return Ok(None) };
            let (found, value) = row.map_err(Error::read)?;
            let (key, at) = of_moment(found.value())?;
            if at > revision {
                let (index, existed) = value.value();
                return Ok(Some(First { key: key.to_vec(), place: (at, index), existed }));
            }
            start = moment(key, revision.saturating_add(1));
        }
    }

    /// The change in the log.
    fn change(&self, place: Place) -> Result<Change> {
        let found = self.log.get(place).map_err(Error::read)?;
        Change::read(found.ok_or_else(|| Error::lacks("a change"))?.value())
    }

    /// What an object became by its change at a revision: what it was before the next one, or what it is.
    fn became(&self, key: &[u8], revision: u64) -> Result<Record> {
        let next = self.first(moment(key, revision.saturating_add(1)), &after_moments(key), revision)?;
        let record = match next {
            Some(next) => self.change(next.place)?.before,
            None => {
                let found = self.objects.get(key).map_err(Error::read)?;
                found.map(|bytes| Record::read(bytes.value())).transpose()?
            }
        };
        record.ok_or_else(|| Error::lacks("an object that was changed"))
    }

    fn event(&self, position: Position, change: Change) -> Result<Event> {
        let key = decoded(&change.key)?;
        let previous = change.before.as_ref().map(Record::json);
        let (kind, json) = if change.deleted {
            let last = change.before.ok_or_else(|| Error::lacks("an object that was deleted"))?;
            (Kind::Delete, last.at_revision(position.revision))
        } else {
            (Kind::Put, self.became(&change.key, position.revision)?.json())
        };
        Ok(Event::new(kind, key, place(position), json, previous))
    }
}

/// The objects of a range as they were at a revision, when there were `known`, or as many as there were.
pub(super) fn list(
    from: &ReadTransaction,
    keys: &Keys,
    most: Most,
    revision: u64,
    known: Option<usize>,
) -> Result<Part> {
    let past = Past::open(from)?;
    let mut rows = past.objects.range::<&[u8]>(keys.range()).map_err(Error::read)?;
    let mut present = rows.next().transpose().map_err(Error::read)?;
    let mut start = changes(keys);
    let (mut items, mut bytes_read) = (Vec::new(), 0);
    loop {
        // No further than to the next object that is there: what is behind it may be of no interest.
        let now = present.as_ref().map(|(key, _)| key.value());
        let end = now.map_or_else(|| keys.end.clone(), after_moments);
        let (key, record) = match (past.first(start, &end, revision)?, &present) {
            (Some(first), _) if first.existed => (first.key, past.change(first.place)?.before),
            (Some(first), _) => (first.key, None),
            (None, Some((key, bytes))) => (key.value().to_vec(), Some(Record::read(bytes.value())?)),
            (None, None) => return Ok((items, None)),
        };
        if now == Some(key.as_slice()) {
            present = rows.next().transpose().map_err(Error::read)?;
        }
        start = after_moments(&key);
        let Some(record) = record else { continue };
        if !most.holds(&items, bytes_read) {
            let rest = || Ok(1 + count(&past, &keys.after(key), revision)?);
            let more = known.map_or_else(rest, |known| Ok(known.saturating_sub(items.len())))?;
            return Ok((items, Some(more)));
        }
        let item = stored(decoded(&key)?, &record);
        bytes_read += item.json.len();
        items.push(item);
    }
}

/// Where the changes of a range of keys begin.
fn changes(keys: &Keys) -> Vec<u8> {
    match &keys.start {
        Bound::Excluded(key) => after_moments(key),
        Bound::Included(key) => key.clone(),
        Bound::Unbounded => Vec::new(),
    }
}

/// How many objects there were in a range at a revision.
fn count(past: &Past, keys: &Keys, revision: u64) -> Result<usize> {
    let mut count = 0;
    for row in past.names.range::<&[u8]>(keys.range()).map_err(Error::read)? {
        row.map_err(Error::read)?;
        count += 1;
    }
    // Those that were there and are gone count, and those that are there and were not do not.
    let mut changed = past.first(changes(keys), &keys.end, revision)?;
    while let Some(first) = changed {
        let is = past.names.get(first.key.as_slice()).map_err(Error::read)?.is_some();
        count = (count + usize::from(first.existed)).saturating_sub(usize::from(is));
        changed = past.first(after_moments(&first.key), &keys.end, revision)?;
    }
    Ok(count)
}

/// Some changes from the log, and how far it was read.
pub(super) struct Stretch {
    /// Those of the scope.
    pub(super) events: Vec<Arc<Event>>,
    /// The place behind which to go on.
    pub(super) end: Position,
}

/// How much of the log is read at once: so many changes, and of the scope so many, or as soon as they have so many bytes.
const LOOK: usize = 2048;
const EVENTS: usize = 64;
const BYTES: usize = 1 << 20;

/// The next changes of a scope behind a place; none if what comes there is forgotten. Behind `lost` nothing of the resource is, however
/// much of others.
pub(super) fn behind(
    from: &ReadTransaction,
    scope: &Scope,
    start: Position,
    lost: impl FnOnce() -> Position,
) -> Result<Stretch> {
    let counters = super::read::counters(from)?;
    if start.seen() >= counters.compacted || start < lost() {
        super::read::check(start.seen(), counters)?;
    }
    let (past, prefix) = (Past::open(from)?, scope.prefix());
    let mut stretch = Stretch { events: Vec::new(), end: start };
    let mut bytes = 0;
    let range = (Bound::Excluded(place(start)), Bound::Unbounded);
    for (looked, row) in past.log.range::<Place>(range).map_err(Error::read)?.enumerate() {
        if looked == LOOK || stretch.events.len() == EVENTS || bytes > BYTES {
            return Ok(stretch);
        }
        let (at, change) = row.map_err(Error::read)?;
        let (revision, index) = at.value();
        stretch.end = Position { revision, index };
        if Change::key(change.value())?.starts_with(&prefix) {
            let event = past.event(stretch.end, Change::read(change.value())?)?;
            bytes += event.weight();
            stretch.events.push(Arc::new(event));
        }
    }
    // All of the log was read: there is nothing more up to the revision that it was read at.
    stretch.end = stretch.end.max(Position::after(counters.revision));
    Ok(stretch)
}
