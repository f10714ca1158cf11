//! The methods of the service.

use prost::Message;

use super::connection::Refusal;
use super::container::Container;
use super::process::{Process, StreamRef};
use super::{FIRST, Server};
use crate::protocol::task::{EVENTS_SERVICE, TASK_SERVICES, TaskWaited, Timestamp};
use crate::protocol::{self as p, Code, Containers, Empty, Frame, Kind, Pids, Request, SERVICE, State};

/// What a method does with its stream.
pub(super) enum Reply {
    /// Ends it with this.
    Now(Vec<u8>),
    /// Ends it later.
    Later,
}

pub(super) fn now(message: &impl Message) -> Result<Reply, Refusal> {
    Ok(Reply::Now(message.encode_to_vec()))
}

/// The request of a method, which says of which type it is.
fn read<Q: Message + Default, A>(_: &p::Method<Q, A>, payload: &[u8]) -> Result<Q, Refusal> {
    Ok(Q::decode(payload)?)
}

impl Server {
    pub(super) fn serve(&mut self, connection: u64, frame: Frame) {
        let to = StreamRef { connection, stream: frame.stream, input: false, task: false };
        match frame.kind {
            Kind::Request => {
                let reply = Request::decode(&*frame.payload)
                    .map_err(Refusal::from)
                    .and_then(|r| self.dispatch(to, &r));
                match reply {
                    Ok(Reply::Now(payload)) => self.answer(to, Ok(payload)),
                    Ok(Reply::Later) => {}
                    Err(refusal) => self.answer(to, Err(refusal)),
                }
            }
            Kind::Data => self.take_input(to, &frame),
            // A client has nothing to respond to.
            Kind::Response => {}
        }
    }

    fn dispatch(&mut self, to: StreamRef, request: &Request) -> Result<Reply, Refusal> {
        if self.tasks.is_some() && TASK_SERVICES.contains(&request.service.as_str()) {
            return self.task(to, request);
        }
        if request.service == EVENTS_SERVICE && self.runtime.foreign().is_some() {
            return self.take_event(&request.payload);
        }
        if request.service != SERVICE {
            return Err(Refusal::new(Code::Unimplemented, format!("no service {:?} here", request.service)));
        }
        let (name, payload) = (request.method.as_str(), &*request.payload);
        match name {
            _ if name == p::SANDBOX.name => self.sandbox(read(&p::SANDBOX, payload)?),
            _ if name == p::CREATE.name => self.create(read(&p::CREATE, payload)?),
            _ if name == p::START.name => self.start(&read(&p::START, payload)?.container),
            _ if name == p::STATE.name => {
                let of = read(&p::STATE, payload)?;
                now(&self.state(&of.container, &of.exec_id)?)
            }
            _ if name == p::LIST.name => {
                let all = self.containers.keys().map(|id| self.state(id, FIRST));
                now(&Containers { containers: all.collect::<Result<_, _>>()? })
            }
            _ if name == p::WAIT.name => {
                let of = read(&p::WAIT, payload)?;
                self.wait(to, &of.container, &of.exec_id)
            }
            _ if name == p::EXEC.name => self.exec(to, &read(&p::EXEC, payload)?),
            _ if name == p::ATTACH.name => self.attach(to, &read(&p::ATTACH, payload)?),
            _ if name == p::EVENTS.name => {
                self.watch(to);
                Ok(Reply::Later)
            }
            _ if name == p::KILL.name => self.kill(&read(&p::KILL, payload)?),
            _ if name == p::STOP.name => self.stop(to, &read(&p::STOP, payload)?),
            _ if name == p::RESIZE.name => {
                let request = read(&p::RESIZE, payload)?;
                let size = request.size.unwrap_or_default();
                let process = self.process(&request.container, &request.exec_id)?;
                self.runtime.resize(process, size)?;
                now(&Empty {})
            }
            _ if name == p::PIDS.name => now(&self.pids(&read(&p::PIDS, payload)?.container)?),
            _ if name == p::PAUSE.name => self.freeze(&read(&p::PAUSE, payload)?.container, true),
            _ if name == p::RESUME.name => self.freeze(&read(&p::RESUME, payload)?.container, false),
            _ if name == p::UPDATE.name => self.update(&read(&p::UPDATE, payload)?),
            _ if name == p::REOPEN_LOG.name => {
                let id = read(&p::REOPEN_LOG, payload)?.container;
                if let Some(log) = self.container_mut(&id)?.log.as_mut() {
                    log.reopen().map_err(Refusal::internal)?;
                }
                now(&Empty {})
            }
            _ if name == p::DELETE.name => self.delete(&read(&p::DELETE, payload)?.container),
            _ if name == p::SHUTDOWN.name => self.shut_down(Some(to)),
            other => Err(Refusal::new(Code::Unimplemented, format!("no method {other:?} in {SERVICE}"))),
        }
    }

