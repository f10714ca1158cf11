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
    /// An access-time mode: the field is cleared and this is set.
    Atime(u64),
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

/// All of them, for the features document too.
pub(crate) const OPTIONS: [(&str, Meaning); 62] = {
    use Attributes as A;
    use Meaning::{
        Atime, AtimeRecursive, Bind, Clear, ClearRecursive, CopyUp, Idmap, Nothing, Propagation, Remount,
        Set, SetRecursive, Superblock,
    };
    [
        ("async", Superblock),
        ("atime", Atime(0)),
        ("bind", Bind),
        ("defaults", Nothing),
        ("dev", Clear(A::NODEV)),
        ("diratime", Clear(A::NODIRATIME)),
        ("dirsync", Superblock),
        ("exec", Clear(A::NOEXEC)),
        ("idmap", Idmap(false)),
        // Every filesystem that counts versions does so since Linux 6.1, asked or not.
        ("iversion", Nothing),
        ("lazytime", Superblock),
        ("loud", Nothing),
        ("mand", Superblock),
        ("noatime", Atime(A::NOATIME)),
        ("nodev", Set(A::NODEV)),
        ("nodiratime", Set(A::NODIRATIME)),
        ("noexec", Set(A::NOEXEC)),
        ("noiversion", Nothing),
        ("nolazytime", Superblock),
        ("nomand", Superblock),
        ("norelatime", Atime(0)),
        ("nostrictatime", Atime(0)),
        ("nosuid", Set(A::NOSUID)),
        ("nosymfollow", Set(A::NOSYMFOLLOW)),
        ("private", Propagation(P::PRIVATE, false)),
        ("ratime", AtimeRecursive(0)),
        ("rbind", Bind),
        ("rdev", ClearRecursive(A::NODEV)),
        ("rdiratime", ClearRecursive(A::NODIRATIME)),
        ("relatime", Atime(0)),
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
        ("strictatime", Atime(A::STRICTATIME)),
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
