//! What the container's process tells its parent between clone and exec: few bytes, made without allocating.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// A step on the way from clone to exec. The index beside it counts mounts, devices and the like, as the plan does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    EnterCgroup,
    JoinNamespace,
    Unshare,
    AwaitMapping,
    BecomeRoot,
    OomScore,
    Propagation,
    MakeMount,
    AttachRoot,
    PivotRoot,
    MountTarget,
    AttachMount,
    MountAttributes,
    DeviceNode,
    DeviceLink,
    CreateContainerHook,
    Console,
    Sysctl,
    MaskPath,
    ReadOnlyPath,
    ReadOnlyRoot,
    HostName,
    DomainName,
    AwaitStart,
    Session,
    Stdio,
    WorkingDirectory,
    Rlimit,
    Groups,
    GroupId,
    UserId,
    Capabilities,
    NoNewPrivileges,
    Seccomp,
    Listener,
    CloseDescriptors,
    StartContainerHook,
    Exec,
    Affinity,
    Scheduler,
    IoPriority,
    MemoryPolicy,
    Personality,
    AppArmor,
    SelinuxLabel,
    MountLabel,
    CopyUp,
    Remount,
    Clone,
    Keyring,
}

const STEPS: [Step; 50] = [
    Step::EnterCgroup,
    Step::JoinNamespace,
    Step::Unshare,
    Step::AwaitMapping,
    Step::BecomeRoot,
    Step::OomScore,
    Step::Propagation,
    Step::MakeMount,
    Step::AttachRoot,
    Step::PivotRoot,
    Step::MountTarget,
    Step::AttachMount,
    Step::MountAttributes,
    Step::DeviceNode,
    Step::DeviceLink,
    Step::CreateContainerHook,
    Step::Console,
    Step::Sysctl,
    Step::MaskPath,
    Step::ReadOnlyPath,
    Step::ReadOnlyRoot,
    Step::HostName,
    Step::DomainName,
    Step::AwaitStart,
    Step::Session,
    Step::Stdio,
    Step::WorkingDirectory,
    Step::Rlimit,
    Step::Groups,
    Step::GroupId,
    Step::UserId,
    Step::Capabilities,
    Step::NoNewPrivileges,
    Step::Seccomp,
    Step::Listener,
    Step::CloseDescriptors,
    Step::StartContainerHook,
    Step::Exec,
    Step::Affinity,
    Step::Scheduler,
    Step::IoPriority,
    Step::MemoryPolicy,
    Step::Personality,
    Step::AppArmor,
    Step::SelinuxLabel,
    Step::MountLabel,
    Step::CopyUp,
    Step::Remount,
    Step::Clone,
    Step::Keyring,
];

/// A step that did not go as planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    pub(crate) index: u16,
    pub(crate) errno: Errno,
}

/// Puts the step on a bare errno.
pub(crate) trait At<T> {
    fn at(self, step: Step, index: usize) -> Result<T, Failure>;
}

impl<T> At<T> for rustix::io::Result<T> {
    fn at(self, step: Step, index: usize) -> Result<T, Failure> {
        self.map_err(|errno| Failure { step, index: index as u16, errno })
    }
}

/// A message, either way.
#[derive(Debug)]
pub(crate) enum Message {
    /// Child: all is in place but the program.
    Ready,
    /// Child: a step failed, and the process ends.
    Failed(Failure),
    /// Child: a step could not be done in full, and it goes on. The word says how much was left undone.
    Warning(Failure, u64),
    /// Child: the master of its terminal.
    Console(OwnedFd),
    /// Child: the descriptor on which its system call filter asks.
    Listener(OwnedFd),
    /// Child: the root is furnished and not changed to yet: time for hooks.
    Hooks,
    /// A process in between: the container's, or the program's, and its number for who is in the same PID namespace.
    Born(OwnedFd, i32),
    /// Child: a tree of its own, whose ids the parent maps: that of the mount with this index.
    Tree(OwnedFd, u16),
    /// Parent: this process is in its cgroup.
    Placed,
    /// Parent: the ids are mapped.
    Mapped,
    /// Either side: its hooks have run.
    HooksDone,
    /// Parent: wait for the start on the listening socket; this side closes now.
    Detach,
    /// Parent: execute the program.
    Start,
}

const LENGTH: usize = 16;