    /// The container's full id: the empty one is the only container there is.
    fn id<'a>(&'a self, id: &'a str) -> Result<&'a str, Refusal> {
        let mut all = self.containers.keys();
        match (id, all.next(), all.next()) {
            ("", Some(only), None) => Ok(only),
            ("", None, _) => Err(Refusal::new(Code::FailedPrecondition, "no container is made yet")),
            ("", ..) => {
                let message = format!("one of {} containers must be named", self.containers.len());
                Err(Refusal::new(Code::InvalidArgument, message))
            }
            (id, ..) if self.containers.contains_key(id) => Ok(id),
            (id, None, _) if self.pod.is_none() => {
                let message = format!("container {id:?} is not here: no container is made yet");
                Err(Refusal::new(Code::NotFound, message))
            }
            (id, ..) => Err(Refusal::new(Code::NotFound, format!("container {id:?} is not here"))),
        }
    }

    pub(super) fn container(&self, id: &str) -> Result<&Container, Refusal> {
        let id = self.id(id)?;
        self.containers.get(id).ok_or_else(|| Refusal::internal("a container is gone"))
    }

    pub(super) fn container_mut(&mut self, id: &str) -> Result<&mut Container, Refusal> {
        let id = self.id(id)?.to_owned();
        self.containers.get_mut(&id).ok_or_else(|| Refusal::internal("a container is gone"))
    }

    pub(super) fn process_key(&self, container: &str, exec_id: &str) -> Result<u64, Refusal> {
        let container = self.id(container)?;
        self.key(container, exec_id).ok_or_else(|| {
            Refusal::new(Code::NotFound, format!("no process {exec_id:?} is in container {container:?}"))
        })
    }

    pub(super) fn process(&self, container: &str, exec_id: &str) -> Result<&Process, Refusal> {
        let key = self.process_key(container, exec_id)?;
        self.processes.get(&key).ok_or_else(|| Refusal::internal("a process is gone"))
    }

    fn state(&self, container: &str, exec_id: &str) -> Result<State, Refusal> {
        let process = self.process(container, exec_id)?;
        let container = self.container(container)?;
        Ok(State {
            pid: process.pid(),
            running: process.is_running(),
            paused: container.paused,
            exited: process.exited.clone(),
            terminal: process.terminal,
            restarts: container.restarts,
            container: container.request.id.clone(),
            cgroup: container.place.path(),
            started_at: container.started_at,
            oom_kills: container.oom_kills,
            log_lost: container.log.as_ref().map_or(0, super::log::Log::lost),
        })
    }

    pub(super) fn pids(&self, id: &str) -> Result<Pids, Refusal> {
        let container = self.container(id)?;
        let pids = match container.place.cgroup() {
            Some(cgroup) => cgroup.pids().map_err(Refusal::internal)?.into_iter().collect(),
            None => {
                let own = self.processes.values().filter(|p| p.container == container.request.id);
                own.map(Process::pid).filter(|&p| p > 0).collect()
            }
        };
        Ok(Pids { pids })
    }

    /// Tells whoever waited for an end.
    pub(super) fn answer_end(&mut self, to: StreamRef, exited: &p::Exited) {
        self.answer(to, Ok(end(to, exited)));
    }

    pub(super) fn wait(&mut self, to: StreamRef, container: &str, exec_id: &str) -> Result<Reply, Refusal> {
        let ended = self.container(container)?.ended;
        let key = self.process_key(container, exec_id)?;
        let Some(process) = self.processes.get_mut(&key) else { return Ok(Reply::Later) };
        match &process.exited {
            Some(exited) if ended || exec_id != FIRST => Ok(Reply::Now(end(to, exited))),
            _ => {
                process.waiters.push(to);
                Ok(Reply::Later)
            }
        }
    }
}

/// An end, as the one who asked wants to be told.
fn end(to: StreamRef, exited: &p::Exited) -> Vec<u8> {
    if !to.task {
        return exited.encode_to_vec();
    }
    let exited_at = Some(Timestamp::of(exited.at));
    TaskWaited { exit_status: exited.code.unsigned_abs(), exited_at }.encode_to_vec()
}
