//! What differs between architectures: the numbers of system calls, and how a seccomp filter tells them apart.
//!
//! All tables are here on every host, so that what is made for arm64 is tested on x86 and the other way round.

mod entry;
mod table;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("add this architecture to kernel::arch: its column in syscalls.txt and its audit number");

/// The bit that tells a call of x32 from one of x86_64: both have the same audit number.
pub const X32_BIT: u32 = 0x4000_0000;

/// The private calls of 32-bit ARM begin here (`__ARM_NR_BASE`).
pub const ARM_PRIVATE: u32 = 0x000f_0000;

/// An architecture, as a system call has one: a process may change it from call to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86 (i386).
    X86,
    /// 32-bit pointers on 64-bit x86.
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM (EABI).
    Arm,
}

impl Arch {
    /// All, in the order of the table's columns.
    pub const ALL: [Self; 5] = [Self::X86_64, Self::X86, Self::X32, Self::Aarch64, Self::Arm];

    /// The one this program was built for.
    #[cfg(target_arch = "x86_64")]
    pub const NATIVE: Self = Self::X86_64;
    /// The one this program was built for.
    #[cfg(target_arch = "aarch64")]
    pub const NATIVE: Self = Self::Aarch64;

    /// `AUDIT_ARCH_*`: what `seccomp_data.arch` is.
    pub const fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// The name that libseccomp and the OCI have for it.
    pub const fn scmp_name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X86 => "SCMP_ARCH_X86",
            Self::X32 => "SCMP_ARCH_X32",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
            Self::Arm => "SCMP_ARCH_ARM",
        }
    }

    /// Are its words, and so the arguments of its calls, 64 bits wide? Those of x32 are not, whatever its registers
    /// hold beyond 32 bits.
    pub const fn is_64_bit(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64)
    }

    /// The architectures whose calls a kernel of this one accepts beside its own.
    pub const fn sub_architectures(self) -> &'static [Self] {
        match self {
            Self::X86_64 => &[Self::X86, Self::X32],
            Self::Aarch64 => &[Self::Arm],
            Self::X86 | Self::X32 | Self::Arm => &[],
        }
    }

    /// The number of a call, as `seccomp_data.nr` has it: with its bit on x32.
    pub fn number(self, name: &str) -> Option<u32> {
        Syscall::named(name)?.number(self)
    }

    /// The name of a number; a number that two names share has the first of them.
    pub fn name(self, number: u32) -> Option<&'static str> {
        Syscall::all().find(|syscall| syscall.number(self) == Some(number)).map(Syscall::name)
    }
}

/// A system call, by its name: one look-up, then its number on any architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Syscall(u16);

impl Syscall {
    /// The call of this name, if Linux has it on any of the architectures.
    ///
    /// ```
    /// use kernel::arch::{Arch, Syscall};
    /// let openat = Syscall::named("openat").unwrap();
    /// assert_eq!((openat.number(Arch::X86_64), openat.number(Arch::Aarch64)), (Some(257), Some(56)));
    /// ```
    pub fn named(name: &str) -> Option<Self> {
        table::row(name).map(Self)
    }

    /// All, in the order of their names.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..table::ROWS as u16).map(Self)
    }

    /// The name.
    pub fn name(self) -> &'static str {
        table::name(self.0)
    }

    /// The number on an architecture that has the call.
    pub fn number(self, arch: Arch) -> Option<u32> {
        let number = table::number(self.0, arch as usize)?;
        Some(if arch == Arch::X32 { number | X32_BIT } else { number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_both_machines() {
        for (name, x86_64, aarch64) in [
            ("read", Some(0), Some(63)),
            ("open", Some(2), None),
            ("clone", Some(56), Some(220)),
            ("execve", Some(59), Some(221)),
            ("unshare", Some(272), Some(97)),
            ("clone3", Some(435), Some(435)),
            ("mount_setattr", Some(442), Some(442)),
            ("set_tls", None, None),
        ] {
            assert_eq!((Arch::X86_64.number(name), Arch::Aarch64.number(name)), (x86_64, aarch64), "{name}");
        }
    }

    #[test]
    fn numbers_of_their_sub_architectures() {
        assert_eq!(Arch::X86.number("socketcall"), Some(102));
        assert_eq!(Arch::X86.number("read"), Some(3));
        assert_eq!(Arch::X32.number("read"), Some(X32_BIT));
        assert_eq!(Arch::X32.number("execve"), Some(X32_BIT | 520));
        assert_eq!(Arch::Arm.number("set_tls"), Some(ARM_PRIVATE + 5));
        assert_eq!(Arch::Arm.number("clone3"), Some(435));
        assert_eq!(Arch::X86.number("no_such_call"), None);
    }

    #[test]
    fn every_call_is_found_by_its_name_and_by_its_number() {
        for syscall in Syscall::all() {
            assert_eq!(Syscall::named(syscall.name()), Some(syscall));
            for arch in Arch::ALL {
                let Some(number) = syscall.number(arch) else { continue };
                let name = arch.name(number).unwrap();
                assert_eq!(arch.number(name), Some(number), "{name}");
            }
        }
    }

    /// libc took its numbers from the same kernel, by another way.
    #[test]
    fn native_numbers_are_those_of_libc() {
        for (name, number) in [
            ("getpid", libc::SYS_getpid),
            ("setns", libc::SYS_setns),
            ("seccomp", libc::SYS_seccomp),
            ("pivot_root", libc::SYS_pivot_root),
            ("openat2", libc::SYS_openat2),
            ("pidfd_open", libc::SYS_pidfd_open),
            ("move_mount", libc::SYS_move_mount),
            ("futex_waitv", libc::SYS_futex_waitv),
            ("capset", libc::SYS_capset),
            ("personality", libc::SYS_personality),
        ] {
            assert_eq!(Arch::NATIVE.number(name).map(i64::from), Some(number), "{name}");
        }
    }
}
