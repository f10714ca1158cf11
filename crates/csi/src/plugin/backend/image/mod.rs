//! Image files: an ext4, an xfs or a btrfs in a sparse file on a loop device, or the device itself.
//!
//! A volume is the file `image` in its place. It is mounted through a loop device that detaches itself with the mount; a raw
//! block device stays until it is released, and is found by its tag. Snapshots and clones share blocks where the pool's file
//! system can (xfs, btrfs), and are copies elsewhere.

mod changes;
mod crypted;
mod devices;
mod fscrypt;
mod grow;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use grpc::{Code, Failure};
use kernel::capability::{Capability, Sets};
use kernel::freeze::{self, Frozen};
use rustix::io::Errno;

use super::encryption::{self, Encryption};
use super::filesystem::kind::Kind;
use super::filesystem::{self, program, size, superblock};
use super::{
    Abilities, Backend, Copies, Cut, Mounting, Ranges, Secrets, Source, Usage, Wish, copy, crypt, failed,
};
use crate::plugin::pool::record::Volume;

const NAME: &str = "image";
/// The file that a volume is.
const IMAGE: &str = "image";
/// Every block of a device is its user's: where each is the pool's file system keeps beside them, in one part of so many, and some.
const PART: u64 = 256;
const BESIDE: u64 = 128 << 10;

/// Images of a pool.
pub(crate) struct Images {
    copies: Copies,
    /// What a class gets that names no file system.
    default: Kind,
}

impl Images {
    /// Looks what the pool's file system can.
    ///
    /// # Errors
    /// The machine has no loop devices; the pool cannot be written.
    pub(crate) fn open(pool: &Path) -> Result<Images, Failure> {
        if !Path::new("/dev/loop-control").exists() {
            let hint = "load the module loop";
            return Err(Failure::precondition(format!(
                "images need loop devices: /dev/loop-control is not here; {hint}"
            )));
        }
        let copies = copies(pool).map_err(|e| failed("try what clones cost in", pool, &e))?;
        // Who may not grow an ext4 in use is better off with one that grows.
        let default = if may_grow_ext4()? || !program::can_make(Kind::Xfs) { Kind::Ext4 } else { Kind::Xfs };
        Ok(Images { copies, default })
    }

    /// What a wish comes to. One that [`Backend::accepts`] refuses is as good as any.
    fn kind(&self, wish: &Wish) -> Kind {
        let is_fscrypt =
            wish.parameters.get(encryption::PARAMETER).is_some_and(|value| value == encryption::FSCRYPT);
        let default = if is_fscrypt { Kind::Ext4 } else { self.default };
        Kind::of(wish.block, &wish.fs_type).unwrap_or(default)
    }
}

/// Whether the kernel lets this process grow an ext4 that is mounted.
fn may_grow_ext4() -> Result<bool, Failure> {
    Ok(Sets::current()?.effective.contains(Capability::SysResource))
}

/// Tries a clone of two files without names.
fn copies(pool: &Path) -> std::io::Result<Copies> {
    let file = || File::options().read(true).write(true).custom_flags(TMPFILE).open(pool);
    let (from, to) = match (file(), file()) {
        (Ok(from), Ok(to)) => (from, to),
        // Neither xfs nor btrfs is without such files.
        (Err(e), _) | (_, Err(e)) if e.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => {
            return Ok(Copies::Whole);
        }
        (Err(e), _) | (_, Err(e)) => return Err(e),
    };
    from.write_all_at(&[1; 4096], 0)?;
    match kernel::reflink::clone_file(&to, &from) {
        Ok(()) => Ok(Copies::Shared),
        Err(e) if kernel::reflink::is_unsupported(e) || e == Errno::INVAL => Ok(Copies::Whole),
        Err(e) => Err(e.into()),
    }
}

/// A file without a name, in the directory that is opened.
const TMPFILE: i32 = rustix::fs::OFlags::TMPFILE.bits() as i32;

fn open_image(place: &Path, write: bool) -> Result<File, Failure> {
    let path = place.join(IMAGE);
    File::options().read(true).write(write).open(&path).map_err(|e| failed("open", &path, &e))
}

