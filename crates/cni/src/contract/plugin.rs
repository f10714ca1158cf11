use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use kernel::netlink::{Kept, Socket, Sockets};
use ledger::Record;

use serde::{Deserialize, Serialize};

use super::{AddResult, Attachment, Error, Keys, PluginConf, Version, hash};

/// The key under which a runtime tells GC which attachments stay.
pub const VALID_ATTACHMENTS: &str = "cni.dev/valid-attachments";

/// An attachment that a runtime still knows: an entry of [`VALID_ATTACHMENTS`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ValidAttachment {
    /// The container's id.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The interface's name inside.
    pub ifname: String,
}

/// One call of a plugin.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Which interface of which container. STATUS and GC have none.
    pub attachment: &'a Attachment,
    /// The name of the network.
    pub network: &'a str,
    /// The version spoken.
    pub version: Version,
    /// The plugin's configuration with `name`, `cniVersion` and `runtimeConfig`.
    pub conf: &'a PluginConf,
    /// What the plugins before it made (ADD), or all of them (CHECK, DEL: if it is still known).
    pub previous: Option<&'a AddResult>,
    /// How to call another plugin (an IPAM plugin).
    pub delegate: &'a dyn Delegate,
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("attachment", self.attachment)
            .field("conf", self.conf)
            .finish_non_exhaustive()
    }
}

impl<'a> Request<'a> {
    /// The configuration's keys.
    pub fn keys(&self) -> Keys<'a> {
        Keys::new(&self.conf.keys, &self.conf.kind)
    }

    /// A socket for the host's links, addresses and routes.
    pub fn route(&self) -> Result<Kept<'a, Socket>, Error> {
        Ok(self.delegate.sockets().route()?)
    }

    /// A socket for the host's nftables and connection tracking.
    pub fn netfilter(&self) -> Result<Kept<'a, Socket>, Error> {
        Ok(self.delegate.sockets().netfilter()?)
    }

    /// Who holds what this request makes: `network/container/interface`, for the comments of nftables elements. A holder
    /// that no comment could take is cut by hashing its parts.
    pub fn holder(&self) -> String {
        holder(self.network, &self.attachment.container_id, &self.attachment.ifname)
    }

    /// The words on a host's link that this request makes, by which GC knows it again; `ip link` shows them as alias.
    pub fn alias(&self) -> String {
        format!("cni {}", self.holder())
    }

    /// A link's alias says that it is of an attachment to this request's network.
    pub fn is_of_network(&self, alias: &str) -> bool {
        let holder = alias
            .strip_prefix("cni ")
            .and_then(|holder| holder.strip_prefix(network_part(self.network).as_str()));
        holder.is_some_and(|rest| rest.starts_with('/'))
    }

    /// GC: the attachments that stay. Whoever is not in it is gone.
    pub fn valid_attachments(&self) -> Result<Vec<ValidAttachment>, Error> {
        Ok(self.keys().decode(VALID_ATTACHMENTS)?.unwrap_or_default())
    }

    /// GC: the holders of this network that stay, and how every holder of this network begins.
    pub fn valid_holders(&self) -> Result<Holders, Error> {
        let valid = self.valid_attachments()?;
        let of = |valid: &ValidAttachment| holder(self.network, &valid.container_id, &valid.ifname);
        Ok(Holders {
            network: format!("{}/", network_part(self.network)),
            valid: valid.iter().map(of).collect(),
        })
    }
}

/// The longest comment that the kernel's users show.
const COMMENT: usize = 127;
/// An interface's name has 15 bytes at most, two slashes join the parts.
const NETWORK_AND_ID: usize = COMMENT - 15 - 2;
/// A container's id is 64 hexadecimal digits with most runtimes.
const ID: usize = 64;

fn holder(network: &str, container_id: &str, ifname: &str) -> String {
    let id =
        if container_id.len() > ID { hash(&["container", container_id]) } else { container_id.to_owned() };
    format!("{}/{id}/{ifname}", network_part(network))
}

fn network_part(network: &str) -> String {
    if network.len() > NETWORK_AND_ID - ID { hash(&["network", network]) } else { network.to_owned() }
}

