//! What all calls work on.

use std::sync::Arc;

use grpc::Failure;

use super::backend::{self, Backend};
use super::node::Uses;
use super::pool::record::{Group, Snapshot, Volume};
use super::pool::{Kept, Pool};
use super::turns::{Turn, Turns};
use super::{PoolConfig, Setup, text};

/// Where a volume of this driver can be reached from: the node that has it.
pub(super) const TOPOLOGY: &str = "topology.csi.sextant.dev/node";

/// The driver on this machine.
pub(crate) struct Driver {
    pub(super) node: String,
    pub(super) pools: Vec<Pool>,
    pub(super) turns: Turns,
    pub(super) uses: Uses,
}

impl Driver {
    /// Opens the pools, and mends what a killed driver left.
    pub(super) fn open(setup: &Setup) -> Result<Driver, Failure> {
        setup.config.validate()?;
        topology_value(&setup.node)?;
        let pools = setup.config.pools.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        of_different_file_systems(&setup.config.pools)?;
        let uses = Uses::load(&setup.run)?;
        let driver = Driver { node: setup.node.clone(), pools, turns: Turns::default(), uses };
        driver.recover();
        Ok(driver)
    }

    /// What cannot be mended is told: it keeps nobody from the other volumes.
    fn recover(&self) {
        for pool in &self.pools {
            for kept in pool.volumes() {
                if let Err(error) = self.recover_volume(pool, &kept) {
                    eprintln!("sextant csi: cannot recover volume {}: {error}", kept.record.id);
                }
            }
        }
    }

    fn recover_volume(&self, pool: &Pool, kept: &Kept<Volume>) -> Result<(), Failure> {
        let volume = &kept.record;
        let used = self.uses.of(&volume.id);
        // Its pod is gone, or never got it: what is attached is on record first.
        if volume.ephemeral && used.is_none() {
            return pool.remove_volume(&volume.id);
        }
        let backend = pool.backend_of(volume)?;
        backend.recover(&kept.place, volume, used.as_ref().and_then(|used| used.root()))?;
        if volume.block && used.is_none() { backend.release(&kept.place, volume) } else { Ok(()) }
    }

    /// The pool of a name; the first without.
    pub(super) fn pool(&self, name: &str) -> Result<&Pool, Failure> {
        let found = if name.is_empty() {
            self.pools.first()
        } else {
            self.pools.iter().find(|pool| pool.name == name)
        };
        found.ok_or_else(|| {
            let has: Vec<&str> = self.pools.iter().map(|pool| pool.name.as_str()).collect();
            let message =
                format!("{} is no pool of this driver: it has {}", text::shown(name), has.join(", "));
            Failure::invalid("parameters[pool]", message)
        })
    }

    /// A volume and its pool.
    pub(super) fn volume(&self, id: &str) -> Result<(&Pool, Arc<Kept<Volume>>), Failure> {
        self.find(|pool| pool.volume(id)).ok_or_else(|| self.missing("volume", id))
    }

    pub(super) fn snapshot(&self, id: &str) -> Result<(&Pool, Arc<Kept<Snapshot>>), Failure> {
        self.find(|pool| pool.snapshot(id)).ok_or_else(|| self.missing("snapshot", id))
    }

    pub(super) fn group(&self, id: &str) -> Result<(&Pool, Arc<Kept<Group>>), Failure> {
        self.find(|pool| pool.group(id)).ok_or_else(|| self.missing("group snapshot", id))
    }

    /// What is not there, or is there and cannot be read.
    fn missing(&self, what: &str, id: &str) -> Failure {
        let unreadable = self.pools.iter().find_map(|pool| pool.is_readable(id).err());
        unreadable.unwrap_or_else(|| Failure::not_found(what, id))
    }

    /// What one of the pools has.
    pub(super) fn find<T>(&self, in_pool: impl Fn(&Pool) -> Option<T>) -> Option<(&Pool, T)> {
        self.pools.iter().find_map(|pool| in_pool(pool).map(|found| (pool, found)))
    }

    /// Tries once more to remove what could not be.
    pub(super) fn sweep(&self) {
        self.pools.iter().for_each(Pool::sweep);
    }

    /// A volume's turn, for who changes it.
    pub(super) fn turn(&self, volume: &str) -> Result<Turn, Failure> {
        self.turns.alone(volume)
    }
}

/// Backends by the names that classes know them by, the best first.
fn open(config: &PoolConfig) -> Result<Pool, Failure> {
    let mut backends: Vec<Box<dyn Backend>> = Vec::new();
    let wanted: Vec<&str> = if config.backends.is_empty() {
        backend::ALL.to_vec()
    } else {
        config.backends.iter().map(String::as_str).collect()
    };
    std::fs::create_dir_all(&config.path).map_err(|e| {
        Failure::internal(format!("cannot make the pool {:?} at {}: {e}", config.name, config.path.display()))
    })?;
    if let Some(device) = &config.device {
        let volumes = backend::thin::Volumes::open(&config.path, device)?;
        return Pool::open(&config.name, &config.path, vec![Box::new(volumes)], config.overcommit);
    }
    let mut lacking = Vec::new();
    for name in wanted {
        match backend::open(name, config) {
            Ok(backend) => backends.push(backend),
            // Of all, those are meant that can be had. What few pools have is told to who asks for it.
            Err(error) if config.backends.is_empty() => {
                if name == backend::ALL[0] {
                    eprintln!("sextant csi: pool {:?}: {error}", config.name);
                }
                lacking.push((name.to_owned(), error.message));
            }
            Err(error) => return Err(error.within("pool.backends")),
        }
    }
    let mut pool = Pool::open(&config.name, &config.path, backends, config.overcommit)?;
    pool.lacking = lacking;
    Ok(pool)
}

/// Refuses a node's name that cannot be the value of a topology (CSI, "Topology").
fn topology_value(node: &str) -> Result<(), Failure> {
    let plain = |c: u8| c.is_ascii_alphanumeric();
    let good = node.bytes().all(|c| plain(c) || b"-_.".contains(&c));
    let ends = node.bytes().next().is_some_and(plain) && node.bytes().next_back().is_some_and(plain);
    if good && ends && node.len() <= 63 {
        return Ok(());
    }
    let rule = "1 to 63 letters, digits, '-', '_' and '.', a letter or digit at both ends";
    Err(Failure::invalid("node", format!("{} cannot be a node's name here: write {rule}", text::shown(node))))
}

/// Refuses pools that would promise the same bytes.
fn of_different_file_systems(pools: &[PoolConfig]) -> Result<(), Failure> {
    let mut seen: Vec<(u64, &str)> = Vec::new();
    // Of one that has a device only the records are on the file system.
    for pool in pools.iter().filter(|pool| pool.device.is_none()) {
        // Not st_dev, of which each subvolume of btrfs has its own. Some file systems have no number.
        let number = rustix::fs::statvfs(&pool.path).map_or(0, |told| told.f_fsid);
        if let Some((_, other)) = seen.iter().find(|(known, _)| number != 0 && *known == number) {
            let message = format!(
                "{other:?} and {:?} are on the same file system, which each would promise: give one",
                pool.name
            );
            return Err(Failure::invalid("pool", message));
        }
        seen.push((number, &pool.name));
    }
    Ok(())
}