/// Has what was written until now in the image, and holds what is mounted still where the image is not copied at once. Freezing
/// takes tens of milliseconds; without it the copy is what a power cut would have left after a sync, and its journal is
/// replayed. Who writes to a raw block device cannot be held still.
///
/// # Errors
/// `FailedPrecondition` where it is a device that may be written to meanwhile; `Aborted` where it is in use, and nobody knows by
/// whom.
fn still(
    place: &Path,
    volume: &Volume,
    root: Option<&Path>,
    at_once: bool,
) -> Result<Option<Frozen>, Failure> {
    let kind = Kind::in_volume(volume)?;
    let Some(root) = root else {
        if kind != Kind::Block {
            // What is not mounted here may still be in another mount namespace, or about to be closed by its last user.
            return devices::idle(place).map(|()| None);
        }
        if Encryption::of(volume) == Encryption::DmCrypt {
            crypted::of(place).sync()?;
        }
        for (path, _) in devices::of(place)?.iter().filter(|(_, status)| !status.options.read_only) {
            if !at_once {
                let hint = "unpublish and unstage it first";
                let message = format!("the block device of volume {} is in use: {hint}", volume.id);
                return Err(Failure::precondition(message));
            }
            let synced = File::open(path).and_then(|device| device.sync_all());
            synced.map_err(|e| failed("sync", path, &e))?;
        }
        return Ok(None);
    };
    let open = devices::open_root(place, volume, root)?;
    if at_once {
        return rustix::fs::syncfs(open).map(|()| None).map_err(|e| failed("sync", root, &e));
    }
    filesystem::freeze(volume, open)
}

/// A new image with the contents of another. One that shares its blocks is made at once: nothing is written to the other
/// meanwhile.
fn copied(from: &Path, to: &Path, copies: Copies) -> Result<File, Failure> {
    let (source, path) = (open_image(from, false)?, to.join(IMAGE));
    let copied = || {
        let image = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        match copies {
            Copies::Shared => kernel::reflink::clone_file(&image, &source)?,
            Copies::Whole => copy::contents(&source, &image, source.metadata()?.len())?,
        }
        Ok(image)
    };
    copied().map_err(|e: std::io::Error| match Errno::from_io_error(&e) {
        Some(Errno::NOSPC) => Failure::new(Code::ResourceExhausted, failed("write", &path, &e).message),
        _ => failed("copy to", &path, &e),
    })
}

impl Images {
    fn create_empty(place: &Path, volume: &Volume) -> Result<(), Failure> {
        let (kind, path) = (Kind::in_volume(volume)?, place.join(IMAGE));
        let made = File::options().write(true).create_new(true).mode(0o600).open(&path);
        made.and_then(|image| image.set_len(kind.image(volume.capacity)))
            .map_err(|e| failed("make", &path, &e))?;
        match Encryption::of(volume) {
            // Its file system is made when the key is here.
            Encryption::DmCrypt => Ok(()),
            encryption => program::make(kind, &path, volume.capacity, encryption),
        }
    }

    fn create_from(&self, place: &Path, volume: &Volume, source: Source<'_>) -> Result<(), Failure> {
        let (origin, from, root) = match source {
            Source::Snapshot(snapshot, from) => (&snapshot.volume, from, None),
            Source::Volume(origin, from, root) => (origin, from, root),
        };
        let kind = Kind::of_copy(volume, origin)?;
        let frozen = still(from, origin, root, self.copies == Copies::Shared)?;
        let image = copied(from, place, self.copies);
        if let Some(frozen) = frozen {
            frozen.thaw()?;
        }
        enlarge(&image?, &place.join(IMAGE), kind.image(volume.capacity))?;
        crypt::Lock::copy(from, place)
    }

