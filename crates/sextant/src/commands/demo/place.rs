//! Where a demo lives: an instance of its own, which the next demo clears away if this one is killed, in a network of its own: what it
//! says of Services is nothing that this machine's network should know. A link leads to another host there, a network namespace too.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use kernel::netlink::{Batch, Protocol, SetLink, Socket};
use rustix::fs::{FlockOperation, flock};
use rustix::thread::UnshareFlags;

use super::host::{Host, POOL};
use super::image::REGISTRY;
use crate::commands::up;
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;

const RUN: &str = "/run";
const DATA: &str = "/var/tmp";
const PREFIX: &str = "sextant-demo-";
/// A file there, which stays.
const TURN: &str = "sextant-demo.lock";

#[derive(Debug)]
pub(super) struct Place {
    pub(super) run: PathBuf,
    pub(super) data: PathBuf,
    /// The host at the other end of a link.
    pub(super) host: Host,
    /// Locked while this demo lives.
    _lock: File,
}

impl Place {
    /// Makes one, and clears away those of demos that were killed. From then on this process is in a network of its own.
    pub(super) fn make() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err(Failure::new(
                "cannot run the demo as an ordinary user: run it as root (sudo sextant demo)",
            ));
        }
        own_network()?;
        let host = Host::join().context(|| "join another host to the demo's network".into())?;
        let _turn = turn();
        clear_dead();
        let name = format!("{PREFIX}{}", std::process::id());
        let (run, data) = (Path::new(RUN).join(&name), Path::new(DATA).join(&name));
        for dir in [&run, &data] {
            fs::DirBuilder::new().mode(0o700).create(dir).context(|| format!("create {}", dir.display()))?;
        }
        let lock = lock(&run).ok_or_else(|| Failure::new(format!("cannot lock {}", run.display())))?;
        Ok(Self { run, data, host, _lock: lock })
    }

    /// Where images are.
    pub(super) fn images_dir(&self) -> PathBuf {
        self.data.join("images")
    }

    /// Where the registry keeps its own.
    pub(super) fn registry_dir(&self) -> PathBuf {
        self.data.join("registry")
    }

    /// Where the node's configuration is.
    pub(super) fn node_config(&self) -> PathBuf {
        node_config(&self.data)
    }

    /// What load balancers get addresses of.
    pub(super) fn cloud_config(&self) -> Result<PathBuf> {
        let path = self.data.join("cloud.yaml");
        let text = format!("pools: [{{name: demo, addresses: [{POOL}]}}]\n");
        fs::write(&path, text).context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Has the registry that the objects name be this one. Of the machine's configuration nothing is taken: the demo is the same everywhere.
    pub(super) fn configure(&self, registry: std::net::SocketAddr) -> Result<()> {
        let hosts = self.data.join("hosts");
        let folder = hosts.join(REGISTRY);
        fs::create_dir_all(&folder).context(|| format!("create {}", folder.display()))?;
        let hosts_toml = format!("server = \"http://{registry}\"\n");
        let node_toml = format!("[images]\nhosts_dirs = [{hosts:?}]\n\n[nri]\nenabled = false\n");
        for (path, text) in [(folder.join("hosts.toml"), hosts_toml), (self.node_config(), node_toml)] {
            fs::write(&path, text).context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    /// Says how to look at it.
    pub(super) fn explain(&self) {
        let text = format!(
            "\nIt is up, in a network of its own. Look at it from another terminal:\n\
             \x20 nsenter -t {} -n\n\
             \x20 export SEXTANT_DATA_DIR={data} SEXTANT_RUN_DIR={} KUBECONFIG={data}/kubeconfig\n\
             \x20 sextant get pods -A         # or: kubectl get pods -A\n\
             \x20 sextant status\n\
             Ctrl-C here removes it.\n",
            std::process::id(),
            self.run.display(),
            data = self.data.display(),
        );
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    /// Undoes everything, and returns what could not be.
    pub(super) fn clean(self) -> Vec<Failure> {
        let _turn = turn();
        clear(&self.run, &self.data)
    }
}

fn node_config(data: &Path) -> PathBuf {
    data.join("node.toml")
}

/// Everything: programs, pods, volumes, and the folders.
fn clear(run: &Path, data: &Path) -> Vec<Failure> {
    let mut errors = match Instance::open(data, run) {
        Ok(instance) => up::remove(&instance, &node_config(data), true),
        Err(failure) => vec![failure],
    };
    if errors.is_empty() {
        errors.extend(remove(data).err());
        errors.extend(remove(run).err());
    }
    errors
}

fn remove(dir: &Path) -> Result<()> {
    fs::remove_dir_all(dir).context(|| format!("remove {}", dir.display()))
}

/// The right to look at the places of all demos, for as long as it is held: nobody takes one for dead that is being made, nor lays a lock
/// into one that is being removed.
fn turn() -> Option<File> {
    let file =
        File::options().create(true).truncate(false).write(true).open(Path::new(RUN).join(TURN)).ok()?;
    flock(&file, FlockOperation::LockExclusive).ok()?;
    Some(file)
}

fn lock(run: &Path) -> Option<File> {
    let file = File::options().create(true).truncate(false).write(true).open(run.join("demo.lock")).ok()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

/// Best effort: a demo that cannot be cleared now is tried by the next. Its network has gone with its last process.
fn clear_dead() {
    for entry in fs::read_dir(RUN).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let run = entry.path();
        let Some(_lock) = lock(&run) else { continue };
        clear(&run, &Path::new(DATA).join(&name));
    }
}

/// A network with loopback alone.
fn own_network() -> Result<()> {
    kernel::namespace::unshare(UnshareFlags::NEWNET).context(|| "make a network of its own".into())?;
    let mut batch = Batch::new();
    batch.set_link(&SetLink::named("lo").up(true));
    let made = Socket::open(Protocol::Route).and_then(|mut socket| socket.run(&batch));
    made.context(|| "bring up loopback in a network of its own".into())
}
