//! Containers of the Task API: made, started, forgotten.

use super::super::connection::Refusal;
use super::super::container;
use super::super::process::StreamRef;
use super::super::service::{Reply, now};
use super::super::{FIRST, Server};
use super::{Streams, task_pid};
use crate::protocol::task::{CreateTask, TaskDeleted, TaskProcess, Timestamp, event};
use crate::protocol::{Code, CreateRequest};

impl Server {
    pub(super) fn create_task(&mut self, task: &CreateTask) -> Result<Reply, Refusal> {
        if !task.checkpoint.is_empty() {
            let message = "checkpoint: nothing is restored from checkpoints (leave it out)";
            return Err(Refusal::new(Code::Unimplemented, message));
        }
        let request =
            CreateRequest { id: task.id.clone(), bundle: task.bundle.clone(), ..CreateRequest::default() };
        let made = self.make(request, |container, process| {
            container.mounts = Some(task.rootfs.clone());
            process.streams = Some(Box::new(Streams::new(&task.stdin, &task.stdout, &task.stderr)));
        });
        let pid = made?.pid;
        let key = self.process_key(&task.id, FIRST)?;
        if let Err(refusal) = self.carry_terminal(key) {
            self.forget_container(&task.id);
            return Err(refusal);
        }
        self.publish(
            "/tasks/create",
            "TaskCreate",
            &event::TaskCreate {
                container_id: task.id.clone(),
                bundle: task.bundle.clone(),
                rootfs: task.rootfs.clone(),
                io: Some(event::TaskIo {
                    stdin: task.stdin.clone(),
                    stdout: task.stdout.clone(),
                    stderr: task.stderr.clone(),
                    terminal: task.terminal,
                }),
                checkpoint: String::new(),
                pid: pid.unsigned_abs(),
            },
        );
        now(&task_pid(pid))
    }

    pub(super) fn start_task(&mut self, to: StreamRef, of: &TaskProcess) -> Result<Reply, Refusal> {
        if of.exec_id != FIRST {
            return self.start_exec(to, of);
        }
        let pid = self.start_container(&of.id)?.pid;
        self.let_go_of_input(&of.id)?;
        let start = event::TaskStart { container_id: of.id.clone(), pid: pid.unsigned_abs() };
        self.publish("/tasks/start", "TaskStart", &start);
        now(&task_pid(pid))
    }

    fn let_go_of_input(&mut self, id: &str) -> Result<(), Refusal> {
        let key = self.process_key(id, FIRST)?;
        if let Some(streams) = self.processes.get_mut(&key).and_then(|p| p.streams.as_mut()) {
            streams.started();
        }
        Ok(())
    }

    /// One that was made and never started gets a signal: that is its end.
    pub(super) fn kill_created(&mut self, id: &str, signal: i32) -> Result<Reply, Refusal> {
        let key = self.process_key(id, FIRST)?;
        self.thaw_killed(id);
        if let Some(process) = self.processes.get_mut(&key) {
            process.note_pid();
            // Dropping it ends it.
            process.created = None;
        }
        self.end(id, &container::exited(128 + signal, false));
        now(&crate::protocol::Empty {})
    }

    pub(super) fn delete_task(&mut self, of: &TaskProcess) -> Result<Reply, Refusal> {
        let key = self.process_key(&of.id, &of.exec_id)?;
        let Some(process) = self.processes.get(&key) else {
            return Err(Refusal::new(Code::NotFound, "no such process"));
        };
        if process.is_running() || process.joining.is_some() {
            return Err(Refusal::new(Code::FailedPrecondition, "the process is running (kill it first)"));
        }
        let (pid, exited) = (process.last_pid().unsigned_abs(), process.exited.clone());
        let exited = exited.unwrap_or_else(|| container::exited(0, false));
        if of.exec_id == FIRST {
            self.delete(&of.id)?;
        } else {
            self.give_up(key, &Refusal::new(Code::NotFound, "the process was deleted"));
        }
        let (exit_status, exited_at) = (exited.code.unsigned_abs(), Some(Timestamp::of(exited.at)));
        let (container_id, id) = (of.id.clone(), of.exec_id.clone());
        let deleted = event::TaskDelete { container_id, pid, exit_status, exited_at, id };
        self.publish("/tasks/delete", "TaskDelete", &deleted);
        now(&TaskDeleted { pid, exit_status, exited_at })
    }
}
