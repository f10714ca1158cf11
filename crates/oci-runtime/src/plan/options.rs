//! Mount options by name: those that mean the same for every filesystem. The rest are the filesystem's own.

use kernel::mount::Attributes;
use rustix::mount::MountPropagationFlags as P;

/// What an option does, when it is not the filesystem's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    Set(u64),
    Clear(u64),
    SetRecursive(u64),
    ClearRecursive(u64),
    /// Asks for an access-time option.
    AccessTime(AccessTime),
    /// Takes one back that was asked for before it.
    NoAccessTime(AccessTime),
    /// An access-time mode: the field is cleared and this is set.
    AtimeRecursive(u64),
    /// With all below.
    Propagation(P, bool),
    /// A flag of the whole filesystem that fsconfig(2) knows by this name. On a bind mount it has no effect, as with
    /// mount(8).
    Superblock,
    Bind,
    Remount,
    CopyUp,
    /// Ids are mapped; with all below.
    Idmap(bool),
    /// The kernel's default, or a matter of its log that the mount API of descriptors no longer asks about.
    Nothing,
}

/// An access-time option of one mount. The four together say what its field becomes ([`AccessTimes`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum AccessTime {
    Never = 1,
    NotDirectories = 2,
    Relative = 4,
    Strict = 8,
}

/// All of them, for the features document too.
pub(crate) const OPTIONS: [(&str, Meaning); 62] = {
    use self::AccessTime::{Never, NotDirectories, Relative, Strict};
    use Attributes as A;
    use Meaning::{
        AccessTime, AtimeRecursive, Bind, Clear, ClearRecursive, CopyUp, Idmap, NoAccessTime, Nothing,
        Propagation, Remount, Set, SetRecursive, Superblock,
    };
    [
        ("async", Superblock),
        ("atime", NoAccessTime(Never)),
        ("bind", Bind),
        ("defaults", Nothing),
        ("dev", Clear(A::NODEV)),
        ("diratime", NoAccessTime(NotDirectories)),
        ("dirsync", Superblock),
        ("exec", Clear(A::NOEXEC)),
        ("idmap", Idmap(false)),
        // Every filesystem that counts versions does so since Linux 6.1, asked or not.
        ("iversion", Nothing),
        ("lazytime", Superblock),
        ("loud", Nothing),
        ("mand", Superblock),
        ("noatime", AccessTime(Never)),
        ("nodev", Set(A::NODEV)),
        ("nodiratime", AccessTime(NotDirectories)),
        ("noexec", Set(A::NOEXEC)),
        ("noiversion", Nothing),
        ("nolazytime", Superblock),
        ("nomand", Superblock),
        ("norelatime", NoAccessTime(Relative)),
        ("nostrictatime", NoAccessTime(Strict)),
        ("nosuid", Set(A::NOSUID)),
        ("nosymfollow", Set(A::NOSYMFOLLOW)),
        ("private", Propagation(P::PRIVATE, false)),
        ("ratime", AtimeRecursive(0)),
        ("rbind", Bind),
        ("rdev", ClearRecursive(A::NODEV)),
        ("rdiratime", ClearRecursive(A::NODIRATIME)),
        ("relatime", AccessTime(Relative)),
        ("remount", Remount),
        ("rexec", ClearRecursive(A::NOEXEC)),
        ("ridmap", Idmap(true)),
        ("rnoatime", AtimeRecursive(A::NOATIME)),
        ("rnodev", SetRecursive(A::NODEV)),
        ("rnodiratime", SetRecursive(A::NODIRATIME)),
        ("rnoexec", SetRecursive(A::NOEXEC)),
        ("rnorelatime", AtimeRecursive(0)),
        ("rnostrictatime", AtimeRecursive(0)),
        ("rnosuid", SetRecursive(A::NOSUID)),
        ("rnosymfollow", SetRecursive(A::NOSYMFOLLOW)),
        ("ro", Set(A::RDONLY)),
        ("rprivate", Propagation(P::PRIVATE, true)),
        ("rrelatime", AtimeRecursive(0)),
        ("rro", SetRecursive(A::RDONLY)),
        ("rrw", ClearRecursive(A::RDONLY)),
        ("rshared", Propagation(P::SHARED, true)),
        ("rslave", Propagation(P::DOWNSTREAM, true)),
        ("rstrictatime", AtimeRecursive(A::STRICTATIME)),
        ("rsuid", ClearRecursive(A::NOSUID)),
        ("rsymfollow", ClearRecursive(A::NOSYMFOLLOW)),
        ("runbindable", Propagation(P::UNBINDABLE, true)),
        ("rw", Clear(A::RDONLY)),
        ("shared", Propagation(P::SHARED, false)),
        ("silent", Nothing),
        ("slave", Propagation(P::DOWNSTREAM, false)),
        ("strictatime", AccessTime(Strict)),
        ("suid", Clear(A::NOSUID)),
        ("symfollow", Clear(A::NOSYMFOLLOW)),
        ("sync", Superblock),
        ("tmpcopyup", CopyUp),
        ("unbindable", Propagation(P::UNBINDABLE, false)),
    ]
};

/// What an option means; `None` for one of the filesystem's own.
pub(crate) fn meaning(option: &str) -> Option<Meaning> {
    let found = OPTIONS.binary_search_by_key(&option, |(name, _)| name).ok()?;
    Some(OPTIONS[found].1)
}

/// Bits to set and to clear on one mount, or on all below too; the last word about a bit counts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bits(pub(super) Attributes);

impl Bits {
    pub(super) fn set(&mut self, bits: u64) {
        self.0.set |= bits;
        self.0.clear &= !bits;
    }

    pub(super) fn clear(&mut self, bits: u64) {
        self.0.clear |= bits;
        self.0.set &= !bits;
    }

    pub(super) fn atime(&mut self, mode: u64) {
        self.0.clear |= Attributes::ATIME;
        self.0.set = self.0.set & !Attributes::ATIME | mode;
    }
}

/// The access-time options asked for, as mount(2) and the usual runtimes take them: without any the mount keeps what
/// its source has; with one the whole field is anew, relative and with directories unless that is among them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AccessTimes(u8);

impl AccessTimes {
    pub(super) fn ask(&mut self, option: AccessTime) {
        self.0 |= option as u8;
    }

    pub(super) fn take_back(&mut self, option: AccessTime) {
        self.0 &= !(option as u8);
    }

    /// Puts what was asked for among the bits of the mount.
    pub(super) fn apply(self, bits: &mut Bits) {
        let asked = |option: AccessTime| self.0 & option as u8 != 0;
        if self.0 == 0 {
            return;
        }
        bits.atime(match () {
            () if asked(AccessTime::Strict) => Attributes::STRICTATIME,
            () if asked(AccessTime::Never) => Attributes::NOATIME,
            () => 0,
        });
        bits.clear(Attributes::NODIRATIME);
        if asked(AccessTime::NotDirectories) {
            bits.set(Attributes::NODIRATIME);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found() {
        assert!(OPTIONS.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(meaning("rro"), Some(Meaning::SetRecursive(Attributes::RDONLY)));
        assert_eq!(meaning("mode=755"), None);
    }
}
