//! A process of the container: its streams, its end, and who wants to hear of them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use kernel::process::{Child, Waited};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::runtime::{Files, Joining, Made};
use super::task::Streams;
use crate::protocol::{Exited, Size};

/// A stream of a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamRef {
    pub(super) connection: u64,
    pub(super) stream: u32,
    /// Its input goes to the process.
    pub(super) input: bool,
    /// It is one of the Task API, and is answered as that does.
    pub(super) task: bool,
}

/// Kills a child and reaps it. One that is not reaped keeps the first process of its PID namespace from ending.
pub(super) fn kill_and_reap(child: &Child) {
    let _ = kernel::process::signal(child.pidfd.as_fd(), libc::SIGKILL);
    let _ = child.wait();
}

/// A process that runs its program.
#[derive(Debug)]
pub(super) enum Running {
    /// A child of this process.
    Child(Child),
    /// One of another shim's, by the number that it tells.
    Remote(i32),
}

impl Running {
    pub(super) fn pid(&self) -> i32 {
        match self {
            Self::Child(child) => child.pid,
            Self::Remote(pid) => *pid,
        }
    }

    pub(super) fn child(&self) -> Option<&Child> {
        match self {
            Self::Child(child) => Some(child),
            Self::Remote(_) => None,
        }
    }
}

/// Input that a process has not taken yet holds its sender back from here on, bytes.
const FULL: usize = 256 << 10;

#[derive(Debug, Default)]
pub(super) struct Process {
    /// Its container's id.
    pub(super) container: String,
    /// Its own; empty for the container's.
    pub(super) exec_id: String,
    /// Made, and not started yet.
    pub(super) created: Option<Made>,
    /// On its way into the container.
    pub(super) joining: Option<Joining>,
    pub(super) running: Option<Running>,
    pub(super) exited: Option<Exited>,
    pub(super) terminal: bool,
    pub(super) attached: Vec<StreamRef>,
    pub(super) waiters: Vec<StreamRef>,
    /// With the Task API: where its streams go. It is kept until it is deleted.
    pub(super) streams: Option<Box<Streams>>,
    /// Its number, once it has ended.
    ended_pid: i32,
    /// The pipe to standard input, or nothing.
    input: Option<OwnedFd>,
    console: Option<OwnedFd>,
    outputs: [Option<OwnedFd>; 2],
    pending: Vec<u8>,
    close_after_pending: bool,
    /// Its input has ended, and nobody has been told yet.
    pub(super) input_ended: bool,
    /// Its FIFOs.
    pub(super) files: Files,
}

impl Process {
    pub(super) fn of(container: &str, exec_id: &str) -> Self {
        Self { container: container.to_owned(), exec_id: exec_id.to_owned(), ..Self::default() }
    }

