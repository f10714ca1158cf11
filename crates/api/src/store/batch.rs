//! What is written in one go.

use super::apply::{self, Prepared, Stop, Tables};
use super::event::Event;
use super::ring::Recent;
use super::tables::{COUNTERS, Counters};
use super::{Error, Result};
use redb::Database;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// What the writer is asked for.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) act: Act,
    /// Gets the revision of what was done.
    pub(super) reply: oneshot::Sender<Result<u64>>,
    /// Its share of what may wait; given back when it is answered.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// What to do.
#[derive(Debug)]
pub(super) enum Act {
    /// A transaction.
    Commit(Vec<Prepared>),
    /// To forget the history before a revision.
    Compact(u64),
}

impl Request {
    /// About how many bytes it writes.
    pub(super) fn size(&self) -> usize {
        match &self.act {
            Act::Commit(writes) => apply::weight(writes),
            Act::Compact(_) => 0,
        }
    }

    /// Answers it; who asked may be gone.
    pub(super) fn answer(self, result: Result<u64>) {
        let _ = self.reply.send(result);
    }
}

/// An answer that is due when the batch is on the disk.
#[derive(Debug)]
pub(super) struct Answer {
    reply: oneshot::Sender<Result<u64>>,
    result: Result<u64>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Answer {
    /// Gives it; who asked may be gone.
    pub(super) fn give(self) {
        let _ = self.reply.send(self.result);
    }
}

/// How many old changes are forgotten in one go, beside twice of what is added.
const FORGET: usize = 1024;

/// The requests of one transaction of the database, and what it comes to.
#[derive(Debug)]
pub(super) struct Batch {
    /// As they are before it, then as they are when it is done.
    pub(super) counters: Counters,
    /// What it changed.
    pub(super) events: Vec<Event>,
    /// What those are told who asked.
    pub(super) answers: Vec<Answer>,
    /// There is more history to forget.
    pub(super) more: bool,
    history_bytes: u64,
}

impl Batch {
    /// An empty one. History goes up to the revision `forget`, and beyond it as far as it is more than `history_bytes`.
    pub(super) fn new(counters: Counters, forget: u64, history_bytes: u64) -> Batch {
        let counters = Counters { compacted: counters.compacted.max(forget), ..counters };
        Batch { counters, events: Vec::new(), answers: Vec::new(), more: false, history_bytes }
    }

    /// Does what is asked for, durably; `recent` knows of what is forgotten before it is. After an error, what came of it is unknown, and requests are left of which nothing
    /// was done.
    pub(super) fn write(
        &mut self,
        database: &Database,
        requests: &mut impl Iterator<Item = Request>,
        recent: &Recent,
    ) -> std::result::Result<(), redb::Error> {
        let write = database.begin_write()?;
        let before = {
            let table = write.open_table(COUNTERS)?;
            Counters::read(&table).unwrap_or_default()
        };
        let mut tables = Tables::open(&write)?;
        for request in requests {
            self.take(&mut tables, request)?;
        }
        self.tidy(&mut tables, recent)?;
        drop(tables);
        if self.counters == before {
            return Ok(write.abort()?);
        }
        write.open_table(COUNTERS)?.insert((), self.counters.row())?;
        Ok(write.commit()?)
    }

    fn take(&mut self, tables: &mut Tables<'_>, request: Request) -> std::result::Result<(), redb::Error> {
        let Request { act, reply, room } = request;
        let (result, error) = match act {
            Act::Commit(writes) => match self.commit(tables, writes) {
                Ok(revision) => (Ok(revision), None),
                Err(Stop::Refused(e)) => (Err(e), None),
                Err(Stop::Disk(e)) => (Err(Error::Write(e.to_string())), Some(e)),
            },
            Act::Compact(revision) => (self.compact(revision), None),
        };
        self.answers.push(Answer { reply, result, _room: room });
        error.map_or(Ok(()), Err)
    }

    fn commit(&mut self, tables: &mut Tables<'_>, writes: Vec<Prepared>) -> std::result::Result<u64, Stop> {
        let revision = self.counters.revision + 1;
        let events = tables.apply(writes, revision)?;
        if !events.is_empty() {
            self.counters.revision = revision;
            self.events.extend(events);
        }
        Ok(self.counters.revision)
    }

    fn compact(&mut self, revision: u64) -> Result<u64> {
        let current = self.counters.revision;
        if revision > current {
            return Err(Error::Future { asked: revision, current });
        }
        self.counters.compacted = self.counters.compacted.max(revision);
        Ok(revision)
    }

    /// Forgets what is too old and too much.
    fn tidy(&mut self, tables: &mut Tables<'_>, recent: &Recent) -> std::result::Result<(), redb::Error> {
        let (compacted, size) = (self.counters.compacted, self.counters.log_bytes + tables.grown);
        let too_much = |gone: u64| size.saturating_sub(gone) > self.history_bytes;
        let limit = FORGET + 2 * self.events.len();
        let forgotten = tables.forget(|revision, gone| revision <= compacted || too_much(gone), limit)?;
        recent.lose(&forgotten.last);
        self.counters.compacted = compacted.max(forgotten.revision);
        self.counters.log_bytes = size.saturating_sub(forgotten.bytes);
        self.more = forgotten.more;
        Ok(())
    }

    /// Lets everybody who asked know that it came to nothing.
    pub(super) fn refuse(&mut self, error: &Error) {
        for mut answer in self.answers.drain(..) {
            answer.result = Err(error.clone());
            answer.give();
        }
    }
}
