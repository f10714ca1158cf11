//! The pod's namespaces. This process is in those for IPC and host names itself: it has one thread. What a user
//! namespace is to own is born with it, in a copy of this process.

use std::os::fd::{AsFd, OwnedFd};

use kernel::Act;
use kernel::process::{Child, NewNamespaces};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use std::os::fd::AsRawFd;

use super::{init, sysctl};
use crate::protocol::{Namespace, SandboxRequest};
use crate::server::connection::Refusal;

/// What was made.
pub(super) struct Made {
    pub(super) init: Option<Child>,
    pub(super) held: Vec<OwnedFd>,
    pub(super) named: Vec<Namespace>,
}

pub(super) fn make(request: &SandboxRequest) -> Result<Made, Refusal> {
    let mut held = Vec::new();
    let mut named = Vec::new();
    let mut network = None;
    let init = match &request.user {
        Some(user) => {
            let mut new = NewNamespaces::USER;
            for (wanted, kind) in [
                (request.ipc, NewNamespaces::IPC),
                (request.uts, NewNamespaces::UTS),
                (request.network, NewNamespaces::NET),
                (request.share_pid, NewNamespaces::PID),
            ] {
                new = if wanted { new.with(kind) } else { new };
            }
            let born = init::begin(new, Some(user))?;
            for (wanted, file, kind) in [
                (request.ipc, "ipc", LinkNameSpaceType::InterProcessCommunication),
                (request.uts, "uts", LinkNameSpaceType::HostNameAndNISDomainName),
            ] {
                if wanted {
                    let namespace = open(&born, file)?;
                    move_into_link_name_space(namespace.as_fd(), Some(kind))
                        .act("enter", || format!("the pod's {file} namespace"))
                        .map_err(Refusal::internal)?;
                }
            }
            if request.network {
                network = Some(open(&born, "net")?);
            }
            hold(&mut held, &mut named, "user", open(&born, "user")?);
            set_up(request, network.as_ref())?;
            if request.share_pid { Some(born.go()?) } else { born.end().map(|()| None)? }
        }
        None => {
            let mut flags = UnshareFlags::empty();
            flags.set(UnshareFlags::NEWIPC, request.ipc);
            flags.set(UnshareFlags::NEWUTS, request.uts);
            kernel::namespace::unshare(flags)
                .act("create", || "the pod's namespaces")
                .map_err(Refusal::internal)?;
            set_up(request, None)?;
            if request.share_pid { Some(init::begin(NewNamespaces::PID, None)?.go()?) } else { None }
        }
    };
    if let Some(network) = network {
        hold(&mut held, &mut named, "network", network);
    }
    let own = std::process::id() as i32;
    for (wanted, kind) in [(request.ipc, "ipc"), (request.uts, "uts")] {
        if wanted {
            named.push(Namespace { kind: kind.into(), path: format!("/proc/{own}/ns/{kind}") });
        }
    }
    if let Some(init) = &init {
        named.push(Namespace { kind: "pid".into(), path: format!("/proc/{}/ns/pid", init.pid) });
    }
    Ok(Made { init, held, named })
}

/// From inside the IPC and UTS namespaces.
fn set_up(request: &SandboxRequest, network: Option<&OwnedFd>) -> Result<(), Refusal> {
    if !request.hostname.is_empty() {
        rustix::system::sethostname(request.hostname.as_bytes())
            .act("set", || format!("hostname {:?}", request.hostname))
            .map_err(Refusal::internal)?;
    }
    sysctl::write(request, network)
}

fn open(born: &init::Born, file: &str) -> Result<OwnedFd, Refusal> {
    let path = format!("/proc/{}/ns/{file}", born.pid());
    rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .act("open", || path)
        .map_err(Refusal::internal)
}

fn hold(held: &mut Vec<OwnedFd>, named: &mut Vec<Namespace>, kind: &str, file: OwnedFd) {
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    named.push(Namespace { kind: kind.into(), path });
    held.push(file);
}
