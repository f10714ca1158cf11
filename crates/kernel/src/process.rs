//! Processes: clone3 with pidfd and cgroup, exec, signals and exit statuses through pidfds.

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::{Act, Error, Result};

/// Which namespaces a clone makes anew (`CLONE_NEW*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NewNamespaces(u64);

impl NewNamespaces {
    /// None: the child shares all of its parent's.
    pub const NONE: Self = Self(0);
    /// `CLONE_NEWNS`.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u64);
    /// `CLONE_NEWCGROUP`. Roots the view at the *caller's* cgroup: unshare it after joining instead.
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP as u64);
    /// `CLONE_NEWUTS`.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u64);
    /// `CLONE_NEWIPC`.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u64);
    /// `CLONE_NEWUSER`.
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u64);
    /// `CLONE_NEWPID`.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u64);
    /// `CLONE_NEWNET`.
    pub const NET: Self = Self(libc::CLONE_NEWNET as u64);
    /// `CLONE_NEWTIME`: the child is in it at once, so its offsets cannot be set any more.
    pub const TIME: Self = Self(0x80);

    /// Both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The kernel's flag word.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// A child of this process, known by its pidfd: no signal can reach another process that got its number.
#[derive(Debug)]
pub struct Child {
    /// The child's number in this process's PID namespace.
    pub pid: i32,
    /// Readable once the child has exited.
    pub pidfd: OwnedFd,
}

/// The two sides of [`clone`].
#[derive(Debug)]
pub enum Cloned {
    /// In the process that called.
    Parent(Child),
    /// In the new process.
    Child,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It called exit with this code.
    Code(i32),
    /// A signal ended it; `core` tells whether it dumped core.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether core was dumped.
        core: bool,
    },
}

impl Exit {
    /// The code a shell would show: the exit code, or 128 + the signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal { signal, .. } => 128 + signal,
        }
    }
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Whether this process has exactly one thread.
pub fn single_threaded() -> bool {
    use std::os::unix::fs::MetadataExt;
    // A directory has two links and one more for each directory in it; each thread is one.
    std::fs::metadata("/proc/self/task").is_ok_and(|m| m.nlink() == 3)
}

/// clone3(2): a child with new namespaces, born inside the cgroup v2 directory `cgroup` when there is one.
///
/// Returns twice, like fork. The copy is complete only if nobody else was running: a lock held by another thread
/// would stay locked in the child for ever. So it refuses (`EBUSY`) in a process with more than one thread.
pub fn clone(new: NewNamespaces, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned> {
    if !single_threaded() {
        return Err(Error::new("clone", "a process that has several threads", Errno::BUSY));
    }
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: new.0 | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a valid clone_args of the size given and outlives the call; no CLONE_VM, so the child runs on
    // a copy of this stack and of all memory; this process has one thread, so the copy holds no foreign lock.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match pid {
        0 => Ok(Cloned::Child),
        pid if pid > 0 => {
            // SAFETY: the kernel stored a new descriptor there (CLONE_PIDFD), which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent(Child { pid: pid as i32, pidfd }))
        }
        _ => {
            Err(io::Error::last_os_error()).act("clone", || format!("a process with namespaces {:#x}", new.0))
        }
    }
}

/// A copy of a process that is itself a [`clone`], sharing nothing with it but open files. Allocates nothing.
///
/// By the older call, which system call filters let through: they cannot look into the arguments of clone3.
pub fn clone_again() -> rustix::io::Result<Cloned> {
    older_clone(AGAIN)
}

/// The same, but the new one is not the caller's child but its parent's: see [`clone_sibling`].
pub fn clone_beside() -> rustix::io::Result<Cloned> {
    older_clone(BESIDE)
}

const AGAIN: libc::c_ulong = (libc::CLONE_PIDFD | libc::SIGCHLD) as libc::c_ulong;
// With CLONE_PARENT the signal is the caller's own.
const BESIDE: libc::c_ulong = (libc::CLONE_PIDFD | libc::CLONE_PARENT) as libc::c_ulong;

/// The first argument of the system call clone that [`clone_beside`] makes, for whoever asks a filter about it.
pub const BESIDE_FLAGS: u64 = BESIDE;

