//! HOME, where the configuration says nothing of it: that of the user in the container's own table, as programs that
//! run under other runtimes are used to.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::contract::Process;

/// More of a table than this is not read: an image may have put anything there.
const LONGEST: u64 = 1 << 20;

/// Adds HOME to the environment of `process`, unless it is there. `root` is where the container's root can be reached.
pub(super) fn set(process: &mut Process, root: &Path) {
    if process.env.iter().any(|variable| variable.starts_with("HOME=")) {
        return;
    }
    let home = find(process.user.uid, root).unwrap_or_else(|| "/".to_owned());
    process.env.push(format!("HOME={home}"));
}

fn find(uid: u32, root: &Path) -> Option<String> {
    use std::io::Read;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root: OwnedFd = rustix::fs::open(root, flags, Mode::empty()).ok()?;
    let file = kernel::path::open_regular(root, Path::new("etc/passwd")).ok()?;
    let mut table = String::new();
    file.take(LONGEST).read_to_string(&mut table).ok()?;
    home(&table, uid)
}

fn home(table: &str, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    let mut lines = table.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let fields = lines.find(|fields| fields.get(2) == Some(&uid.as_str()))?;
    fields.get(5).filter(|home| home.starts_with('/') && !home.contains('\0')).map(|home| (*home).to_owned())
}

#[cfg(test)]
mod tests {
    use super::home;

    #[test]
    fn homes_are_found_by_number() {
        let table = "root:x:0:0:root:/root:/bin/sh\nbad:x:1\nuser:x:5:5::/home/user:\nodd:x:6:6::relative:";
        assert_eq!(home(table, 0).as_deref(), Some("/root"));
        assert_eq!(home(table, 5).as_deref(), Some("/home/user"));
        for uid in [1, 6, 7] {
            assert_eq!(home(table, uid), None);
        }
    }
}
