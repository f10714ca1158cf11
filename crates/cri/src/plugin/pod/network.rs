//! A pod's network: its namespace, and its attachment through CNI.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cni::caller::{Caller, Directory};
use cni::contract::{Attachment, NetworkList, PluginConf};
use kernel::netlink::SetLink;
use ledger::{Effect, Owner, Record as _};
use oci_runtime::contract::sysctl_path;
use serde_json::{Map, Value, json};

use super::Record;
use crate::contract::Error;
use crate::contract::v1::{NamespaceMode, PodSandboxConfig, Protocol};
use crate::plugin::files;
use crate::plugin::node::Node;

const INTERFACE: &str = "eth0";

/// The network that pods are attached to, as the configuration directory has it now.
#[derive(Debug)]
pub(crate) struct Networks {
    directory: Directory,
    /// What pods get where the directory has nothing, if anything.
    built_in: Option<NetworkList>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// `None`: read again before the next use. An error says why there is no network.
    current: Option<Result<Arc<NetworkList>, String>>,
    /// Counts changes: what was read before one is not kept after it.
    changes: u64,
}

impl Networks {
    /// Networks of the directory at `path`, and `built_in` where that has none.
    pub(crate) fn new(path: &Path, built_in: Option<NetworkList>) -> Self {
        Self { directory: Directory::new(path), built_in, known: Mutex::default() }
    }

    /// The directory.
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory may have changed.
    pub(crate) fn forget(&self) {
        let mut known = self.known();
        known.current = None;
        known.changes += 1;
    }

    /// The network that a new pod is attached to; why there is none. May read the directory.
    pub(crate) fn current(&self) -> Result<Arc<NetworkList>, Error> {
        let (current, changes) = {
            let known = self.known();
            (known.current.clone(), known.changes)
        };
        let current = current.unwrap_or_else(|| {
            let read = self.read();
            let mut known = self.known();
            if known.changes == changes {
                known.current = Some(read.clone());
            }
            read
        });
        current.map_err(Error::unavailable)
    }

    fn read(&self) -> Result<Arc<NetworkList>, String> {
        match (self.directory.first(), &self.built_in) {
            (Ok(list), _) => Ok(Arc::new(list)),
            (Err(_), Some(list)) => Ok(Arc::new(list.clone())),
            (Err(error), None) => Err(format!(
                "cni plugin not initialized: {error} (a network add-on puts a configuration there; `builtin = true` in \
                 [network] gives pods a bridge without one)"
            )),
        }
    }
}

/// Makes and pins the pod's network namespace (or pins the one that its shim made, at `made`) and attaches it to the
/// current network. Everything is recorded with `owner` first.
pub(super) fn attach(
    node: &Node,
    record: &Record,
    made: Option<&str>,
    owner: &mut Owner,
) -> Result<(String, Vec<IpAddr>), Error> {
    let list = node.networks.current()?;
    let path = node.place.netns(&record.id);
    if let Some(dir) = path.parent() {
        files::make_dir(dir)?;
    }
    owner.record(Effect::Netns { path: path.clone() }).map_err(Error::of)?;
    match made {
        None => kernel::namespace::pin_new_netns(&path)?,
        Some(made) => kernel::namespace::pin(Path::new(made), &path)?,
    }
    let sysctls = record.config.linux.iter().flat_map(|l| &l.sysctls).filter(|(key, _)| is_net(key));
    settle(&path, sysctls)?;
    if list.plugins.iter().any(|plugin| outlasts_the_ledger(node, plugin)) {
        let attaching = Record { network: Some(list.name.clone()), ..record.clone() };
        files::write_json(&node.place.pod(&record.id).join(super::ATTACHING), &attaching)?;
    }
    let added = node.cni.add(&list, &attachment(node, record)?, owner).map_err(|error| {
        let whose = record.config.metadata.clone().unwrap_or_default();
        Error::internal(format!(
            "cannot attach pod {}/{} to its network: {error}",
            whose.namespace, whose.name
        ))
    })?;
    super::mesh::tell(node, record, &path);
    let mut addresses: Vec<IpAddr> = added.addresses().iter().map(|net| net.address()).collect();
    addresses.dedup();
    Ok((list.name.clone(), addresses))
}

/// Whether something of the plugin's is to be taken back by its DEL, where the ledger is undone or gone: it, or who gives its
/// addresses, is a program of others, or keeps leases on disk over a reboot.
fn outlasts_the_ledger(node: &Node, plugin: &PluginConf) -> bool {
    let foreign = |kind: &str| !node.cni.builtins.contains_key(kind);
    let ipam = plugin.ipam_type().ok().flatten();
    foreign(&plugin.kind) || ipam.is_some_and(|kind| foreign(kind) || kind == "host-local")
}

/// Whether a sysctl is the network namespace's.
pub(super) fn is_net(key: &str) -> bool {
    sysctl_path(key).starts_with("net/")
}

