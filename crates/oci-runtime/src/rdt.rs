//! Cache and memory bandwidth: a container's group in the resctrl filesystem (Intel RDT, AMD QoS).
//!
//! As with the cgroup, the group is the caller's: made before the container, removed after it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kernel::Act;
use rustix::io::Errno;

use crate::contract::IntelRdt;
use crate::{Error, Result};

/// A group that is made, with its schemata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The class of service.
    dir: PathBuf,
    /// The container's own monitoring group.
    monitor: Option<PathBuf>,
    /// The class was made for this container alone.
    own: bool,
}

impl Group {
    /// Makes the group that `rdt` asks for the container `id`. On an error nothing is left.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where no resctrl filesystem is mounted; what the kernel says about schemata it does not
    /// take.
    pub fn create(rdt: &IntelRdt, id: &str) -> Result<Self> {
        let table = "/proc/self/mountinfo";
        let mounts = fs::read_to_string(table).act("read", || table)?;
        match mount_point(&mounts) {
            Some(root) => Self::create_in(Path::new(&root), rdt, id),
            None => Err(Error::Unsupported {
                field: "linux.intelRdt".into(),
                value: rdt.clos_id.clone(),
                hint: "no resctrl filesystem is mounted; mount one on /sys/fs/resctrl or leave the field out",
            }),
        }
    }

    /// The group that [`create`](Self::create) made for the container `id`, by what it made it of; `None` where no resctrl
    /// filesystem is mounted any more.
    pub fn of(rdt: &IntelRdt, id: &str) -> Result<Option<Self>> {
        let table = "/proc/self/mountinfo";
        let mounts = fs::read_to_string(table).act("read", || table)?;
        Ok(mount_point(&mounts).map(|root| Self::of_in(Path::new(&root), rdt, id)))
    }

    fn of_in(root: &Path, rdt: &IntelRdt, id: &str) -> Self {
        let named = !rdt.clos_id.is_empty();
        let dir = root.join(if named { rdt.clos_id.trim_start_matches('/') } else { id });
        let monitor = rdt.enable_monitoring.then(|| dir.join("mon_groups").join(id));
        Self { dir, monitor, own: !named }
    }

    fn create_in(root: &Path, rdt: &IntelRdt, id: &str) -> Result<Self> {
        let name = if rdt.clos_id.is_empty() { id } else { &rdt.clos_id };
        let dir = root.join(name.trim_start_matches('/'));
        let lines = lines(rdt);
        let named = !rdt.clos_id.is_empty();
        let mut group = Self { monitor: None, own: false, dir };
        if named && lines.is_empty() {
            if !group.dir.is_dir() {
                let object = format!(
                    "{} of linux.intelRdt.closID (without schemata it must be there already)",
                    group.dir.display()
                );
                return Err(kernel::Error::new("find", object, Errno::NOENT).into());
            }
        } else {
            group.make(root, named, &lines)?;
        }
        if rdt.enable_monitoring {
            let monitor = group.dir.join("mon_groups").join(id);
            if let Err(e) = fs::create_dir(&monitor).act("create", || monitor.display().to_string()) {
                drop(group.remove());
                return Err(told(root, e));
            }
            group.monitor = Some(monitor);
        }
        Ok(group)
    }

    /// Makes the class with its schemata; one that is there must have them.
    fn make(&mut self, root: &Path, named: bool, lines: &[&str]) -> Result<()> {
        let schemata = self.dir.join("schemata");
        let made = match fs::create_dir(&self.dir) {
            Ok(()) => true,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => false,
            Err(e) => {
                return Err(told(root, kernel::Error::new("create", self.dir.display().to_string(), e)));
            }
        };
        self.own = made && !named;
        if !made && named {
            let there = fs::read_to_string(&schemata).act("read", || schemata.display().to_string())?;
            return match lines.iter().find(|line| !holds(&there, line)) {
                None => Ok(()),
                Some(line) => {
                    let object = format!(
                        "{line:?} of linux.intelRdt in {} (the class is there and has {there:?})",
                        self.dir.display()
                    );
                    Err(kernel::Error::new("find", object, Errno::EXIST).into())
                }
            };
        }
        if lines.is_empty() {
            return Ok(());
        }
        let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        fs::write(&schemata, &text)
            .act("write", || format!("{text:?} of linux.intelRdt to {}", schemata.display()))
            .map_err(|e| {
                let e = told(root, e);
                if made {
                    drop(fs::remove_dir(&self.dir));
                }
                e
            })
    }

    /// Puts a process into the group: the container's first one, and each that joins.
    pub fn add(&self, pid: i32) -> Result<()> {
        for dir in [Some(&self.dir), self.monitor.as_ref()].into_iter().flatten() {
            let tasks = dir.join("tasks");
            fs::write(&tasks, pid.to_string()).act("write", || format!("{pid} to {}", tasks.display()))?;
        }
        Ok(())
    }

    /// Removes what was made for the container. Not there counts as done.
    pub fn remove(&self) -> Result<()> {
        // With the class its monitoring groups go too.
        let dir = if self.own { Some(&self.dir) } else { self.monitor.as_ref() };
        match dir.map(|dir| (dir, fs::remove_dir(dir))) {
            Some((dir, Err(e))) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(kernel::Error::new("remove", dir.display().to_string(), e).into())
            }
            _ => Ok(()),
        }
    }
}

