//! A container's network: namespace, attachment through CNI, and the three files about names.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cni::caller::{Added, CONF_DIR, Caller, Network};
use cni::contract::{Attachment, NetworkList, PortMapping};
use kernel::netlink::IpNet;
use ledger::{Effect, Record as _};
use serde_json::{Map, json};

use super::record::write_whole;
use super::{NetworkRecord, Record};
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;

/// The name of an address inside and outside is kept in this file of the bundle.
pub(crate) fn hosts_file_name() -> &'static str {
    "hosts"
}

/// What `--network` means.
#[derive(Debug)]
pub(super) enum Mode {
    /// This machine's own.
    Host,
    /// Another container's, by its id.
    Container(String),
    /// A namespace of its own on this network.
    Own(Box<NetworkList>),
}

const PLUGIN_DIR: &str = "/opt/cni/bin";
const INTERFACE: &str = "eth0";

impl Mode {
    pub(super) fn of(instance: &Instance, mode: &str) -> Result<Self> {
        if let Some(other) = mode.strip_prefix("container:") {
            return Ok(Self::Container(super::find(instance, other)?.id));
        }
        match Network::choose(
            mode,
            &names(instance),
            &[subnet(instance)?],
            &instance.run,
            Path::new(CONF_DIR),
        )? {
            Network::Host => Ok(Self::Host),
            Network::List(list) => Ok(Self::Own(list)),
        }
    }
}

fn names(instance: &Instance) -> cni::caller::Instance {
    cni::caller::Instance::new(instance.name.strip_prefix("sextant-").unwrap_or_default())
}

/// The installed instance's subnet, and one of its own for each other: two instances route to different places.
fn subnet(instance: &Instance) -> Result<IpNet> {
    let text =
        match instance.name.strip_prefix("sextant-").and_then(|hash| u32::from_str_radix(hash, 16).ok()) {
            None => "10.64.0.0/20".to_owned(),
            Some(hash) => {
                let block = 16 + hash % 8176; // of the 8192 networks of 10.64.0.0/11, behind the first sixteen
                format!("10.{}.{}.0/24", 64 + block / 256, block % 256)
            }
        };
    text.parse().map_err(|_| Failure::new(format!("cannot use the subnet {text}")))
}

/// What the machine is called on [`default_network`]: the first address of its subnet.
pub(crate) fn gateway(instance: &Instance) -> Result<IpAddr> {
    match subnet(instance)?.address() {
        IpAddr::V4(address) => Ok((u32::from(address) + 1).into()).map(|v4: std::net::Ipv4Addr| v4.into()),
        IpAddr::V6(address) => Ok((u128::from(address) + 1).into()).map(|v6: std::net::Ipv6Addr| v6.into()),
    }
}

/// The network of `--network bridge`.
pub(crate) fn default_network(instance: &Instance) -> Result<NetworkList> {
    Ok(cni::caller::default_network(&names(instance), &[subnet(instance)?], &instance.run)?)
}

/// Where the results of attachments are.
pub(crate) fn cni_cache(instance: &Instance) -> PathBuf {
    instance.run.join("cni")
}

fn caller(instance: &Instance) -> Caller {
    let mut caller = Caller::new(cni::plugin::builtins(), cni_cache(instance));
    caller.plugin_dirs = vec![PathBuf::from(PLUGIN_DIR)];
    caller
}

fn attachment(instance: &Instance, id: &str, ports: &[PortMapping]) -> Result<Attachment> {
    let mut arguments = Map::new();
    if !ports.is_empty() {
        arguments.insert("portMappings".into(), json!(ports));
    }
    let mut attachment = Attachment::new(id, INTERFACE, Some(instance.netns(id)))?;
    attachment.capability_args = arguments;
    Ok(attachment)
}