/// Loopback is up in every pod, whatever the network's plugins do; sysctls are the pod's.
fn settle<'a>(netns: &Path, sysctls: impl Iterator<Item = (&'a String, &'a String)>) -> Result<(), Error> {
    let file = std::fs::File::open(netns)
        .map_err(|e| Error::internal(format!("cannot open {}: {e}", netns.display())))?;
    let sysctls: Vec<_> = sysctls.collect();
    kernel::namespace::in_netns(&file, || {
        let mut socket = kernel::netlink::Socket::open(kernel::netlink::Protocol::Route)?;
        let mut batch = kernel::netlink::Batch::new();
        batch.set_link(&SetLink::named("lo").up(true));
        socket.run(&batch)?;
        sysctls.iter().try_for_each(|(key, value)| kernel::netlink::sysctl::write(&sysctl_path(key), value))
    })?;
    Ok(())
}

/// Detaches the pod; what is left is undone with the owner's records. Nothing there is done.
///
/// What the ledger and the kernel had of another boot is gone, and what plugins of others keep on disk is not.
pub(crate) fn detach(node: &Node, record: &Record, owner: &mut Owner) -> Result<(), Error> {
    let path = node.place.netns(&record.id);
    let recorded =
        owner.records().iter().any(|(_, effect)| matches!(effect, Effect::Netns { path: p } if *p == path));
    let in_other_boot = record.network.is_some() && record.boot != node.boot;
    if !recorded && !path.exists() && !in_other_boot {
        return Ok(());
    }
    // The cache has the configuration it was attached with; the present one is for where that is gone.
    let list = match node.networks.current() {
        Ok(list) => list,
        Err(_) => Arc::new(cni::caller::loopback_network().map_err(|e| Error::internal(e.to_string())).map(
            |mut list| {
                list.name = record.network.clone().unwrap_or(list.name);
                list
            },
        )?),
    };
    let list = match &record.network {
        Some(name) if *name != list.name => {
            let mut list = NetworkList::clone(&list);
            list.name.clone_from(name);
            Arc::new(list)
        }
        _ => list,
    };
    node.cni
        .del(&list, &attachment(node, record)?, owner)
        .map_err(|e| Error::internal(format!("cannot detach pod sandbox {}: {e}", record.id)))
}

/// The runtime's side of CNI for this node.
pub(crate) fn caller(
    place: &super::super::Place,
    builtins: cni::contract::Registry,
    dirs: &[PathBuf],
) -> Caller {
    let mut caller = Caller::new(builtins, place.cni_cache());
    caller.plugin_dirs = dirs.to_vec();
    caller
}

fn attachment(node: &Node, record: &Record) -> Result<Attachment, Error> {
    let netns = node.place.netns(&record.id);
    let mut attachment = Attachment::new(&*record.id, INTERFACE, netns.exists().then_some(netns))
        .map_err(|e| Error::internal(e.to_string()))?;
    let metadata = record.config.metadata.clone().unwrap_or_default();
    attachment.args = [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", &metadata.namespace),
        ("K8S_POD_NAME", &metadata.name),
        ("K8S_POD_INFRA_CONTAINER_ID", &record.id),
        ("K8S_POD_UID", &metadata.uid),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec();
    attachment.capability_args = capabilities(&record.config, &record.cgroup.dir());
    Ok(attachment)
}

/// What plugins that declare the capability are told.
fn capabilities(config: &PodSandboxConfig, cgroup: &Path) -> Map<String, Value> {
    let mut values = Map::new();
    let ports: Vec<Value> = config
        .port_mappings
        .iter()
        .filter(|mapping| mapping.host_port > 0)
        .map(|mapping| {
            let protocol = match mapping.protocol() {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
                Protocol::Sctp => "sctp",
            };
            let mut port = json!({
                "hostPort": mapping.host_port, "containerPort": mapping.container_port, "protocol": protocol,
            });
            if !mapping.host_ip.is_empty() {
                port["hostIP"] = json!(mapping.host_ip);
            }
            port
        })
        .collect();
    if !ports.is_empty() {
        values.insert("portMappings".into(), ports.into());
    }
    if let Some(dns) = &config.dns_config
        && !(dns.servers.is_empty() && dns.searches.is_empty() && dns.options.is_empty())
    {
        let dns = json!({"servers": dns.servers, "searches": dns.searches, "options": dns.options});
        values.insert("dns".into(), dns);
    }
    let rate = |key: &str| config.annotations.get(key).and_then(|text| super::names::quantity(text));
    let (ingress, egress) = (rate("kubernetes.io/ingress-bandwidth"), rate("kubernetes.io/egress-bandwidth"));
    if ingress.is_some() || egress.is_some() {
        let mut bandwidth = Map::new();
        for (name, rate) in [("ingress", ingress), ("egress", egress)] {
            if let Some(rate) = rate {
                bandwidth.insert(format!("{name}Rate"), rate.into());
                // As much as the token bucket's counter holds: the rate alone is the limit.
                bandwidth.insert(format!("{name}Burst"), u32::MAX.into());
            }
        }
        values.insert("bandwidth".into(), bandwidth.into());
    }
    values.insert("io.kubernetes.cri.pod-annotations".into(), json!(config.annotations));
    values.insert("cgroupPath".into(), json!(format!("/{}", cgroup.display())));
    values
}

/// Whether the pod is on the host's network.
pub(crate) fn is_host(config: &PodSandboxConfig) -> bool {
    super::namespace_options(config).network() == NamespaceMode::Node
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctls_are_paths() {
        assert_eq!(sysctl_path("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(sysctl_path("net.ipv4.conf.eth0/1.forwarding"), "net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.1/forwarding"), "net/ipv4/conf/eth0.1/forwarding");
    }
}
