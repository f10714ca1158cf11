//! The start of a program for which Rust's own is too much.
//!
//! Before `main` Rust reads `/proc/self/maps`, to say "stack overflow" where the kernel says SIGSEGV, and makes some
//! fifteen system calls. For a process that lives two milliseconds that is a fiftieth of all it costs.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};

/// Makes a function of type `fn() -> u8`, which returns the exit code, the program's own main function, in a binary that
/// says `#![no_main]`.
#[macro_export]
macro_rules! main {
    ($main:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn main() -> ::std::ffi::c_int {
            $crate::start::begin($main)
        }
    };
}

/// What [`main!`] calls: the part of Rust's start that programs rely on, then `main`, then Rust's end.
#[doc(hidden)]
pub fn begin(main: fn() -> u8) -> c_int {
    occupy_standard_streams();
    // SAFETY: sets a disposition that has no handler, before there is any other thread.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    // Flushes what was printed.
    std::process::exit(i32::from(main()))
}

/// Nothing that is opened later may get the number of a standard stream.
fn occupy_standard_streams() {
    // SAFETY: used to ask about the numbers only, which is allowed of closed ones too.
    let streams = [0, 1, 2].map(|number| unsafe { BorrowedFd::borrow_raw(number) });
    let mut asked = streams.each_ref().map(|fd| PollFd::new(fd, PollFlags::empty()));
    let none = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    let closed = match poll(&mut asked, Some(&none)) {
        Ok(_) => asked.iter().any(|fd| fd.revents().contains(PollFlags::NVAL)),
        Err(_) => true,
    };
    if !closed {
        return;
    }
    loop {
        match rustix::fs::open(c"/dev/null", OFlags::RDWR, Mode::empty()) {
            Ok(fd) if fd.as_raw_fd() > libc::STDERR_FILENO => return,
            // Open for good.
            Ok(fd) => drop(std::os::fd::IntoRawFd::into_raw_fd(fd)),
            Err(_) => std::process::abort(),
        }
    }
}
