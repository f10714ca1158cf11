//! The pod's kernel parameters: only those that a namespace of its own has.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use kernel::Act;
use oci_runtime::contract::{NamespaceType, sysctl_path, sysctl_scope};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::protocol::{Code, SandboxRequest};
use crate::server::connection::Refusal;
use crate::server::rootfs::root_of;

/// Whether each belongs to a namespace that is made here.
pub(super) fn check(request: &SandboxRequest) -> Result<(), Refusal> {
    for name in request.sysctls.keys() {
        let own = match sysctl_scope(name) {
            Some(NamespaceType::Ipc) => request.ipc,
            Some(NamespaceType::Uts) => request.uts,
            Some(NamespaceType::Network) => request.network,
            _ => false,
        };
        if !own {
            let message =
                format!("sysctls.{name} belongs to no namespace that the pod's shim makes (leave it out)");
            return Err(Refusal::new(Code::InvalidArgument, message));
        }
    }
    Ok(())
}

/// Writes them, from inside the IPC and UTS namespaces; those of the network in `network`.
pub(super) fn write(request: &SandboxRequest, network: Option<&OwnedFd>) -> Result<(), Refusal> {
    let of = |kind: NamespaceType| -> Vec<(&String, &String)> {
        request.sysctls.iter().filter(|(name, _)| sysctl_scope(name) == Some(kind)).collect()
    };
    write_all(&of(NamespaceType::Uts))?;
    as_root_of(request, || write_all(&of(NamespaceType::Ipc)))?;
    let net = of(NamespaceType::Network);
    let Some(network) = network.filter(|_| !net.is_empty()) else { return Ok(()) };
    let enter = |namespace: &OwnedFd| {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .act("enter", || "a network namespace")
            .map_err(Refusal::internal)
    };
    let own = rustix::fs::open(
        c"/proc/self/ns/net",
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(Refusal::internal)?;
    enter(network)?;
    let written = write_all(&net);
    enter(&own)?;
    written
}

/// Does something as the root of the pod's user namespace: the parameters of an IPC namespace are its files, and no
/// capability counts for them.
fn as_root_of(request: &SandboxRequest, work: impl FnOnce() -> Result<(), Refusal>) -> Result<(), Refusal> {
    let Some(user) = &request.user else { return work() };
    let (uid, gid) = (root_of(&user.uid_mappings), root_of(&user.gid_mappings));
    kernel::capability::as_user(uid, gid, work).map_err(Refusal::internal)?
}

fn write_all(parameters: &[(&String, &String)]) -> Result<(), Refusal> {
    for (name, value) in parameters {
        let path = Path::new("/proc/sys").join(sysctl_path(name));
        // Not `fs::write`: what is not there must not be created.
        let file = fs::OpenOptions::new().write(true).open(&path);
        let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, value.as_bytes()));
        written.map_err(|e| {
            let code = match e.kind() {
                std::io::ErrorKind::InvalidInput | std::io::ErrorKind::NotFound => Code::InvalidArgument,
                _ => Code::Internal,
            };
            Refusal::new(code, format!("cannot set sysctls.{name} to {value:?}: {e}"))
        })?;
    }
    Ok(())
}
