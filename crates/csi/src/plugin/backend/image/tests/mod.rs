//! Images with data in them, on pools that share blocks and on one that does not.

mod capacity;
mod copies;
mod crypted;
mod mounts;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::Duration;

use super::*;
use crate::plugin::backend::filesystem::tests::*;
use crate::plugin::pool::record::Snapshot;

/// A directory for places, on this machine's file system or in an image of its own.
struct Rig {
    path: PathBuf,
    images: Images,
    _mount: Option<OwnedFd>,
    _folder: tempfile::TempDir,
}

impl Rig {
    /// A pool on the file system of temporary files.
    fn here() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let images = Images::open(folder.path()).unwrap();
        Rig { path: folder.path().to_owned(), images, _mount: None, _folder: folder }
    }

    /// A pool on a file system of this kind.
    fn on(kind: Kind) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        // Its devices are known by this name, and other tests have pools at the same time.
        let own = folder.path().file_name().unwrap().to_string_lossy().replace('.', "pool-");
        let place = folder.path().join(own);
        fs::create_dir(&place).unwrap();
        let volume = volume("pool", kind, 2 * GIB);
        let images = Images { copies: Copies::Whole, default: Kind::Ext4 };
        images.create(&place, &volume, None).unwrap();
        let mount = Mounted(images.mount(&place, &volume, &how(false)).unwrap());
        let path = mount.root();
        let images = Images::open(&path).unwrap();
        Rig { path, images, _mount: Some(mount.0), _folder: folder }
    }

    fn place(&self, id: &str) -> PathBuf {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        // Tests run beside each other, and devices are the machine's.
        let inode = fs::metadata(&self.path).unwrap().ino();
        let mut hasher = DefaultHasher::new();
        (id, self._folder.path()).hash(&mut hasher);
        self.path.join(format!("{id}-{:016x}{inode:016x}", hasher.finish()))
    }

    fn new_place(&self, id: &str) -> PathBuf {
        let place = self.place(id);
        fs::create_dir(&place).unwrap();
        place
    }

    fn made(&self, volume: &Volume, source: Option<Source<'_>>) -> PathBuf {
        let place = self.new_place(&volume.id);
        self.images.create(&place, volume, source).unwrap();
        self.images.sync(&place).unwrap();
        place
    }

    fn mounted(&self, volume: &Volume) -> Mounted {
        Mounted(self.images.mount(&self.place(&volume.id), volume, &how(false)).unwrap())
    }

    fn snapshot(&self, id: &str, volume: &Volume, root: Option<&Path>) -> (Snapshot, PathBuf) {
        let to = self.new_place(id);
        let from = self.place(&volume.id);
        self.images.snapshot(&[Cut { volume, from: &from, root, to: &to }]).unwrap();
        (Snapshot::of_test(id, volume), to)
    }
}

fn volume(id: &str, kind: Kind, capacity: u64) -> Volume {
    volume_of(NAME, id, kind, capacity)
}

/// The bytes of a block device.
fn size(mut device: &File) -> u64 {
    use std::io::{Seek as _, SeekFrom};
    device.seek(SeekFrom::End(0)).unwrap()
}
