//! From files to a tar.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use oci_image::layer::tar::{Header, Kind, Time, Writer};
use rustix::fs::{
    CWD, Dir, FileType, Mode, OFlags, Stat, fstat, fstatfs, getxattr, listxattr, major, minor, openat,
    readlinkat,
};
use rustix::io::Errno;

use super::tree::{Tree, by_descriptor};
use crate::failure::{Context, Result};

/// XATTR_LIST_MAX and XATTR_SIZE_MAX.
const XATTR_MAX: usize = 64 << 10;
/// A file that says it is empty may be made on reading, as those of /proc are: so much of it is taken.
const MADE_MAX: u64 = 1 << 20;
/// Filesystems that show the kernel and not files (linux/magic.h): proc, sysfs, cgroup, cgroup2, devpts, mqueue, debugfs,
/// tracefs, securityfs, bpf, pstore, configfs.
const NO_FILES: [u64; 12] = [
    0x9fa0,
    0x6265_6572,
    0x27_e0eb,
    0x6367_7270,
    0x1cd1,
    0x1980_0202,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xcafe_4a11,
    0x6165_676c,
    0x6265_6570,
];

/// Writes what is at `path`, itself and all below, calling it `top`.
pub(super) fn pack(tree: &Tree, path: &Path, top: &[u8], output: &mut dyn Write) -> Result<()> {
    // A slash or dot at the path's end makes the kernel follow a link, as it should.
    let file =
        tree.open(path, OFlags::PATH | OFlags::NOFOLLOW).context(|| format!("open {}", path.display()))?;
    let mut packer = Packer { tar: Writer::new(output), links: HashMap::new(), buffer: vec![0; XATTR_MAX] };
    let stat = fstat(&file).context(|| format!("look at {}", path.display()))?;
    packer.entry(&file, &stat, top)?;
    packer.tar.finish()?;
    Ok(())
}

