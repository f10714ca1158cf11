//! Finding again what is there: after a restart of this process, and after one of the machine.
//!
//! What pods and containers are is in their records; what they do, their shims tell. What has no record is undone.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ledger::OwnerId;
use prost::Message;
use shim::protocol::{ContainerEvent, EVENTS, Empty, Happened};

use super::container::{self, Container};
use super::node::{Node, blocking};
use super::place;
use super::pod::{self, Pod};
use super::shims::{Connection, Event};
use crate::contract::Error;

impl Node {
    /// Takes back what nobody owns, and reads every pod and container.
    pub(crate) async fn recover(self: &Arc<Self>) -> Result<(), Error> {
        let node = Arc::clone(self);
        let (pods, containers) = blocking(move || Ok(node.read_records())).await?;
        for record in pods {
            let socket = self.place.pod_run(&record.id).join("shim.sock");
            let shim = match record.boot == self.boot {
                true => Connection::connect(&socket).await.ok(),
                false => None,
            };
            self.state.add_pod(Arc::new(Pod::new(record, shim)));
        }
        let seen = self.events.last_seen();
        for record in containers {
            let exit = container::Exit::read(&self.place.container(&record.id)).ok().flatten();
            let made_before = record.boot != self.boot;
            let container = Arc::new(Container::new(record));
            match container::updated_resources(&self.place.container(container.id())) {
                Ok(resources) => resources.into_iter().for_each(|limits| container.set_resources(limits)),
                Err(error) => self.log(&format!("container {}: {error}", container.id())),
            }
            if let Some(exit) = exit {
                container.remember(&exit);
                if container.live().finished_at > seen {
                    self.events.container_stopped(&container);
                }
            } else if made_before {
                self.container_lost(&container);
            }
            self.state.add_container(container);
        }
        for pod in self.state.pods() {
            match pod.is_ready() {
                true => self.watch_pod(&pod),
                false => self.settle_dead(&pod).await,
            }
        }
        Ok(())
    }

    fn read_records(&self) -> (Vec<pod::Record>, Vec<container::Record>) {
        let data = &self.place.data;
        let report = self.place.ledger.converge(&|owner: &OwnerId| {
            *owner == OwnerId::node() || place::is_alive(data, owner) || (self.others)(owner)
        });
        for (owner, error) in report.errors {
            self.log(&format!("{owner}: {error}"));
        }
        let pods = self.read_all(&self.place.pods(), pod::Record::read);
        let containers = self.read_all(&self.place.containers(), container::Record::read);
        (pods, containers)
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
        let killed = blocking(move || {
            for cgroup in cgroups {
                let cgroup = kernel::cgroup::Cgroup::at(&cgroup)?;
                if cgroup.exists() {
                    cgroup.kill()?;
                }
            }
            Ok(())
        });
        let mut result = killed.await;
        for container in running {
            // One that was only created has no shim to lose, and can still be removed; it cannot be started.
            if self.place.bundle(container.id()).join("process.json").exists() {
                self.container_lost(&container);
            }
        }
        let _turn = pod.turn.lock().await;
        result = result.and(self.clear_pod(pod).await);
        if let Err(error) = result {
            self.log(&format!("pod sandbox {}: {error}", pod.id()));
        }
    }

    /// Follows what happens in a pod, as its shim tells it, until the shim is gone.
    pub(crate) fn watch_pod(self: &Arc<Self>, pod: &Arc<Pod>) {
        let (node, pod) = (Arc::clone(self), Arc::clone(pod));
        tokio::spawn(async move {
            while let Ok(shim) = pod.shim() {
                // A shim that cuts off a slow reader is asked again; one that is gone cannot be.
                if node.follow(&shim).await.is_err() {
                    break;
                }
            }
            node.shim_lost(&pod).await;
        });
    }

    /// Takes events until the stream ends. An error if there is no shim any more.
    async fn follow(self: &Arc<Self>, shim: &Connection) -> Result<(), super::shims::Error> {
        let mut events = shim.stream(&EVENTS, &Empty {}).await?;
        loop {
            match events.next().await {
                Event::Data(bytes) => self.take(&ContainerEvent::decode(&*bytes)?),
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
