//! Staying with a process: its signals, its terminal, its end. One poll on descriptors, so that no end is missed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kernel::process::Child;
use kernel::signal::Signals;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{
    OptionalActions, OutputModes, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use super::failure::Failure;

/// Signals this process does not pass on: those nobody can catch, those that tell of its own faults and children, and
/// those a shell stops it with.
const KEPT: [i32; 19] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGSYS,
    libc::SIGPIPE,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGURG,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGPROF,
    32,
    33,
];

/// Receives what the container's process is to get, and news of children. To be called before there is one.
pub(super) fn signals() -> Result<Signals, Failure> {
    let all: Vec<i32> = (1..=64).filter(|signal| !KEPT.contains(signal)).collect();
    Ok(Signals::receive(&all)?)
}

/// Takes in the processes that the container leaves without a parent: to reap them.
pub(super) fn adopt() -> Result<(), Failure> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|e| Failure::new(format!("cannot adopt the container's processes: {e}")))
}

/// Makes the container's terminal what it is to be: of the size of this process's own, before a program looks at it. Without a terminal of
/// our own it keeps its size.
pub(super) fn settle(console: &OwnedFd) {
    // A line ends as the program ends it; our own terminal, if there is one, makes it what a screen needs.
    if let Ok(mut plain) = tcgetattr(console) {
        plain.output_modes.remove(OutputModes::ONLCR);
        let _ = tcsetattr(console, OptionalActions::Now, &plain);
    }
    resize(console);
}

fn resize(console: &OwnedFd) {
    if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
        // It may be closed already.
        let _ = tcsetwinsize(console, size);
    }
}

/// Passes signals on and the terminal through until the process has ended. Returns its exit code, 128 + the signal if
/// one ended it.
pub(super) fn attend(child: &Child, console: Option<OwnedFd>, signals: &Signals) -> Result<i32, Failure> {
    let mut terminal = console.map(Terminal::new).transpose()?;
    loop {
        let (input, master) = terminal.as_ref().map_or((None, None), Terminal::wanted);
        let idle = PollFlags::empty();
        let mut fds = [
            PollFd::from_borrowed_fd(child.pidfd.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(
                input.unwrap_or(signals.as_fd()),
                if input.is_some() { PollFlags::IN } else { idle },
            ),
            PollFd::from_borrowed_fd(
                master.map_or(signals.as_fd(), |(fd, _)| fd),
                master.map_or(idle, |(_, flags)| flags),
            ),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(Failure::new(format!("cannot wait for the container's process: {e}"))),
        }
        let ready = fds.map(|fd| !fd.revents().is_empty());
        let (of_input, of_master) = (ready[2] && input.is_some(), ready[3] && master.is_some());
        if let Some(terminal) = &mut terminal {
            terminal.pump(of_input, of_master);
        }
        if ready[0] {
            let code = child.wait()?.code();
            if let Some(terminal) = &mut terminal {
                terminal.drain();
            }
            return Ok(code);
        }
        while let Some(signal) = signals.next() {
            match signal {
                libc::SIGCHLD => reap_others(child)?,
                libc::SIGWINCH if terminal.is_some() => {
                    terminal.iter().for_each(|terminal| resize(&terminal.master));
                }
                signal => kernel::process::signal(child.pidfd.as_fd(), signal)?,
            }
        }
    }
}

/// Reaps what was adopted, and leaves the process that is waited for.
fn reap_others(child: &Child) -> Result<(), Failure> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    loop {
        // Its end is read by its pidfd; until then nobody else's can be told from it.
        let ended = waitid(WaitId::PidFd(child.pidfd.as_fd()), peek).ok().flatten().is_some();
        if ended || kernel::process::reap_any().is_none() {
            return Ok(());
        }
    }
}

/// This process's own terminal and the container's, one passed through to the other.
struct Terminal {
    master: OwnedFd,
    before: Option<Termios>,
    /// Read from our side, and not taken by the other yet.
    pending: Vec<u8>,
    input: bool,
    open: bool,
}

impl Terminal {
    fn new(master: OwnedFd) -> Result<Self, Failure> {
        let say = |e: Errno| Failure::new(format!("cannot set up the terminal: {e}"));
        rustix::io::ioctl_fionbio(&master, true).map_err(say)?;
        let before = tcgetattr(rustix::stdio::stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            raw.output_modes |= before.output_modes & (OutputModes::OPOST | OutputModes::ONLCR);
            tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw).map_err(say)?;
        }
        Ok(Self { master, before, pending: Vec::new(), input: true, open: true })
    }

    /// Where to read from, and what to wait for on the master.
    fn wanted(&self) -> (Option<BorrowedFd<'_>>, Option<(BorrowedFd<'_>, PollFlags)>) {
        if !self.open {
            return (None, None);
        }
        let full = !self.pending.is_empty();
        let flags = if full { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let input = (self.input && !full).then(rustix::stdio::stdin);
        (input, Some((self.master.as_fd(), flags)))
    }

    fn pump(&mut self, input: bool, master: bool) {
        let mut buffer = [0_u8; 4096];
        if input {
            match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
                Ok(n) if n > 0 => self.pending.extend_from_slice(&buffer[..n]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                _ => self.input = false,
            }
        }
        if !self.pending.is_empty() {
            match rustix::io::write(&self.master, &self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => self.pending.clear(),
            }
        }
        if master {
            self.open = self.show(&mut buffer);
        }
    }

    /// Shows what the container has printed; false once its side is closed.
    fn show(&self, buffer: &mut [u8]) -> bool {
        match rustix::io::read(&self.master, &mut *buffer) {
            Ok(n) if n > 0 => {
                let mut left = &buffer[..n];
                while !left.is_empty() {
                    match rustix::io::write(rustix::stdio::stdout(), left) {
                        Ok(n) => left = &left[n..],
                        Err(Errno::INTR) => {}
                        Err(_) => return true,
                    }
                }
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            _ => false,
        }
    }

    /// What is left when the process has ended.
    fn drain(&mut self) {
        let mut buffer = [0_u8; 4096];
        loop {
            let mut fds = [PollFd::from_borrowed_fd(self.master.as_fd(), PollFlags::IN)];
            let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
            let some = poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0);
            if !some || !self.show(&mut buffer) {
                return;
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // The terminal may be gone.
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, before);
        }
    }
}