/// The holders that a GC leaves alone.
#[derive(Debug, Clone)]
pub struct Holders {
    network: String,
    valid: BTreeSet<String>,
}

impl Holders {
    /// `holder` is of this network and not valid any more.
    pub fn is_stale(&self, holder: &str) -> bool {
        holder.starts_with(&self.network) && !self.valid.contains(holder)
    }

    /// The same of a link's alias (see [`Request::alias`]).
    pub fn is_stale_alias(&self, alias: &str) -> bool {
        alias.strip_prefix("cni ").is_some_and(|holder| self.is_stale(holder))
    }
}

/// Calls other plugins with a request's own configuration.
pub trait Delegate {
    /// ADD of the plugin `kind`.
    fn add(&self, kind: &str, request: &Request<'_>, record: &mut dyn Record) -> Result<AddResult, Error>;
    /// DEL of the plugin `kind`.
    fn del(&self, kind: &str, request: &Request<'_>, record: &mut dyn Record) -> Result<(), Error>;
    /// CHECK of the plugin `kind`.
    fn check(&self, kind: &str, request: &Request<'_>) -> Result<(), Error>;
    /// STATUS of the plugin `kind`.
    fn status(&self, kind: &str, request: &Request<'_>) -> Result<(), Error>;
    /// GC of the plugin `kind`.
    fn gc(&self, kind: &str, request: &Request<'_>, record: &mut dyn Record) -> Result<(), Error>;

    /// Sockets in the host's network namespace, for all plugins of a chain and maybe for the next chain.
    fn sockets(&self) -> &Sockets {
        static NONE_KEPT: Sockets = Sockets::none_kept();
        &NONE_KEPT
    }
}

/// A CNI plugin, whatever process it runs in.
///
/// Each effect of `add` is recorded in `record` before it happens; the caller takes all of them back if the chain
/// fails. `del` goes by names, addresses and the configuration alone, is idempotent, and does what it can.
pub trait Plugin: Send + Sync {
    /// Attaches.
    fn add(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<AddResult, Error>;

    /// Detaches. Nothing there counts as done.
    fn del(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<(), Error>;

    /// Everything is still as `add` left it.
    fn check(&self, request: &Request<'_>) -> Result<(), Error>;

    /// ADD requests can be served.
    fn status(&self, _request: &Request<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Frees what the network's attachments hold that are not in [`Request::valid_attachments`]; a plugin that delegates
    /// hands it on. Goes on past errors. A plugin that keeps nothing outside the container has nothing to do.
    fn gc(&self, _request: &Request<'_>, _record: &mut dyn Record) -> Result<(), Error> {
        Ok(())
    }

    /// Puts back what `add` had put into tables that all of the host shares (its packet filter) and another program has
    /// flushed; [`Request::previous`] has what ADD answered. The records of `add` still stand, so none is made. What is
    /// there counts as done. No verb of the specification: a node process calls it.
    fn restore(&self, _request: &Request<'_>) -> Result<(), Error> {
        Ok(())
    }
}

/// Plugins by their type.
pub type Registry = BTreeMap<&'static str, Arc<dyn Plugin>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_fit_a_comment_and_stay_apart() {
        let long = "x".repeat(200);
        let texts: BTreeSet<_> = [
            ("net", "id", "eth0"),
            (&long, "id", "eth0"),
            ("net", &long, "eth0"),
            (&long, &long, "fifteen-letters"),
        ]
        .into_iter()
        .map(|(network, id, ifname)| holder(network, id, ifname))
        .collect();
        assert_eq!(texts.len(), 4);
        assert!(texts.iter().all(|text| text.len() <= COMMENT), "{texts:?}");
        assert_eq!(holder("net", &"f".repeat(64), "eth0"), format!("net/{}/eth0", "f".repeat(64)));
    }

    #[test]
    fn only_holders_of_the_network_grow_stale() {
        let valid = [holder("net", "a", "eth0")].into();
        let holders = Holders { network: "net/".into(), valid };
        assert!(!holders.is_stale("net/a/eth0") && !holders.is_stale("other/b/eth0"));
        assert!(holders.is_stale("net/b/eth0") && holders.is_stale_alias("cni net/a/eth1"));
        assert!(!holders.is_stale_alias("net/b/eth0"));
    }
}
