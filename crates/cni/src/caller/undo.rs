use ledger::{Effect, Make, Record, RecordId};

use crate::contract::Error;

/// A record that remembers what one attachment has recorded, so that a failed ADD can be taken back.
pub(super) struct Undo<'a> {
    inner: &'a mut dyn Record,
    ids: Vec<RecordId>,
}

impl<'a> Undo<'a> {
    pub(super) fn new(inner: &'a mut dyn Record) -> Self {
        Self { inner, ids: Vec::new() }
    }

    /// Takes everything back, last first. Shared effects are left with the owner, who leaves them with its folder.
    pub(super) fn undo_all(self) -> Vec<Error> {
        let Self { inner, ids } = self;
        ids.into_iter().rev().filter_map(|id| inner.undo(id).err()).map(Error::from).collect()
    }
}

impl Record for Undo<'_> {
    fn record(&mut self, effect: Effect) -> Result<RecordId, ledger::Error> {
        let id = self.inner.record(effect)?;
        self.ids.push(id);
        Ok(id)
    }

    fn undo(&mut self, id: RecordId) -> Result<(), ledger::Error> {
        self.inner.undo(id)?;
        self.ids.retain(|known| *known != id);
        Ok(())
    }

    fn undone(&mut self, effect: &Effect) -> Result<(), ledger::Error> {
        self.inner.undone(effect)
    }

    fn share_part(&mut self, name: &str, part: &str, make: Make<'_>) -> Result<(), ledger::Error> {
        self.inner.share_part(name, part, make)
    }

    fn counts_users(&self) -> bool {
        self.inner.counts_users()
    }
}
