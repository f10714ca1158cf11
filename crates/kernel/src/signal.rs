//! Signals as a descriptor: what a program waits for beside everything else, instead of a handler that interrupts it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::{Act, Result};

/// Blocked signals, to be read when its descriptor is readable.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Blocks `signals` for this thread (and those it starts later) and receives them here instead.
    ///
    /// To be called before the first other thread starts, since any thread that does not block a signal may get it.
    pub fn receive(signals: &[i32]) -> Result<Self> {
        let say = || format!("signals {signals:?}");
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set, which then lives across the calls; the mask of this thread is changed
        // and no handler is involved.
        let fd = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for &signal in signals {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
            libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error()).act("receive", say);
        }
        // SAFETY: a new descriptor that nobody else owns.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// The next signal that has come, if one has.
    pub fn next(&self) -> Option<i32> {
        let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.fd, &mut info) {
            // The number is the structure's first field.
            Ok(n) if n == info.len() => Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]])),
            _ => None,
        }
    }
}

/// Blocks no signal in this thread: what somebody blocks for itself is blocked in the programs that it starts, too. Allocates nothing.
pub fn block_none() {
    let mut none = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set that the mask is then taken from.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

/// Has this process end by SIGPIPE, quietly, when who reads its standard output or error is gone, as every tool in a pipeline does;
/// of any other pipe or socket whose other end is gone a write says EPIPE, as Rust's programs expect. Programs it executes
/// have the default meaning.
///
/// Rust ignores SIGPIPE before `main`; with its default meaning a server that went while it was being written to would end its
/// client without a word.
pub fn end_with_readers() {
    // SAFETY: the handler calls what a handler may call alone (signal-safety(7)), and keeps errno.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_broken_pipe as *const () as usize;
        action.sa_flags = libc::SA_RESTART | libc::SA_NODEFER;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGPIPE, &raw const action, std::ptr::null_mut());
    }
}

extern "C" fn on_broken_pipe(signal: libc::c_int) {
    let asked = |fd| libc::pollfd { fd, events: 0, revents: 0 };
    let mut readers = [asked(libc::STDOUT_FILENO), asked(libc::STDERR_FILENO)];
    // SAFETY: poll, signal and raise may be called by a handler; errno is this thread's, and as it was afterwards.
    unsafe {
        let errno = *libc::__errno_location();
        let found = libc::poll(readers.as_mut_ptr(), readers.len() as libc::nfds_t, 0);
        if found > 0 && readers.iter().any(|fd| fd.revents & (libc::POLLERR | libc::POLLHUP) != 0) {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
        *libc::__errno_location() = errno;
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

/// Signals by name (with or without SIG, any case) or number: "TERM", "sigkill", "9", "RTMIN+3". 0 is none: it asks whether
/// one could be sent.
pub fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (0..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        let offset = if rest.is_empty() { 0 } else { rest.strip_prefix('+')?.parse::<i32>().ok()? };
        return (0..=30).contains(&offset).then_some(34 + offset);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        let offset = if rest.is_empty() { 0 } else { rest.strip_prefix('-')?.parse::<i32>().ok()? };
        return (0..=30).contains(&offset).then_some(64 - offset);
    }
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

const NAMES: [(&str, i32); 33] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGIOT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("POLL", libc::SIGPOLL),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(parse("SIGTERM"), Some(15));
        assert_eq!(parse("kill"), Some(9));
        assert_eq!(parse("37"), Some(37));
        assert_eq!(parse("RTMIN+3"), Some(37));
        assert_eq!(parse("SIGRTMAX-1"), Some(63));
        assert_eq!(parse("0"), Some(0));
        for bad in ["", "65", "SIG", "TERMINATE", "-9", "RTMIN+31"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn nothing_stays_blocked() {
        std::thread::spawn(|| {
            let blocked = || {
                let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
                let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
                u64::from_str_radix(mask.trim(), 16).unwrap()
            };
            let _signals = Signals::receive(&[libc::SIGUSR2, libc::SIGTERM]).unwrap();
            assert_eq!(blocked() & 1 << (libc::SIGTERM - 1), 1 << (libc::SIGTERM - 1));
            block_none();
            assert_eq!(blocked(), 0);
        })
        .join()
        .unwrap();
    }

    /// Says to the test below that it is the process whose end is looked at.
    const WRITER: &str = "SEXTANT_TEST_WRITER";

    /// It writes to a socket whose other end is gone, and then to its standard error.
    #[test]
    fn a_process_ends_with_its_reader_and_not_with_its_server() {
        if std::env::var_os(WRITER).is_some() {
            end_with_readers();
            let (client, server) = UnixStream::pair().unwrap();
            drop(server);
            let refused = rustix::io::write(&client, b"a question");
            let told = rustix::io::write(rustix::stdio::stderr(), b"it is gone");
            std::process::exit(if refused == Err(rustix::io::Errno::PIPE) && told.is_ok() { 7 } else { 8 });
        }
        let ended = |stderr: Stdio| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command
                .args(["--exact", "signal::tests::a_process_ends_with_its_reader_and_not_with_its_server"]);
            command.arg("--nocapture").env(WRITER, "1").stdout(Stdio::null()).stderr(stderr);
            command.status().unwrap()
        };
        assert_eq!(ended(Stdio::null()).code(), Some(7));
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        // Where nobody reads what it says, the first write that nobody takes ends it.
        assert_eq!(ended(writer.into()).signal(), Some(libc::SIGPIPE));
    }

    #[test]
    fn a_blocked_signal_is_read() {
        // On a thread of its own: the mask goes with it.
        std::thread::spawn(|| {
            let signals = Signals::receive(&[libc::SIGUSR2]).unwrap();
            assert_eq!(signals.next(), None);
            // SAFETY: sends a signal, blocked above, to this very thread.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR2) };
            assert_eq!(signals.next(), Some(libc::SIGUSR2));
        })
        .join()
        .unwrap();
    }
}