/// The lines for `schemata`, in the specification's order.
fn lines(rdt: &IntelRdt) -> Vec<&str> {
    let older = [rdt.l3_cache_schema.as_str(), rdt.mem_bw_schema.as_str()];
    older.into_iter().chain(rdt.schemata.iter().map(String::as_str)).filter(|line| !line.is_empty()).collect()
}

/// Does `there`, the text of a `schemata` file, say what `line` says? Zeros and the order of domains do not count.
fn holds(there: &str, line: &str) -> bool {
    let Some((name, wanted)) = schema(line) else { return false };
    there.lines().filter_map(schema).any(|(other, domains)| {
        other == name && wanted.iter().all(|(domain, value)| domains.get(domain) == Some(value))
    })
}

/// `L3:0=0ff;1=c0` as its name and values by domain.
fn schema(line: &str) -> Option<(&str, BTreeMap<&str, String>)> {
    let (name, domains) = line.trim().split_once(':')?;
    let values = domains.split(';').map(|part| {
        let (domain, value) = part.trim().split_once('=')?;
        let value = value.trim().trim_start_matches('0').to_ascii_lowercase();
        Some((domain.trim(), value))
    });
    Some((name.trim(), values.collect::<Option<_>>()?))
}

/// Where resctrl is mounted, from mountinfo.
fn mount_point(mountinfo: &str) -> Option<String> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        (right.split(' ').next() == Some("resctrl")).then(|| left.split(' ').nth(4).map(str::to_owned))?
    })
}

/// The error with what resctrl itself says about its last command.
fn told(root: &Path, error: kernel::Error) -> Error {
    let status = fs::read_to_string(root.join("info/last_cmd_status")).unwrap_or_default();
    match status.trim() {
        "" | "ok" => error.into(),
        status => kernel::Error::new(error.verb, format!("{} ({status})", error.object), error.source).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rdt(clos: &str, lines: &[&str]) -> IntelRdt {
        IntelRdt {
            clos_id: clos.into(),
            l3_cache_schema: "L3:0=f".into(),
            mem_bw_schema: String::new(),
            schemata: lines.iter().map(ToString::to_string).collect(),
            enable_monitoring: false,
        }
    }

    /// A plain directory in place of resctrl: what the kernel makes in a new class, the test makes.
    #[test]
    fn a_class_is_made_filled_and_removed() {
        let fake = tempfile::tempdir().unwrap();
        let wanted = rdt("", &["MB:0=50"]);
        let group = Group::create_in(fake.path(), &wanted, "box").unwrap();
        let dir = fake.path().join("box");
        assert_eq!(fs::read_to_string(dir.join("schemata")).unwrap(), "L3:0=f\nMB:0=50\n");
        assert_eq!(Group::of_in(fake.path(), &wanted, "box"), group);
        group.add(4321).unwrap();
        assert_eq!(fs::read_to_string(dir.join("tasks")).unwrap(), "4321");
        fs::remove_file(dir.join("schemata")).unwrap();
        fs::remove_file(dir.join("tasks")).unwrap();
        group.remove().unwrap();
        assert!(!dir.exists());
        group.remove().unwrap();
    }

    #[test]
    fn a_class_that_is_there_is_used_and_stays() {
        let fake = tempfile::tempdir().unwrap();
        let dir = fake.path().join("gold");
        fs::create_dir_all(dir.join("mon_groups")).unwrap();
        fs::write(dir.join("schemata"), "    MB:0=100\n    L3:0=00f;1=ff\n").unwrap();
        let mut wanted = rdt("gold", &[]);
        wanted.enable_monitoring = true;
        let group = Group::create_in(fake.path(), &wanted, "box").unwrap();
        assert_eq!(group.monitor, Some(dir.join("mon_groups/box")));
        assert_eq!(Group::of_in(fake.path(), &wanted, "box"), group);
        group.remove().unwrap();
        assert!(dir.exists() && !dir.join("mon_groups/box").exists());
        let error = Group::create_in(fake.path(), &rdt("gold", &["MB:0=50"]), "box").unwrap_err().to_string();
        assert!(error.contains("\"MB:0=50\" of linux.intelRdt"), "{error}");
        let mut bare = rdt("silver", &[]);
        bare.l3_cache_schema.clear();
        let error = Group::create_in(fake.path(), &bare, "box").unwrap_err().to_string();
        assert!(error.contains("silver of linux.intelRdt.closID"), "{error}");
        bare.clos_id = "/".into();
        assert_eq!(Group::create_in(fake.path(), &bare, "box").unwrap().dir, fake.path().join(""));
    }

    #[test]
    fn resctrl_is_found_where_it_is_mounted() {
        let text = "22 1 0:1 / /sys rw - sysfs sysfs rw\n40 22 0:9 / /mnt/rdt rw - resctrl resctrl rw\n";
        assert_eq!(mount_point(text).as_deref(), Some("/mnt/rdt"));
        assert_eq!(mount_point("22 1 0:1 / /resctrl rw - sysfs resctrl rw\n"), None);
        if mount_point(&fs::read_to_string("/proc/self/mountinfo").unwrap()).is_none() {
            let error = Group::create(&rdt("", &[]), "box").unwrap_err().to_string();
            assert!(
                error.starts_with("cannot set linux.intelRdt: ") && error.contains("mount one"),
                "{error}"
            );
        }
    }
}
