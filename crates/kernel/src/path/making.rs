//! Directories and files that are made where a path inside a foreign root leads, links that point at nothing included.
//!
//! For the code between clone and exec: nothing is allocated.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, mkdirat, mknodat, readlinkat_raw};
use rustix::io::{Errno, Result};

use super::open_c;

/// As many links as the kernel follows in one path.
const LINKS: usize = 40;

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// What becomes of a link that points at nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dangling {
    /// It is an error (`ENOENT`).
    Refused,
    /// What it points at is made, inside the root.
    Followed,
}

/// Makes `path` and all its parents as directories inside `root` (mode 0755) and opens the last one as a path.
///
/// Links on the way are followed inside the root.
pub fn make_dirs_c(root: impl AsFd, path: &CStr, dangling: Dangling) -> Result<OwnedFd> {
    match open_c(root.as_fd(), path, DIRECTORY) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    follow(path.to_bytes(), dangling, |text| make_dirs(root.as_fd(), text))
}

/// Makes `path` as an empty file inside `root`, its parents as [`make_dirs_c`] does, and opens it as a path. What is there
/// already stays, whatever it is.
///
/// It is made without being opened: what is there may be a pipe that nobody reads.
pub fn make_file_c(root: impl AsFd, path: &CStr, mode: Mode, dangling: Dangling) -> Result<OwnedFd> {
    follow(path.to_bytes(), dangling, |text| make_file(root.as_fd(), text, mode, dangling))
}

/// Makes what `text` names, and again what a link leads to that stood in the way: `make` has replaced `text` then.
fn follow(
    path: &[u8],
    dangling: Dangling,
    make: impl Fn(&mut Text) -> Result<Option<OwnedFd>>,
) -> Result<OwnedFd> {
    let mut text = Text::join(&[path])?;
    for _ in 0..LINKS {
        match make(&mut text)? {
            Some(made) => return Ok(made),
            None if dangling == Dangling::Refused => return Err(Errno::NOENT),
            None => {}
        }
    }
    Err(Errno::LOOP)
}

fn make_dirs(root: BorrowedFd<'_>, text: &mut Text) -> Result<Option<OwnedFd>> {
    let mut dir = open_c(root, c".", DIRECTORY)?;
    let mut from = 0;
    while from < text.len {
        let to = text.bytes()[from..].iter().position(|&b| b == b'/').map_or(text.len, |n| from + n);
        let name = &text.bytes()[from..to];
        if !name.is_empty() && name != b"." {
            // The path up to here, so that `..` and links in it are resolved inside the root and not one by one.
            let prefix = Text::join(&[&text.bytes()[..to]])?;
            dir = match open_c(root, prefix.as_c_str()?, DIRECTORY) {
                Err(Errno::NOENT) => {
                    match mkdirat(&dir, name, Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(e) => return Err(e),
                    }
                    match open_c(root, prefix.as_c_str()?, DIRECTORY) {
                        Err(Errno::NOENT) => {
                            text.replace_link(&dir, from, to)?;
                            return Ok(None);
                        }
                        other => other?,
                    }
                }
                other => other?,
            };
        }
        from = to + 1;
    }
    Ok(Some(dir))
}

