use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ledger::Record;

use super::{AddResult, Attachment, Error, Keys, PluginConf, Version};

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
}

/// Plugins by their type.
pub type Registry = BTreeMap<&'static str, Arc<dyn Plugin>>;
