//! Finding again what is there: after a restart of this process, and after one of the machine.
//!
//! What pods and containers are is in their records; what they do, their shims tell. What has no record is undone.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ledger::OwnerId;
use prost::Message;
use shim::protocol::{ContainerEvent, EVENTS, Empty, Happened};
use tokio::sync::oneshot;

use super::cgroup::kill_all;
use super::container::{self, Container};
use super::node::{Node, blocking};
use super::pod::{self, Pod};
use super::shims::{self, Connection, Event};
use super::{files, place};
use crate::contract::Error;
use crate::contract::v1::LinuxContainerResources;

/// How long the shims of all pods have to tell what they do before the node serves.
const PATIENCE: Duration = Duration::from_secs(10);

impl Node {
    /// Takes back what nobody owns, and reads every pod and container. What runs is known when it returns.
    ///
    /// # Errors
    /// A shim is there and cannot be reached now: a node that took it for gone would end what runs.
    pub(crate) async fn recover(self: &Arc<Self>) -> Result<(), Error> {
        let node = Arc::clone(self);
        let (pods, containers, seen) = blocking(move || Ok(node.read_records())).await?;
        for record in pods {
            let shim = match record.boot == self.boot {
                true => reach(&self.place.pod_run(&record.id).join("shim.sock")).await?,
                false => None,
            };
            self.state.add_pod(Arc::new(Pod::new(record, shim)));
        }
        for (record, exit, resources) in containers {
            let made_before = record.boot != self.boot;
            let container = Arc::new(Container::new(record));
            resources.into_iter().for_each(|limits| container.set_resources(limits));
            if let Some(exit) = exit {
                container.remember(&exit);
                if container.live().finished_at > seen {
                    self.stopped(&container);
                }
            } else if made_before {
                self.container_lost(&container).await;
            }
            self.state.add_container(container);
        }
        let mut told = Vec::new();
        for pod in self.state.pods() {
            match pod.is_ready() {
                true => told.push((self.watch_pod(&pod), pod)),
                false => self.settle_dead(&pod).await,
            }
        }
        self.shim_scope.iter().for_each(shims::Scope::take_all);
        let end = tokio::time::Instant::now() + PATIENCE;
        for (told, pod) in told {
            // A shim that has ended meanwhile has told all, too.
            if tokio::time::timeout_at(end, told).await.is_err() {
                self.log(&format!("pod sandbox {}: its shim does not tell what runs yet", pod.id()));
            }
        }
        Ok(())
    }

    #[allow(clippy::type_complexity, reason = "it is taken apart where it is returned to")]
    fn read_records(
        &self,
    ) -> (
        Vec<pod::Record>,
        Vec<(container::Record, Option<container::Exit>, Option<LinuxContainerResources>)>,
        i64,
    ) {
        self.drop_torn();
        for error in self.place.record_again() {
            self.log(&format!("a folder without a record: {error}"));
        }
        self.detach_unmade();
        let data = &self.place.data;
        let report = self.place.ledger.converge(&|owner: &OwnerId| {
            *owner == OwnerId::node() || place::is_alive(data, owner) || (self.others)(owner)
        });
        for (owner, error) in report.errors {
            self.log(&format!("{owner}: {error}"));
        }
        let pods = self.read_all(&self.place.pods(), pod::Record::read);
        let containers = self.read_all(&self.place.containers(), container::Record::read);
        let with_rest = containers.into_iter().map(|record| {
            let dir = self.place.container(&record.id);
            let (exit, limits) = (container::Exit::read(&dir), container::updated_resources(&dir));
            for error in [exit.as_ref().err(), limits.as_ref().err()].into_iter().flatten() {
                self.log(&format!("container {}: {error}", record.id));
            }
            (record, exit.ok().flatten(), limits.ok().flatten())
        });
        (pods, with_rest.collect(), self.events.last_seen())
    }

