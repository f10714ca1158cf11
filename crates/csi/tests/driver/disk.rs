//! File systems of their own for pools, with project quotas in force: images on loop devices.
//!
//! Not every kernel has these quotas. With `SEXTANT_CSI_ALL_BACKENDS` they must be there.

use std::ffi::CString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use kernel::loopdev::{self, Options};
use kernel::mount;
use rustix::fs::{CWD, Mode, OFlags, openat};

/// Must be there, wherever this is set.
const ALL: &str = "SEXTANT_CSI_ALL_BACKENDS";

/// The file systems that have project quotas, and what makes one that has them.
const KINDS: [(&str, &[&str]); 2] = [
    ("ext4", &["mkfs.ext4", "-q", "-F", "-O", "project,quota"]),
    ("xfs", &["mkfs.xfs", "-q", "-f", "-m", "reflink=1"]),
];

/// A file system that is mounted until this is dropped.
pub(crate) struct Disk {
    pub(crate) kind: &'static str,
    pub(crate) path: PathBuf,
}

impl Disk {
    /// One of each kind, in a folder; none of those that this kernel lacks.
    pub(crate) fn with_quotas(folder: &Path, bytes: u64) -> Vec<Disk> {
        KINDS.iter().filter_map(|(kind, program)| Disk::of(folder, kind, program, bytes)).collect()
    }

    fn of(folder: &Path, kind: &'static str, program: &[&str], bytes: u64) -> Option<Disk> {
        let image = Disk::image(folder, kind, program, bytes);
        let path = folder.join(kind);
        std::fs::create_dir(&path).unwrap();
        match Disk::mounted(&image, kind, &path, c"prjquota") {
            Ok(()) => Some(Disk { kind, path }),
            Err(e) if std::env::var_os(ALL).is_none() => {
                println!("skipped: this kernel has no project quotas of {kind} ({e})");
                None
            }
            Err(e) => panic!("no project quotas of {kind}: {e}"),
        }
    }

    /// A file with an empty file system in it.
    fn image(folder: &Path, kind: &str, program: &[&str], bytes: u64) -> PathBuf {
        let image = folder.join(format!("{kind}.image"));
        File::create(&image).unwrap().set_len(bytes).unwrap();
        let made = Command::new(program[0]).args(&program[1..]).arg(&image).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        image
    }

    fn mounted(
        image: &Path,
        kind: &str,
        path: &Path,
        option: &std::ffi::CStr,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let backing = File::options().read(true).write(true).open(image)?;
        let options = Options { autoclear: true, ..Options::default() };
        let (device, _stays) = loopdev::attach(&backing, "sextant-test-csi-disk", options)?;
        let device = CString::new(device.as_os_str().as_bytes())?;
        let options = if option.is_empty() { vec![] } else { vec![(option, None)] };
        let mounted = mount::filesystem(&CString::new(kind)?, Some(&device), options, 0)?;
        let target = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        Ok(mount::attach(&mounted, &target)?)
    }

    /// Waits until no project of a range has files or limits: xfs takes inodes away a moment after they are removed.
    pub(crate) fn until_nothing_is_of_projects(&self, pool: &File, [first, last]: [u32; 2]) {
        let left = || {
            let mut from = first;
            while let Some((project, quota)) = kernel::quota::next(pool, from).unwrap() {
                if project > last {
                    break;
                }
                if !quota.is_unused() {
                    return Some((project, quota));
                }
                from = project + 1;
            }
            None
        };
        for _ in 0..18_000 {
            let Some((project, quota)) = left() else { return };
            let limits = (quota.most_bytes, quota.most_inodes);
            assert_eq!(limits, (0, 0), "{}: limits of project {project} are left", self.kind);
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{}: {:?}", self.kind, left());
    }

    /// One that could have quotas of projects, if this kernel has them, and is mounted without.
    pub(crate) fn without_quotas(folder: &Path, kind: &'static str) -> Disk {
        let (_, program) = KINDS.iter().find(|(known, _)| *known == kind).unwrap();
        let plain: Vec<&str> =
            program.iter().copied().filter(|word| *word != "-O" && *word != "project,quota").collect();
        let image = Disk::image(folder, kind, &plain, 512 << 20);
        let path = folder.join(kind);
        std::fs::create_dir(&path).unwrap();
        Disk::mounted(&image, kind, &path, c"").unwrap();
        Disk { kind, path }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.path, rustix::mount::UnmountFlags::DETACH);
    }
}
