//! The loop devices that images are on, found by tags.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use grpc::{Code, Failure};
use kernel::loopdev::{self, Options, Status};

use super::failed;

/// What the tags of our loop devices begin with; the name of the place follows.
const TAG: &str = "sextant-csi-";
/// What the tag of a device that cannot be written ends with.
const READ_ONLY: &str = "-ro";
/// How long a mount waits for the device of the one before, whose last user is about to close it.
const LINGERS: Duration = Duration::from_secs(3);

/// The tag of the devices of a place: its name goes with it wherever it is renamed to.
fn tag(place: &Path) -> String {
    format!("{TAG}{}", place.file_name().unwrap_or_default().to_string_lossy())
}

/// The devices of a place, whichever way they were attached.
pub(super) fn of(place: &Path) -> Result<Vec<(PathBuf, Status)>, Failure> {
    let tag = tag(place);
    let ours = |name: &str| name.strip_suffix(READ_ONLY).unwrap_or(name) == tag;
    Ok(loopdev::attached(ours)?)
}

/// Has the devices of a place see that its image is larger.
pub(super) fn widen(place: &Path) -> Result<(), Failure> {
    for (path, _) in of(place)? {
        let device = File::open(&path).map_err(|e| failed("open", &path, &e))?;
        loopdev::set_capacity(&device)?;
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
    until_none(place, |_| true)
}

/// Waits until those are gone that go with their last user.
pub(super) fn settled(place: &Path) -> Result<(), Failure> {
    until_none(place, |status| status.options.autoclear)
}

fn until_none(place: &Path, matters: impl Fn(&Status) -> bool) -> Result<(), Failure> {
    let until = Instant::now() + LINGERS;
    loop {
        match of(place)?.iter().find(|(_, status)| matters(status)) {
            None => return Ok(()),
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
    let tag = tag(place);
    loopdev::detach(&format!("{tag}{READ_ONLY}"))?;
    Ok(loopdev::detach(&tag)?)
}
