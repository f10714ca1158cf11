use std::collections::BTreeMap;
use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::io::Errno;
use serde_json::Value;

use crate::contract::{Code, Error, NetworkList};

/// Where runtimes look for configurations.
pub const CONF_DIR: &str = "/etc/cni/net.d";

/// A directory of network configurations, read as libcni reads it: `*.conflist`, `*.conf` and `*.json`, in the order of
/// their names.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
}

/// A file of a [`Directory`], and what is in it.
#[derive(Debug)]
pub struct Entry {
    /// The file.
    pub path: PathBuf,
    /// The network; what is wrong with the file if it is none.
    pub network: Result<NetworkList, Error>,
}

impl Entry {
    fn is_list(&self) -> bool {
        self.path.extension().is_some_and(|e| e == "conflist")
    }
}

impl Directory {
    /// The directory at `path`, which need not be there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// All its files. A broken one is an entry too: it is no other network's problem.
    pub fn entries(&self) -> Result<Vec<Entry>, Error> {
        let paths = files(&self.path, &["conflist", "conf", "json"])?;
        Ok(paths.into_iter().map(|path| Entry { network: self.read(&path), path }).collect())
    }

    /// The network called `name`: of a list if there is one, else of a single plugin's file.
    pub fn find(&self, name: &str) -> Result<NetworkList, Error> {
        let mut entries = self.entries()?;
        entries.sort_by_key(|entry| !entry.is_list());
        let mut known = Vec::new();
        for entry in entries {
            match entry.network {
                Ok(list) if list.name == name => return Ok(list),
                Ok(list) => known.push(list.name),
                Err(e) => known.push(format!("{} ({e})", entry.path.display())),
            }
        }
        let error = format!("cannot find network {name:?} in {}", self.path.display());
        Err(Error::new(Code::InvalidConfig, error).hint(match known.as_slice() {
            [] => "there is no configuration in it".into(),
            known => format!("there are: {}", known.join(", ")),
        }))
    }

    /// The network of the first file that has one: what a runtime attaches pods to.
    pub fn first(&self) -> Result<NetworkList, Error> {
        let mut broken = Vec::new();
        for entry in self.entries()? {
            match entry.network {
                Ok(list) => return Ok(list),
                Err(e) => broken.push(format!("{}: {e}", entry.path.display())),
            }
        }
        let error = format!("cannot find a network in {}", self.path.display());
        Err(Error::new(Code::InvalidConfig, error).hint(match broken.as_slice() {
            [] => "there is no configuration in it".into(),
            broken => broken.join("; "),
        }))
    }

    fn read(&self, path: &Path) -> Result<NetworkList, Error> {
        let mut value = json(path)?;
        if path.extension().is_some_and(|e| e == "conflist") || value.get("plugins").is_some() {
            self.add_plugins(&mut value)?;
        }
        NetworkList::from_value(value)
    }

    /// Plugins that others have put into the network's folder beside the list, unless it wants its own alone.
    fn add_plugins(&self, list: &mut Value) -> Result<(), Error> {
        if NetworkList::wants_inlined_alone(list)? {
            return Ok(());
        }
        let Some(name) = list.get("name").and_then(Value::as_str).filter(|name| NetworkList::is_name(name))
        else {
            return Ok(());
        };
        let added = files(&self.path.join(name), &["conf"])?
            .iter()
            .map(|path| json(path))
            .collect::<Result<Vec<_>, _>>()?;
        if let (Some(list), false) = (list.as_object_mut(), added.is_empty()) {
            let plugins = list.entry("plugins").or_insert_with(|| Value::Array(Vec::new()));
            if let Some(plugins) = plugins.as_array_mut() {
                plugins.extend(added);
            }
        }
        Ok(())
    }

