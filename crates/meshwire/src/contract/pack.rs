//! Changes of the model in updates, and out of them again.

use bytes::Bytes;
use smi::model::{Delta, Key, Shared};

use super::v1::{Roots, Update};

/// So many bytes of entries make a part: a message has room for far more, and whoever reads one holds it whole.
pub const PART: usize = 1024 * 1024;

/// A change as it is sent, to however many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    /// Entries that are new or other than before.
    pub set: Vec<Bytes>,
    /// Keys of those that are gone.
    pub removed: Vec<Bytes>,
}

impl Packed {
    /// An entry as it is sent.
    ///
    /// # Errors
    /// It cannot be written as JSON, which no entry of a compiled model is.
    pub fn entry(entry: &Shared) -> Result<Bytes, serde_json::Error> {
        serde_json::to_vec(entry).map(Bytes::from)
    }

    /// A key as it is sent.
    ///
    /// # Errors
    /// As those of [`Packed::entry`].
    pub fn key(key: &Key) -> Result<Bytes, serde_json::Error> {
        serde_json::to_vec(key).map(Bytes::from)
    }

    /// A whole change.
    ///
    /// # Errors
    /// As those of [`Packed::entry`].
    pub fn of(delta: &Delta) -> Result<Self, serde_json::Error> {
        let set = delta.set.iter().map(Self::entry).collect::<Result<_, _>>()?;
        let removed = delta.removed.iter().map(Self::key).collect::<Result<_, _>>()?;
        Ok(Self { set, removed })
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.removed.is_empty()
    }
}

/// The updates that tell of a change, one at least. `whole` has it be everything that there is.
#[must_use]
pub fn parts(revision: u64, whole: bool, packed: Packed, roots: Option<Vec<Vec<u8>>>) -> Vec<Update> {
    let roots = roots.map(|der| Roots { der });
    let mut parts = vec![Update { revision, whole, roots, ..Update::default() }];
    let mut length = 0;
    let entries = packed.set.into_iter().map(|entry| (entry, true));
    for (bytes, is_set) in entries.chain(packed.removed.into_iter().map(|key| (key, false))) {
        if length >= PART {
            parts.push(Update { revision, ..Update::default() });
            length = 0;
        }
        length += bytes.len();
        if let Some(part) = parts.last_mut() {
            let list = if is_set { &mut part.set } else { &mut part.removed };
            list.push(bytes);
        }
    }
    let last = parts.len() - 1;
    parts.iter_mut().take(last).for_each(|part| part.more = true);
    parts
}

/// Why an update cannot be taken.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot read {what} of an update of the mesh: {cause}; are the control plane and this program of one version?"
)]
pub struct Unreadable {
    what: &'static str,
    cause: serde_json::Error,
}

/// A change, whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gathered {
    /// Of which state of the cluster.
    pub revision: u64,
    /// Whether it is everything: what was known before counts no more.
    pub whole: bool,
    /// What changes.
    pub delta: Delta,
    /// Whom peers may be signed by from now on, in DER, if that changes.
    pub roots: Option<Vec<Vec<u8>>>,
}

/// Puts parts together.
#[derive(Debug, Default)]
pub struct Gathering(Gathered);

impl Gathering {
    /// Takes a part; the change, once it is whole.
    ///
    /// # Errors
    /// There is something in it that cannot be read. Nothing of this change may be taken then.
    pub fn take(&mut self, update: Update) -> Result<Option<Gathered>, Unreadable> {
        if update.whole {
            self.0 = Gathered { whole: true, ..Gathered::default() };
        }
        let gathered = &mut self.0;
        gathered.revision = update.revision;
        for entry in &update.set {
            let read = serde_json::from_slice::<Shared>(entry);
            gathered.delta.set.push(read.map_err(|cause| Unreadable { what: "an entry", cause })?);
        }
        for key in &update.removed {
            let read = serde_json::from_slice::<Key>(key);
            gathered.delta.removed.push(read.map_err(|cause| Unreadable { what: "a key", cause })?);
        }
        if let Some(roots) = update.roots {
            gathered.roots = Some(roots.der);
        }
        Ok((!update.more).then(|| std::mem::take(gathered)))
    }
}
