//! The runtime's side of CNI: drives any plugin through the contract, as libcni does.

mod cache;
mod directory;
mod exec;
mod gc;
mod kept;
mod network;
mod restore;
mod run;
mod undo;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kernel::netlink::Sockets;

pub use cache::{Cached, cached, cached_attachments};
pub use directory::{CONF_DIR, Directory, Entry, Watch};
pub use network::{Instance, Network, default_network, loopback_network};
pub use restore::Keeper;
pub use run::{Added, Step};

use crate::contract::Registry;

/// Drives configuration lists: ADD in order, DEL in reverse, CHECK, STATUS, GC, VERSION.
///
/// Plugins in `builtins` run in this process; any other type is looked for in `plugin_dirs` and executed.
///
/// A caller keeps its netlink sockets, and its cache's lock open, and what it wrote there last. So it, and its clones, are used by threads in one network namespace: the host's.
#[derive(Clone)]
pub struct Caller {
    /// Plugins that run in this process, by type.
    pub builtins: Registry,
    /// `CNI_PATH`: where the programs of other plugins are.
    pub plugin_dirs: Vec<PathBuf>,
    /// Where results are kept between ADD and DEL, in libcni's format, below `results/`.
    pub cache_dir: PathBuf,
    /// How long an executed plugin may take before it is killed.
    pub deadline: Duration,
    pub(crate) sockets: Arc<Sockets>,
    /// Of `cache_dir`, not held by anybody.
    locks: Arc<Mutex<Vec<gc::Lock>>>,
    written: Arc<kept::Entries>,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let builtins: Vec<_> = self.builtins.keys().collect();
        f.debug_struct("Caller")
            .field("builtins", &builtins)
            .field("plugin_dirs", &self.plugin_dirs)
            .field("cache_dir", &self.cache_dir)
            .finish_non_exhaustive()
    }
}

impl Caller {
    /// A caller of `builtins` alone, with the results below `cache_dir`.
    pub fn new(builtins: Registry, cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            builtins,
            plugin_dirs: Vec::new(),
            cache_dir: cache_dir.into(),
            deadline: Duration::from_secs(90),
            sockets: Arc::default(),
            locks: Arc::default(),
            written: Arc::default(),
        }
    }
}