/// Makes the namespace and attaches it. Everything is recorded with `owner` first.
pub(super) fn connect(
    instance: &Instance,
    record: &Record,
    list: &NetworkList,
    owner: &mut ledger::Owner,
) -> Result<Added> {
    let path = instance.netns(&record.id);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).context(|| format!("create {}", dir.display()))?;
    }
    owner.record(Effect::Netns { path: path.clone() })?;
    kernel::namespace::pin_new_netns(&path)?;
    let attachment = attachment(instance, &record.id, &record.network.ports)?;
    caller(instance).add(list, &attachment, owner).map_err(|error| {
        // It knows containers by their ids; people by their names.
        let text = Record::all(instance).unwrap_or_default().iter().fold(error.to_string(), |text, other| {
            text.replace(&format!("{}/{INTERFACE}", other.id), &other.name)
        });
        Failure::new(text)
    })
}

/// The network namespace of a running container, by a name that stays its own: the number of a process may be
/// another's by the time it is looked at.
pub(super) fn namespace(instance: &Instance, record: &Record) -> Result<PathBuf> {
    if !super::state_of(instance, record).is_active() {
        let name = &record.name;
        return Err(Failure::new(format!("container {name} is not running: its network cannot be joined")));
    }
    match Mode::of(instance, &record.network.mode)? {
        Mode::Own(_) => Ok(instance.netns(&record.id)),
        // The shim's, which opens it.
        Mode::Host => Ok(PathBuf::from("/proc/self/ns/net")),
        Mode::Container(id) => namespace(instance, &super::find(instance, &id)?),
    }
}

/// Detaches the container; what is left is undone with the owner's records.
pub(super) fn disconnect(instance: &Instance, record: &Record, owner: &mut ledger::Owner) -> Result<()> {
    // Nothing of its own: then it matters not whether the container it shared with is still there.
    if !instance.netns(&record.id).exists() {
        return Ok(());
    }
    if let Mode::Own(list) = Mode::of(instance, &record.network.mode)? {
        caller(instance).del(&list, &attachment(instance, &record.id, &record.network.ports)?, owner)?;
    }
    Ok(())
}

/// Writes `hosts`, `hostname` and `resolv.conf` into the bundle.
pub(super) fn write_files(
    bundle: &Path,
    network: &NetworkRecord,
    addresses: &[IpAddr],
    host: bool,
) -> Result<()> {
    let mut hosts = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    if host {
        hosts = fs::read_to_string("/etc/hosts").unwrap_or(hosts);
    }
    for address in addresses {
        hosts += &format!("{address}\t{}\n", network.hostname);
    }
    write_whole(&bundle.join(hosts_file_name()), hosts.as_bytes())?;
    write_whole(&bundle.join("hostname"), format!("{}\n", network.hostname).as_bytes())?;
    let resolv = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let resolv = if host { resolv } else { reachable(&resolv) };
    write_whole(&bundle.join("resolv.conf"), resolv.as_bytes())
}

/// Without name servers on this machine's loopback, which a container's own loopback is not.
fn reachable(resolv: &str) -> String {
    let kept = |line: &&str| {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("nameserver"), Some(address)) => address.parse::<IpAddr>().is_ok_and(|a| !a.is_loopback()),
            _ => true,
        }
    };
    resolv.lines().filter(kept).map(|line| format!("{line}\n")).collect()
}

/// Host ports that are asked for twice in one command.
pub(super) fn check_ports(ports: &[PortMapping]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for port in ports {
        let key = (port.host_ip, port.host_port, port.protocol.number());
        if !seen.insert(key) {
            let text = format!("{}/{}", port.host_port, port.protocol.as_str());
            return Err(Failure::new(format!(
                "cannot publish port {text} twice: give each a port of its own"
            ))
            .with_code(125));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_that_cannot_be_reached_are_left_out() {
        let given =
            "search lan\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nnameserver ::1\noptions ndots:2\n";
        assert_eq!(reachable(given), "search lan\nnameserver 10.0.0.1\noptions ndots:2\n");
    }
}
