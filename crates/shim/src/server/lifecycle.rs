//! Containers are made, started, stopped and forgotten.

use std::path::Path;
use std::time::Duration;

use super::cgroups;
use super::connection::Refusal;
use super::container::{self, Container};
use super::process::{Process, StreamRef};
use super::service::{Reply, now};
use super::waiting::Source;
use super::{FIRST, Server};
use crate::protocol::{
    Code, CreateRequest, Empty, Happened, KillRequest, Started, StopRequest, UpdateRequest, Warnings,
};

impl Server {
    pub(super) fn create(&mut self, request: CreateRequest) -> Result<Reply, Refusal> {
        now(&self.make(request, |_, _| ())?)
    }

    /// Makes a container; `complete` adds what the request does not say.
    pub(super) fn make(
        &mut self,
        request: CreateRequest,
        complete: impl FnOnce(&mut Container, &mut Process),
    ) -> Result<Started, Refusal> {
        if request.id.is_empty() {
            return Err(Refusal::new(Code::InvalidArgument, "a container needs an id"));
        }
        if self.containers.contains_key(&request.id) {
            return Err(Refusal::new(
                Code::AlreadyExists,
                format!("container {:?} is here already", request.id),
            ));
        }
        if self.pod.is_none() && !self.containers.is_empty() {
            return Err(Refusal::new(Code::AlreadyExists, "this shim has a container already"));
        }
        if self.shutdown || self.ending.is_some() {
            return Err(Refusal::new(Code::FailedPrecondition, "this shim is about to end"));
        }
        let (id, bundle) = (request.id.clone(), request.bundle.clone());
        let (mut container, mut warnings) = Container::new(request, self.runtime.is_built_in())?;
        let mut process = Process::of(&id, FIRST);
        complete(&mut container, &mut process);
        let namespace = self.tasks.as_ref().map_or("", |t| t.namespace.as_str());
        let created = self.runtime.create(&mut container, &mut process, namespace);
        let created = created.and_then(|created| {
            warnings.extend(created.warnings.iter().cloned());
            // Who made it is to forget it as well.
            container
                .write_numbers(created.made.pid())
                .inspect_err(|_| self.runtime.undo(&container, created.shim.is_some()))?;
            Ok(created)
        });
        self.adopt_logger(&mut process);
        let created = match created {
            Ok(created) => created,
            Err(refusal) => {
                if self.tasks.is_some() {
                    // Nobody else knows of it.
                    container.place.destroy();
                }
                return Err(refusal);
            }
        };
        let (pid, shim) = (created.made.pid(), created.shim);
        process.created = Some(created.made);
        let key = self.new_key();
        container.own = key;
        let cgroup = container.place.path();
        self.processes.insert(key, process);
        self.containers.insert(id.clone(), container);
        if self.pod.is_none() {
            self.listen(&Path::new(&bundle).join("shim.sock")).map_err(Refusal::internal)?;
        }
        let heard = if shim.is_some() { self.listen_to_foreign() } else { Ok(()) };
        if let Err(e) = heard.and_then(|()| self.watch_streams(key)) {
            if self.tasks.is_some() {
                self.forget_container(&id);
            }
            return Err(Refusal::internal(e));
        }
        self.tell(&id, Happened::Created, |event| event.pid = pid);
        Ok(Started { pid, warnings, cgroup, shim_socket: shim.unwrap_or_default() })
    }

    pub(super) fn start(&mut self, id: &str) -> Result<Reply, Refusal> {
        now(&self.start_container(id)?)
    }

    pub(super) fn start_container(&mut self, id: &str) -> Result<Started, Refusal> {
        let container = self.container(id)?;
        let (id, key) = (container.request.id.clone(), container.own);
        if container.paused {
            // What is frozen says nothing, and this process would wait for it for ever.
            return Err(Refusal::new(Code::FailedPrecondition, "the container is paused (unpause it first)"));
        }
        let process = self.processes.get_mut(&key);
        let Some((process, created)) = process.and_then(|p| p.created.take().map(|c| (p, c))) else {
            return Err(Refusal::new(Code::FailedPrecondition, "the container is not waiting to be started"));
        };
        let (running, warnings) = match self.runtime.start(&id, created) {
            Ok(started) => started,
            Err(refusal) => {
                self.failed_to_start(&id, &refusal);
                return Err(refusal);
            }
        };
        let pid = running.pid();
        process.running = Some(running);
        self.watch_end(key).map_err(Refusal::internal)?;
        self.has_started(&id, key);
        Ok(Started { pid, warnings, ..Started::default() })
    }

    /// In a pod a container that did not start has ended; without one its creator goes, and all with it.
    fn failed_to_start(&mut self, id: &str, refusal: &Refusal) {
        if self.pod.is_some() {
            let code = match refusal.code {
                Code::NotFound => 127,
                Code::FailedPrecondition => 126,
                _ => 128,
            };
            self.end(id, &container::exited(code, false));
        }
    }