fn older_clone(flags: libc::c_ulong) -> rustix::io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    // SAFETY: no CLONE_VM and no new stack: the child runs on a copy of this one. The third argument is where CLONE_PIDFD
    // stores the descriptor, on every architecture. A clone has one thread, so the copy holds no foreign lock.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            flags,
            ptr::null_mut::<libc::c_void>(),
            &raw mut pidfd,
            ptr::null_mut::<libc::c_void>(),
            0,
        )
    };
    match pid {
        0 => Ok(Cloned::Child),
        pid if pid > 0 => {
            // SAFETY: the kernel stored a new descriptor there, which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent(Child { pid: pid as i32, pidfd }))
        }
        _ => Err(last_errno()),
    }
}

/// clone3(2) of a process that is itself a [`clone`]: the new one is not its child but its parent's. Allocates nothing.
///
/// For new namespaces that have to belong to a user namespace which only a process that never comes back may join. The
/// number is one of the caller's PID namespace; [`pid_of`] tells the parent's.
pub fn clone_sibling(new: NewNamespaces) -> rustix::io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: new.0 | (libc::CLONE_PIDFD | libc::CLONE_PARENT) as u64,
        pidfd: &raw mut pidfd as u64,
        // With CLONE_PARENT the signal is the caller's own.
        exit_signal: 0,
        ..CloneArgs::default()
    };
    // SAFETY: as in `clone`; a clone has one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match pid {
        0 => Ok(Cloned::Child),
        pid if pid > 0 => {
            // SAFETY: the kernel stored a new descriptor there (CLONE_PIDFD), which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent(Child { pid: pid as i32, pidfd }))
        }
        _ => Err(last_errno()),
    }
}

/// What came of waiting for a process's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// It has ended.
    Ended,
    /// The time is over.
    TimedOut,
    /// Whoever was watched meanwhile has hung up.
    HungUp,
}

/// Waits until the process behind `pidfd` (which need not be a child) has ended, for at most `limit`, or until the other
/// side of `watched` is closed. Allocates nothing.
pub fn await_end(
    pidfd: BorrowedFd<'_>,
    limit: Option<Duration>,
    watched: Option<BorrowedFd<'_>>,
) -> rustix::io::Result<Waited> {
    use rustix::event::{PollFd, PollFlags, poll};
    let deadline = limit.map(|limit| Instant::now() + limit);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.map(|left| rustix::time::Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        let mut fds = [
            PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
            PollFd::from_borrowed_fd(watched.unwrap_or(pidfd), PollFlags::empty()),
        ];
        match poll(&mut fds, left.as_ref()) {
            Ok(0) => return Ok(Waited::TimedOut),
            Ok(_) if !fds[0].revents().is_empty() => return Ok(Waited::Ended),
            Ok(_) => return Ok(Waited::HungUp),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Reaps a child that has ended, whichever: its number and how it ended.
pub fn reap_any() -> Option<(i32, Exit)> {
    let (pid, status) = rustix::process::wait(rustix::process::WaitOptions::NOHANG).ok()??;
    let exit = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal { signal, core: false },
        (None, None) => Exit::Code(255),
    };
    Some((pid.as_raw_pid(), exit))
}

/// A child that has ended and is not reaped yet, whichever: its number. It stays one until somebody reaps it.
pub fn ended_child() -> Option<i32> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the kernel writes a siginfo_t where it is told to, or leaves the zeroes there, which are a siginfo_t, too; one
    // of waitid has the number of a process.
    let pid = unsafe {
        match libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) {
            0 => info.assume_init().si_pid(),
            _ => 0,
        }
    };
    (pid > 0).then_some(pid)
}

/// Reaps a child that has ended, by its number.
pub fn reap(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG);
    }
}

/// The number that the process behind a pidfd has in this process's PID namespace.
pub fn pid_of(pidfd: BorrowedFd<'_>) -> Result<i32> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = std::fs::read_to_string(&path).act("read", || path.clone())?;
    text.lines()
        .find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
        .filter(|&pid| pid > 0)
        .ok_or_else(|| Error::new("find", format!("the process of {path}"), Errno::SRCH))
}

