//! Pods: a sandbox of namespaces with a shim that is parent of its containers.

mod make;
mod mesh;
mod names;
mod network;
mod record;
mod remove;
mod sandbox;
mod status;
mod stop;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use names::hostname;
pub(crate) use network::{Networks, caller, detach, is_host};
pub(crate) use record::{ATTACHING, RECORD, Record};
pub(crate) use status::has_labels;

use shim::protocol::IdMapping;

use super::shims::Connection;
use crate::contract::Error;
use crate::contract::v1;

/// A pod, in memory.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) record: Record,
    live: Mutex<Live>,
    /// One change at a time: whoever stops, removes or adds a container holds it.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// Plugins have heard that it was stopped.
    pub(crate) told_stopped: tokio::sync::OnceCell<()>,
}

/// What changes in a pod.
#[derive(Debug, Default, Clone)]
struct Live {
    /// Its shim, while that lives.
    shim: Option<Connection>,
    /// Nothing is left of what it holds while it is up.
    cleared: bool,
}

impl Pod {
    /// A pod whose shim is `shim`; one without is not ready.
    pub(crate) fn new(record: Record, shim: Option<Connection>) -> Self {
        let live = Mutex::new(Live { shim, cleared: false });
        Self { record, live, turn: tokio::sync::Mutex::new(()), told_stopped: tokio::sync::OnceCell::new() }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its id.
    pub(crate) fn id(&self) -> &str {
        &self.record.id
    }

    /// The connection to its shim.
    pub(crate) fn shim(&self) -> Result<Connection, Error> {
        self.live().shim.clone().ok_or_else(|| {
            Error::precondition(format!(
                "pod sandbox {} is not running (it was stopped, or its shim ended)",
                self.id()
            ))
        })
    }

    /// Whether it is SANDBOX_READY.
    pub(crate) fn is_ready(&self) -> bool {
        self.live().shim.is_some()
    }

    /// Its shim is gone, or on its way. Whether it was there.
    pub(crate) fn lose_shim(&self) -> bool {
        self.live().shim.take().is_some()
    }

    pub(crate) fn is_cleared(&self) -> bool {
        self.live().cleared
    }

    pub(crate) fn set_cleared(&self) {
        self.live().cleared = true;
    }

    /// Who it is among pods of the same name.
    pub(crate) fn key(&self) -> Key {
        Key::of(&self.record.config)
    }

    /// The namespaces it was asked to share and to have.
    pub(crate) fn namespace_options(&self) -> v1::NamespaceOption {
        namespace_options(&self.record.config)
    }

    /// The ids of its user namespace: users and groups; none without one.
    pub(crate) fn id_mappings(&self) -> (Vec<IdMapping>, Vec<IdMapping>) {
        let user = self.namespace_options().userns_options.filter(|u| u.mode() == v1::NamespaceMode::Pod);
        let map = |ids: &[v1::IdMapping]| ids.iter().map(make::id_mapping).collect();
        user.map_or_else(Default::default, |user| (map(&user.uids), map(&user.gids)))
    }
}

/// The namespaces a pod's configuration asks for.
pub(crate) fn namespace_options(config: &v1::PodSandboxConfig) -> v1::NamespaceOption {
    let security = config.linux.as_ref().and_then(|l| l.security_context.as_ref());
    security.and_then(|s| s.namespace_options.clone()).unwrap_or_default()
}

/// What only one pod may have: two with the same are the same pod, asked for twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    uid: String,
    namespace: String,
    name: String,
    attempt: u32,
}

impl Key {
    /// The key of the pod that `config` describes.
    pub(crate) fn of(config: &v1::PodSandboxConfig) -> Self {
        let metadata = config.metadata.clone().unwrap_or_default();
        Self {
            uid: metadata.uid,
            namespace: metadata.namespace,
            name: metadata.name,
            attempt: metadata.attempt,
        }
    }
}
