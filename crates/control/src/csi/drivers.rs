//! The drivers there are: found at their sockets, asked who they are, and asked again when they come back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use csi::caller::{Client, Driver};
use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, abortable};
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often folders are looked through, and drivers that are gone are called.
const LOOK: Duration = Duration::from_secs(1);
/// How often a driver that is there is asked whether it is ready.
const PROBE: Duration = Duration::from_secs(10);
/// How long it may take to say so.
const ANSWER: Duration = Duration::from_secs(5);

/// Where drivers listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A socket's path.
    Socket(PathBuf),
    /// A folder: each `*.sock` in it, and each `*/csi.sock`, as in the kubelet's `plugins`.
    Folder(PathBuf),
}

impl Place {
    /// Adds the sockets that are there now; one that is named, though it is not.
    pub fn sockets(&self, into: &mut BTreeSet<PathBuf>) {
        match self {
            Self::Socket(path) => {
                into.insert(path.clone());
            }
            Self::Folder(folder) => {
                for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                    let path = entry.path();
                    if path.extension().is_some_and(|extension| extension == "sock") {
                        into.insert(path);
                    } else if path.join("csi.sock").exists() {
                        into.insert(path.join("csi.sock"));
                    }
                }
            }
        }
    }
}

/// The drivers that can be called.
#[derive(Debug)]
pub struct Drivers {
    there: Mutex<BTreeMap<String, Found>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Found {
    driver: Arc<Driver>,
    socket: PathBuf,
}

impl Drivers {
    /// Looks for drivers from now on, by tasks of the current runtime that end when nobody holds it any more.
    #[must_use]
    pub fn start(places: Vec<Place>, deadline: Duration) -> Arc<Self> {
        let drivers = Arc::new(Self { there: Mutex::default(), changed: watch::Sender::new(0) });
        let weak = Arc::downgrade(&drivers);
        tokio::spawn(async move {
            let mut followed: BTreeMap<PathBuf, Following> = BTreeMap::new();
            while let Some(drivers) = weak.upgrade() {
                let mut sockets = BTreeSet::new();
                places.iter().for_each(|place| place.sockets(&mut sockets));
                followed.retain(|socket, _| sockets.contains(socket));
                for socket in sockets {
                    let weak = Arc::downgrade(&drivers);
                    followed.entry(socket.clone()).or_insert_with(|| {
                        Following(tokio::spawn(async move {
                            let mut told = String::new();
                            while let Some(drivers) = weak.upgrade() {
                                match drivers.follow(&socket, deadline).await {
                                    Ok(()) => told.clear(),
                                    Err(error) if error != told => {
                                        eprintln!("sextant control: warning: {}: {error}", socket.display());
                                        told = error;
                                    }
                                    Err(_) => {}
                                }
                                drop(drivers);
                                tokio::time::sleep(LOOK).await;
                            }
                        }))
                    });
                }
                drop(drivers);
                tokio::time::sleep(LOOK).await;
            }
        });
        drivers
    }

    /// Connects to a driver and keeps it among those that are there while it is ready.
    async fn follow(&self, socket: &Path, deadline: Duration) -> Result<(), String> {
        let client =
            Client::connect(socket).await.map_err(|error| error.to_string())?.with_deadline(deadline);
        let probe = client.with_deadline(ANSWER);
        let mut entry: Option<Entry<'_>> = None;
        loop {
            let is_ready = probe.is_ready().await.map_err(|error| error.to_string())?;
            if is_ready && entry.is_none() {
                let driver = Driver::ask(client.clone()).await.map_err(|error| error.to_string())?;
                entry = Some(self.insert(driver, socket)?);
            } else if !is_ready {
                entry = None;
            }
            // Until the next question, or the connection's end.
            for _ in 0..PROBE.as_millis() / 200 {
                tokio::time::sleep(Duration::from_millis(200)).await;
                if client.is_closed() {
                    return Ok(());
                }
                if entry.is_none() {
                    break;
                }
            }
        }
    }

    fn there(&self) -> MutexGuard<'_, BTreeMap<String, Found>> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, driver: Driver, socket: &Path) -> Result<Entry<'_>, String> {
        let name = driver.name.clone();
        if name.is_empty() {
            return Err("the driver has no name".into());
        }
        let mut there = self.there();
        if let Some(other) = there.get(&name) {
            return Err(format!("driver {name} is at {} already", other.socket.display()));
        }
        there.insert(name.clone(), Found { driver: Arc::new(driver), socket: socket.into() });
        drop(there);
        eprintln!("sextant control: driver {name} is at {}", socket.display());
        self.changed.send_modify(|count| *count += 1);
        Ok(Entry { drivers: self, name })
    }

    /// The driver of this name, if it is there and ready.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Driver>> {
        self.there().get(name).map(|found| found.driver.clone())
    }

    /// All drivers that are there and ready, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Driver>> {
        self.there().values().map(|found| found.driver.clone()).collect()
    }

    /// Tells whenever a driver has come or gone; and at once, for those that came before.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        let mut changes = self.changed.subscribe();
        changes.mark_changed();
        changes
    }

    /// Does something with each driver while it is there, and with all at the same time, until it is dropped. One that comes back is
    /// another: it may have changed.
    pub async fn each<F: Future<Output = ()>>(&self, act: impl Fn(Arc<Driver>) -> F) {
        let mut changes = self.changes();
        let mut acting = FuturesUnordered::new();
        let mut known: Vec<(Arc<Driver>, AbortHandle)> = Vec::new();
        loop {
            tokio::select! {
                _ = changes.changed() => {}
                Some(_) = acting.next(), if !acting.is_empty() => continue,
            }
            let there = self.all();
            known.retain(|(driver, act)| {
                let stays = there.iter().any(|one| Arc::ptr_eq(one, driver));
                if !stays {
                    act.abort();
                }
                stays
            });
            for driver in there {
                if !known.iter().any(|(one, _)| Arc::ptr_eq(one, &driver)) {
                    let (future, abort) = abortable(act(driver.clone()));
                    acting.push(future);
                    known.push((driver, abort));
                }
            }
        }
    }
}

/// A driver's place among those that are there.
struct Entry<'a> {
    drivers: &'a Drivers,
    name: String,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.drivers.there().remove(&self.name);
        eprintln!("sextant control: driver {} is gone, or not ready", self.name);
        self.drivers.changed.send_modify(|count| *count += 1);
    }
}

/// A task that ends with its owner.
struct Following(JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests;
