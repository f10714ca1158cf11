//! Containers: programs in a pod, with an image for a root.

mod create;
mod log;
mod record;
mod remove;
pub(crate) mod spec;
mod start;
mod status;
mod stop;
mod update;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use shim::protocol::Exited;

pub(crate) use create::Key;
pub(crate) use record::{Exit, RECORD, Record};
pub(crate) use update::updated_resources;

use super::clock;
use crate::contract::Error;
use crate::contract::v1::{ContainerState, LinuxContainerResources};

/// The code of a container whose end nobody saw, as SIGKILL's.
pub(crate) const UNKNOWN_CODE: i32 = 137;

/// A container, in memory.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) record: Record,
    live: Mutex<Live>,
    /// One change at a time: whoever starts or removes it holds it.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// Held while limits change, and while its shim reads them: whether that has. Never while anybody is asked.
    pub(crate) limits: tokio::sync::Mutex<bool>,
    /// Plugins have heard that it has ended.
    pub(crate) told_stopped: tokio::sync::OnceCell<()>,
}

/// What changes in a container.
#[derive(Debug, Clone, Default)]
pub(crate) struct Live {
    pub(crate) state: ContainerState,
    pub(crate) pid: i32,
    pub(crate) started_at: i64,
    pub(crate) finished_at: i64,
    pub(crate) exit_code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// Limits that have been changed since it was created.
    pub(crate) resources: Option<LinuxContainerResources>,
}

impl Container {
    /// A container that has not run.
    pub(crate) fn new(record: Record) -> Self {
        Self {
            record,
            live: Mutex::default(),
            turn: tokio::sync::Mutex::new(()),
            limits: tokio::sync::Mutex::new(false),
            told_stopped: tokio::sync::OnceCell::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it is doing now.
    pub(crate) fn live(&self) -> Live {
        self.lock().clone()
    }

    /// Its id.
    pub(crate) fn id(&self) -> &str {
        &self.record.id
    }

    /// CONTAINER_CREATED, ...
    pub(crate) fn state(&self) -> ContainerState {
        self.lock().state
    }

    /// Whether it has not ended, as far as is known.
    pub(crate) fn may_run(&self) -> bool {
        matches!(self.state(), ContainerState::ContainerCreated | ContainerState::ContainerRunning)
    }

    /// An error unless it runs.
    pub(crate) fn must_run(&self) -> Result<(), Error> {
        match self.state() {
            ContainerState::ContainerRunning => Ok(()),
            other => Err(Error::precondition(format!(
                "container {} is not running: its state is {}",
                self.id(),
                other.as_str_name()
            ))),
        }
    }

    /// Its program runs. False if that was known, or it has ended already.
    pub(crate) fn set_running(&self, pid: i32, at: i64) -> bool {
        let mut live = self.lock();
        if live.state != ContainerState::ContainerCreated {
            return false;
        }
        (live.state, live.pid, live.started_at) = (ContainerState::ContainerRunning, pid, at);
        true
    }

    /// Its program has ended. False if that was known.
    pub(crate) fn set_exited(&self, exited: &Exited) -> bool {
        let reason = match (exited.oom, exited.code) {
            (true, _) => "OOMKilled",
            (false, 0) => "Completed",
            (false, _) => "Error",
        };
        self.end(exited.code, exited.at, reason, "")
    }

    /// It never ran, and why. False if it was known that it has ended: the shim tells that first, without the reason.
    pub(crate) fn set_failed(&self, code: i32, message: &str) -> bool {
        let new = self.end(code, clock::now(), "StartError", message);
        let mut live = self.lock();
        (live.exit_code, live.reason, live.message) = (code, "StartError".into(), message.to_owned());
        new
    }

    /// It has ended as is written down. False if that was known.
    pub(crate) fn remember(&self, exit: &Exit) -> bool {
        if let Some(at) = clock::parse(&exit.started_at) {
            self.set_started_at(at);
        }
        let exited =
            Exited { code: exit.code, oom: exit.oom, at: clock::parse(&exit.at).unwrap_or_else(clock::now) };
        match exit.reason.is_empty() {
            true => self.set_exited(&exited),
            false => self.end(exited.code, exited.at, &exit.reason, &exit.message),
        }
    }

    /// It has ended, and nobody saw how.
    pub(crate) fn set_lost(&self) -> bool {
        {
            let mut live = self.lock();
            // When it was started is gone as well; a container is, right after it was made.
            if live.state != ContainerState::ContainerExited && live.started_at == 0 {
                live.started_at = self.record.created;
            }
        }
        self.end(UNKNOWN_CODE, clock::now(), "Unknown", "its shim was killed, or the machine went down")
    }

    /// It ran from `started` on, as it is remembered.
    pub(crate) fn set_started_at(&self, started: i64) {
        self.lock().started_at = started;
    }

    fn end(&self, code: i32, at: i64, reason: &str, message: &str) -> bool {
        let mut live = self.lock();
        if live.state == ContainerState::ContainerExited {
            return false;
        }
        live.state = ContainerState::ContainerExited;
        live.pid = 0;
        live.finished_at = at;
        live.exit_code = code;
        live.reason = reason.to_owned();
        live.message = message.to_owned();
        true
    }

    /// Its limits are these from now on.
    pub(crate) fn set_resources(&self, resources: LinuxContainerResources) {
        self.lock().resources = Some(resources);
    }

    /// Its cgroup, below every hierarchy's root.
    pub(crate) fn cgroup(&self) -> PathBuf {
        self.record.cgroup.clone()
    }
}
