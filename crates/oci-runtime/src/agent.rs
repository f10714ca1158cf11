//! The seccomp agent: gets the descriptor on which a filter asks, and the state of the container it belongs to.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};

use kernel::Act;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::Result;
use crate::contract::{self, ContainerProcessState, SECCOMP_FD, Seccomp, State};

/// Whom to send to, and what beside the descriptor.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    path: String,
    metadata: String,
    state: State,
}

impl Agent {
    /// The agent of a filter, if a rule asks one. `state` is the container's.
    pub(crate) fn of(seccomp: Option<&Seccomp>, state: &State) -> Option<Self> {
        let seccomp = seccomp.filter(|s| crate::seccomp::needs_listener(s))?;
        Some(Self {
            path: seccomp.listener_path.clone(),
            metadata: seccomp.listener_metadata.clone(),
            state: state.clone(),
        })
    }

    /// Hands the descriptor over: the filter of process `pid` asks there.
    pub(crate) fn hand_over(&self, listener: &OwnedFd, pid: i32) -> Result<()> {
        let document = ContainerProcessState {
            oci_version: contract::VERSION.to_owned(),
            fds: vec![SECCOMP_FD.to_owned()],
            pid,
            metadata: self.metadata.clone(),
            state: self.state.clone(),
        };
        let text = serde_json::to_vec(&document).map_err(std::io::Error::from);
        let text = text.act("write", || "the state for the seccomp agent")?;
        let say = || format!("the seccomp agent at {}: failed to connect with seccomp agent", self.path);
        let socket =
            crate::unix::connect(self.path.as_ref(), rustix::net::SocketType::STREAM).act("reach", say)?;
        let fds = [listener.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        let sent = rustix::io::retry_on_intr(|| {
            sendmsg(&socket, &[IoSlice::new(&text)], &mut ancillary, SendFlags::NOSIGNAL)
        });
        Ok(sent.act("send to", || format!("the seccomp agent at {}", self.path)).map(drop)?)
    }
}
