//! The terminal of a process, made from the container's own devpts.

use std::os::fd::BorrowedFd;

use kernel::mount::{attach, clone_tree};
use kernel::path::open_c;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::report::{At, Failure, Message, Step, send};
use crate::plan::ProcessPlan;

const DEVPTS_SUPER_MAGIC: rustix::fs::FsWord = 0x1cd1;

/// Makes a terminal, sends its master to the parent and makes its slave the standard streams. `bind` puts it on
/// `/dev/console` too.
pub(super) fn make(
    root: BorrowedFd<'_>,
    plan: &ProcessPlan,
    bind: bool,
    channel: BorrowedFd<'_>,
) -> Result<(), Failure> {
    terminal(root, plan, bind, channel).at(Step::Console, 0)
}

fn terminal(
    root: BorrowedFd<'_>,
    plan: &ProcessPlan,
    bind: bool,
    channel: BorrowedFd<'_>,
) -> rustix::io::Result<()> {
    let master = open_c(root, c"dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY)?;
    // Character device 5:2 on devpts and nothing that an image left there (CVE-2025-52565).
    let stat = rustix::fs::fstat(&master)?;
    let devpts = rustix::fs::fstatfs(&master)?.f_type == DEVPTS_SUPER_MAGIC;
    if stat.st_rdev != rustix::fs::makedev(5, 2) || !devpts {
        return Err(Errno::NXIO);
    }
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    let (ws_row, ws_col) = plan.console_size;
    if (ws_row, ws_col) != (0, 0) {
        tcsetwinsize(&master, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 })?;
    }
    if plan.uid.as_raw() != 0 {
        rustix::fs::fchown(&slave, Some(plan.uid), None)?;
    }
    if bind {
        let dev = open_c(root, c"dev", OFlags::PATH | OFlags::DIRECTORY)?;
        super::rootfs::make_file(&dev, b"console", 0o620)?;
        let target = open_c(root, c"dev/console", OFlags::PATH | OFlags::NOFOLLOW)?;
        attach(clone_tree(&slave, c"", false)?, &target)?;
    }
    send(channel, &Message::Console(master))?;
    rustix::stdio::dup2_stdin(&slave)?;
    rustix::stdio::dup2_stdout(&slave)?;
    rustix::stdio::dup2_stderr(&slave)
}