impl Child {
    /// Waits for the child's end and reaps it.
    pub fn wait(&self) -> Result<Exit> {
        wait_pidfd(self.pidfd.as_fd(), true)?
            .ok_or_else(|| Error::new("wait for", self.pid.to_string(), Errno::CHILD))
    }

    /// Whether it is a child of this process, ended or not.
    pub fn is_own(&self) -> bool {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), options)).is_ok()
    }

    /// Reaps the child if it has ended.
    pub fn try_wait(&self) -> Result<Option<Exit>> {
        wait_pidfd(self.pidfd.as_fd(), false)
    }
}

fn wait_pidfd(pidfd: BorrowedFd<'_>, block: bool) -> Result<Option<Exit>> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let mut options = WaitIdOptions::EXITED;
    if !block {
        options |= WaitIdOptions::NOHANG;
    }
    let status = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd), options))
        .act("wait for", || format!("pidfd {}", pidfd.as_raw_fd()))?;
    Ok(status.map(|s| match (s.exit_status(), s.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal { signal, core: s.dumped() },
        (None, None) => Exit::Code(255),
    }))
}

/// A pidfd for a process that need not be a child.
pub fn pidfd(pid: i32) -> Result<OwnedFd> {
    let id = rustix::process::Pid::from_raw(pid)
        .ok_or_else(|| Error::new("open", format!("process {pid}"), Errno::INVAL))?;
    let opened = rustix::process::pidfd_open(id, rustix::process::PidfdFlags::empty());
    // A number without a process behind it: of one that is reaped this very moment, or of a thread.
    let opened = opened.map_err(|errno| if errno == Errno::INVAL { Errno::SRCH } else { errno });
    opened.act("open", || format!("process {pid}"))
}

/// Sends `signal` (a number; real-time ones too) through a pidfd. A process already gone counts as done.
pub fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: a pidfd, a number, no siginfo (null is allowed) and no flags; the kernel checks them all.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match rc {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            e => Err(Error::new("send", format!("signal {signal}"), e)),
        },
    }
}

/// When a process started, in clock ticks since boot (field 22 of `/proc/PID/stat`): with the number it names one
/// process of this boot for good.
pub fn start_time(pid: i32) -> Result<u64> {
    state_and_start(pid).map(|(_, start)| start)
}

/// When a process that has not ended started; `None` for a zombie and for one that is gone.
pub fn alive_since(pid: i32) -> Option<u64> {
    match state_and_start(pid).ok()? {
        ('Z' | 'X', _) => None,
        (_, start) => Some(start),
    }
}

/// Fields 3 and 22 of `/proc/PID/stat`.
fn state_and_start(pid: i32) -> Result<(char, u64)> {
    let path = format!("/proc/{pid}/stat");
    // All of it at once: some fifty numbers.
    let mut text = [0_u8; 1024];
    let length = std::fs::File::open(&path)
        .and_then(|mut file| io::Read::read(&mut file, &mut text))
        .act("read", || path.clone())?;
    let stat = String::from_utf8_lossy(&text[..length]);
    // The name (field 2) may hold spaces and brackets: count from the last bracket.
    let fields = || {
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        Some((state, fields.nth(18)?.parse().ok()?))
    };
    fields().ok_or_else(|| Error::new("parse", path, Errno::INVAL))
}

/// A program's arguments or environment in the form execve takes, made before a clone so that nothing allocates after.
#[derive(Debug)]
pub struct CStrings {
    // Keeps what `pointers` points into.
    _strings: Vec<CString>,
    pointers: Vec<*const c_char>,
    /// Room for one more string, and where its pointer will stand.
    spare: Vec<u8>,
}

impl CStrings {
    /// Prepares `strings`; one with a NUL byte inside cannot be passed and is an error.
    pub fn new<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> Result<Self> {
        let strings = strings.into_iter().map(|s| cstring(s.as_ref())).collect::<Result<Vec<_>>>()?;
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect();
        Ok(Self { _strings: strings, pointers, spare: Vec::new() })
    }

