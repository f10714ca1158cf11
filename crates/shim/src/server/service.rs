//! The methods of the service.

use std::path::Path;
use std::time::Duration;

use oci_runtime::Join;
use prost::Message;

use super::connection::Refusal;
use super::container::{self, Container};
use super::process::{Process, StreamRef};
use super::{FIRST, Server};
use crate::protocol::{
    AttachRequest, Code, CreateRequest, Empty, ExecRequest, Frame, Input, KillRequest, Kind, Output, Pids,
    ProcessRequest, Request, ResizeRequest, SERVICE, Started, State, StopRequest,
};

/// What a method does with its stream.
enum Reply {
    /// Ends it with this.
    Now(Vec<u8>),
    /// Ends it later.
    Later,
}

fn now(message: &impl Message) -> Result<Reply, Refusal> {
    Ok(Reply::Now(message.encode_to_vec()))
}

impl Server {
    pub(super) fn serve(&mut self, connection: u64, frame: Frame) {
        let to = StreamRef { connection, stream: frame.stream, input: false };
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
        let payload = &*request.payload;
        if request.service != SERVICE {
            return Err(Refusal::new(Code::Unimplemented, format!("no service {:?} here", request.service)));
        }
        match request.method.as_str() {
            "Create" => self.create(CreateRequest::decode(payload)?),
            "Start" => self.start(),
            "State" => now(&self.state(&ProcessRequest::decode(payload)?.exec_id)?),
            "Wait" => self.wait(to, &ProcessRequest::decode(payload)?.exec_id),
            "Exec" => self.exec(to, &ExecRequest::decode(payload)?),
            "Attach" => self.attach(to, &AttachRequest::decode(payload)?),
            "Kill" => self.kill(&KillRequest::decode(payload)?),
            "Stop" => self.stop(to, &StopRequest::decode(payload)?),
            "Resize" => {
                let request = ResizeRequest::decode(payload)?;
                let size = request.size.unwrap_or_default();
                self.process(&request.exec_id)?.resize(size).map_err(Refusal::internal)?;
                now(&Empty {})
            }
            "Pids" => {
                let pids = match &self.container()?.cgroup {
                    Some(cgroup) => cgroup.pids().map_err(Refusal::internal)?.into_iter().collect(),
                    None => self.processes.values().map(Process::pid).filter(|&p| p > 0).collect(),
                };
                now(&Pids { pids })
            }
            "Pause" => self.freeze(true),
            "Resume" => self.freeze(false),
            "ReopenLog" => {
                if let Some(log) = self.container_mut()?.log.as_mut() {
                    log.reopen().map_err(Refusal::internal)?;
                }
                now(&Empty {})
            }
            "Shutdown" => {
                self.shutdown = true;
                now(&Empty {})
            }
            other => Err(Refusal::new(Code::Unimplemented, format!("no method {other:?} in {SERVICE}"))),
        }
    }

    fn container(&self) -> Result<&Container, Refusal> {
        self.container
            .as_ref()
            .ok_or_else(|| Refusal::new(Code::FailedPrecondition, "no container is made yet"))
    }

    fn container_mut(&mut self) -> Result<&mut Container, Refusal> {
        self.container
            .as_mut()
            .ok_or_else(|| Refusal::new(Code::FailedPrecondition, "no container is made yet"))
    }

    fn process(&self, id: &str) -> Result<&Process, Refusal> {
        self.processes.get(id).ok_or_else(|| {
            let name = if id == FIRST { "container".into() } else { format!("process {id:?}") };
            Refusal::new(Code::NotFound, format!("no {name} is here"))
        })
    }

    fn create(&mut self, request: CreateRequest) -> Result<Reply, Refusal> {
        if self.container.is_some() {
            return Err(Refusal::new(Code::AlreadyExists, "this shim has a container already"));
        }
        let bundle = request.bundle.clone();
        let (container, mut warnings) = Container::new(request)?;
        let mut process = Process::default();
        let created = container.create(&mut process)?;
        let pid = created.pid();
        warnings.extend(created.warnings.iter().cloned());
        container.write_numbers(pid)?;
        process.created = Some(created);
        self.processes.insert(FIRST.into(), process);
        self.container = Some(container);
        self.listen(&Path::new(&bundle).join("shim.sock")).map_err(Refusal::internal)?;
        self.watch_streams(FIRST).map_err(Refusal::internal)?;
        now(&Started { pid, warnings, ..Started::default() })
    }

    fn start(&mut self) -> Result<Reply, Refusal> {
        let process = self.processes.get_mut(FIRST);
        let Some((process, created)) = process.and_then(|p| p.created.take().map(|c| (p, c))) else {
            return Err(Refusal::new(Code::FailedPrecondition, "the container is not waiting to be started"));
        };
        let (child, warnings) = created.start().map_err(container::refusal)?;
        let pid = child.pid;
        process.child = Some(child);
        self.watch_end(FIRST).map_err(Refusal::internal)?;
        self.container_mut()?.note_start();
        now(&Started { pid, warnings, ..Started::default() })
    }

    fn state(&self, id: &str) -> Result<State, Refusal> {
        let process = self.process(id)?;
        let container = self.container()?;
        Ok(State {
            pid: process.pid(),
            running: process.is_running(),
            paused: container.paused,
            exited: process.exited.clone(),
            terminal: process.terminal,
            restarts: container.restarts,
            ..State::default()
        })
    }

    fn wait(&mut self, to: StreamRef, id: &str) -> Result<Reply, Refusal> {
        let ended = self.ended;
        self.process(id)?;
        let Some(process) = self.processes.get_mut(id) else { return Ok(Reply::Later) };
        match &process.exited {
            Some(exited) if ended || id != FIRST => now(exited),
            _ => {
                process.waiters.push(to);
                Ok(Reply::Later)
            }
        }
    }

