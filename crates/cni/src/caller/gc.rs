//! Cleaning up after attachments that nobody knows any more, and asking plugins what they are.

use std::fs::{File, OpenOptions};
use std::path::Path;

use ledger::Record;
use rustix::fs::{FlockOperation, flock};
use serde::Deserialize;
use serde_json::json;

use super::{Caller, cache, exec, run::effective};
use crate::contract::{
    Attachment, Code, Delegate, Error, Errors, NetworkList, PluginConf, Request, VALID_ATTACHMENTS,
    ValidAttachment, Version,
};

/// How the cache is held: nothing is attached or detached while garbage is collected (specification 1.1, GC).
#[derive(Debug, Clone, Copy)]
pub(super) enum Hold {
    /// Beside others who attach and detach.
    Use,
    /// Alone.
    Collect,
}

impl Caller {
    /// Holds the cache for as long as the file is open.
    pub(super) fn hold(&self, how: Hold) -> Result<File, Error> {
        let path = self.cache_dir.join("lock");
        let failed =
            |e: std::io::Error| Error::because(format!("cannot lock {}", path.display()), e).code(Code::Io);
        let file = open(&path)
            .or_else(|e| match e.kind() {
                std::io::ErrorKind::NotFound => {
                    std::fs::create_dir_all(&self.cache_dir).and_then(|()| open(&path))
                }
                _ => Err(e),
            })
            .map_err(failed)?;
        let operation = match how {
            Hold::Use => FlockOperation::LockShared,
            Hold::Collect => FlockOperation::LockExclusive,
        };
        rustix::io::retry_on_intr(|| flock(&file, operation)).map_err(|e| failed(e.into()))?;
        Ok(file)
    }

    /// Frees what attachments to the network hold that are not in `valid` (GC): first DEL of those that the cache knows,
    /// then GC of every plugin, from version 1.1 on. Goes on past errors and returns all of them. With `disableGC`
    /// nothing is done.
    pub fn gc(
        &self,
        list: &NetworkList,
        valid: &[ValidAttachment],
        record: &mut dyn Record,
    ) -> Result<(), Errors> {
        if list.disable_gc {
            return Ok(());
        }
        let _alone = self.hold(Hold::Collect).map_err(|e| Errors(vec![e]))?;
        let is_valid =
            |a: &Attachment| valid.iter().any(|v| v.container_id == a.container_id && v.ifname == a.ifname);
        let mut errors = Vec::new();
        for cached in cache::cached_attachments(&self.cache_dir) {
            if cached.list.name != list.name || is_valid(&cached.attachment) {
                continue;
            }
            let netns = cached.attachment.netns.clone().filter(|netns| netns.exists());
            let attachment = Attachment { netns, ..cached.attachment };
            errors.extend(self.del_held(list, &attachment, record).err().into_iter().flat_map(|e| e.0));
        }
        if list.version >= Version::V1_1_0 {
            errors.extend(self.gc_plugins(list, valid, record));
        }
        Errors(errors).into_result()
    }

    fn gc_plugins(
        &self,
        list: &NetworkList,
        valid: &[ValidAttachment],
        record: &mut dyn Record,
    ) -> Vec<Error> {
        let none = match Attachment::new("none", "none", None) {
            Ok(none) => none,
            Err(e) => return vec![e],
        };
        let gc = |plugin: &PluginConf| {
            let mut conf = effective(list, plugin, &none).into_owned();
            conf.keys.insert(VALID_ATTACHMENTS.into(), json!(valid));
            Delegate::gc(self, &conf.kind, &self.request(list, &conf, &none, None), record).err()
        };
        list.plugins.iter().filter_map(gc).collect()
    }

    /// The versions that the plugin `kind` speaks (VERSION).
    pub fn versions(&self, kind: &str) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Wire {
            #[serde(rename = "supportedVersions", default)]
            supported: Vec<String>,
        }
        if self.builtins.contains_key(kind) {
            return Ok(Version::ALL.map(|version| version.as_str().to_owned()).into());
        }
        let none = Attachment::new("none", "none", None)?;
        let keys = json!({ "cniVersion": Version::LATEST.as_str() });
        let keys = keys.as_object().cloned().unwrap_or_default();
        let conf = PluginConf { kind: kind.to_owned(), keys };
        let request = Request {
            attachment: &none,
            network: "none",
            version: Version::LATEST,
            conf: &conf,
            previous: None,
            delegate: self,
        };
        let bytes = match exec::call(self, kind, "VERSION", &request) {
            // The first plugins did not know the verb.
            Err(e) if e.to_string().contains("unknown CNI_COMMAND") => return Ok(vec!["0.1.0".into()]),
            answer => answer?,
        };
        let wire: Wire = serde_json::from_slice(&bytes).map_err(|e| {
            Error::because(format!("cannot read what plugin {kind:?} says of VERSION"), e).code(Code::Decode)
        })?;
        // Nor did these say which versions they speak.
        if wire.supported.is_empty() { Ok(vec!["0.1.0".into(), "0.2.0".into()]) } else { Ok(wire.supported) }
    }

    /// Every plugin of the list is there and speaks its version. All that is wrong is returned.
    pub fn validate(&self, list: &NetworkList) -> Result<(), Errors> {
        let wrong = |plugin: &PluginConf| {
            let versions = match self.versions(&plugin.kind) {
                Ok(versions) => versions,
                Err(e) => return Some(e),
            };
            let speaks = versions.iter().any(|version| version == list.version.as_str());
            (!speaks).then(|| {
                let text = format!(
                    "cannot use plugin {:?} in network {:?}: it does not speak cniVersion {}",
                    plugin.kind, list.name, list.version
                );
                Error::new(Code::IncompatibleVersion, text).hint(format!("it speaks {}", versions.join(", ")))
            })
        };
        Errors(list.plugins.iter().filter_map(wrong).collect()).into_result()
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).open(path)
}