    /// Attaches the image and mounts what is in it. The device goes with the mount, also where that fails.
    fn attach_and_mount(place: &Path, kind: Kind, how: &Mounting<'_>) -> Result<(OwnedFd, File), Failure> {
        // Writable even for a mount that is not: a journal may have to be replayed.
        let image = open_image(place, true)?;
        let (path, device) = devices::attach_for_mount(&image, place)?;
        let mount = filesystem::mount(kind, &path, how.read_only, how.options)?;
        Ok((mount, device))
    }

    /// Has a mounted file system fill its image, where it does not.
    fn fill(
        place: &Path,
        kind: Kind,
        mount: OwnedFd,
        device: File,
        how: &Mounting<'_>,
    ) -> Result<OwnedFd, Failure> {
        let image = open_image(place, false)?;
        let size = image.metadata().map_err(|e| failed("look at", &place.join(IMAGE), &e))?.len();
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(&mount, ".", flags, Mode::empty())
            .map_err(|e| failed("open the file system in", place, &e))?;
        match filesystem::grow(kind, &root, size) {
            Ok(()) => Ok(mount),
            Err(e) if kind == Kind::Ext4 && e.errno() == Some(Errno::PERM) => {
                // It has a journal that is replayed now, so its own program may work on it.
                drop((root, mount, device));
                devices::idle(place)?;
                grow::grow_ext4(place)?;
                Self::attach_and_mount(place, kind, how).map(|(mount, _)| mount)
            }
            // A balance that was interrupted goes on with the mount. The next mount tries again, or whoever expands it.
            Err(e) if e.errno() == Some(Errno::INPROGRESS) => {
                eprintln!("sextant csi: {} stays smaller than its image: {e}", place.display());
                Ok(mount)
            }
            Err(e) => Err(e.into()),
        }
    }
}

/// Makes an image as long as `bytes`, if it is not.
fn enlarge(image: &File, path: &Path, bytes: u64) -> Result<(), Failure> {
    let longer = || if image.metadata()?.len() < bytes { image.set_len(bytes) } else { Ok(()) };
    longer().map_err(|e| failed("enlarge", path, &e))
}

/// Options of a mount are looked at when it is made, parameters of a class here.
fn refuse_parameters(wish: &Wish, kind: Kind) -> Result<(), Failure> {
    for (key, value) in &wish.parameters {
        let field = format!("parameters[{key}]");
        if key != encryption::PARAMETER {
            return Err(Failure::invalid(field, "is not known to the backend image; leave it out"));
        }
        if value == encryption::DM_CRYPT {
            crypt::is_here()?;
            continue;
        }
        if value != encryption::FSCRYPT {
            return Err(Failure::invalid(
                field,
                format!("{value:?} is no encryption: write fscrypt or dm-crypt"),
            ));
        }
        if kind != Kind::Ext4 {
            let hint = "leave fsType out, or write ext4";
            return Err(Failure::invalid(field, format!("only ext4 has fscrypt here; {hint}")));
        }
    }
    match wish.mutable.keys().next() {
        Some(key) => {
            Err(Failure::invalid(format!("mutable_parameters[{key}]"), "nothing of an image may change so"))
        }
        None => Ok(()),
    }
}

