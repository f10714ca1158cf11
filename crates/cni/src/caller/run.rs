use std::borrow::Cow;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use kernel::netlink::{IpNet, Sockets};
use ledger::Record;
use serde_json::{Map, Value, json};

use super::cache::{self, Known};
use super::gc::{Held, Hold};
use super::undo::Undo;
use super::{Caller, exec};
use crate::contract::{
    AddResult, Attachment, Code, Delegate, Error, Errors, NetworkList, PluginConf, Request, Version,
};

/// What ADD made, and how long each plugin took.
#[derive(Debug, Clone)]
pub struct Added {
    /// The last plugin's result.
    pub result: AddResult,
    /// One entry a plugin, in order.
    pub steps: Vec<Step>,
}

/// One plugin's part of an ADD.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its type.
    pub plugin: String,
    /// Wall time.
    pub took: Duration,
}

impl Added {
    /// The container's addresses.
    pub fn addresses(&self) -> Vec<IpNet> {
        self.result.ips.iter().map(|ip| ip.address).collect()
    }

    /// The container's default gateways: one a family at most.
    pub fn gateways(&self) -> Vec<IpAddr> {
        self.result.ips.iter().filter_map(|ip| ip.gateway).collect()
    }
}

impl Caller {
    /// Attaches a container to a network: ADD of each plugin in order. If one fails, all is taken back: DEL of every
    /// plugin, then the inverse of everything recorded in `record`, and the first error is returned.
    pub fn add(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
        record: &mut dyn Record,
    ) -> Result<Added, Error> {
        attachment.netns()?;
        let using = self.hold(Hold::Use)?;
        let unknown = using.dir().is_some_and(|dir| cache::is_unknown(dir, &list.name, attachment));
        if !unknown && cache::cached(&self.cache_dir, &list.name, attachment).is_some() {
            // Going on would take the living attachment down when it fails.
            return Err(Error::new(
                Code::InvalidEnvironment,
                format!(
                    "cannot attach {} {} to network {:?}: it is attached already",
                    attachment.container_id, attachment.ifname, list.name
                ),
            )
            .hint("DEL comes before a second ADD"));
        }
        let mut undo = Undo::new(record);
        let outcome = self.add_all(list, attachment, &using, &mut undo);
        outcome.map_err(|error| {
            let mut left: Vec<Error> = self.del_all(list, attachment, None, &mut undo);
            left.extend(undo.undo_all());
            // What could not be begun cannot be taken back either (a plugin that is not there), and leaves nothing.
            let said = error.to_string();
            left.retain(|left| left.to_string() != said);
            match Errors(left).into_result() {
                Ok(()) => error,
                Err(left) if error.details.is_empty() => error.hint(format!("left behind: {left}")),
                Err(left) => {
                    let details = format!("{}; left behind: {left}", error.details);
                    error.hint(details)
                }
            }
        })
    }

    fn add_all(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
        using: &Held<'_>,
        record: &mut dyn Record,
    ) -> Result<Added, Error> {
        let mut previous = None;
        let mut steps = Vec::with_capacity(list.plugins.len());
        for plugin in &list.plugins {
            let begin = Instant::now();
            let conf = effective(list, plugin, attachment);
            let request = self.request(list, &conf, attachment, previous.as_ref());
            previous = Some(Delegate::add(self, &conf.kind, &request, record)?);
            steps.push(Step { plugin: plugin.kind.clone(), took: begin.elapsed() });
        }
        let result = previous.unwrap_or_default();
        cache::store(self.place(using), list, attachment, &result, record)?;
        Ok(Added { result, steps })
    }

    /// Detaches a container: DEL of each plugin in reverse, with the configuration and result that ADD left in the
    /// cache, or with `list` if there is none. Goes on past errors and returns all of them; nothing there is done.
    ///
    /// What the cache has may be damaged. Then what can be read of it is used, with the plugins of `list` that it does not tell
    /// of, and the damage is an error, once: the cache forgets the attachment if nothing else went wrong.
    pub fn del(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
        record: &mut dyn Record,
    ) -> Result<(), Errors> {
        let using = self.hold(Hold::Use).map_err(|e| Errors(vec![e]))?;
        self.del_held(&using, list, attachment, record)
    }

    /// DEL, for who holds the cache.
    pub(super) fn del_held(
        &self,
        using: &Held<'_>,
        list: &NetworkList,
        attachment: &Attachment,
        record: &mut dyn Record,
    ) -> Result<(), Errors> {
        let place = self.place(using);
        let (mut errors, damage) = match cache::cached_with(place, list, attachment) {
            Some(Known { attachment: made, list: mut kept, result, damage }) => {
                // The namespace may be gone or elsewhere by now: the caller knows.
                let made = Attachment { netns: attachment.netns.clone(), ..made };
                if damage.is_some() {
                    kept.to_mut().complete(list);
                }
                (self.del_all(&kept, &made, result.as_ref(), record), damage)
            }
            None => {
                let bare = cache::bare_result(&self.cache_dir, &list.name, attachment);
                (self.del_all(list, attachment, bare.as_ref(), record), None)
            }
        };
        if errors.is_empty() {
            errors.extend(cache::remove(place, &list.name, attachment, record).err());
        }
        errors.extend(damage.map(|damage| {
            damage.hint("what is known of it without that is free; a second DEL has nothing more to go by")
        }));
        Errors(errors).into_result()
    }

