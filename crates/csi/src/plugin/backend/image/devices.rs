//! The loop devices that images are on, found by tags and by the files that they are attached to.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use grpc::{Code, Failure};
use kernel::loopdev::{self, Options, Status};

use super::{IMAGE, crypted};
use crate::plugin::backend::encryption::Encryption;
use crate::plugin::backend::failed;
use crate::plugin::backend::filesystem::kind::Kind;
use crate::plugin::backend::filesystem::root;
use crate::plugin::pool::record::Volume;

/// What the tags of our loop devices begin with.
const TAG: &str = "sextant-csi-";
/// What the tag of a device that cannot be written ends with.
const READ_ONLY: &str = "-ro";
/// What the kernel calls an image that was removed.
const IMAGE_GONE: &str = "image (deleted)";
/// How long a mount waits for the device of the one before, whose last user is about to close it.
const LINGERS: Duration = Duration::from_secs(3);

/// Devices, and what they are attached to.
pub(super) type Devices = Vec<(PathBuf, Status)>;

/// The tag of the devices of a place: the digits that its name ends with are its own, and go with it wherever it is renamed to.
/// What is before them may be longer than a tag has room for.
pub(super) fn tag(place: &Path) -> String {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    format!("{TAG}{}", name.rsplit('-').next().unwrap_or_default())
}

/// What tells the devices of a place. Another pool may be a copy of this one, with the same names.
struct Ours {
    tag: String,
    /// What the file is called that they are attached to, and what the directory is that it is in.
    file: &'static str,
    directory: OsString,
    /// The image's device and inode; none where it is gone.
    image: Option<(u64, u64)>,
}

impl Ours {
    fn of(place: &Path) -> Result<Ours, Failure> {
        let path = place.join(IMAGE);
        let image = match fs::metadata(&path) {
            Ok(image) => Some((image.dev(), image.ino())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(failed("look at", &path, &e)),
        };
        let file = if image.is_some() { IMAGE } else { IMAGE_GONE };
        Ok(Ours { tag: tag(place), file, directory: place.file_name().unwrap_or_default().into(), image })
    }

    /// Whether a file may be the image by its name.
    fn names(&self, file: &Path) -> bool {
        file.file_name().is_some_and(|name| name == self.file)
            && file.parent().and_then(Path::file_name).is_some_and(|name| name == self.directory)
    }

    fn has(&self, status: &Status) -> bool {
        status.tag.strip_suffix(READ_ONLY).unwrap_or(&status.tag) == self.tag
            && self.image.is_none_or(|image| image == status.backing)
    }

    fn devices(&self) -> Result<Devices, Failure> {
        let named = loopdev::attached_to(|file| self.names(file))?;
        Ok(named.into_iter().filter(|(_, status)| self.has(status)).collect())
    }
}

/// The devices of a place, whichever way they were attached.
pub(super) fn of(place: &Path) -> Result<Devices, Failure> {
    Ours::of(place)?.devices()
}

/// Tells a number of one of these devices.
pub(super) fn are(devices: &Devices) -> impl Fn(u64) -> bool {
    |number| devices.iter().any(|(path, _)| root::number(path) == Some(number))
}

/// Opens the root of a volume that is mounted from one of its devices.
pub(super) fn open_root(place: &Path, volume: &Volume, path: &Path) -> Result<OwnedFd, Failure> {
    let devices = of(place)?;
    let is_crypted = Encryption::of(volume) == Encryption::DmCrypt;
    let is_its = |number| if is_crypted { crypted::of(place).is_its(number) } else { are(&devices)(number) };
    root::open(path, volume, Kind::in_volume(volume)?, is_its)
}

/// Has the devices of a place see that its image is larger.
pub(super) fn widen(place: &Path, devices: &Devices) -> Result<(), Failure> {
    let ours = Ours::of(place)?;
    for (path, _) in devices {
        if let Some(device) = loopdev::open_if(path, |status| ours.has(status))? {
            loopdev::set_capacity(&device)?;
        }
    }
    Ok(())
}

/// Attaches an image for a mount: the device goes with it, also where it fails. The file is the device's.
pub(super) fn attach_for_mount(image: &File, place: &Path) -> Result<(PathBuf, File), Failure> {
    let options = Options { read_only: false, autoclear: true, direct_io: true };
    Ok(loopdev::attach(image, &tag(place), options)?)
}

/// Attaches an image as a block device that stays.
pub(super) fn attach(image: &File, place: &Path, read_only: bool) -> Result<PathBuf, Failure> {
    let tag = tag(place) + if read_only { READ_ONLY } else { "" };
    let options = Options { read_only, autoclear: false, direct_io: true };
    Ok(loopdev::attach(image, &tag, options)?.0)
}

/// Waits until no device has the image any more. Two at once would destroy what is in it.
pub(super) fn idle(place: &Path) -> Result<(), Failure> {
    until_none(place, |_| true).map(drop)
}

/// Waits until those are gone that go with their last user; the others.
pub(super) fn settled(place: &Path) -> Result<Devices, Failure> {
    until_none(place, |status| status.options.autoclear)
}

fn until_none(place: &Path, matters: impl Fn(&Status) -> bool) -> Result<Devices, Failure> {
    let until = Instant::now() + LINGERS;
    loop {
        let found = of(place)?;
        match found.iter().find(|(_, status)| matters(status)) {
            None => return Ok(found),
            Some((device, _)) if Instant::now() > until => {
                let hint = "something still has it open from its former use";
                let message = format!("{} is in use on {}: {hint}", place.display(), device.display());
                return Err(Failure::new(Code::Aborted, message));
            }
            Some(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Detaches the block devices of a place; one in use goes with its last user.
pub(super) fn detach(place: &Path) -> Result<(), Failure> {
    let ours = Ours::of(place)?;
    for (path, _) in ours.devices()? {
        loopdev::detach_if(&path, |status| ours.has(status))?;
    }
    Ok(())
}
