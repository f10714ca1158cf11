//! The sandbox container of a pod that a shim of others runs: what containerd has a pause image for. Its root is a directory
//! with our own program in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ledger::{Effect, Owner, Record as _};
use oci_runtime::contract::{Mount, Namespace, NamespaceType, Spec};
use oci_runtime::default_spec;
use shim::protocol::{CreateRequest, Rootfs, Started};

use super::Record;
use crate::contract::Error;
use crate::contract::v1::{NamespaceMode, PodSandboxConfig};
use crate::plugin::files;
use crate::plugin::node::Node;

/// How long it may take: a virtual machine may come with it.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// Records what a shim of others makes, and then the cgroup that it is in itself: whoever undoes them ends it first.
pub(super) fn record(node: &Node, record: &Record, owner: &mut Owner) -> Result<(), Error> {
    owner.record(Effect::Mount { path: bundle(node, &record.id).join("rootfs") }).map_err(Error::of)?;
    owner
        .record(Effect::Cgroup { path: record.cgroup.child_dir(&node.place.name, &record.id) })
        .map_err(Error::of)?;
    owner.record(Effect::Cgroup { path: shims_cgroup(node, &record.id) }).map_err(Error::of)?;
    Ok(())
}

/// Puts our shim, which has no child yet, into that cgroup: the other will be in it, too, and no moment is left in which
/// nobody knows of that.
pub(super) fn set_apart(node: &Node, id: &str, pid: i32) -> Result<(), Error> {
    let cgroup = kernel::cgroup::Cgroup::at(&shims_cgroup(node, id))?;
    cgroup.create()?;
    Ok(cgroup.add(pid)?)
}

fn bundle(node: &Node, id: &str) -> PathBuf {
    node.place.pod_run(id).join("sandbox")
}

fn shims_cgroup(node: &Node, id: &str) -> PathBuf {
    Path::new(&node.place.name).join(format!("{id}-shim"))
}

/// Makes the container's bundle.
pub(super) fn prepare(node: &Node, record: &Record) -> Result<CreateRequest, Error> {
    let bundle = bundle(node, &record.id);
    let root = bundle.join("root");
    for dir in ["dev", "etc", "proc", "sys", "tmp"] {
        files::make_dir(&root.join(dir))?;
    }
    let program = root.join(shim::PAUSE);
    std::fs::File::create(&program)
        .map_err(|e| Error::internal(format!("cannot create {}: {e}", program.display())))?;
    let mut spec = spec(node, record);
    node.handlers.suit(record, &mut spec);
    files::write_json(&bundle.join("config.json"), &spec)?;
    Ok(CreateRequest {
        id: record.id.clone(),
        bundle: bundle.display().to_string(),
        rootfs: Some(Rootfs { directory: root.display().to_string(), ..Rootfs::default() }),
        ..CreateRequest::default()
    })
}

/// Records the socket that the other shim has made.
pub(super) fn record_socket(created: &Started, owner: &mut Owner) -> Result<(), Error> {
    if !created.shim_socket.is_empty() {
        owner.record(Effect::File { path: created.shim_socket.clone().into() }).map_err(Error::of)?;
    }
    Ok(())
}

fn spec(node: &Node, record: &Record) -> Spec {
    let mut spec = default_spec::container();
    let process = spec.process.get_or_insert_default();
    process.args = vec![format!("/{}", shim::PAUSE)];
    // It goes last of all that is the pod's.
    process.oom_score_adj = node.shim_oom_score_adj.or(Some(0));
    process.no_new_privileges = true;
    spec.root.get_or_insert_default().readonly = true;
    spec.hostname = String::new();
    spec.mounts.retain(|mount| mount.kind != "cgroup");
    spec.mounts.push(program(node.binary.path()));
    spec.annotations = annotations(&record.id, &record.config);
    let linux = spec.linux.get_or_insert_default();
    linux.cgroups_path = record.cgroup.child(&node.place.name, &record.id);
    linux.namespaces = namespaces(node, record);
    spec
}

/// Our own program, as the file that is executed.
fn program(path: &Path) -> Mount {
    Mount {
        destination: format!("/{}", shim::PAUSE),
        kind: "bind".into(),
        source: path.display().to_string(),
        options: ["bind", "ro"].map(str::to_owned).to_vec(),
        ..Mount::default()
    }
}

/// The pod's own, by their paths, so that the pod's containers are in them, too. PIDs are its own unless they are shared.
fn namespaces(node: &Node, record: &Record) -> Vec<Namespace> {
    let options = super::namespace_options(&record.config);
    let held = |kind: NamespaceType| {
        let path = record.namespaces.iter().find(|(held, _)| held == kind.as_str());
        path.map(|(_, path)| Namespace { kind, path: path.clone() })
    };
    let new = |kind| Namespace { kind, path: String::new() };
    let mut all = vec![new(NamespaceType::Mount)];
    if options.network() != NamespaceMode::Node {
        let path = node.place.netns(&record.id).display().to_string();
        all.push(Namespace { kind: NamespaceType::Network, path });
    }
    all.extend([NamespaceType::Ipc, NamespaceType::Uts].into_iter().filter_map(held));
    if options.pid() != NamespaceMode::Node {
        all.push(held(NamespaceType::Pid).unwrap_or_else(|| new(NamespaceType::Pid)));
    }
    all
}

/// Who it is, under the names that containerd gives.
fn annotations(id: &str, config: &PodSandboxConfig) -> BTreeMap<String, String> {
    let metadata = config.metadata.clone().unwrap_or_default();
    let linux = config.linux.clone().unwrap_or_default();
    let resources = linux.resources.unwrap_or_default();
    [
        ("container-type", "sandbox".to_owned()),
        ("sandbox-id", id.to_owned()),
        ("sandbox-name", metadata.name),
        ("sandbox-namespace", metadata.namespace),
        ("sandbox-uid", metadata.uid),
        ("sandbox-log-directory", config.log_directory.clone()),
        // A virtual machine is made for these.
        ("sandbox-cpu-period", resources.cpu_period.to_string()),
        ("sandbox-cpu-quota", resources.cpu_quota.to_string()),
        ("sandbox-cpu-shares", resources.cpu_shares.to_string()),
        ("sandbox-memory", resources.memory_limit_in_bytes.to_string()),
    ]
    .map(|(key, value)| (format!("io.kubernetes.cri.{key}"), value))
    .into()
}
