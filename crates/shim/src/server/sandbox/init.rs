//! The first process of a pod's namespaces: a copy of this one that does nothing. Where the pod's containers share a PID
//! namespace it stays, and the kernel reaps in its name; else it ends as soon as this process holds what was born with it.

use std::os::fd::OwnedFd;

use kernel::Act;
use kernel::process::{Child, Cloned, NewNamespaces, clone, close_all_but, exit_now, reap_for_ever};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Signal;

use crate::protocol::UserNamespace;
use crate::server::connection::Refusal;
use crate::server::rootfs::map_text;

/// It waits to be told to go on. Dropped, it ends: it hears this process's end of the channel close.
#[derive(Debug)]
pub(super) struct Born {
    child: Child,
    channel: OwnedFd,
}

/// Makes it, in new namespaces; `user` are the mappings of a new user namespace among them.
pub(super) fn begin(new: NewNamespaces, user: Option<&UserNamespace>) -> Result<Born, Refusal> {
    let (channel, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .act("make", || "a channel to the pod's first process")
            .map_err(Refusal::internal)?;
    let child = match clone(new, None).map_err(Refusal::internal)? {
        Cloned::Parent(child) => child,
        Cloned::Child => {
            // Held here too, the parent's end would never be seen to close.
            drop(channel);
            live(&theirs, user.is_some())
        }
    };
    drop(theirs);
    let born = Born { child, channel };
    if let Some(user) = user {
        born.map(user)?;
        born.tell()?;
        born.hear()?;
    }
    Ok(born)
}

impl Born {
    pub(super) fn pid(&self) -> i32 {
        self.child.pid
    }

    fn map(&self, user: &UserNamespace) -> Result<(), Refusal> {
        for (file, mappings) in [("uid_map", &user.uid_mappings), ("gid_map", &user.gid_mappings)] {
            let (path, text) = (format!("/proc/{}/{file}", self.pid()), map_text(mappings));
            std::fs::write(&path, &text)
                .act("write", || format!("{text:?} to {path}"))
                .map_err(Refusal::internal)?;
        }
        Ok(())
    }

    fn tell(&self) -> Result<(), Refusal> {
        rustix::io::write(&self.channel, b"1")
            .act("reach", || "the pod's first process")
            .map_err(Refusal::internal)
            .map(drop)
    }

    fn hear(&self) -> Result<(), Refusal> {
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.channel, &mut [0_u8; 1])) {
            Ok(1) => Ok(()),
            _ => Err(Refusal::internal("the pod's first process has ended early")),
        }
    }

    /// It stays.
    pub(super) fn go(self) -> Result<Child, Refusal> {
        self.tell()?;
        self.hear()?;
        Ok(self.child)
    }

    /// It ends.
    pub(super) fn end(self) -> Result<(), Refusal> {
        drop(self.channel);
        self.child.wait().map(drop).map_err(Refusal::internal)
    }
}

/// In the copy. Allocates nothing.
fn live(channel: &OwnedFd, has_user: bool) -> ! {
    let heard = || matches!(rustix::io::retry_on_intr(|| rustix::io::read(channel, &mut [0_u8; 1])), Ok(1));
    let prepare = || -> rustix::io::Result<()> {
        if has_user {
            if !heard() {
                exit_now(0);
            }
            // Root of the namespace, not a stranger in it.
            rustix::thread::set_thread_res_gid(
                rustix::process::Gid::ROOT,
                rustix::process::Gid::ROOT,
                rustix::process::Gid::ROOT,
            )?;
            rustix::thread::set_thread_res_uid(
                rustix::process::Uid::ROOT,
                rustix::process::Uid::ROOT,
                rustix::process::Uid::ROOT,
            )?;
            rustix::io::write(channel, b"1")?;
        }
        // Whoever killed the shim has ended the pod. A change of ids forgets it, so it comes after.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        rustix::process::setsid().map(drop)?;
        rustix::thread::set_name(c"sextant-pod")
    };
    // If the parent has ended by now, nobody is at the other end.
    if prepare().is_err() || !heard() || rustix::io::write(channel, b"1").is_err() {
        exit_now(0);
    }
    if close_all_but(0, [None::<std::os::fd::BorrowedFd<'_>>]).is_err() {
        exit_now(1);
    }
    reap_for_ever()
}