    pub(super) fn kill(&mut self, request: &KillRequest) -> Result<Reply, Refusal> {
        let container = self.container(&request.container)?;
        let (id, paused) = (container.request.id.clone(), container.paused);
        if request.all
            && let Some(cgroup) = container.place.cgroup()
        {
            cgroup.signal(request.signal).map_err(Refusal::internal)?;
            if request.signal == libc::SIGKILL {
                self.thaw_killed(&id);
            }
            return now(&Empty {});
        }
        let key = self.process_key(&id, &request.exec_id)?;
        let process = self.process(&id, &request.exec_id)?;
        // On its way in it would run on, with nobody there, if whoever asked goes now. One that is frozen is ended once it is thawed
        // (`drop_abandoned_joins`), and the Task API's is kept until it is deleted.
        let is_coming = process.joining.is_some() && process.streams.is_none();
        if is_coming && request.signal == libc::SIGKILL && !paused {
            let killed = Refusal::new(Code::FailedPrecondition, "the process was killed before it ran");
            self.give_up(key, &killed);
            return now(&Empty {});
        }
        if !process.is_running() {
            return Err(Refusal::new(Code::FailedPrecondition, "the process is not running"));
        }
        self.runtime.signal(process, request.signal)?;
        if request.signal == libc::SIGKILL && request.exec_id == FIRST {
            self.thaw_killed(&id);
        }
        now(&Empty {})
    }

    pub(super) fn stop(&mut self, to: StreamRef, request: &StopRequest) -> Result<Reply, Refusal> {
        let container = self.container_mut(&request.container)?;
        container.stopping = true;
        let (id, ended) = (container.request.id.clone(), container.ended);
        if container.paused {
            self.freeze(&id, false)?;
        }
        let process = self.process(&id, FIRST)?;
        match (&process.exited, process.is_running()) {
            (Some(exited), false) => {
                // Between two runs: the next one is called off.
                let exited = exited.clone();
                if !ended {
                    self.stop_timers(&id);
                    self.end(&id, &exited);
                }
                now(&exited)
            }
            (_, true) => {
                self.runtime.signal(process, request.signal)?;
                self.kill_after(&id, Duration::from_millis(request.timeout));
                self.container_mut(&id)?.stoppers.push(to);
                Ok(Reply::Later)
            }
            (None, false) => Err(Refusal::new(Code::FailedPrecondition, "the container is not started yet")),
        }
    }

    pub(super) fn freeze(&mut self, id: &str, frozen: bool) -> Result<Reply, Refusal> {
        self.runtime.freeze(self.container(id)?, frozen)?;
        self.container_mut(id)?.paused = frozen;
        if !frozen {
            self.drop_abandoned_joins();
        }
        now(&Empty {})
    }

    pub(super) fn update(&mut self, request: &UpdateRequest) -> Result<Reply, Refusal> {
        let invalid = |e: &dyn std::fmt::Display| Refusal::new(Code::InvalidArgument, e.to_string());
        let container = self.container(&request.container)?;
        if container.ended {
            return Err(Refusal::new(Code::FailedPrecondition, "the container has ended"));
        }
        let resources =
            oci_runtime::contract::parse_resources(&request.resources).map_err(|e| invalid(&e))?;
        oci_runtime::contract::validate_resources(&resources).map_err(|e| invalid(&e))?;
        let limits = oci_runtime::limits_of(&resources).map_err(|e| invalid(&e))?;
        let missing = self.runtime.update(container, &request.resources, &limits)?;
        now(&Warnings { warnings: cgroups::warnings(&missing) })
    }

    /// Forgets a container that has ended, or was never started: then its process ends here.
    pub(super) fn delete(&mut self, id: &str) -> Result<Reply, Refusal> {
        let container = self.container(id)?;
        let (id, ended, started) = (container.request.id.clone(), container.ended, container.ever_started);
        if self.pod.is_none() {
            let message = "this shim has one container and ends with it (it is deleted by Shutdown)";
            return Err(Refusal::new(Code::FailedPrecondition, message));
        }
        if started && !ended {
            let message = format!("container {id:?} is running (stop it first)");
            return Err(Refusal::new(Code::FailedPrecondition, message));
        }
        self.forget_container(&id);
        now(&Empty {})
    }

    pub(super) fn forget_container(&mut self, id: &str) {
        self.stop_timers(id);
        self.thaw_killed(id);
        let keys: Vec<u64> =
            self.processes.iter().filter(|(_, p)| p.container == id).map(|(key, _)| *key).collect();
        let gone = Refusal::new(Code::NotFound, format!("container {id:?} was deleted"));
        for key in keys {
            // Dropping what was made and never started ends it.
            self.give_up(key, &gone);
        }
        self.forget(&Source::Oom(id.to_owned()));
        if let Some(mut container) = self.containers.remove(id) {
            self.runtime.forget(&container);
            match self.tasks {
                // No ledger of ours has it.
                Some(_) => container.place.destroy(),
                None => container.place.forget(),
            }
        }
        self.tell(id, Happened::Deleted, |_| ());
    }
}
