//! Where containers' cgroups are: below what the kubelet names, as the cgroupfs or the systemd driver writes it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::contract::Error;

/// Who makes the kubelet's cgroups, and so how it names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// Directories: `/kubepods/burstable/pod1234`.
    Cgroupfs,
    /// Slices of systemd: `kubepods-burstable-pod1234.slice`.
    Systemd,
}

/// The cgroup that a pod's containers are in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "driver")]
pub(crate) enum Parent {
    /// A directory below every hierarchy's root.
    Cgroupfs {
        /// From the root of the hierarchies, without the first slash.
        path: PathBuf,
    },
    /// A slice of systemd.
    Systemd {
        /// `kubepods-burstable-pod1234.slice`.
        slice: String,
    },
}

impl Parent {
    /// The parent that a kubelet asks for by `cgroup_parent`; `own` where it asks for none.
    pub(crate) fn of(asked: &str, driver: Driver, own: &str) -> Result<Self, Error> {
        let field = "config.linux.cgroup_parent";
        let name = asked.trim_matches('/');
        if name.split('/').any(|part| part == "..") {
            return Err(Error::invalid(
                field,
                format!("{asked:?} leads upwards: give a path without \"..\""),
            ));
        }
        match driver {
            Driver::Cgroupfs if name.is_empty() => Ok(Self::Cgroupfs { path: own.into() }),
            Driver::Cgroupfs => Ok(Self::Cgroupfs { path: name.into() }),
            Driver::Systemd if name.is_empty() => Ok(Self::Systemd { slice: "system.slice".into() }),
            Driver::Systemd => {
                // The kubelet sends the whole path; the slice's name is its last part.
                let slice = name.rsplit('/').next().unwrap_or(name);
                if !slice.ends_with(".slice") {
                    let hint = "with the systemd driver it ends in .slice; both sides need the same driver";
                    return Err(Error::invalid(field, format!("{asked:?} is no slice: {hint}")));
                }
                Ok(Self::Systemd { slice: slice.to_owned() })
            }
        }
    }

    /// `linux.cgroupsPath` of a container.
    pub(crate) fn child(&self, instance: &str, id: &str) -> String {
        match self {
            Self::Cgroupfs { path } => format!("/{}/{id}", path.display()),
            Self::Systemd { slice } => format!("{slice}:{instance}:{id}"),
        }
    }

    /// The directory of a container's cgroup below every hierarchy's root, without the first slash.
    pub(crate) fn child_dir(&self, instance: &str, id: &str) -> PathBuf {
        match self {
            Self::Cgroupfs { path } => path.join(id),
            Self::Systemd { slice } => slice_dir(slice).join(format!("{instance}-{id}.scope")),
        }
    }

    /// Its own directory.
    pub(crate) fn dir(&self) -> PathBuf {
        match self {
            Self::Cgroupfs { path } => path.clone(),
            Self::Systemd { slice } => slice_dir(slice),
        }
    }
}

/// The directory of the cgroup that `linux.cgroupsPath` names: a path, or systemd's `SLICE:PREFIX:NAME`.
pub(crate) fn dir_of(path: &str) -> Result<PathBuf, Error> {
    let parts: Vec<&str> = path.split(':').collect();
    if path.split(['/', ':']).any(|part| part == "..") || path.trim_matches('/').is_empty() {
        return Err(Error::internal(format!("{path:?} names no cgroup: give a path without \"..\"")));
    }
    Ok(match parts[..] {
        [slice, prefix, name] => slice_dir(slice).join(format!("{prefix}-{name}.scope")),
        _ => path.trim_matches('/').into(),
    })
}

/// Kills what is in these cgroups, as far as they are there.
pub(crate) fn kill_all(cgroups: &[PathBuf]) -> Result<(), Error> {
    for cgroup in cgroups {
        let cgroup = kernel::cgroup::Cgroup::at(cgroup)?;
        if cgroup.exists() {
            cgroup.kill()?;
        }
    }
    Ok(())
}

/// `a-b-c.slice` is in `a.slice/a-b.slice` (systemd.slice(5)).
fn slice_dir(slice: &str) -> PathBuf {
    let stem = slice.strip_suffix(".slice").unwrap_or(slice);
    let mut path = PathBuf::new();
    let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
    for end in ends.filter(|&end| end > 0) {
        path.push(format!("{}.slice", &stem[..end]));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_nested_as_systemd_nests_them() {
        let dir = slice_dir("kubepods-burstable-pod12_3.slice");
        assert_eq!(
            dir,
            PathBuf::from("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12_3.slice")
        );
    }

    #[test]
    fn both_drivers_name_containers() {
        let parent = Parent::of("/kubepods/pod1", Driver::Cgroupfs, "sextant").unwrap();
        assert_eq!(parent.child("sextant", "c"), "/kubepods/pod1/c");
        assert_eq!(parent.child_dir("sextant", "c"), PathBuf::from("kubepods/pod1/c"));
        let parent = Parent::of("/kubepods.slice/kubepods-pod1.slice", Driver::Systemd, "sextant").unwrap();
        assert_eq!(parent.child("sextant", "c"), "kubepods-pod1.slice:sextant:c");
        assert_eq!(
            parent.child_dir("sextant", "c"),
            PathBuf::from("kubepods.slice/kubepods-pod1.slice/sextant-c.scope")
        );
        assert!(Parent::of("/kubepods", Driver::Systemd, "sextant").is_err());
        assert!(Parent::of("/a/../b", Driver::Cgroupfs, "sextant").is_err());
        assert_eq!(
            Parent::of("", Driver::Cgroupfs, "sextant").unwrap(),
            Parent::Cgroupfs { path: "sextant".into() }
        );
    }
}
