//! Which namespaces a container shares with its pod, with the host, and with another container.

use std::path::PathBuf;

use kernel::cgroup::Layout;
use oci_runtime::contract::{IdMapping, Linux, Namespace, NamespaceType};

use crate::contract::Error;
use crate::contract::v1::{self, NamespaceMode, NamespaceOption, UserNamespace};

const FIELD: &str = "config.linux.security_context.namespace_options";

/// What a pod has to share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    /// What the pod was asked for.
    pub(super) options: NamespaceOption,
    /// Where its network namespace is pinned; unused with the host's.
    pub(super) network: PathBuf,
    /// Namespaces its shim holds, by kind.
    pub(super) held: Vec<(String, String)>,
}

/// Fills in `linux.namespaces` and the mappings that go with them. `target` is the PID of the container that `target_id`
/// names, if one is named.
pub(super) fn fill(
    linux: &mut Linux,
    shared: &Shared,
    asked: Option<&NamespaceOption>,
    target: Option<i32>,
    privileged: bool,
    layout: Layout,
) -> Result<(), Error> {
    let none = NamespaceOption::default();
    let asked = asked.unwrap_or(&none);
    check(shared, asked)?;
    let new = |kind| Namespace { kind, path: String::new() };
    let mut namespaces = vec![new(NamespaceType::Mount)];
    if shared.options.network() != NamespaceMode::Node {
        let path = shared.network.display().to_string();
        namespaces.push(Namespace { kind: NamespaceType::Network, path });
    }
    for kind in [NamespaceType::Ipc, NamespaceType::Uts, NamespaceType::User] {
        if let Some(path) = shared.path(kind.as_str()) {
            namespaces.push(Namespace { kind, path: path.to_owned() });
        }
    }
    namespaces.extend(pid(shared, asked, target)?.map(|path| Namespace { kind: NamespaceType::Pid, path }));
    // With cgroup v1 others take none either: programs look for their cgroup by its path from the root.
    if layout == Layout::Unified && !privileged {
        namespaces.push(new(NamespaceType::Cgroup));
    }
    linux.namespaces = namespaces;
    if shared.path("user").is_some()
        && let Some(user) = &shared.options.userns_options
    {
        linux.uid_mappings = user.uids.iter().map(mapping).collect();
        linux.gid_mappings = user.gids.iter().map(mapping).collect();
    }
    Ok(())
}

impl Shared {
    fn path(&self, kind: &str) -> Option<&str> {
        self.held.iter().find(|(held, _)| held == kind).map(|(_, path)| path.as_str())
    }
}

/// One mapping as the runtime specification has it.
pub(super) fn mapping(mapping: &v1::IdMapping) -> IdMapping {
    IdMapping { container_id: mapping.container_id, host_id: mapping.host_id, size: mapping.length }
}

/// A container may not have more of the host than its pod, for network, IPC and users are the pod's.
fn check(shared: &Shared, asked: &NamespaceOption) -> Result<(), Error> {
    for (name, number, pods) in
        [("network", asked.network, shared.options.network()), ("ipc", asked.ipc, shared.options.ipc())]
    {
        let mode = NamespaceMode::try_from(number).ok();
        // POD is what an unset field says, too: then it is as the pod has it.
        if !(mode == Some(NamespaceMode::Pod)
            || mode == Some(NamespaceMode::Node) && pods == NamespaceMode::Node)
        {
            let shown = mode.map_or_else(|| number.to_string(), |mode| mode.as_str_name().to_owned());
            let rule = "a container's is its pod's: give POD, or NODE where the pod has NODE";
            return Err(Error::invalid(format!("{FIELD}.{name}"), format!("is {shown}, but {rule}")));
        }
    }
    let same = |asked: &UserNamespace| {
        let none = UserNamespace { mode: NamespaceMode::Node.into(), ..UserNamespace::default() };
        asked == shared.options.userns_options.as_ref().unwrap_or(&none)
    };
    match &asked.userns_options {
        Some(asked) if !same(asked) => {
            let hint = "send the same mode and mappings, or leave it out";
            Err(Error::invalid(
                format!("{FIELD}.userns_options"),
                format!("{asked:?} is not the pod's, {:?}: {hint}", shared.options.userns_options),
            ))
        }
        _ => Ok(()),
    }
}

