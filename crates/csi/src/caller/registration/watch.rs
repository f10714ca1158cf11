//! The kubelet's side: drivers are registered as their sockets come, and forgotten as they go.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use grpc::{Channel, Error};
use tokio::task::JoinHandle;

use crate::caller::Client;
use crate::contract::registration::{
    CSI_PLUGIN, InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse, is_driver_name,
};
use crate::contract::v1::NodeGetInfoRequest;

/// How often the folder is looked through.
const LOOK: Duration = Duration::from_secs(1);
/// How long a plugin may take to say who it is.
const QUESTION: Duration = Duration::from_secs(5);
/// How long a driver may take to say what it calls the node.
const CALL: Duration = Duration::from_secs(60);
/// The longest wait before a plugin is asked again that could not be registered.
const LONGEST: Duration = Duration::from_secs(120);
/// Folders in folders, so many.
const DEPTH: usize = 8;

/// What happens to drivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A driver is there. It is registered once this is taken.
    Came(Registered),
    /// The driver of this name is not offered any more. It may be one whose coming was not taken.
    Gone(String),
    /// A plugin could not be registered; it is asked again.
    Failed {
        /// The socket by which it wants to be.
        socket: PathBuf,
        /// Why.
        cause: String,
    },
}

/// A driver, as its node has to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its name.
    pub driver: String,
    /// The socket that it serves on.
    pub endpoint: PathBuf,
    /// What it calls the node.
    pub node: String,
    /// How many volumes the node can have, if there is a bound.
    pub max_volumes: Option<i64>,
    /// Where the node is: segments of topology by their keys.
    pub topology: BTreeMap<String, String>,
}