    /// Watches it for changes, those of the path to it among them: it may be removed and made anew, or be a link that is
    /// pointed elsewhere. A directory that is not there is made, as runtimes do.
    pub fn watch(&self) -> Result<Watch, Error> {
        let failed = |e: std::io::Error| {
            Error::because(format!("cannot watch {}", self.path.display()), e).code(Code::Io)
        };
        std::fs::create_dir_all(&self.path).map_err(failed)?;
        let path = std::path::absolute(&self.path).map_err(failed)?;
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .map_err(|e| failed(e.into()))?;
        let mut watch = Watch { fd, path, watched: BTreeMap::new(), stale: true };
        watch.renew().map_err(|e| failed(e.into()))?;
        Ok(watch)
    }
}

/// Files with one of these extensions, by name; none if there is no such directory.
fn files(dir: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, Error> {
    let failed = |e: std::io::Error| {
        Error::because(format!("cannot read network configurations in {}", dir.display()), e).code(Code::Io)
    };
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut paths =
        entries.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let wanted = |path: &PathBuf| {
        path.extension().and_then(|e| e.to_str()).is_some_and(|e| extensions.contains(&e)) && !path.is_dir()
    };
    paths.retain(wanted);
    paths.sort();
    Ok(paths)
}

fn json(path: &Path) -> Result<Value, Error> {
    let text = || format!("cannot read network configuration {}", path.display());
    let bytes = std::fs::read(path).map_err(|e| Error::because(text(), e).code(Code::Io))?;
    serde_json::from_slice(&bytes).map_err(|e| Error::because(text(), e).code(Code::Decode))
}

/// The directories on the way to `path`, from above, each with the name below that leads on; the last is `path`'s own. Of a
/// link, both what it stands in and what it leads through are on the way.
fn way(path: &Path) -> Vec<(PathBuf, Option<OsString>)> {
    /// As many as the kernel follows.
    const LINKS: usize = 40;
    let mut left: Vec<OsString> = names(path);
    let (mut at, mut all, mut links) = (PathBuf::from("/"), Vec::new(), 0);
    while let Some(name) = left.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        all.push((at.clone(), Some(name.clone())));
        match std::fs::read_link(at.join(&name)) {
            Ok(target) if links < LINKS => {
                links += 1;
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                left.extend(names(&target));
            }
            _ => at.push(name),
        }
    }
    all.push((at, None));
    all
}

/// The names of a path, the first one last.
fn names(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.collect::<Vec<_>>().into_iter().rev().collect()
}

/// Tells of changes in a [`Directory`].
#[derive(Debug)]
pub struct Watch {
    fd: std::os::fd::OwnedFd,
    path: PathBuf,
    /// What is watched, by the kernel's number: the directory, and each one on the way to it with the names below that lead
    /// there.
    watched: BTreeMap<i32, Vec<Option<OsString>>>,
    /// It could not be renewed after the last change.
    stale: bool,
}

impl std::os::fd::AsFd for Watch {
    /// Readable when something may have changed: for an event loop of the caller's.
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Watch {
    /// Waits at most `timeout` for a change, and takes all that are there. What has changed is not told: the directory
    /// is read anew. Returns before that time, with false, when something else happened beside the path to it.
    pub fn changed(&mut self, timeout: Duration) -> Result<bool, Error> {
        let failed =
            |e: Errno| Error::because("cannot wait for changes of network configurations", e).code(Code::Io);
        if self.stale {
            self.renew().map_err(failed)?;
            return Ok(true);
        }
        let timeout = Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => Ok(false),
            Ok(_) => {
                let changed = self.take().map_err(failed)?;
                if changed {
                    self.renew().map_err(failed)?;
                }
                Ok(changed)
            }
            Err(e) => Err(failed(e)),
        }
    }

