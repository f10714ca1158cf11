//! Being told at once that a cgroup has run out of memory.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use rustix::fs::{Mode, OFlags};

use super::{Cgroup, read_keyed, write};
use crate::{Act, Result};

/// Something to poll beside other things. How often it happened [`Cgroup::usage`] tells; v1 tells of it before it counts.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
    flags: PollFlags,
}

impl OomWatch {
    /// To be polled: any event means that [`settle`](Self::settle) is due.
    pub fn poll_fd(&self) -> PollFd<'_> {
        PollFd::new(&self.fd, self.flags)
    }

    /// Whether it tells by urgent data (POLLPRI, EPOLLPRI), not by being readable.
    pub fn is_urgent(&self) -> bool {
        self.flags == PollFlags::PRI
    }

    /// Takes note of what has happened so far, so that a poll waits for what is new.
    pub fn settle(&self) {
        // What is read is of no interest: a counter that never blocks, or a file that is always there.
        let _ = match self.flags {
            PollFlags::PRI => rustix::io::pread(&self.fd, &mut [0_u8; 256], 0),
            _ => rustix::io::read(&self.fd, &mut [0_u8; 8]),
        };
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Cgroup {
    /// How many of its processes the out-of-memory killer has killed; `None` where nobody counts.
    pub fn oom_kills(&self) -> Option<u64> {
        let count = |dir: &std::path::Path| {
            let v2 = read_keyed(&dir.join("memory.events"), "oom_kill");
            v2.or_else(|| read_keyed(&dir.join("memory.oom_control"), "oom_kill"))
        };
        self.hierarchies.iter().find_map(|h| count(h.dir()))
    }

    /// `None` where no hierarchy counts memory.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>> {
        let open = |path: &std::path::Path| {
            rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .act("open", || path.display().to_string())
        };
        let watch = if let Some(dir) = self.dir_with("memory.events") {
            OomWatch { fd: open(&dir.join("memory.events"))?, flags: PollFlags::PRI }
        } else if let Some(dir) = self.dir_with("memory.oom_control") {
            let control = open(&dir.join("memory.oom_control"))?;
            let fd =
                eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).act("make", || "an eventfd")?;
            let numbers = format!("{} {}", fd.as_fd().as_raw_fd(), control.as_raw_fd());
            write(&dir.join("cgroup.event_control"), &numbers)?;
            OomWatch { fd, flags: PollFlags::IN }
        } else {
            return Ok(None);
        };
        watch.settle();
        Ok(Some(watch))
    }
}
