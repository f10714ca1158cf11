//! The user's home directory, from the container's own `/etc/passwd`.

use std::os::fd::BorrowedFd;

use kernel::path::open_c;
use kernel::process::CStrings;
use rustix::fs::{FileType, OFlags};

/// What a line may be long: more than any directory's path.
const LINE: usize = 2 * libc::PATH_MAX as usize;

/// Adds `HOME` to an environment that has room for it: `/` where the file names no other.
pub(super) fn add(env: &mut CStrings, uid: u32, root: BorrowedFd<'_>) {
    let mut line = [0_u8; LINE];
    let home = find(uid, root, &mut line).filter(|home| !home.is_empty()).unwrap_or(b"/");
    env.add(&[b"HOME=", home]);
}

fn find<'l>(uid: u32, root: BorrowedFd<'_>, line: &'l mut [u8; LINE]) -> Option<&'l [u8]> {
    // Whatever the image has there: nobody waits for a pipe to be written.
    let file = open_c(root, c"etc/passwd", OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return None;
    }
    let mut chunk = [0_u8; 1024];
    let (mut length, mut overlong) = (0, false);
    // A file without end has none after so much.
    for _ in 0..1024 {
        let read = rustix::io::read(&file, &mut chunk).ok()?;
        let end: &[u8] = if read == 0 { b"\n" } else { &chunk[..read] };
        for &byte in end {
            if byte != b'\n' {
                overlong |= length == LINE;
                if !overlong {
                    line[length] = byte;
                    length += 1;
                }
                continue;
            }
            if !overlong && let Some((from, to)) = home(&line[..length], uid) {
                return line.get(from..to);
            }
            (length, overlong) = (0, false);
        }
        if read == 0 {
            break;
        }
    }
    None
}

/// Where in a line `name:password:uid:gid:comment:home:shell` the home of this user is.
fn home(line: &[u8], uid: u32) -> Option<(usize, usize)> {
    let mut fields = line.split(|&b| b == b':');
    let number = std::str::from_utf8(fields.nth(2)?).ok()?;
    if number.parse() != Ok(uid) {
        return None;
    }
    let home = fields.nth(2)?;
    let from = home.as_ptr() as usize - line.as_ptr() as usize;
    Some((from, from + home.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_home_of_a_user_is_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let long = "x".repeat(LINE + 5);
        let text = format!(
            "root:x:0:0:r:/root:/bin/sh\n{long}\n# a line\n:::\nnobody:x:7:7::/nowhere\nlast:x:9:9::/l:/s"
        );
        std::fs::write(dir.path().join("etc/passwd"), text).unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let of = |uid| {
            let mut line = [0; LINE];
            find(uid, root.as_fd(), &mut line).map(|home| String::from_utf8(home.to_vec()).unwrap())
        };
        assert_eq!(of(0).as_deref(), Some("/root"));
        assert_eq!(of(7).as_deref(), Some("/nowhere"));
        assert_eq!(of(9).as_deref(), Some("/l"));
        assert_eq!(of(1), None);
        std::fs::remove_file(dir.path().join("etc/passwd")).unwrap();
        assert_eq!(of(0), None);
    }
}
