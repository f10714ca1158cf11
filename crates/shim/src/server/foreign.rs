//! What a shim of others tells: answers, events, and its end.

use std::time::{Duration, Instant};

use prost::Message;
use rustix::event::epoll;

use super::connection::Refusal;
use super::process::{Running, StreamRef};
use super::runtime::{Answer, Awaited};
use super::service::{Reply, now};
use super::timers::Timer;
use super::waiting::Source;
use super::{FIRST, Key, Server, container};
use crate::protocol::task::event::TaskOnly;
use crate::protocol::task::{Forward, TaskPid, TaskWaited};
use crate::protocol::{Empty, Happened};

/// What there is to hear of it: its connection, its complaints, and its end.
const SOURCES: [Source; 3] = [Source::Foreign, Source::ForeignLog, Source::ForeignEnd];
/// How long it has to end when it is told to.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How a process has ended whose shim is gone: killed with it.
const LOST: i32 = 128 + libc::SIGKILL;

impl Server {
    /// Begins to hear a shim that has just been started.
    pub(super) fn listen_to_foreign(&mut self) -> std::io::Result<()> {
        for source in SOURCES {
            self.listen_for(source, epoll::EventFlags::IN)?;
        }
        Ok(())
    }

    /// The shim has something to say, or is gone.
    pub(super) fn hear_foreign(&mut self) {
        let Some(foreign) = self.runtime.foreign() else { return };
        let open = foreign.advance();
        if !open && self.ending.is_none() {
            foreign.clean_up();
        }
        if !open {
            self.leave_foreign(&SOURCES[..2]);
        }
        self.take_answers();
    }

    /// Ends the pod once the shim has ended, which it is told to; `to` hears of it then. False if there is none.
    pub(super) fn end_foreign(&mut self, to: Option<StreamRef>) -> bool {
        // One that has ended by itself tells of it no more.
        let heard = self.is_heard(&Source::ForeignEnd);
        let foreign = self.runtime.foreign().filter(|foreign| heard && foreign.process().is_some());
        let Some(foreign) = foreign else { return false };
        match &mut self.ending {
            Some(waiting) => waiting.extend(to),
            None => {
                foreign.tell_to_end();
                self.ending = Some(to.into_iter().collect());
                self.timers.push((Instant::now() + LAST_WORDS, Timer::ForeignEnd));
            }
        }
        true
    }

    /// The shim has ended, or its time is over.
    pub(super) fn foreign_ended(&mut self) {
        self.leave_foreign(&SOURCES[2..]);
        let Some(waiting) = self.ending.take() else { return };
        self.timers.retain(|(_, timer)| *timer != Timer::ForeignEnd);
        self.finish_pod();
        for to in waiting {
            self.answer(to, Ok(Empty {}.encode_to_vec()));
        }
    }

    /// Hears it no more.
    fn leave_foreign(&mut self, sources: &[Source]) {
        for source in sources {
            if let Some(fd) = self.descriptor(source).filter(|_| self.is_heard(source)) {
                // It stays open.
                let _ = epoll::delete(&self.epoll, fd);
            }
            self.forget(source);
        }
    }

    /// The same for all there is to hear.
    pub(super) fn leave_foreign_altogether(&mut self) {
        self.leave_foreign(&SOURCES);
    }

    /// What is to be done about the shim before this process waits again: answers that came while another was waited for,
    /// and inputs that have ended.
    pub(super) fn serve_foreign(&mut self) {
        if self.runtime.foreign().is_some() {
            self.take_answers();
        }
        let Some(foreign) = self.runtime.foreign() else { return };
        for process in self.processes.values_mut().filter(|p| p.input_ended) {
            process.input_ended = false;
            foreign.close_input(&process.container, &process.exec_id);
        }
    }

    fn take_answers(&mut self) {
        while let Some(answer) = self.runtime.foreign().and_then(|foreign| foreign.take()) {
            self.take_answer(answer);
        }
    }

