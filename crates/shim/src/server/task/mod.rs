//! containerd's Task API on the same containers: their streams are FIFOs, and whoever asks again is told again.

mod container;
mod exec;
mod io;
mod mounts;
mod stats;

use std::path::PathBuf;

use prost::Message;

use super::connection::Refusal;
use super::process::{Process, StreamRef};
use super::publish::Publisher;
use super::service::{Reply, now};
use super::{FIRST, Server};
use crate::protocol::task::{
    CloseTask, Connected, CreateTask, ExecTask, KillTask, ResizeTask, TaskPid, TaskPids, TaskProcess,
    TaskState, TaskStatus, Timestamp, UpdateTask, event,
};
use crate::protocol::{Code, Empty, Exited, KillRequest, Request, Size, UpdateRequest};

pub(super) use io::Streams;
pub(super) use mounts::root;

/// What makes a shim containerd's.
#[derive(Debug)]
pub(super) struct Tasks {
    pub(super) namespace: String,
    pub(super) publisher: Option<Publisher>,
    /// The socket that is unlinked at the end.
    pub(super) socket: PathBuf,
}

impl Server {
    pub(super) fn task(&mut self, to: StreamRef, request: &Request) -> Result<Reply, Refusal> {
        let to = StreamRef { task: true, ..to };
        let payload = &*request.payload;
        let process = || TaskProcess::decode(payload);
        match request.method.as_str() {
            "Create" => self.create_task(&CreateTask::decode(payload)?),
            "Start" => self.start_task(to, &process()?),
            "State" => now(&self.task_state(&process()?)?),
            "Delete" => self.delete_task(&process()?),
            "Exec" => self.add_exec(ExecTask::decode(payload)?),
            "ResizePty" => {
                let wanted = ResizeTask::decode(payload)?;
                let size = Size { rows: wanted.height, columns: wanted.width };
                self.process(&wanted.id, &wanted.exec_id)?.resize(size).map_err(Refusal::internal)?;
                now(&Empty {})
            }
            "CloseIO" => self.close_task_input(&CloseTask::decode(payload)?),
            "Pids" => {
                let pids = self.pids(&process()?.id)?.pids;
                now(&TaskPids { processes: pids.iter().map(|&pid| task_pid(pid)).collect() })
            }
            "Pause" | "Resume" => self.freeze_task(&process()?.id, request.method == "Pause"),
            "Checkpoint" => Err(Refusal::new(
                Code::Unimplemented,
                "checkpoints are not made (leave the container running)",
            )),
            "Kill" => self.kill_task(&KillTask::decode(payload)?),
            "Wait" => {
                let of = process()?;
                self.wait(to, &of.id, &of.exec_id)
            }
            "Connect" => {
                let task = self.process(&process()?.id, FIRST).map_or(0, Process::pid);
                let (shim_pid, task_pid) = (std::process::id(), task.unsigned_abs());
                now(&Connected { shim_pid, task_pid, version: env!("CARGO_PKG_VERSION").to_owned() })
            }
            "Shutdown" => self.shut_down_tasks(),
            "Stats" => now(&self.task_stats(&process()?.id)?),
            "Update" => {
                let wanted = UpdateTask::decode(payload)?;
                let resources = wanted.resources.unwrap_or_default().value;
                self.update(&UpdateRequest { container: wanted.id, resources })?;
                now(&Empty {})
            }
            other => Err(Refusal::new(Code::Unimplemented, format!("no method {other:?} in the Task API"))),
        }
    }

