//! Pools: directories that hold volumes, each with its record beside its data.
//!
//! ```text
//! POOL/lock             one driver at a time
//! POOL/volumes/ID/      volume.json, and what the backend has
//! POOL/snapshots/ID/    snapshot.json, the same
//! POOL/groups/ID/       group.json
//! POOL/incoming/ID/     what is being made
//! POOL/gone/ID/         what is being removed
//! ```
//!
//! What is made gets its name in one rename when it is whole, and loses it in one; the names are made durable before a call
//! is answered. What a killed driver leaves is in `incoming` and `gone`, or marked where cuts have their names first (`early`),
//! and goes when the next one starts.

mod accounts;
mod early;
mod exercise;
mod index;
mod place;
pub(crate) mod record;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use grpc::Failure;

use super::backend::{Abilities, Backend, Wish};
use super::hold::hold;
use super::text;
use accounts::Accounts;
pub(crate) use accounts::Reserved;
pub(super) use exercise::exercise;
use index::Index;
pub(crate) use index::Kept;
pub(crate) use place::all_places;
use place::places;
use record::{Group, Snapshot, Volume};

const VOLUMES: &str = "volumes";
const SNAPSHOTS: &str = "snapshots";
const GROUPS: &str = "groups";
const INCOMING: &str = "incoming";
const GONE: &str = "gone";

/// A directory that holds volumes.
pub(crate) struct Pool {
    pub(crate) name: String,
    path: PathBuf,
    /// The first is what a class gets that names none.
    backends: Vec<Box<dyn Backend>>,
    /// Names of backends that cannot be had here, and why.
    pub(crate) lacking: Vec<(String, String)>,
    /// How much more may be promised than there is, as a factor.
    overcommit: f64,
    index: Mutex<Index>,
    accounts: Accounts,
    /// Places without a name that could not be removed yet.
    left: Mutex<Vec<PathBuf>>,
    _lock: File,
}

