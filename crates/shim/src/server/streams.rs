//! Streams to and from processes: new ones, and those that are there.

use prost::Message;
use rustix::event::epoll::EventFlags;

use super::connection::Refusal;
use super::process::{Process, StreamRef};
use super::runtime::{Joining, Newcomer};
use super::service::{Reply, now};
use super::timers::Timer;
use super::waiting::Source;
use super::{FIRST, Key, Server};
use crate::protocol::{AttachRequest, Code, ExecRequest, Frame, Input, Output, Started};

impl Server {
    pub(super) fn exec(&mut self, to: StreamRef, request: &ExecRequest) -> Result<Reply, Refusal> {
        let invalid = |e: oci_runtime::contract::Error| Refusal::new(Code::InvalidArgument, e.to_string());
        let container = self.container(&request.container)?;
        let id = container.request.id.clone();
        if request.exec_id.is_empty() || self.key(&id, &request.exec_id).is_some() {
            let message = format!("the process id {:?} is taken (give one that is not)", request.exec_id);
            return Err(Refusal::new(Code::AlreadyExists, message));
        }
        let wanted = oci_runtime::contract::parse_process(&request.process).map_err(invalid)?;
        oci_runtime::contract::validate_process(&wanted).map_err(invalid)?;
        let mut process = Process::of(&id, &request.exec_id);
        process.terminal = wanted.terminal;
        let stdio = if wanted.terminal || self.runtime.foreign().is_some() {
            None
        } else {
            Some(process.pipes(request.stdin).map_err(Refusal::internal)?)
        };
        process.attached.push(StreamRef { input: request.stdin || wanted.terminal, ..to });
        self.join(process, &wanted, stdio);
        Ok(Reply::Later)
    }

    /// Begins to bring a process into its container. If that fails, all who wait for it are told.
    pub(super) fn join(
        &mut self,
        mut process: Process,
        wanted: &oci_runtime::contract::Process,
        stdio: Option<[std::os::fd::OwnedFd; 3]>,
    ) {
        let key = self.new_key();
        match self.begin_join(key, &mut process, wanted, stdio) {
            Ok(joining) => process.joining = Some(joining),
            Err(refusal) => return self.turn_away(&process, &refusal),
        }
        self.processes.insert(key, process);
        let deadline = self.processes.get(&key).and_then(|p| p.joining.as_ref()?.deadline());
        self.timers.extend(deadline.map(|at| (at, Timer::Join(key))));
        if let Err(e) = self.listen_for(Source::Join(key), EventFlags::IN) {
            self.give_up(key, &Refusal::internal(e));
        }
    }

    fn begin_join(
        &self,
        key: Key,
        process: &mut Process,
        wanted: &oci_runtime::contract::Process,
        stdio: Option<[std::os::fd::OwnedFd; 3]>,
    ) -> Result<Joining, Refusal> {
        let container = self.container(&process.container)?;
        if container.paused {
            return Err(Refusal::new(Code::FailedPrecondition, "the container is paused (unpause it first)"));
        }
        let own = self.processes.get(&container.own);
        let own =
            own.ok_or_else(|| Refusal::new(Code::FailedPrecondition, "the container is not running"))?;
        let (exec_id, stdin) = (process.exec_id.clone(), process.attached.iter().any(|a| a.input));
        let newcomer = Newcomer { exec_id: &exec_id, process: wanted, stdio, stdin };
        self.runtime.join(container, own, (key, process), newcomer)
    }

    pub(super) fn attach(&mut self, to: StreamRef, request: &AttachRequest) -> Result<Reply, Refusal> {
        let ended = self.container(&request.container)?.ended;
        let key = self.process_key(&request.container, &request.exec_id)?;
        let Some(process) = self.processes.get_mut(&key) else { return Ok(Reply::Later) };
        let started = Started { pid: process.pid(), ..Started::default() };
        let exited = process.exited.clone().filter(|_| ended || request.exec_id != FIRST);
        if exited.is_none() {
            process.attached.push(StreamRef { input: request.stdin, ..to });
        }
        if let Some(connection) = self.connections.get_mut(&to.connection) {
            connection.data(to.stream, &Output { started: Some(started), ..Output::default() });
        }
        match exited {
            Some(exited) => now(&exited),
            None => Ok(Reply::Later),
        }
    }

    pub(super) fn take_input(&mut self, from: StreamRef, frame: &Frame) {
        let Ok(input) = Input::decode(&*frame.payload) else { return };
        let same = |a: &StreamRef| a.connection == from.connection && a.stream == from.stream;
        let process = self.processes.values_mut().find_map(|p| {
            let attached = p.attached.iter().copied().find(same)?;
            Some((p, attached))
        });
        let Some((process, attached)) = process else { return };
        if let Some(size) = input.size {
            // A terminal that has just closed has no size any more.
            let _ = self.runtime.resize(process, size);
        }
        if attached.input {
            process.write(&input.data);
            if input.close {
                process.close_input();
            }
        }
    }
}
