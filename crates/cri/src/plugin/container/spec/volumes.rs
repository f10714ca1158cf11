//! The image's own volumes (`VOLUME`): directories that can be written to whatever the root is, and that begin with what
//! the image has there. They live as long as the container.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use oci_image::contract::ImageConfig;
use oci_runtime::contract::Mount;
use rustix::fs::{Mode, OFlags};

use super::mounts::{self, Surroundings};
use crate::contract::Error;
use crate::contract::v1;

/// A volume of the image's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Volume {
    /// In the image, from its root.
    place: PathBuf,
    /// On the host.
    dir: PathBuf,
}

/// The volumes of `image` on whose place nothing is mounted that was asked for. Their directories are in `dir`.
pub(super) fn plan(
    image: &ImageConfig,
    asked: &[v1::Mount],
    dir: &Path,
    around: &Surroundings,
) -> Result<(Vec<Volume>, Vec<Mount>), Error> {
    let taken: Vec<PathBuf> = asked.iter().map(|mount| mounts::place(&mount.container_path)).collect();
    let (mut volumes, mut found) = (Vec::<Volume>::new(), Vec::new());
    for path in image.config.volumes.keys() {
        let place = mounts::place(path);
        if place.as_os_str().is_empty() || path.contains('\0') {
            let hint = "it is no volume's place: build the image without it";
            return Err(Error::invalid("config.image", format!("the image has a VOLUME {path:?}: {hint}")));
        }
        if taken.contains(&place) || volumes.iter().any(|volume| volume.place == place) {
            continue;
        }
        let volume = Volume { dir: dir.join(volumes.len().to_string()), place };
        let mut options = vec!["rbind", "rprivate", "rw"];
        if !around.uids.is_empty() {
            options.push("idmap");
        }
        let source = volume.dir.display().to_string();
        found.push(mounts::bound(&format!("/{}", volume.place.display()), &source, &options));
        volumes.push(volume);
    }
    Ok((volumes, found))
}

/// Makes the directories of `volumes` and fills them from the image, whose layers are `lower`, the topmost first.
pub(super) fn fill(volumes: &[Volume], lower: &[PathBuf]) -> Result<(), Error> {
    let Some(first) = volumes.first() else { return Ok(()) };
    if let Some(parent) = first.dir.parent() {
        crate::plugin::files::make_dir(parent)?;
    }
    let root = root(lower)?;
    for volume in volumes {
        let made = fs::DirBuilder::new().mode(0o755).create(&volume.dir);
        made.map_err(|e| Error::internal(format!("cannot create {}: {e}", volume.dir.display())))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        // Not in the image, or not a directory: then it begins empty.
        let Ok(from) = kernel::path::open_in(&root, &volume.place, flags, Mode::empty()) else { continue };
        let to = open(&volume.dir)?;
        copy(&from, &to).map_err(|e| {
            let place = volume.place.display();
            Error::internal(format!("cannot copy the image's /{place} to {}: {e}", volume.dir.display()))
        })?;
    }
    Ok(())
}

fn root(lower: &[PathBuf]) -> Result<OwnedFd, Error> {
    match lower {
        [one] => open(one),
        layers => Ok(kernel::mount::overlay(&kernel::mount::Overlay {
            lower: layers.iter().map(PathBuf::as_path).collect(),
            upper: None,
            volatile: false,
        })?),
    }
}

fn open(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|e| Error::internal(format!("cannot open {}: {e}", path.display())))
}

/// Each directory that another is in takes kilobytes of a stack, and an image may have them as deep as it likes.
fn copy(from: &OwnedFd, to: &OwnedFd) -> std::io::Result<()> {
    const STACK: usize = 16 << 20;
    std::thread::scope(|scope| {
        let work = || oci_runtime::copy_tree(from.as_fd(), to.as_fd());
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work)?;
        let copied = thread.join().map_err(|_| std::io::Error::other("the copying thread ended"))?;
        copied.map_err(std::io::Error::from)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::plugin::container::spec::tests::{around, image};

    fn with(volumes: &[&str]) -> ImageConfig {
        let mut image = image();
        image.config.volumes =
            volumes.iter().map(|path| ((*path).to_owned(), serde_json::json!({}))).collect();
        image
    }

    #[test]
    fn a_mount_that_was_asked_for_comes_first() {
        let asked = [v1::Mount { container_path: "/data/".into(), ..v1::Mount::default() }];
        let image = with(&["/data", "/var/lib/x", "var/lib/x/"]);
        let (volumes, mounts) = plan(&image, &asked, Path::new("/v"), &around()).unwrap();
        assert_eq!(volumes, [Volume { place: "var/lib/x".into(), dir: "/v/0".into() }]);
        assert_eq!((mounts[0].destination.as_str(), mounts[0].source.as_str()), ("/var/lib/x", "/v/0"));
        assert!(plan(&with(&["/"]), &[], Path::new("/v"), &around()).is_err());
    }

    /// Needs root: owners are set, and an overlay is mounted.
    #[test]
    fn it_begins_with_what_the_image_has() {
        let dir = tempfile::tempdir().unwrap();
        let [upper, lower] = ["upper", "lower"].map(|name| dir.path().join(name));
        fs::create_dir_all(lower.join("data/sub")).unwrap();
        fs::create_dir_all(&upper).unwrap();
        fs::write(lower.join("data/sub/file"), "text").unwrap();
        std::os::unix::fs::symlink("sub/file", lower.join("data/link")).unwrap();
        std::os::unix::fs::chown(lower.join("data"), Some(1000), Some(1001)).unwrap();
        let (volumes, _) = plan(&with(&["/data", "/none"]), &[], &dir.path().join("v"), &around()).unwrap();
        fill(&volumes, &[upper, lower]).unwrap();
        let data = dir.path().join("v/0");
        assert_eq!(fs::read_to_string(data.join("link")).unwrap(), "text");
        let stat = fs::metadata(&data).unwrap();
        assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (1000, 1001, 0o755));
        assert!(dir.path().join("v/1").is_dir());
    }
}