impl Pool {
    /// Opens a pool, makes it where it is not there, and takes away what a killed driver left half done.
    ///
    /// # Errors
    /// Another driver has it, or the machine refuses it.
    pub(crate) fn open(
        name: &str,
        path: &Path,
        backends: Vec<Box<dyn Backend>>,
        overcommit: f64,
    ) -> Result<Pool, Failure> {
        let failed = |act: &str, e: io::Error| {
            Failure::internal(format!("cannot {act} the pool {name:?} at {}: {e}", path.display()))
        };
        for part in [VOLUMES, SNAPSHOTS, GROUPS, INCOMING, GONE] {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path.join(part));
            made.map_err(|e| failed("make", e))?;
        }
        let lock = File::create(path.join("lock")).map_err(|e| failed("lock", e))?;
        if !hold(&lock).map_err(|e| failed("lock", e.into()))? {
            let hint = "stop it, or give this one pools of its own";
            return Err(Failure::exists(format!(
                "another driver has the pool {name:?} at {}: {hint}",
                path.display()
            )));
        }
        let mut pool = Pool {
            name: name.to_owned(),
            path: path.to_owned(),
            backends,
            lacking: Vec::new(),
            overcommit,
            index: Mutex::default(),
            accounts: Accounts::default(),
            left: Mutex::default(),
            _lock: lock,
        };
        pool.clear()?;
        pool.load()?;
        Ok(pool)
    }

    /// Removes what was being made or removed. What cannot be is told, and tried again later: it keeps nobody from the rest.
    fn clear(&self) -> Result<(), Failure> {
        for part in [INCOMING, GONE] {
            for place in places(&self.path.join(part))? {
                self.left().push(place);
            }
        }
        self.sweep();
        Ok(())
    }

    fn left(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries once more to remove what could not be.
    pub(crate) fn sweep(&self) {
        let left = std::mem::take(&mut *self.left());
        for place in left {
            if let Err(error) = self.erase(&place) {
                eprintln!("sextant csi: {error}");
                self.left().push(place);
            }
        }
    }

    /// Removes a place with whatever its backend has in it.
    fn erase(&self, place: &Path) -> Result<(), Failure> {
        let backend = record::read::<Volume>(place)
            .map(|volume| volume.backend)
            .or_else(|_| record::read::<Snapshot>(place).map(|snapshot| snapshot.volume.backend));
        match backend {
            Ok(name) => {
                self.backend(&name).map_err(|_| away(&name, &place.display().to_string()))?.remove(place)
            }
            // Its record is written before the backend makes anything.
            Err(_) => super::backend::copy::remove(place),
        }
    }

    /// A place without a name goes; if it cannot now, then later.
    fn discard(&self, backend: &dyn Backend, gone: PathBuf) -> Result<(), Failure> {
        let removed = backend.remove(&gone);
        if removed.is_err() {
            self.left().push(gone);
        }
        removed
    }

    fn load(&mut self) -> Result<(), Failure> {
        let mut index = Index::default();
        for place in places(&self.path.join(VOLUMES))? {
            // An ephemeral volume's id is its pod's choice, and no name of a directory.
            let read = record::read::<Volume>(&place);
            match read
                .and_then(|volume| if volume.ephemeral { Ok(volume) } else { record::own(&place, volume) })
            {
                Ok(volume) if self.is_unfinished::<Volume>(&volume.backend, &place) => self.cast_off(place),
                Ok(volume) => {
                    index.add_volume(volume, place);
                }
                Err(_) if Self::is_bare::<Volume>(&place) => self.cast_off(place),
                Err(error) => index.add_unreadable(&place, error),
            }
        }
        for place in places(&self.path.join(GROUPS))? {
            match record::read::<Group>(&place).and_then(|group| record::own(&place, group)) {
                Ok(group) => index.add_group(group, place),
                Err(error) => index.add_unreadable(&place, error),
            }
        }
        for place in places(&self.path.join(SNAPSHOTS))? {
            match record::read::<Snapshot>(&place).and_then(|snapshot| record::own(&place, snapshot)) {
                // Its group never came to be, or is gone.
                Ok(snapshot) if !snapshot.group.is_empty() && self.is_gone(&snapshot.group) => {
                    self.cast_off(place);
                }
                Ok(snapshot) if self.is_unfinished::<Snapshot>(&snapshot.volume.backend, &place) => {
                    self.cast_off(place);
                }
                Ok(snapshot) => {
                    index.add_snapshot(snapshot, place);
                }
                Err(_) if Self::is_bare::<Snapshot>(&place) => self.cast_off(place),
                Err(error) => index.add_unreadable(&place, error),
            }
        }
        *self.index.get_mut().unwrap_or_else(PoisonError::into_inner) = index;
        self.sweep();
        Ok(())
    }

    /// Whether there is no such group. Where nobody can tell it is there, as its members go with it.
    fn is_gone(&self, group: &str) -> bool {
        self.path.join(GROUPS).join(group).try_exists().is_ok_and(|is_there| !is_there)
    }

    /// The backend of a name; the pool's default one without.
    ///
    /// # Errors
    /// The pool has none of that name.
    pub(crate) fn backend(&self, name: &str) -> Result<&dyn Backend, Failure> {
        let found = if name.is_empty() {
            self.backends.first()
        } else {
            self.backends.iter().find(|backend| backend.name() == name)
        };
        found.map(|backend| &**backend).ok_or_else(|| {
            if let Some((_, why)) = self.lacking.iter().find(|(lacking, _)| lacking == name) {
                let message = format!("{name} cannot be had in the pool {:?}: {why}", self.name);
                return Failure::invalid("parameters[backend]", message);
            }
            let has: Vec<&str> = self.backends.iter().map(|backend| backend.name()).collect();
            let message = format!(
                "{} is no backend of the pool {:?}: it has {}",
                text::shown(name),
                self.name,
                has.join(", ")
            );
            Failure::invalid("parameters[backend]", message)
        })
    }

    /// The backend of a record that is here.
    pub(crate) fn backend_of(&self, volume: &Volume) -> Result<&dyn Backend, Failure> {
        self.backend(&volume.backend).map_err(|_| away(&volume.backend, &volume.id))
    }

    /// What each backend can do here.
    pub(crate) fn abilities(&self) -> impl Iterator<Item = (&'static str, Abilities)> {
        self.backends.iter().map(|backend| (backend.name(), backend.abilities()))
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is here, as of now.
    pub(crate) fn volume(&self, id: &str) -> Option<Arc<Kept<Volume>>> {
        self.index().volumes.get(id).cloned()
    }

    pub(crate) fn volume_named(&self, name: &str) -> Option<Arc<Kept<Volume>>> {
        self.index().volume_named(name)
    }

    pub(crate) fn volumes(&self) -> Vec<Arc<Kept<Volume>>> {
        self.index().volumes.values().cloned().collect()
    }

    pub(crate) fn snapshot(&self, id: &str) -> Option<Arc<Kept<Snapshot>>> {
        self.index().snapshots.get(id).cloned()
    }

    pub(crate) fn snapshot_named(&self, name: &str) -> Option<Arc<Kept<Snapshot>>> {
        self.index().snapshot_named(name)
    }

    pub(crate) fn snapshots(&self) -> Vec<Arc<Kept<Snapshot>>> {
        self.index().snapshots.values().cloned().collect()
    }

    pub(crate) fn group(&self, id: &str) -> Option<Arc<Kept<Group>>> {
        self.index().groups.get(id).cloned()
    }

    pub(crate) fn group_named(&self, name: &str) -> Option<Arc<Kept<Group>>> {
        self.index().group_named(name)
    }

    /// Makes a volume: `make` makes its data in a place that nobody else sees.
    ///
    /// # Errors
    /// `make`'s, or the disk's; nothing is left then.
    pub(crate) fn add_volume(
        &self,
        reserved: Reserved<'_>,
        volume: Volume,
        make: impl FnOnce(&dyn Backend, &Path, &Volume) -> Result<(), Failure>,
    ) -> Result<Arc<Kept<Volume>>, Failure> {
        let backend = self.backend_of(&volume)?;
        let name =
            if volume.ephemeral { format!("ephemeral-{}", text::random()?) } else { volume.id.clone() };
        let is_marked = backend.cuts_durably();
        let early = is_marked && volume.source.is_some();
        let place = if early {
            self.begin_named(&name, &volume, VOLUMES)?
        } else {
            self.begin(&name, &volume, is_marked)?
        };
        let made = make(backend, &place, &volume).and_then(|()| backend.sync(&place)).and_then(|()| {
            let named = if early { place.clone() } else { self.name(backend, &place, VOLUMES)? };
            if is_marked {
                early::finish::<Volume>(&named);
            }
            Ok(named)
        });
        match made {
            Ok(place) => Ok(reserved.settle(|| self.index().add_volume(volume, place))),
            Err(error) => Err(self.take_back(&place, error)),
        }
    }

    /// Makes snapshots, all or none, and their group where there is one: `make` cuts them into places that nobody else sees.
    ///
    /// # Errors
    /// `make`'s, or the disk's; nothing is left then.
    pub(crate) fn add_snapshots(
        &self,
        reserved: Reserved<'_>,
        snapshots: Vec<Snapshot>,
        group: Option<Group>,
        make: impl FnOnce(&dyn Backend, &[PathBuf]) -> Result<(), Failure>,
    ) -> Result<Vec<Arc<Kept<Snapshot>>>, Failure> {
        let Some(first) = snapshots.first() else { return Ok(Vec::new()) };
        let backend = self.backend_of(&first.volume)?;
        let early = backend.cuts_durably();
        let mut places = Vec::new();
        let made = snapshots
            .iter()
            .try_for_each(|snapshot| {
                let begun = if early {
                    self.begin_named(&snapshot.id, snapshot, SNAPSHOTS)
                } else {
                    self.begin(&snapshot.id, snapshot, false)
                };
                begun.map(|place| places.push(place))
            })
            .and_then(|()| make(backend, &places))
            .and_then(|()| places.iter().try_for_each(|place| backend.sync(place)))
            .and_then(|()| {
                if early {
                    places.iter().for_each(|place| early::finish::<Snapshot>(place));
                    return Ok(());
                }
                for place in &mut places {
                    *place = self.rename(place, SNAPSHOTS)?;
                }
                backend.commit(&[&self.path.join(SNAPSHOTS)])
            })
            .and_then(|()| match group {
                Some(group) => {
                    let place = self.begin(&group.id, &group, false)?;
                    let named =
                        super::backend::copy::sync(&place).and_then(|()| self.name(backend, &place, GROUPS));
                    named.map(|place| Some((group, place))).map_err(|error| self.take_back(&place, error))
                }
                None => Ok(None),
            });
        match made {
            Ok(group) => Ok(reserved.settle(|| {
                let mut index = self.index();
                if let Some((group, place)) = group {
                    index.add_group(group, place);
                }
                let kept = snapshots.into_iter().zip(places);
                kept.map(|(snapshot, place)| index.add_snapshot(snapshot, place)).collect()
            })),
            Err(error) => Err(places.iter().fold(error, |error, place| self.take_back(place, error))),
        }
    }

    /// Removes a volume: when this returns it is gone, whatever happens.
    ///
    /// # Errors
    /// The machine's. It may be gone for callers all the same; what is left of it then goes later.
    pub(crate) fn remove_volume(&self, id: &str) -> Result<(), Failure> {
        let Some(kept) = self.volume(id) else { return Ok(()) };
        let backend = self.backend_of(&kept.record)?;
        let gone = self.unname(backend, &kept.place, VOLUMES)?;
        self.index().remove_volume(id);
        self.discard(backend, gone)
    }

    /// The same of a snapshot.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn remove_snapshot(&self, id: &str) -> Result<(), Failure> {
        let Some(kept) = self.snapshot(id) else { return Ok(()) };
        let backend = self.backend_of(&kept.record.volume)?;
        let gone = self.unname(backend, &kept.place, SNAPSHOTS)?;
        self.index().remove_snapshot(id);
        self.discard(backend, gone)
    }

    /// The same of a group with all its members.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn remove_group(&self, id: &str) -> Result<(), Failure> {
        let Some(kept) = self.group(id) else { return Ok(()) };
        let members: Vec<_> = kept.record.snapshots.iter().filter_map(|id| self.snapshot(id)).collect();
        let backend = match members.first() {
            Some(member) => self.backend_of(&member.record.volume)?,
            None => self.backend("")?,
        };
        // Members whose group is gone are gone.
        let gone = self.unname(backend, &kept.place, GROUPS)?;
        {
            let mut index = self.index();
            index.remove_group(id);
            members.iter().for_each(|member| index.remove_snapshot(&member.record.id));
        }
        let mut outcome = super::backend::copy::remove(&gone);
        for member in &members {
            let removed =
                self.unname(backend, &member.place, SNAPSHOTS).and_then(|gone| self.discard(backend, gone));
            outcome = outcome.and(removed.inspect_err(|_| self.left().push(member.place.clone())));
        }
        outcome
    }

    /// Replaces the record of a volume, which takes what is reserved from then on.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn change_volume(
        &self,
        reserved: Option<Reserved<'_>>,
        kept: &Kept<Volume>,
        volume: Volume,
    ) -> Result<Arc<Kept<Volume>>, Failure> {
        record::replace(&kept.place, &volume)?;
        let keep = || self.index().add_volume(volume, kept.place.clone());
        Ok(match reserved {
            Some(reserved) => reserved.settle(keep),
            None => keep(),
        })
    }

    /// Whether the pool's file system answers.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn probe(&self) -> Result<(), Failure> {
        self.backend("")?.space(&self.path).map(drop)
    }

    /// Refuses what stands for something whose record cannot be read: it is there, and nobody knows as what.
    ///
    /// # Errors
    /// The record's.
    pub(crate) fn is_readable(&self, id: &str) -> Result<(), Failure> {
        self.index().unreadable.get(id).map_or(Ok(()), |error| Err(error.clone()))
    }
}

/// A backend that a record names is not here.
fn away(backend: &str, whose: &str) -> Failure {
    let message = format!("the backend {} of {whose} cannot be had in this pool now", text::shown(backend));
    Failure::precondition(message)
}

impl Wish {
    /// What a volume was asked to be.
    pub(crate) fn of(volume: &Volume) -> Wish {
        Wish {
            block: volume.block,
            fs_type: volume.fs_type.clone(),
            parameters: volume.parameters.clone(),
            mutable: volume.mutable.clone(),
        }
    }
}
