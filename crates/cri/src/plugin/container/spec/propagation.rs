//! Whether what a container's mount is made from passes later mounts on.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::contract::Error;

/// What the mount that a source lies on has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needed {
    /// It takes part in both directions.
    Shared,
    /// It gets what comes later.
    SharedOrSlave,
}

/// An error naming `field` unless the mount that `source` lies on passes mounts on as needed.
pub(super) fn must_be(source: &Path, field: &str, needed: Needed) -> Result<(), Error> {
    let cannot = |e: &dyn std::fmt::Display| {
        Error::internal(format!("cannot read the mount of {}: {e}", source.display()))
    };
    let stat = statx(CWD, source, AtFlags::empty(), StatxFlags::MNT_ID).map_err(|e| cannot(&e))?;
    let table = "/proc/self/mountinfo";
    let table = std::fs::read(table).map_err(|e| cannot(&e))?;
    if satisfies(&String::from_utf8_lossy(&table), stat.stx_mnt_id, needed) {
        return Ok(());
    }
    let (wanted, command) = match needed {
        Needed::Shared => ("shared", "--make-rshared"),
        Needed::SharedOrSlave => ("shared or a slave", "--make-rshared"),
    };
    Err(Error::precondition(format!(
        "{} is on a mount that is not {wanted}, so that nothing passes (mount {command} it on the host)",
        source.display()
    ))
    .within(field))
}

/// Whether the mount of this id has the optional field (proc_pid_mountinfo(5)) that it needs.
fn satisfies(table: &str, id: u64, needed: Needed) -> bool {
    let of = |line: &&str| line.split(' ').next().and_then(|first| first.parse().ok()) == Some(id);
    let Some(line) = table.lines().find(of) else { return false };
    line.split(' ').skip(6).take_while(|word| *word != "-").any(|word| {
        word.starts_with("shared:") || needed == Needed::SharedOrSlave && word.starts_with("master:")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "21 1 8:1 / / rw,relatime - ext4 /dev/root rw\n\
                         22 21 0:5 / /a rw shared:3 - tmpfs shared:9 rw\n\
                         23 21 0:6 / /b rw master:3 - tmpfs x rw\n\
                         24 21 0:7 / /c rw shared:4 master:3 - tmpfs x rw\n";

    #[test]
    fn optional_fields_tell() {
        let table = |id| (satisfies(TABLE, id, Needed::Shared), satisfies(TABLE, id, Needed::SharedOrSlave));
        assert_eq!(
            [21, 22, 23, 24, 25].map(table),
            [(false, false), (true, true), (false, true), (true, true), (false, false),]
        );
    }

    #[test]
    fn this_machines_table_has_the_mount_of_a_directory() {
        let stat = statx(CWD, "/proc", AtFlags::empty(), StatxFlags::MNT_ID).unwrap();
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let prefix = format!("{} ", stat.stx_mnt_id);
        assert!(table.lines().any(|line| line.starts_with(&prefix) && line.contains(" /proc ")));
    }
}
