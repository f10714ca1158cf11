//! Loading system call filters, and what the running kernel's seccomp can do.
//!
//! A filter is checked by the kernel, not here: one that is no good is refused with `EINVAL`. Loading neither
//! allocates nor fails with anything but an errno: it may run between clone and exec.

use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::Errno;

/// One instruction of classic BPF: `struct sock_filter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct SockFilter {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip where the condition holds.
    pub jt: u8,
    /// How many to skip where it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

impl SockFilter {
    /// Loads the word at an offset of `struct seccomp_data`.
    pub const fn load(offset: u32) -> Self {
        Self::new(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
    }

    /// Keeps the bits of a mask.
    pub const fn and(mask: u32) -> Self {
        Self::new(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, mask)
    }

    /// Ends the filter with an action (`RET_*`).
    pub const fn ret(action: u32) -> Self {
        Self::new(libc::BPF_RET | libc::BPF_K, action)
    }

    /// Skips so many instructions.
    pub const fn jump(skip: u32) -> Self {
        Self::new(libc::BPF_JMP | libc::BPF_JA, skip)
    }

    /// Skips `jt` instructions where the word compares with `k`, and `jf` where it does not.
    pub const fn branch(comparison: Comparison, k: u32, jt: u8, jf: u8) -> Self {
        let code = match comparison {
            Comparison::Equal => libc::BPF_JEQ,
            Comparison::Greater => libc::BPF_JGT,
            Comparison::GreaterOrEqual => libc::BPF_JGE,
        };
        Self { jt, jf, ..Self::new(libc::BPF_JMP | libc::BPF_K | code, k) }
    }

    const fn new(code: u32, k: u32) -> Self {
        Self { code: code as u16, jt: 0, jf: 0, k }
    }
}

/// How a branch compares, unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// Where `struct seccomp_data` has the number of the call.
pub const DATA_NR: u32 = 0;
/// Where it has the architecture.
pub const DATA_ARCH: u32 = 4;
/// Where it has the first of six arguments, 64 bits each.
pub const DATA_ARGS: u32 = 16;

/// The process is killed.
pub const RET_KILL_PROCESS: u32 = libc::SECCOMP_RET_KILL_PROCESS;
/// The thread is killed.
pub const RET_KILL_THREAD: u32 = libc::SECCOMP_RET_KILL_THREAD;
/// The thread gets SIGSYS.
pub const RET_TRAP: u32 = libc::SECCOMP_RET_TRAP;
/// The call fails with the errno in the lower 16 bits.
pub const RET_ERRNO: u32 = libc::SECCOMP_RET_ERRNO;
/// A listener decides.
pub const RET_USER_NOTIF: u32 = libc::SECCOMP_RET_USER_NOTIF;
/// A tracer decides; it gets the lower 16 bits.
pub const RET_TRACE: u32 = libc::SECCOMP_RET_TRACE;
/// The call goes ahead and is logged.
pub const RET_LOG: u32 = libc::SECCOMP_RET_LOG;
/// The call goes ahead.
pub const RET_ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

/// The most instructions that the kernel takes in one filter (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// How a filter is loaded (`SECCOMP_FILTER_FLAG_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// All threads of the process get the filter.
    pub const TSYNC: Self = Self(libc::SECCOMP_FILTER_FLAG_TSYNC as u32);
    /// All actions but `allow` are logged (Linux 4.14).
    pub const LOG: Self = Self(libc::SECCOMP_FILTER_FLAG_LOG as u32);
    /// No mitigation of speculative store bypass (Linux 4.17).
    pub const SPEC_ALLOW: Self = Self(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32);
    /// A descriptor for the notifications (Linux 5.0).
    pub const NEW_LISTENER: Self = Self(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32);
    /// `TSYNC` fails with `ESRCH`, which lets it stand beside `NEW_LISTENER` (Linux 5.7).
    pub const TSYNC_ESRCH: Self = Self(libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH as u32);
    /// Only a fatal signal interrupts a call whose notification was received (Linux 5.19).
    pub const WAIT_KILLABLE_RECV: Self = Self(libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32);

