//! A command that runs in the background: what it has said so far, and how it ends.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::bench::{Ended, LIMIT};

/// Text that another thread collects.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<(Mutex<Said>, Condvar)>);

#[derive(Default)]
struct Said {
    bytes: Vec<u8>,
    over: bool,
}

impl Heard {
    pub(crate) fn from(mut source: impl Read + Send + 'static) -> Self {
        let heard = Self::default();
        let to = heard.clone();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // A terminal's master says EIO when the last user is gone.
            while let Ok(n @ 1..) = source.read(&mut piece) {
                to.0.0.lock().unwrap().bytes.extend(&piece[..n]);
                to.0.1.notify_all();
            }
            to.0.0.lock().unwrap().over = true;
            to.0.1.notify_all();
        });
        heard
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.0.lock().unwrap().bytes).into_owned()
    }

    /// Waits until `text` has been said.
    #[track_caller]
    pub(crate) fn until(&self, text: &str) {
        self.wait(text, |said| String::from_utf8_lossy(&said.bytes).contains(text));
    }

    /// Waits until nothing more can be said.
    #[track_caller]
    fn until_over(&self) {
        self.wait("the end", |said| said.over);
    }

    #[track_caller]
    fn wait(&self, what: &str, holds: impl Fn(&Said) -> bool) {
        let end = Instant::now() + LIMIT;
        let mut said = self.0.0.lock().unwrap();
        while !holds(&said) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "never heard {what:?}: {:?}", String::from_utf8_lossy(&said.bytes));
            said = self.0.1.wait_timeout(said, left).unwrap().0;
        }
    }
}

/// It is killed if the test gives up on it.
pub(crate) struct Running {
    child: Child,
    pub(crate) out: Heard,
    pub(crate) err: Heard,
    terminal: bool,
}

impl Running {
    /// Its output is collected; its standard input is what the command says.
    pub(crate) fn piped(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = Heard::from(child.stdout.take().unwrap());
        let err = Heard::from(child.stderr.take().unwrap());
        Self { child, out, err, terminal: false }
    }

    /// On a terminal, whose other end is `master`.
    pub(crate) fn on_terminal(command: &mut Command, slave: OwnedFd, master: OwnedFd) -> Self {
        let [one, two] = [(); 2].map(|()| slave.try_clone().unwrap());
        let child = command.stdin(one).stdout(two).stderr(slave).spawn().unwrap();
        // Else the command keeps the other side of the terminal open here.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let out = Heard::from(std::fs::File::from(master));
        Self { child, out: out.clone(), err: out, terminal: true }
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn close_input(&mut self) {
        self.child.stdin = None;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(&mut self) -> Ended {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                // A terminal is kept open by its person.
                if !self.terminal {
                    self.out.until_over();
                    self.err.until_over();
                }
                let code = status.code().unwrap_or(-1);
                return Ended { code, out: self.out.text(), err: self.err.text() };
            }
            assert!(Instant::now() < end, "it does not end: {:?} {:?}", self.out.text(), self.err.text());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