    /// Takes away records that a power cut left without their end, and those of containers whose pod is gone: nobody was
    /// told that they last, and the rest of what is theirs is undone then.
    fn drop_torn(&self) {
        let records = |dir: &Path, name: &'static str| {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            entries.map(move |entry| entry.path().join(name)).filter(|path| path.exists()).collect::<Vec<_>>()
        };
        let drop = |path: &Path, why: &str| {
            self.log(&format!("{}: {why}: removed with what it stands for", path.display()));
            if let Err(error) = fs::remove_file(path) {
                self.log(&format!("cannot remove {}: {error}", path.display()));
            }
        };
        let containers = records(&self.place.containers(), container::RECORD);
        let [pods, unmade] = [pod::RECORD, pod::ATTACHING].map(|name| records(&self.place.pods(), name));
        for path in pods.iter().chain(&unmade).chain(&containers) {
            if files::is_torn(path) {
                drop(path, "it was cut off, as by a power cut");
            }
        }
        for path in containers {
            let pod =
                path.parent().and_then(|dir| container::Record::read(dir).ok().flatten()).map(|c| c.pod);
            if pod.is_some_and(|pod| !self.place.pod(&pod).join(pod::RECORD).exists()) {
                drop(&path, "its pod is gone");
            }
        }
    }

    /// Has plugins of others take back what they did for pods that did not come to be; the rest of those is the ledger's.
    fn detach_unmade(&self) {
        for record in self.read_all(&self.place.pods(), pod::Record::read_unmade) {
            let owner = OwnerId::new(record.id.as_str()).and_then(|id| self.place.ledger.owner(&id));
            let detached =
                owner.map_err(Error::of).and_then(|mut owner| pod::detach(self, &record, &mut owner));
            match detached {
                // The next process tries again: what is left on disk is on no other record.
                Err(error) => self.log(&format!("pod sandbox {}: {error}", record.id)),
                Ok(()) => drop(fs::remove_file(self.place.pod(&record.id).join(pod::ATTACHING))),
            }
        }
    }

    fn read_all<T>(&self, dir: &Path, read: impl Fn(&Path) -> Result<Option<T>, Error>) -> Vec<T> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut all = Vec::new();
        for entry in entries {
            match read(&entry.path()) {
                Ok(record) => all.extend(record),
                Err(error) => self.log(&format!("passed over: {error}")),
            }
        }
        all
    }

    /// A pod whose shim is gone: what still runs of it is ended, what it held while it was up is let go of.
    async fn settle_dead(self: &Arc<Self>, pod: &Arc<Pod>) {
        let running: Vec<_> =
            self.state.containers_of(pod.id()).into_iter().filter(|c| c.may_run()).collect();
        let cgroups: Vec<_> = running.iter().map(|c| c.cgroup()).collect();
        let mut result = blocking(move || kill_all(&cgroups)).await;
        for container in running {
            // One that was only created has no shim to lose, and can still be removed; it cannot be started.
            // With the run directory gone there is no telling: lost is what can be removed and made anew.
            let untold = !self.place.pod_run(pod.id()).exists();
            if untold || self.place.bundle(container.id()).join("process.json").exists() {
                self.container_lost(&container).await;
            }
        }
        let _turn = pod.turn.lock().await;
        result = result.and(self.clear_pod(pod).await);
        if let Err(error) = result {
            self.log(&format!("pod sandbox {}: {error}", pod.id()));
        }
    }

    /// Follows what happens in a pod, as its shim tells it, until the shim is gone. The receiver hears when the shim has told
    /// all that was, or has gone.
    pub(crate) fn watch_pod(self: &Arc<Self>, pod: &Arc<Pod>) -> oneshot::Receiver<()> {
        let (node, pod) = (Arc::clone(self), Arc::clone(pod));
        let (current, told) = oneshot::channel();
        tokio::spawn(async move {
            let mut current = Some(current);
            while let Ok(shim) = pod.shim() {
                // A shim that cuts off a slow reader is asked again; one that is gone cannot be.
                if node.follow(&pod, &shim, &mut current).await.is_err() {
                    break;
                }
            }
            node.shim_lost(&pod).await;
        });
        told
    }

    /// Takes events until the stream ends. An error if there is no shim any more.
    async fn follow(
        self: &Arc<Self>,
        pod: &Pod,
        shim: &Connection,
        current: &mut Option<oneshot::Sender<()>>,
    ) -> Result<(), shims::Error> {
        let mut events = shim.stream(&EVENTS, &Empty {}).await?;
        loop {
            match events.next().await {
                Event::Data(bytes) => {
                    let event = ContainerEvent::decode(&*bytes)?;
                    match event.happened() {
                        // Nobody need wait for it.
                        Happened::Current => drop(current.take().map(|told| told.send(()))),
                        Happened::Exited if event.container == pod.id() => {
                            return Err(shims::Error::Broken("the pod's sandbox has ended".into()));
                        }
                        _ => self.take(&event),
                    }
                }
                Event::End(Ok(_)) => return Ok(()),
                Event::End(Err(error)) if error.is_gone() => return Err(error),
                Event::End(Err(_)) => return Ok(()),
            }
        }
    }

    fn take(self: &Arc<Self>, event: &ContainerEvent) {
        let Ok(container) = self.state.container(&event.container) else { return };
        match event.happened() {
            Happened::Started => {
                if container.set_running(event.pid, event.at) {
                    self.events.container_started(&container);
                }
            }
            Happened::Exited => {
                if let Some(exited) = &event.exited {
                    self.container_exited(&container, exited);
                }
            }
            Happened::Current
            | Happened::Created
            | Happened::Oom
            | Happened::Deleted
            | Happened::PodEnded => {}
        }
    }
}

/// The connection to a shim; none if it is gone. One that is there and cannot take it now (its backlog is full, this process
/// is out of descriptors) is tried again for a while.
async fn reach(socket: &Path) -> Result<Option<Connection>, Error> {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    let mut tries = 50;
    loop {
        match Connection::connect(socket).await {
            Ok(connection) => return Ok(Some(connection)),
            Err(shims::Error::Connect { source, .. })
                if matches!(source.kind(), NotFound | ConnectionRefused) =>
            {
                return Ok(None);
            }
            Err(error) if tries == 0 => return Err(error.into()),
            Err(_) => tries -= 1,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