    pub(super) fn place<'a>(&'a self, using: &'a Held<'_>) -> cache::Place<'a> {
        cache::Place { path: &self.cache_dir, dir: using.dir(), written: &self.written }
    }

    fn del_all(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
        result: Option<&AddResult>,
        record: &mut dyn Record,
    ) -> Vec<Error> {
        let del = |plugin: &PluginConf| {
            let conf = effective(list, plugin, attachment);
            let request = self.request(list, &conf, attachment, result);
            Delegate::del(self, &conf.kind, &request, record).err()
        };
        list.plugins.iter().rev().filter_map(del).collect()
    }

    /// Everything is still as ADD left it. Without a cached result there is nothing to compare with: an error.
    pub fn check(&self, list: &NetworkList, attachment: &Attachment) -> Result<(), Error> {
        if list.disable_check {
            return Ok(());
        }
        let made = cache::cached(&self.cache_dir, &list.name, attachment).ok_or_else(|| {
            Error::new(
                Code::UnknownContainer,
                format!(
                    "cannot check {}: no ADD to network {:?} is known",
                    attachment.container_id, list.name
                ),
            )
        })?;
        if made.list.version < Version::V0_4_0 {
            return Err(Error::new(
                Code::IncompatibleVersion,
                format!(
                    "cannot check network {:?}: cniVersion {} has no CHECK",
                    list.name, made.list.version
                ),
            ));
        }
        if let Some(damage) = made.damage {
            return Err(damage);
        }
        let attached = Attachment { netns: attachment.netns.clone(), ..made.attachment };
        made.list.plugins.iter().try_for_each(|plugin| {
            let conf = effective(&made.list, plugin, &attached);
            Delegate::check(
                self,
                &conf.kind,
                &self.request(&made.list, &conf, &attached, made.result.as_ref()),
            )
        })
    }

    /// Every plugin of the list can serve ADD (STATUS; nothing is asked before version 1.1).
    pub fn status(&self, list: &NetworkList) -> Result<(), Error> {
        if list.version < Version::V1_1_0 {
            return Ok(());
        }
        let none = Attachment::new("status", "none", None)?;
        list.plugins.iter().try_for_each(|plugin| {
            let conf = effective(list, plugin, &none);
            Delegate::status(self, &conf.kind, &self.request(list, &conf, &none, None))
        })
    }

    pub(super) fn request<'a>(
        &'a self,
        list: &'a NetworkList,
        conf: &'a PluginConf,
        attachment: &'a Attachment,
        previous: Option<&'a AddResult>,
    ) -> Request<'a> {
        Request { attachment, network: &list.name, version: list.version, conf, previous, delegate: self }
    }
}

/// A plugin's configuration as it is sent: with name, version, and the values of the capabilities it declares.
pub(super) fn effective<'a>(
    list: &NetworkList,
    plugin: &'a PluginConf,
    attachment: &Attachment,
) -> Cow<'a, PluginConf> {
    let says = |key: &str, value: &str| plugin.keys.get(key).and_then(Value::as_str) == Some(value);
    let named = says("name", &list.name) && says("cniVersion", list.version.as_str());
    if named && !["capabilities", "runtimeConfig"].iter().any(|key| plugin.keys.contains_key(*key)) {
        return Cow::Borrowed(plugin);
    }
    let own = plugin.keys.iter().filter(|(key, _)| !matches!(key.as_str(), "capabilities" | "runtimeConfig"));
    let mut keys: Map<String, Value> = own.map(|(key, value)| (key.clone(), value.clone())).collect();
    if !named {
        keys.insert("name".into(), json!(list.name));
        keys.insert("cniVersion".into(), json!(list.version.as_str()));
    }
    let capabilities = plugin.keys.get("capabilities");
    let declared = |name: &str| capabilities.and_then(|c| c.get(name)) == Some(&Value::Bool(true));
    let values: Map<String, Value> = attachment
        .capability_args
        .iter()
        .filter(|(name, _)| declared(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if !values.is_empty() {
        keys.insert("runtimeConfig".into(), Value::Object(values));
    }
    Cow::Owned(PluginConf { kind: plugin.kind.clone(), keys })
}

impl Delegate for Caller {
    fn add(&self, kind: &str, request: &Request<'_>, record: &mut dyn Record) -> Result<AddResult, Error> {
        match self.builtins.get(kind) {
            Some(plugin) => plugin.add(request, record),
            None => AddResult::parse(&exec::call(self, kind, "ADD", request)?),
        }
    }

    fn del(&self, kind: &str, request: &Request<'_>, record: &mut dyn Record) -> Result<(), Error> {
        match self.builtins.get(kind) {
            Some(plugin) => plugin.del(request, record),
            None => exec::call(self, kind, "DEL", request).map(drop),
        }
    }

    fn check(&self, kind: &str, request: &Request<'_>) -> Result<(), Error> {
        match self.builtins.get(kind) {
            Some(plugin) => plugin.check(request),
            None => exec::call(self, kind, "CHECK", request).map(drop),
        }
    }

    fn status(&self, kind: &str, request: &Request<'_>) -> Result<(), Error> {
        match self.builtins.get(kind) {
            Some(plugin) => plugin.status(request),
            None => exec::call(self, kind, "STATUS", request).map(drop),
        }
    }

    fn gc(&self, kind: &str, request: &Request<'_>, record: &mut dyn Record) -> Result<(), Error> {
        match self.builtins.get(kind) {
            Some(plugin) => plugin.gc(request, record),
            None => exec::call(self, kind, "GC", request).map(drop),
        }
    }

    fn sockets(&self) -> &Sockets {
        &self.sockets
    }
}