    /// Pipes for the process: those it gets are returned, ours are kept. Without `stdin` it reads `/dev/null`.
    pub(super) fn pipes(&mut self, stdin: bool) -> rustix::io::Result<[OwnedFd; 3]> {
        let (out, out_theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        let (err, err_theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        let in_theirs = if stdin {
            let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(&ours, true)?;
            self.input = Some(ours);
            theirs
        } else {
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
            rustix::fs::open(c"/dev/null", flags, rustix::fs::Mode::empty())?
        };
        for ours in [&out, &err] {
            rustix::io::ioctl_fionbio(ours, true)?;
        }
        self.outputs = [Some(out), Some(err)];
        Ok([in_theirs, out_theirs, err_theirs])
    }

    /// Takes what are our ends of the process's streams.
    pub(super) fn set_streams(&mut self, input: Option<OwnedFd>, outputs: [Option<OwnedFd>; 2]) {
        (self.input, self.outputs) = (input, outputs);
    }

    /// Its terminal is one descriptor, for both ways.
    pub(super) fn has_console(&self) -> bool {
        self.console.is_some()
    }

    /// Takes the master of the process's terminal.
    pub(super) fn set_console(&mut self, console: OwnedFd) -> rustix::io::Result<()> {
        rustix::io::ioctl_fionbio(&console, true)?;
        self.console = Some(console);
        Ok(())
    }

    pub(super) fn pid(&self) -> i32 {
        self.running.as_ref().map(Running::pid).or_else(|| self.created.as_ref().map(Made::pid)).unwrap_or(0)
    }

    /// The number it has, or had.
    pub(super) fn last_pid(&self) -> i32 {
        match self.pid() {
            0 => self.ended_pid,
            pid => pid,
        }
    }

    /// Remembers its number beyond its end.
    pub(super) fn note_pid(&mut self) {
        self.ended_pid = self.last_pid();
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// It as a child, if it is one that runs.
    pub(super) fn child(&self) -> Option<&Child> {
        self.running.as_ref().and_then(Running::child)
    }

    /// Whether a child of this number is its own, or a command's that brings it in.
    pub(super) fn has_child(&self, pid: i32) -> bool {
        let own =
            self.child().map(|child| child.pid).or_else(|| self.created.as_ref().and_then(Made::child_pid));
        own == Some(pid) || self.joining.as_ref().is_some_and(|joining| joining.pid() == pid)
    }

    /// It runs no more, whether anybody has noticed or not.
    pub(super) fn has_ended(&self) -> bool {
        let ended =
            |child: &Child| kernel::process::await_end(child.pidfd.as_fd(), Some(Duration::ZERO), None);
        self.child().is_none_or(|child| matches!(ended(child), Ok(Waited::Ended)))
    }

    /// The descriptor that output `index` is read from.
    pub(super) fn output(&self, index: usize) -> Option<BorrowedFd<'_>> {
        match index {
            0 => self.console.as_ref().or(self.outputs[0].as_ref()),
            _ => self.outputs[1].as_ref(),
        }
        .map(AsFd::as_fd)
    }

    /// Reads once from output `index`: `Some` data (empty: nothing now), or `None` at its end, after which it is closed.
    pub(super) fn read(&mut self, index: usize, buffer: &mut [u8]) -> Option<usize> {
        let read = match self.output(index) {
            Some(fd) => rustix::io::read(fd, buffer),
            None => return None,
        };
        match read {
            Ok(n) if n > 0 => Some(n),
            Err(Errno::AGAIN | Errno::INTR) => Some(0),
            // End of file; and a terminal whose last user is gone says EIO.
            _ => {
                self.close_output(index);
                None
            }
        }
    }

    pub(super) fn close_output(&mut self, index: usize) {
        if index == 0 {
            self.console = None;
        }
        self.outputs[index & 1] = None;
    }

    /// Where input goes.
    pub(super) fn input(&self) -> Option<BorrowedFd<'_>> {
        self.console.as_ref().or(self.input.as_ref()).map(AsFd::as_fd)
    }

    /// Takes input; what the process does not take at once waits for [`flush`](Self::flush).
    pub(super) fn write(&mut self, data: &[u8]) {
        if self.input().is_some() && self.exited.is_none() {
            self.pending.extend(data);
            self.flush();
        }
    }

    pub(super) fn close_input(&mut self) {
        self.close_after_pending = true;
        self.flush();
    }

    /// Writes what the process takes now. A process that closed its input loses the rest, as in a shell.
    pub(super) fn flush(&mut self) {
        while !self.pending.is_empty() {
            let Some(fd) = self.input() else { return self.pending.clear() };
            match rustix::io::write(fd, &self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.pending.clear(),
            }
        }
        if self.close_after_pending {
            self.close_after_pending = false;
            match &self.console {
                // A terminal's end of input is a character.
                Some(console) => drop(rustix::io::write(console, b"\x04")),
                None => self.input_ended |= self.input.take().is_some(),
            }
        }
    }

    /// Nobody reads any more.
    pub(super) fn drop_input(&mut self) {
        self.input = None;
        self.pending.clear();
    }

    pub(super) fn has_pending_input(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn input_is_full(&self) -> bool {
        self.pending.len() > FULL
    }

    pub(super) fn resize(&self, size: Size) -> io::Result<()> {
        let Some(console) = &self.console else { return Ok(()) };
        let clamp = |n: u32| n.min(u16::MAX.into()) as u16;
        let size = rustix::termios::Winsize {
            ws_row: clamp(size.rows),
            ws_col: clamp(size.columns),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(rustix::termios::tcsetwinsize(console, size)?)
    }

    pub(super) fn signal(&self, signal: i32) -> kernel::Result<()> {
        match self.child() {
            Some(child) => kernel::process::signal(child.pidfd.as_fd(), signal),
            None => Ok(()),
        }
    }
}
