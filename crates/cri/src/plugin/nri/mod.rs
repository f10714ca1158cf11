//! NRI, the Node Resource Interface: plugins that hear of pods and containers, and change containers before they are.
//!
//! [`Nri`] has the plugins that are connected and asks them, in the order of their names, one thing at a time. One that does
//! not answer in time is gone; what it was asked goes on without it. Without plugins an event costs one look at a number.
//!
//! A plugin that comes is told all there is while nothing is being made ([`Nri::enter`]): whatever is made is in that list,
//! or the plugin is asked about it.

mod apply;
mod changes;
mod collect;
mod connection;
mod describe;
mod hooks;
mod launch;
mod names;
mod plugin;
mod serve;
#[cfg(test)]
mod tests;
pub mod wire;

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::Message;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

pub(crate) use apply::{known_to_cri, limits};
pub(crate) use hooks::Others;
pub(crate) use serve::serve;

use collect::Collected;
use plugin::Plugin;
use wire::{Container, Empty, Event, PodSandbox};

use super::Place;
use crate::contract::Error;

/// The plugins, and what they are asked.
#[derive(Debug)]
pub(crate) struct Nri {
    place: Place,
    /// In the order in which they are asked.
    plugins: Mutex<Arc<[Arc<Plugin>]>>,
    /// The bits of the events that any of them wants.
    wanted: AtomicI32,
    gate: RwLock<()>,
}

impl Nri {
    /// Without plugins yet.
    pub(crate) fn new(place: Place) -> Self {
        Self { place, plugins: Mutex::new(Arc::new([])), wanted: AtomicI32::new(0), gate: RwLock::new(()) }
    }

    /// Something comes to be, or changes: until the guard is gone no plugin is told what there is. Hold no second one.
    pub(crate) async fn enter(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().await
    }

    /// Waits until nothing is being made, and keeps it so until the guard is gone; `None` if that takes too long. What is to
    /// be made waits behind this, and what is being made may wait for a shim without an end.
    async fn alone(&self, longest: Duration) -> Option<RwLockWriteGuard<'_, ()>> {
        tokio::time::timeout(longest, self.gate.write()).await.ok()
    }

    /// The plugins, if one of them wants the event.
    fn wanting(&self, event: Event) -> Option<Arc<[Arc<Plugin>]>> {
        let wanted = self.wanted.load(Ordering::Acquire) & event.bit() != 0;
        wanted.then(|| Arc::clone(&self.plugins.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Whether anybody wants to hear that a container has ended, or is gone.
    pub(crate) fn hears_stops(&self) -> bool {
        self.wanting(Event::StopContainer).or_else(|| self.wanting(Event::RemoveContainer)).is_some()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Plugin>>)) {
        let mut plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = plugins.to_vec();
        change(&mut all);
        all.sort_by(|a, b| a.name.cmp(&b.name));
        self.wanted.store(all.iter().fold(0, |bits, plugin| bits | plugin.events()), Ordering::Release);
        *plugins = all.into();
    }

    fn add(&self, plugin: Arc<Plugin>) {
        self.change(|all| all.push(plugin));
    }

    fn forget(&self, plugin: &Arc<Plugin>) {
        self.change(|all| all.retain(|other| !Arc::ptr_eq(other, plugin)));
    }

    /// Tells every plugin. The first that refuses is the last that hears of it, if `ends`.
    async fn tell(
        &self,
        plugins: &[Arc<Plugin>],
        event: Event,
        request: &impl Message,
        (pod, container): (&PodSandbox, Option<&Container>),
        ends: bool,
    ) -> Result<(), Error> {
        for plugin in plugins {
            match plugin.tell(event, request, pod, container).await {
                Err(error) if ends => return Err(error),
                Err(error) => log(&error.to_string()),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Asks every plugin about a container that is being created; then those that judge judge.
    async fn ask_create(
        &self,
        plugins: &[Arc<Plugin>],
        pod: PodSandbox,
        container: Container,
    ) -> Result<Collected, Error> {
        let mut collected = Collected::default();
        let before = container.clone();
        let mut request = wire::ContainerEvent { pod: Some(pod), container: Some(container) };
        for plugin in plugins {
            let answer =
                plugin.ask::<wire::CreateContainerResponse>(Event::CreateContainer, &request).await?;
            let Some(answer) = answer else { continue };
            if let (Some(adjust), Some(container)) = (answer.adjust, &mut request.container) {
                collected.adjust(&plugin.name, adjust, container)?;
            }
            collected.update(&plugin.name, answer.update, Some(&before.id))?;
            collected.evictions.extend(answer.evict);
        }
        let judgement = wire::ValidateContainerAdjustmentRequest {
            pod: request.pod,
            container: Some(before),
            adjust: Some(collected.adjust.clone()),
            update: collected.updates.values().cloned().collect(),
            owners: Some(collected.owners.wire.clone()),
            plugins: plugins.iter().filter_map(|plugin| instance(&plugin.name)).collect(),
        };
        for plugin in plugins {
            let event = Event::ValidateContainerAdjustment;
            let answer = plugin.ask::<wire::ValidateContainerAdjustmentResponse>(event, &judgement).await?;
            if let Some(answer) = answer.filter(|answer| answer.reject) {
                return Err(Error::internal(format!(
                    "NRI plugin {:?} rejects what plugins want of the container: {}",
                    plugin.name, answer.reason
                )));
            }
        }
        Ok(collected)
    }
}

fn instance(name: &str) -> Option<wire::PluginInstance> {
    let (index, name) = name.split_once('-')?;
    Some(wire::PluginInstance { name: name.into(), index: index.into() })
}

fn log(line: &str) {
    eprintln!("sextant node: NRI: {line}");
}

/// What methods answer that have nothing to say.
fn nothing() -> Vec<u8> {
    Empty {}.encode_to_vec()
}