    fn exec(&mut self, to: StreamRef, request: &ExecRequest) -> Result<Reply, Refusal> {
        let invalid = |e: oci_runtime::contract::Error| Refusal::new(Code::InvalidArgument, e.to_string());
        if request.exec_id.is_empty() || self.processes.contains_key(&request.exec_id) {
            let message = format!("the process id {:?} is taken (give one that is not)", request.exec_id);
            return Err(Refusal::new(Code::AlreadyExists, message));
        }
        let wanted = oci_runtime::contract::parse_process(&request.process).map_err(invalid)?;
        oci_runtime::contract::validate_process(&wanted).map_err(invalid)?;
        let mut process = Process::default();
        process.terminal = wanted.terminal;
        let stdio = if wanted.terminal {
            None
        } else {
            Some(process.pipes(request.stdin).map_err(Refusal::internal)?)
        };
        let container = self.container()?;
        if container.paused {
            return Err(Refusal::new(Code::FailedPrecondition, "the container is paused (unpause it first)"));
        }
        let first = self.processes.get(FIRST).and_then(container::first);
        let first =
            first.ok_or_else(|| Refusal::new(Code::FailedPrecondition, "the container is not running"))?;
        let state = container.state(self.processes.get(FIRST).map_or(0, Process::pid));
        let join = Join {
            spec: &container.spec,
            container: first,
            cgroup: container.cgroup.as_ref(),
            rdt: None,
            held: false,
            stdio,
            preserved: 0,
            keyring: true,
            state: &state,
        };
        // A process of the container may stop this one on its way: nobody else is to wait for it.
        process.joining = Some(oci_runtime::begin_join(&wanted, join).map_err(container::refusal)?);
        process.attached.push(StreamRef { input: request.stdin || wanted.terminal, ..to });
        let id = request.exec_id.clone();
        self.processes.insert(id.clone(), process);
        if let Err(e) = self.listen_for(super::Source::Join(id.clone()), super::EventFlags::IN) {
            self.processes.remove(&id);
            return Err(Refusal::internal(e));
        }
        Ok(Reply::Later)
    }

    fn attach(&mut self, to: StreamRef, request: &AttachRequest) -> Result<Reply, Refusal> {
        let ended = self.ended;
        self.process(&request.exec_id)?;
        let Some(process) = self.processes.get_mut(&request.exec_id) else { return Ok(Reply::Later) };
        let started = Output {
            started: Some(Started { pid: process.pid(), ..Started::default() }),
            ..Output::default()
        };
        let exited = process.exited.clone().filter(|_| ended);
        if exited.is_none() {
            process.attached.push(StreamRef { input: request.stdin, ..to });
        }
        if let Some(connection) = self.connections.get_mut(&to.connection) {
            connection.output(to.stream, &started);
        }
        match exited {
            Some(exited) => now(&exited),
            None => Ok(Reply::Later),
        }
    }

    fn take_input(&mut self, from: StreamRef, frame: &Frame) {
        let Ok(input) = Input::decode(&*frame.payload) else { return };
        let same = |a: &StreamRef| a.connection == from.connection && a.stream == from.stream;
        let process = self.processes.values_mut().find_map(|p| {
            let attached = p.attached.iter().copied().find(same)?;
            Some((p, attached))
        });
        let Some((process, attached)) = process else { return };
        if let Some(size) = input.size {
            // A terminal that has just closed has no size any more.
            let _ = process.resize(size);
        }
        if attached.input {
            process.write(&input.data);
            if input.close {
                process.close_input();
            }
        }
    }

    fn kill(&mut self, request: &KillRequest) -> Result<Reply, Refusal> {
        if request.all
            && let Some(cgroup) = &self.container()?.cgroup
        {
            cgroup.signal(request.signal).map_err(Refusal::internal)?;
            if request.signal == libc::SIGKILL {
                self.thaw_killed();
            }
            return now(&Empty {});
        }
        let process = self.process(&request.exec_id)?;
        if !process.is_running() {
            return Err(Refusal::new(Code::FailedPrecondition, "the process is not running"));
        }
        process.signal(request.signal).map_err(|e| Refusal::new(Code::InvalidArgument, e.to_string()))?;
        if request.signal == libc::SIGKILL && request.exec_id == FIRST {
            self.thaw_killed();
        }
        now(&Empty {})
    }

    fn stop(&mut self, to: StreamRef, request: &StopRequest) -> Result<Reply, Refusal> {
        self.container_mut()?.stopping = true;
        if self.container()?.paused {
            self.freeze(false)?;
        }
        let process = self.process(FIRST)?;
        match (&process.exited, process.is_running()) {
            (Some(exited), false) => {
                // Between two runs: the next one is called off.
                let exited = exited.clone();
                if !self.ended {
                    self.timers.clear();
                    self.end(&exited);
                }
                now(&exited)
            }
            (_, true) => {
                process
                    .signal(request.signal)
                    .map_err(|e| Refusal::new(Code::InvalidArgument, e.to_string()))?;
                self.stop_after(Duration::from_millis(request.timeout));
                self.stoppers.push(to);
                Ok(Reply::Later)
            }
            (None, false) => Err(Refusal::new(Code::FailedPrecondition, "the container is not started yet")),
        }
    }

    fn freeze(&mut self, frozen: bool) -> Result<Reply, Refusal> {
        let container = self.container_mut()?;
        match &container.cgroup {
            Some(cgroup) => cgroup.freeze(frozen).map_err(Refusal::internal)?,
            None => {
                return Err(Refusal::new(Code::FailedPrecondition, "the container has no cgroup to freeze"));
            }
        }
        container.paused = frozen;
        now(&Empty {})
    }
}