/// Registers what is in a folder and those below it, from now on until it is dropped, as a kubelet does: asks each socket there who it
/// is, the driver what it calls the node, and tells it what came of it. The folder need not be there yet. `take` is given every event;
/// a driver whose coming it refuses is told why, and asked again later.
pub async fn watch<F>(folder: &Path, take: impl Fn(Event) -> F + Send + Sync + 'static)
where
    F: Future<Output = Result<(), String>> + Send,
{
    let registry = Arc::new(Registry { take, names: Mutex::default() });
    let mut followed: BTreeMap<PathBuf, (Identity, Following)> = BTreeMap::new();
    loop {
        let mut there = BTreeMap::new();
        sockets(folder, DEPTH, &mut there);
        let old: Vec<PathBuf> = followed
            .iter()
            .filter(|(socket, (identity, _))| there.get(*socket) != Some(identity))
            .map(|(socket, _)| socket.clone())
            .collect();
        for socket in old {
            if let Some((_, following)) = followed.remove(&socket) {
                following.end().await;
                registry.forget(&socket).await;
            }
        }
        for (socket, identity) in there {
            followed.entry(socket.clone()).or_insert_with(|| {
                let registry = Arc::clone(&registry);
                (identity, Following(tokio::spawn(async move { registry.follow(&socket).await })))
            });
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Which file it is: one that was made anew is another, though it may get the number of the one before. A socket has nothing in it that
/// could change, so its modification is when it was made; its change is when somebody gave it another mode, too.
type Identity = (u64, u64, i64, i64);

/// Sockets below a folder. What has a dot before its name is hidden, as a kubelet has it.
fn sockets(folder: &Path, depth: usize, into: &mut BTreeMap<PathBuf, Identity>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if meta.file_type().is_socket() {
            into.insert(entry.path(), (meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec()));
        } else if meta.is_dir() && depth > 0 {
            sockets(&entry.path(), depth - 1, into);
        }
    }
}

/// Who is registered, and who hears of it.
struct Registry<T> {
    take: T,
    /// Sockets of registration by the driver's name.
    names: Mutex<BTreeMap<String, PathBuf>>,
}

impl<T, F> Registry<T>
where
    T: Fn(Event) -> F,
    F: Future<Output = Result<(), String>>,
{
    fn names(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, PathBuf>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a plugin until it is registered.
    async fn follow(&self, socket: &Path) {
        let mut wait = LOOK;
        while let Err(cause) = self.register(socket).await {
            // Whoever hears of it has nothing to say to it.
            let _ = (self.take)(Event::Failed { socket: socket.into(), cause }).await;
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST);
        }
    }

    async fn register(&self, socket: &Path) -> Result<(), String> {
        let failed = |error: Error| error.to_string();
        let plugin = Channel::connect(socket).await.map_err(failed)?.with_deadline(Some(QUESTION));
        let info: PluginInfo = plugin
            .unary("/pluginregistration.Registration/GetInfo", &InfoRequest {})
            .await
            .map_err(failed)?;
        let outcome = self.accept(socket, info).await;
        let status = RegistrationStatus {
            plugin_registered: outcome.is_ok(),
            error: outcome.as_ref().err().cloned().unwrap_or_default(),
        };
        let told: Result<RegistrationStatusResponse, Error> =
            plugin.unary("/pluginregistration.Registration/NotifyRegistrationStatus", &status).await;
        // Whether it has heard it or not: it is registered, or it is not.
        drop(told);
        outcome
    }

    /// Has a plugin taken that has said who it is.
    async fn accept(&self, socket: &Path, info: PluginInfo) -> Result<(), String> {
        let PluginInfo { r#type, name, endpoint, supported_versions } = info;
        if r#type != CSI_PLUGIN {
            return Err(format!("plugins of type {type:?} are not registered here, only {CSI_PLUGIN}"));
        }
        if !is_driver_name(&name) {
            return Err(format!("{name:?} is no driver's name"));
        }
        if !supported_versions.iter().any(|version| version.trim_start_matches('v').starts_with("1.")) {
            return Err(format!("none of the versions {supported_versions:?} is understood, only 1.x"));
        }
        match self.names().entry(name.clone()).or_insert_with(|| socket.into()) {
            other if *other != socket => {
                return Err(format!("driver {name} is registered by {} already", other.display()));
            }
            _ => {}
        }
        let endpoint = match endpoint.as_str() {
            "" => socket.into(),
            endpoint => PathBuf::from(endpoint.strip_prefix("unix://").unwrap_or(endpoint)),
        };
        let came = async {
            let registered = ask(name.clone(), endpoint).await?;
            (self.take)(Event::Came(registered)).await
        };
        let outcome = came.await;
        if outcome.is_err() {
            self.names().remove(&name);
        }
        outcome
    }

    async fn forget(&self, socket: &Path) {
        let name = self.names().iter().find(|(_, by)| *by == socket).map(|(name, _)| name.clone());
        if let Some(name) = name {
            self.names().remove(&name);
            // It is gone, whatever who hears of it says.
            let _ = (self.take)(Event::Gone(name)).await;
        }
    }
}

/// Asks a driver what it calls the node.
async fn ask(driver: String, endpoint: PathBuf) -> Result<Registered, String> {
    let failed = |error: Error| format!("cannot ask driver {driver}: {error}");
    let client = Client::connect(&endpoint).await.map_err(failed)?.with_deadline(CALL);
    let info = client.node_get_info(NodeGetInfoRequest {}).await.map_err(failed)?;
    if info.node_id.is_empty() {
        return Err(format!("driver {driver} has no name for this node (node_id is empty)"));
    }
    Ok(Registered {
        driver,
        endpoint,
        node: info.node_id,
        max_volumes: Some(info.max_volumes_per_node).filter(|most| *most > 0),
        topology: info.accessible_topology.map(|topology| topology.segments).unwrap_or_default(),
    })
}

/// A task that ends with its owner.
struct Following(JoinHandle<()>);

impl Following {
    /// Resolves once it does nothing any more.
    async fn end(mut self) {
        self.0.abort();
        let _ended = (&mut self.0).await;
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}