fn make_file(
    root: BorrowedFd<'_>,
    text: &mut Text,
    mode: Mode,
    dangling: Dangling,
) -> Result<Option<OwnedFd>> {
    let from = text.bytes().iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
    let (parent, name) = text.bytes().split_at(from);
    if matches!(name, b"" | b"." | b"..") {
        return Err(Errno::INVAL);
    }
    let parent = Text::join(&[if parent.is_empty() { b"." } else { parent }])?;
    let dir = make_dirs_c(root, parent.as_c_str()?, dangling)?;
    match mknodat(&dir, name, FileType::RegularFile, mode, 0) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e),
    }
    match open_c(root, text.as_c_str()?, OFlags::PATH) {
        Err(Errno::NOENT) => {
            let to = text.len;
            text.replace_link(&dir, from, to)?;
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// A path, with the zero that ends it.
struct Text {
    buffer: [u8; libc::PATH_MAX as usize],
    len: usize,
}

impl Text {
    /// The parts, one after the other.
    fn join(parts: &[&[u8]]) -> Result<Self> {
        let mut text = Self { buffer: [0; libc::PATH_MAX as usize], len: 0 };
        for part in parts {
            let end = text.len + part.len();
            // One byte stays for the zero.
            let room = text.buffer.get_mut(text.len..end).filter(|_| end < libc::PATH_MAX as usize);
            room.ok_or(Errno::NAMETOOLONG)?.copy_from_slice(part);
            text.len = end;
        }
        Ok(text)
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    fn as_c_str(&self) -> Result<&CStr> {
        CStr::from_bytes_until_nul(&self.buffer).map_err(|_| Errno::NAMETOOLONG)
    }

    /// Puts the target of the link at `from..to`, which is in `dir`, in its place.
    fn replace_link(&mut self, dir: &OwnedFd, from: usize, to: usize) -> Result<()> {
        let mut buffer = [0_u8; libc::PATH_MAX as usize];
        let len = match readlinkat_raw(dir, &self.bytes()[from..to], &mut buffer) {
            // It was there, and is no link: somebody has taken it away meanwhile.
            Err(Errno::INVAL) => return Err(Errno::NOENT),
            other => other?,
        };
        let target = buffer.get(..len).ok_or(Errno::NAMETOOLONG)?;
        let before = if target.starts_with(b"/") { &[] } else { &self.bytes()[..from] };
        *self = Self::join(&[before, target, &self.bytes()[to..]])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    fn root(name: &str) -> (PathBuf, OwnedFd) {
        let dir = std::env::temp_dir().join(format!("sextant-making-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let fd = std::fs::File::open(&dir).unwrap().into();
        (dir, fd)
    }

    #[test]
    fn what_a_link_points_at_is_made_inside() {
        let (dir, fd) = root("links");
        symlink("/sextant-nowhere/bar", dir.join("jump")).unwrap();
        std::fs::create_dir(dir.join("etc")).unwrap();
        symlink("../jump/baz/hosts", dir.join("etc/hosts")).unwrap();
        let refused = |path| make_dirs_c(&fd, path, Dangling::Refused).unwrap_err();
        assert_eq!(refused(c"jump/x"), Errno::NOENT);
        let refused = |path| make_file_c(&fd, path, Mode::RUSR, Dangling::Refused).unwrap_err();
        assert_eq!(refused(c"/etc/hosts"), Errno::NOENT);
        let made = make_file_c(&fd, c"/etc/hosts", Mode::from_raw_mode(0o644), Dangling::Followed).unwrap();
        let there = dir.join("sextant-nowhere/bar/baz/hosts");
        assert!(there.is_file() && !std::path::Path::new("/sextant-nowhere").exists());
        let ino = |stat: rustix::fs::Stat| stat.st_ino;
        assert_eq!(ino(rustix::fs::fstat(&made).unwrap()), ino(rustix::fs::stat(&there).unwrap()));
        symlink("../../../../tmp/x", dir.join("up")).unwrap();
        make_dirs_c(&fd, c"up/y", Dangling::Followed).unwrap();
        assert!(dir.join("tmp/x/y").is_dir());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn links_that_never_end_are_refused() {
        let (dir, fd) = root("loop");
        symlink("b", dir.join("a")).unwrap();
        symlink("a", dir.join("b")).unwrap();
        assert_eq!(make_dirs_c(&fd, c"a", Dangling::Followed).unwrap_err(), Errno::LOOP);
        assert_eq!(make_file_c(&fd, c"a/file", Mode::RUSR, Dangling::Followed).unwrap_err(), Errno::LOOP);
        // Each link leads to the next, which is not there yet.
        for n in 0..60 {
            symlink(format!("n{}", n + 1), dir.join(format!("n{n}"))).unwrap();
        }
        assert_eq!(make_dirs_c(&fd, c"n0", Dangling::Followed).unwrap_err(), Errno::LOOP);
        for path in [c"", c"x/", c"x/..", c"."] {
            assert_eq!(
                make_file_c(&fd, path, Mode::RUSR, Dangling::Refused).unwrap_err(),
                Errno::INVAL,
                "{path:?}"
            );
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