    /// As [`new`](Self::new), with room for one more string of less than `room` bytes: see [`add`](Self::add).
    pub fn with_room<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>, room: usize) -> Result<Self> {
        let mut made = Self::new(strings)?;
        made.spare = vec![0; room];
        made.pointers.push(ptr::null());
        Ok(made)
    }

    /// Adds a string to those there is room for: allocates nothing. False if there is no room (any more).
    pub fn add(&mut self, parts: &[&[u8]]) -> bool {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let place = self.pointers.len().saturating_sub(2);
        if length >= self.spare.len() || self.pointers.get(place).is_none_or(|p| !p.is_null()) {
            return false;
        }
        let mut at = 0;
        for part in parts {
            self.spare[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.spare[at] = 0;
        self.pointers[place] = self.spare.as_ptr().cast();
        true
    }
}

/// The small program `name`, where it is installed beside the running one, which can do the same.
///
/// One that is older than the running program is of another version, left behind by an upgrade or a build: it is passed over
/// (docs/adr/0009).
pub fn small_build(name: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let small = own.with_file_name(name);
    let age = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    (age(&small)? >= age(&own)?).then_some(small)
}

/// `bytes` as a C string; one with a NUL byte inside is an error that shows it.
pub fn cstring(bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| {
        let shown = String::from_utf8_lossy(bytes).into_owned();
        Error::new("pass", format!("{shown:?}, which has a NUL byte inside"), Errno::INVAL)
    })
}

/// execve(2): returns only if it failed. Allocates nothing.
pub fn exec(path: &CStr, args: &CStrings, env: &CStrings) -> Errno {
    // SAFETY: `path` is NUL-terminated; both arrays hold pointers to live C strings and end with a null pointer.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) };
    last_errno()
}

/// execveat(2) of the file behind `fd` itself: no path that somebody could replace.
pub fn exec_fd(fd: BorrowedFd<'_>, args: &CStrings, env: &CStrings) -> Errno {
    // SAFETY: as in `exec`; the empty path with AT_EMPTY_PATH names the descriptor.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            args.pointers.as_ptr(),
            env.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    last_errno()
}

/// Overwrites the environment that this process was started with. Allocates nothing.
///
/// For a cloned child whose memory others may come to read. It asks for no variable afterwards.
pub fn forget_environment() {
    unsafe extern "C" {
        static environ: *const *mut c_char;
    }
    // SAFETY: a clone has one thread, and nobody in it keeps a reference into the environment. The array ends with a null
    // pointer, each string with a NUL; both are the process's own writable memory.
    unsafe {
        let mut at = environ;
        while !at.is_null() && !(*at).is_null() {
            ptr::write_bytes(*at, 0, libc::strlen(*at));
            at = at.add(1);
        }
    }
}

/// Ends the process at once: no destructor, no handler, nothing flushed. For a cloned child, whose copies of buffers
/// belong to its parent.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: always sound; it only ends the process.
    unsafe { libc::_exit(code) }
}

/// The rest of the life of a PID namespace's first process that has nothing to do but to be there: the kernel reaps its
/// children by itself, and nothing ever wakes it. Allocates nothing.
///
/// For a cloned child. Signals from inside the namespace do not reach it, since it handles none; its end is that of the
/// namespace.
pub fn reap_for_ever() -> ! {
    // SAFETY: sets dispositions that have no handler: children of whoever ignores SIGCHLD leave nothing to be waited for.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    loop {
        // SAFETY: waits.
        unsafe { libc::pause() };
    }
}

/// Takes ownership of a descriptor this process was started with; `None` if it was not, or it is taken already.
///
/// For the first lines of `main`, before anything else is opened: later the number may be somebody's.
pub fn take_inherited(number: RawFd) -> Option<OwnedFd> {
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    let bit = 1_u64.checked_shl(u32::try_from(number).ok()?)?;
    // SAFETY: asks about a number; the descriptor is not used.
    let open = unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0;
    if number <= libc::STDERR_FILENO || !open || TAKEN.fetch_or(bit, Ordering::SeqCst) & bit != 0 {
        return None;
    }
    // SAFETY: it is open, each number is given out once, and what a process is started with belongs to nobody in it
    // but the standard streams (excluded above).
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC).ok()?;
    Some(fd)
}

/// Gives SIGPIPE its default meaning back, which Rust's start-up takes from it and a program expects, and blocks no
/// signal. Allocates nothing.
pub fn restore_signals() {
    // SAFETY: sets a disposition that has no handler.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
    crate::signal::block_none();
}

