//! What a container is, as it is kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::contract::Error;
use crate::contract::v1::{ContainerConfig, Mount};
use crate::plugin::files;

/// The file that makes a container be: written last when one is made.
pub(crate) const RECORD: &str = "container.json";

/// What a container is. Kept as long as the container, across boots.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) id: String,
    /// Its pod's id.
    pub(crate) pod: String,
    /// Nanoseconds since 1970.
    pub(crate) created: i64,
    /// What the kubelet sent.
    pub(crate) config: ContainerConfig,
    /// The image's id: its configuration's digest.
    pub(crate) image_id: String,
    /// How the image is named to whoever wants this very one: `name@digest`, or the id.
    pub(crate) image_ref: String,
    /// The unpacked layers, the topmost first, by diffID: what must not be collected while this is here.
    pub(crate) layers: Vec<String>,
    /// Where its log goes; nowhere if none.
    pub(crate) log: Option<PathBuf>,
    /// A name of the image, if it has one.
    pub(crate) image_name: String,
    /// The images that are mounted, by their mount's `container_path`: their ids.
    #[serde(default)]
    pub(crate) mounted_images: BTreeMap<String, String>,
    /// The layers of those images, by diffID.
    #[serde(default)]
    pub(crate) mounted_layers: Vec<String>,
    /// Who its program runs as.
    pub(crate) user: User,
    /// What StopContainer sends: the kernel's number.
    pub(crate) stop_signal: i32,
    /// The same as CRI's number.
    pub(crate) signal: i32,
    /// Its cgroup, below every hierarchy's root.
    pub(crate) cgroup: PathBuf,
    /// The boot it was made in.
    pub(crate) boot: String,
}

/// Who a program runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

/// How a container ended, as its shim wrote it (`exit.json`).
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Exit {
    pub(crate) code: i32,
    #[serde(default)]
    pub(crate) oom: bool,
    /// RFC 3339.
    #[serde(default)]
    pub(crate) at: String,
    /// RFC 3339; empty if it never ran.
    #[serde(default)]
    pub(crate) started_at: String,
    /// Where it is not what the code tells.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
}

impl Record {
    /// Reads the record in `dir`, if there is one.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, Error> {
        files::read_json(&dir.join(RECORD))
    }

    /// The mounts as they were asked for, with the ids of the images among them.
    pub(crate) fn mounts(&self) -> Vec<Mount> {
        let mut mounts = self.config.mounts.clone();
        for mount in &mut mounts {
            if let (Some(image), Some(id)) =
                (&mut mount.image, self.mounted_images.get(&mount.container_path))
            {
                image.image_ref.clone_from(id);
            }
        }
        mounts
    }
}

impl Exit {
    /// Reads the exit in `dir`, if there is one.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, Error> {
        files::read_json(&dir.join("exit.json"))
    }
}
