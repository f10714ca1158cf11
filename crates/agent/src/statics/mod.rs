//! Static pods: those of files on the node (`--pod-manifest-path`). They run whether there is an API server or not.
//!
//! Such a pod's uid follows from its file, so an agent that starts finds what runs of it; a file that changes is another pod. One that was
//! begun is written down ([`record`]): so it ends also where its file went while no agent was there to see it. The API
//! server has a mirror of each, [`mirror`], for people to see: its end or absence changes nothing for the pod.

mod file;
mod mirror;
mod record;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::cache::Name;
use k8s_openapi::api::core::v1::Pod;
use rustix::fs::inotify;
use tokio::net::unix::pipe::Receiver;

use crate::agent::Agent;
use crate::names::{CONFIG_SEEN, Key};
use record::Record;

pub(crate) use mirror::{is_mirror, keep as keep_mirrors, mirrored};

/// How often the files are looked at though nothing was heard of them.
const LOOK: Duration = Duration::from_secs(20);

/// The static pods.
#[derive(Debug, Default)]
pub(crate) struct Statics {
    pods: Mutex<Pods>,
    /// Whether the pods of the API server are known.
    is_joined: AtomicBool,
}

#[derive(Debug, Default)]
struct Pods {
    /// Those of files that are there.
    there: BTreeMap<Name, Arc<Pod>>,
    /// Those whose file is gone, or another, and of which something may run still.
    gone: BTreeMap<Key, Arc<Pod>>,
    /// Files with what was last told of them.
    told: BTreeMap<PathBuf, String>,
    /// Which pod a file was.
    of_file: BTreeMap<PathBuf, Name>,
    /// What an agent before this one had begun, the oldest first, until the files have been read.
    left: Vec<Record>,
}

impl Statics {
    fn pods(&self) -> MutexGuard<'_, Pods> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pod of this name.
    pub(crate) fn get(&self, name: &Name) -> Option<Arc<Pod>> {
        self.pods().there.get(name).cloned()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Pod>> {
        self.pods().there.values().cloned().collect()
    }

    /// From now on it is known of each pod whether it is there.
    pub(crate) fn join(&self) {
        self.is_joined.store(true, Ordering::Release);
    }

    /// Whether it is known that a pod which is not there is gone.
    pub(crate) fn knows(&self, key: &Key) -> bool {
        self.is_joined.load(Ordering::Acquire) || self.gone(key).is_some()
    }

    /// The pod as it was, if its file is gone: it ends as a pod does that is deleted.
    pub(crate) fn gone(&self, key: &Key) -> Option<Arc<Pod>> {
        self.pods().gone.get(key).cloned()
    }

    /// Whether the pod that this one takes the place of has not ended yet.
    pub(crate) fn waits(&self, key: &Key) -> bool {
        self.pods().gone.keys().any(|gone| gone.name == key.name && gone.uid != key.uid)
    }

    /// Nothing is left of a pod whose file is gone; the one in its place, if there is one.
    pub(crate) fn forget(&self, key: &Key) -> Option<Key> {
        let mut pods = self.pods();
        pods.gone.remove(key)?;
        pods.there.get(&key.name).map(|pod| Key::of(pod))
    }

    /// Reads what an agent before this one had begun.
    fn recall(&self, folder: &Path) {
        self.pods().left = record::all(folder);
    }

    /// Writes down that a pod is begun.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn note(&self, folder: &Path, pod: &Pod) -> Result<(), String> {
        let name = Name::of(pod);
        let file = self.pods().of_file.iter().find(|(_, of)| **of == name).map(|(file, _)| file.clone());
        // One whose file has gone meanwhile ends anyway.
        let Some(file) = file else { return Ok(()) };
        record::write(folder, &Record { file, pod: pod.clone() })
    }

    /// There are no files at all: what was begun of any ends. Their keys.
    fn none(&self) -> Vec<Key> {
        let mut pods = self.pods();
        let left: Vec<Arc<Pod>> =
            std::mem::take(&mut pods.left).into_iter().map(|one| Arc::new(one.pod)).collect();
        pods.gone.extend(left.iter().map(|pod| (Key::of(pod), pod.clone())));
        left.iter().map(|pod| Key::of(pod)).collect()
    }

