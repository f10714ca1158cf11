//! Where a demo lives: an instance of its own, which the next demo clears away if this one is killed.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use cri::plugin::Config;
use rustix::fs::{FlockOperation, flock};

use super::volumes::Volumes;
use crate::commands::node::NOWHERE;
use crate::commands::node::within::Node;
use crate::failure::{Context, Failure, Result};

const RUN: &str = "/run";
const DATA: &str = "/var/tmp";
const PREFIX: &str = "sextant-demo-";

#[derive(Debug)]
pub(super) struct Place {
    pub(super) run: PathBuf,
    pub(super) data: PathBuf,
    /// The node, once it is started.
    node: Option<Node>,
    /// The CSI driver, once it is started.
    volumes: Option<Volumes>,
    /// Locked while this demo lives.
    _lock: File,
}

impl Place {
    /// Makes one, and clears away those of demos that were killed.
    pub(super) fn make() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err(Failure::new(
                "cannot run the demo as an ordinary user: run it as root (sudo sextant demo)",
            ));
        }
        clear_dead();
        let name = format!("{PREFIX}{}", std::process::id());
        let (run, data) = (Path::new(RUN).join(&name), Path::new(DATA).join(&name));
        for dir in [&run, &data] {
            fs::DirBuilder::new().mode(0o700).create(dir).context(|| format!("create {}", dir.display()))?;
        }
        let lock = lock(&run).ok_or_else(|| Failure::new(format!("cannot lock {}", run.display())))?;
        Ok(Self { run, data, node: None, volumes: None, _lock: lock })
    }

    /// Starts the node.
    pub(super) fn start_node(&mut self) -> Result<()> {
        self.node = Some(Node::start(&self.data, &self.run, config())?);
        Ok(())
    }

    /// The node, which must have been started.
    pub(super) fn node(&self) -> Result<&Node> {
        self.node.as_ref().ok_or_else(|| Failure::new("the demo's node is not started"))
    }

    /// Starts the CSI driver.
    pub(super) fn start_volumes(&mut self) -> Result<()> {
        self.volumes = Some(Volumes::start(&self.data, &self.run)?);
        Ok(())
    }

    /// The CSI driver, which must have been started.
    pub(super) fn volumes(&self) -> Result<&Volumes> {
        self.volumes.as_ref().ok_or_else(|| Failure::new("the demo's CSI driver is not started"))
    }

    /// Where images are.
    pub(super) fn images_dir(&self) -> PathBuf {
        self.data.join("images")
    }

    /// Where the registry keeps its own.
    pub(super) fn registry_dir(&self) -> PathBuf {
        self.data.join("registry")
    }

    /// Where the logs of a pod are.
    pub(super) fn logs_dir(&self, pod: &str) -> PathBuf {
        self.data.join("logs").join(pod)
    }

    /// Says how to look at it.
    pub(super) fn explain(&self) {
        let socket = self.run.join("cri.sock");
        let text = format!(
            "\nIt is up. Look at it from another terminal:\n\
             \x20 export CONTAINER_RUNTIME_ENDPOINT=unix://{}\n\
             \x20 sextant pods                # or: crictl pods\n\
             \x20 sextant logs --pod demo/server\n\
             Ctrl-C here removes it.\n",
            socket.display()
        );
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    /// Undoes everything, and returns what could not be.
    pub(super) fn clean(mut self) -> Vec<Failure> {
        let mut errors = match self.node.take() {
            Some(node) => empty(node),
            None => Vec::new(),
        };
        // After the pods that use them.
        errors.extend(self.volumes.take().and_then(|volumes| volumes.end().err()));
        if errors.is_empty() {
            errors.extend(remove(&self.data).err());
            errors.extend(remove(&self.run).err());
        }
        errors
    }
}

/// Takes down what a node has, and the node.
fn empty(node: Node) -> Vec<Failure> {
    let mut errors = node.remove_pods(|_| true).err().unwrap_or_default();
    errors.extend(node.end().err());
    errors
}

fn remove(dir: &Path) -> Result<()> {
    fs::remove_dir_all(dir).context(|| format!("remove {}", dir.display()))
}

fn lock(run: &Path) -> Option<File> {
    let file = File::options().create(true).truncate(false).write(true).open(run.join("demo.lock")).ok()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

/// Best effort: a demo that cannot be cleared now is tried by the next.
fn clear_dead() {
    for entry in fs::read_dir(RUN).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let (run, data) = (entry.path(), Path::new(DATA).join(&name));
        if !name.to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Some(_lock) = lock(&run) else { continue };
        // Its pods have outlived it, and so have its volumes: a node and a driver in its directories find them.
        if Node::start(&data, &run, config()).is_ok_and(|node| empty(node).is_empty())
            && Volumes::start(&data, &run).is_ok_and(|volumes| volumes.end().is_ok())
        {
            let _ = remove(&data);
            let _ = remove(&run);
        }
    }
}

/// Of this machine's configuration nothing is taken: the demo is the same everywhere.
fn config() -> Config {
    let mut config = Config::default();
    config.network.builtin = true;
    config.network.conf_dir = PathBuf::from(NOWHERE);
    config.images.hosts_dirs.clear();
    config.nri.enabled = false;
    config
}
