//! Thin volumes of device mapper (dm-thin), in a pool on a device of its own.
//!
//! A volume is a number of the pool's, which its place names; dm-thin has the data. It has a block device while it is in use.
//! Snapshots and clones share blocks, and cost the same however large they are.
//!
//! What the name says: it is what LVM makes of `--type thin-pool`, without LVM, whose own pools are left alone
//! (docs/adr/0022).

mod devices;
mod label;
mod number;
mod pool;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use grpc::{Code, Failure};
use kernel::freeze::{self, Frozen};
use rustix::io::Errno;

use self::number::{Numbers, Thin};
use self::pool::ThinPool;
use super::encryption::{self, Encryption};
use super::filesystem::kind::Kind;
use super::filesystem::{self, program, root, superblock};
use super::{
    Abilities, Backend, Copies, Cut, Mounting, Secrets, Source, Space, Usage, Wish, copy, crypt, failed,
};
use crate::plugin::pool::all_places;
use crate::plugin::pool::record::{self, Snapshot, Volume};

pub(crate) const NAME: &str = "lvm-thin";
/// What may be written to a volume in use while a snapshot of it is about to be made.
const MEANWHILE: u64 = 64 << 20;

/// Thin volumes of a pool.
pub(crate) struct Volumes {
    pool: ThinPool,
    numbers: Numbers,
    /// One at a time holds devices still, or looks at one that is not in use.
    cutting: Mutex<()>,
}

impl Volumes {
    /// Brings the pool on `device` up whose records are in `directory`; makes it where the device is blank.
    ///
    /// # Errors
    /// `FailedPrecondition` where the device is somebody else's, or the kernel lacks what it takes.
    pub(crate) fn open(directory: &Path, device: &Path) -> Result<Volumes, Failure> {
        let pool = ThinPool::open(directory, device)?;
        // Now that nobody else makes any.
        let numbers = Numbers::of(&all_places(directory)?);
        Ok(Volumes { pool, numbers, cutting: Mutex::default() })
    }

    fn kind(wish: &Wish) -> Kind {
        Kind::of(wish.block, &wish.fs_type).unwrap_or(Kind::Ext4)
    }

    /// Whole blocks of the pool.
    fn whole(&self, bytes: u64) -> u64 {
        bytes.checked_next_multiple_of(self.pool.label.block).unwrap_or(u64::MAX)
    }

    /// Gives a place a number of the pool's that nobody has.
    fn number(&self, place: &Path, bytes: u64) -> Result<Thin, Failure> {
        self.pool.is_well()?;
        let thin = Thin::new(self.numbers.take()?, bytes);
        thin.write(place)?;
        Ok(thin)
    }

