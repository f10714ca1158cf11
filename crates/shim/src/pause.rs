//! The program of a sandbox container, where a shim of others wants one: it does nothing until it is told to end.

use kernel::signal::Signals;
use rustix::event::{PollFd, PollFlags, poll};

/// The program's name.
pub const PAUSE: &str = "sextant-pause";

/// Waits for the end, and reaps what others leave to the first process of a PID namespace. Returns the exit code.
pub fn pause() -> u8 {
    let Ok(signals) = Signals::receive(&[libc::SIGTERM, libc::SIGINT, libc::SIGCHLD]) else { return 1 };
    loop {
        while let Some(signal) = signals.next() {
            if signal != libc::SIGCHLD {
                return 0;
            }
        }
        while kernel::process::reap_any().is_some() {}
        let _ = poll(&mut [PollFd::new(&signals, PollFlags::IN)], None);
    }
}
