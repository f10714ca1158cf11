//! A command on a terminal with a person at it.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::bench::LIMIT;

pub(super) struct Screen {
    keys: File,
    shown: Arc<Mutex<String>>,
    /// Keeps the terminal's modes readable after the command has ended.
    line: File,
    command: Child,
}

impl Screen {
    /// Runs it as a shell on a terminal of 80 x 24 would.
    pub(super) fn new(command: &Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let line = File::options().read(true).write(true).open(path).unwrap();
        let end = || Stdio::from(line.try_clone().unwrap());
        let mut session = Command::new("/usr/bin/setsid");
        session.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        let command = session.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let keys = File::from(master);
        let (mut output, shown) = (keys.try_clone().unwrap(), Arc::new(Mutex::new(String::new())));
        let to = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = output.read(&mut piece) {
                to.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..n]));
            }
        });
        let screen = Self { keys, shown, line, command };
        screen.resize(80, 24);
        screen
    }

    pub(super) fn type_in(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    #[track_caller]
    pub(super) fn until(&self, text: &str) {
        let end = Instant::now() + LIMIT;
        while !self.shown().contains(text) {
            assert!(Instant::now() < end, "no {text:?} on {:?}", self.shown());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(super) fn shown(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    pub(super) fn resize(&self, columns: u16, rows: u16) {
        tcsetwinsize(&self.line, Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 })
            .unwrap();
    }

    /// The command below `setsid`, which waits for it.
    pub(super) fn pid(&self) -> i32 {
        let path = format!("/proc/{0}/task/{0}/children", self.command.id());
        let children = std::fs::read_to_string(path).unwrap();
        let first = children.split_whitespace().next();
        first.map_or_else(|| i32::try_from(self.command.id()).unwrap(), |pid| pid.parse().unwrap())
    }

    /// Whether keys are echoed and lines edited.
    pub(super) fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.line).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Waits for its end: the exit code.
    #[track_caller]
    pub(super) fn end(&mut self) -> i32 {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.command.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < end, "it does not end: {:?}", self.shown());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.command.kill();
        let _ = self.command.wait();
    }
}