/// Sends a message; a console's descriptor goes with it.
pub(crate) fn send(channel: BorrowedFd<'_>, message: &Message) -> rustix::io::Result<()> {
    let mut bytes = [0_u8; LENGTH];
    let mut failure = |kind: u8, failure: &Failure, rest: u64| {
        bytes[0] = kind;
        bytes[1] = failure.step as u8;
        bytes[2..4].copy_from_slice(&failure.index.to_ne_bytes());
        bytes[4..8].copy_from_slice(&failure.errno.raw_os_error().to_ne_bytes());
        bytes[8..].copy_from_slice(&rest.to_ne_bytes());
    };
    let mut fd = None;
    match message {
        Message::Ready => bytes[0] = b'r',
        Message::Failed(f) => failure(b'f', f, 0),
        Message::Warning(f, rest) => failure(b'w', f, *rest),
        Message::Console(master) => {
            bytes[0] = b'c';
            fd = Some([master.as_fd()]);
        }
        Message::Listener(listener) => {
            bytes[0] = b'l';
            fd = Some([listener.as_fd()]);
        }
        Message::Hooks => bytes[0] = b'h',
        Message::Born(pidfd, pid) => {
            bytes[0] = b'b';
            bytes[4..8].copy_from_slice(&pid.to_ne_bytes());
            fd = Some([pidfd.as_fd()]);
        }
        Message::Tree(tree, index) => {
            bytes[0] = b'i';
            bytes[2..4].copy_from_slice(&index.to_ne_bytes());
            fd = Some([tree.as_fd()]);
        }
        Message::Placed => bytes[0] = b'p',
        Message::Mapped => bytes[0] = b'm',
        Message::HooksDone => bytes[0] = b'd',
        Message::Detach => bytes[0] = b't',
        Message::Start => bytes[0] = b's',
    }
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if let Some(fd) = &fd {
        ancillary.push(SendAncillaryMessage::ScmRights(fd));
    }
    let io = [std::io::IoSlice::new(&bytes)];
    rustix::io::retry_on_intr(|| sendmsg(channel, &io, &mut ancillary, SendFlags::NOSIGNAL)).map(drop)
}

/// Receives a message; `None` once the other side is closed.
pub(crate) fn receive(channel: BorrowedFd<'_>) -> rustix::io::Result<Option<Message>> {
    let mut bytes = [0_u8; LENGTH];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut io = [std::io::IoSliceMut::new(&mut bytes)];
        match recvmsg(channel, &mut io, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            // The child was killed with our last message unread.
            Err(Errno::CONNRESET) => return Ok(None),
            other => break other?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let number = i32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    let failure = || {
        let step = *STEPS.get(usize::from(bytes[1])).ok_or(Errno::BADMSG)?;
        let index = u16::from_ne_bytes([bytes[2], bytes[3]]);
        let errno = Errno::from_raw_os_error(number);
        Ok(Failure { step, index, errno })
    };
    let rest = u64::from_ne_bytes([
        bytes[8], bytes[9], bytes[10], bytes[11], bytes[12], bytes[13], bytes[14], bytes[15],
    ]);
    Ok(Some(match bytes[0] {
        b'r' => Message::Ready,
        b'f' => Message::Failed(failure()?),
        b'w' => Message::Warning(failure()?, rest),
        b'p' => Message::Placed,
        b'm' => Message::Mapped,
        b's' => Message::Start,
        b'h' => Message::Hooks,
        b'd' => Message::HooksDone,
        b't' => Message::Detach,
        kind @ (b'b' | b'c' | b'i' | b'l') => {
            let fd = ancillary.drain().find_map(|m| match m {
                RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                _ => None,
            });
            let fd = fd.ok_or(Errno::BADMSG)?;
            match kind {
                b'b' => Message::Born(fd, number),
                b'c' => Message::Console(fd),
                b'i' => Message::Tree(fd, u16::from_ne_bytes([bytes[2], bytes[3]])),
                _ => Message::Listener(fd),
            }
        }
        _ => return Err(Errno::BADMSG),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    #[test]
    fn every_step_keeps_its_number() {
        assert!(STEPS.iter().enumerate().all(|(n, step)| *step as usize == n));
    }

    #[test]
    fn messages_arrive_whole() {
        let (a, b) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let failure = Failure { step: Step::AttachMount, index: 300, errno: Errno::ACCESS };
        send(a.as_fd(), &Message::Warning(failure, 7)).unwrap();
        send(a.as_fd(), &Message::Console(std::fs::File::open("/dev/null").unwrap().into())).unwrap();
        drop(a);
        let first = receive(b.as_fd()).unwrap();
        assert!(matches!(first, Some(Message::Warning(f, 7)) if f == failure));
        assert!(matches!(receive(b.as_fd()).unwrap(), Some(Message::Console(_))));
        assert!(receive(b.as_fd()).unwrap().is_none());
    }
}