    fn take_answer(&mut self, (awaited, answer): Answer) {
        match awaited {
            Awaited::Added(key) => self.added(key, answer),
            Awaited::Started(key, id, exec_id) => self.added_started(key, (&id, &exec_id), answer),
            Awaited::Ended(key) => self.remote_ended(key, answer),
            // However it went: nothing more comes of the process.
            Awaited::Deleted(key, exited) => self.process_ended(key, &exited),
            Awaited::Nothing => {}
        }
    }

    /// A process is known there, and can be started.
    fn added(&mut self, key: Key, answer: Result<Vec<u8>, Refusal>) {
        let (Some(process), Some(foreign)) = (self.processes.get(&key), self.runtime.foreign()) else {
            return;
        };
        match answer {
            Ok(_) => foreign.start_added(&process.container, &process.exec_id, key),
            Err(refusal) => self.give_up(key, &foreign.named("exec", refusal)),
        }
    }

    fn added_started(&mut self, key: Key, (id, exec_id): (&str, &str), answer: Result<Vec<u8>, Refusal>) {
        let Some(foreign) = self.runtime.foreign() else { return };
        let Some(process) = self.processes.get_mut(&key) else {
            // It was given up meanwhile.
            return foreign.abandon(id, exec_id);
        };
        let started = answer.and_then(|payload| Ok(TaskPid::decode(&*payload)?));
        self.timers.retain(|(_, timer)| *timer != Timer::Join(key));
        let joined = match started.map_err(|refusal| foreign.named("exec", refusal)) {
            Ok(started) => {
                process.joining = None;
                self.joined(key, Running::Remote(started.pid.cast_signed()), Vec::new())
            }
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = joined {
            self.give_up(key, &refusal);
        }
    }

    /// A process has ended there: it is forgotten, and then its output is complete.
    fn remote_ended(&mut self, key: Key, answer: Result<Vec<u8>, Refusal>) {
        let Some(process) = self.processes.get(&key) else { return };
        let (id, exec_id) = (process.container.clone(), process.exec_id.clone());
        let waited = answer.ok().and_then(|payload| TaskWaited::decode(&*payload).ok());
        let Some(waited) = waited else { return self.process_ended(key, &container::exited(LOST, false)) };
        let at = waited.exited_at.map(|at| at.nanoseconds());
        let mut exited = container::exited(waited.exit_status.cast_signed(), false);
        exited.at = at.filter(|&at| at > 0).unwrap_or(exited.at);
        if exec_id == FIRST {
            // The shim takes the cgroup away with the container.
            self.count_oom(&id);
        }
        if let Some(foreign) = self.runtime.foreign() {
            foreign.delete(&id, &exec_id, key, exited);
        }
    }

    /// What containerd would be told.
    pub(super) fn take_event(&mut self, payload: &[u8]) -> Result<Reply, Refusal> {
        let envelope = Forward::decode(payload)?.envelope.unwrap_or_default();
        if envelope.topic == "/tasks/oom" {
            let id = TaskOnly::decode(&*envelope.event.unwrap_or_default().value)?.container_id;
            self.note_oom(&id);
        }
        now(&Empty {})
    }

    /// A container ran out of memory where this process cannot count it.
    fn note_oom(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id).filter(|c| c.oom_kills == 0) else { return };
        container.oom_kills = 1;
        self.tell(id, Happened::Oom, |_| ());
    }

    /// Of a pod whose creator has left: one whose sandbox does not run yet is good for nothing.
    pub(super) fn end_unborn(&mut self) {
        let unborn = self.runtime.foreign().is_some() && !self.containers.values().any(|c| c.ever_started);
        if unborn && !self.shutdown {
            let _ = self.shut_down(None);
        }
    }

    /// Whether the container is the sandbox that another shim was started for, which ends with that.
    pub(super) fn is_foreign_sandbox(&self, id: &str) -> bool {
        self.runtime.foreign().is_some_and(|foreign| foreign.is_sandbox(id))
    }
}
