use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use kernel::nft::{Loss, Monitor};

use super::Caller;
use super::cache::{Cached, cached_attachments};
use super::run::effective;
use crate::contract::{Error, Errors, Keys, PluginConf};

impl Caller {
    /// Puts back what another program took out of the host's packet filter (`nft flush ruleset`, a restarted firewall): for
    /// each attachment that is known, each built-in plugin restores its part. Goes on past errors and returns all of them.
    pub fn restore(&self) -> Result<(), Errors> {
        let mut errors = Vec::new();
        for Cached { attachment, list, result, .. } in cached_attachments(&self.cache_dir) {
            for plugin in &list.plugins {
                let Some(built_in) = self.builtins.get(plugin.kind.as_str()) else { continue };
                let conf = effective(&list, plugin, &attachment);
                let request = self.request(&list, &conf, &attachment, result.as_ref());
                errors.extend(built_in.restore(&request).err());
            }
        }
        Errors(errors).into_result()
    }

    /// The nftables tables that the attachments use that are known.
    fn tables(&self) -> BTreeSet<String> {
        let table = |plugin: &PluginConf| {
            let own = Keys::new(&plugin.keys, &plugin.kind).object("sextant").ok().flatten();
            own.and_then(|own| Keys::new(own, "\"sextant\"").text("table").ok().flatten())
                .unwrap_or("sextant")
                .to_owned()
        };
        let known = cached_attachments(&self.cache_dir);
        known.iter().flat_map(|cached| &cached.list.plugins).map(table).collect()
    }
}

/// Keeps the tables of a caller's attachments whole, in a process that lives long: it learns from the kernel when something
/// is taken out of them. One that is polled with the rest of what such a process waits for.
#[derive(Debug)]
pub struct Keeper {
    caller: Caller,
    monitor: Monitor,
}

impl Keeper {
    /// Keeps the tables in the calling thread's network namespace, from now on.
    pub fn new(caller: Caller) -> Result<Self, Error> {
        Ok(Self { caller, monitor: Monitor::open()? })
    }

    /// Restores what is lost, if what happened since the last call was about one of our tables. Does not wait: to be called
    /// when the descriptor is readable, by a thread in the same network namespace. True if it restored.
    pub fn keep(&mut self) -> Result<bool, Errors> {
        let losses = self.monitor.losses().map_err(|e| Errors(vec![e.into()]))?;
        if losses.is_empty() {
            return Ok(false);
        }
        let ours = self.caller.tables();
        let hit = losses.iter().any(|loss| match loss {
            Loss::Of { table, .. } => ours.contains(table),
            Loss::Unknown => true,
        });
        if hit { self.caller.restore().map(|()| true) } else { Ok(false) }
    }
}

impl AsFd for Keeper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.monitor.as_fd()
    }
}
