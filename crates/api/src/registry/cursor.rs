//! A collection as it was at one revision, a page at a time.

use crate::store::{self, Key, Most, Scope, Store, Stored};

/// As much of a collection is read at once.
const PAGE: Most = Most { items: 500, bytes: 128 * 1024, counted: false };

/// A place in a collection. It holds no object: what is not asked for is not read.
pub(super) struct Cursor {
    store: Store,
    scope: Scope,
    after: Option<Key>,
    revision: Option<u64>,
    ended: bool,
}

impl Cursor {
    /// Behind `after`, as of `revision`; without one, as of the time when the first page is read.
    pub(super) fn new(store: &Store, scope: &Scope, after: Option<Key>, revision: Option<u64>) -> Cursor {
        Cursor { store: store.clone(), scope: scope.clone(), after, revision, ended: false }
    }

    /// The next objects.
    pub(super) fn next(&mut self) -> store::Result<Vec<Stored>> {
        if self.ended {
            return Ok(Vec::new());
        }
        let page = self.store.page(&self.scope, self.after.as_ref(), PAGE, self.revision)?;
        self.revision = Some(page.revision);
        self.ended = page.more.is_none();
        if let Some(last) = page.items.last() {
            self.after = Some(last.key.clone());
        }
        Ok(page.items)
    }

    /// Whether everything has been read.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The revision that the objects are of, once some were read.
    pub(super) fn revision(&self) -> Option<u64> {
        self.revision
    }

    /// Behind which object it stands.
    pub(super) fn after(&self) -> Option<&Key> {
        self.after.as_ref()
    }
}