    /// Watches what is on the way to the directory now, and nothing else. What is not there yet is seen to come by those
    /// above it.
    fn renew(&mut self) -> rustix::io::Result<()> {
        use inotify::WatchFlags as Flags;
        const ABOVE: Flags = Flags::CREATE
            .union(Flags::DELETE)
            .union(Flags::MOVE)
            .union(Flags::DELETE_SELF)
            .union(Flags::MOVE_SELF)
            .union(Flags::ONLYDIR)
            .union(Flags::MASK_ADD);
        self.stale = true;
        let mut watched: BTreeMap<i32, Vec<Option<OsString>>> = BTreeMap::new();
        // From above: whatever changes below one that is watched is seen.
        for (dir, below) in way(&self.path) {
            let flags = if below.is_none() { ABOVE | Flags::CLOSE_WRITE } else { ABOVE };
            match inotify::add_watch(&self.fd, &dir, flags) {
                Ok(number) => {
                    // Known at once, so that the next renewal removes it, should this one not come to its end.
                    self.watched.entry(number).or_default().push(below.clone());
                    watched.entry(number).or_default().push(below);
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => {}
                Err(errno) => return Err(errno),
            }
        }
        for old in self.watched.keys().filter(|number| !watched.contains_key(number)) {
            // It is gone with its directory, or was another one's.
            let _ = inotify::remove_watch(&self.fd, *old);
        }
        self.watched = watched;
        self.stale = false;
        Ok(())
    }

    /// Takes what has happened; whether it is about the directory, or the way to it.
    fn take(&self) -> rustix::io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.fd, &mut buffer);
        let mut changed = false;
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(changed),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            };
            let lost = event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW);
            changed |= lost
                || match (self.watched.get(&event.wd()), event.file_name()) {
                    (Some(names), Some(name)) => names.iter().any(|below| {
                        below.as_ref().is_none_or(|below| name.to_bytes() == below.as_encoded_bytes())
                    }),
                    (Some(_), None) => true,
                    // One that was watched before.
                    (None, _) => false,
                };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[(&str, &str)]) -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let directory = Directory::new(dir.path());
        (dir, directory)
    }

    fn kinds(list: &NetworkList) -> Vec<&str> {
        list.plugins.iter().map(|plugin| plugin.kind.as_str()).collect()
    }

    #[test]
    fn files_are_taken_by_name_and_lists_are_found_first() {
        let (_dir, directory) = directory(&[
            ("10-a.conf", r#"{"name":"a","type":"single"}"#),
            ("20-a.conflist", r#"{"name":"a","plugins":[{"type":"listed"}]}"#),
            ("05-broken.json", "{"),
            ("00-ignored.txt", "{"),
            ("30-b.json", r#"{"name":"b","type":"x"}"#),
        ]);
        assert_eq!(kinds(&directory.first().unwrap()), ["single"]);
        assert_eq!(kinds(&directory.find("a").unwrap()), ["listed"]);
        let error = directory.find("c").unwrap_err().to_string();
        assert!(
            error.contains("\"c\"") && error.contains("05-broken.json") && error.contains(", b"),
            "{error}"
        );
        assert!(
            Directory::new("/nowhere/at/all").find("a").unwrap_err().to_string().contains("no configuration")
        );
    }

    /// Whether a change is told, in time.
    fn tells(watch: &mut Watch) -> bool {
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while std::time::Instant::now() < end {
            if watch.changed(Duration::from_secs(1)).unwrap() {
                return true;
            }
        }
        false
    }

    #[test]
    fn a_folder_that_is_made_anew_and_a_link_that_is_pointed_elsewhere_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mut watch = Directory::new(at("cni/net.d")).watch().unwrap();
        std::fs::write(at("cni/net.d/10-a.conf"), "{}").unwrap();
        assert!(tells(&mut watch));
        std::fs::remove_dir_all(at("cni")).unwrap();
        assert!(tells(&mut watch));
        while watch.changed(Duration::ZERO).unwrap() {}
        // What is beside the way to it is nobody's business.
        std::fs::create_dir(at("other")).unwrap();
        assert!(!watch.changed(Duration::from_millis(50)).unwrap());
        std::fs::create_dir_all(at("cni/net.d")).unwrap();
        assert!(tells(&mut watch));
        while watch.changed(Duration::ZERO).unwrap() {}
        std::fs::write(at("cni/net.d/10-a.conf"), "{}").unwrap();
        assert!(tells(&mut watch));
        // As a link: to one place, to another, and what happens there.
        std::fs::remove_dir_all(at("cni/net.d")).unwrap();
        std::os::unix::fs::symlink(at("other"), at("cni/net.d")).unwrap();
        assert!(tells(&mut watch));
        while watch.changed(Duration::ZERO).unwrap() {}
        std::fs::write(at("other/20-b.conf"), "{}").unwrap();
        assert!(tells(&mut watch));
        std::fs::create_dir(at("third")).unwrap();
        std::os::unix::fs::symlink(at("third"), at("cni/new")).unwrap();
        std::fs::rename(at("cni/new"), at("cni/net.d")).unwrap();
        assert!(tells(&mut watch));
        while watch.changed(Duration::ZERO).unwrap() {}
        std::fs::write(at("third/20-b.conf"), "{}").unwrap();
        assert!(tells(&mut watch));
        while watch.changed(Duration::ZERO).unwrap() {}
        std::fs::write(at("other/30-c.conf"), "{}").unwrap();
        assert!(!watch.changed(Duration::from_millis(50)).unwrap());
        // What the link leads to, made anew.
        std::fs::remove_dir_all(at("third")).unwrap();
        assert!(tells(&mut watch));
        while watch.changed(Duration::ZERO).unwrap() {}
        std::fs::create_dir(at("third")).unwrap();
        assert!(tells(&mut watch));
        while watch.changed(Duration::ZERO).unwrap() {}
        std::fs::write(at("third/40-d.conf"), "{}").unwrap();
        assert!(tells(&mut watch));
    }

    #[test]
    fn plugins_of_the_networks_folder_are_added() {
        let (_dir, directory) = directory(&[
            ("a.conflist", r#"{"name":"a","plugins":[{"type":"one"}]}"#),
            ("b.conflist", r#"{"name":"b","loadOnlyInlinedPlugins":true,"plugins":[{"type":"one"}]}"#),
            ("c.conflist", r#"{"name":"c","loadOnlyInlinedPlugins":true}"#),
            ("d.conflist", r#"{"name":"d"}"#),
            ("e.conflist", r#"{"name":"e"}"#),
            ("a/20.conf", r#"{"type":"three"}"#),
            ("a/10.conf", r#"{"type":"two"}"#),
            ("a/ignored.conflist", "{"),
            ("b/10.conf", r#"{"type":"two"}"#),
            ("d/10.conf", r#"{"type":"two"}"#),
        ]);
        assert_eq!(kinds(&directory.find("a").unwrap()), ["one", "two", "three"]);
        assert_eq!(kinds(&directory.find("b").unwrap()), ["one"]);
        assert_eq!(kinds(&directory.find("d").unwrap()), ["two"]);
        for name in ["c", "e"] {
            let entry = directory
                .entries()
                .unwrap()
                .into_iter()
                .find(|e| e.path.ends_with(format!("{name}.conflist")));
            let error = entry.unwrap().network.unwrap_err();
            assert!(error.to_string().contains("\"plugins\""), "{error}");
        }
    }

    #[test]
    fn changes_are_noticed() {
        let (dir, directory) = directory(&[]);
        let mut watch = directory.watch().unwrap();
        assert!(!watch.changed(Duration::ZERO).unwrap());
        std::fs::write(dir.path().join("a.conf"), r#"{"name":"a","type":"x"}"#).unwrap();
        assert!(watch.changed(Duration::from_secs(10)).unwrap());
        assert!(!watch.changed(Duration::ZERO).unwrap(), "all of them are taken");
        std::fs::remove_file(dir.path().join("a.conf")).unwrap();
        assert!(watch.changed(Duration::from_secs(10)).unwrap());
    }
}