    /// The files as they are now; keys of pods that came or went.
    pub(crate) fn read(&self, path: &Path, node: &str) -> Vec<Key> {
        let mut pods = self.pods();
        let mut there = BTreeMap::new();
        let mut of_file = BTreeMap::new();
        let all = match file::read_all(path, node) {
            Ok(all) => all,
            Err(error) => {
                eprintln!("sextant agent: warning: cannot read {}: {error}", path.display());
                return Vec::new();
            }
        };
        for (file, read) in all {
            let pod = match read {
                Ok(mut pod) => {
                    pods.told.remove(&file);
                    // A file that changes keeps its turn: the pod in the old one's place comes before those that came after that.
                    let old = pods.of_file.get(&file).and_then(|name| pods.there.get(name));
                    let seen =
                        old.and_then(|old| old.metadata.annotations.as_ref()?.get(CONFIG_SEEN).cloned());
                    if let Some(seen) = seen {
                        pod.metadata.annotations.get_or_insert_default().insert(CONFIG_SEEN.into(), seen);
                    }
                    Arc::new(pod)
                }
                Err(why) => {
                    if pods.told.insert(file.clone(), why.clone()).as_ref() != Some(&why) {
                        eprintln!("sextant agent: warning: cannot read the pod in {}: {why}", file.display());
                    }
                    // Somebody writes it, may be: it stays what it was.
                    let old = pods.of_file.get(&file).and_then(|name| pods.there.get(name)).cloned();
                    let left = || pods.left.iter().rfind(|one| one.file == file);
                    let old = old.or_else(|| left().map(|one| Arc::new(one.pod.clone())));
                    let Some(old) = old else { continue };
                    old
                }
            };
            of_file.insert(file, Name::of(&*pod));
            there.entry(Name::of(&*pod)).or_insert(pod);
        }
        let keyed = |pods: &BTreeMap<Name, Arc<Pod>>| {
            pods.values().map(|pod| (Key::of(pod), pod.clone())).collect::<BTreeMap<_, _>>()
        };
        let (mut old, new) = (keyed(&pods.there), keyed(&there));
        let come: Vec<Key> = new.keys().filter(|key| !old.contains_key(key)).cloned().collect();
        let left = std::mem::take(&mut pods.left).into_iter().map(|one| Arc::new(one.pod));
        old.extend(left.map(|pod| (Key::of(&pod), pod)));
        let went = old.into_iter().filter(|(key, _)| !new.contains_key(key));
        let (gone, went): (Vec<Key>, Vec<_>) = went.map(|(key, pod)| (key.clone(), (key, pod))).unzip();
        pods.gone.extend(went);
        pods.gone.retain(|key, _| !new.contains_key(key));
        // One that did not change keeps the time at which it was seen.
        for (name, pod) in &mut there {
            if let Some(same) = pods.there.get(name).filter(|old| old.metadata.uid == pod.metadata.uid) {
                *pod = same.clone();
            }
        }
        (pods.there, pods.of_file) = (there, of_file);
        gone.into_iter().chain(come).collect()
    }
}

/// Follows the files, for ever.
pub(crate) async fn keep(agent: &Arc<Agent>) -> ! {
    agent.statics.recall(&agent.setup.folder);
    let Some(path) = agent.setup.manifests.clone() else {
        agent.queue.add_all(agent.statics.none());
        loop {
            std::future::pending::<()>().await;
        }
    };
    let mut told = false;
    loop {
        let watch = watch(&path);
        if let Err(error) = &watch
            && !std::mem::replace(&mut told, true)
        {
            eprintln!("sextant agent: warning: cannot follow {}: {error}", path.display());
        }
        loop {
            let changed = agent.statics.read(&path, &agent.setup.node);
            if !changed.is_empty() {
                agent.queue.add_all(changed);
                agent.tell_changes();
            }
            match &watch {
                Ok(watch) => {
                    let _ = tokio::time::timeout(LOOK, heard(watch)).await;
                }
                Err(_) => {
                    tokio::time::sleep(LOOK).await;
                    break;
                }
            }
        }
    }
}