struct Packer<'a> {
    tar: Writer<&'a mut dyn Write>,
    /// Files with several names, and the first name of each.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl Packer<'_> {
    /// One thing, open as a path: whatever happens to its name meanwhile, this is what is packed.
    fn entry(&mut self, file: &OwnedFd, stat: &Stat, name: &[u8]) -> Result<()> {
        let shown = || String::from_utf8_lossy(name).into_owned();
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mut header = header(stat, name);
        if kind != FileType::Symlink {
            header.xattrs = self.xattrs(file).context(|| format!("read the attributes of {}", shown()))?;
        }
        let several = kind == FileType::RegularFile && stat.st_nlink > 1;
        if several && let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
            header.kind = Kind::HardLink;
            header.link.clone_from(first);
            return self.plain(&header);
        }
        if several {
            self.links.insert((stat.st_dev, stat.st_ino), name.to_vec());
        }
        match kind {
            FileType::RegularFile => {
                return self.file(file, stat, header).context(|| format!("read {}", shown()));
            }
            FileType::Directory => return self.directory(file, stat, header),
            FileType::Symlink => {
                header.kind = Kind::Symlink;
                header.link =
                    readlinkat(file, "", Vec::new()).context(|| format!("read {}", shown()))?.into_bytes();
            }
            FileType::Fifo => header.kind = Kind::Fifo,
            FileType::CharacterDevice | FileType::BlockDevice => {
                header.kind = if kind == FileType::BlockDevice { Kind::Block } else { Kind::Char };
                header.device = (major(stat.st_rdev), minor(stat.st_rdev));
            }
            _ => {
                eprintln!("sextant: warning: {}: a socket is not copied", shown());
                return Ok(());
            }
        }
        self.plain(&header)
    }

    fn plain(&mut self, header: &Header) -> Result<()> {
        Ok(self.tar.append(header, &mut io::empty())?)
    }

    fn file(&mut self, file: &OwnedFd, stat: &Stat, mut header: Header) -> Result<()> {
        // Opened again by its descriptor, it is the file that was looked at; nothing else can block or be written.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let mut data = File::from(openat(CWD, by_descriptor(file), flags, Mode::empty())?);
        header.size = stat.st_size.unsigned_abs();
        if header.size == 0 {
            let mut made = Vec::new();
            data.take(MADE_MAX).read_to_end(&mut made)?;
            header.size = made.len() as u64;
            return Ok(self.tar.append(&header, &mut made.as_slice())?);
        }
        let mut padded = Padded { data: &mut data, missing: 0 };
        self.tar.append(&header, &mut padded)?;
        if padded.missing > 0 {
            let name = String::from_utf8_lossy(&header.path).into_owned();
            eprintln!(
                "sextant: warning: {name} shrank by {} bytes while it was read: zeros stand there",
                padded.missing
            );
        }
        Ok(())
    }

    fn directory(&mut self, directory: &OwnedFd, stat: &Stat, header: Header) -> Result<()> {
        let shown = || String::from_utf8_lossy(&header.path).into_owned();
        self.plain(&Header { kind: Kind::Directory, ..header.clone() })?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = openat(directory, ".", flags, Mode::empty()).context(|| format!("open {}", shown()))?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&open).context(|| format!("list {}", shown()))? {
            let name = entry.context(|| format!("list {}", shown()))?.file_name().to_owned();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push(name);
            }
        }
        // The same files give the same archive.
        names.sort_unstable();
        for name in names {
            self.child(&open, stat, &header.path, &name)?;
        }
        Ok(())
    }

    fn child(&mut self, parent: &OwnedFd, above: &Stat, path: &[u8], name: &CStr) -> Result<()> {
        let full = match path {
            b"." => name.to_bytes().to_vec(),
            path => [path, b"/", name.to_bytes()].concat(),
        };
        let shown = || String::from_utf8_lossy(&full).into_owned();
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(parent, name, flags, Mode::empty()) {
            // Removed since it was listed.
            Err(Errno::NOENT) => return Ok(()),
            other => other.context(|| format!("open {}", shown()))?,
        };
        let stat = fstat(&file).context(|| format!("look at {}", shown()))?;
        if stat.st_dev != above.st_dev {
            let filesystem = fstatfs(&file).context(|| format!("look at {}", shown()))?.f_type;
            if NO_FILES.contains(&(filesystem as u64)) {
                // The directory it is mounted on belongs to the tree.
                return match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => {
                        self.plain(&Header { kind: Kind::Directory, ..header(&stat, &full) })
                    }
                    _ => Ok(()),
                };
            }
        }
        self.entry(&file, &stat, &full)
    }

    /// The attributes that mean the same elsewhere: those of users, file capabilities, access control lists.
    fn xattrs(&mut self, file: &OwnedFd) -> rustix::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let path = by_descriptor(file);
        let length = match listxattr(path.as_str(), self.buffer.as_mut_slice()) {
            Err(Errno::OPNOTSUPP) => 0,
            other => other?,
        };
        let list = self.buffer.get(..length).unwrap_or_default().to_vec();
        let mut found = Vec::new();
        for name in list.split_inclusive(|&b| b == 0).filter_map(|n| CStr::from_bytes_with_nul(n).ok()) {
            let bytes = name.to_bytes();
            let wanted = bytes.starts_with(b"user.")
                || bytes.starts_with(b"system.posix_acl_")
                || bytes == b"security.capability";
            if wanted {
                match getxattr(path.as_str(), name, self.buffer.as_mut_slice()) {
                    Ok(n) => found.push((bytes.to_vec(), self.buffer.get(..n).unwrap_or_default().to_vec())),
                    Err(Errno::NODATA) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(found)
    }
}

/// What is known of a thing by looking at it.
fn header(stat: &Stat, name: &[u8]) -> Header {
    Header {
        path: name.to_vec(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 },
        ..Header::default()
    }
}

/// A file as long as it was when it was looked at: zeros for what is missing.
struct Padded<'a> {
    data: &'a mut File,
    missing: u64,
}

impl Read for Padded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.missing == 0 {
            match self.data.read(buffer)? {
                0 => {}
                n => return Ok(n),
            }
        }
        buffer.fill(0);
        self.missing += buffer.len() as u64;
        Ok(buffer.len())
    }
}
