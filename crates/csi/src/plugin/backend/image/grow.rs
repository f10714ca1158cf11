//! Images whose ext4 grows while nobody has it mounted: this process may not grow it in use.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use grpc::Failure;
use kernel::reflink;
use rustix::io::Errno;

use super::{IMAGE, open_image};
use crate::plugin::backend::filesystem::program::resize_ext4;
use crate::plugin::backend::{copy, failed};

/// A copy of an image while its file system grows.
const GROWING: &str = "growing";

/// Has an ext4 that is not mounted fill its image. Who is killed meanwhile may leave it half moved, so where files can share
/// their blocks this works on a copy, which gets the image's name when it is whole.
pub(super) fn grow_ext4(place: &Path) -> Result<(), Failure> {
    let (image, growing) = (place.join(IMAGE), place.join(GROWING));
    let source = open_image(place, false)?;
    // What was left by who was killed.
    remove(&growing)?;
    let copy = File::options().write(true).create_new(true).mode(0o600).open(&growing);
    let copy = copy.map_err(|e| failed("make", &growing, &e))?;
    let grown = match reflink::clone_file(&copy, &source) {
        Ok(()) => resize_ext4(&growing).and_then(|()| {
            let named = copy.sync_all().and_then(|()| fs::rename(&growing, &image));
            named.map_err(|e| failed("replace", &image, &e))?;
            copy::sync_names(&[place])
        }),
        Err(e) if reflink::is_unsupported(e) || e == Errno::INVAL => resize_ext4(&image),
        Err(e) => Err(failed("copy to", &growing, &e)),
    };
    let removed = remove(&growing);
    grown.and(removed)
}

/// Removes a file; one that is not there is removed.
fn remove(file: &Path) -> Result<(), Failure> {
    match fs::remove_file(file) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed("remove", file, &e)),
        _ => Ok(()),
    }
}
