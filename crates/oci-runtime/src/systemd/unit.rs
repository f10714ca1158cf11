//! Which unit a container is: `linux.cgroupsPath` in the form `slice:prefix:name`.

use std::path::{Path, PathBuf};

use crate::contract;
use crate::{Error, Result};

const SUFFIX: &str = ".slice";
/// systemd's longest name of a unit.
const MAX_NAME: usize = 255;

/// The unit of a container, and the slice that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// A scope, or a slice if the configuration names one.
    pub name: String,
    /// The slice's name; `-.slice` is the root.
    pub slice: String,
}

impl Unit {
    /// The unit that `cgroups_path` asks for, or, where it is empty, one for the container `id` in the manager's own
    /// slice: `system.slice`, or `user.slice` of a user's manager.
    ///
    /// `slice:prefix:name` is the scope `prefix-name.scope` in that slice; without a prefix it is `name.scope`; a name
    /// that ends with `.slice` is that slice itself. A slice that is empty is the default, and `-` is the root.
    pub fn parse(cgroups_path: &str, id: &str, user: bool) -> Result<Self> {
        let default = if user { "user.slice" } else { "system.slice" };
        if cgroups_path.is_empty() {
            // Of what an id may have in it, units do not take this.
            let id = id.replace('+', "\\x2b");
            let name = format!("{}-{id}.scope", crate::command::NAME);
            return Ok(Self { name, slice: default.into() });
        }
        let wrong = |rule: &str| invalid(cgroups_path, rule);
        let parts: Vec<&str> = cgroups_path.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            return Err(wrong(
                "must be slice:prefix:name with systemd's cgroups, as in system.slice:prefix:name (or leave out \
                 --systemd-cgroup)",
            ));
        };
        if name.is_empty() {
            return Err(wrong("must have a name after the second colon"));
        }
        let slice = match slice {
            "" => default.to_owned(),
            "-" => "-.slice".to_owned(),
            slice => slice.to_owned(),
        };
        expand(&slice).ok_or_else(|| wrong("must begin with the name of a slice, as in a-b.slice"))?;
        let name = match (name.ends_with(SUFFIX), prefix) {
            (true, _) => name.to_owned(),
            (false, "") => format!("{name}.scope"),
            (false, prefix) => format!("{prefix}-{name}.scope"),
        };
        let unit = Self { name, slice };
        // The root slice holds the whole machine.
        if unit.is_slice() && expand(&unit.name).is_none_or(|path| path.as_os_str().is_empty()) {
            return Err(wrong(
                "must end with the name of a slice below the root, as in a-b.slice, or of no slice",
            ));
        }
        let good = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
        if unit.name.len() > MAX_NAME || !unit.name.bytes().all(good) {
            return Err(wrong("must make a unit's name: up to 255 of A-Z a-z 0-9 - _ . \\ @"));
        }
        Ok(unit)
    }

    /// Whether it is a slice, which is made if need be and holds what it is given by hand.
    pub fn is_slice(&self) -> bool {
        self.name.ends_with(SUFFIX)
    }

    /// Its cgroup below that of its manager.
    pub fn cgroup(&self) -> PathBuf {
        // A slice's place follows from its name alone.
        if self.is_slice() {
            return expand(&self.name).unwrap_or_default();
        }
        // A name that could be a file of the cgroup's is escaped.
        let odd = self.name.starts_with(['_', '.']) || CONTROLLERS.iter().any(|c| is_file(&self.name, c));
        let escape = if odd { "_" } else { "" };
        expand(&self.slice).unwrap_or_default().join(format!("{escape}{}", self.name))
    }
}

/// What files of a cgroup begin with.
const CONTROLLERS: [&str; 10] =
    ["cgroup", "cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids", "bpf-firewall"];

fn is_file(name: &str, controller: &str) -> bool {
    name.strip_prefix(controller).is_some_and(|rest| rest.starts_with('.'))
}