    /// Has dm-thin make what a place has a number for, as `message` says with that number.
    fn make(&self, mut thin: Thin, place: &Path, message: impl Fn(u32) -> String) -> Result<Thin, Failure> {
        loop {
            match self.pool.message(&message(thin.number)) {
                Ok(()) => return Ok(thin),
                // Of a place that was lost: it is not given away, and stays taken.
                Err(e) if e.errno() == Some(Errno::EXIST) => {
                    eprintln!("sextant csi: the pool has a volume {} that no record names", thin.number);
                    Thin::forget(place)?;
                    thin = self.number(place, thin.bytes)?;
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn create_empty(&self, place: &Path, volume: &Volume) -> Result<(), Failure> {
        let kind = Kind::in_volume(volume)?;
        let thin = self.number(place, kind.image(volume.capacity))?;
        let thin = self.make(thin, place, |number| format!("create_thin {number}"))?;
        // The file system of one that is encrypted is made when the key is here.
        if kind == Kind::Block || is_encrypted(volume) {
            return Ok(());
        }
        let path = self.pool.attach(&thin)?.path();
        let made = program::make(kind, &path, volume.capacity, Encryption::None).and_then(|()| {
            File::open(&path).and_then(|device| device.sync_all()).map_err(|e| failed("sync", &path, &e))
        });
        made.and(self.pool.detach(&thin))
    }

    fn create_from(&self, place: &Path, volume: &Volume, source: Source<'_>) -> Result<(), Failure> {
        let (origin, from, root) = match source {
            Source::Snapshot(snapshot, from) => (&snapshot.volume, from, None),
            Source::Volume(origin, from, root) => (origin, from, root),
        };
        let kind = Kind::of_copy(volume, origin)?;
        let from_thin = Thin::read(from)?;
        let thin = self.ready(&from_thin, from, place, kind.image(volume.capacity))?;
        let _alone = self.cutting.lock().unwrap_or_else(PoisonError::into_inner);
        let frozen = self.frozen(origin, &from_thin, root)?;
        let still = self.pool.still(&[from_thin])?;
        let copied = self.copy(&from_thin, thin, place);
        copied.and(goes_on(still, frozen.into_iter().collect()))
    }

    /// Has in a place what a copy needs, of `bytes` at least: nothing waits for a disk while its origin is held still.
    fn ready(&self, origin: &Thin, from: &Path, to: &Path, bytes: u64) -> Result<Thin, Failure> {
        crypt::Lock::copy(from, to)?;
        self.number(to, bytes.max(origin.bytes))
    }

    /// Makes a copy in a place of what is held still.
    fn copy(&self, from: &Thin, thin: Thin, to: &Path) -> Result<(), Failure> {
        self.make(thin, to, |number| format!("create_snap {number} {}", from.number)).map(drop)
    }

    /// Refuses a snapshot that would take more than was set aside for it.
    fn is_within(&self, origin: &Thin, to: &Path) -> Result<(), Failure> {
        // Nobody writes to one that has no device.
        let Some(mapped) = self.pool.mapped(origin)? else { return Ok(()) };
        if mapped <= record::read::<Snapshot>(to)?.held {
            return Ok(());
        }
        let message =
            "more was written to the volume meanwhile than is set aside for its snapshot; try again";
        Err(Failure::new(Code::Aborted, message))
    }
}

impl Backend for Volumes {
    fn name(&self) -> &'static str {
        NAME
    }

    fn abilities(&self) -> Abilities {
        Abilities { mount: true, block: true, copies: Copies::Shared }
    }

    /// Nobody else has anything on the device.
    fn space(&self, _: &Path) -> Result<Space, Failure> {
        self.pool.health()?;
        Ok(Space { free: self.pool.bytes, size: self.pool.bytes })
    }

    fn file_system(&self, wish: &Wish) -> String {
        Self::kind(wish).name().to_owned()
    }

    fn least(&self, wish: &Wish) -> u64 {
        Self::kind(wish).least()
    }

    fn taken(&self, wish: &Wish, capacity: u64) -> u64 {
        self.whole(Self::kind(wish).image(capacity))
    }

    fn fits(&self, wish: &Wish, bytes: u64) -> u64 {
        Self::kind(wish).fits(bytes - bytes % self.pool.label.block)
    }

    fn accepts(&self, wish: &Wish) -> Result<(), Failure> {
        Kind::accepts(wish)?;
        for (key, value) in wish.parameters.iter().chain(&wish.mutable) {
            let field = format!("parameters[{key}]");
            if key != encryption::PARAMETER || wish.mutable.contains_key(key) {
                return Err(Failure::invalid(
                    field,
                    format!("is not known to the backend {NAME}; leave it out"),
                ));
            }
            if value != encryption::DM_CRYPT {
                return Err(Failure::invalid(
                    field,
                    format!("{value:?} is no encryption of {NAME}: write dm-crypt"),
                ));
            }
            crypt::is_here()?;
        }
        Ok(())
    }

    fn create(&self, place: &Path, volume: &Volume, source: Option<Source<'_>>) -> Result<(), Failure> {
        match source {
            None => self.create_empty(place, volume),
            Some(source) => self.create_from(place, volume, source),
        }
    }

    /// All are held still before the first is cut, so the cuts are of one moment.
    fn snapshot(&self, cuts: &[Cut<'_>]) -> Result<(), Failure> {
        let origins = cuts.iter().map(|cut| Thin::read(cut.from)).collect::<Result<Vec<_>, _>>()?;
        let ready = origins.iter().zip(cuts).map(|(origin, cut)| self.ready(origin, cut.from, cut.to, 0));
        let ready = ready.collect::<Result<Vec<_>, _>>()?;
        let _alone = self.cutting.lock().unwrap_or_else(PoisonError::into_inner);
        let frozen = origins.iter().zip(cuts).map(|(origin, cut)| self.frozen(cut.volume, origin, cut.root));
        let frozen = frozen.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
        let still = self.pool.still(&origins)?;
        let cut = origins.iter().zip(ready).zip(cuts).try_for_each(|((origin, thin), cut)| {
            self.is_within(origin, cut.to)?;
            self.copy(origin, thin, cut.to)
        });
        cut.and(goes_on(still, frozen))
    }

    /// Without a mount the file system fills its device when it is mounted next.
    fn expand(
        &self,
        place: &Path,
        volume: &Volume,
        capacity: u64,
        root: Option<&Path>,
    ) -> Result<(), Failure> {
        let kind = Kind::in_volume(volume)?;
        let mut thin = Thin::read(place)?;
        let root = match root.filter(|_| kind != Kind::Block) {
            Some(root) => Some(self.open_root(root, volume, &thin)?),
            None => None,
        };
        let bytes = kind.image(capacity);
        if bytes > thin.bytes {
            thin.bytes = bytes;
            thin.write(place)?;
        }
        self.pool.widen(&thin)?;
        let Some(root) = root else { return Ok(()) };
        filesystem::grow(kind, &root, thin.bytes).map_err(|e| filesystem::not_grown(volume, e))
    }

    fn modify(&self, _: &Path, _: &Volume, _: Option<&Path>) -> Result<(), Failure> {
        Ok(())
    }

    fn remove(&self, place: &Path) -> Result<(), Failure> {
        let Some(thin) = Thin::find(place)? else { return copy::remove(place) };
        self.pool.go_on(&thin)?;
        self.pool.detach(&thin)?;
        self.pool.idle(&thin)?;
        // It goes, whatever the device below makes of that.
        if let Err(error) = self.pool.discard(&thin) {
            eprintln!("sextant csi: cannot give back what volume {} of the pool had: {error}", thin.number);
        }
        self.pool.delete(&thin)?;
        copy::remove(place)?;
        // A power cut must not bring the place back when its number is another's.
        copy::sync_names(&[place.parent().unwrap_or(place)])?;
        self.numbers.give_back(thin.number);
        Ok(())
    }

    fn sync(&self, place: &Path) -> Result<(), Failure> {
        // What dm-thin was told is on the disk.
        copy::sync(place)
    }

    fn commit(&self, directories: &[&Path]) -> Result<(), Failure> {
        copy::sync_names(directories)
    }

    fn mount(&self, place: &Path, volume: &Volume, how: &Mounting<'_>) -> Result<OwnedFd, Failure> {
        let thin = Thin::read(place)?;
        self.pool.idle(&thin)?;
        let device = self.pool.attach(&thin)?;
        let mount = if is_encrypted(volume) {
            self.pool.crypt(&thin).mount(place, volume, how, &device.name(), thin.bytes)
        } else {
            Kind::in_volume(volume)
                .and_then(|kind| filesystem::mount_whole(volume, kind, &device.path(), thin.bytes, how))
        };
        // From now on it goes with the mount, also where that is none.
        match (mount, self.pool.detach(&thin)) {
            (Ok(mount), detached) => detached.map(|()| mount),
            (Err(error), Ok(())) => Err(error),
            (Err(error), Err(after)) => Err(error.and(&after)),
        }
    }

    fn device(&self, place: &Path, volume: &Volume, read_only: bool) -> Result<PathBuf, Failure> {
        Kind::is_block(volume)?;
        let thin = Thin::read(place)?;
        if is_encrypted(volume) {
            return self.pool.crypt(&thin).device(&volume.id, read_only);
        }
        self.pool.settled(&thin)?;
        let device = if read_only { self.pool.attach_read_only(&thin)? } else { self.pool.attach(&thin)? };
        Ok(device.path())
    }

    fn unlock(&self, place: &Path, volume: &Volume, secrets: &Secrets) -> Result<(), Failure> {
        if !is_encrypted(volume) {
            return Ok(());
        }
        let thin = Thin::read(place)?;
        self.pool.crypt(&thin).unlock(place, volume, secrets, || {
            self.pool.settled(&thin)?;
            Ok((self.pool.attach(&thin)?.name(), thin.bytes, ()))
        })
    }

    fn release(&self, place: &Path, _: &Volume) -> Result<(), Failure> {
        self.pool.detach(&Thin::read(place)?)
    }

    fn usage(&self, place: &Path, volume: &Volume, root: Option<&Path>) -> Result<Usage, Failure> {
        let Some(root) = root else {
            // Whoever made a device to look would take it from the one who stages the volume at this moment.
            let mapped = self.pool.mapped(&Thin::read(place)?)?.ok_or_else(|| {
                let message =
                    format!("volume {} has no device now, as where it is staged; try again", volume.id);
                Failure::new(Code::Aborted, message)
            })?;
            let used = mapped.min(volume.capacity);
            let available = volume.capacity - used;
            return Ok(Usage { total: volume.capacity, used, available, ..Usage::default() });
        };
        filesystem::usage(volume, root)
    }

    fn ailment(&self, place: &Path, volume: &Volume, root: Option<&Path>) -> Result<Option<String>, Failure> {
        let kind = Kind::in_volume(volume)?;
        if let Some(ailment) = self.pool.health()?.ailment() {
            return Ok(Some(ailment));
        }
        let Some(thin) = Thin::find(place)? else {
            return Ok(Some("its number in the pool is gone".to_owned()));
        };
        if thin.bytes < kind.image(volume.capacity) {
            return Ok(Some(format!(
                "its device has {} bytes of {}",
                thin.bytes,
                kind.image(volume.capacity)
            )));
        }
        if let Some(ailment) = root.and_then(filesystem::ailment) {
            return Ok(Some(ailment));
        }
        // Nobody reads one without its key.
        let is_readable = kind != Kind::Block && !is_encrypted(volume);
        let Some(path) = self.pool.path(&thin)?.filter(|_| is_readable) else { return Ok(None) };
        let device = File::open(&path).map_err(|e| failed("open", &path, &e))?;
        match superblock::read(&device, kind).map_err(|e| failed("read", &path, &e))? {
            None => Ok(Some(format!("its device has no {} in it", kind.name()))),
            Some(told) if told.damaged => Ok(Some("its file system has found errors in itself".to_owned())),
            Some(_) => Ok(None),
        }
    }

    /// What a snapshot of it may come to have. More may be written to one in use meanwhile.
    fn allocated(&self, place: &Path) -> Result<u64, Failure> {
        let thin = Thin::read(place)?;
        let spare = if self.pool.path(&thin)?.is_some() { MEANWHILE } else { 0 };
        Ok(self.whole(self.mapped(&thin)?.saturating_add(spare).min(thin.bytes)))
    }

    /// A mount's device that is left goes with its last user; nobody else has one.
    fn recover(&self, place: &Path, volume: &Volume, root: Option<&Path>) -> Result<(), Failure> {
        let thin = Thin::read(place)?;
        self.pool.go_on(&thin)?;
        if let Some(root) = root.filter(|_| is_frozen_apart(volume)) {
            freeze::thaw(self.open_root(root, volume, &thin)?)?;
        }
        if volume.block { Ok(()) } else { self.pool.detach(&thin) }
    }
}

fn is_encrypted(volume: &Volume) -> bool {
    Encryption::of(volume) == Encryption::DmCrypt
}

/// Whether the file system does not freeze with its device: one that may have several does not know it by that.
fn is_frozen_apart(volume: &Volume) -> bool {
    volume.fs_type == Kind::Btrfs.name()
}

/// Has all go on that was held still, whatever one says.
fn goes_on(still: devices::Still, frozen: Vec<Frozen>) -> Result<(), Failure> {
    let gone_on = still.go_on();
    let thawed: Vec<_> = frozen.into_iter().map(Frozen::thaw).collect();
    gone_on.and(thawed.into_iter().collect::<Result<(), _>>().map_err(Failure::from))
}

impl Volumes {
    /// Freezes a file system that does not freeze with its device.
    fn frozen(&self, volume: &Volume, thin: &Thin, root: Option<&Path>) -> Result<Option<Frozen>, Failure> {
        match root.filter(|_| is_frozen_apart(volume)) {
            Some(root) => filesystem::freeze(volume, self.open_root(root, volume, thin)?),
            None => Ok(None),
        }
    }

    /// Bytes that were written to a volume, which nobody stages meanwhile.
    fn mapped(&self, thin: &Thin) -> Result<u64, Failure> {
        let _alone = self.cutting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mapped) = self.pool.mapped(thin)? {
            return Ok(mapped);
        }
        self.pool.attach(thin)?;
        let mapped = self.pool.mapped(thin);
        self.pool.detach(thin)?;
        mapped?.ok_or_else(|| Failure::new(Code::Aborted, "its device has gone meanwhile; try again"))
    }

    /// Opens the root of a volume that is mounted.
    fn open_root(&self, path: &Path, volume: &Volume, thin: &Thin) -> Result<OwnedFd, Failure> {
        let devices = self.pool.devices(thin)?;
        let is_its = |number| {
            devices.iter().any(|(_, info)| root::number(&info.path()) == Some(number))
                || self.pool.crypt(thin).is_its(number)
        };
        root::open(path, volume, Kind::in_volume(volume)?, is_its)
    }
}
