//! A collection as it was at one revision, a page at a time.

use crate::store::{self, Key, Most, Scope, Store, Stored};

/// As much of a collection is read at once. Tests have few objects, and more than one page of them.
const PAGE: Most = Most { items: if cfg!(test) { 3 } else { 500 }, bytes: 128 * 1024, counted: false };

/// A place in a collection. It holds no object: what is not asked for is not read.
pub(crate) struct Cursor {
    store: Store,
    scope: Scope,
    after: Option<Key>,
    revision: Option<u64>,
    ended: bool,
}

impl Cursor {
    /// Behind `after`, as of `revision`; without one, as of the time when the first page is read.
    pub(crate) fn new(store: &Store, scope: &Scope, after: Option<Key>, revision: Option<u64>) -> Cursor {
        Cursor { store: store.clone(), scope: scope.clone(), after, revision, ended: false }
    }

    /// The next objects.
    pub(crate) fn next(&mut self) -> store::Result<Vec<Stored>> {
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

    /// The next page is as of when it is read: for who changes what it walks through, and makes history that way.
    pub(crate) fn renew(&mut self) {
        self.revision = None;
    }

    /// Whether everything has been read.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The revision that the objects are of, once some were read.
    pub(crate) fn revision(&self) -> Option<u64> {
        self.revision
    }

    /// Behind which object it stands.
    pub(crate) fn after(&self) -> Option<&Key> {
        self.after.as_ref()
    }
}
