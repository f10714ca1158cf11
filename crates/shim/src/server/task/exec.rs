//! Processes of the Task API that are brought in: said first, started later.

use super::super::connection::Refusal;
use super::super::process::{Process, StreamRef};
use super::super::service::{Reply, now};
use super::super::waiting::Source;
use super::super::{FIRST, Key, Server, container};
use super::{Streams, task_pid};
use crate::protocol::task::{ExecTask, TaskProcess, event};
use crate::protocol::{Code, Empty};

impl Server {
    pub(super) fn add_exec(&mut self, request: ExecTask) -> Result<Reply, Refusal> {
        let invalid = |e: oci_runtime::contract::Error| Refusal::new(Code::InvalidArgument, e.to_string());
        let id = self.container(&request.id)?.request.id.clone();
        if request.exec_id == FIRST || self.key(&id, &request.exec_id).is_some() {
            let message = format!("the process id {:?} is taken (give one that is not)", request.exec_id);
            return Err(Refusal::new(Code::AlreadyExists, message));
        }
        let spec = request.spec.unwrap_or_default();
        let mut wanted = oci_runtime::contract::parse_process(&spec.value).map_err(invalid)?;
        oci_runtime::contract::validate_process(&wanted).map_err(invalid)?;
        wanted.terminal = request.terminal;
        let mut process = Process::of(&id, &request.exec_id);
        process.terminal = request.terminal;
        let mut streams = Streams::new(&request.stdin, &request.stdout, &request.stderr);
        streams.wanted = Some(wanted);
        process.streams = Some(Box::new(streams));
        let key = self.new_key();
        self.processes.insert(key, process);
        let added = event::TaskExec { container_id: id, exec_id: request.exec_id, pid: 0 };
        self.publish("/tasks/exec-added", "TaskExecAdded", &added);
        now(&Empty {})
    }

    pub(super) fn start_exec(&mut self, to: StreamRef, of: &TaskProcess) -> Result<Reply, Refusal> {
        let key = self.process_key(&of.id, &of.exec_id)?;
        let namespace = self.tasks.as_ref().map_or_else(String::new, |t| t.namespace.clone());
        let streams = self.processes.get_mut(&key).and_then(|p| p.streams.as_mut());
        let Some((wanted, streams)) = streams.and_then(|s| s.wanted.take().map(|w| (w, s))) else {
            return Err(Refusal::new(Code::FailedPrecondition, "the process was started already"));
        };
        streams.starter = Some(to);
        // Before there is a process: one that runs and has nowhere to write to would have to be ended.
        let stdio = if wanted.terminal {
            streams.open_terminal(&of.id, &namespace).map(|()| None)
        } else {
            streams.open(&of.id, &namespace).map(Some)
        };
        let Some(mut process) = self.processes.remove(&key) else { return Ok(Reply::Later) };
        self.adopt_logger(&mut process);
        match stdio {
            Ok(stdio) => self.join(process, &wanted, stdio),
            Err(refusal) => self.turn_away(&process, &refusal),
        }
        Ok(Reply::Later)
    }

    /// Kills a process that is on its way in, and may have been stopped there for ever.
    pub(super) fn kill_joining(&mut self, key: Key) -> Result<Reply, Refusal> {
        self.forget(&Source::Join(key));
        let Some(process) = self.processes.get_mut(&key) else { return now(&Empty {}) };
        // Dropping it ends it.
        process.joining = None;
        if let Some(to) = process.streams.as_mut().and_then(|s| s.starter.take()) {
            let killed = Refusal::new(Code::FailedPrecondition, "the process was killed before it ran");
            self.answer(to, Err(killed));
        }
        self.announce(key, &container::exited(128 + libc::SIGKILL, false));
        now(&Empty {})
    }

    /// It runs: whoever started it hears so.
    pub(in super::super) fn exec_started(&mut self, key: Key, pid: i32) -> Result<(), Refusal> {
        self.carry_terminal(key)?;
        let Some(process) = self.processes.get_mut(&key) else { return Ok(()) };
        let Some(streams) = &mut process.streams else { return Ok(()) };
        streams.started();
        let Some(to) = streams.starter.take() else { return Ok(()) };
        let started = event::TaskExec {
            container_id: process.container.clone(),
            exec_id: process.exec_id.clone(),
            pid: pid.unsigned_abs(),
        };
        self.answer(to, Ok(prost::Message::encode_to_vec(&task_pid(pid))));
        self.publish("/tasks/exec-started", "TaskExecStarted", &started);
        Ok(())
    }
}
