//! A terminal with a person at it.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::bench::{Bench, Ended};
use crate::running::Running;

/// A command that has a terminal of its own.
pub(crate) struct Session {
    master: File,
    slave: OwnedFd,
    command: Running,
}

impl Session {
    /// Runs the program on a new terminal of 80 x 24. It is the leader of a session, as a shell's child on a terminal is.
    pub(crate) fn new(b: &Bench, args: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let slave = rustix::fs::open(&*name, flags, rustix::fs::Mode::empty()).unwrap();
        resize(&slave, 80, 24);
        let mut command = b.command_by(&["setsid", "--ctty", "--wait"], args);
        let (its, reader) = (slave.try_clone().unwrap(), master.try_clone().unwrap());
        let command = Running::on_terminal(&mut command, its, reader);
        Self { master: master.into(), slave, command }
    }

    pub(crate) fn type_in(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    #[track_caller]
    pub(crate) fn until(&self, text: &str) {
        self.command.out.until(text);
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        resize(&self.slave, columns, rows);
    }

    /// Whether keys are echoed and lines edited, as they were before the command.
    pub(crate) fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.slave).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    #[track_caller]
    pub(crate) fn end(&mut self) -> Ended {
        self.command.end()
    }
}

fn resize(fd: impl AsFd, columns: u16, rows: u16) {
    tcsetwinsize(fd, Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}
