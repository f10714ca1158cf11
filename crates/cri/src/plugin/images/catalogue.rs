//! What images there are: in memory, and made anew when the store's record has changed.
//!
//! The kubelet lists images all the time, and the command line changes the store beside this process. So a call costs
//! one look at `index.json`, and what is read of an image is read once: its documents never change, as digests name
//! them.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use oci_image::contract::Digest;
use oci_image::reference::Reference;
use oci_image::store::{self, Image, Store};

use super::entry::{Entry, Facts, Named};

/// The images of a store.
#[derive(Debug)]
pub(super) struct Catalogue {
    store: Arc<Store>,
    /// The names whose images stay.
    pinned: BTreeSet<String>,
    current: Mutex<Arc<Snapshot>>,
}

/// The images as they were at one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// The record it was made from.
    stamp: Stamp,
    /// In the order they were recorded, each once, whatever it is called.
    pub(super) entries: Vec<Arc<Entry>>,
    /// What is known of each manifest.
    facts: HashMap<Digest, Arc<Facts>>,
}

/// One version of `index.json`. The file is kept open: so no other gets its inode number.
#[derive(Debug, Default)]
struct Stamp {
    identity: Option<Identity>,
    _file: Option<File>,
}

/// What tells one version from another.
type Identity = (u64, u64, i64, i64, u64);

fn identity(metadata: &Metadata) -> Identity {
    let m = metadata;
    (m.dev(), m.ino(), m.mtime(), m.mtime_nsec(), m.size())
}

impl Catalogue {
    /// The images of `store`; those called as in `pinned` stay.
    pub(super) fn new(store: Arc<Store>, pinned: &[String]) -> Self {
        let normal = |name: &String| match Reference::parse(name) {
            Ok(reference) => reference.canonical().to_string(),
            Err(_) => name.clone(),
        };
        Self { store, pinned: pinned.iter().map(normal).collect(), current: Mutex::default() }
    }

    fn path(&self) -> PathBuf {
        self.store.root().join("index.json")
    }

    /// The images, if nothing has changed since they were last looked at. Does not wait for a disk: what was opened a
    /// moment ago is in memory.
    pub(super) fn unchanged(&self) -> Option<Arc<Snapshot>> {
        let current = Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner));
        let now = fs::metadata(self.path()).ok().map(|m| identity(&m))?;
        (current.stamp.identity == Some(now)).then_some(current)
    }

    /// The images now. Reads the disk if something has changed.
    pub(super) fn now(&self) -> Result<Arc<Snapshot>, store::Error> {
        if let Some(snapshot) = self.unchanged() {
            return Ok(snapshot);
        }
        let before = Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner));
        let made = Arc::new(self.make(&before)?);
        // If another thread was faster, whichever stays is compared with the file again by the next who looks.
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&made);
        Ok(made)
    }

    fn make(&self, before: &Snapshot) -> Result<Snapshot, store::Error> {
        // Opened before it is read: what changes in between is found to have changed.
        let file = File::open(self.path()).ok();
        let identity = file.as_ref().and_then(|file| file.metadata().ok()).map(|m| identity(&m));
        let mut made = Snapshot { stamp: Stamp { identity, _file: file }, ..Snapshot::default() };
        let mut grouped: Vec<(Arc<Facts>, Vec<Image>)> = Vec::new();
        for image in self.store.images()? {
            let digest = &image.manifest.digest;
            let known = made.facts.get(digest).or_else(|| before.facts.get(digest)).cloned();
            let Some(facts) = known.or_else(|| Facts::read(&self.store, &image).ok().map(Arc::new)) else {
                // No container could be made from it. Pulled again it is whole, and its record the same: so what is
                // made here is not for keeping.
                made.stamp.identity = None;
                continue;
            };
            made.facts.insert(digest.clone(), Arc::clone(&facts));
            match grouped.iter_mut().find(|(there, _)| there.id == facts.id) {
                Some((_, images)) => images.push(image),
                None => grouped.push((facts, vec![image])),
            }
        }
        let entry = |(facts, images): (Arc<Facts>, Vec<Image>)| {
            Arc::new(Entry::new(&facts, images, |name| self.pinned.contains(name)))
        };
        made.entries = grouped.into_iter().map(entry).collect();
        Ok(made)
    }
}

impl Snapshot {
    /// The image that `text` means: a name, `repository@digest`, an id or the beginning of one; and the name that
    /// was meant, if it was one.
    pub(super) fn find(&self, text: &str) -> Result<(&Arc<Entry>, Option<&Named>), store::Error> {
        let named = |matches: &dyn Fn(&Named) -> bool| {
            self.entries.iter().find_map(|entry| {
                let name = entry.names.iter().find(|name| matches(name))?;
                Some((entry, Some(name)))
            })
        };
        if let Some(found) = named(&|name| name.full == text) {
            return Ok(found);
        }
        if let Ok(reference) = Reference::parse(text).map(Reference::canonical) {
            let (full, repository) = (reference.to_string(), reference.name());
            let by_digest = |name: &Named| {
                name.repository == repository
                    && reference.digest().is_some_and(|d| name.target == *d || name.manifest == *d)
            };
            if let Some(found) = named(&|name| name.full == full).or_else(|| named(&by_digest)) {
                return Ok(found);
            }
        }
        self.by_id(text).map(|entry| (entry, None))
    }

    fn by_id(&self, text: &str) -> Result<&Arc<Entry>, store::Error> {
        let hex = text.split_once(':').map_or(text, |(_, hex)| hex);
        let algorithm = text.split_once(':').map(|(algorithm, _)| algorithm);
        let means = |entry: &&Arc<Entry>| {
            entry.id.hex().starts_with(hex)
                && algorithm.is_none_or(|name| name == entry.id.algorithm().name())
        };
        // What is too short to be meant is none.
        let mut found = match hex.len() {
            0 | 1 => Vec::new(),
            _ => self.entries.iter().filter(means).collect(),
        };
        match (found.pop(), found.is_empty()) {
            (Some(entry), true) => Ok(entry),
            (None, _) => Err(store::Error::NoImage(text.to_owned())),
            (Some(last), false) => {
                found.push(last);
                let candidates = found.iter().map(|entry| entry.id.to_string()).collect();
                Err(store::Error::Ambiguous { text: text.to_owned(), candidates })
            }
        }
    }
}