    /// The kernel's word.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The kernel's word.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Loads a filter for the calling thread (with [`Flags::TSYNC`]: all threads); it stays until the end of the process.
///
/// With [`Flags::NEW_LISTENER`] the notifications' descriptor is returned, close-on-exec. The thread needs
/// `no_new_privs` or `CAP_SYS_ADMIN` in its user namespace.
///
/// # Errors
/// `EACCES` without either, `EINVAL` for a filter or a flag the kernel does not take, `ESRCH` where a thread could
/// not be synchronised, `EBUSY` where there is a listener already.
pub fn load(program: &[SockFilter], flags: Flags) -> Result<Option<OwnedFd>, Errno> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let flags = if flags.contains(Flags::TSYNC.with(Flags::NEW_LISTENER)) {
        flags.with(Flags::TSYNC_ESRCH)
    } else {
        flags
    };
    // The kernel's struct has `*mut`, yet it only reads.
    let filter = libc::sock_fprog { len, filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    // SAFETY: `filter` describes `program`, which outlives the call; `SockFilter` has the layout of
    // `struct sock_filter` (a test compares them), and the kernel copies what it reads.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::c_ulong::from(flags.0),
            &raw const filter,
        )
    };
    match i32::try_from(result) {
        Ok(-1) => Err(last_errno()),
        // Without TSYNC_ESRCH: the thread that could not be synchronised.
        Ok(thread) if thread > 0 && !flags.contains(Flags::NEW_LISTENER) => Err(Errno::SRCH),
        // SAFETY: with NEW_LISTENER the result is a new descriptor that nobody else owns.
        Ok(fd) if flags.contains(Flags::NEW_LISTENER) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        _ => Ok(None),
    }
}

/// Does this kernel know an action (`SECCOMP_RET_*`)?
pub fn action_available(action: u32) -> bool {
    // SAFETY: the kernel reads four bytes at the address, those of `action`.
    unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) == 0 }
}

/// Does this kernel know a flag? Asked with no filter at all, which it refuses (`EFAULT`) only after the flags.
pub fn flag_available(flags: Flags) -> bool {
    let flags =
        if flags.contains(Flags::WAIT_KILLABLE_RECV) { flags.with(Flags::NEW_LISTENER) } else { flags };
    // SAFETY: the address is null: the kernel reads nothing and answers EFAULT.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::c_ulong::from(flags.0),
            std::ptr::null::<libc::sock_fprog>(),
        )
    };
    result == -1 && last_errno() == Errno::FAULT
}

/// Does not allocate: an `io::Error` of an errno is that number.
fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_is_the_kernels() {
        assert_eq!(size_of::<SockFilter>(), size_of::<libc::sock_filter>());
        assert_eq!(align_of::<SockFilter>(), align_of::<libc::sock_filter>());
        assert_eq!(std::mem::offset_of!(SockFilter, k), std::mem::offset_of!(libc::sock_filter, k));
        assert_eq!(std::mem::offset_of!(SockFilter, jf), std::mem::offset_of!(libc::sock_filter, jf));
    }

    #[test]
    fn the_kernel_says_what_it_can_do() {
        assert!(action_available(RET_KILL_PROCESS) && action_available(RET_ERRNO));
        assert!(!action_available(0x1234_0000));
        assert!(flag_available(Flags::LOG) && flag_available(Flags::WAIT_KILLABLE_RECV));
        assert!(!flag_available(Flags(1 << 31)));
    }

    #[test]
    fn a_filter_is_loaded_for_one_thread() {
        let program = [
            SockFilter::load(DATA_NR),
            SockFilter::branch(Comparison::Equal, libc::SYS_getppid as u32, 0, 1),
            SockFilter::ret(RET_ERRNO | libc::ENOTTY as u32),
            SockFilter::ret(RET_ALLOW),
        ];
        // SAFETY: getppid takes no argument and touches no memory.
        let getppid = || unsafe { libc::syscall(libc::SYS_getppid) };
        let inside = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            assert_eq!(load(&[], Flags::NONE).unwrap_err(), Errno::INVAL);
            assert!(load(&program, Flags::LOG).unwrap().is_none());
            let listener = load(&program, Flags::NEW_LISTENER).unwrap();
            assert!(listener.is_some());
            let result = (getppid(), last_errno());
            drop(listener);
            result
        });
        assert_eq!(inside.join().unwrap(), (-1, Errno::NOTTY));
        assert!(getppid() > 0 || std::process::id() == 1, "this thread has no filter");
    }
}