/// The PID namespace: none (the host's), an empty path (a new one), or one to join.
fn pid(shared: &Shared, asked: &NamespaceOption, target: Option<i32>) -> Result<Option<String>, Error> {
    match asked.pid() {
        NamespaceMode::Node => Ok(None),
        NamespaceMode::Container => Ok(Some(String::new())),
        NamespaceMode::Target => {
            let nobody = || Error::invalid(format!("{FIELD}.target_id"), "names no container to join");
            Ok(Some(format!("/proc/{}/ns/pid", target.ok_or_else(nobody)?)))
        }
        // As the pod has it.
        NamespaceMode::Pod => match shared.options.pid() {
            NamespaceMode::Node => Ok(None),
            NamespaceMode::Pod => {
                let path = shared.path("pid").ok_or_else(|| {
                    Error::internal("the pod's shim holds no PID namespace, though the pod shares one")
                })?;
                Ok(Some(path.to_owned()))
            }
            NamespaceMode::Container | NamespaceMode::Target => Ok(Some(String::new())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(options: NamespaceOption) -> Shared {
        let mut held = vec![("ipc".to_owned(), "/i".to_owned()), ("uts".to_owned(), "/u".to_owned())];
        if options.pid() == NamespaceMode::Pod {
            held.push(("pid".to_owned(), "/p".to_owned()));
        }
        Shared { options, network: "/n".into(), held }
    }

    fn of(shared: &Shared, asked: &NamespaceOption, target: Option<i32>) -> Result<Linux, Error> {
        let mut linux = Linux::default();
        fill(&mut linux, shared, Some(asked), target, false, Layout::Unified).map(|()| linux)
    }

    fn path(linux: &Linux, kind: NamespaceType) -> Option<&str> {
        linux.namespace(kind).map(|namespace| namespace.path.as_str())
    }

    fn mode(pid: NamespaceMode) -> NamespaceOption {
        NamespaceOption { pid: pid.into(), ..NamespaceOption::default() }
    }

    #[test]
    fn a_pod_shares_network_ipc_uts_and_pids() {
        let linux = of(&shared(NamespaceOption::default()), &NamespaceOption::default(), None).unwrap();
        let of = |kind| path(&linux, kind);
        assert_eq!(
            (
                of(NamespaceType::Network),
                of(NamespaceType::Ipc),
                of(NamespaceType::Uts),
                of(NamespaceType::Pid)
            ),
            (Some("/n"), Some("/i"), Some("/u"), Some("/p"))
        );
        assert_eq!((of(NamespaceType::Mount), of(NamespaceType::Cgroup)), (Some(""), Some("")));
        assert_eq!(of(NamespaceType::User), None);
    }

    #[test]
    fn modes_of_pid() {
        let pid = |pods, asked| {
            let linux = of(&shared(mode(pods)), &mode(asked), None).unwrap();
            path(&linux, NamespaceType::Pid).map(str::to_owned)
        };
        use NamespaceMode::{Container, Node, Pod};
        assert_eq!(pid(Pod, Node), None);
        assert_eq!(pid(Pod, Container).as_deref(), Some(""));
        assert_eq!(pid(Node, Pod), None);
        assert_eq!(pid(Container, Pod).as_deref(), Some(""));
        let target = NamespaceOption { target_id: "x".into(), ..mode(NamespaceMode::Target) };
        let linux = of(&shared(mode(Container)), &target, Some(7)).unwrap();
        assert_eq!(path(&linux, NamespaceType::Pid), Some("/proc/7/ns/pid"));
        assert!(of(&shared(mode(Container)), &mode(NamespaceMode::Target), None).is_err());
    }

    #[test]
    fn the_hosts_network_only_with_the_pod() {
        let host = NamespaceOption { network: NamespaceMode::Node.into(), ..NamespaceOption::default() };
        let error = of(&shared(NamespaceOption::default()), &host, None).unwrap_err();
        assert_eq!(error.field.unwrap(), format!("{FIELD}.network"));
        let linux = of(&shared(host.clone()), &NamespaceOption::default(), None).unwrap();
        assert!(linux.namespace(NamespaceType::Network).is_none());
        of(&shared(host.clone()), &host, None).unwrap();
    }

    #[test]
    fn cgroup_namespaces_on_v2_and_unprivileged_alone() {
        for (privileged, layout, want) in
            [(false, Layout::Unified, true), (true, Layout::Unified, false), (false, Layout::Legacy, false)]
        {
            let mut linux = Linux::default();
            fill(&mut linux, &shared(NamespaceOption::default()), None, None, privileged, layout).unwrap();
            assert_eq!(linux.namespace(NamespaceType::Cgroup).is_some(), want);
        }
    }

    #[test]
    fn a_user_namespace_is_the_pods() {
        let map = v1::IdMapping { host_id: 1000, container_id: 0, length: 100_000 };
        let user = UserNamespace { mode: NamespaceMode::Pod.into(), uids: vec![map], gids: vec![map] };
        let options = NamespaceOption { userns_options: Some(user.clone()), ..NamespaceOption::default() };
        let mut shared = shared(options.clone());
        shared.held.push(("user".into(), "/us".into()));
        let linux = of(&shared, &options, None).unwrap();
        assert_eq!(path(&linux, NamespaceType::User), Some("/us"));
        assert_eq!(linux.uid_mappings, [IdMapping { container_id: 0, host_id: 1000, size: 100_000 }]);
        let other = UserNamespace { gids: Vec::new(), ..user };
        let other = NamespaceOption { userns_options: Some(other), ..NamespaceOption::default() };
        assert_eq!(of(&shared, &other, None).unwrap_err().field.unwrap(), format!("{FIELD}.userns_options"));
    }
}
