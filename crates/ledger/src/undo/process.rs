use std::os::fd::AsFd;

use kernel::{Act as _, Error};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// How long a killed process may take to be gone. Only one in an uninterruptible wait takes this long.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Kills the process `pid`, if it is the one that started at `start_time`, and waits until it is gone.
pub(super) fn end(pid: i32, start_time: u64) -> kernel::Result<()> {
    let say = || format!("process {pid}");
    // The descriptor first: it names whoever has the number now, and the start time then says who that is.
    let pidfd = match kernel::process::pidfd(pid) {
        Ok(pidfd) => pidfd,
        Err(e) if e.errno() == Some(Errno::SRCH) => return Ok(()),
        Err(e) => return Err(e),
    };
    match kernel::process::start_time(pid) {
        Ok(found) if found == start_time => {}
        Ok(_) => return Ok(()),
        Err(e) if gone(&e) => return Ok(()),
        Err(e) => return Err(e),
    }
    kernel::process::signal(pidfd.as_fd(), 9)?;
    loop {
        match rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&PATIENCE)) {
            Ok(0) => return Err(Error::new("end", say(), Errno::TIMEDOUT)),
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e).act("wait for", say),
        }
    }
    reap(pidfd.as_fd());
    Ok(())
}

/// A child of ours must not stay a zombie; somebody else's child is theirs to reap.
fn reap(pidfd: std::os::fd::BorrowedFd<'_>) {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let _ = waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
}

fn gone(e: &Error) -> bool {
    matches!(e.errno(), Some(Errno::NOENT | Errno::SRCH))
        || matches!(e.source.kind(), std::io::ErrorKind::NotFound)
}
