//! Values below `/proc/sys`. Those below `net` belong to the network namespace of the thread that opens them: for
//! another namespace use the `_in` forms, which open on a thread of their own.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::io::Errno;

use crate::namespace::{in_netns, open_pinned};
use crate::{Act, Error, Result};

/// Reads a value: `key` is the path below `/proc/sys`, such as `net/ipv4/ip_forward`.
pub fn read(key: &str) -> Result<String> {
    let say = || format!("sysctl {key}");
    let mut file = File::open(path(key)?).act("read", say)?;
    // The kernel gives nearly all of them in one piece, whatever size it says they have.
    let mut text = vec![0; 256];
    let length = file.read(&mut text).act("read", say)?;
    let whole = length < text.len();
    text.truncate(length);
    if !whole {
        file.read_to_end(&mut text).act("read", say)?;
    }
    let text = String::from_utf8(text).map_err(|e| std::io::Error::new(std::io::ErrorKind::InvalidData, e));
    Ok(text.act("read", say)?.trim_end().to_owned())
}

/// A value whose file is kept open. It is that of the network namespace, and of the link, that it was opened for, whatever is
/// in their place by now.
#[derive(Debug)]
pub struct Opened(File);

/// Opens a value, to be read more than once.
pub fn open(key: &str) -> Result<Opened> {
    File::open(path(key)?).act("read", || format!("sysctl {key}")).map(Opened)
}

impl Opened {
    /// It is this number now. Not if its link is gone.
    pub fn is(&self, value: u32) -> bool {
        let mut text = [0; 16];
        let length = self.0.read_at(&mut text, 0).unwrap_or_default();
        let text = text.get(..length).and_then(|text| std::str::from_utf8(text).ok());
        text.is_some_and(|text| text.trim_end().parse() == Ok(value))
    }
}

/// Writes a value.
pub fn write(key: &str, value: &str) -> Result<()> {
    fs::write(path(key)?, value).act("set", || format!("sysctl {key} to {value}"))
}

/// [`read`] inside another network namespace.
pub fn read_in(netns: impl AsFd + Sync, key: &str) -> Result<String> {
    in_netns(netns, || read(key))
}

/// [`write`] inside another network namespace.
pub fn write_in(netns: impl AsFd + Sync, key: &str, value: &str) -> Result<()> {
    in_netns(netns, || write(key, value))
}

/// Gives a value back in another network namespace: the one that is pinned at `netns`, if that still is the one whose file has this inode. A
/// namespace that is gone counts as done, and so does one that has no such value.
///
/// # Errors
/// The kernel's.
pub fn restore_in(netns: &Path, inode: u64, key: &str, value: &str) -> Result<()> {
    let Some(file) = open_pinned(netns, inode)? else { return Ok(()) };
    match write_in(&file, key, value) {
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(()),
        done => done,
    }
}

/// Keys are made from interface names and configuration: none may leave /proc/sys.
fn path(key: &str) -> Result<String> {
    let inside = !key.is_empty() && key.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if inside {
        Ok(format!("/proc/sys/{key}"))
    } else {
        Err(Error::new(
            "use",
            format!("sysctl {key:?}"),
            std::io::Error::from(std::io::ErrorKind::InvalidInput),
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::namespace::{pin_new_netns, unpin};

    #[test]
    fn a_value_is_given_back_in_its_own_namespace_alone() {
        const KEY: &str = "net/core/somaxconn";
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("netns");
        pin_new_netns(&path).unwrap();
        let file = File::open(&path).unwrap();
        let inode = file.metadata().unwrap().ino();
        let (here, before) = (read(KEY).unwrap(), read_in(&file, KEY).unwrap());
        write_in(&file, KEY, "77").unwrap();
        // Another's namespace is at the path, as far as its number says.
        restore_in(&path, inode + 1, KEY, &before).unwrap();
        assert_eq!(read_in(&file, KEY).unwrap(), "77");
        // What this kernel has not was never set.
        restore_in(&path, inode, "net/core/nothing_of_the_kind", "1").unwrap();
        restore_in(&path, inode, KEY, &before).unwrap();
        restore_in(&path, inode, KEY, &before).unwrap();
        assert_eq!(read_in(&file, KEY).unwrap(), before);
        assert_eq!(read(KEY).unwrap(), here);
        unpin(&path).unwrap();
        restore_in(&path, inode, KEY, &before).unwrap();
    }

    #[test]
    fn keys_stay_below_proc_sys() {
        for bad in ["", "../etc/passwd", "net//x", "/net", "net/./x", "net/../../x"] {
            assert!(path(bad).is_err(), "{bad}");
        }
        assert!(path("net/ipv4/conf/eth0.5/forwarding").is_ok());
    }
}