    fn task_state(&self, of: &TaskProcess) -> Result<TaskState, Refusal> {
        let container = self.container(&of.id)?;
        let process = self.process(&of.id, &of.exec_id)?;
        let ended = container.ended || of.exec_id != FIRST;
        let exited = process.exited.as_ref().filter(|_| ended);
        let status = match (exited, process.is_running()) {
            (Some(_), _) => TaskStatus::Stopped,
            (None, true) if container.paused => TaskStatus::Paused,
            (None, true) => TaskStatus::Running,
            (None, false) => TaskStatus::Created,
        };
        let streams = process.streams.as_deref();
        let name = |of: fn(&Streams) -> &str| streams.map_or_else(String::new, |s| of(s).to_owned());
        Ok(TaskState {
            id: of.id.clone(),
            bundle: container.request.bundle.clone(),
            pid: process.last_pid().unsigned_abs(),
            status: status as i32,
            stdin: name(|s| &s.stdin),
            stdout: name(|s| &s.stdout),
            stderr: name(|s| &s.stderr),
            terminal: process.terminal,
            exit_status: exited.map_or(0, |e| e.code.unsigned_abs()),
            exited_at: exited.map(|e| Timestamp::of(e.at)),
            exec_id: of.exec_id.clone(),
        })
    }

    fn freeze_task(&mut self, id: &str, frozen: bool) -> Result<Reply, Refusal> {
        let reply = self.freeze(id, frozen)?;
        let (topic, kind) =
            if frozen { ("/tasks/paused", "TaskPaused") } else { ("/tasks/resumed", "TaskResumed") };
        self.publish(topic, kind, &event::TaskOnly { container_id: id.to_owned() });
        Ok(reply)
    }

    fn kill_task(&mut self, request: &KillTask) -> Result<Reply, Refusal> {
        let process = self.process(&request.id, &request.exec_id)?;
        let signal = request.signal as i32;
        if request.exec_id == FIRST && process.created.is_some() {
            // It has not begun: whatever ends it is the end.
            return self.kill_created(&request.id, signal);
        }
        if !process.is_running() && process.joining.is_none() {
            return Err(Refusal::new(Code::NotFound, "process already finished"));
        }
        if process.joining.is_some() && signal == libc::SIGKILL && !request.all {
            if self.container(&request.id)?.paused {
                // The v1 freezer holds even a process that was killed, and its end is waited for.
                let message = "the container is paused, and the process on its way in (resume it first)";
                return Err(Refusal::new(Code::FailedPrecondition, message));
            }
            let key = self.process_key(&request.id, &request.exec_id)?;
            return self.kill_joining(key);
        }
        self.kill(&KillRequest {
            exec_id: request.exec_id.clone(),
            signal,
            all: request.all,
            container: request.id.clone(),
        })
    }

    fn close_task_input(&mut self, request: &CloseTask) -> Result<Reply, Refusal> {
        let key = self.process_key(&request.id, &request.exec_id)?;
        if request.stdin
            && let Some(streams) = self.processes.get_mut(&key).and_then(|p| p.streams.as_mut())
        {
            streams.close_input();
            self.forget(&super::waiting::Source::Feed(key));
        }
        now(&Empty {})
    }

    /// Containerd asks after each container that is gone; the last one counts.
    fn shut_down_tasks(&mut self) -> Result<Reply, Refusal> {
        if !self.containers.is_empty() {
            return now(&Empty {});
        }
        // Asked once more, another's may be there by now.
        if let Some(tasks) = self.tasks.as_ref().filter(|_| !self.shutdown) {
            let _ = std::fs::remove_file(&tasks.socket);
        }
        self.shut_down(None)
    }

    /// A process has ended: tells containerd, and lets go of its streams.
    pub(super) fn task_ended(&mut self, key: u64, exited: &Exited) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        let Some(streams) = &mut process.streams else { return };
        streams.end();
        let own = process.exec_id == FIRST;
        let exit = event::TaskExit {
            container_id: process.container.clone(),
            id: if own { process.container.clone() } else { process.exec_id.clone() },
            pid: process.last_pid().unsigned_abs(),
            exit_status: exited.code.unsigned_abs(),
            exited_at: Some(Timestamp::of(exited.at)),
        };
        self.forget(&super::waiting::Source::Feed(key));
        self.publish("/tasks/exit", "TaskExit", &exit);
    }
}

fn task_pid(pid: i32) -> TaskPid {
    TaskPid { pid: pid.unsigned_abs() }
}