/// Closes every descriptor from `first` on but those to `keep`. Allocates nothing.
///
/// For a cloned child and nobody else, so that nothing of its parent can be reached through `/proc/self/fd` by the
/// paths it still has to follow (CVE-2024-21626). What owned the others must neither be used nor dropped afterwards:
/// the child ends by [`exec`] or [`exit_now`].
pub fn close_all_but<const N: usize>(
    first: u32,
    keep: [Option<BorrowedFd<'_>>; N],
) -> rustix::io::Result<()> {
    let mut numbers = keep.map(|fd| fd.map_or(u32::MAX, |fd| fd.as_raw_fd() as u32));
    numbers.sort_unstable();
    let mut first = first;
    for number in numbers {
        if number > first {
            close_range(first, number - 1)?;
        }
        first = first.max(number.saturating_add(1));
    }
    if first < u32::MAX { close_range(first, u32::MAX) } else { Ok(()) }
}

fn close_range(first: u32, last: u32) -> rustix::io::Result<()> {
    // SAFETY: numbers only. Closing is what the one caller documents: in a copy of a process whose owners of descriptors
    // never run again.
    let rc = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if rc == 0 { Ok(()) } else { Err(last_errno()) }
}

/// What to start with [`spawn`].
#[derive(Debug)]
pub struct Program<'a> {
    /// The file to execute.
    pub file: BorrowedFd<'a>,
    /// Its arguments, with the name it is called by first.
    pub args: CStrings,
    /// Its environment.
    pub env: CStrings,
    /// Descriptors it gets, in order, as 0, 1, 2, 3, ...; every other is closed.
    pub fds: Vec<BorrowedFd<'a>>,
}

/// Starts a program in a session of its own, with exactly the descriptors given and default signal handling.
///
/// The parent may have threads. A failed exec is returned here, not seen as an exit.
pub fn spawn(program: &Program<'_>) -> Result<Child> {
    let first_free = program.fds.len() as RawFd;
    let file =
        rustix::io::fcntl_dupfd_cloexec(program.file, first_free).act("duplicate", || "a program's file")?;
    let path = cstring(format!("/proc/self/fd/{}", file.as_raw_fd()).as_bytes())?;
    spawn_path(&path, &program.args, &program.env, &program.fds)
}

/// The same for the program at `path`, which may be a script: an interpreter opens it by this path.
pub fn spawn_path(path: &CStr, args: &CStrings, env: &CStrings, fds: &[BorrowedFd<'_>]) -> Result<Child> {
    // Descriptors this process was itself given by a careless parent go no further.
    mark_close_on_exec(3)?;
    // Copies above every target, so that no dup2 overwrites a source that is still needed.
    let first_free = fds.len() as RawFd;
    let sources = fds
        .iter()
        .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, first_free))
        .collect::<std::result::Result<Vec<_>, _>>()
        .act("duplicate", || "a descriptor for a program")?;
    let mut pid: libc::pid_t = 0;
    // SAFETY: the two objects are initialised before use and destroyed once; every pointer passed lives across the
    // call; the argument arrays end with a null pointer (CStrings).
    let rc = unsafe {
        // The only error of these is to have no memory, and a missing action would hand out a wrong descriptor.
        let mut actions = MaybeUninit::uninit();
        let mut failed = libc::posix_spawn_file_actions_init(actions.as_mut_ptr());
        for (target, source) in sources.iter().enumerate() {
            failed |= libc::posix_spawn_file_actions_adddup2(
                actions.as_mut_ptr(),
                source.as_raw_fd(),
                target as RawFd,
            );
        }
        let mut attributes = MaybeUninit::uninit();
        libc::posix_spawnattr_init(attributes.as_mut_ptr());
        let mut signals = MaybeUninit::uninit();
        libc::sigemptyset(signals.as_mut_ptr());
        libc::posix_spawnattr_setsigmask(attributes.as_mut_ptr(), signals.as_ptr());
        libc::sigfillset(signals.as_mut_ptr());
        libc::posix_spawnattr_setsigdefault(attributes.as_mut_ptr(), signals.as_ptr());
        let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID;
        libc::posix_spawnattr_setflags(attributes.as_mut_ptr(), flags as libc::c_short);
        let rc = if failed == 0 {
            libc::posix_spawn(
                &raw mut pid,
                path.as_ptr(),
                actions.as_ptr(),
                attributes.as_ptr(),
                args.pointers.as_ptr().cast(),
                env.pointers.as_ptr().cast(),
            )
        } else {
            libc::ENOMEM
        };
        libc::posix_spawnattr_destroy(attributes.as_mut_ptr());
        libc::posix_spawn_file_actions_destroy(actions.as_mut_ptr());
        rc
    };
    if rc != 0 {
        return Err(Error::new("execute", path.to_string_lossy(), Errno::from_raw_os_error(rc)));
    }
    // Ours and not reaped, so the number cannot have gone to another process.
    Ok(Child { pid, pidfd: pidfd(pid)? })
}

