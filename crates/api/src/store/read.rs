//! Reading: one object, and lists as they are now.

use super::apply::stored;
use super::engine::Engine;
use super::key::behind;
use super::tables::{COUNTERS, Counters, NAMES, OBJECTS, Record};
use super::{Error, Key, Most, Page, Result, Scope, Stored, past};
use redb::ReadTransaction;
use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

/// The range of encoded keys that a list is about.
pub(super) struct Keys {
    pub(super) start: Bound<Vec<u8>>,
    pub(super) end: Vec<u8>,
}

impl Keys {
    pub(super) fn new(scope: &Scope, after: Option<&Key>) -> Result<Keys> {
        let prefix = scope.prefix();
        let end = behind(&prefix);
        let start = match after.map(Key::encode).transpose()? {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        Ok(Keys { start, end })
    }

    /// The same behind another key.
    pub(super) fn after(&self, key: Vec<u8>) -> Keys {
        Keys { start: Bound::Excluded(key), end: self.end.clone() }
    }

    /// Whether nothing can be in it: a list that goes on behind the end.
    pub(super) fn is_empty(&self) -> bool {
        matches!(&self.start, Bound::Included(start) | Bound::Excluded(start) if *start >= self.end)
    }

    /// For redb.
    pub(super) fn range(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (self.start.as_ref().map(Vec::as_slice), Bound::Excluded(self.end.as_slice()))
    }
}

pub(super) fn get(engine: &Engine, key: &Key) -> Result<Option<Stored>> {
    let encoded = key.encode()?;
    engine.read(|from| {
        let objects = from.open_table(OBJECTS).map_err(Error::read)?;
        let found = objects.get(encoded.as_slice()).map_err(Error::read)?;
        found.map(|bytes| Ok(stored(key.clone(), &Record::read(bytes.value())?))).transpose()
    })
}

pub(super) fn list(
    engine: &Engine,
    counted: &Counted,
    scope: &Scope,
    after: Option<&Key>,
    most: Most,
    at: Option<u64>,
) -> Result<Page> {
    let keys = Keys::new(scope, after)?;
    let page = engine.read(|from| {
        let counters = counters(from)?;
        let revision = at.unwrap_or(counters.revision);
        check(revision, counters)?;
        let known = if most.counted {
            after.and_then(|after| counted.behind(scope, revision, after))
        } else {
            Some(0)
        };
        let (items, more) = if keys.is_empty() {
            (Vec::new(), None)
        } else if revision == counters.revision {
            present(from, &keys, most, known)?
        } else {
            past::list(from, &keys, most, revision, known)?
        };
        Ok(Page { items, revision, more })
    })?;
    if most.counted {
        counted.remember(scope, &page);
    }
    Ok(page)
}

/// How many objects there were behind the last page of each list: who goes on with it is told without counting them again.
#[derive(Debug, Default)]
pub(super) struct Counted(Mutex<VecDeque<Known>>);

/// A list, its revision, the last object of its last page, and how many there are behind that.
type Known = (Scope, u64, Key, usize);

/// How many lists may be under way at a time; those of more count again.
const LISTS: usize = 64;

impl Counted {
    /// What is known is taken out: the next page takes its place.
    fn behind(&self, scope: &Scope, revision: u64, after: &Key) -> Option<usize> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |(of, at, key, _): &Known| *at == revision && key == after && of == scope;
        let known = counted.iter().position(is_it)?;
        counted.remove(known).map(|(_, _, _, count)| count)
    }

    fn remember(&self, scope: &Scope, page: &Page) {
        let (Some(more), Some(last)) = (page.more, page.items.last()) else { return };
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.truncate(LISTS - 1);
        counted.push_front((scope.clone(), page.revision, last.key.clone(), more));
    }
}

pub(super) fn counters(from: &ReadTransaction) -> Result<Counters> {
    Counters::read(&from.open_table(COUNTERS).map_err(Error::read)?)
}

/// Whether the state at a revision can be had.
pub(super) fn check(asked: u64, counters: Counters) -> Result<()> {
    if asked > counters.revision {
        return Err(Error::Future { asked, current: counters.revision });
    }
    if asked < counters.compacted {
        return Err(Error::Compacted { asked, oldest: counters.compacted });
    }
    Ok(())
}

/// What a list comes to: the objects, and how many are behind them.
pub(super) type Part = (Vec<Stored>, Option<usize>);

/// The objects of a range, of which there are `known`, or as many as there are.
fn present(from: &ReadTransaction, keys: &Keys, most: Most, known: Option<usize>) -> Result<Part> {
    let objects = from.open_table(OBJECTS).map_err(Error::read)?;
    let (mut items, mut bytes_read) = (Vec::new(), 0);
    for row in objects.range::<&[u8]>(keys.range()).map_err(Error::read)? {
        let (key, bytes) = row.map_err(Error::read)?;
        if !most.holds(&items, bytes_read) {
            // The key at hand is the first of those that are left.
            let rest = Keys { start: Bound::Included(key.value().to_vec()), end: keys.end.clone() };
            let more =
                known.map_or_else(|| count(from, &rest), |known| Ok(known.saturating_sub(items.len())))?;
            return Ok((items, Some(more)));
        }
        let item = stored(decoded(key.value())?, &Record::read(bytes.value())?);
        bytes_read += item.json.len();
        items.push(item);
    }
    Ok((items, None))
}

fn count(from: &ReadTransaction, keys: &Keys) -> Result<usize> {
    let names = from.open_table(NAMES).map_err(Error::read)?;
    let mut count = 0;
    for row in names.range::<&[u8]>(keys.range()).map_err(Error::read)? {
        row.map_err(Error::read)?;
        count += 1;
    }
    Ok(count)
}

/// The key of a row.
pub(super) fn decoded(key: &[u8]) -> Result<Key> {
    Key::decode(key).ok_or_else(|| Error::lacks("the name of an object"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn each_page_of_a_list_takes_the_place_of_the_one_before() {
        let counted = Counted::default();
        let scope = Scope::all("pods");
        let key =
            |name: usize| Key { resource: "pods".into(), namespace: "a".into(), name: name.to_string() };
        let page = |name: usize, more: usize| {
            let last = Stored { key: key(name), revision: 1, json: Bytes::new() };
            Page { items: vec![last], revision: 7, more: Some(more) }
        };
        counted.remember(&scope, &page(0, 1));
        counted.remember(&scope, &page(1000, 2000));
        for at in 1000..1000 + 2 * LISTS {
            let known = counted.behind(&scope, 7, &key(at)).expect("it was remembered");
            counted.remember(&scope, &page(at + 1, known - 1));
        }
        assert_eq!(counted.behind(&scope, 7, &key(1000)), None);
        assert_eq!(counted.behind(&scope, 7, &key(0)), Some(1), "a long list drives out no other");
    }
}
