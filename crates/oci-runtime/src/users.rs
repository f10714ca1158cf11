//! Users and groups by name: looked up in a container's own `/etc/passwd` and `/etc/group`, never in this machine's.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

/// Files longer than this are not read on: `/etc/passwd` of an image is outside bytes.
const LONGEST: u64 = 1 << 20;

/// The user and group files of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    passwd: String,
    group: String,
}

/// A line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// The number.
    pub uid: u32,
    /// The primary group's number.
    pub gid: u32,
    /// The home directory, if the line is that long.
    pub home: Option<String>,
}

impl Users {
    /// Reads the files from directories that hold the container's `/etc`: layers of an overlay, the topmost first. What
    /// a layer has removed (a whiteout) is not looked for in those below it. Files that are not there are empty.
    pub fn read(roots: &[OwnedFd]) -> Self {
        Self { passwd: read(roots, "etc/passwd"), group: read(roots, "etc/group") }
    }

    /// Files with these texts.
    pub fn of(passwd: &str, group: &str) -> Self {
        Self { passwd: passwd.to_owned(), group: group.to_owned() }
    }

    /// The first user of this name or, if it is a number, with this number.
    pub fn user(&self, text: &str) -> Option<Entry> {
        let number = text.parse::<u32>().ok();
        self.passwd.lines().filter_map(entry).find(|user| user.name == text || Some(user.uid) == number)
    }

    /// The number of the first group of this name; a number is its own.
    pub fn group(&self, text: &str) -> Option<u32> {
        let named = || self.groups().find(|(name, ..)| *name == text).map(|(_, gid, _)| gid);
        text.parse().ok().or_else(named)
    }

    /// The groups that name the user among their members, in the file's order.
    pub fn groups_of(&self, name: &str) -> Vec<u32> {
        let member = |members: &str| members.split(',').any(|member| member == name);
        self.groups().filter(|(.., members)| member(members)).map(|(_, gid, _)| gid).collect()
    }

    fn groups(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, gid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
            Some((name, gid, fields.next().unwrap_or_default()))
        })
    }
}

fn entry(line: &str) -> Option<Entry> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next().and_then(|gid| gid.parse().ok()).unwrap_or_default();
    Some(Entry { name, uid, gid, home: fields.nth(1).map(str::to_owned) })
}

fn read(roots: &[OwnedFd], path: &str) -> String {
    for root in roots {
        if !is_removed(root, path) {
            // An image may have a device of this machine there: it is not opened, not even to look.
            let Ok(file) = kernel::path::open_regular(root, Path::new(path)) else { continue };
            let mut text = Vec::new();
            let read = file.take(LONGEST).read_to_end(&mut text);
            return read.map_or_else(|_| String::new(), |_| String::from_utf8_lossy(&text).into_owned());
        }
        break;
    }
    String::new()
}

/// Whether a layer hides the file, or the directory it is in, from those below: overlayfs' whiteout is a character
/// device 0:0.
fn is_removed(root: &OwnedFd, path: &str) -> bool {
    let whiteout = |path: &Path| {
        let place = kernel::path::open_in(root, path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty());
        let stat = place.ok().and_then(|place| rustix::fs::fstat(place).ok());
        stat.is_some_and(|s| FileType::from_raw_mode(s.st_mode).is_char_device() && s.st_rdev == 0)
    };
    Path::new(path).ancestors().filter(|p| !p.as_os_str().is_empty()).any(whiteout) || is_opaque(root, path)
}

/// Whether the directory the file would be in is a new one that hides those of the layers below, and has no such file.
fn is_opaque(root: &OwnedFd, path: &str) -> bool {
    let Some(parent) = Path::new(path).parent() else { return false };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let Ok(dir) = kernel::path::open_in(root, parent, flags, Mode::empty()) else { return false };
    let mut value = [0_u8; 1];
    let opaque = ["trusted.overlay.opaque", "user.overlay.opaque"]
        .into_iter()
        .any(|name| rustix::fs::fgetxattr(&dir, name, &mut value[..]) == Ok(1) && value[0] == b'y');
    let there = rustix::fs::statat(root, path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
    opaque && there.err() == Some(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:\nweb:x:33:34::/srv:/bin/sh\nbroken\nshort:x:7\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlog:x:40:web,root\nbad:x:y:web\n";

    #[test]
    fn lines_are_found_by_name_and_number() {
        let users = Users::of(PASSWD, GROUP);
        let web = Entry { name: "web".into(), uid: 33, gid: 34, home: Some("/srv".into()) };
        assert_eq!(users.user("web"), Some(web.clone()));
        assert_eq!(users.user("33"), Some(web));
        assert_eq!(
            users.user("short"),
            Some(Entry { name: "short".into(), uid: 7, gid: 0, home: None }),
            "a line without a group"
        );
        assert_eq!((users.user("nobody"), users.user("34"), users.user("broken")), (None, None, None));
        assert_eq!((users.group("log"), users.group("7"), users.group("x")), (Some(40), Some(7), None));
        assert_eq!((users.groups_of("web"), users.groups_of("33")), (vec![40], vec![]));
    }

    #[test]
    fn the_topmost_layer_counts() {
        let layers = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let open = |dir: &tempfile::TempDir| OwnedFd::from(std::fs::File::open(dir.path()).unwrap());
        let write = |n: usize, text: &str| {
            std::fs::create_dir_all(layers[n].path().join("etc")).unwrap();
            std::fs::write(layers[n].path().join("etc/passwd"), text).unwrap();
        };
        write(1, "below:x:1:1::/:");
        let roots = layers.each_ref().map(open);
        assert_eq!(Users::read(&roots).user("1").unwrap().name, "below");
        write(0, "above:x:1:1::/:");
        assert_eq!(Users::read(&roots).user("1").unwrap().name, "above");
        std::fs::remove_file(layers[0].path().join("etc/passwd")).unwrap();
        // Needs root, as whoever unpacks layers does.
        let place = layers[0].path().join("etc/passwd");
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            &place,
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o600),
            0,
        );
        made.unwrap();
        assert_eq!(Users::read(&roots).user("1"), None, "the upper layer has removed it");
    }
}
