//! Values below `/proc/sys`. Those below `net` belong to the network namespace of the thread that opens them: for
//! another namespace use the `_in` forms, which open on a thread of their own.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;

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
    crate::namespace::in_netns(netns, || read(key))
}

/// [`write`] inside another network namespace.
pub fn write_in(netns: impl AsFd + Sync, key: &str, value: &str) -> Result<()> {
    crate::namespace::in_netns(netns, || write(key, value))
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
    use super::*;

    #[test]
    fn keys_stay_below_proc_sys() {
        for bad in ["", "../etc/passwd", "net//x", "/net", "net/./x", "net/../../x"] {
            assert!(path(bad).is_err(), "{bad}");
        }
        assert!(path("net/ipv4/conf/eth0.5/forwarding").is_ok());
    }
}
