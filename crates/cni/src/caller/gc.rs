//! Cleaning up after attachments that nobody knows any more, and asking plugins what they are.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, PoisonError};

use ledger::Record;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
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

/// The lock of a cache, open for as long as a caller lives, with its file's device and inode, and the directory that it is in.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    id: (u64, u64),
    dir: File,
}

/// The cache is held as long as this is there.
pub(super) struct Held<'a> {
    /// Taken by [`Drop`] alone.
    lock: Option<Lock>,
    idle: &'a Mutex<Vec<Lock>>,
}

impl Held<'_> {
    /// The cache's directory.
    pub(super) fn dir(&self) -> Option<&File> {
        self.lock.as_ref().map(|lock| &lock.dir)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Where it cannot be given back, closing it does.
        let unlocked = self.lock.take().filter(|lock| locked(&lock.file, FlockOperation::Unlock).is_ok());
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE {
            idle.extend(unlocked);
        }
    }
}

const LOCK: &str = "lock";
/// How many locks are kept that nobody holds: as many as threads are at work most of the time.
const IDLE: usize = 8;

fn locked(file: &File, operation: FlockOperation) -> std::io::Result<()> {
    Ok(rustix::io::retry_on_intr(|| flock(file, operation))?)
}

impl Caller {
    /// Holds the cache.
    pub(super) fn hold(&self, how: Hold) -> Result<Held<'_>, Error> {
        let path = self.cache_dir.join(LOCK);
        let (operation, at_once) = match how {
            Hold::Use => (FlockOperation::LockShared, FlockOperation::NonBlockingLockShared),
            Hold::Collect => (FlockOperation::LockExclusive, FlockOperation::NonBlockingLockExclusive),
        };
        let idle = &*self.locks;
        let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let held = |lock| Held { lock: Some(lock), idle };
        // Another file may be the lock by now, or this caller's cache be elsewhere: whoever holds that one is not waited for.
        // And it may become another while it is waited for.
        let is_there = |lock: &Lock| std::fs::metadata(&path).is_ok_and(|now| id(&now) == lock.id);
        let waited = |lock: &Lock| is_there(lock) && locked(&lock.file, operation).is_ok();
        let same = |lock: &Lock| (locked(&lock.file, at_once).is_ok() || waited(lock)) && is_there(lock);
        if let Some(lock) = kept.filter(same) {
            return Ok(held(lock));
        }
        let open = || -> std::io::Result<Lock> {
            let dir = File::open(&self.cache_dir).or_else(|e| match e.kind() {
                std::io::ErrorKind::NotFound => {
                    std::fs::create_dir_all(&self.cache_dir).and_then(|()| File::open(&self.cache_dir))
                }
                _ => Err(e),
            })?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::openat(&dir, LOCK, flags, Mode::from_raw_mode(0o666))?);
            locked(&file, operation)?;
            let id = id(&file.metadata()?);
            Ok(Lock { file, id, dir })
        };
        open()
            .map(held)
            .map_err(|e| Error::because(format!("cannot lock {}", path.display()), e).code(Code::Io))
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
        let alone = self.hold(Hold::Collect).map_err(|e| Errors(vec![e]))?;
        let is_valid =
            |a: &Attachment| valid.iter().any(|v| v.container_id == a.container_id && v.ifname == a.ifname);
        let mut errors = Vec::new();
        for cached in cache::cached_attachments(&self.cache_dir) {
            if cached.list.name != list.name || is_valid(&cached.attachment) {
                continue;
            }
            let netns = cached.attachment.netns.clone().filter(|netns| netns.exists());
            let attachment = Attachment { netns, ..cached.attachment };
            errors
                .extend(self.del_held(&alone, list, &attachment, record).err().into_iter().flat_map(|e| e.0));
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

fn id(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

#[cfg(test)]
mod tests {
    use ledger::Transient;

    use super::*;
    use crate::contract::{AddResult, Registry};

    #[test]
    fn a_lock_that_is_kept_is_free_and_another_file_is_another_lock() {
        let dir = tempfile::tempdir().unwrap();
        let caller = Caller::new(Registry::new(), dir.path());
        let lock = dir.path().join("lock");
        let take = |how| flock(File::open(&lock).unwrap(), how);
        for _ in 0..2 {
            let using = caller.hold(Hold::Use).unwrap();
            let beside = caller.hold(Hold::Use).unwrap();
            assert!(take(FlockOperation::NonBlockingLockShared).is_ok());
            assert!(take(FlockOperation::NonBlockingLockExclusive).is_err());
            drop((using, beside));
            assert!(take(FlockOperation::NonBlockingLockExclusive).is_ok());
            let alone = caller.hold(Hold::Collect).unwrap();
            assert!(take(FlockOperation::NonBlockingLockShared).is_err());
            drop(alone);
            assert!(!caller.locks.lock().unwrap().is_empty());
            std::fs::remove_file(&lock).unwrap();
            std::fs::write(&lock, "").unwrap();
        }
        let elsewhere = Caller { cache_dir: dir.path().join("new"), ..caller.clone() };
        let _alone = elsewhere.hold(Hold::Collect).unwrap();
        assert!(take(FlockOperation::NonBlockingLockExclusive).is_ok());
    }

    #[test]
    fn a_cache_that_was_removed_is_written_to_where_it_is_now() {
        let dir = tempfile::tempdir().unwrap();
        let cache_dir = dir.path().join("cache");
        let caller = Caller::new(Registry::new(), &cache_dir);
        drop(caller.hold(Hold::Use).unwrap());
        std::fs::remove_dir_all(&cache_dir).unwrap();
        let using = caller.hold(Hold::Use).unwrap();
        let open = id(&using.dir().unwrap().metadata().unwrap());
        assert_eq!(open, id(&std::fs::metadata(&cache_dir).unwrap()));
        // And while somebody is at work.
        std::fs::remove_dir_all(&cache_dir).unwrap();
        let list = br#"{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "none"}]}"#;
        let list = NetworkList::parse(list).unwrap();
        let attachment = Attachment::new("c", "eth0", None).unwrap();
        assert!(cache::is_unknown(using.dir().unwrap(), "pods", &attachment));
        let (result, mut record) = (AddResult::default(), Transient::new());
        cache::store(caller.place(&using), &list, &attachment, &result, &mut record).unwrap();
        assert!(cache::cached(&cache_dir, "pods", &attachment).is_some());
    }

    #[test]
    fn a_lock_that_is_kept_is_not_waited_for_once_it_is_another_file() {
        let dir = tempfile::tempdir().unwrap();
        let caller = Caller::new(Registry::new(), dir.path());
        let lock = dir.path().join("lock");
        drop(caller.hold(Hold::Use).unwrap());
        assert_eq!(caller.locks.lock().unwrap().len(), 1);
        let old = File::open(&lock).unwrap();
        flock(&old, FlockOperation::NonBlockingLockExclusive).unwrap();
        std::fs::remove_file(&lock).unwrap();
        std::fs::write(&lock, "").unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let caller = &caller;
        std::thread::scope(|scope| {
            scope.spawn(move || tell.send(caller.hold(Hold::Use).is_ok()).unwrap());
            // Nobody ever lets go of the old one, so that any time would do; then the thread may end.
            let held = told.recv_timeout(std::time::Duration::from_secs(180));
            drop(old);
            assert_eq!(held, Ok(true));
        });
    }
}
