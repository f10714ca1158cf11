//! The database, and what happens to it when the disk fails.

use super::tables::Counters;
use super::{Error, Result, tables};
use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase as _};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// Opens the database, once more after a failure.
pub(super) type Opener = Box<dyn Fn() -> std::result::Result<Database, DatabaseError> + Send + Sync>;

/// The open database. Readers share it; it is exchanged only after the disk has failed.
pub(super) struct Engine {
    opener: Opener,
    /// Set by the backend when a sync failed: what the kernel then has in memory is not what is on the disk.
    unsynced: Arc<AtomicBool>,
    database: RwLock<State>,
}

enum State {
    Open(Database),
    /// The last attempt to open it failed.
    Broken(String),
    Closed,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// What the database is after a failure.
#[derive(Debug)]
pub(super) enum After {
    /// It goes on, with these counters.
    Well(Counters),
    /// It could not be opened now; it may be later.
    Broken(String),
    /// What was acknowledged cannot be vouched for.
    Lost(String),
}

impl Engine {
    /// An engine on a database that `opener` has just opened.
    pub(super) fn new(database: Database, opener: Opener, unsynced: Arc<AtomicBool>) -> Engine {
        Engine { opener, unsynced, database: RwLock::new(State::Open(database)) }
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `act` with the database, which stays open meanwhile.
    pub(super) fn with<T>(&self, act: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        match &*self.state() {
            State::Open(database) => act(database),
            State::Broken(cause) => Err(Error::Read(cause.clone())),
            State::Closed => Err(Error::Closed),
        }
    }

    /// Reads from one state of the database.
    pub(super) fn read<T>(&self, act: impl FnOnce(&ReadTransaction) -> Result<T>) -> Result<T> {
        self.with(|database| act(&database.begin_read().map_err(Error::read)?))
    }

    /// The counters as they are on the disk.
    pub(super) fn counters(&self) -> Result<Counters> {
        self.read(|from| Counters::read(&from.open_table(tables::COUNTERS).map_err(Error::read)?))
    }

    /// Opens the database anew after a failed write: redb refuses everything then, and a write that failed may have been
    /// done or not. Readers wait that long.
    pub(super) fn reopen(&self) -> After {
        let mut state = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Closed) {
            return After::Broken(Error::Closed.to_string());
        }
        *state = State::Broken("it is being opened anew".into());
        if self.unsynced.load(Ordering::Acquire) {
            // The kernel gives up what it could not write and calls it clean: another sync would succeed and mean nothing.
            let cause = "the disk did not keep what was written to it".to_owned();
            *state = State::Broken(cause.clone());
            return After::Lost(cause);
        }
        match (self.opener)() {
            Ok(database) => *state = State::Open(database),
            Err(e) => {
                *state = State::Broken(e.to_string());
                return After::Broken(e.to_string());
            }
        }
        drop(state);
        match self.counters() {
            Ok(counters) => After::Well(counters),
            Err(e) => After::Broken(e.to_string()),
        }
    }

    /// Closes the database for good.
    pub(super) fn close(&self) {
        let mut state = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if let State::Open(database) = std::mem::replace(&mut *state, State::Closed) {
            // An error here is one of tidying up: everything acknowledged is on the disk, and the next open repairs.
            let _ = database.close();
        }
    }
}
