//! A directory tree for a layer: made here, archived by tar. What it looks like after that is what an unpacked layer
//! has to look like, so no code of ours says what is right.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, makedev, mknodat, utimensat};
use testkit::Random;

use crate::Result;
use crate::program::shown;

const OWNERS: [(u32, u32); 4] = [(0, 0), (0, 42), (1000, 1000), (100_000, 65_534)];
const MODES: [u32; 6] = [0o644, 0o755, 0o600, 0o4755, 0o2711, 0o444];

/// A tree that is being made.
pub(super) struct Tree<'a> {
    root: PathBuf,
    random: &'a mut Random,
    /// When each thing was last changed; put on at the end, for whatever is made in a directory changes its time.
    times: BTreeMap<PathBuf, (u64, u32)>,
    /// Directories that the layer takes for granted.
    implied: Vec<PathBuf>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: PathBuf, random: &'a mut Random) -> Result<Self> {
        fs::create_dir_all(&root)?;
        let mut tree = Self { root, random, times: BTreeMap::new(), implied: Vec::new() };
        tree.attributes(Path::new(""), (0, 0), 0o755)?;
        Ok(tree)
    }

    /// Owner, mode, and a time of its own: every seventh with nanoseconds, which most tars have not.
    fn attributes(&mut self, path: &Path, owner: (u32, u32), mode: u32) -> Result<()> {
        let full = self.root.join(path);
        lchown(&full, Some(owner.0), Some(owner.1))?;
        if !full.is_symlink() {
            fs::set_permissions(&full, fs::Permissions::from_mode(mode))?;
        }
        let nanoseconds = if self.random.below(7) == 0 { self.random.below(1_000_000_000) as u32 } else { 0 };
        self.times.insert(path.to_owned(), (1_000_000_000 + self.random.below(700_000_000), nanoseconds));
        Ok(())
    }

    fn any(&mut self, path: &Path) -> Result<()> {
        let owner = OWNERS[self.random.below(OWNERS.len() as u64) as usize];
        let mode = MODES[self.random.below(MODES.len() as u64) as usize];
        self.attributes(path, owner, mode)
    }

    /// A directory, with those above it.
    pub(super) fn directory(&mut self, path: &str, mode: u32) -> Result<()> {
        let path = Path::new(path);
        let above: Vec<&Path> = path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).collect();
        for path in above.into_iter().rev() {
            if !self.root.join(path).exists() {
                fs::create_dir(self.root.join(path))?;
                self.attributes(path, (0, 0), 0o755)?;
            }
        }
        fs::create_dir_all(self.root.join(path))?;
        self.attributes(path, (0, 0), mode)
    }

    /// A file of random bytes, of which `noise` in 8 are any byte and the rest letters.
    pub(super) fn file(&mut self, path: &str, size: u64, noise: u64) -> Result<()> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < size {
            let number = self.random.number();
            let block: Vec<u8> = match number % 8 < noise {
                true => number.to_le_bytes().to_vec(),
                false => b"durable ".to_vec(),
            };
            bytes.extend(block);
        }
        bytes.truncate(size as usize);
        fs::write(self.root.join(path), bytes)?;
        self.any(Path::new(path))
    }

    /// So many small files in so many directories below `path`.
    pub(super) fn files(&mut self, path: &str, directories: u64, each: u64) -> Result<()> {
        for d in 0..directories {
            let directory = format!("{path}/d{d}");
            self.directory(&directory, 0o755)?;
            for f in 0..each {
                let size = self.random.below(5000);
                self.file(&format!("{directory}/f{f}"), size, 3)?;
            }
        }
        Ok(())
    }

    pub(super) fn symlink(&mut self, path: &str, target: &str) -> Result<()> {
        symlink(target, self.root.join(path))?;
        self.any(Path::new(path))
    }

    pub(super) fn hard_link(&mut self, path: &str, target: &str) -> Result<()> {
        Ok(fs::hard_link(self.root.join(target), self.root.join(path))?)
    }

    pub(super) fn device(&mut self, path: &str, kind: FileType, number: (u32, u32)) -> Result<()> {
        let device = if kind == FileType::Fifo { 0 } else { makedev(number.0, number.1) };
        mknodat(CWD, self.root.join(path), kind, Mode::from_raw_mode(0o600), device)?;
        self.any(Path::new(path))
    }

    /// Hides `path`, a name of a lower layer; `.wh..opq` in a directory hides what lower layers have in it.
    pub(super) fn whiteout(&mut self, directory: &str, name: &str) -> Result<()> {
        fs::write(self.root.join(directory).join(format!(".wh.{name}")), "")?;
        Ok(())
    }

    /// A directory that only `other`, a layer below, has an entry for: owner, mode and time come from there.
    pub(super) fn implied(&mut self, path: &str, other: &Path) -> Result<()> {
        use std::os::unix::fs::MetadataExt as _;
        fs::create_dir(self.root.join(path))?;
        let model = fs::metadata(other.join(path))?;
        self.attributes(Path::new(path), (model.uid(), model.gid()), model.mode() & 0o7777)?;
        let time = (u64::try_from(model.mtime())?, u32::try_from(model.mtime_nsec())?);
        self.times.insert(path.into(), time);
        self.implied.push(path.into());
        Ok(())
    }

    /// Archives it at `tar`; the tree is then as the layer has to be unpacked: whiteouts as overlayfs has them.
    pub(super) fn archive(self, tar: &Path) -> Result<PathBuf> {
        self.stamp()?;
        let mut all = Vec::new();
        walk(&self.root, Path::new(""), &mut all)?;
        let mut command = Command::new("tar");
        command.arg("-C").arg(&self.root);
        command.args(["--format=posix", "--pax-option=delete=atime,delete=ctime", "--numeric-owner"]);
        command.args(["--no-recursion", "--null", "--verbatim-files-from", "-T", "-", "-cf"]).arg(tar);
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        let mut list = Vec::new();
        for path in all.iter().filter(|path| !self.implied.contains(path)) {
            list.extend_from_slice(b"./");
            list.extend_from_slice(path.as_os_str().as_encoded_bytes());
            list.push(0);
        }
        child.stdin.take().ok_or("tar has no standard input")?.write_all(&list)?;
        let status = child.wait()?;
        if !status.success() {
            return Err(format!("{} failed: {status}", shown(&command)).into());
        }
        for path in all {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(hidden) = name.strip_prefix(".wh.") else { continue };
            fs::remove_file(self.root.join(&path))?;
            if hidden != ".wh..opq" {
                let node = self.root.join(&path).with_file_name(hidden);
                mknodat(CWD, node, FileType::CharacterDevice, Mode::empty(), 0)?;
            }
        }
        self.stamp()?;
        Ok(self.root)
    }

    fn stamp(&self) -> Result<()> {
        for (path, (seconds, nanoseconds)) in &self.times {
            let time = Timespec { tv_sec: i64::try_from(*seconds)?, tv_nsec: i64::from(*nanoseconds) };
            let times = Timestamps { last_access: time, last_modification: time };
            utimensat(CWD, self.root.join(path), &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }
}

/// Everything below `path`, a directory before what is in it, the root as an empty path.
fn walk(root: &Path, path: &Path, all: &mut Vec<PathBuf>) -> Result<()> {
    all.push(path.to_owned());
    let full = root.join(path);
    if !fs::symlink_metadata(&full)?.is_dir() {
        return Ok(());
    }
    let mut names: Vec<_> = fs::read_dir(full)?.collect::<Result<_, _>>()?;
    names.sort_by_key(fs::DirEntry::file_name);
    names.iter().try_for_each(|entry| walk(root, &path.join(entry.file_name()), all))
}