/// Marks every descriptor from `first` on close-on-exec, in one call. Allocates nothing when it succeeds.
pub fn mark_close_on_exec(first: u32) -> Result<()> {
    // SAFETY: numbers only; the flag changes no descriptor's meaning in this process.
    let rc = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if rc == 0 {
        Ok(())
    } else {
        Err(last_errno()).act("mark", || format!("descriptors from {first} on close-on-exec"))
    }
}

/// glibc's value; the libc crate has it for other systems only.
const POSIX_SPAWN_SETSID: libc::c_int = 0x80;

pub(crate) fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spawn_gives_exactly_the_descriptors() {
        let file = std::fs::File::open("/bin/sh").unwrap();
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let null = std::fs::File::options().read(true).write(true).open("/dev/null").unwrap();
        let child = spawn(&Program {
            file: file.as_fd(),
            args: CStrings::new(["sh", "-c", "echo fds: /proc/$$/fd/*; exit 7"]).unwrap(),
            env: CStrings::new([""; 0]).unwrap(),
            fds: vec![null.as_fd(), write.as_fd(), null.as_fd()],
        })
        .unwrap();
        drop(write);
        assert_eq!(child.wait().unwrap(), Exit::Code(7));
        let mut out = String::new();
        io::Read::read_to_string(&mut std::fs::File::from(read), &mut out).unwrap();
        let fds =
            out.trim().split(' ').skip(1).map(|f| f.rsplit('/').next().unwrap().parse::<i32>().unwrap());
        // 3 or 10 may be the shell's own, for the directory it lists.
        let ours: Vec<_> = fds.filter(|fd| ![3, 10].contains(fd)).collect();
        assert_eq!(ours, [0, 1, 2], "{out}");
    }

    #[test]
    fn spawn_says_when_the_file_is_no_program() {
        let file = std::fs::File::open("/etc/passwd").unwrap();
        let args = || CStrings::new(["x"]).unwrap();
        let error =
            spawn(&Program { file: file.as_fd(), args: args(), env: args(), fds: vec![] }).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ACCESS));
    }

    #[test]
    fn start_time_of_this_process_is_stable() {
        let pid = std::process::id() as i32;
        assert_eq!(start_time(pid).unwrap(), start_time(pid).unwrap());
        assert!(start_time(0).is_err());
    }

    #[test]
    fn a_clone_is_refused_beside_other_threads() {
        // The test harness has a main thread and this one.
        let error = clone(NewNamespaces::NONE, None).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::BUSY));
    }

    #[test]
    fn one_string_more_has_room() {
        let mut strings = CStrings::with_room(["a", "b"], 8).unwrap();
        assert!(strings.pointers[2].is_null() && strings.pointers[3].is_null());
        assert!(!strings.add(&[b"12345678"]));
        assert!(strings.add(&[b"HOME=", b"/r"]));
        // SAFETY: the pointer is to a string in `strings`, which is not changed meanwhile.
        assert_eq!(unsafe { CStr::from_ptr(strings.pointers[2]) }, c"HOME=/r");
        assert!(strings.pointers[3].is_null() && !strings.add(&[b"x"]));
        assert!(!CStrings::new(["a"]).unwrap().add(&[b"x"]));
    }

    #[test]
    fn a_nul_byte_is_named() {
        assert!(cstring(b"a\0b").unwrap_err().to_string().contains("a\\0b"));
    }
}