/// Hears of files that are there as a whole: not of each piece that is written.
fn watch(path: &Path) -> std::io::Result<Receiver> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let what = inotify::WatchFlags::CLOSE_WRITE
        | inotify::WatchFlags::MOVED_TO
        | inotify::WatchFlags::MOVED_FROM
        | inotify::WatchFlags::DELETE;
    inotify::add_watch(&watch, path, what)?;
    // Read as a pipe is.
    Receiver::from_file_unchecked(watch.into())
}

async fn heard(watch: &Receiver) -> std::io::Result<()> {
    watch.readable().await?;
    let mut buffer = [0_u8; 4096];
    while watch.try_read(&mut buffer).is_ok_and(|length| length > 0) {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_is_another_pod_and_half_a_file_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let statics = Statics::default();
        let write = |text: &str| std::fs::write(dir.path().join("web.yaml"), text).unwrap();
        let pod = |image: &str| {
            format!("metadata: {{name: web}}\nspec: {{containers: [{{name: c, image: {image}}}]}}\n")
        };
        let read = || statics.read(dir.path(), "node-1");
        write(&pod("a"));
        let [first] = &read()[..] else { panic!("one pod") };
        let name = Name::new("default", "web-node-1");
        assert_eq!(
            (&first.name, statics.get(&name).unwrap().metadata.uid.as_ref()),
            (&name, Some(&first.uid))
        );
        assert!(read().is_empty(), "nothing has changed");
        let seen = || statics.get(&name).unwrap().metadata.annotations.clone().unwrap()[CONFIG_SEEN].clone();
        let since = seen();
        write("metadata: {name: [");
        assert!(read().is_empty() && statics.get(&name).is_some());
        write(&pod("b"));
        let changed = read();
        assert_eq!((changed.len(), &changed[0]), (2, first), "the old one, and the new one");
        assert_eq!(seen(), since, "it keeps its turn");
        assert!(statics.gone(first).is_some() && statics.waits(&changed[1]) && statics.knows(first));
        assert_eq!(statics.forget(first).as_ref(), Some(&changed[1]));
        assert!(!statics.waits(&changed[1]) && !statics.knows(first), "without an API server");
        std::fs::remove_file(dir.path().join("web.yaml")).unwrap();
        assert_eq!(read(), [changed[1].clone()]);
        assert!(statics.all().is_empty());
    }

    #[test]
    fn what_an_agent_has_begun_is_gone_for_the_next_one_where_its_file_is() {
        let (dir, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let pod = |name: &str| format!("metadata: {{name: {name}}}\nspec: {{containers: [{{name: c}}]}}\n");
        for name in ["stays", "goes", "half"] {
            write(name, &pod(name));
        }
        let before = Statics::default();
        let keys = before.read(dir.path(), "n");
        before.all().iter().for_each(|pod| before.note(folder.path(), pod).unwrap());
        let of = |name: &str| keys.iter().find(|key| key.name.name == format!("{name}-n")).unwrap().clone();
        std::fs::remove_file(dir.path().join("goes")).unwrap();
        write("half", "metadata: {name: [");
        write("new", &pod("new"));
        let next = Statics::default();
        next.recall(folder.path());
        let changed = next.read(dir.path(), "n");
        assert!(
            changed.contains(&of("goes")) && changed.contains(&of("stays")),
            "all are looked at: {changed:?}"
        );
        let is_there = |name: &str| next.get(&of(name).name).is_some();
        assert_eq!(["stays", "goes", "half"].map(is_there), [true, false, true]);
        assert_eq!(["stays", "goes", "half"].map(|name| next.knows(&of(name))), [false, true, false]);
        assert!(next.read(dir.path(), "n").is_empty());
        // An agent without files ends all of them.
        let last = Statics::default();
        last.recall(folder.path());
        assert_eq!(last.none().len(), 3);
        assert!(last.knows(&of("stays")));
    }
}