/// The path of a slice: `a-b.slice` is `a.slice/a-b.slice`, and `-.slice` is the root.
fn expand(slice: &str) -> Option<PathBuf> {
    let name = slice.strip_suffix(SUFFIX).filter(|name| !name.is_empty() && !name.contains('/'))?;
    if name == "-" {
        return Some(PathBuf::new());
    }
    if name.split('-').any(str::is_empty) {
        return None;
    }
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    Some(ends.map(|end| format!("{}{SUFFIX}", &name[..end])).collect())
}

fn invalid(value: &str, rule: &str) -> Error {
    Error::Config(contract::Error::Invalid {
        field: "linux.cgroupsPath".into(),
        value: format!("{value:?}"),
        rule: rule.into(),
    })
}

/// The path of the cgroup that `pid` is in, below the root: that of v2, or else systemd's own of v1.
pub(super) fn cgroup_of(pid: i32) -> Result<PathBuf> {
    let file = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&file).map_err(|e| kernel::Error::new("read", &file, e))?;
    let find = |start: &str| text.lines().find_map(|line| line.split_once(start)).map(|(_, path)| path);
    // Both are there on a hybrid machine, and are the same then.
    let path = find(":name=systemd:").or_else(|| find("0::")).unwrap_or("/");
    Ok(Path::new(path.trim_start_matches('/')).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(path: &str) -> (String, String, String) {
        let unit = Unit::parse(path, "id+1", false).unwrap();
        (unit.slice.clone(), unit.name.clone(), unit.cgroup().to_string_lossy().into_owned())
    }

    #[test]
    fn a_path_is_slice_prefix_and_name() {
        for (path, slice, name, cgroup) in [
            ("", "system.slice", "sextant-oci-id\\x2b1.scope", "system.slice/sextant-oci-id\\x2b1.scope"),
            ("system.slice:docker:1", "system.slice", "docker-1.scope", "system.slice/docker-1.scope"),
            (":docker:1", "system.slice", "docker-1.scope", "system.slice/docker-1.scope"),
            ("-:x:1", "-.slice", "x-1.scope", "x-1.scope"),
            ("-.slice:x:1", "-.slice", "x-1.scope", "x-1.scope"),
            ("a.slice::1", "a.slice", "1.scope", "a.slice/1.scope"),
            ("a.slice::cpu", "a.slice", "cpu.scope", "a.slice/_cpu.scope"),
            (
                "kube-be-pod7_x.slice:cri:9",
                "kube-be-pod7_x.slice",
                "cri-9.scope",
                "kube.slice/kube-be.slice/kube-be-pod7_x.slice/cri-9.scope",
            ),
            ("a.slice:x:a-b.slice", "a.slice", "a-b.slice", "a.slice/a-b.slice"),
        ] {
            assert_eq!(parse(path), (slice.into(), name.into(), cgroup.into()), "{path}");
        }
        assert_eq!(Unit::parse("", "i", true).unwrap().slice, "user.slice");
    }

    #[test]
    fn a_path_that_is_none_is_named() {
        let long = format!("a.slice:x:{}", "n".repeat(260));
        for bad in [
            "/a/b",
            "a:b",
            "a.slice:b:c:d",
            "a:b:c",
            ".slice:b:c",
            "a--b.slice:b:c",
            "-a.slice:b:c",
            "a/b.slice:b:c",
            "a.slice:b:",
            "a.slice:b:c/d",
            "a.slice:b:c d",
            "a.slice:b:../x",
            "a.slice:b:x--y.slice",
            "a.slice:b:-.slice",
            &long,
        ] {
            let error = Unit::parse(bad, "i", false).unwrap_err().to_string();
            assert!(error.contains("linux.cgroupsPath"), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_units_cgroup_stays_below_its_manager(path in "[-a-c.:/\\\\]{0,12}(\\.slice)?:[-a-c.]{0,3}:[-a-c./]{0,6}(\\.slice)?") {
            if let Ok(unit) = Unit::parse(&path, "i", false) {
                let cgroup = unit.cgroup();
                prop_assert!(cgroup.components().all(|c| matches!(c, std::path::Component::Normal(_))), "{cgroup:?}");
                prop_assert!(!cgroup.as_os_str().is_empty());
            }
        }
    }
}
