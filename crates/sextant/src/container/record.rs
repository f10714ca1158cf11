use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use cni::contract::PortMapping;
use serde::{Deserialize, Serialize};

use crate::failure::{Context, Result};
use crate::instance::Instance;

/// The file that makes a container be: written last when one is made.
pub(crate) const RECORD: &str = "container.json";

/// What a container is. Kept as long as the container, across boots.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The image as it was asked for.
    pub(crate) image: String,
    /// The image's id (its configuration's digest).
    pub(crate) image_id: String,
    /// The unpacked layers, the topmost first, by diffID: what must not be collected while this is here.
    pub(crate) layers: Vec<String>,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) command: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) network: NetworkRecord,
    pub(crate) restart: Restart,
    /// Removed when it has ended.
    pub(crate) remove: bool,
    pub(crate) terminal: bool,
    pub(crate) stdin: bool,
    /// What `stop` sends.
    pub(crate) stop_signal: i32,
    /// Seconds that `stop` waits.
    pub(crate) stop_timeout: u64,
    /// Volumes by name, so that they are not pruned.
    pub(crate) volumes: Vec<String>,
}

/// How it is connected.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NetworkRecord {
    /// As it was asked for: `bridge`, `none`, `host`, `container:ID`, or a configuration's name.
    pub(crate) mode: String,
    pub(crate) hostname: String,
    pub(crate) ports: Vec<PortMapping>,
}

/// When it is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Restart {
    No,
    /// At most so often; 0 is without limit.
    OnFailure(u32),
    Always,
    UnlessStopped,
}

/// How a container ended, as its shim wrote it (`exit.json`).
#[derive(Debug, Clone, Deserialize, Serialize)]
pub(crate) struct ExitRecord {
    pub(crate) code: i32,
    #[serde(default)]
    pub(crate) oom: bool,
    #[serde(default)]
    pub(crate) at: String,
}

/// The processes of a run, as its shim wrote them (`process.json`).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Numbers {
    pub(crate) shim: ShimNumbers,
}

/// The shim among them.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShimNumbers {
    pub(crate) pid: i32,
    pub(crate) start_time: Option<u64>,
}

/// What a container is doing.
#[derive(Debug, Clone)]
pub(crate) enum State {
    /// Its program runs.
    Running { pid: i32, paused: bool },
    /// Between two runs, or before the first.
    Starting,
    /// It has ended.
    Exited(ExitRecord),
    /// It was made, and never ran.
    Created,
}

impl State {
    pub(crate) fn is_active(&self) -> bool {
        matches!(self, Self::Running { .. } | Self::Starting)
    }

    /// One word for programs.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Running { paused: true, .. } => "paused",
            Self::Running { .. } => "running",
            Self::Starting => "starting",
            Self::Exited(_) => "exited",
            Self::Created => "created",
        }
    }
}

impl Record {
    /// Every container, the youngest first. One whose record cannot be read is passed over.
    pub(crate) fn all(instance: &Instance) -> Result<Vec<Self>> {
        let dir = instance.data.join("containers");
        let entries = match fs::read_dir(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.context(|| format!("list {}", dir.display()))?,
        };
        let mut all: Vec<Self> =
            entries.flatten().filter_map(|e| Self::read(&e.path().join(RECORD)).ok().flatten()).collect();
        all.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.name.cmp(&b.name)));
        Ok(all)
    }

    /// The layers that containers are made of, by diffID; `None` if that cannot be told now.
    pub(crate) fn layers_in_use(instance: &Instance) -> Option<BTreeSet<String>> {
        let mut layers = BTreeSet::new();
        let entries = match fs::read_dir(instance.data.join("containers")) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Some(layers),
            entries => entries.ok()?,
        };
        for entry in entries {
            // One that cannot be read may need any.
            layers.extend(
                Self::read(&entry.ok()?.path().join(RECORD)).ok()?.into_iter().flat_map(|r| r.layers),
            );
        }
        Some(layers)
    }

    /// The record at `path`, if there is one.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>> {
        match fs::read(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).context(|| format!("read {}", path.display())),
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).context(|| format!("read {}", path.display()))
            }
        }
    }

    /// Writes it into its container's state directory, whole or not at all.
    pub(crate) fn write(&self, instance: &Instance) -> Result<()> {
        let path = instance.state_dir(&self.id).join(RECORD);
        write_whole(&path, &serde_json::to_vec_pretty(self).context(|| format!("write {}", path.display()))?)
    }

    pub(crate) fn log(&self, instance: &Instance) -> PathBuf {
        instance.state_dir(&self.id).join("log")
    }

    pub(crate) fn exit(&self, instance: &Instance) -> Option<ExitRecord> {
        let bytes = fs::read(instance.state_dir(&self.id).join("exit.json")).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    pub(crate) fn numbers(&self, instance: &Instance) -> Option<Numbers> {
        let bytes = fs::read(instance.bundle_dir(&self.id).join("process.json")).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// Replaces a file: a reader sees the old or the new one.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let next = path.with_extension("next");
    fs::File::create(&next)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&next, path))
        .context(|| format!("write {}", path.display()))
}
