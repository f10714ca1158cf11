//! What is written down of volumes before a driver is asked, so that an agent that was killed knows whom to ask to take them back.
//!
//! A publication is beside its mount point, `pods/UID/volumes/kubernetes.io~csi/NAME/vol_data.json`; what the node as a whole has of a
//! volume (staged, attached) is in `plugins/kubernetes.io/csi/DRIVER/HASH/vol_data.json`. A record goes after what it tells of.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use client::cache::Name;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::names::Key;
use crate::volumes::write_record;

/// A record's file, as a kubelet calls its own.
const FILE: &str = "vol_data.json";
/// The same before it is whole.
const FRESH: &str = "vol_data.new";

/// Which volume: a driver's handles are its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Id {
    /// The driver's name.
    pub(crate) driver: String,
    /// What the driver calls the volume.
    pub(crate) handle: String,
}

impl Id {
    /// As the status of a node names it.
    pub(crate) fn unique(&self) -> String {
        format!("kubernetes.io/csi/{}^{}", self.driver, self.handle)
    }
}

/// A volume that is, or was to be, where a pod looks for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Published {
    /// The volume.
    #[serde(flatten)]
    pub(crate) id: Id,
    /// The driver's socket, as it was then.
    pub(crate) endpoint: PathBuf,
    /// The pod's namespace.
    pub(crate) namespace: String,
    /// The pod's name.
    pub(crate) pod: String,
    /// What its mount point is called in its place.
    pub(crate) point: String,
}

/// What the node has of a volume, for all of its pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// The volume.
    #[serde(flatten)]
    pub(crate) id: Id,
    /// The driver's socket, as it was then.
    pub(crate) endpoint: PathBuf,
    /// Whether it is, or was to be, staged.
    pub(crate) staged: bool,
    /// The VolumeAttachment that is, or was to be, there for it.
    pub(crate) attachment: Option<String>,
}

/// Where a pod's volumes of drivers are.
pub(crate) fn volumes(agent: &Path, uid: &str) -> PathBuf {
    super::super::folder(agent, uid).join("volumes/kubernetes.io~csi")
}

/// Where the node's part of a volume is.
pub(crate) fn place(agent: &Path, id: &Id) -> PathBuf {
    plugins(agent).join(&id.driver).join(hex(&id.handle))
}

fn plugins(agent: &Path) -> PathBuf {
    agent.join("plugins/kubernetes.io/csi")
}

/// The SHA-256 of a text, as kubelets name things by it.
pub(crate) fn hex(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a record into a place, which is made.
///
/// # Errors
/// It cannot be written.
pub(crate) fn write(place: &Path, record: &impl Serialize) -> Result<(), String> {
    write_record(place, [FILE, FRESH], record)
}

/// The record in a place, if there is one that can be read.
pub(crate) fn read<T: DeserializeOwned>(place: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(place.join(FILE)).ok()?).ok()
}

/// Removes a mount point that a driver has left: never what is in it.
pub(crate) fn remove_point(point: &Path) -> io::Result<()> {
    match fs::symlink_metadata(point) {
        Ok(meta) if meta.is_dir() => gone(fs::remove_dir(point)),
        // What a device was to be bound to.
        Ok(_) => gone(fs::remove_file(point)),
        Err(_) => Ok(()),
    }
}

/// Removes a place with its record.
pub(crate) fn remove(place: &Path) -> io::Result<()> {
    for name in [FILE, FRESH] {
        gone(fs::remove_file(place.join(name)))?;
    }
    gone(fs::remove_dir(place))
}

fn gone(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A pod's publications, by the names of their places.
pub(crate) fn of_pod(agent: &Path, uid: &str) -> Vec<(PathBuf, Published)> {
    let entries = folders(&volumes(agent, uid));
    entries.into_iter().filter_map(|place| Some((place.clone(), read(&place)?))).collect()
}

/// All publications, with the pods they are of.
pub(crate) fn all(agent: &Path) -> Vec<(Key, PathBuf, Published)> {
    let of = |uid: String| {
        let its = of_pod(agent, &uid).into_iter();
        its.map(move |(place, one)| {
            let name = Name::new(&one.namespace, &one.pod);
            (Key { name, uid: uid.clone() }, place, one)
        })
    };
    super::super::uids(agent).into_iter().flat_map(of).collect()
}

/// All that the node has of volumes.
pub(crate) fn held(agent: &Path) -> Vec<Held> {
    let drivers = folders(&plugins(agent));
    drivers.iter().flat_map(|driver| folders(driver)).filter_map(|place| read(&place)).collect()
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.filter(is_folder).map(|entry| entry.path()).collect()
}

/// The name of a place.
pub(crate) fn name_of(place: &Path) -> String {
    place.file_name().unwrap_or(OsStr::new("")).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_down_is_found_by_pod_and_by_volume() {
        let dir = tempfile::tempdir().unwrap();
        let id = Id { driver: "d.example.com".into(), handle: "v/1".into() };
        let (endpoint, namespace, pod) = ("/run/d.sock".into(), "shop".into(), "db-0".into());
        let one = Published { id: id.clone(), endpoint, namespace, pod, point: "mount".into() };
        let at = volumes(dir.path(), "u1").join("pvc-1");
        write(&at, &one).unwrap();
        fs::create_dir(at.join("mount")).unwrap();
        // One of which nothing is known, and what is no place.
        fs::create_dir_all(volumes(dir.path(), "u2").join("pvc-2")).unwrap();
        fs::write(volumes(dir.path(), "u2").join("x"), "").unwrap();
        let key = Key { name: Name::new("shop", "db-0"), uid: "u1".into() };
        assert_eq!(all(dir.path()), [(key, at.clone(), one)]);
        let held_ = Held { id: id.clone(), endpoint: "/run/d.sock".into(), staged: true, attachment: None };
        write(&place(dir.path(), &id), &held_).unwrap();
        assert_eq!(held(dir.path()), [held_]);
        assert_eq!(id.unique(), "kubernetes.io/csi/d.example.com^v/1");

        fs::write(at.join("mount/data"), "x").unwrap();
        remove_point(&at.join("mount")).unwrap_err();
        fs::remove_file(at.join("mount/data")).unwrap();
        for _ in 0..2 {
            remove_point(&at.join("mount")).unwrap();
            remove(&at).unwrap();
        }
        assert!(!at.exists());
    }
}