impl Backend for Images {
    fn name(&self) -> &'static str {
        NAME
    }

    fn abilities(&self) -> Abilities {
        Abilities { mount: true, block: true, copies: self.copies }
    }

    fn file_system(&self, wish: &Wish) -> String {
        self.kind(wish).name().to_owned()
    }

    fn least(&self, wish: &Wish) -> u64 {
        self.kind(wish).least()
    }

    fn taken(&self, wish: &Wish, capacity: u64) -> u64 {
        let image = self.kind(wish).image(capacity);
        if wish.block { image.saturating_add(image / PART + BESIDE) } else { image }
    }

    fn fits(&self, wish: &Wish, bytes: u64) -> u64 {
        let kind = self.kind(wish);
        if !wish.block {
            return kind.fits(bytes);
        }
        let most = bytes.saturating_sub(BESIDE);
        let image = most - most.div_ceil(PART + 1);
        kind.fits(image - image % size::BLOCK)
    }

    fn accepts(&self, wish: &Wish) -> Result<(), Failure> {
        Kind::accepts(wish)?;
        refuse_parameters(wish, self.kind(wish))
    }

    fn create(&self, place: &Path, volume: &Volume, source: Option<Source<'_>>) -> Result<(), Failure> {
        match source {
            None => Self::create_empty(place, volume),
            Some(source) => self.create_from(place, volume, source),
        }
    }

    /// Of several file systems all are frozen before the first is cut, so the cuts are of one moment.
    fn snapshot(&self, cuts: &[Cut<'_>]) -> Result<(), Failure> {
        let at_once = cuts.len() == 1 && self.copies == Copies::Shared;
        let mut frozen = Vec::new();
        for cut in cuts {
            frozen.extend(still(cut.from, cut.volume, cut.root, at_once)?);
        }
        let cut = cuts.iter().try_for_each(|cut| {
            copied(cut.from, cut.to, self.copies)?;
            crypt::Lock::copy(cut.from, cut.to)
        });
        // All of them, whatever one says.
        let thawed: Vec<_> = frozen.into_iter().map(Frozen::thaw).collect();
        cut.and(thawed.into_iter().collect::<Result<(), _>>().map_err(Failure::from))
    }

    /// Without a mount the file system fills its image when it is mounted next.
    fn expand(
        &self,
        place: &Path,
        volume: &Volume,
        capacity: u64,
        root: Option<&Path>,
    ) -> Result<(), Failure> {
        let (kind, path) = (Kind::in_volume(volume)?, place.join(IMAGE));
        let image = open_image(place, true)?;
        let devices = devices::of(place)?;
        let root = root.filter(|_| kind != Kind::Block);
        let root = root.map(|root| devices::open_root(place, volume, root)).transpose()?;
        enlarge(&image, &path, kind.image(capacity))?;
        image.sync_all().map_err(|e| failed("sync", &path, &e))?;
        devices::widen(place, &devices)?;
        let size = image.metadata().map_err(|e| failed("look at", &path, &e))?.len();
        crypted::widen(place, volume, size)?;
        let Some(root) = root else { return Ok(()) };
        filesystem::grow(kind, &root, size).map_err(|e| filesystem::not_grown(volume, e))
    }

    fn modify(&self, _: &Path, _: &Volume, _: Option<&Path>) -> Result<(), Failure> {
        Ok(())
    }

    fn remove(&self, place: &Path) -> Result<(), Failure> {
        if crypt::Lock::find(place).map_or(true, |lock| lock.is_some()) {
            crypted::of(place).close()?;
        }
        devices::detach(place)?;
        copy::remove(place)
    }

    fn sync(&self, place: &Path) -> Result<(), Failure> {
        copy::sync(place)
    }

    fn commit(&self, directories: &[&Path]) -> Result<(), Failure> {
        copy::sync_names(directories)
    }

    fn mount(&self, place: &Path, volume: &Volume, how: &Mounting<'_>) -> Result<OwnedFd, Failure> {
        if Encryption::of(volume) == Encryption::DmCrypt {
            return crypted::mount(place, volume, how);
        }
        let (kind, path) = (Kind::in_volume(volume)?, place.join(IMAGE));
        devices::idle(place)?;
        let image = open_image(place, false)?;
        let told = superblock::read(&image, kind).map_err(|e| failed("read", &path, &e))?;
        let Some(told) = told else {
            return Err(Failure::internal(format!("{} has no {} in it", path.display(), kind.name())));
        };
        let size = image.metadata().map_err(|e| failed("look at", &path, &e))?.len();
        if told.damaged && !how.read_only {
            program::check_ext4(&path)?;
        }
        let (mount, device) = Self::attach_and_mount(place, kind, how)?;
        // Less than a block, or than xfs begins a group for, stays as it is.
        let mount = if told.size + size::BLOCK <= size && !how.read_only {
            Self::fill(place, kind, mount, device, how)?
        } else {
            mount
        };
        if Encryption::of(volume) == Encryption::Fscrypt {
            fscrypt::unlock(&mount, &volume.id, how.secrets)
        } else {
            Ok(mount)
        }
    }

    fn device(&self, place: &Path, volume: &Volume, read_only: bool) -> Result<PathBuf, Failure> {
        Kind::is_block(volume)?;
        if Encryption::of(volume) == Encryption::DmCrypt {
            return crypted::of(place).device(&volume.id, read_only);
        }
        // One that was released is no device to give away.
        let mut there = devices::settled(place)?.into_iter();
        if let Some((path, _)) = there.find(|(_, status)| status.options.read_only == read_only) {
            return Ok(path);
        }
        let image = open_image(place, !read_only)?;
        devices::attach(&image, place, read_only)
    }

    fn unlock(&self, place: &Path, volume: &Volume, secrets: &Secrets) -> Result<(), Failure> {
        match Encryption::of(volume) {
            Encryption::DmCrypt => crypted::unlock(place, volume, secrets),
            _ => Ok(()),
        }
    }

    fn release(&self, place: &Path, volume: &Volume) -> Result<(), Failure> {
        if Encryption::of(volume) == Encryption::DmCrypt {
            crypted::of(place).close()?;
        }
        devices::detach(place)
    }

    fn usage(&self, place: &Path, volume: &Volume, root: Option<&Path>) -> Result<Usage, Failure> {
        let Some(root) = root else {
            let used = self.allocated(place)?.min(volume.capacity);
            let available = volume.capacity - used;
            return Ok(Usage { total: volume.capacity, used, available, ..Usage::default() });
        };
        filesystem::usage(volume, root)
    }

    fn ailment(&self, place: &Path, volume: &Volume, root: Option<&Path>) -> Result<Option<String>, Failure> {
        let (kind, path) = (Kind::in_volume(volume)?, place.join(IMAGE));
        let Ok(image) = File::open(&path) else { return Ok(Some("its image is gone".to_owned())) };
        let length = image.metadata().map_err(|e| failed("look at", &path, &e))?.len();
        if length < kind.image(volume.capacity) {
            return Ok(Some(format!("its image has {length} bytes of {}", kind.image(volume.capacity))));
        }
        if let Some(ailment) = root.and_then(filesystem::ailment) {
            return Ok(Some(ailment));
        }
        // Nobody reads it without the key.
        if Encryption::of(volume) == Encryption::DmCrypt {
            return Ok(None);
        }
        match superblock::read(&image, kind).map_err(|e| failed("read", &path, &e))? {
            None if kind != Kind::Block => Ok(Some(format!("its image has no {} in it", kind.name()))),
            Some(told) if told.damaged => Ok(Some("its file system has found errors in itself".to_owned())),
            _ => Ok(None),
        }
    }

    fn allocated(&self, place: &Path) -> Result<u64, Failure> {
        match fs::metadata(place.join(IMAGE)) {
            Ok(metadata) => Ok(metadata.blocks() * 512),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(failed("look at", &place.join(IMAGE), &e)),
        }
    }

    fn recover(&self, place: &Path, volume: &Volume, root: Option<&Path>) -> Result<(), Failure> {
        if Encryption::of(volume) == Encryption::DmCrypt {
            let crypt = crypted::of(place);
            crypt::go_on(&crypt.devices()?)?;
            // That of a mount goes with it; one that was not mounted yet stayed.
            if !volume.block {
                crypt.close()?;
            }
        }
        let Some(root) = root else { return Ok(()) };
        freeze::thaw(devices::open_root(place, volume, root)?)?;
        Ok(())
    }

    fn ranges(&self, place: &Path, offset: u64, most: usize) -> Result<Ranges, Failure> {
        let image = open_image(place, false)?;
        changes::ranges(&image, offset, most).map_err(|e| failed("map", &place.join(IMAGE), &e))
    }

    fn changes(&self, base: &Path, place: &Path, offset: u64, most: usize) -> Result<Ranges, Failure> {
        let (old, new) = (open_image(base, false)?, open_image(place, false)?);
        changes::changes(&old, &new, offset, most).map_err(|e| failed("compare", &place.join(IMAGE), &e))
    }
}
