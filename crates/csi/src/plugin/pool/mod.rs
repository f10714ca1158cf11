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
//! is answered. What a killed driver leaves is in `incoming` and `gone` alone, and goes when the next one starts.

mod accounts;
mod index;
pub(crate) mod record;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use grpc::{Code, Failure};
use rustix::fs::{FlockOperation, flock};

use super::backend::{Abilities, Backend, Wish};
use super::text;
pub(crate) use accounts::Reserved;
use index::Index;
pub(crate) use index::Kept;
use record::{Group, Record, Snapshot, Volume};

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
    /// How much more may be promised than there is, as a factor.
    overcommit: f64,
    index: Mutex<Index>,
    accounts: Mutex<accounts::Accounts>,
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
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
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
            overcommit,
            index: Mutex::default(),
            accounts: Mutex::default(),
            _lock: lock,
        };
        pool.clear()?;
        pool.load()?;
        Ok(pool)
    }

    /// Removes what was being made or removed.
    fn clear(&self) -> Result<(), Failure> {
        for part in [INCOMING, GONE] {
            for place in places(&self.path.join(part))? {
                self.erase(&place)?;
            }
        }
        Ok(())
    }

    /// Removes a place with whatever its backend has in it.
    fn erase(&self, place: &Path) -> Result<(), Failure> {
        let backend = record::read::<Volume>(place)
            .map(|volume| volume.backend)
            .or_else(|_| record::read::<Snapshot>(place).map(|snapshot| snapshot.volume.backend));
        match backend.ok().and_then(|name| self.backend(&name).ok()) {
            Some(backend) => backend.remove(place),
            // Its record is written before the backend makes anything.
            None => super::backend::copy::remove(place),
        }
    }

    fn load(&mut self) -> Result<(), Failure> {
        let mut index = Index::default();
        for place in places(&self.path.join(VOLUMES))? {
            tell(record::read(&place), |volume| index.add_volume(volume, place.clone()));
        }
        let mut groups: Vec<(Group, PathBuf)> = Vec::new();
        for place in places(&self.path.join(GROUPS))? {
            tell(record::read(&place), |group| groups.push((group, place.clone())));
        }
        for place in places(&self.path.join(SNAPSHOTS))? {
            let Ok(snapshot) =
                record::read::<Snapshot>(&place).inspect_err(|e| eprintln!("sextant csi: {e}"))
            else {
                continue;
            };
            let is_whole =
                snapshot.group.is_empty() || groups.iter().any(|(group, _)| group.id == snapshot.group);
            if is_whole {
                index.add_snapshot(snapshot, place);
            } else {
                // Its group never came to be, or is gone.
                self.erase(&place)?;
            }
        }
        for (group, place) in groups {
            index.add_group(group, place);
        }
        *self.index.get_mut().unwrap_or_else(PoisonError::into_inner) = index;
        Ok(())
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
        self.backend(&volume.backend).map_err(|_| {
            Failure::precondition(format!(
                "the backend {} of {} cannot be had here now",
                volume.backend, volume.id
            ))
        })
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
        volume: Volume,
        make: impl FnOnce(&dyn Backend, &Path, &Volume) -> Result<(), Failure>,
    ) -> Result<Arc<Kept<Volume>>, Failure> {
        let backend = self.backend_of(&volume)?;
        let name =
            if volume.ephemeral { format!("ephemeral-{}", text::random()?) } else { volume.id.clone() };
        let place = self.begin(&name, &volume)?;
        let made = make(backend, &place, &volume)
            .and_then(|()| backend.sync(&place))
            .and_then(|()| self.name(backend, &place, VOLUMES));
        match made {
            Ok(place) => Ok(self.index().add_volume(volume, place)),
            Err(error) => Err(self.take_back(&place, error)),
        }
    }

    /// Makes snapshots, all or none, and their group where there is one: `make` cuts them into places that nobody else sees.
    ///
    /// # Errors
    /// `make`'s, or the disk's; nothing is left then.
    pub(crate) fn add_snapshots(
        &self,
        snapshots: Vec<Snapshot>,
        group: Option<Group>,
        make: impl FnOnce(&dyn Backend, &[PathBuf]) -> Result<(), Failure>,
    ) -> Result<Vec<Arc<Kept<Snapshot>>>, Failure> {
        let Some(first) = snapshots.first() else { return Ok(Vec::new()) };
        let backend = self.backend_of(&first.volume)?;
        let mut places = Vec::new();
        let made = snapshots
            .iter()
            .try_for_each(|snapshot| self.begin(&snapshot.id, snapshot).map(|place| places.push(place)))
            .and_then(|()| make(backend, &places))
            .and_then(|()| places.iter().try_for_each(|place| backend.sync(place)))
            .and_then(|()| {
                for place in &mut places {
                    *place = self.rename(place, SNAPSHOTS)?;
                }
                backend.commit(&[&self.path.join(SNAPSHOTS)])
            })
            .and_then(|()| match group {
                Some(group) => {
                    let place = self.begin(&group.id, &group)?;
                    let named =
                        super::backend::copy::sync(&place).and_then(|()| self.name(backend, &place, GROUPS));
                    named.map(|place| Some((group, place))).map_err(|error| self.take_back(&place, error))
                }
                None => Ok(None),
            });
        match made {
            Ok(group) => {
                let mut index = self.index();
                if let Some((group, place)) = group {
                    index.add_group(group, place);
                }
                let kept = snapshots.into_iter().zip(places);
                Ok(kept.map(|(snapshot, place)| index.add_snapshot(snapshot, place)).collect())
            }
            Err(error) => Err(places.iter().fold(error, |error, place| self.take_back(place, error))),
        }
    }

    /// Removes a volume: when this returns it is gone, whatever happens.
    ///
    /// # Errors
    /// The machine's. It is gone for callers as soon as its name is.
    pub(crate) fn remove_volume(&self, id: &str) -> Result<(), Failure> {
        let Some(kept) = self.volume(id) else { return Ok(()) };
        let backend = self.backend_of(&kept.record)?;
        let gone = self.unname(backend, &kept.place, VOLUMES)?;
        self.index().remove_volume(id);
        backend.remove(&gone)
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
        backend.remove(&gone)
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
        // Members whose group is gone go at the next start.
        let gone = self.unname(backend, &kept.place, GROUPS)?;
        self.index().remove_group(id);
        members.iter().try_for_each(|member| self.remove_snapshot(&member.record.id))?;
        super::backend::copy::remove(&gone)
    }

    /// Replaces the record of a volume.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn change_volume(
        &self,
        kept: &Kept<Volume>,
        volume: Volume,
    ) -> Result<Arc<Kept<Volume>>, Failure> {
        record::replace(&kept.place, &volume)?;
        Ok(self.index().add_volume(volume, kept.place.clone()))
    }

    /// A new place with a record in it.
    fn begin(&self, name: &str, record: &impl Record) -> Result<PathBuf, Failure> {
        let place = self.path.join(INCOMING).join(name);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&place)
            .map_err(|e| Failure::internal(format!("cannot make {}: {e}", place.display())))?;
        record::write(&place, record).map_err(|error| self.take_back(&place, error))?;
        Ok(place)
    }

    /// Gives a place that is whole its name.
    fn name(&self, backend: &dyn Backend, place: &Path, part: &str) -> Result<PathBuf, Failure> {
        let named = self.rename(place, part)?;
        match backend.commit(&[&self.path.join(part)]) {
            Ok(()) => Ok(named),
            Err(error) => Err(self.take_back(&named, error)),
        }
    }

    /// Takes the name of a place away; returns where it is now.
    fn unname(&self, backend: &dyn Backend, place: &Path, part: &str) -> Result<PathBuf, Failure> {
        let gone = self.rename(place, GONE)?;
        backend.commit(&[&self.path.join(part), &self.path.join(GONE)])?;
        Ok(gone)
    }

    fn rename(&self, place: &Path, part: &str) -> Result<PathBuf, Failure> {
        let to = self.path.join(part).join(place.file_name().unwrap_or_default());
        fs::rename(place, &to).map_err(|e| {
            Failure::internal(format!("cannot rename {} to {}: {e}", place.display(), to.display()))
        })?;
        Ok(to)
    }

    /// Removes what could not be made whole.
    fn take_back(&self, place: &Path, error: Failure) -> Failure {
        match self.erase(place) {
            Ok(()) => error,
            Err(after) => error.and(&after),
        }
    }

    /// Sets `bytes` aside for what is about to be made, until the index has it.
    ///
    /// # Errors
    /// `ResourceExhausted` where the pool has not as many left.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<Reserved<'_>, Failure> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let left = self.left(&mut accounts)?;
        if bytes > left {
            let hint = "delete what is not needed, make the pool larger, or allow more with its `overcommit`";
            let message = format!(
                "the pool {:?} has {left} bytes left of {bytes} that are asked for: {hint}",
                self.name
            );
            return Err(Failure::new(Code::ResourceExhausted, message));
        }
        accounts.pending += bytes;
        Ok(Reserved { accounts: &self.accounts, bytes })
    }

    /// How many bytes can still be promised.
    ///
    /// # Errors
    /// The pool cannot be asked.
    pub(crate) fn available(&self) -> Result<u64, Failure> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        self.left(&mut accounts)
    }

    fn left(&self, accounts: &mut accounts::Accounts) -> Result<u64, Failure> {
        let space = self.backend("")?.space(&self.path)?;
        let others = if self.is_its_own() { 0 } else { accounts.others(space, || self.allocated())? };
        let promised = self.promised()?;
        let whole = space.size.saturating_sub(others) as f64 * self.overcommit;
        Ok((whole as u64).saturating_sub(promised + accounts.pending))
    }

    /// Whether the pool is all of its file system: then nobody else writes there.
    fn is_its_own(&self) -> bool {
        let device = |path: &Path| fs::symlink_metadata(path).map(|metadata| metadata.dev()).ok();
        self.path.parent().is_some_and(|parent| device(parent) != device(&self.path))
    }

    /// What volumes and snapshots may come to take.
    fn promised(&self) -> Result<u64, Failure> {
        let index = self.index();
        let mut sum = 0_u64;
        for kept in index.volumes.values() {
            let volume = &kept.record;
            sum = sum.saturating_add(self.backend_of(volume)?.taken(&Wish::of(volume), volume.capacity));
        }
        Ok(index.snapshots.values().fold(sum, |sum, kept| sum.saturating_add(kept.record.held)))
    }

    fn allocated(&self) -> Result<u64, Failure> {
        let (volumes, snapshots) = (self.volumes(), self.snapshots());
        let all = volumes.iter().map(|kept| (&kept.record, &kept.place));
        let all = all.chain(snapshots.iter().map(|kept| (&kept.record.volume, &kept.place)));
        let mut sum = 0;
        for (volume, place) in all {
            sum += self.backend_of(volume)?.allocated(place)?;
        }
        Ok(sum)
    }
}

/// Directories in a directory of a pool.
fn places(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |e: io::Error| Failure::internal(format!("cannot list {}: {e}", directory.display()));
    let mut places = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        places.push(entry.map_err(failed)?.path());
    }
    places.sort();
    Ok(places)
}

/// A record that cannot be read is told, and keeps nobody from the others.
fn tell<R, T>(record: Result<R, Failure>, take: impl FnOnce(R) -> T) {
    match record {
        Ok(record) => {
            take(record);
        }
        Err(error) => eprintln!("sextant csi: {error}"),
    }
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
